//! A sensor's heartbeats on their way: kept while they can't be sent, sent late with their age, several in
//! a datagram.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, SendDatagramError};

use super::back_off::Loss;
use super::link::{Carrier, LinkStats};
use super::source::{Beat, Source};
use crate::limits::{FRAME_AGE_MAX, FRAMES_PER_DATAGRAM_MAX};
use crate::time::MonoNanos;
use crate::wire::frame::{HEARTBEAT_FRAME_BYTES, write_frame};
use crate::wire::heartbeat::{FLAG_GOODBYE, FLAG_GOODBYE_RESTART, Heartbeat, UNKNOWN_U32};

/// How long late heartbeats may wait for room in the connection; the rest goes with the next one.
const ROOM_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Backlog<S> {
    source: S,
    waiting: VecDeque<(Heartbeat, MonoNanos)>,
    most: usize,
}

impl<S: Source> Backlog<S> {
    pub(super) fn new(source: S, most: usize) -> Backlog<S> {
        Backlog { source, waiting: VecDeque::new(), most: most.max(1) }
    }

    fn keep(&mut self, mut heartbeat: Heartbeat, beat: &Beat, stats: &mut LinkStats) {
        heartbeat.interval_ms = u32::try_from(beat.interval.as_millis()).unwrap_or(u32::MAX);
        heartbeat.rtt_us = stats.rtt_us.unwrap_or(UNKNOWN_U32);
        heartbeat.send_failures = stats.send_failures;
        heartbeat.reconnects = stats.reconnects;
        heartbeat.trust_generation = stats.trust_generation;
        if self.waiting.len() >= self.most {
            self.waiting.pop_front();
            stats.send_failures += 1;
        }
        self.waiting.push_back((heartbeat, beat.now.mono));
        stats.waiting = self.waiting.len() as u32;
    }

    /// The next datagram's frames: how many, and their bytes with the ages of now.
    fn datagram(&mut self, room: usize, now: MonoNanos, stats: &mut LinkStats) -> (usize, Vec<u8>) {
        while self.waiting.front().is_some_and(|(_, made)| now.since(*made) > FRAME_AGE_MAX) {
            self.waiting.pop_front();
            stats.send_failures += 1;
        }
        let count = (room / HEARTBEAT_FRAME_BYTES).min(FRAMES_PER_DATAGRAM_MAX).min(self.waiting.len());
        let mut bytes = Vec::with_capacity(count * HEARTBEAT_FRAME_BYTES);
        for (heartbeat, made) in self.waiting.iter().take(count) {
            let age = u32::try_from(now.since(*made).as_millis()).unwrap_or(u32::MAX);
            write_frame(heartbeat, age, &mut bytes);
        }
        (count, bytes)
    }
}

impl<S: Source> Carrier for Backlog<S> {
    fn make(&mut self, beat: &Beat, stats: &mut LinkStats) {
        if let Some(heartbeat) = self.source.heartbeat(beat) {
            self.keep(heartbeat, beat, stats);
        }
    }

    fn connected(&mut self) {}

    async fn flush(
        &mut self,
        connection: &Connection,
        now: MonoNanos,
        stats: &mut LinkStats,
    ) -> Result<(), Loss> {
        let room = connection.max_datagram_size().unwrap_or(0);
        if room < HEARTBEAT_FRAME_BYTES {
            return Err(Loss::Transport(format!("the path takes datagrams of {room} bytes only")));
        }
        while !self.waiting.is_empty() {
            let (count, bytes) = self.datagram(room, now, stats);
            if count == 0 {
                break;
            }
            let bytes = Bytes::from(bytes);
            // The plain call would push an older datagram out when there is no room.
            let sent = if connection.datagram_send_buffer_space() >= bytes.len() {
                connection.send_datagram(bytes)
            } else {
                match tokio::time::timeout(ROOM_TIMEOUT, connection.send_datagram_wait(bytes)).await {
                    Ok(sent) => sent,
                    Err(_) => break,
                }
            };
            match sent {
                Ok(()) => {}
                Err(SendDatagramError::ConnectionLost(error)) => return Err(error.into()),
                Err(error) => return Err(Loss::Transport(error.to_string())),
            }
            self.waiting.drain(..count);
            stats.sent += count as u64;
        }
        stats.waiting = self.waiting.len() as u32;
        if self.waiting.is_empty() {
            // What an outage made big does not stay big.
            self.waiting.shrink_to(4);
        }
        Ok(())
    }

    fn goodbye(&mut self, beat: &Beat, restart: bool, stats: &mut LinkStats) {
        if let Some(mut heartbeat) = self.source.heartbeat(beat) {
            heartbeat.flags |= FLAG_GOODBYE | if restart { FLAG_GOODBYE_RESTART } else { 0 };
            self.keep(heartbeat, beat, stats);
        }
    }

    fn takes_interval(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::source::Boot;
    use crate::time::{MONO_ORIGIN, Now, UnixMillis};
    use crate::wire::frame::frames;
    use crate::wire::id::SensorId;

    fn beat(second: u64) -> Beat {
        let mono = MONO_ORIGIN.plus(Duration::from_secs(second));
        let now = Now { mono, unix: UnixMillis(1_000) };
        Beat { now, interval: Duration::from_secs(1), link: LinkStats::default() }
    }

    fn backlog(most: usize) -> Backlog<impl Source> {
        let mut boot = Boot::with_id(SensorId::from_number(1), 5, MONO_ORIGIN);
        let source = move |beat: &Beat| {
            let mut heartbeat = Heartbeat::default();
            boot.stamp(&mut heartbeat, beat.now);
            Some(heartbeat)
        };
        Backlog::new(source, most)
    }

    #[test]
    fn late_heartbeats_carry_their_age_and_share_a_datagram() {
        let mut backlog = backlog(100);
        let mut stats = LinkStats::default();
        for second in 0..10 {
            backlog.make(&beat(second), &mut stats);
        }
        let (count, bytes) = backlog.datagram(1_162, beat(10).now.mono, &mut stats);
        assert_eq!(count, 1_162 / HEARTBEAT_FRAME_BYTES);
        let read: Vec<_> = frames(&bytes)
            .map(|frame| frame.map(|frame| (frame.header.age_ms, frame.to_heartbeat().sequence)))
            .collect();
        assert_eq!(read.len(), count);
        assert_eq!(read[0].ok(), Some((10_000, 1)));
        assert_eq!(read[1].ok(), Some((9_000, 2)));
    }

    #[test]
    fn a_long_outage_keeps_the_newest_and_counts_the_rest() {
        let mut backlog = backlog(5);
        let mut stats = LinkStats::default();
        for second in 0..12 {
            backlog.make(&beat(second), &mut stats);
        }
        assert_eq!((stats.waiting, stats.send_failures), (5, 7));
        assert_eq!(backlog.waiting.front().map(|(heartbeat, _)| heartbeat.sequence), Some(8));
        let (count, _) = backlog.datagram(1_162, beat(90_000).now.mono, &mut stats);
        assert_eq!((count, stats.send_failures), (0, 12), "older than a day is not worth sending");
    }

    #[test]
    fn the_last_word_says_so() {
        let mut backlog = backlog(5);
        backlog.goodbye(&beat(1), true, &mut LinkStats::default());
        let flags = backlog.waiting.front().map(|(heartbeat, _)| heartbeat.flags);
        assert_eq!(flags, Some(FLAG_GOODBYE | FLAG_GOODBYE_RESTART));
    }
}
