//! Exact accounting of arrivals by boot id and sequence. Plain values in and out.
//!
//! Sequence numbers of one boot count up by one. The window has one bit for each of the last 64 heartbeats
//! that were expected; `expected` says how many of its bits are meant. What the words mean:
//!
//! - *lost*: the sensor made it (a later sequence proves it) and it is not here. Counted at the gap, taken
//!   back when it arrives within the window. What arrives later than 64 heartbeats after its turn stays lost
//!   and is counted as *beyond the window*, since nobody can say whether it came before.
//! - *duplicate*: its bit was set already. *Reordered*: it came after a later one.
//! - *restart*: another boot id, in a frame that is not older than the newest. The heartbeats of that boot
//!   before the first that arrives are lost too. A straggler of the boot before is never a second restart, unless
//!   its uptime shows that it is the later boot after all.
//! - *rollback*: the sequence went backwards without a new boot id (a broken sensor, a restored image). It is
//!   refused as duplicate or beyond the window until the sensor has had no newer heartbeat for
//!   [`crate::limits::SEQUENCE_DISTRUST_MIN`] or three intervals; then its word is taken and the window starts
//!   afresh. So a sensor that counts wrongly never looks dead for ever.
//! - A jump of more than [`crate::limits::SEQUENCE_JUMP_MAX`] counts as that many lost and starts the window
//!   afresh, so that a hostile sequence (all ones) spoils only its own sensor's figures, and boundedly.
//! - What the server itself did not hear, it does not call lost: the first jump after a checkpoint was restored, or
//!   after its own receive buffer ran over, starts the window afresh.

use crate::limits::{ARRIVAL_WINDOW, SEQUENCE_JUMP_MAX};

/// Arrivals of one sensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrivals {
    pub(super) boot: u64,
    pub(super) boot_before: u64,
    /// Highest sequence of the boot; zero = nothing seen.
    pub(super) high: u64,
    pub(super) window: u64,
    pub(super) expected: u32,
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) duplicates: u32,
    pub(super) reordered: u32,
    pub(super) beyond: u32,
    pub(super) rollbacks: u32,
    /// What came after `high` may be missing by our own fault.
    pub(super) unheard: bool,
}

/// A frame's time against the newest heartbeat's, or its boot's against the newest boot's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// Older, by more than the slack for rounding.
    Older,
    /// As new, or newer.
    Newer,
    /// So much newer that the sensor's sequence, or what was heard of its boot before, is no longer trusted over it.
    LongAfter,
}

/// What an arrival is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The first heartbeat ever.
    First,
    /// The newest of its boot.
    Newest,
    /// The first of a new boot.
    Restart,
    /// Counted, but not news.
    Late,
    Duplicate,
    Beyond,
}

impl Arrival {
    /// Its values are the current ones.
    pub(super) fn is_current(self) -> bool {
        matches!(self, Arrival::First | Arrival::Newest | Arrival::Restart)
    }
}

impl Arrivals {
    /// Counts one frame.
    #[inline]
    pub(super) fn judge(&mut self, boot: u64, sequence: u64, time: Time) -> Arrival {
        if self.high == 0 {
            self.boot = boot;
            self.start_afresh(sequence, 1);
            return Arrival::First;
        }
        if boot != self.boot {
            return self.judge_other_boot(boot, sequence, time);
        }
        if sequence > self.high {
            // Whatever its time says: a sensor makes its heartbeats in the order of their numbers.
            self.advance(sequence);
            return Arrival::Newest;
        }
        if time == Time::LongAfter {
            self.rollbacks = self.rollbacks.saturating_add(1);
            self.start_afresh(sequence, 1);
            return Arrival::Newest;
        }
        let behind = self.high - sequence;
        if behind >= u64::from(ARRIVAL_WINDOW) {
            self.beyond = self.beyond.saturating_add(1);
            return Arrival::Beyond;
        }
        let bit = 1 << behind;
        if self.window & bit != 0 {
            self.duplicates = self.duplicates.saturating_add(1);
            return Arrival::Duplicate;
        }
        self.window |= bit;
        self.received += 1;
        self.reordered = self.reordered.saturating_add(1);
        if behind < u64::from(self.expected) {
            self.lost = self.lost.saturating_sub(1);
        }
        Arrival::Late
    }

    /// A higher sequence of the same boot.
    #[inline]
    fn advance(&mut self, sequence: u64) {
        let step = sequence - self.high;
        if std::mem::take(&mut self.unheard) && step > 1 {
            self.window = shifted(self.window, step) | 1;
            self.expected = 1;
        } else if step > SEQUENCE_JUMP_MAX {
            self.lost = self.lost.saturating_add(SEQUENCE_JUMP_MAX);
            self.window = 1;
            self.expected = 1;
        } else {
            self.lost = self.lost.saturating_add(step - 1);
            self.window = shifted(self.window, step) | 1;
            self.expected = (u64::from(self.expected) + step).min(u64::from(ARRIVAL_WINDOW)) as u32;
        }
        self.high = sequence;
        self.received += 1;
    }

    #[cold]
    fn judge_other_boot(&mut self, boot: u64, sequence: u64, time: Time) -> Arrival {
        let straggler = boot == self.boot_before && time != Time::LongAfter;
        if straggler || time == Time::Older {
            self.beyond = self.beyond.saturating_add(1);
            return Arrival::Beyond;
        }
        self.boot_before = std::mem::replace(&mut self.boot, boot);
        let before = sequence - 1;
        if self.unheard || before > SEQUENCE_JUMP_MAX {
            if !self.unheard {
                self.lost = self.lost.saturating_add(SEQUENCE_JUMP_MAX);
            }
            self.start_afresh(sequence, 1);
        } else {
            self.lost = self.lost.saturating_add(before);
            self.start_afresh(sequence, sequence.min(u64::from(ARRIVAL_WINDOW)) as u32);
        }
        Arrival::Restart
    }

    fn start_afresh(&mut self, sequence: u64, expected: u32) {
        self.high = sequence;
        self.window = 1;
        self.expected = expected;
        self.unheard = false;
        self.received += 1;
    }
}

fn shifted(window: u64, step: u64) -> u64 {
    u32::try_from(step).ok().and_then(|step| window.checked_shl(step)).unwrap_or(0)
}

/// Bits of the window that are meant.
pub(super) fn meant(expected: u32) -> u64 {
    if expected >= ARRIVAL_WINDOW { u64::MAX } else { (1 << expected) - 1 }
}

/// Share of the expected heartbeats that came in; 1 before the first.
pub(super) fn delivery_ratio(window: u64, expected: u32) -> f32 {
    match expected {
        0 => 1.0,
        _ => (window & meant(expected)).count_ones() as f32 / expected as f32,
    }
}
