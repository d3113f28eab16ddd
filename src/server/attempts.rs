//! Enrolments that were refused, kept so that an operator sees them and a stranger can't fill anything with them.
//!
//! Two kinds. Who holds a token that was made for a sensor, or a certificate that was its, is noted on that sensor,
//! durably: only as many as a bucket lets through, so that a machine that tries for ever with a void file costs a few
//! entries of the audit log an hour, and all of them together a few a minute. Everybody else is a stranger. Of both
//! what was refused since the start is kept in memory, one line for each sensor, address and reason, the oldest going
//! first; strangers don't push out what is known of sensors.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::http::RefusedEnrolment;
use crate::limits::{
    ATTEMPT_SENSORS_MAX, ATTEMPTS_NOTED_AT_ONCE, ATTEMPTS_NOTED_EVERY, ATTEMPTS_PER_MINUTE_MAX, REFUSED_KEPT,
};
use crate::time::UnixMillis;
use crate::wire::enrol::EnrolRefusal;
use crate::wire::id::SensorId;

/// What was refused of late.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    strangers: VecDeque<RefusedEnrolment>,
    of_sensors: VecDeque<RefusedEnrolment>,
    buckets: HashMap<SensorId, Bucket>,
    minute: i64,
    in_minute: u32,
}

#[derive(Debug)]
struct Bucket {
    left: u32,
    filled: UnixMillis,
    last: (EnrolRefusal, IpAddr, UnixMillis),
}

impl Attempts {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that is kept, the newest first.
    pub fn refused(&self) -> Vec<RefusedEnrolment> {
        let kept = self.lock();
        let mut refused: Vec<_> = kept.strangers.iter().chain(&kept.of_sensors).rev().cloned().collect();
        refused.sort_by_key(|refused| std::cmp::Reverse(refused.last));
        refused
    }

    /// Keeps an attempt: a sensor's, or a stranger's.
    pub(super) fn keep(
        &self,
        sensor: Option<SensorId>,
        from: IpAddr,
        refusal: EnrolRefusal,
        version: &str,
        now: UnixMillis,
    ) {
        let mut kept = self.lock();
        let kept = if sensor.is_some() { &mut kept.of_sensors } else { &mut kept.strangers };
        let same =
            |known: &RefusedEnrolment| (known.sensor, known.from, known.refusal) == (sensor, from, refusal);
        let known = kept.iter().position(same).and_then(|place| kept.remove(place));
        let (first, count) = known.map_or((now, 0), |known| (known.first, known.count));
        let version = version.chars().filter(|c| !c.is_control()).take(200).collect();
        if kept.len() >= REFUSED_KEPT {
            kept.pop_front();
        }
        kept.push_back(RefusedEnrolment {
            sensor,
            from,
            refusal,
            first,
            last: now,
            count: count + 1,
            version,
        });
    }

    /// Whether this attempt may be noted on its sensor, durably. The same again within a while is not news.
    pub(super) fn may_note(
        &self,
        sensor: SensorId,
        refusal: EnrolRefusal,
        from: IpAddr,
        now: UnixMillis,
    ) -> bool {
        let mut kept = self.lock();
        let minute = now.0.div_euclid(60_000);
        if kept.minute != minute {
            (kept.minute, kept.in_minute) = (minute, 0);
        }
        if kept.in_minute >= ATTEMPTS_PER_MINUTE_MAX {
            return false;
        }
        if kept.buckets.len() >= ATTEMPT_SENSORS_MAX && !kept.buckets.contains_key(&sensor) {
            let full_again = ATTEMPTS_NOTED_EVERY * ATTEMPTS_NOTED_AT_ONCE;
            kept.buckets.retain(|_, bucket| since(now, bucket.filled) < full_again);
            if kept.buckets.len() >= ATTEMPT_SENSORS_MAX {
                return false;
            }
        }
        let bucket = kept.buckets.entry(sensor).or_insert(Bucket {
            left: ATTEMPTS_NOTED_AT_ONCE,
            filled: now,
            last: (refusal, from, UnixMillis(i64::MIN)),
        });
        let (last, by, at) = bucket.last;
        if (last, by) == (refusal, from) && since(now, at) < ATTEMPTS_NOTED_EVERY {
            return false;
        }
        let earned = since(now, bucket.filled).as_secs() / ATTEMPTS_NOTED_EVERY.as_secs();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            bucket.left = bucket.left.saturating_add(earned).min(ATTEMPTS_NOTED_AT_ONCE);
            bucket.filled = now;
        }
        if bucket.left == 0 {
            return false;
        }
        bucket.left -= 1;
        bucket.last = (refusal, from, now);
        kept.in_minute += 1;
        true
    }
}

