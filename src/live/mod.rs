//! Live state of every sensor, lock-free.

mod gateways;
pub mod image;
mod observe;
mod slab;
mod slot;
mod snapshot;
mod state;
mod types;
mod window;
mod words;

pub use slab::{Columns, SlotFlags, SlotState};
pub use state::LiveState;
pub use types::*;

/// What the slot is made of; loom's in its model.
mod sync {
    pub(super) use std::hint::spin_loop;
    pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
}

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
