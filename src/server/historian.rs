//! The history thread: looks at every sensor now and then, and writes a block when its five minutes are over.
//!
//! A look copies each slot once, without holding up its writer: about a tenth of a second for a million
//! sensors, every ten seconds. What can't be written stays in memory and is tried again, a bounded number of
//! blocks; so a disk that is full for minutes costs none. At a planned stop the open block is written as it is,
//! and the next start goes on with it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::stop::StopSignal;
use crate::limits::{HISTORY_BLOCKS_WAITING, HISTORY_SAMPLE_EVERY};
use crate::live::{LiveState, SlotIndex};
use crate::store::{HistoryAccumulator, HistoryBlock, Store};
use crate::time::{Clock, Now};

/// What history tells of itself.
#[derive(Debug, Default)]
pub struct HistoryStats {
    /// Blocks written.
    pub written: AtomicU64,
    /// Bytes written.
    pub bytes: AtomicU64,
    /// Tries that failed.
    pub failures: AtomicU64,
    /// Blocks given up because too many waited.
    pub dropped: AtomicU64,
    /// The last try failed.
    pub failing: AtomicBool,
}

/// The thread's parts.
pub struct HistoryThread {
    /// What is looked at.
    pub live: Arc<LiveState>,
    /// Where blocks go.
    pub store: Arc<Store>,
    /// Shared with metrics and readiness.
    pub stats: Arc<HistoryStats>,
    /// The one clock.
    pub clock: Arc<dyn Clock>,
    /// Ends the thread after the open block is written.
    pub stop: StopSignal,
}

impl HistoryThread {
    /// Until told to stop.
    pub fn run(self) {
        let mut open = HistoryAccumulator::new(self.clock.unix());
        let mut waiting = VecDeque::new();
        loop {
            let due = self.clock.mono().plus(HISTORY_SAMPLE_EVERY);
            let stopping = self.stop.wait_until(&*self.clock, due);
            let now = self.clock.now();
            if open.is_due(now.unix) {
                self.keep(&mut waiting, open.finish(now.unix));
            }
            self.sample(&mut open, now);
            if stopping {
                self.keep(&mut waiting, open.finish(now.unix));
            }
            self.write(&mut waiting);
            if stopping {
                return;
            }
        }
    }

    fn sample(&self, open: &mut HistoryAccumulator, now: Now) {
        for index in 0..self.live.slots() {
            if let Some(snapshot) = self.live.snapshot(SlotIndex(index)) {
                open.sample(now, &snapshot);
            }
        }
    }

    fn keep(&self, waiting: &mut VecDeque<HistoryBlock>, block: HistoryBlock) {
        if waiting.len() == HISTORY_BLOCKS_WAITING {
            waiting.pop_front();
            self.stats.dropped.fetch_add(1, Ordering::Relaxed);
            tracing::error!("a block of history is lost: the store has refused it for too long");
        }
        waiting.push_back(block);
    }

    /// Writes what waits, oldest first, until one is refused.
    fn write(&self, waiting: &mut VecDeque<HistoryBlock>) {
        while let Some(block) = waiting.front() {
            match self.store.history.append_block(block) {
                Ok(bytes) => {
                    waiting.pop_front();
                    self.stats.written.fetch_add(1, Ordering::Relaxed);
                    self.stats.bytes.fetch_add(bytes, Ordering::Relaxed);
                    if self.stats.failing.swap(false, Ordering::Relaxed) {
                        tracing::info!("history can be written again");
                    }
                }
                Err(error) => {
                    self.stats.failures.fetch_add(1, Ordering::Relaxed);
                    if !self.stats.failing.swap(true, Ordering::Relaxed) {
                        tracing::error!(%error, "history can't be written; it waits in memory");
                    }
                    return;
                }
            }
        }
    }
}
