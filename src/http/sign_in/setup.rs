//! The first administrator: a link with a one-time token, printed by the program that starts the server.
//!
//! There is no built-in account and no default password. While nobody is registered, who can read the server's output
//! decides who is first. The token is good for an hour and for one administrator; the next start gives another.

use std::sync::{Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::secrets::{NoRandom, fresh, hash};
use crate::fleet::TokenHash;
use crate::limits::SETUP_LIFE;
use crate::time::MonoNanos;

/// The token that waits to be used.
#[derive(Default)]
pub(in crate::http) struct Setup(Mutex<Option<(TokenHash, MonoNanos)>>);

impl Setup {
    /// Makes the token; one made before is void.
    pub(in crate::http) fn begin(&self, now: MonoNanos) -> Result<String, NoRandom> {
        let token = fresh()?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((hash(&token), now.plus(SETUP_LIFE)));
        Ok(token)
    }

    /// Whether this is the token, and still good.
    pub(in crate::http) fn is_good(&self, token: &str, now: MonoNanos) -> bool {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.is_some_and(|(kept, until)| {
            now < until && verify_slices_are_equal(&kept.0, &hash(token).0).is_ok()
        })
    }

    /// It was used.
    pub(in crate::http) fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MONO_ORIGIN;

    #[test]
    fn a_token_is_good_for_an_hour_and_once() {
        let setup = Setup::default();
        assert!(!setup.is_good("", MONO_ORIGIN));
        let old = setup.begin(MONO_ORIGIN).unwrap();
        let token = setup.begin(MONO_ORIGIN).unwrap();
        assert!(!setup.is_good(&old, MONO_ORIGIN));
        assert!(setup.is_good(&token, MONO_ORIGIN) && setup.is_good(&token, MONO_ORIGIN));
        assert!(!setup.is_good(&token, MONO_ORIGIN.plus(SETUP_LIFE)));
        setup.end();
        assert!(!setup.is_good(&token, MONO_ORIGIN));
    }
}
