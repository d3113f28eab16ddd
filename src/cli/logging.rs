//! Log lines go to standard error, with colours only on a terminal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{Log, LogFormat};

/// The QUIC library warns about each illegal packet, so any stranger could fill the log. Ingest says the same
/// itself, once for each peer and minute. Whoever names the library in the filter gets what they ask for.
const QUIC_QUIET: &str = "quinn_proto=error";

/// Starts logging for this process. Later calls change nothing.
pub fn start(log: &Log) {
    // `config` has accepted the filter already, so falling back cannot hide a mistake of the user.
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = match QUIC_QUIET.parse() {
        Ok(quiet) if !log.level.contains("quinn_proto") => filter.add_directive(quiet),
        _ => filter,
    };
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start (tests in one process) keeps the first subscriber.
    let _ = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