/// A clock that was set back is no reason to wait for it.
fn since(now: UnixMillis, earlier: UnixMillis) -> Duration {
    Duration::from_millis(now.0.abs_diff(earlier.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_780_000_000_000);

    fn from(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn a_machine_that_tries_for_ever_is_noted_now_and_then() {
        let attempts = Attempts::default();
        let sensor = SensorId::from_number(1);
        let day = 86_400_u64;
        let noted = (0..day)
            .filter(|&second| {
                let at = NOW.plus(Duration::from_secs(second));
                // From many addresses and with changing reasons, which is the most that it can do.
                let refusal = EnrolRefusal::ALL[second as usize % EnrolRefusal::ALL.len()];
                attempts.may_note(sensor, refusal, from(second as u32), at)
            })
            .count() as u64;
        let most = u64::from(ATTEMPTS_NOTED_AT_ONCE) + day / ATTEMPTS_NOTED_EVERY.as_secs();
        assert!((most / 2..=most).contains(&noted), "{noted} of at most {most}");
        // The same again is not news.
        let again = |at| attempts.may_note(SensorId::from_number(2), EnrolRefusal::TokenUsed, from(1), at);
        assert!(again(NOW));
        assert!(!again(NOW.plus(Duration::from_secs(60))));
        assert!(again(NOW.plus(ATTEMPTS_NOTED_EVERY)));
    }

    #[test]
    fn many_sensors_together_are_bounded_too() {
        let attempts = Attempts::default();
        let noted = (0..100_000)
            .filter(|&n| {
                attempts.may_note(SensorId::from_number(n), EnrolRefusal::TokenVoid, from(n as u32), NOW)
            })
            .count();
        assert_eq!(noted, ATTEMPTS_PER_MINUTE_MAX as usize);
        for n in 0..100_000 {
            let at = NOW.plus(Duration::from_secs(n));
            attempts.may_note(SensorId::from_number(n), EnrolRefusal::TokenVoid, from(1), at);
        }
        assert!(attempts.lock().buckets.len() <= ATTEMPT_SENSORS_MAX);
    }

    #[test]
    fn strangers_are_counted_by_address_and_forgotten_in_turn() {
        let attempts = Attempts::default();
        for n in 0..100_000 {
            let at = NOW.plus(Duration::from_millis(n));
            attempts.keep(None, from(7), EnrolRefusal::UnknownToken, "1.0\n", at);
        }
        let kept = attempts.refused();
        assert_eq!((kept.len(), kept[0].count, kept[0].version.as_str()), (1, 100_000, "1.0"));
        let sensor = Some(SensorId::from_number(1));
        attempts.keep(sensor, from(7), EnrolRefusal::TokenVoid, "1.0", NOW);
        for n in 0..10_000 {
            attempts.keep(None, from(n), EnrolRefusal::UnknownToken, "", NOW.plus(Duration::from_secs(1)));
        }
        let kept = attempts.refused();
        assert_eq!((kept.len(), kept[0].from), (REFUSED_KEPT + 1, from(9_999)));
        assert_eq!(kept[REFUSED_KEPT].sensor, sensor, "the oldest, and still known");
    }
}
