//! A gateway's batches on their way: frames of many sensors on one stream.
//!
//! The frames are written once, into the batch; a batch that had to wait gets the time that it waited added
//! to the age of each of its frames.

use std::collections::VecDeque;
use std::time::Duration;

use quinn::{Connection, SendStream, WriteError};

use super::back_off::Loss;
use super::link::{Carrier, LinkStats};
use super::source::Beat;
use crate::time::MonoNanos;
use crate::wire::frame::{add_age, frame_length, write_frame};
use crate::wire::heartbeat::Heartbeat;

/// A server that takes nothing for this long is as good as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Frames that leave together.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    frames: u32,
}

impl Batch {
    /// Adds a heartbeat that is this old already.
    pub fn push(&mut self, heartbeat: &Heartbeat, age_ms: u32) {
        write_frame(heartbeat, age_ms, &mut self.bytes);
        self.frames += 1;
    }

    /// Frames in it.
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Bytes in it.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn add_age(&mut self, held: Duration) {
        let held_ms = u32::try_from(held.as_millis()).unwrap_or(u32::MAX);
        let mut rest = self.bytes.as_mut_slice();
        while let Ok(Some(length)) = frame_length(rest) {
            if length == 0 || length > rest.len() {
                break;
            }
            let (frame, after) = rest.split_at_mut(length);
            add_age(frame, held_ms);
            rest = after;
        }
    }
}

/// Makes batches when they are due, on the connection's task; it must not block.
pub trait BatchSource: Send + 'static {
    /// Adds what is due now.
    fn batch(&mut self, beat: &Beat, batch: &mut Batch);
}

impl<F: FnMut(&Beat, &mut Batch) + Send + 'static> BatchSource for F {
    fn batch(&mut self, beat: &Beat, batch: &mut Batch) {
        self(beat, batch);
    }
}

pub(super) struct Batches<S> {
    source: S,
    waiting: VecDeque<(Batch, MonoNanos)>,
    bytes: usize,
    most: usize,
    stream: Option<SendStream>,
}

impl<S: BatchSource> Batches<S> {
    pub(super) fn new(source: S, most: usize) -> Batches<S> {
        Batches { source, waiting: VecDeque::new(), bytes: 0, most, stream: None }
    }
}

impl<S: BatchSource> Carrier for Batches<S> {
    fn make(&mut self, beat: &Beat, stats: &mut LinkStats) {
        let mut batch = Batch::default();
        self.source.batch(beat, &mut batch);
        if batch.frames == 0 {
            return;
        }
        self.bytes += batch.bytes.len();
        stats.waiting += batch.frames;
        self.waiting.push_back((batch, beat.now.mono));
        while self.bytes > self.most
            && let Some((dropped, _)) = self.waiting.pop_front()
        {
            self.bytes -= dropped.bytes.len();
            stats.waiting -= dropped.frames;
            stats.send_failures = stats.send_failures.saturating_add(dropped.frames);
        }
    }

    fn connected(&mut self) {
        self.stream = None;
    }

    async fn flush(
        &mut self,
        connection: &Connection,
        now: MonoNanos,
        stats: &mut LinkStats,
    ) -> Result<(), Loss> {
        while let Some((mut batch, made)) = self.waiting.pop_front() {
            self.bytes -= batch.bytes.len();
            stats.waiting -= batch.frames;
            let held = now.since(made);
            if held >= Duration::from_millis(1) {
                batch.add_age(held);
            }
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => {
                    let opened = tokio::time::timeout(WRITE_TIMEOUT, connection.open_uni()).await;
                    self.stream.insert(opened.map_err(|_| Loss::TimedOut)?.map_err(Loss::from)?)
                }
            };
            // From here on a lost connection loses the batch: what was in flight is measured, not repaired.
            let written = tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(&batch.bytes)).await;
            match written {
                Ok(Ok(())) => stats.sent += u64::from(batch.frames),
                Ok(Err(WriteError::ConnectionLost(error))) => return Err(error.into()),
                Ok(Err(error)) => return Err(Loss::Transport(error.to_string())),
                Err(_) => return Err(Loss::TimedOut),
            }
        }
        Ok(())
    }

    fn goodbye(&mut self, beat: &Beat, _restart: bool, stats: &mut LinkStats) {
        self.make(beat, stats);
    }

    fn takes_interval(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{MONO_ORIGIN, Now, UnixMillis};
    use crate::wire::frame::frames;

    #[test]
    fn time_in_a_batch_is_added_to_each_frame() {
        let mut batch = Batch::default();
        batch.push(&Heartbeat { sensor_id: [1; 16], ..Heartbeat::default() }, 5);
        batch.push(&Heartbeat { sensor_id: [2; 16], ..Heartbeat::default() }, 7);
        batch.add_age(Duration::from_millis(100));
        let ages: Vec<_> = frames(&batch.bytes).map(|frame| frame.map(|frame| frame.header.age_ms)).collect();
        assert_eq!(ages, [Ok(105), Ok(107)]);
    }

    #[test]
    fn a_long_outage_drops_the_oldest_batches() {
        let source = |_: &Beat, batch: &mut Batch| {
            for _ in 0..10 {
                batch.push(&Heartbeat { sensor_id: [1; 16], ..Heartbeat::default() }, 0);
            }
        };
        let mut batches = Batches::new(source, 10_000);
        let mut stats = LinkStats::default();
        let now = Now { mono: MONO_ORIGIN, unix: UnixMillis(0) };
        for _ in 0..10 {
            batches.make(&Beat { now, interval: Duration::from_secs(1), link: stats }, &mut stats);
        }
        assert!(batches.bytes <= 10_000);
        assert_eq!(stats.waiting + stats.send_failures, 100);
        assert_eq!(stats.waiting, 10 * batches.waiting.len() as u32);
    }
}
