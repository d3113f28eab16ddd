//! The probe thread: tries now and then whether the data directory can be written, and how full it is.
//!
//! On a thread of its own, because a disk that hangs holds up whoever asks it. Readers see the last result, and
//! that a try has been under way for too long.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::stop::StopSignal;
use crate::export::StoreFigures;
use crate::limits::{STORE_PROBE_EVERY, STORE_PROBE_TIMEOUT};
use crate::store::Store;
use crate::time::{Clock, MonoNanos};

/// What the probe found last.
#[derive(Debug, Default)]
pub struct StoreProbe {
    found: Mutex<Found>,
    /// Begin of the try under way; zero = none is.
    trying_since: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Found {
    figures: StoreFigures,
    error: Option<String>,
}

impl StoreProbe {
    /// What was found last, and what is wrong.
    pub fn look(&self, now: MonoNanos) -> (StoreFigures, Option<String>) {
        let Found { mut figures, mut error } =
            self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let since = MonoNanos(self.trying_since.load(Ordering::Relaxed));
        let trying = if since.is_never() { Duration::ZERO } else { now.since(since) };
        if trying > STORE_PROBE_TIMEOUT {
            figures.writable = false;
            error = Some(format!("a write has not come back for {} s", trying.as_secs()));
        }
        (figures, error)
    }

    /// One try.
    pub fn try_now(&self, store: &Store, clock: &dyn Clock) {
        let begin = clock.mono();
        self.trying_since.store(begin.0, Ordering::Relaxed);
        let result = store.probe_writable();
        let took = clock.mono().since(begin);
        let figures = StoreFigures {
            writable: result.is_ok(),
            probe: took,
            bytes: sizes(store.dir()),
            free_bytes: free_bytes(store.dir()),
        };
        let error = result.err().map(|error| error.to_string());
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Found { figures, error };
        self.trying_since.store(0, Ordering::Relaxed);
    }
}

/// The thread's parts.
pub struct ProbeThread {
    /// What is tried.
    pub store: Arc<Store>,
    /// Where the results go.
    pub probe: Arc<StoreProbe>,
    /// The one clock.
    pub clock: Arc<dyn Clock>,
    /// Ends the thread.
    pub stop: StopSignal,
}

impl ProbeThread {
    /// Until told to stop.
    pub fn run(self) {
        loop {
            let due = self.clock.mono().plus(STORE_PROBE_EVERY);
            if self.stop.wait_until(&*self.clock, due) {
                return;
            }
            self.probe.try_now(&self.store, &*self.clock);
        }
    }
}

/// Bytes of each part of the store, in the order of [`crate::export::table::STORE_FILES`].
pub(super) fn sizes(dir: &Path) -> [u64; 4] {
    let file = |name: &str| fs::metadata(dir.join(name)).map_or(0, |meta| meta.len());
    let register = file("register.redb") + file("register.snapshot") + file("register.snapshot.previous");
    let checkpoint = file("live.checkpoint") + file("live.checkpoint.previous");
    let folders = fs::read_dir(dir.join("history")).into_iter().flatten().flatten();
    let history = folders.map(|folder| files_in(&folder.path())).sum();
    [register, file("journal.redb"), checkpoint, history]
}

fn files_in(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
}

/// Room for programs without privileges on the disk of a directory.
pub(super) fn free_bytes(dir: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{ManualClock, UnixMillis};

    #[test]
    fn a_try_that_hangs_is_seen_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        let clock = ManualClock::new(UnixMillis(0));
        let probe = StoreProbe::default();
        assert!(!probe.look(clock.mono()).0.writable, "nothing was tried yet");
        probe.try_now(&store, &clock);
        let (figures, error) = probe.look(clock.mono());
        assert!(figures.writable && error.is_none(), "{error:?}");
        assert!(figures.bytes[0] > 0 && figures.bytes[1] > 0 && figures.free_bytes > Some(0), "{figures:?}");
        assert_eq!(figures.bytes[3], 0, "no history yet");
        let block = folder.path().join("store/history/5m/1");
        fs::write(block, [0; 1_000]).unwrap();
        probe.try_now(&store, &clock);
        assert_eq!(probe.look(clock.mono()).0.bytes[3], 1_000);
        probe.trying_since.store(clock.mono().0, Ordering::Relaxed);
        clock.advance(STORE_PROBE_TIMEOUT);
        assert!(probe.look(clock.mono()).0.writable);
        clock.advance(Duration::from_secs(1));
        let (figures, error) = probe.look(clock.mono());
        assert!(!figures.writable && error.unwrap().contains("11 s"));
    }
}
