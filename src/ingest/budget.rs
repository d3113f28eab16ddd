//! What one connection may cost: frames and packets by token bucket, refused frames by a small count.
//!
//! Bytes need no bucket of their own: a packet is at most an Ethernet frame, so packets bound them, and the
//! windows bound what may wait.

use crate::limits::REFUSED_FRAMES_MAX;
use crate::time::MonoNanos;

/// Refused frames are forgiven after this long, so that a gateway of months is not closed for 32 slips.
const FORGIVE_AFTER_NANOS: u64 = 60_000_000_000;

/// Two token buckets that refill together, and the count of refused frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    per_second: u32,
    burst: u32,
    frames: u32,
    packets: u32,
    refilled: MonoNanos,
    refused: u32,
    refused_since: MonoNanos,
    /// Why the last one was refused, until somebody asks.
    why: Option<&'static str>,
}

impl Budget {
    /// Full buckets. A packet costs as much as a frame, in a bucket of its own: a peer that sends packets
    /// without frames costs us nearly as much as one that sends heartbeats.
    pub(super) fn new(per_second: u32, burst: u32, now: MonoNanos) -> Budget {
        Budget {
            per_second,
            burst,
            frames: burst,
            packets: burst,
            refilled: now,
            refused: 0,
            refused_since: now,
            why: None,
        }
    }

    /// Takes for one packet. `false`: over budget.
    pub(super) fn packet(&mut self, now: MonoNanos) -> bool {
        if self.packets == 0 {
            self.refill(now);
        }
        take(&mut self.packets)
    }

    /// Takes for one frame. `false`: over budget.
    pub(super) fn frame(&mut self, now: MonoNanos) -> bool {
        if self.frames == 0 {
            self.refill(now);
        }
        take(&mut self.frames)
    }

    /// Only when a bucket is empty, so that a well-behaved peer never pays for the division.
    fn refill(&mut self, now: MonoNanos) {
        let elapsed = now.0.saturating_sub(self.refilled.0);
        let tokens = u128::from(elapsed) * u128::from(self.per_second) / 1_000_000_000;
        if tokens == 0 {
            return;
        }
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        self.frames = self.frames.saturating_add(tokens).min(self.burst);
        self.packets = self.packets.saturating_add(tokens).min(self.burst);
        self.refilled = now;
    }

    /// Counts one refused frame. `false`: that was one too many.
    pub(super) fn refuse(&mut self, why: &'static str, now: MonoNanos) -> bool {
        self.why = Some(why);
        if now.0.saturating_sub(self.refused_since.0) > FORGIVE_AFTER_NANOS {
            self.refused = 0;
            self.refused_since = now;
        }
        self.refused += 1;
        self.refused <= REFUSED_FRAMES_MAX
    }

    /// Why the last refused frame was refused, once.
    pub(super) fn take_refusal(&mut self) -> Option<&'static str> {
        self.why.take()
    }
}

fn take(tokens: &mut u32) -> bool {
    match tokens.checked_sub(1) {
        Some(left) => {
            *tokens = left;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::time::MONO_ORIGIN;

    #[test]
    fn the_steady_rate_passes_and_more_does_not() {
        let mut now = MONO_ORIGIN;
        let mut budget = Budget::new(500, 2_000, now);
        for _ in 0..20_000 {
            now = now.plus(Duration::from_millis(2));
            assert!(budget.frame(now) && budget.packet(now));
        }
        let passed = (0..10_000).filter(|_| budget.frame(now)).count();
        assert!(passed <= 2_000, "{passed}");
        assert!(!budget.frame(now));
        assert!(budget.frame(now.plus(Duration::from_millis(2))));
    }

    #[test]
    fn slips_are_forgiven_and_a_stream_of_them_is_not() {
        let mut now = MONO_ORIGIN;
        let mut budget = Budget::new(1, 1, now);
        for _ in 0..200 {
            now = now.plus(Duration::from_secs(5));
            assert!(budget.refuse("magic", now));
        }
        now = now.plus(Duration::from_secs(90));
        let passed = (0..100).filter(|_| budget.refuse("magic", now)).count();
        assert_eq!(passed, REFUSED_FRAMES_MAX as usize);
    }
}
