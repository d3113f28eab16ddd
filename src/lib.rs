//! Fleetpulse.
pub mod limits;
pub mod time;
pub mod wire;
