//! `fleetpulse serve`: the server, until it is told to stop.

use clap::Args;

use super::settings::Settings;
use super::{Failure, logging};
use crate::config::{self, Config};
use crate::server::{Server, StartError};

/// Flags of `serve`, and of every command that starts a server.
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    settings: Settings,
    /// Check the configuration and exit: 0 when it is right, 78 with one line when it is not
    #[arg(long)]
    check_config: bool,
    /// Print the configuration in use as TOML and exit
    #[arg(long)]
    print_config: bool,
    /// Print every key with its meaning and default as TOML and exit
    #[arg(long)]
    list_config: bool,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.list_config {
            print!("{}", config::render(&Config::default()));
            return Ok(());
        }
        let config = self.settings.load()?;
        if self.print_config {
            print!("{}", config::render(&config));
            return Ok(());
        }
        if self.check_config {
            return Ok(());
        }
        logging::start(&config.log);
        let server = Server::start(config).map_err(start_failure)?;
        tracing::info!(
            ingest = %server.ingest_addr(),
            enrol = %server.enrol_addr(),
            http = %server.http_addr(),
            "ready"
        );
        until_told_to_stop(&server)?;
        tracing::info!("told to stop; sensors are told when to come back");
        server.drain();
        server.stop();
        tracing::info!("stopped; everything is written");
        Ok(())
    }
}

/// A start that failed for a reason in the configuration exits as wrong configuration.
pub(super) fn start_failure(error: StartError) -> Failure {
    if error.is_configuration() { Failure::config(error) } else { Failure::failed(error) }
}

/// SIGTERM and SIGINT end the wait; SIGHUP reloads certificates and revocations.
fn until_told_to_stop(server: &Server) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot watch for signals: {error}")))?;
    runtime.block_on(async {
        let listen =
            |kind| signal(kind).map_err(|e| Failure::failed(format!("cannot watch for signals: {e}")));
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut hangup = listen(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hangup.recv() => match server.reload() {
                    Ok(()) => tracing::info!("certificates and revocations reloaded"),
                    Err(error) => tracing::error!(%error, "reload failed; the old ones stay in use"),
                },
            }
        }
    })
}
