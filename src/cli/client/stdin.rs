//! Standard input: whatever is read from it, nothing else can be.

use std::io::{BufRead, BufReader, IsTerminal, Read, Stdin, Write};
use std::sync::OnceLock;

use crate::cli::Failure;
use crate::limits::TOKEN_FILE_BYTES_MAX;

/// What it is read for.
static TAKEN: OnceLock<&str> = OnceLock::new();

/// Standard input, for this alone: a second reader would find what the first one left, or nothing.
pub(super) fn take(what: &'static str) -> Result<Stdin, Failure> {
    if TAKEN.set(what).is_ok() {
        return Ok(std::io::stdin());
    }
    let first = TAKEN.get().copied().unwrap_or_default();
    Err(Failure::usage(format!("standard input is read for {first} already; give {what} in another way")))
}

/// Its first line, which a person at a terminal is asked for.
pub(super) fn asked(what: &'static str) -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        eprint!("{what}: ");
        let _ = std::io::stderr().flush();
    }
    line(what)
}

/// Its first line, without the end.
pub(super) fn line(what: &'static str) -> Result<String, Failure> {
    lines(what).map(|[line]| line)
}

/// Its first lines, each without its end; empty ones where there are no more.
pub(super) fn lines<const N: usize>(what: &'static str) -> Result<[String; N], Failure> {
    let mut input = BufReader::new(take(what)?.take(TOKEN_FILE_BYTES_MAX));
    let mut lines = [const { String::new() }; N];
    for line in &mut lines {
        let read = input.read_line(line);
        read.map_err(|error| Failure::failed(format!("standard input: {error}")))?;
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
    }
    Ok(lines)
}
