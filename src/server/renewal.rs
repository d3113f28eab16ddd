//! The renewal thread: once an hour a new ticket key or a new certificate of the server, when one is due.
//!
//! A server runs for months. Its certificate must not run out under it, and a ticket key that nobody renews
//! would first seal tickets that it refuses to open. Connections stay; new handshakes use what is new.

use std::sync::Arc;
use std::time::Duration;

use super::current::CurrentAuthority;
use super::stop::StopSignal;
use crate::identity::{Keys, ServerTls};
use crate::ingest::Ingest;
use crate::time::Clock;

/// Time between two looks: far below the life of a key and of a certificate.
const LOOK_EVERY: Duration = Duration::from_secs(3_600);

/// The thread's parts.
pub struct RenewalThread {
    /// Makes the server's certificate.
    pub authority: Arc<CurrentAuthority>,
    /// Ticket keys.
    pub keys: Arc<Keys>,
    /// Names that the certificate is good for.
    pub names: Vec<String>,
    /// Who uses it.
    pub ingest: Arc<Ingest>,
    /// The one clock.
    pub clock: Arc<dyn Clock>,
    /// Ends the thread.
    pub stop: StopSignal,
}

impl RenewalThread {
    /// Until told to stop.
    pub fn run(self) {
        let mut served = self.leaf();
        loop {
            let due = self.clock.mono().plus(LOOK_EVERY);
            if self.stop.wait_until(&*self.clock, due) {
                return;
            }
            match self.keys.rotate_due() {
                Ok(false) => {}
                Ok(true) => tracing::info!("a new ticket key is in use"),
                Err(error) => {
                    tracing::error!(%error, "the ticket key can't be renewed; sensors stop resuming")
                }
            }
            let leaf = self.leaf();
            if leaf.is_some() && leaf != served && self.publish() {
                served = leaf;
            }
        }
    }

    /// The certificate to be served now; a new one when the old one nears its end.
    fn leaf(&self) -> Option<Vec<u8>> {
        match self.authority.get().server_certificate(&self.names, self.clock.unix()) {
            Ok(certificate) => certificate.chain.first().map(|leaf| leaf.to_vec()),
            Err(error) => {
                tracing::error!(%error, "the server's certificate can't be renewed");
                None
            }
        }
    }

    fn publish(&self) -> bool {
        let authority = self.authority.get();
        let tls = ServerTls::build(&authority, &self.keys, &self.names, Arc::clone(&self.clock));
        let published = tls
            .map_err(|error| error.to_string())
            .and_then(|tls| self.ingest.reload_tls(&tls).map_err(|error| error.to_string()));
        match published {
            Ok(generation) => tracing::info!(generation, "a new certificate of the server is in use"),
            Err(ref error) => tracing::error!(%error, "the server's new certificate is not in use"),
        }
        published.is_ok()
    }
}
