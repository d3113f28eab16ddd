//! Guessing passwords is slowed: for each name, and for each place that guesses come from.
//!
//! A try is counted before its password is looked at, so that many at once gain nothing, and taken back when it was
//! right, or when nobody could say. The wait doubles with each failure. For a name it stays short, because anybody can
//! bring it about for anybody; for a source it becomes long. One failure is forgiven every [`SIGN_IN_FORGIVEN_EVERY`]:
//! the slips of a whole office in a day are no attack, and who keeps guessing is left with about one guess in that time.
//! Tables have a bound, and a name is kept as a hash: hostile names cost no more than others.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::limits::{
    SIGN_IN_FAILURES_MAX, SIGN_IN_FORGIVEN_EVERY, SIGN_IN_FREE_PER_NAME, SIGN_IN_FREE_PER_SOURCE,
    SIGN_IN_WAIT_PER_NAME_MAX, SIGN_IN_WAIT_PER_SOURCE_MAX,
};
use crate::time::MonoNanos;

/// Where a request comes from: one IPv4 address, or the /64 of an IPv6 one, which a single host has to itself.
pub(in crate::http) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !0_u128 << 64).into()),
    }
}

/// Failures of one kind of key.
struct Failures {
    by_key: Mutex<HashMap<u64, Failed>>,
    free: u32,
    longest: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failed {
    count: u32,
    last: MonoNanos,
}

impl Failed {
    /// Those that are not forgiven yet.
    fn left(&self, now: MonoNanos) -> u32 {
        let forgiven = now.since(self.last).as_secs() / SIGN_IN_FORGIVEN_EVERY.as_secs();
        self.count.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }
}

/// A failure that was counted beforehand, so that it can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    key: u64,
    at: MonoNanos,
    /// What was there before it.
    before: Option<Failed>,
}

/// Failures by name and by source.
pub(in crate::http) struct Slowing {
    keys: ahash::RandomState,
    names: Failures,
    sources: Failures,
}

/// A try that may be made. Counted as failed until [`Slowing::succeeded`] or [`Slowing::undecided`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Try {
    name: Option<Counted>,
    source: Counted,
}

impl Default for Slowing {
    fn default() -> Slowing {
        let of = |free, longest| Failures { by_key: Mutex::default(), free, longest };
        Slowing {
            keys: ahash::RandomState::default(),
            names: of(SIGN_IN_FREE_PER_NAME, SIGN_IN_WAIT_PER_NAME_MAX),
            sources: of(SIGN_IN_FREE_PER_SOURCE, SIGN_IN_WAIT_PER_SOURCE_MAX),
        }
    }
}

impl Slowing {
    /// Begins a try, or says how long to wait.
    pub(in crate::http) fn begin(
        &self,
        name: &str,
        address: IpAddr,
        now: MonoNanos,
    ) -> Result<Try, Duration> {
        self.try_of(Some(self.key(name.to_lowercase())), address, now)
    }

    /// Begins a try of something that has no name: what one source does wrong must not keep out the others.
    pub(in crate::http) fn begin_nameless(&self, address: IpAddr, now: MonoNanos) -> Result<Try, Duration> {
        self.try_of(None, address, now)
    }

    fn try_of(&self, name: Option<u64>, address: IpAddr, now: MonoNanos) -> Result<Try, Duration> {
        let source = self.key(source(address));
        let of_name = name.map_or(Duration::ZERO, |name| self.names.wait(name, now));
        let wait = of_name.max(self.sources.wait(source, now));
        if !wait.is_zero() {
            return Err(wait);
        }
        Ok(Try {
            name: name.map(|name| self.names.count(name, now)),
            source: self.sources.count(source, now),
        })
    }

    /// It was right. The source keeps its other failures: with an account of one's own one can't begin anew.
    pub(in crate::http) fn succeeded(&self, this: Try) {
        if let Some(name) = this.name {
            self.names.lock().remove(&name.key);
        }
        self.sources.take_back(this.source);
    }

