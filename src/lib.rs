//! Fleetpulse: the heartbeats of a fleet of network sensors, taken over QUIC and judged every second.

pub mod limits;
pub mod time;

pub mod config;
pub mod wire;

#[cfg(feature = "server")]
pub mod live;

#[cfg(feature = "server")]
pub mod health;

#[cfg(feature = "server")]
pub mod fleet;

#[cfg(feature = "server")]
pub mod store;

pub mod identity;

#[cfg(feature = "server")]
pub mod ingest;

#[cfg(feature = "server")]
pub mod control;

#[cfg(feature = "server")]
pub mod export;

#[cfg(feature = "server")]
pub mod http;

#[cfg(feature = "server")]
pub mod server;

#[cfg(feature = "sensor")]
pub mod sensor;

#[cfg(all(feature = "server", feature = "sensor"))]
pub mod cli;
