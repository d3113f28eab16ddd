//! The other end: client library, agent, simulated fleet.
//!
//! [`Client`] is what a vendor links: it keeps one QUIC connection to the server, makes a heartbeat on
//! schedule by asking a [`Source`], keeps those that it can't send now and sends them late with their age,
//! obeys the server's control messages, and says goodbye. One type serves sensors (datagrams) and gateways
//! (one stream, batches of many sensors).
//!
//! Many clients share a few UDP sockets ([`Socket`]), so that a simulated fleet of ten thousand needs a
//! handful of descriptors. The library is written for few packets: it asks the server to acknowledge at
//! once, which costs the server one visit to a cold connection instead of two (a quarter of its CPU).

pub mod agent;
mod back_off;
mod backlog;
mod client;
mod control;
mod dice;
mod enrol;
mod gateway;
mod link;
pub mod load;
mod schedule;
pub mod sim;
mod socket;
mod source;
mod transport;
mod window;

pub use back_off::{BackOffPolicy, Loss};
pub use client::{Client, ClientConfig, ClientError};
pub use dice::Dice;
pub use enrol::{EnrolFailure, Enrolment, respond_offline};
pub use gateway::{Batch, BatchSource};
pub use link::{LinkReport, LinkState, LinkStats};
pub use socket::{Socket, Switch};
pub use source::{Beat, Boot, Source};
