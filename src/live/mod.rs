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

#[cfg(test)]
mod tests;
