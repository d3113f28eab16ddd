//! Guessing passwords is slowed: for each name, and for each place that guesses come from.
//!
//! A try is counted before its password is looked at, so that many at once gain nothing, and taken back when it was
//! right. The wait doubles with each failure. For a name it stays short, because anybody can bring it about for anybody;
//! for a source it becomes long. Tables have a bound, and a name is kept as a hash: hostile names cost no more than others.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::limits::{
    SIGN_IN_FAILURES_MAX, SIGN_IN_FORGET, SIGN_IN_FREE_PER_NAME, SIGN_IN_FREE_PER_SOURCE,
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

#[derive(Clone, Copy)]
struct Failed {
    count: u32,
    last: MonoNanos,
}

/// Failures by name and by source.
pub(in crate::http) struct Slowing {
    keys: ahash::RandomState,
    names: Failures,
    sources: Failures,
}

/// A try that may be made. Counted as failed until [`Slowing::succeeded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Try {
    name: Option<u64>,
    source: u64,
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
        let this = Try { name, source: self.key(source(address)) };
        let of_name = name.map_or(Duration::ZERO, |name| self.names.wait(name, now));
        let wait = of_name.max(self.sources.wait(this.source, now));
        if !wait.is_zero() {
            return Err(wait);
        }
        if let Some(name) = name {
            self.names.count(name, now);
        }
        self.sources.count(this.source, now);
        Ok(this)
    }

    /// It was right. The source keeps its other failures: with an account of one's own one can't begin anew.
    pub(in crate::http) fn succeeded(&self, this: Try) {
        if let Some(name) = this.name {
            self.names.lock().remove(&name);
        }
        if let Some(failed) = self.sources.lock().get_mut(&this.source) {
            failed.count = failed.count.saturating_sub(1);
        }
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
        let since = now.since(failed.last);
        if since >= SIGN_IN_FORGET {
            return Duration::ZERO;
        }
        self.penalty(failed.count).saturating_sub(since)
    }

    fn penalty(&self, count: u32) -> Duration {
        match count.checked_sub(self.free) {
            None => Duration::ZERO,
            Some(beyond) => Duration::from_secs(1 << beyond.min(20)).min(self.longest),
        }
    }

    fn count(&self, key: u64, now: MonoNanos) {
        let mut failures = self.lock();
        if failures.len() >= SIGN_IN_FAILURES_MAX && !failures.contains_key(&key) {
            failures.retain(|_, failed| now.since(failed.last) < SIGN_IN_FORGET);
            if failures.len() >= SIGN_IN_FAILURES_MAX {
                // Few failures and long ago are the least loss.
                let least = failures.iter().min_by_key(|(_, failed)| (failed.count, failed.last));
                let least = least.map(|(key, _)| *key);
                least.and_then(|key| failures.remove(&key));
            }
        }
        let failed = failures.entry(key).or_insert(Failed { count: 0, last: now });
        if now.since(failed.last) >= SIGN_IN_FORGET {
            failed.count = 0;
        }
        *failed = Failed { count: failed.count.saturating_add(1), last: now };
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
        assert!(
            slowing.begin("another", address(1), at(1)).is_err(),
            "a right password of one's own is no help"
        );
        assert!(slowing.begin("another", address(2), at(1)).is_ok());
        assert!(slowing.begin_nameless(address(1), at(1)).is_err());
        assert!(slowing.begin_nameless(address(2), at(1)).is_ok());
        assert!(slowing.begin("another", address(1), at(1 + SIGN_IN_FORGET.as_secs())).is_ok());
        let six = |text: &str| source(text.parse().unwrap());
        assert_eq!(six("2001:db8::1"), six("2001:db8::ffff:2"));
        assert_ne!(six("2001:db8::1"), six("2001:db8:0:1::1"));
        assert_eq!(six("::ffff:192.0.2.1"), address(1));
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
