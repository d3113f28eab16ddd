//! Which connected peers need a new certificate or trust bundle, and when to say so again.

use std::time::Duration;

use crate::identity::Leaf;
use crate::limits::{CERTIFICATE_BACKDATE, RENEWAL_AGAIN_MIN, TRUST_TOLD_AGAIN};
use crate::live::OwnerRef;
use crate::time::{MonoNanos, UnixMillis};

/// A connected peer that needs something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewable {
    /// Its connection.
    pub owner: OwnerRef,
    /// The certificate that it showed, or was given since.
    pub leaf: Leaf,
    /// That certificate has less than a third of its life left.
    pub certificate: bool,
}

/// The dates of a session's certificate, and what was reported of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dates {
    pub not_before: UnixMillis,
    pub not_after: UnixMillis,
    /// Not reported again before this.
    again: MonoNanos,
}

impl Dates {
    pub(super) fn new(not_before: UnixMillis, not_after: UnixMillis) -> Dates {
        Dates { not_before, not_after, again: MonoNanos::NEVER }
    }

    /// What to report now: `Some(true)` a certificate that runs out, `Some(false)` an older trust bundle alone.
    pub(super) fn due(&mut self, older_trust: bool, now: MonoNanos, unix: UnixMillis) -> Option<bool> {
        if now < self.again {
            return None;
        }
        let made = self.not_before.plus(CERTIFICATE_BACKDATE);
        let life = self.not_after.0.saturating_sub(made.0);
        let left = self.not_after.0.saturating_sub(unix.0);
        let runs_out = left < life / 3;
        if runs_out {
            let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
            self.again = now.plus((left / 10).max(RENEWAL_AGAIN_MIN));
        } else if older_trust {
            self.again = now.plus(TRUST_TOLD_AGAIN);
        }
        (runs_out || older_trust).then_some(runs_out)
    }

    /// Nobody took the report: it is made again soon, however much time is left. Where many wait for their turn, all
    /// of them have one before any of them is late.
    pub(super) fn not_taken(&mut self, now: MonoNanos) {
        self.again = now.plus(RENEWAL_AGAIN_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MONO_ORIGIN;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_certificate_is_reported_when_a_third_is_left_and_again_the_more_often_the_less_is_left() {
        let begin = UnixMillis(1_780_000_000_000);
        let mut dates = Dates::new(begin, begin.plus(30 * DAY));
        let mut reported = Vec::new();
        for hour in 0..30 * 24 {
            let after = Duration::from_secs(hour * 3_600);
            if dates.due(false, MONO_ORIGIN.plus(after), begin.plus(after)).is_some() {
                reported.push(hour);
            }
        }
        assert_eq!(reported[0], 20 * 24 + 1);
        assert_eq!(reported[1], 21 * 24 + 1, "a day later");
        assert_eq!(reported[reported.len() - 2..], [718, 719], "every hour looked at in the end");
        assert!((20..60).contains(&reported.len()), "{reported:?}");
    }

    #[test]
    fn a_report_that_nobody_took_is_made_again_soon() {
        let begin = UnixMillis(1_780_000_000_000);
        let mut dates = Dates::new(begin, begin.plus(30 * DAY));
        let unix = begin.plus(25 * DAY);
        let mut at = |seconds: u64, taken: bool| {
            let now = MONO_ORIGIN.plus(Duration::from_secs(seconds));
            let due = dates.due(false, now, unix);
            if due.is_some() && !taken {
                dates.not_taken(now);
            }
            due
        };
        let soon = RENEWAL_AGAIN_MIN.as_secs();
        assert_eq!(at(0, false), Some(true));
        assert_eq!(at(soon, true), Some(true));
        assert_eq!(at(2 * soon, true), None, "it was taken");
    }

    #[test]
    fn an_older_trust_bundle_is_reported_now_and_then() {
        let begin = UnixMillis(1_780_000_000_000);
        let mut dates = Dates::new(begin, begin.plus(30 * DAY));
        let mut at = |seconds, older| dates.due(older, MONO_ORIGIN.plus(Duration::from_secs(seconds)), begin);
        assert_eq!(at(0, false), None);
        assert_eq!(at(1, true), Some(false));
        assert_eq!(at(2, true), None);
        assert_eq!(at(61, true), Some(false));
    }
}
