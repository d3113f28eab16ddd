//! `fleetpulse serve`: the server, until it is told to stop.

use clap::Args;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

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
        let mut signals = Signals::watch()?;
        let server = Server::start(config).map_err(start_failure)?;
        tracing::info!(
            ingest = %server.ingest_addr(),
            enrol = %server.enrol_addr(),
            http = %server.http_addr(),
            "ready"
        );
        if let Some(link) = server.setup_link() {
            // Not into the log: it is a secret, for who started the server.
            println!(
                "Nobody is registered yet. Within an hour, make the first administrator here, once: {link}"
            );
        }
        signals.until_told_to_stop(&server);
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

/// The signals that a server obeys. Watched from before it starts, since until then each of them is death.
pub(super) struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn watch() -> Result<Signals, Failure> {
        let failed = |error| Failure::failed(format!("cannot watch for signals: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let inside = runtime.enter();
        let listen = |kind| signal(kind).map_err(failed);
        let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        let hangup = listen(SignalKind::hangup())?;
        drop(inside);
        Ok(Signals { runtime, terminate, interrupt, hangup })
    }

    /// SIGTERM and SIGINT end the wait; SIGHUP reloads authority, certificates and revocations.
    pub(super) fn until_told_to_stop(&mut self, server: &Server) {
        let Signals { runtime, terminate, interrupt, hangup } = self;
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => return,
                    _ = interrupt.recv() => return,
                    _ = hangup.recv() => match server.reload() {
                        Ok(()) => tracing::info!("certificates and revocations reloaded"),
                        Err(error) => tracing::error!(%error, "reload failed; what it did not reach stays as it was"),
                    },
                }
            }
        });
    }
}
