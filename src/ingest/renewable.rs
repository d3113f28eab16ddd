//! Which connected peers need a new certificate or trust bundle, and when to say so again.

use std::time::Duration;

use crate::identity::{IssuerMark, Leaf};
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
    /// That certificate has less than a third of its life left, or is by an authority that others should not need.
    pub certificate: bool,
}

/// What every peer should hold by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The trust bundle of this generation.
    pub trust_generation: u32,
    /// A certificate that this authority signed; `None`: any that is good.
    pub issuer: Option<IssuerMark>,
}

/// A session's certificate, and what was reported of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub not_before: UnixMillis,
    pub not_after: UnixMillis,
    pub issuer: IssuerMark,
    /// What was wanted when it was looked at last.
    wanted: Wanted,
    /// Not reported again before this, unless something else is wanted.
    again: MonoNanos,
}

impl Held {
    pub(super) fn new(leaf: &Leaf) -> Held {
        Held {
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            issuer: leaf.issuer,
            wanted: Wanted::default(),
            again: MonoNanos::NEVER,
        }
    }

    /// What to report now of who has the bundle of this generation (zero: not known): `Some(true)` a certificate that
    /// has to be replaced, `Some(false)` an older trust bundle alone.
    pub(super) fn due(
        &mut self,
        trust_generation: u32,
        wanted: Wanted,
        now: MonoNanos,
        unix: UnixMillis,
    ) -> Option<bool> {
        if now < self.again && wanted == self.wanted {
            return None;
        }
        self.wanted = wanted;
        let older_trust = trust_generation != 0 && trust_generation < wanted.trust_generation;
        let other_issuer = wanted.issuer.is_some_and(|issuer| issuer != self.issuer);
        let made = self.not_before.plus(CERTIFICATE_BACKDATE);
        let life = self.not_after.0.saturating_sub(made.0);
        let left = self.not_after.0.saturating_sub(unix.0);
        let runs_out = left < life / 3;
        if runs_out {
            let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
            self.again = now.plus((left / 10).max(RENEWAL_AGAIN_MIN));
        }
        if older_trust || other_issuer {
            let again = now.plus(TRUST_TOLD_AGAIN);
            self.again = if runs_out { self.again.min(again) } else { again };
        }
        let certificate = runs_out || other_issuer;
        (certificate || older_trust).then_some(certificate)
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
    use crate::identity::{PeerIdentity, Serial};
    use crate::time::MONO_ORIGIN;
    use crate::wire::id::SensorId;

    const DAY: Duration = Duration::from_secs(86_400);
    const BEGIN: UnixMillis = UnixMillis(1_780_000_000_000);

    fn held(issuer: &str) -> Held {
        Held::new(&Leaf {
            identity: PeerIdentity::Sensor(SensorId::from_number(1)),
            serial: Serial::from_be_bytes(&[1]).unwrap(),
            not_before: BEGIN,
            not_after: BEGIN.plus(30 * DAY),
            issuer: mark(issuer),
        })
    }

    fn mark(issuer: &str) -> IssuerMark {
        IssuerMark::of_name(issuer.as_bytes())
    }

    fn wanted(trust_generation: u32) -> Wanted {
        Wanted { trust_generation, issuer: None }
    }

    fn second(number: u64) -> MonoNanos {
        MONO_ORIGIN.plus(Duration::from_secs(number))
    }

    #[test]
    fn a_certificate_is_reported_when_a_third_is_left_and_again_the_more_often_the_less_is_left() {
        let mut held = held("a");
        let mut reported = Vec::new();
        for hour in 0..30 * 24 {
            let after = Duration::from_secs(hour * 3_600);
            if held.due(1, wanted(1), MONO_ORIGIN.plus(after), BEGIN.plus(after)).is_some() {
                reported.push(hour);
            }
        }
        assert_eq!(reported[0], 20 * 24 + 1);
        assert_eq!(reported[1], 21 * 24 + 1, "a day later");
        assert_eq!(reported[reported.len() - 2..], [718, 719], "every hour looked at in the end");
        assert!((20..60).contains(&reported.len()), "{reported:?}");
    }

    #[test]
    fn an_older_trust_bundle_is_reported_now_and_then_and_at_once_when_another_is_wanted() {
        let mut held = held("a");
        let mut at = |number, has, wants| held.due(has, wanted(wants), second(number), BEGIN);
        assert_eq!(at(0, 2, 2), None);
        assert_eq!(at(1, 0, 3), None, "not known, and so not older");
        assert_eq!(at(2, 2, 3), Some(false));
        assert_eq!(at(3, 2, 3), None);
        assert_eq!(at(4, 2, 4), Some(false));
        assert_eq!(at(63, 2, 4), None);
        assert_eq!(at(64, 2, 4), Some(false));
        let soon = 64 + RENEWAL_AGAIN_MIN.as_secs();
        held.not_taken(second(64));
        assert_eq!(held.due(2, wanted(4), second(soon), BEGIN), Some(false), "nobody took the report");
        assert_eq!(held.due(2, wanted(4), second(2 * soon - 64), BEGIN), None, "it was taken");
    }

    #[test]
    fn a_certificate_by_another_authority_is_reported_however_fresh_it_is() {
        let mut old = held("a");
        let wants = |issuer| Wanted { trust_generation: 2, issuer: Some(mark(issuer)) };
        assert_eq!(old.due(2, wants("a"), second(0), BEGIN), None);
        assert_eq!(old.due(2, wants("b"), second(1), BEGIN), Some(true));
        assert_eq!(old.due(2, wants("b"), second(60), BEGIN), None);
        assert_eq!(old.due(2, wants("b"), second(61), BEGIN), Some(true));
        assert_eq!(held("b").due(2, wants("b"), second(1), BEGIN), None);
    }
}
