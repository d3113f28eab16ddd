//! Certificates and trust bundles of connected peers, renewed while they are connected.
//!
//! A shard that looks at its sessions now and then reports those of whose certificate less than a third is left or
//! which another authority signed, and those that still use an older trust bundle ([`Renewable`]). This thread takes a
//! bounded number of them at a time through one exchange: the peer is asked for a request, its certificate is signed, the register takes the serial durably,
//! the peer gets the certificate, and only when it says that it has kept it, its shard takes the new dates. The
//! connection stays; the new certificate is shown with the next one.
//!
//! What goes wrong is tried again: the shard reports again after a while, sooner when little time is left. So nothing
//! is kept here between two rounds.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::enrolment::Refused;
use super::grants::Grants;
use super::stop::StopSignal;
use crate::control::ConnectedControl;
use crate::identity::{Authority, Signed};
use crate::ingest::{ControlFailure, Ingest, Renewable, ShardCommand};
use crate::limits::{CONTROL_TIMEOUT, RENEWALS_AT_ONCE};
use crate::time::Clock;
use crate::wire::control::{FromSensor, OperationRef, ToSensor};

/// How long the thread waits for the next report, and so for the word to stop.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// An answer comes by then, or its absence is told.
const PATIENCE: Duration = CONTROL_TIMEOUT.saturating_add(Duration::from_secs(2));
/// Hints and renewals belong to no recorded operation: what goes wrong is begun anew.
const NO_OPERATION: OperationRef = OperationRef { operation: 0, offset: 0 };

pub(super) struct CertRenewalThread {
    pub due: Receiver<Renewable>,
    pub grants: Arc<Grants>,
    pub ingest: Arc<Ingest>,
    pub control: ConnectedControl,
    pub clock: Arc<dyn Clock>,
    pub stop: StopSignal,
}

/// Characters of a peer's reason that are logged.
const REASON_CHARS: usize = 200;

type Waiting = Receiver<Result<FromSensor, ControlFailure>>;

impl CertRenewalThread {
    /// Until told to stop.
    pub(super) fn run(self) {
        while !self.stop.stopped() {
            let first = match self.due.recv_timeout(LOOK_EVERY) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut peers = vec![first];
            peers.extend(self.due.try_iter().take(RENEWALS_AT_ONCE - 1));
            self.round(peers);
        }
    }

    fn round(&self, peers: Vec<Renewable>) {
        // One bundle for the whole round. Should the authority change meanwhile, the peer is told again.
        let authority = &*self.grants.authority.get();
        let (renew, only_trust): (Vec<_>, Vec<_>) = peers.into_iter().partition(|peer| peer.certificate);
        let bundles =
            only_trust.into_iter().map(|peer| (self.say(&peer, certificate(authority, None)), peer));
        let bundles: Vec<_> = bundles.collect();
        let asked: Vec<_> = renew
            .into_iter()
            .map(|peer| (self.say(&peer, ToSensor::Renew { of: NO_OPERATION }), peer))
            .collect();
        let mut given = Vec::new();
        for (waiting, peer) in asked {
            if let Some(FromSensor::Csr { csr, .. }) = self.hear(waiting, &peer)
                && let Some(signed) = self.grant(&peer, &csr)
            {
                let message = certificate(authority, Some(&signed.chain_pem));
                given.push((self.say(&peer, message), peer, signed));
            }
        }
        for (waiting, peer, signed) in given {
            if let Some(FromSensor::Done { .. }) = self.hear(waiting, &peer) {
                self.kept(authority, &peer, Some(&signed));
            }
        }
        for (waiting, peer) in bundles {
            if let Some(FromSensor::Done { .. }) = self.hear(waiting, &peer) {
                self.kept(authority, &peer, None);
            }
        }
    }

    fn say(&self, peer: &Renewable, message: ToSensor) -> Option<Waiting> {
        let posted = self.control.post_to(peer.owner, message);
        posted.inspect_err(|error| tracing::debug!(peer = %peer.leaf.identity, %error, "not asked")).ok()
    }

    fn hear(&self, waiting: Option<Waiting>, peer: &Renewable) -> Option<FromSensor> {
        match waiting?.recv_timeout(PATIENCE) {
            Ok(Ok(FromSensor::Refused { reason, .. })) => {
                // A peer's words make no lines of a log.
                let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS).collect();
                tracing::warn!(peer = %peer.leaf.identity, %reason, "a certificate or trust bundle was not renewed");
                None
            }
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::debug!(peer = %peer.leaf.identity, %error, "a certificate or trust bundle was not renewed");
                None
            }
            Err(_) => None,
        }
    }

    fn grant(&self, peer: &Renewable, csr: &[u8]) -> Option<Signed> {
        let granted = self.grants.renew(&peer.leaf, csr, None, self.clock.unix());
        let told = |(refusal, detail): &Refused| {
            let reason = refusal.label();
            tracing::warn!(peer = %peer.leaf.identity, reason, detail, "a certificate was not renewed");
        };
        granted.inspect_err(told).ok()
    }

    /// The peer keeps the bundle, and its certificate: its session goes by them.
    fn kept(&self, authority: &Authority, peer: &Renewable, signed: Option<&Signed>) {
        let leaf = signed.and_then(|signed| CertificateDer::from_pem_slice(signed.chain_pem.as_bytes()).ok());
        let command = ShardCommand::Kept {
            owner: peer.owner,
            trust_generation: authority.trust().generation,
            leaf: leaf.map(|leaf| Box::from(leaf.as_ref())),
        };
        match self.ingest.post(usize::from(peer.owner.shard), command) {
            Ok(()) => {
                if let Some(signed) = signed {
                    tracing::info!(peer = %peer.leaf.identity, serial = %signed.leaf.serial, "certificate renewed");
                }
            }
            Err(error) => {
                tracing::warn!(peer = %peer.leaf.identity, %error, "renewed, but its connection does not know");
            }
        }
    }
}

fn certificate(authority: &Authority, chain: Option<&str>) -> ToSensor {
    ToSensor::Certificate {
        of: NO_OPERATION,
        chain_pem: chain.map(str::to_owned),
        trust_pem: Some(authority.trust_pem().to_owned()),
    }
}
