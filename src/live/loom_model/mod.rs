//! The slot's source compiled over loom's atomics, and models that explore it. A second copy rather than a
//! `cfg` of the whole crate, so that the models run with every `cargo test` and nothing is built twice.

#![allow(dead_code, reason = "the models do not use all of the slot")]

mod models;
#[path = "../slot.rs"]
#[expect(clippy::duplicate_mod, reason = "that is the point: the same source over other atomics")]
mod slot;

mod sync {
    pub(super) use loom::hint::spin_loop;
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering, fence};
}
