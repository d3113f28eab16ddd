//! Who gets in: what to do with a connection attempt before any work is spent on it, and what is logged
//! about those who don't.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::limits::{HALF_OPEN_MAX, HALF_OPEN_RETRY, HALF_OPEN_SOURCES, LOG_PEERS_MAX};
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
    /// Drop it too: its source has its share of the half-open handshakes.
    IgnoreSource,
    /// Say that we are full.
    Refuse,
}

/// What is known when somebody wants to connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// Connections of the shard, half-open ones too.
    pub connections: usize,
    /// As many as it takes.
    pub connections_max: usize,
    /// Handshakes going on, of all.
    pub half_open: usize,
    /// Of those, the ones from this source.
    pub half_open_here: usize,
    /// It proved its address.
    pub proven: bool,
    /// The shard sends everybody away.
    pub draining: bool,
}

/// The rule.
///
/// A source holds no more half-open handshakes than are left for all others: alone at most half of them, two that
/// want everything a third each, and so on; some are always left (the rule by which switches share a buffer among
/// ports, Choudhury and Hahne 1998). A fixed small number would hold back the herd of a site behind one address:
/// half of [`HALF_OPEN_MAX`] at a round trip of 100 ms is 5,000 handshakes a second, more than a core can do.
pub(super) fn admit(attempt: Attempt) -> Admission {
    let left = HALF_OPEN_MAX.saturating_sub(attempt.half_open);
    if attempt.draining || attempt.connections >= attempt.connections_max {
        Admission::Refuse
    } else if left == 0 {
        Admission::Ignore
    } else if attempt.half_open >= HALF_OPEN_RETRY && !attempt.proven {
        // Not counted against the address: anybody can write somebody else's on an envelope.
        Admission::Retry
    } else if attempt.half_open_here >= left {
        Admission::IgnoreSource
    } else {
        Admission::Accept
    }
}

/// Who one party is, as far as addresses tell: an IPv4 address, or an IPv6 network of 64 bits, of which a
/// single host has every address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source(u64);

impl Source {
    pub(super) fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(address) => Source(u64::from(address.to_bits())),
            // No global network begins with 32 zero bits, so none is taken for an IPv4 address.
            IpAddr::V6(address) => Source((address.to_bits() >> 64) as u64),
        }
    }
}

/// Handshakes that go on, accepted or waiting for it, by source. Each entry holds one handshake at least, so
/// there are no more entries than handshakes, and the table is made once for as many.
#[derive(Debug)]
pub(super) struct HalfOpen {
    by_source: HashMap<Source, u16, ahash::RandomState>,
    all: usize,
}

impl HalfOpen {
    pub(super) fn new() -> HalfOpen {
        let by_source = HashMap::with_capacity_and_hasher(HALF_OPEN_SOURCES, ahash::RandomState::new());
        HalfOpen { by_source, all: 0 }
    }

    /// Of all sources.
    pub(super) fn all(&self) -> usize {
        self.all
    }

    /// Of this source.
    pub(super) fn from(&self, source: Source) -> usize {
        self.by_source.get(&source).map_or(0, |count| usize::from(*count))
    }

    /// One more.
    pub(super) fn begin(&mut self, source: Source) {
        self.all += 1;
        *self.by_source.entry(source).or_insert(0) += 1;
    }

    /// One is through, or given up.
    pub(super) fn end(&mut self, source: Source) {
        self.all -= 1;
        if let Some(count) = self.by_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
    }
}

const LOG_EVERY_NANOS: u64 = 60_000_000_000;

/// Lets one log line for each peer and minute pass, whichever shards the peer meets. The map is bounded: while it is
/// full of recent peers, lines of others are held back too, and counted. Locked only by who has something to say of a
/// peer that was refused.
#[derive(Clone, Debug, Default)]
pub(super) struct PeerLog(Arc<Mutex<Logged>>);

#[derive(Debug, Default)]
struct Logged {
    last: HashMap<IpAddr, MonoNanos, ahash::RandomState>,
    /// The map was found full of recent peers; not looked through again before this.
    full_until: MonoNanos,
}

impl PeerLog {
    /// True when a line about this peer may be written now.
    pub(super) fn may_log(&self, peer: IpAddr, now: MonoNanos) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).may_log(peer, now)
    }
}

