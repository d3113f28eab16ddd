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
    let mut line = String::new();
    let input = take(what)?.take(TOKEN_FILE_BYTES_MAX);
    let read = BufReader::new(input).read_line(&mut line);
    read.map_err(|error| Failure::failed(format!("standard input: {error}")))?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}
