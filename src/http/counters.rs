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
    requests: Requests,
}

/// By resource and class of status.
struct Requests([[AtomicU64; STATUS_CLASSES.len()]; ROUTES.len()]);

impl Default for Requests {
    fn default() -> Requests {
        Requests(std::array::from_fn(|_| Default::default()))
    }
}

impl Counters {
    /// Counts an answer.
    pub(super) fn answered(&self, route: &str, status: u16) {
        let other = ROUTES.len() - 1;
        let place = ROUTES.iter().position(|&known| known == route).unwrap_or(other);
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        self.requests.0[place][class].fetch_add(1, Ordering::Relaxed);
    }

    /// The values now.
    pub(super) fn figures(&self, connections: usize) -> HttpFigures {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HttpFigures {
            connections: connections as u64,
            accepted: load(&self.accepted),
            evicted: load(&self.evicted),
            busy: load(&self.busy),
            requests: self.requests.0.iter().map(|route| route.each_ref().map(load)).collect(),
        }
    }
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
