//! Fleetpulse: the heartbeats of a fleet of network sensors, taken over QUIC and judged every second.
//!
//! The modules below are in reading order: each imports those above it and none below
//! (`tests/tidy.rs` checks it).
//!
//! # One heartbeat's journey
//!
//! 1. A sensor ([`sensor`]) fills in a frame ([`wire`]) and sends it as a QUIC datagram; a gateway sends the
//!    frames of many sensors on one stream.
//! 2. A shard ([`ingest`]: one thread, one socket, one loop) receives the packet in a batch, decrypts it, and
//!    hands the datagram to the connection's session, which knows whose certificate opened the connection.
//! 3. [`wire`] checks the frame and gives a view into the packet: nothing is copied, nothing allocated.
//! 4. The session writes it into the sensor's slot ([`live`]): atomics behind a sequence lock. From datagram to
//!    slot there is no lock, allocation, queue or log line of ours.
//! 5. Every second the sweep ([`health`]) scans columns of all slots, looks closer at those that changed or are
//!    due, runs the rules with hysteresis, and writes the verdict into the slot. Silence is found here, by a
//!    scan: no timer belongs to a sensor.
//! 6. What changed is offered to the journal ([`store`]) until it has taken it, and is durable from then on.
//!    Metrics ([`export`]) and the API ([`http`]) read what the sweep has summed up; a scrape walks no sensors.
//!
//! # One command's journey
//!
//! 1. Somebody adds, moves or deletes a sensor, today by `fleetpulse ca`, `demo` or `load` ([`cli`]).
//! 2. The register ([`fleet`]), a pure model, turns the command into changes or a refusal with its reason.
//! 3. [`server::fleet`] appends all changes of the command as one batch to the log ([`store`]), durable before
//!    anything in memory moves and before the caller hears "done".
//! 4. Only then the register folds the batch, live state gets or loses slots, and connections of peers that lost
//!    their standing are closed, each with a code that says why ([`wire::close`]).
//! 5. What must be said to a sensor goes over its own connection as a control message ([`control`]).

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
