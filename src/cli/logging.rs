//! Log lines go to standard error, with colours only on a terminal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat};

/// The QUIC library warns about each illegal packet, so any stranger could fill the log. Ingest says the same
/// itself, once for each peer and minute. Whoever names the library in the filter gets what they ask for.
const QUIC_QUIET: &str = "quinn_proto=error";

/// Starts logging for this process. Later calls change nothing.
pub fn start(log: &Log) {
    start_with(log, std::io::stderr, std::io::stderr().is_terminal());
}

/// The same, into another place than standard error.
pub fn start_with<W>(log: &Log, writer: W, colours: bool)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // `config` has accepted the filter already, so falling back cannot hide a mistake of the user.
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = match QUIC_QUIET.parse() {
        Ok(quiet) if !log.level.contains("quinn_proto") => filter.add_directive(quiet),
        _ => filter,
    };
    let lines = fmt().with_env_filter(filter).with_writer(writer);
    // A second start (tests in one process) keeps the first subscriber.
    let _ = match log.format {
        LogFormat::Text => lines.with_ansi(colours).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
