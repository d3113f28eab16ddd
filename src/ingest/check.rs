//! The leaf check that a server uses: dates, revocation, and what the register says now.

use std::sync::Arc;

use super::session::LeafCheck;
use crate::identity::{Leaf, PeerIdentity, Revocations, parse_leaf};
use crate::live::{Lifecycle, LiveState};
use crate::time::UnixMillis;
use crate::wire::close::CloseCode;

/// Judges by the revoked serials and by live state, into which the register writes what it declares: so a
/// deletion or a change of state counts from the moment it is acknowledged, with no second list to keep.
#[derive(Clone, Debug)]
pub struct RegisterCheck {
    live: Arc<LiveState>,
    revocations: Arc<Revocations>,
}

impl RegisterCheck {
    /// Over this register's live state and these revocations.
    pub fn new(live: Arc<LiveState>, revocations: Arc<Revocations>) -> RegisterCheck {
        RegisterCheck { live, revocations }
    }

    fn registered(&self, identity: PeerIdentity) -> Result<(), CloseCode> {
        match identity {
            PeerIdentity::Sensor(id) => {
                let slot = self.live.find(id).ok_or(CloseCode::UnknownIdentity)?;
                let facts = self.live.facts(slot).ok_or(CloseCode::UnknownIdentity)?;
                match facts.lifecycle {
                    Lifecycle::Deleted => Err(CloseCode::UnknownIdentity),
                    _ if facts.may_report() => Ok(()),
                    _ => Err(CloseCode::NotActive),
                }
            }
            PeerIdentity::Gateway(id) => {
                self.live.find_gateway(id).map(|_| ()).ok_or(CloseCode::UnknownIdentity)
            }
        }
    }
}

impl LeafCheck for RegisterCheck {
    fn check(&self, leaf_der: &[u8], now: UnixMillis) -> Result<Leaf, CloseCode> {
        let leaf = parse_leaf(leaf_der).map_err(|_| CloseCode::NoIdentity)?;
        if !leaf.in_date(now) {
            return Err(CloseCode::CertificateExpired);
        }
        if self.revocations.contains(&leaf.serial) {
            return Err(CloseCode::CertificateRevoked);
        }
        self.registered(leaf.identity)?;
        Ok(leaf)
    }
}