    /// Nobody could say whether it was right: it was not looked at, or the identity provider could not be asked.
    pub(in crate::http) fn undecided(&self, this: Try) {
        if let Some(name) = this.name {
            self.names.take_back(name);
        }
        self.sources.take_back(this.source);
    }

    fn key(&self, of: impl Hash) -> u64 {
        self.keys.hash_one(of)
    }
}

impl Failures {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Failed>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, key: u64, now: MonoNanos) -> Duration {
        let failures = self.lock();
        let Some(failed) = failures.get(&key) else { return Duration::ZERO };
        self.penalty(failed.left(now)).saturating_sub(now.since(failed.last))
    }

    fn penalty(&self, count: u32) -> Duration {
        match count.checked_sub(self.free) {
            None => Duration::ZERO,
            Some(beyond) => Duration::from_secs(1 << beyond.min(20)).min(self.longest),
        }
    }

    fn count(&self, key: u64, now: MonoNanos) -> Counted {
        let mut failures = self.lock();
        if failures.len() >= SIGN_IN_FAILURES_MAX && !failures.contains_key(&key) {
            failures.retain(|_, failed| failed.left(now) > 0);
            if failures.len() >= SIGN_IN_FAILURES_MAX {
                // Few failures and long ago are the least loss.
                let least = failures.iter().min_by_key(|(_, failed)| (failed.left(now), failed.last));
                let least = least.map(|(key, _)| *key);
                least.and_then(|key| failures.remove(&key));
            }
        }
        let before = failures.get(&key).copied();
        let left = before.map_or(0, |failed| failed.left(now));
        failures.insert(key, Failed { count: left.saturating_add(1), last: now });
        Counted { key, at: now, before }
    }

    fn take_back(&self, counted: Counted) {
        let mut failures = self.lock();
        let Some(failed) = failures.get(&counted.key).copied() else { return };
        let left = counted.before.map_or(0, |before| before.left(counted.at));
        let alone = failed == Failed { count: left.saturating_add(1), last: counted.at };
        // Others failed since: the wait runs from the last of them.
        let fewer = || Failed { count: failed.count.saturating_sub(1), ..failed };
        let after = if alone { counted.before } else { Some(fewer()) };
        match after.filter(|failed| failed.count > 0) {
            Some(failed) => failures.insert(counted.key, failed),
            None => failures.remove(&counted.key),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MONO_ORIGIN;

    fn at(seconds: u64) -> MonoNanos {
        MONO_ORIGIN.plus(Duration::from_secs(seconds))
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_name_is_slowed_wherever_the_tries_come_from() {
        let slowing = Slowing::default();
        for number in 0..SIGN_IN_FREE_PER_NAME {
            slowing.begin("Admin", address(number as u8), at(0)).unwrap();
        }
        assert_eq!(slowing.begin("admin", address(100), at(0)), Err(Duration::from_secs(1)));
        assert!(slowing.begin("other", address(100), at(0)).is_ok(), "nobody else is");
        let mut now = 1;
        for _ in 0..20 {
            let right = slowing.begin("admin", address(100), at(now));
            let wait = slowing.begin("admin", address(101), at(now)).unwrap_err();
            assert!(right.is_ok() && wait <= SIGN_IN_WAIT_PER_NAME_MAX, "{wait:?}");
            now += 30;
            if now > 200 {
                break;
            }
        }
        let this = slowing.begin("admin", address(102), at(now + 60)).unwrap();
        slowing.succeeded(this);
        assert!(
            slowing.begin("admin", address(103), at(now + 60)).is_ok(),
            "forgotten with the right password"
        );
    }

    #[test]
    fn a_source_is_slowed_whatever_names_it_tries() {
        let slowing = Slowing::default();
        for number in 0..SIGN_IN_FREE_PER_SOURCE {
            slowing.begin(&format!("name {number}"), address(1), at(0)).unwrap();
        }
        assert!(slowing.begin("another", address(1), at(0)).is_err());
        let mine = slowing.begin("mine", address(1), at(1)).unwrap();
        slowing.succeeded(mine);
        slowing.begin("another", address(1), at(1)).unwrap();
        let third = slowing.begin("third", address(1), at(1));
        assert_eq!(third, Err(Duration::from_secs(2)), "a right password of one's own is no help");
        assert!(slowing.begin("another", address(2), at(1)).is_ok());
        assert!(slowing.begin_nameless(address(1), at(1)).is_err());
        assert!(slowing.begin_nameless(address(2), at(1)).is_ok());
        assert!(slowing.begin("another", address(1), at(1 + SIGN_IN_FORGIVEN_EVERY.as_secs())).is_ok());
        let six = |text: &str| source(text.parse().unwrap());
        assert_eq!(six("2001:db8::1"), six("2001:db8::ffff:2"));
        assert_ne!(six("2001:db8::1"), six("2001:db8:0:1::1"));
        assert_eq!(six("::ffff:192.0.2.1"), address(1));
    }

    #[test]
    fn the_slips_of_an_office_in_a_day_keep_nobody_out() {
        let slowing = Slowing::default();
        let every = SIGN_IN_FORGIVEN_EVERY.as_secs();
        for slip in 0..100 {
            slowing.begin(&format!("name {slip}"), address(1), at(slip * every)).unwrap();
            let right = slowing.begin("honest", address(1), at(slip * every)).unwrap();
            slowing.succeeded(right);
        }
    }

    #[test]
    fn who_keeps_guessing_gets_no_more_than_a_guess_each_time_one_is_forgiven() {
        let slowing = Slowing::default();
        let day = 86_400;
        let guesses = (0..day)
            .filter(|second| slowing.begin(&format!("name {second}"), address(1), at(*second)).is_ok());
        let most = u64::from(SIGN_IN_FREE_PER_SOURCE) + 20 + day / SIGN_IN_FORGIVEN_EVERY.as_secs();
        assert!((guesses.count() as u64) <= most);
    }

    #[test]
    fn what_nobody_could_judge_and_what_was_right_leave_no_trace() {
        let slowing = Slowing::default();
        for _ in 0..SIGN_IN_FREE_PER_SOURCE {
            let this = slowing.begin("busy", address(1), at(0)).unwrap();
            slowing.undecided(this);
        }
        assert!(slowing.names.lock().is_empty() && slowing.sources.lock().is_empty());
        for second in 0..u64::from(SIGN_IN_FREE_PER_SOURCE) + 3 {
            let _ = slowing.begin(&format!("name {second}"), address(1), at(0));
        }
        let of_source = |slowing: &Slowing| slowing.sources.lock().values().next().copied();
        let before = of_source(&slowing);
        assert!(before.is_some());
        let right = slowing.begin("mine", address(1), at(1_000)).unwrap();
        assert_ne!(of_source(&slowing), before);
        slowing.succeeded(right);
        assert_eq!(of_source(&slowing), before);
    }

    #[test]
    fn the_tables_have_a_bound() {
        let slowing = Slowing::default();
        for _ in 0..7 {
            let _ = slowing.begin("victim", address(200), at(0));
        }
        for number in 0..SIGN_IN_FAILURES_MAX as u32 + 1_000 {
            let from = IpAddr::from((10_u32 << 24 | number).to_be_bytes());
            let _ = slowing.begin(&format!("name {number}"), from, at(0));
        }
        assert_eq!(slowing.names.lock().len(), SIGN_IN_FAILURES_MAX);
        assert_eq!(slowing.sources.lock().len(), SIGN_IN_FAILURES_MAX);
        assert!(
            slowing.begin("victim", address(3), at(0)).is_err(),
            "many failures are not pushed out by few"
        );
    }
}
