//! The checkpoint thread: writes live state down now and then, so that a restart knows what it knew.
//!
//! Writers of live state are not held up: each slot is consistent in itself, and that is all a restart needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::fleet::FleetService;
use super::stop::StopSignal;
use super::sweeper::Judge;
use crate::live::{LiveState, image};
use crate::store::Store;
use crate::time::Clock;

/// What the checkpoint tells of itself.
#[derive(Debug, Default)]
pub struct CheckpointStats {
    /// Checkpoints written.
    pub written: AtomicU64,
    /// Tries that failed.
    pub failures: AtomicU64,
    /// The last try failed.
    pub failing: AtomicBool,
    /// When the last one was written, milliseconds since 1970; zero = not yet.
    pub last_unix_ms: AtomicI64,
    /// Bytes of the last one.
    pub bytes: AtomicU64,
}

/// The thread's parts.
pub struct CheckpointThread {
    /// What is written down.
    pub live: Arc<LiveState>,
    /// For hysteresis that is pending.
    pub judge: Arc<Judge>,
    /// Where to.
    pub store: Arc<Store>,
    /// For the register's snapshot.
    pub fleet: Arc<FleetService>,
    /// Shared with metrics and readiness.
    pub stats: Arc<CheckpointStats>,
    /// The one clock.
    pub clock: Arc<dyn Clock>,
    /// Time between two.
    pub every: Duration,
    /// Ends the thread after one more.
    pub stop: StopSignal,
}

impl CheckpointThread {
    /// Until told to stop, and once more then.
    pub fn run(self) {
        loop {
            let due = self.clock.mono().plus(self.every);
            let stopping = self.stop.wait_until(&*self.clock, due);
            self.write();
            if stopping {
                return;
            }
            if let Err(error) = self.fleet.snapshot_if_due() {
                tracing::warn!(%error, "the register's snapshot could not be written; starts take longer");
            }
        }
    }

    fn write(&self) {
        let now = self.clock.now();
        let pending = self.judge.engine().pending_image(now.mono);
        let mut bytes = Vec::with_capacity(pending.len() + 8 + 256 * self.live.sensors());
        bytes.extend_from_slice(&(pending.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&pending);
        image::write(&self.live, now, |piece| bytes.extend_from_slice(piece));
        match self.store.checkpoint.save(&bytes) {
            Ok(()) => {
                self.stats.written.fetch_add(1, Ordering::Relaxed);
                self.stats.last_unix_ms.store(now.unix.0, Ordering::Relaxed);
                self.stats.bytes.store(bytes.len() as u64, Ordering::Relaxed);
                if self.stats.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("checkpoints can be written again");
                }
            }
            Err(error) => {
                self.stats.failures.fetch_add(1, Ordering::Relaxed);
                if !self.stats.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "the checkpoint can't be written; the one before stays");
                }
            }
        }
    }
}

/// The two parts of a checkpoint: pending hysteresis and live state. `None` when it is not one.
pub fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_that_is_none_is_told_apart() {
        assert_eq!(split(&[1, 0, 0, 0, 0, 0, 0, 0, 7, 8, 9]), Some((&[7][..], &[8, 9][..])));
        assert_eq!(split(&[9, 0, 0, 0, 0, 0, 0, 0, 7]), None);
        assert_eq!(split(&[0xff; 12]), None);
        assert_eq!(split(&[]), None);
    }
}
