//! The door: who may come in, asked after every handshake, full or resumed.

use std::sync::Arc;

use super::fleet::FleetService;
use crate::identity::{Leaf, LeafError, PeerIdentity, Revocations, parse_leaf};
use crate::ingest::LeafCheck;
use crate::live::{Lifecycle, SensorType};
use crate::time::UnixMillis;
use crate::wire::close::CloseCode;

/// Certificate, dates, revocation, register: in the order of what is surest.
pub struct Door {
    /// Who is registered.
    pub fleet: Arc<FleetService>,
    /// What is revoked.
    pub revocations: Arc<Revocations>,
}

impl LeafCheck for Door {
    fn check(&self, leaf_der: &[u8], now: UnixMillis) -> Result<Leaf, CloseCode> {
        let leaf = parse_leaf(leaf_der).map_err(|error| match error {
            LeafError::Unreadable
            | LeafError::Authority
            | LeafError::NoIdentity
            | LeafError::Ambiguous
            | LeafError::Serial => CloseCode::NoIdentity,
        })?;
        if !leaf.in_date(now) {
            return Err(CloseCode::CertificateExpired);
        }
        if self.revocations.contains(&leaf.serial) {
            return Err(CloseCode::CertificateRevoked);
        }
        let register = self.fleet.register();
        match leaf.identity {
            PeerIdentity::Gateway(id) => {
                register.gateway(id).ok_or(CloseCode::UnknownIdentity)?;
            }
            PeerIdentity::Sensor(id) => {
                let sensor = register.sensor(id).ok_or(CloseCode::UnknownIdentity)?;
                if sensor.kind == SensorType::OtLocal || sensor.lifecycle != Lifecycle::Active {
                    return Err(CloseCode::NotActive);
                }
            }
        }
        Ok(leaf)
    }
}
