//! Heartbeat intervals that sensors are told to keep, by the policy that applies to them: one load, no lock, so that
//! whoever holds a connection can ask as often as it likes.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::types::PolicyIndex;
use crate::limits::POLICIES_MAX;

/// Milliseconds by policy; zero = nothing is said. Memory (256 KB) is taken when something is said for the first time.
#[derive(Debug, Default)]
pub(super) struct Intervals {
    of_policy: OnceLock<Box<[AtomicU32]>>,
}

impl Intervals {
    pub(super) fn set(&self, policy: PolicyIndex, millis: u32) {
        if millis == 0 && self.of_policy.get().is_none() {
            return;
        }
        let all = self.of_policy.get_or_init(|| (0..POLICIES_MAX).map(|_| AtomicU32::new(0)).collect());
        all[usize::from(policy.0)].store(millis, Ordering::Relaxed);
    }

    pub(super) fn get(&self, policy: PolicyIndex) -> u32 {
        self.of_policy.get().map_or(0, |all| all[usize::from(policy.0)].load(Ordering::Relaxed))
    }
}