impl Logged {
    fn may_log(&mut self, peer: IpAddr, now: MonoNanos) -> bool {
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

    const CALM: Attempt = Attempt {
        connections: 2_000,
        connections_max: 5_000,
        half_open: 0,
        half_open_here: 0,
        proven: false,
        draining: false,
    };

    #[test]
    fn the_busier_the_stricter() {
        let busy = Attempt { half_open: HALF_OPEN_RETRY, ..CALM };
        assert_eq!(admit(CALM), Admission::Accept);
        assert_eq!(admit(busy), Admission::Retry);
        assert_eq!(admit(Attempt { proven: true, ..busy }), Admission::Accept);
        let full = Attempt { half_open: HALF_OPEN_MAX, proven: true, ..CALM };
        assert_eq!(admit(full), Admission::Ignore);
        assert_eq!(admit(Attempt { connections: 5_000, proven: true, ..CALM }), Admission::Refuse);
        assert_eq!(admit(Attempt { draining: true, proven: true, ..CALM }), Admission::Refuse);
    }

    /// Sources that take what they can get, all with proven addresses: how many handshakes each holds.
    fn greedy(sources: u32) -> (Vec<usize>, HalfOpen) {
        let mut half_open = HalfOpen::new();
        let source = |n: u32| Source::of(IpAddr::from(n.to_be_bytes()));
        for number in (0..sources).cycle().take(2 * HALF_OPEN_MAX * sources as usize) {
            let (all, here) = (half_open.all(), half_open.from(source(number)));
            let attempt = Attempt { half_open: all, half_open_here: here, proven: true, ..CALM };
            match admit(attempt) {
                Admission::Accept => half_open.begin(source(number)),
                Admission::IgnoreSource => {}
                other => panic!("{other:?}"),
            }
        }
        ((0..sources).map(|number| half_open.from(source(number))).collect(), half_open)
    }

    #[test]
    fn whoever_takes_all_that_it_can_leaves_as_much_for_the_others() {
        assert_eq!(greedy(1).0, [HALF_OPEN_MAX / 2]);
        assert_eq!(greedy(3).0, [HALF_OPEN_MAX / 4; 3]);
        for sources in [2, 10, 100] {
            let (held, half_open) = greedy(sources);
            let left = HALF_OPEN_MAX - half_open.all();
            assert!(left >= HALF_OPEN_MAX / (sources as usize + 1) - 1, "{left} of {sources} sources");
            assert!(held.iter().all(|count| count.abs_diff(left) <= 1), "{held:?} and {left}");
        }
    }

    #[test]
    fn a_source_is_an_address_or_a_network_of_64_bits() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
    }

    #[test]
    fn the_table_of_sources_never_grows() {
        let mut half_open = HalfOpen::new();
        let room = half_open.by_source.capacity();
        let source = |n: u32| Source::of(IpAddr::from(n.to_be_bytes()));
        for number in 0..100_000 {
            half_open.begin(source(number));
            if let Some(gone) = number.checked_sub(HALF_OPEN_MAX as u32 - 1) {
                half_open.end(source(gone));
            }
            // Less while places of removed ones are not swept.
            assert!(half_open.by_source.capacity() <= room);
        }
        assert_eq!((half_open.all(), half_open.by_source.len()), (HALF_OPEN_MAX - 1, HALF_OPEN_MAX - 1));
    }

    #[test]
    fn one_line_for_each_peer_and_minute_within_bounded_memory() {
        let log = PeerLog::default();
        let peer = |n: u32| IpAddr::from(n.to_be_bytes());
        assert!(log.may_log(peer(1), MONO_ORIGIN));
        assert!(!log.may_log(peer(1), MONO_ORIGIN.plus(Duration::from_secs(59))));
        assert!(log.may_log(peer(1), MONO_ORIGIN.plus(Duration::from_secs(61))));
        let later = MONO_ORIGIN.plus(Duration::from_secs(500));
        let logged = (0..100_000).filter(|&n| log.may_log(peer(n), later)).count();
        assert_eq!(logged, LOG_PEERS_MAX);
        assert!(log.0.lock().unwrap().last.len() <= LOG_PEERS_MAX);
        assert!(log.may_log(peer(200_000), later.plus(Duration::from_secs(60))));
    }
}
