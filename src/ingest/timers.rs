//! Deadlines of connections: a binary heap that is corrected lazily.
//!
//! A heartbeat moves its connection's deadline almost every time, nearly always to a later instant. So an
//! entry is never moved or removed: the heap holds, for each connection, at least one entry that is not
//! later than its deadline; when an entry comes up, the loop asks the connection what its deadline is
//! now. [`Armed`] remembers which entries exist, so that entries don't pile up: a new one is only
//! added when it is earlier than all of them, and they leave the heap earliest first, so it is a stack.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::MonoNanos;

/// How much later than asked a timer may fire: nothing that QUIC does needs better.
const SLACK_NANOS: u64 = 1_000_000;

/// Entries of one connection that are in the heap, the earliest last.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Armed {
    stack: [MonoNanos; 4],
    depth: u8,
}

impl Armed {
    fn earliest(&self) -> Option<MonoNanos> {
        self.depth.checked_sub(1).map(|top| self.stack[usize::from(top)])
    }
}

/// The heap of one shard. Keys are the caller's; a key that means nothing any more is the caller's to skip.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(MonoNanos, u32)>>,
}

impl Timers {
    /// Makes sure that the heap wakes `key` no later than `deadline` (give or take the slack).
    pub(super) fn arm(&mut self, armed: &mut Armed, key: u32, deadline: MonoNanos) {
        if armed.earliest().is_some_and(|earliest| earliest.0 <= deadline.0.saturating_add(SLACK_NANOS)) {
            return;
        }
        // A full stack forgets its earliest entry, which will come up and be looked at all the same. What was just
        // added has to be remembered: or the next packet would add it again, and each one until it comes up.
        let top = usize::from(armed.depth).min(armed.stack.len() - 1);
        armed.stack[top] = deadline;
        armed.depth = top as u8 + 1;
        self.heap.push(Reverse((deadline, key)));
    }

    /// The next key whose entry is due, with the entry's instant for [`Timers::came_up`].
    pub(super) fn due(&mut self, now: MonoNanos) -> Option<(u32, MonoNanos)> {
        let Reverse((at, key)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some((key, at))
    }

    /// Forgets the entry that just came up.
    pub(super) fn came_up(armed: &mut Armed, at: MonoNanos) {
        if armed.earliest() == Some(at) {
            armed.depth -= 1;
        }
    }

    /// When the next entry is due.
    pub(super) fn next(&self) -> Option<MonoNanos> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Entries in the heap.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ever_earlier_deadlines_do_not_pile_up() {
        let (mut timers, mut armed) = (Timers::default(), Armed::default());
        let second = |n: u64| MonoNanos(n * 1_000_000_000);
        for deadline in [900, 60, 30, 15, 7] {
            for _packet in 0..1_000 {
                timers.arm(&mut armed, 1, second(deadline));
            }
        }
        assert_eq!(timers.len(), 5);
        let mut came = Vec::new();
        while let Some((_, at)) = timers.due(second(900)) {
            Timers::came_up(&mut armed, at);
            came.push(at);
        }
        assert_eq!(came, [7, 15, 30, 60, 900].map(second));
        assert_eq!(armed.earliest(), None, "none is remembered that is not there");
    }

    #[test]
    fn nothing_fires_late_and_nothing_piles_up() {
        let seed = 0x5eed_u64;
        let mut state = seed;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        const KEYS: usize = 50;
        let mut timers = Timers::default();
        let mut armed = [Armed::default(); KEYS];
        let mut deadlines = [MonoNanos(u64::MAX / 2); KEYS];
        let mut now = MonoNanos(1);
        for _ in 0..200_000 {
            now = MonoNanos(now.0 + random(2_000_000));
            while let Some((key, at)) = timers.due(now) {
                let slot = key as usize;
                Timers::came_up(&mut armed[slot], at);
                if deadlines[slot] <= now {
                    deadlines[slot] = MonoNanos(now.0 + 30_000_000_000);
                }
                timers.arm(&mut armed[slot], key, deadlines[slot]);
            }
            for (slot, deadline) in deadlines.iter().enumerate() {
                assert!(deadline.0 + SLACK_NANOS > now.0, "{slot} was forgotten, seed {seed:#x}");
            }
            // A heartbeat: the acknowledgement delay jumps in front of the idle timeout.
            let slot = random(KEYS as u64) as usize;
            let ahead =
                [25_000_000, 30_000_000_000, 900_000_000_000, random(1_000_000_000)][random(4) as usize];
            deadlines[slot] = MonoNanos(now.0 + ahead);
            timers.arm(&mut armed[slot], slot as u32, deadlines[slot]);
        }
        assert!(timers.len() < KEYS * 8, "{} entries for {KEYS} connections, seed {seed:#x}", timers.len());
    }
}
