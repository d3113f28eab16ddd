//! When to connect again: by the reason of the loss, doubled while it goes on, jittered whole so that a
//! herd spreads, and never over a bound.

use std::fmt;
use std::time::Duration;

use quinn::ConnectionError;

use super::dice::Dice;
use crate::limits::{BACK_OFF_FIRST, BACK_OFF_MAX, CONNECTION_PROVEN, REFUSED_BACK_OFF, REPLACED_BACK_OFF};
use crate::wire::close::CloseCode;

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The server closed it and said why.
    Closed(CloseCode),
    /// The server closed it with a code that this version does not know.
    ClosedUnknown(u64),
    /// The server does not know this connection any more: it was restarted.
    Reset,
    /// Nothing came from the server for too long.
    TimedOut,
    /// The server's certificate leads to none of our roots.
    UnknownServer,
    /// The server says so of our certificate.
    UnknownToServer,
    /// The handshake or the transport failed; the text says how.
    Transport(String),
    /// The server's address could not be found or used.
    Address(String),
    /// We closed it ourselves, to come back with another certificate.
    Ourselves,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::Closed(code) => write!(f, "closed by the server: {}", code.text()),
            Loss::ClosedUnknown(code) => {
                write!(f, "closed by the server with code {code:#x}, which this version does not know")
            }
            Loss::Reset => f.write_str("the server was restarted"),
            Loss::TimedOut => f.write_str("no answer from the server"),
            Loss::UnknownServer => f.write_str(
                "the server's certificate leads to no root that is known here: another server answers, or its root was replaced while this sensor was off (then activate it anew)",
            ),
            Loss::UnknownToServer => f.write_str(
                "the server does not know the root of our certificate: it is another server, or the root was retired (then activate this sensor anew)",
            ),
            Loss::Transport(text) => write!(f, "connection failed: {text}"),
            Loss::Address(text) => write!(f, "the server's address can't be used: {text}"),
            Loss::Ourselves => f.write_str("closed by ourselves"),
        }
    }
}

impl From<ConnectionError> for Loss {
    fn from(error: ConnectionError) -> Loss {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let code = close.error_code.into_inner();
                CloseCode::from_code(code).map_or(Loss::ClosedUnknown(code), Loss::Closed)
            }
            // A TLS alert is 0x100 plus its number; 45 is certificate_expired (RFC 9001, 4.8; RFC 8446, 6).
            ConnectionError::ConnectionClosed(close) if u64::from(close.error_code) == 0x12d => {
                Loss::Closed(CloseCode::CertificateExpired)
            }
            // And 48 is unknown_ca.
            ConnectionError::ConnectionClosed(close) if u64::from(close.error_code) == 0x130 => {
                Loss::UnknownToServer
            }
            ConnectionError::TransportError(error) if u64::from(error.code) == 0x130 => Loss::UnknownServer,
            ConnectionError::Reset => Loss::Reset,
            ConnectionError::TimedOut => Loss::TimedOut,
            ConnectionError::LocallyClosed => Loss::Ourselves,
            other => Loss::Transport(other.to_string()),
        }
    }
}

/// The waits before connecting again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOffPolicy {
    /// Bound of the first wait.
    pub first: Duration,
    /// Bound of all waits that double.
    pub max: Duration,
    /// Least wait after another connection of the same identity took over.
    pub replaced: Duration,
    /// Least wait after a refusal that only a person can lift.
    pub refused: Duration,
}

impl Default for BackOffPolicy {
    fn default() -> BackOffPolicy {
        BackOffPolicy {
            first: BACK_OFF_FIRST,
            max: BACK_OFF_MAX,
            replaced: REPLACED_BACK_OFF,
            refused: REFUSED_BACK_OFF,
        }
    }
}

/// How often in a row it failed, and the wait that follows from it.
#[derive(Debug)]
pub(super) struct BackOff {
    policy: BackOffPolicy,
    failures: u32,
}

impl BackOff {
    pub(super) fn new(policy: BackOffPolicy) -> BackOff {
        BackOff { policy, failures: 0 }
    }

    /// The wait after this loss of a connection that was up this long (zero: it never was).
    pub(super) fn after(&mut self, loss: &Loss, up: Duration, dice: &mut Dice) -> Duration {
        if up >= CONNECTION_PROVEN {
            self.failures = 0;
        }
        let between = |least: Duration, dice: &mut Dice| least + dice.duration(least / 2);
        match loss {
            Loss::Ourselves => Duration::ZERO,
            Loss::Closed(CloseCode::Replaced) => between(self.policy.replaced, dice),
            Loss::Closed(
                CloseCode::NoIdentity
                | CloseCode::CertificateExpired
                | CloseCode::CertificateRevoked
                | CloseCode::UnknownIdentity
                | CloseCode::NotActive,
            ) => between(self.policy.refused, dice),
            _ => {
                let doubled = self.policy.first.saturating_mul(1 << self.failures.min(20));
                self.failures = self.failures.saturating_add(1);
                // Never at once: a refusal that comes quickly must not become a loop.
                self.policy.first / 20 + dice.duration(doubled.min(self.policy.max))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_start_anew_after_a_good_connection() {
        let policy = BackOffPolicy::default();
        let mut dice = Dice::new(1);
        let mut back_off = BackOff::new(policy);
        let mut bounds = Vec::new();
        for failure in 0..40 {
            let wait = back_off.after(&Loss::TimedOut, Duration::ZERO, &mut dice);
            let bound = policy.first.saturating_mul(1 << failure.min(20)).min(policy.max) + policy.first / 20;
            assert!(wait < bound, "{failure}: {wait:?}");
            assert!(wait >= policy.first / 20);
            bounds.push(wait);
        }
        assert!(bounds.iter().any(|wait| *wait > policy.max / 2), "{bounds:?}");
        let wait = back_off.after(&Loss::Reset, CONNECTION_PROVEN, &mut dice);
        assert!(wait <= policy.first * 21 / 20, "{wait:?}");
        assert!(back_off.after(&Loss::Reset, Duration::from_secs(1), &mut dice) <= policy.first * 41 / 20);
    }

    #[test]
    fn who_was_replaced_waits_for_minutes_and_who_was_refused_does_not_hammer() {
        let policy = BackOffPolicy::default();
        let mut dice = Dice::new(2);
        let mut back_off = BackOff::new(policy);
        for _ in 0..100 {
            let replaced = back_off.after(&Loss::Closed(CloseCode::Replaced), CONNECTION_PROVEN, &mut dice);
            assert!((policy.replaced..policy.replaced * 2).contains(&replaced));
            let revoked =
                back_off.after(&Loss::Closed(CloseCode::CertificateRevoked), Duration::ZERO, &mut dice);
            assert!((policy.refused..policy.refused * 2).contains(&revoked));
        }
        assert_eq!(back_off.after(&Loss::Ourselves, Duration::ZERO, &mut dice), Duration::ZERO);
    }
}
