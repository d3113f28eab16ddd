//! What the HTTP side counts of itself.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::export::HttpFigures;
use crate::export::table::{ROUTES, STATUS_CLASSES};

/// Counts, live.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) busy: AtomicU64,
    requests: [[AtomicU64; STATUS_CLASSES.len()]; ROUTES.len()],
}

impl Counters {
    /// Counts an answer.
    pub(super) fn answered(&self, route: &str, status: u16) {
        let other = ROUTES.len() - 1;
        let place = ROUTES.iter().position(|&known| known == route).unwrap_or(other);
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        self.requests[place][class].fetch_add(1, Ordering::Relaxed);
    }

    /// The values now.
    pub(super) fn figures(&self, connections: usize) -> HttpFigures {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HttpFigures {
            connections: connections as u64,
            accepted: load(&self.accepted),
            evicted: load(&self.evicted),
            busy: load(&self.busy),
            requests: std::array::from_fn(|route| {
                std::array::from_fn(|class| load(&self.requests[route][class]))
            }),
        }
    }
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
