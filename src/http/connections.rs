//! The connections there are, so that strangers can't use them up.
//!
//! When all places are taken, a new connection gets a place of the source that has most, and of its connections that
//! of the one whose last request began longest ago: one that idles, that sends its request slowly or never, or that
//! reads its answer slowly. So however many connections somebody opens, in whatever haste, they push out their own,
//! and the next request of somebody else is served.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::task::AbortHandle;

use super::sign_in::slowing::source;
use crate::limits::HTTP_CONNECTIONS_MAX;
use crate::time::MonoNanos;

/// All connections.
#[derive(Default)]
pub(super) struct Connections {
    open: Mutex<HashMap<u64, Arc<Connection>, ahash::RandomState>>,
    next: AtomicU64,
}

/// One connection.
pub(super) struct Connection {
    id: u64,
    source: IpAddr,
    /// Begin of its last request, or when it was accepted.
    began: AtomicU64,
    task: OnceLock<AbortHandle>,
}

impl Connection {
    /// Its number; never used again.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Closes it, whatever it is doing.
    pub(super) fn abort(&self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    /// A request begins.
    pub(super) fn request_begins(&self, now: MonoNanos) {
        self.began.store(now.0, Ordering::Relaxed);
    }

    /// Begin of its last request.
    pub(super) fn began(&self) -> MonoNanos {
        MonoNanos(self.began.load(Ordering::Relaxed))
    }
}

impl Connections {
    /// A place for a new connection from an address. `true`: another one was closed for it.
    pub(super) fn enter(self: &Arc<Connections>, from: IpAddr, now: MonoNanos) -> (Entered, bool) {
        let mut open = self.lock();
        let leaves = if open.len() >= HTTP_CONNECTIONS_MAX { leaves(open.values()) } else { None };
        if let Some(leaves) = &leaves {
            open.remove(&leaves.id);
            leaves.abort();
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let began = AtomicU64::new(now.0);
        let connection = Arc::new(Connection { id, source: source(from), began, task: OnceLock::new() });
        open.insert(id, Arc::clone(&connection));
        (Entered { all: Arc::clone(self), connection }, leaves.is_some())
    }

    /// One of them.
    pub(super) fn get(&self, id: u64) -> Option<Arc<Connection>> {
        self.lock().get(&id).cloned()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>, ahash::RandomState>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who makes room: of the source that has most, the longest without a request.
fn leaves<'c>(open: impl Iterator<Item = &'c Arc<Connection>> + Clone) -> Option<Arc<Connection>> {
    let mut by_source: HashMap<IpAddr, usize> = HashMap::new();
    for connection in open.clone() {
        *by_source.entry(connection.source).or_default() += 1;
    }
    let has = |connection: &Connection| by_source.get(&connection.source).copied().unwrap_or(0);
    open.max_by_key(|connection| (has(connection), std::cmp::Reverse(connection.began()))).cloned()
}

/// A place among the connections; given back when dropped.
pub(super) struct Entered {
    all: Arc<Connections>,
    connection: Arc<Connection>,
}

impl Entered {
    /// The connection.
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.all.lock().remove(&self.connection.id);
    }
}

/// Tells a connection the task that serves it, so that it can be ended from outside.
pub(super) fn served_by(connection: &Connection, task: AbortHandle) {
    // Set once, right after the task was spawned.
    let _ = connection.task.set(task);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MONO_ORIGIN;
    use std::time::Duration;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn who_opens_most_makes_room() {
        let connections = Arc::new(Connections::default());
        let at = |seconds| MONO_ORIGIN.plus(Duration::from_secs(seconds));
        let honest = connections.enter(address(1), at(0)).0;
        let (other, third) = (connections.enter(address(2), at(0)).0, connections.enter(address(2), at(0)).0);
        let flood: Vec<_> = (1..3 * HTTP_CONNECTIONS_MAX as u64)
            .map(|second| connections.enter(address(9), at(second)).0)
            .collect();
        assert_eq!(connections.len(), HTTP_CONNECTIONS_MAX);
        for kept in [&honest, &other, &third, flood.last().unwrap()] {
            assert!(connections.get(kept.connection().id).is_some());
        }
    }

    #[test]
    fn the_longest_without_a_request_makes_room() {
        let connections = Arc::new(Connections::default());
        let at = |seconds| MONO_ORIGIN.plus(Duration::from_secs(seconds));
        let held: Vec<_> = (0..HTTP_CONNECTIONS_MAX as u64)
            .map(|second| connections.enter(address(1), at(second)).0)
            .collect();
        assert_eq!(connections.len(), HTTP_CONNECTIONS_MAX);
        held[0].connection().request_begins(at(10_000));
        let (_new, evicted) = connections.enter(address(1), at(10_001));
        assert!(evicted);
        let open = connections.lock();
        assert!(open.contains_key(&held[0].connection().id), "it had a request since");
        assert!(!open.contains_key(&held[1].connection().id));
        drop(open);
        drop(held);
        assert_eq!(connections.len(), 1);
    }
}
