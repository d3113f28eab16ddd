//! How late the simulated fleet is. Its sensors share a few threads with each other, and the machine with the
//! server; on one that is too busy they are truly silent, without a fault in the script. Then what
//! looks false may be right, so the report says how late they were.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::time::{Clock, MonoNanos, SystemClock};

/// Time between two looks; as often as the fastest heartbeat.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Sensors that were later than this make a result doubtful.
pub const TOO_LATE: Duration = Duration::from_secs(1);

/// The latest that a timer of the fleet's threads came, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latest {
    /// By how much.
    pub by: Duration,
    /// When it came.
    pub at: MonoNanos,
}

/// Measures on the fleet's threads.
#[derive(Clone, Default)]
pub struct Lateness(Arc<Mutex<Latest>>);

impl Lateness {
    /// The latest since the start, or since it was forgotten.
    pub fn latest(&self) -> Latest {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts over.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Latest::default();
    }

    /// Measures for ever. A task among those of the fleet, so that it waits as they do.
    pub async fn measure(self, clock: SystemClock) {
        let mut due = clock.mono();
        loop {
            due = due.plus(LOOK_EVERY);
            tokio::time::sleep_until(clock.instant_of(due).into()).await;
            let at = clock.mono();
            self.note(Latest { by: at.since(due), at });
            due = due.max(at);
        }
    }

    fn note(&self, now: Latest) {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.by > latest.by {
            *latest = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MONO_ORIGIN;

    #[test]
    fn the_latest_is_kept_until_it_is_forgotten() {
        let lateness = Lateness::default();
        let late =
            |ms| Latest { by: Duration::from_millis(ms), at: MONO_ORIGIN.plus(Duration::from_secs(ms)) };
        [5, 70, 20].into_iter().for_each(|ms| lateness.note(late(ms)));
        assert_eq!(lateness.latest(), late(70));
        lateness.forget();
        assert_eq!(lateness.latest(), Latest::default());
    }
}
