//! Browser sessions: in memory, bounded, with an end when idle and an end in any case.
//!
//! The cookie holds 256 random bits and nothing else; what is kept is their hash. A restart ends all sessions,
//! and another password those of its user.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::secrets::{NoRandom, fresh, hash};
use crate::fleet::TokenHash;
use crate::limits::{SESSIONS_MAX, SESSIONS_PER_USER_MAX};
use crate::time::MonoNanos;
use crate::wire::id::UserId;

/// Tells the password that a user had when a session began from any other, and from none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Fingerprint(Option<TokenHash>);

impl Fingerprint {
    /// Of what the register keeps of a password: a hash with a salt, another for each that is set.
    pub(in crate::http) fn of(password: Option<&str>) -> Fingerprint {
        Fingerprint(password.map(hash))
    }
}

/// One session.
#[derive(Debug)]
pub(in crate::http) struct Session {
    /// Hash of its cookie.
    pub(in crate::http) key: TokenHash,
    /// Whose it is.
    pub(in crate::http) user: UserId,
    /// Must come with each request that writes.
    pub(in crate::http) csrf: String,
    /// Of the password that its user had: with another one the session is over, whoever was to end it.
    pub(in crate::http) password: Fingerprint,
    begun: MonoNanos,
    used: AtomicU64,
}

type Table = HashMap<TokenHash, Arc<Session>, ahash::RandomState>;

/// All sessions.
pub(in crate::http) struct Sessions {
    open: Mutex<Table>,
    /// How often one was ended, but for those that time ended.
    ended: AtomicU64,
    idle: Duration,
    longest: Duration,
}

impl Sessions {
    pub(in crate::http) fn new(idle: Duration, longest: Duration) -> Sessions {
        Sessions { open: Mutex::default(), ended: AtomicU64::new(0), idle, longest }
    }

    /// A new session; gives what goes into its cookie.
    pub(in crate::http) fn open(
        &self,
        user: UserId,
        password: Fingerprint,
        now: MonoNanos,
    ) -> Result<(String, Arc<Session>), NoRandom> {
        let (secret, csrf) = (fresh()?, fresh()?);
        let key = hash(&secret);
        let session =
            Arc::new(Session { key, user, csrf, password, begun: now, used: AtomicU64::new(now.0) });
        let mut open = self.lock();
        let of_user = || open.values().filter(|session| session.user == user);
        if of_user().count() >= SESSIONS_PER_USER_MAX {
            let oldest = of_user().min_by_key(|session| session.used()).map(|session| session.key);
            self.end(&mut open, oldest);
        }
        if open.len() >= SESSIONS_MAX {
            open.retain(|_, session| self.lasts(session, now));
        }
        if open.len() >= SESSIONS_MAX {
            let oldest = open.values().min_by_key(|session| session.used()).map(|session| session.key);
            self.end(&mut open, oldest);
        }
        open.insert(key, Arc::clone(&session));
        Ok((secret, session))
    }

    /// The session of a cookie, which is in use now.
    pub(in crate::http) fn find(&self, key: TokenHash, now: MonoNanos) -> Option<Arc<Session>> {
        let mut open = self.lock();
        let session = Arc::clone(open.get(&key)?);
        if !self.lasts(&session, now) {
            open.remove(&key);
            return None;
        }
        session.used.fetch_max(now.0, Ordering::Relaxed);
        Some(session)
    }

    /// How long a session lasts when nobody uses it from now on.
    pub(in crate::http) fn left(&self, session: &Session, now: MonoNanos) -> Duration {
        let left = self.longest.saturating_sub(now.since(session.begun));
        left.min(self.idle.saturating_sub(now.since(session.used())))
    }

    /// Whether it was not ended. Looking is no use of it.
    pub(in crate::http) fn is_open(&self, session: &Session) -> bool {
        self.lock().contains_key(&session.key)
    }

    /// How often one was ended, but for those that time ended. Counted once they are gone, and before who ended them
    /// goes on.
    pub(in crate::http) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends one.
    pub(in crate::http) fn close(&self, key: TokenHash) {
        self.end(&mut self.lock(), [key]);
    }

    /// Ends all of a user.
    pub(in crate::http) fn close_of(&self, user: UserId) {
        let mut open = self.lock();
        let keys: Vec<TokenHash> =
            open.values().filter(|session| session.user == user).map(|session| session.key).collect();
        self.end(&mut open, keys);
    }

    fn end(&self, open: &mut Table, keys: impl IntoIterator<Item = TokenHash>) {
        for key in keys {
            if open.remove(&key).is_some() {
                self.ended.fetch_add(1, Ordering::Release);
            }
        }
    }

    fn lasts(&self, session: &Session, now: MonoNanos) -> bool {
        !self.left(session, now).is_zero()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn used(&self) -> MonoNanos {
        MonoNanos(self.used.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MONO_ORIGIN;

    const NONE: Fingerprint = Fingerprint(None);

    fn at(minutes: u64) -> MonoNanos {
        MONO_ORIGIN.plus(Duration::from_secs(minutes * 60))
    }

    #[test]
    fn a_session_ends_when_idle_and_in_any_case() {
        let sessions = Sessions::new(Duration::from_secs(30 * 60), Duration::from_secs(12 * 3_600));
        let (secret, session) = sessions.open(UserId::from_number(1), NONE, at(0)).unwrap();
        assert_eq!(session.key, hash(&secret));
        assert_ne!(secret, session.csrf);
        for minute in (29..12 * 60).step_by(29) {
            assert!(sessions.find(session.key, at(minute)).is_some(), "{minute}");
        }
        assert!(sessions.find(session.key, at(12 * 60)).is_none(), "twelve hours are over");
        let (_, session) = sessions.open(UserId::from_number(1), NONE, at(0)).unwrap();
        assert!(sessions.find(session.key, at(30)).is_none(), "idle");
        assert!(sessions.find(session.key, at(1)).is_none(), "gone for good");
    }

    #[test]
    fn the_oldest_makes_room() {
        let sessions = Sessions::new(Duration::from_secs(1 << 30), Duration::from_secs(1 << 30));
        let user = UserId::from_number(1);
        let first = sessions.open(user, NONE, at(0)).unwrap().1;
        let second = sessions.open(user, NONE, at(1)).unwrap().1;
        sessions.find(first.key, at(5)).unwrap();
        for minute in 10..10 + SESSIONS_PER_USER_MAX as u64 - 1 {
            sessions.open(user, NONE, at(minute)).unwrap();
        }
        assert!(sessions.find(first.key, at(100)).is_some(), "it was used since");
        assert!(sessions.find(second.key, at(100)).is_none());
        for number in 2..SESSIONS_MAX as u64 + 100 {
            sessions.open(UserId::from_number(number), NONE, at(200)).unwrap();
        }
        assert_eq!(sessions.lock().len(), SESSIONS_MAX);
        assert!(sessions.find(first.key, at(200)).is_none());
        // The newest: which of those that were used at the same time made room is left to chance.
        sessions.close_of(UserId::from_number(SESSIONS_MAX as u64 + 99));
        assert_eq!(sessions.lock().len(), SESSIONS_MAX - 1);
    }
}
