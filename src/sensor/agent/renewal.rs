//! A certificate that ran out while the sensor was off, or could not reach its server, is renewed on the enrolment
//! port by the agent itself. While the connection is up, the server renews in time, and nothing happens here.

use std::time::Duration;

use tokio::sync::watch;

use crate::identity::{ClientIdentity, IdentityFolder};
use crate::limits::{CHECK_EVERY_DEFAULT, ENROL_AGAIN_AFTER_REFUSAL};
use crate::sensor::client::Renewer;
use crate::sensor::{Enrolment, LinkReport, LinkState, Loss, Socket};
use crate::time::{Clock, SystemClock};
use crate::wire::close::CloseCode;

pub(super) struct Renewal {
    pub folder: IdentityFolder,
    pub enrol_servers: Vec<String>,
    pub server_name: String,
    pub socket: Socket,
    pub renewer: Renewer,
    pub clock: SystemClock,
}

impl Renewal {
    /// Until the client ends.
    pub(super) async fn run(self, mut link: watch::Receiver<LinkReport>) {
        let mut said = false;
        loop {
            let report = link.borrow_and_update().clone();
            let mut wait = CHECK_EVERY_DEFAULT;
            match report.state {
                LinkState::Stopped => return,
                LinkState::Up => said = false,
                _ if self.ran_out(&report).await => {
                    if self.enrol_servers.is_empty() {
                        if !std::mem::replace(&mut said, true) {
                            tracing::error!(
                                "the certificate ran out, and no enrolment server is known to renew it; set `enrol_servers`"
                            );
                        }
                    } else {
                        wait = self.renew().await;
                    }
                }
                _ => {}
            }
            tokio::select! {
                changed = link.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
            // After a refusal that only a person can lift, changes of the link are no reason to ask again.
            if wait > CHECK_EVERY_DEFAULT {
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// By our own clock, or in the server's words.
    async fn ran_out(&self, report: &LinkReport) -> bool {
        if report.last_loss == Some(Loss::Closed(CloseCode::CertificateExpired)) {
            return true;
        }
        let (folder, now) = (self.folder.clone(), self.clock.unix());
        let read = move || {
            let leaf = ClientIdentity::read(folder.path()).and_then(|identity| identity.leaf());
            leaf.is_ok_and(|leaf| leaf.not_after < now)
        };
        tokio::task::spawn_blocking(read).await.unwrap_or(false)
    }

    /// Gives the time until the next try.
    async fn renew(&self) -> Duration {
        let outcome = async {
            let identity = ClientIdentity::read(self.folder.path())?;
            let enrolment = Enrolment {
                servers: self.enrol_servers.clone(),
                server_name: self.server_name.clone(),
                trust: identity.trust()?,
            };
            enrolment.renew(&self.folder, &self.socket, self.clock).await
        };
        match outcome.await {
            Ok(identity) => {
                tracing::info!("the certificate ran out and was renewed");
                if let Err(error) = self.renewer.renew(&identity).await {
                    tracing::error!(%error, "the new certificate can't be used");
                }
                CHECK_EVERY_DEFAULT
            }
            Err(error) if error.is_passing() => {
                tracing::warn!(%error, "the certificate ran out and could not be renewed yet");
                CHECK_EVERY_DEFAULT
            }
            Err(error) => {
                tracing::error!(%error, "the certificate ran out and is not renewed");
                ENROL_AGAIN_AFTER_REFUSAL
            }
        }
    }
}
