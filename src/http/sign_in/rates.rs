//! How many requests a caller may send: a rate for each, with a burst.
//!
//! One number a caller: the time at which all that was asked would be paid for (the generic cell rate algorithm).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::limits::{RATE_BURST, RATES_MAX};
use crate::time::MonoNanos;

/// Rates of all callers.
pub(in crate::http) struct Rates {
    keys: ahash::RandomState,
    paid: Mutex<HashMap<u64, MonoNanos>>,
    /// What one request costs.
    each: Duration,
}

impl Rates {
    pub(in crate::http) fn new(requests_per_second: u32) -> Rates {
        let each = Duration::from_secs(1) / requests_per_second.max(1);
        Rates { keys: ahash::RandomState::default(), paid: Mutex::default(), each }
    }

    /// Lets a request of this caller pass, or says when the next one is welcome.
    pub(in crate::http) fn take(&self, caller: &str, now: MonoNanos) -> Result<(), Duration> {
        let key = self.keys.hash_one(caller);
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        if paid.len() >= RATES_MAX && !paid.contains_key(&key) {
            paid.retain(|_, until| *until > now);
            if paid.len() >= RATES_MAX {
                // So many that ask at this very moment: the least busy one is forgotten.
                let least = paid.iter().min_by_key(|(_, until)| **until).map(|(key, _)| *key);
                least.and_then(|key| paid.remove(&key));
            }
        }
        let until = paid.entry(key).or_insert(now);
        let next = (*until).max(now).plus(self.each);
        let ahead = next.since(now);
        if ahead > RATE_BURST.max(self.each) {
            return Err(ahead - RATE_BURST.max(self.each));
        }
        *until = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MONO_ORIGIN;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let rates = Rates::new(10);
        let at = |ms| MONO_ORIGIN.plus(Duration::from_millis(ms));
        let passed = (0..100).filter(|_| rates.take("a", at(0)).is_ok()).count();
        assert_eq!(passed, 30);
        let wait = rates.take("a", at(0)).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(rates.take("b", at(0)).is_ok(), "each has its own");
        assert!(rates.take("a", at(99)).is_err());
        assert!(rates.take("a", at(100)).is_ok());
        assert!(rates.take("a", at(100)).is_err());
        let later = (0..100).filter(|_| rates.take("a", at(60_000)).is_ok()).count();
        assert_eq!(later, 30, "no more is saved up than a burst");
        for number in 0..RATES_MAX + 10 {
            let _ = rates.take(&number.to_string(), at(120_000));
        }
        assert_eq!(rates.paid.lock().unwrap().len(), RATES_MAX);
    }
}
