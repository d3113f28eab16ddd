//! Taps on the journal: every transition that was written down, in the order of the journal, as the engine
//! decided it.
//!
//! The journal keeps wall time, for people. Who compares verdicts with what was done to the fleet needs engine
//! time, which no clock step can move; a transition carries it, and here it is passed on after the batch is
//! durable. A tap is bounded: who does not drain it misses transitions, and is told how many. The
//! journal never waits for a reader.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use crate::health::Transition;
use crate::limits::{TAP_QUEUE, TAPS_MAX};

/// Reads what the journal wrote.
pub struct Tap {
    journalled: Receiver<Transition>,
    missed: Arc<AtomicU64>,
}

impl Tap {
    /// What was written since the last call, oldest first. Never waits.
    pub fn drain(&self) -> impl Iterator<Item = Transition> + '_ {
        self.journalled.try_iter()
    }

    /// Transitions that did not fit, because this tap was not drained in time.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

struct Outlet {
    to: Sender<Transition>,
    missed: Arc<AtomicU64>,
}

/// All taps of one journal. A dropped tap goes with the next batch.
#[derive(Default)]
pub struct Taps(Mutex<Vec<Outlet>>);

/// There are as many taps as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{TAPS_MAX} readers follow the journal already; end one of them first")]
pub struct TooManyTaps;

impl Taps {
    /// A new tap: sees every transition that is written from now on.
    pub fn open(&self) -> Result<Tap, TooManyTaps> {
        let mut outlets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if outlets.len() >= TAPS_MAX {
            return Err(TooManyTaps);
        }
        let (to, journalled) = bounded(TAP_QUEUE);
        let missed = Arc::new(AtomicU64::new(0));
        outlets.push(Outlet { to, missed: Arc::clone(&missed) });
        Ok(Tap { journalled, missed })
    }

    /// Passes on what was written.
    pub fn pass_on<'t>(&self, written: impl Iterator<Item = &'t Transition>) {
        let mut outlets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if outlets.is_empty() {
            return;
        }
        for transition in written {
            outlets.retain(|outlet| match outlet.to.try_send(transition.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    outlet.missed.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{RuleId, Subject, TransitionKind};
    use crate::time::{MonoNanos, UnixMillis};
    use crate::wire::id::SiteId;

    fn transition(at: u64) -> Transition {
        Transition {
            subject: Subject::Site(SiteId::from_number(1)),
            slot: None,
            rule: RuleId::SiteOutage,
            kind: TransitionKind::Raised,
            at: UnixMillis(0),
            at_mono: MonoNanos(at),
            since: UnixMillis(0),
            detection_delay: None,
            folded_into: None,
            muted: false,
            evidence: Vec::new(),
            clear_reason: None,
        }
    }

    #[test]
    fn every_tap_sees_everything_in_order_and_who_is_late_is_told() {
        let taps = Taps::default();
        let (one, other) = (taps.open().unwrap(), taps.open().unwrap());
        let written: Vec<_> = (1..=TAP_QUEUE as u64 + 3).map(transition).collect();
        taps.pass_on(written[..2].iter());
        assert_eq!(one.drain().map(|t| t.at_mono.0).collect::<Vec<_>>(), [1, 2]);
        taps.pass_on(written[2..].iter());
        assert_eq!((one.drain().count(), one.missed()), (TAP_QUEUE, 1));
        assert_eq!((other.drain().count(), other.missed()), (TAP_QUEUE, 3));
    }

    #[test]
    fn a_dropped_tap_makes_room() {
        let taps = Taps::default();
        let open: Vec<_> = (0..TAPS_MAX).map(|_| taps.open().unwrap()).collect();
        assert!(taps.open().is_err());
        drop(open);
        taps.pass_on([transition(1)].iter());
        assert!(taps.open().is_ok());
    }
}
