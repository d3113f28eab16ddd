//! Live state: what heartbeats say of every sensor, in memory, written by the shards and read by the sweep and
//! everybody else at the same time.
//!
//! ```text
//! SensorId --directory (dashmap)--> SlotHandle {index, generation}
//!                                        |
//!           slab: chunks of 4,096, made once, never moved
//!           +----------------------------+---------------------------------------------+
//!           | slots: 512 bytes each, behind a sequence lock of atomics   [`observe`]    |
//!           | columns: newest heartbeat, flags + change counter          [`Columns`]    |
//!           |          active, unknown, journalled rules                 [`Verdict`]    |
//!           +---------------------------------------------------------------------------+
//! GatewayId --directory--> GatewayIndex --> sites, connection, last seen
//! ```
//!
//! Who writes what: the register inserts, changes facts and removes; a shard takes a slot for a connection (the
//! highest epoch owns it), observes frames and releases; the sweep alone writes verdicts. All but the verdicts
//! go through the slot's lock word, whose upper half is the generation, so a writer with an old handle or an
//! old epoch finds out before it writes anything.
//!
//! Three clocks are kept apart: *transport* (anything came in), *heartbeat* (receipt minus age of the newest
//! frame), *traffic* (the monitored counters grew). All are the server's monotonic time. A server that stood still
//! reads late, and knows how late at most: see [`Receipt`]. The sensor's clock is
//! only compared with it; the sensor's uptime serves for jitter and rates, where differences count.
//!
//! Which frame is the newest is decided by boot id and sequence first, and by time only where these can't:
//! see [`Observed`] and `window.rs`.
//!
//! A slot is 512 bytes rather than the 256 of the first plan, because the whole newest heartbeat is in it
//! (232 bytes): any rule and any page may read any field of one consistent moment, and nothing is packed or
//! dropped. An ordinary heartbeat touches six of its eight cache lines, a scan touches none. The sweep reads a few of
//! its words in place ([`Glance`]); everybody else copies all of it ([`Snapshot`]).
//!
//! [`observe`]: LiveState::observe

mod gateways;
pub mod image;
mod intervals;
mod observe;
mod slab;
mod slot;
mod snapshot;
mod state;
mod types;
mod vitals;
mod window;
mod words;

pub use slab::{Columns, SlotFlags, SlotState};
pub use state::LiveState;
pub use types::*;
pub use vitals::{Glance, Vitals};

/// What the slot is made of; loom's in its model.
mod sync {
    pub(super) use std::hint::spin_loop;
    pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
}

#[cfg(test)]
mod concurrency_tests;
#[cfg(test)]
mod image_tests;
#[cfg(all(test, not(miri)))]
mod loom_model;
#[cfg(test)]
mod slot_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod window_tests;
