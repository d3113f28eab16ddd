//! The connections there are, so that strangers can't use them up.
//!
//! When all places are taken, a new connection gets the place of the one whose last request began longest ago:
//! that is one that idles, that sends its request slowly or never, or that reads its answer slowly. So however
//! many connections somebody opens and leaves hanging, the next request of somebody else is served.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::task::AbortHandle;

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
    /// A place for a new connection. `true`: another one was closed for it.
    pub(super) fn enter(self: &Arc<Connections>, now: MonoNanos) -> (Entered, bool) {
        let mut open = self.lock();
        let mut evicted = false;
        if open.len() >= HTTP_CONNECTIONS_MAX
            && let Some(oldest) = open.values().min_by_key(|connection| connection.began()).cloned()
        {
            open.remove(&oldest.id);
            oldest.abort();
            evicted = true;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection { id, began: AtomicU64::new(now.0), task: OnceLock::new() });
        open.insert(id, Arc::clone(&connection));
        (Entered { all: Arc::clone(self), connection }, evicted)
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

    #[test]
    fn the_longest_without_a_request_makes_room() {
        let connections = Arc::new(Connections::default());
        let at = |seconds| MONO_ORIGIN.plus(Duration::from_secs(seconds));
        let held: Vec<_> =
            (0..HTTP_CONNECTIONS_MAX as u64).map(|second| connections.enter(at(second)).0).collect();
        assert_eq!(connections.len(), HTTP_CONNECTIONS_MAX);
        held[0].connection().request_begins(at(10_000));
        let (_new, evicted) = connections.enter(at(10_001));
        assert!(evicted);
        let open = connections.lock();
        assert!(open.contains_key(&held[0].connection().id), "it had a request since");
        assert!(!open.contains_key(&held[1].connection().id));
        drop(open);
        drop(held);
        assert_eq!(connections.len(), 1);
    }
}
