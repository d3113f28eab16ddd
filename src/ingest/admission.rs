//! Who gets in: what to do with a connection attempt before any work is spent on it, and what is logged
//! about those who don't.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::limits::{HALF_OPEN_MAX, HALF_OPEN_RETRY, LOG_PEERS_MAX};
use crate::time::MonoNanos;

/// What happens to a connection attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Start the handshake.
    Accept,
    /// Make it prove its address first: costs us no state.
    Retry,
    /// Drop it. The peer tries again by itself; an answer would cost more than it is worth.
    Ignore,
    /// Say that we are full.
    Refuse,
}

/// The rule. `connections` counts all of the shard, half-open ones too.
pub(super) fn admit(
    connections: usize,
    connections_max: usize,
    half_open: usize,
    proven: bool,
    draining: bool,
) -> Admission {
    if draining || connections >= connections_max {
        Admission::Refuse
    } else if half_open >= HALF_OPEN_MAX {
        Admission::Ignore
    } else if half_open >= HALF_OPEN_RETRY && !proven {
        Admission::Retry
    } else {
        Admission::Accept
    }
}

const LOG_EVERY_NANOS: u64 = 60_000_000_000;

/// Lets one log line for each peer and minute pass. The map is bounded: while it is full of recent peers,
/// lines of others are held back too, and counted.
#[derive(Debug, Default)]
pub(super) struct PeerLog {
    last: HashMap<IpAddr, MonoNanos, ahash::RandomState>,
    /// The map was found full of recent peers; not looked through again before this.
    full_until: MonoNanos,
}

impl PeerLog {
    /// True when a line about this peer may be written now.
    pub(super) fn may_log(&mut self, peer: IpAddr, now: MonoNanos) -> bool {
        let recent = |at: &MonoNanos| now.0.saturating_sub(at.0) < LOG_EVERY_NANOS;
        if self.last.get(&peer).is_some_and(recent) {
            return false;
        }
        if self.last.len() >= LOG_PEERS_MAX && !self.last.contains_key(&peer) {
            if now < self.full_until {
                return false;
            }
            self.last.retain(|_, at| recent(at));
            if self.last.len() >= LOG_PEERS_MAX {
                self.full_until = now.plus(Duration::from_secs(1));
                return false;
            }
        }
        self.last.insert(peer, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MONO_ORIGIN;

    #[test]
    fn the_busier_the_stricter() {
        assert_eq!(admit(10, 100, 0, false, false), Admission::Accept);
        assert_eq!(admit(1_000, 5_000, HALF_OPEN_RETRY, false, false), Admission::Retry);
        assert_eq!(admit(1_000, 5_000, HALF_OPEN_RETRY, true, false), Admission::Accept);
        assert_eq!(admit(2_000, 5_000, HALF_OPEN_MAX, true, false), Admission::Ignore);
        assert_eq!(admit(5_000, 5_000, 0, true, false), Admission::Refuse);
        assert_eq!(admit(0, 5_000, 0, true, true), Admission::Refuse);
    }

    #[test]
    fn one_line_for_each_peer_and_minute_within_bounded_memory() {
        let mut log = PeerLog::default();
        let peer = |n: u32| IpAddr::from(n.to_be_bytes());
        assert!(log.may_log(peer(1), MONO_ORIGIN));
        assert!(!log.may_log(peer(1), MONO_ORIGIN.plus(Duration::from_secs(59))));
        assert!(log.may_log(peer(1), MONO_ORIGIN.plus(Duration::from_secs(61))));
        let later = MONO_ORIGIN.plus(Duration::from_secs(500));
        let logged = (0..100_000).filter(|&n| log.may_log(peer(n), later)).count();
        assert_eq!(logged, LOG_PEERS_MAX);
        assert!(log.last.len() <= LOG_PEERS_MAX);
        assert!(log.may_log(peer(200_000), later.plus(Duration::from_secs(60))));
    }
}
