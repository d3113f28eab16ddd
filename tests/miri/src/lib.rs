//! The lock-free slot under Miri. See `src/live/slot.rs`.

#![allow(dead_code, reason = "the tests do not use all of the slot")]

#[path = "../../../src/live/slot.rs"]
mod slot;
#[cfg(test)]
#[path = "../../../src/live/slot_tests.rs"]
mod slot_tests;

mod sync {
    pub(super) use std::hint::spin_loop;
    pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};
}
