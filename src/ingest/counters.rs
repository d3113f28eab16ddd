//! What the shards count: plain atomics, one set for each shard, written by that shard alone.
//!
//! A count is a relaxed load and a relaxed store, not a locked add: there is one writer. Readers (metrics,
//! tests, `load`) take a [`snapshot`](IngestCounters::snapshot) whenever they like and see every count at
//! most a moment old. Reasons are bounded lists, so the counts are arrays and the label set is known
//! before the first packet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn_proto::ConnectionError;

use crate::live::Observed;
use crate::wire::close::CloseCode;
use crate::wire::enrol::EnrolRefusal;
use crate::wire::frame::FrameError;

/// A count with one writer.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds, by the one writer.
    #[inline]
    pub(super) fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Takes away, by the one writer.
    #[inline]
    pub(super) fn sub(&self, less: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(less), Ordering::Relaxed);
    }

    /// Sets, by the one writer.
    #[inline]
    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($name:ident: $kind:ident, $doc:literal;)+) => {
        /// Counts of one shard, live.
        #[derive(Debug)]
        pub struct ShardCounters {
            $(#[doc = $doc] pub $name: Count,)+
            /// Connections closed by us, by reason (place in [`CloseCode::ALL`]).
            pub closed: [Count; CloseCode::ALL.len()],
            /// Frames that could not be read, by reason (place in [`FrameError::LABELS`]).
            pub unreadable: [Count; FrameError::LABELS.len()],
            /// Frames that were read, by what became of them (place in [`Observed::ALL`]).
            pub observed: [Count; Observed::ALL.len()],
            /// Handshakes that failed, by reason (place in [`HANDSHAKE_FAILURES`]).
            pub handshake_failures: [Count; HANDSHAKE_FAILURES.len()],
            /// Connections to the enrolment port, by how they ended ([`EnrolOutcome`]).
            pub enrolments: [Count; EnrolOutcome::COUNT],
            /// From receipt of the batch to the end of its handling.
            pub lag: Lag,
        }

        impl Default for ShardCounters {
            fn default() -> ShardCounters {
                ShardCounters {
                    $($name: Count::default(),)+
                    closed: std::array::from_fn(|_| Count::default()),
                    unreadable: std::array::from_fn(|_| Count::default()),
                    observed: std::array::from_fn(|_| Count::default()),
                    handshake_failures: std::array::from_fn(|_| Count::default()),
                    enrolments: std::array::from_fn(|_| Count::default()),
                    lag: Lag::default(),
                }
            }
        }

        /// Counts of one shard, or of several together, at one moment.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct CountersSnapshot {
            $(#[doc = $doc] pub $name: u64,)+
            /// Connections closed by us: (reason, count), every reason.
            pub closed: Vec<(&'static str, u64)>,
            /// Frames that could not be read: (reason, count), every reason.
            pub unreadable: Vec<(&'static str, u64)>,
            /// Frames that were read: (what became of them, count), every case.
            pub observed: Vec<(&'static str, u64)>,
            /// Handshakes that failed: (reason, count), every reason.
            pub handshake_failures: Vec<(&'static str, u64)>,
            /// Connections to the enrolment port: (how they ended, count), every case.
            pub enrolments: Vec<(&'static str, u64)>,
            /// Lag of handled frames.
            pub lag: LagSnapshot,
        }

        impl ShardCounters {
            /// The values now.
            pub fn snapshot(&self) -> CountersSnapshot {
                CountersSnapshot {
                    $($name: self.$name.get(),)+
                    closed: labelled(CloseCode::ALL.iter().map(|code| code.label()), &self.closed),
                    unreadable: labelled(FrameError::LABELS.iter().copied(), &self.unreadable),
                    observed: labelled(Observed::ALL.iter().map(|what| what.label()), &self.observed),
                    handshake_failures: labelled(HANDSHAKE_FAILURES.iter().copied(), &self.handshake_failures),
                    enrolments: labelled(EnrolOutcome::all().map(EnrolOutcome::label), &self.enrolments),
                    lag: self.lag.snapshot(),
                }
            }
        }

        impl CountersSnapshot {
            /// Every plain count: (name, meaning, is it a gauge, value). For metrics.
            pub fn plain(&self) -> Vec<(&'static str, &'static str, bool, u64)> {
                vec![$((stringify!($name), $doc, stringify!($kind) == "gauge", self.$name),)+]
            }

            /// Adds another shard's counts. Gauges add up too: they are all amounts.
            pub fn add(&mut self, other: &CountersSnapshot) {
                $(self.$name += other.$name;)+
                add_labelled(&mut self.closed, &other.closed);
                add_labelled(&mut self.unreadable, &other.unreadable);
                add_labelled(&mut self.observed, &other.observed);
                add_labelled(&mut self.handshake_failures, &other.handshake_failures);
                add_labelled(&mut self.enrolments, &other.enrolments);
                self.lag.add(&other.lag);
            }
        }
    };
}

counters! {
    packets: counter, "UDP datagrams received.";
    bytes: counter, "UDP payload bytes received.";
    batches: counter, "Receive calls that brought packets.";
    kernel_drops: counter, "Packets that the kernel dropped because the socket's receive buffer was full.";
    receive_errors: counter, "Receive calls that failed.";
    sent: counter, "UDP datagrams sent.";
    send_blocked: counter, "Sends that found the socket's send buffer full.";
    send_dropped: counter, "Datagrams not sent: an error, or no room to keep an answer.";
    unroutable: counter, "Packets that belong to no connection and start none: garbage, another shard's, or too late.";
    answers: counter, "Answers without a connection: stateless resets, version negotiation, early refusals.";
    initials: counter, "Connection attempts.";
    retried: counter, "Attempts that had to prove their address first (Retry).";
    ignored: counter, "Attempts left without an answer: too many half-open handshakes.";
    ignored_source: counter, "Attempts left without an answer: their source has its share of the half-open handshakes.";
    refused_full: counter, "Attempts refused: the shard is full.";
    refused_draining: counter, "Attempts refused: the server drains before a planned stop.";
    refused_early: counter, "Attempts that failed with their first packet: no valid handshake, wrong ALPN. By reason among the failed handshakes.";
    handshakes: counter, "Handshakes completed.";
    handshakes_failed: counter, "Handshakes that failed: certificate, protocol version, ALPN, cipher, or lost.";
    handshakes_timed_out: counter, "Handshakes that took too long and were dropped.";
    broken: counter, "Established connections that ended because the peer broke the protocol.";
    lost: counter, "Established connections that ended without a goodbye: idle, reset or broken.";
    closed_by_peer: counter, "Established connections that the peer closed.";
    frames: counter, "Frames read.";
    frames_appended: counter, "Frames of a newer schema: the known part was read.";
    frames_unknown_values: counter, "Frames with an enum value that this version does not know; read as unknown.";
    not_covered: counter, "Frames for sensors that the certificate does not cover.";
    unknown_sensor: counter, "Frames from a gateway for sensors that are not registered.";
    streams_refused: counter, "Streams that the protocol does not have; the connection was closed.";
    acks_elicited: counter, "Pings sent so that a peer acknowledges our packets.";
    replaced: counter, "Connections that lost their slot to a newer one of the same identity.";
    control_sent: counter, "Control messages sent.";
    control_answered: counter, "Control messages answered.";
    control_failed: counter, "Control messages without an answer: no stream, no reply in time, or unreadable.";
    inbox_full: counter, "Commands between shards that found the inbox full.";
    commands: counter, "Commands taken from the inbox.";
    turns: counter, "Turns of the loop.";
    log_suppressed: counter, "Log lines held back: at most one for each peer and minute.";
    connections: gauge, "Connections now, closing ones included.";
    half_open: gauge, "Handshakes going on now.";
    sensors: gauge, "Sensors connected now.";
    gateways: gauge, "Gateways connected now.";
    gateway_window_bytes: gauge, "Receive windows granted to gateways, together.";
    receive_buffer_bytes: gauge, "Receive buffer that the kernel granted.";
    tls_generation: gauge, "Generation of the TLS configuration in use.";
}

/// Why handshakes fail, in the words of metrics.
pub const HANDSHAKE_FAILURES: [&str; 12] = [
    "no_certificate",
    "bad_certificate",
    "certificate_expired",
    "certificate_revoked",
    "unknown_ca",
    "no_application_protocol",
    "no_common_parameters",
    "bad_signature",
    "other_tls",
    "transport",
    "refused_by_peer",
    "lost",
];

/// How a connection to the enrolment port ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrolOutcome {
    /// With a certificate.
    Enrolled,
    /// Without a whole request, or without an answer in time.
    TimedOut,
    /// At once: its source has its share of the connections.
    Crowded,
    /// Before it had an answer, because the peer or the server went away.
    Left,
    /// With a refusal.
    Refused(EnrolRefusal),
}

impl EnrolOutcome {
    const COUNT: usize = 4 + EnrolRefusal::ALL.len();

    /// Every case, in the order of its count.
    pub fn all() -> impl Iterator<Item = EnrolOutcome> {
        let refused = EnrolRefusal::ALL.iter().map(|&refusal| EnrolOutcome::Refused(refusal));
        let others =
            [EnrolOutcome::Enrolled, EnrolOutcome::TimedOut, EnrolOutcome::Crowded, EnrolOutcome::Left];
        others.into_iter().chain(refused)
    }

    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            EnrolOutcome::Enrolled => "enrolled",
            EnrolOutcome::TimedOut => "timed-out",
            EnrolOutcome::Crowded => "crowded",
            EnrolOutcome::Left => "left",
            EnrolOutcome::Refused(refusal) => refusal.label(),
        }
    }
}

/// Place of a failed handshake's reason in [`HANDSHAKE_FAILURES`].
pub(super) fn handshake_failure(reason: &ConnectionError) -> usize {
    let label = match reason {
        // A TLS alert is 0x100 plus its number (RFC 9001, 4.8; RFC 8446, 6).
        ConnectionError::TransportError(error) => match u64::from(error.code) {
            0x174 => "no_certificate",
            0x12a | 0x12b | 0x12e => "bad_certificate",
            0x12d => "certificate_expired",
            0x12c => "certificate_revoked",
            0x130 => "unknown_ca",
            0x178 => "no_application_protocol",
            0x128 | 0x146 | 0x12f => "no_common_parameters",
            0x133 => "bad_signature",
            0x100..=0x1ff => "other_tls",
            _ => "transport",
        },
        ConnectionError::ConnectionClosed(_) | ConnectionError::ApplicationClosed(_) => "refused_by_peer",
        _ => "lost",
    };
    HANDSHAKE_FAILURES.iter().position(|&known| known == label).unwrap_or(HANDSHAKE_FAILURES.len() - 1)
}

fn labelled(labels: impl Iterator<Item = &'static str>, counts: &[Count]) -> Vec<(&'static str, u64)> {
    labels.zip(counts).map(|(label, count)| (label, count.get())).collect()
}

fn add_labelled(sum: &mut Vec<(&'static str, u64)>, more: &[(&'static str, u64)]) {
    if sum.is_empty() {
        sum.extend_from_slice(more);
        return;
    }
    for (mine, theirs) in sum.iter_mut().zip(more) {
        mine.1 += theirs.1;
    }
}

impl ShardCounters {
    pub(super) fn close(&self, code: CloseCode) {
        if let Some(place) = CloseCode::ALL.iter().position(|&c| c == code) {
            self.closed[place].add(1);
        }
    }

    pub(super) fn enrolment(&self, outcome: EnrolOutcome) {
        if let Some(place) = EnrolOutcome::all().position(|other| other == outcome) {
            self.enrolments[place].add(1);
        }
    }

    /// An attempt is refused because we drain, or else because we are full.
    pub(super) fn refuse(&self, draining: bool) {
        let count = if draining { &self.refused_draining } else { &self.refused_full };
        count.add(1);
    }
}

impl CountersSnapshot {
    /// Connections closed by us for this reason.
    pub fn closed_for(&self, code: CloseCode) -> u64 {
        self.closed.iter().find(|(label, _)| *label == code.label()).map_or(0, |(_, count)| *count)
    }

    /// Connections to the enrolment port that ended like this.
    pub fn enrolments_as(&self, outcome: EnrolOutcome) -> u64 {
        self.enrolments.iter().find(|(label, _)| *label == outcome.label()).map_or(0, |(_, count)| *count)
    }

    /// Frames that could not be read for this reason.
    pub fn unreadable_for(&self, label: &str) -> u64 {
        self.unreadable.iter().find(|(l, _)| *l == label).map_or(0, |(_, count)| *count)
    }

    /// Frames that were read and ended like this.
    pub fn observed_as(&self, what: Observed) -> u64 {
        self.observed.iter().find(|(l, _)| *l == what.label()).map_or(0, |(_, count)| *count)
    }
}

/// Bits of precision within a power of two: four buckets each, so a bucket is at most 25 % wide.
const LAG_PRECISION: u32 = 2;
/// Powers of two that are told apart, from 1 µs to 2^25 µs (33 s).
const LAG_POWERS: u32 = 26;
const LAG_BUCKETS: usize = ((LAG_POWERS + 1) << LAG_PRECISION) as usize;

/// A histogram of durations in microseconds with log-linear buckets.
#[derive(Debug)]
pub struct Lag {
    buckets: [Count; LAG_BUCKETS],
    sum_us: Count,
    max_us: Count,
}

impl Default for Lag {
    fn default() -> Lag {
        Lag {
            buckets: std::array::from_fn(|_| Count::default()),
            sum_us: Count::default(),
            max_us: Count::default(),
        }
    }
}

fn lag_bucket(us: u64) -> usize {
    let us = us.min((1 << LAG_POWERS) - 1);
    if us < 1 << LAG_PRECISION {
        return us as usize;
    }
    let power = us.ilog2();
    let within = (us >> (power - LAG_PRECISION)) & ((1 << LAG_PRECISION) - 1);
    (((power - LAG_PRECISION + 1) << LAG_PRECISION) as u64 + within) as usize
}

/// Largest value in a bucket, in microseconds.
fn lag_bound(bucket: usize) -> u64 {
    let (group, within) = (bucket >> LAG_PRECISION, (bucket & ((1 << LAG_PRECISION) - 1)) as u64);
    if group == 0 {
        return within;
    }
    let shift = group as u32 - 1;
    (((1 << LAG_PRECISION) + within + 1) << shift) - 1
}

impl Lag {
    /// Counts `times` frames that all took `lag`.
    pub(super) fn record(&self, lag: Duration, times: u64) {
        let us = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
        self.buckets[lag_bucket(us)].add(times);
        self.sum_us.add(us.saturating_mul(times));
        if us > self.max_us.get() {
            self.max_us.set(us);
        }
    }

    /// The values now.
    pub fn snapshot(&self) -> LagSnapshot {
        LagSnapshot {
            buckets: self.buckets.iter().map(Count::get).collect(),
            sum_us: self.sum_us.get(),
            max_us: self.max_us.get(),
        }
    }
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LagSnapshot {
    buckets: Vec<u64>,
    /// Sum of all, in microseconds.
    pub sum_us: u64,
    /// Longest, in microseconds.
    pub max_us: u64,
}

impl LagSnapshot {
    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Every bucket that is not empty: its largest value in microseconds, and how many are in it.
    pub fn recorded(&self) -> impl Iterator<Item = (u64, u64)> {
        let buckets = self.buckets.iter().enumerate();
        buckets.filter(|(_, count)| **count > 0).map(|(bucket, &count)| (lag_bound(bucket), count))
    }

    /// How many took at most `us`; a bucket counts when it lies wholly below.
    pub fn at_most(&self, us: u64) -> u64 {
        self.buckets
            .iter()
            .enumerate()
            .filter(|(bucket, _)| lag_bound(*bucket) <= us)
            .map(|(_, count)| count)
            .sum()
    }

    /// The value that a share (0 to 1) of all do not exceed, in microseconds.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return lag_bound(bucket).min(self.max_us);
            }
        }
        0
    }

    /// What was counted after `earlier` was taken.
    pub fn minus(&self, earlier: &LagSnapshot) -> LagSnapshot {
        let before = |place: usize| earlier.buckets.get(place).copied().unwrap_or(0);
        LagSnapshot {
            buckets: self
                .buckets
                .iter()
                .enumerate()
                .map(|(place, &count)| count - before(place).min(count))
                .collect(),
            sum_us: self.sum_us.saturating_sub(earlier.sum_us),
            max_us: self.max_us,
        }
    }

    fn add(&mut self, other: &LagSnapshot) {
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
        } else {
            for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
                *mine += theirs;
            }
        }
        self.sum_us += other.sum_us;
        self.max_us = self.max_us.max(other.max_us);
    }
}

/// Counts of all shards and of the enrolment port.
#[derive(Debug)]
pub struct IngestCounters {
    /// One for each shard, in order.
    pub shards: Vec<std::sync::Arc<ShardCounters>>,
    /// The enrolment port.
    pub enrolment: std::sync::Arc<ShardCounters>,
}

impl IngestCounters {
    pub(super) fn new(shards: usize) -> IngestCounters {
        IngestCounters {
            shards: (0..shards).map(|_| std::sync::Arc::default()).collect(),
            enrolment: std::sync::Arc::default(),
        }
    }

    /// All shards together, without the enrolment port.
    pub fn snapshot(&self) -> CountersSnapshot {
        let mut sum = CountersSnapshot::default();
        for shard in &self.shards {
            sum.add(&shard.snapshot());
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lag_falls_in_the_bucket_that_bounds_it() {
        let mut last = 0;
        for us in (0..5_000).chain([1 << 20, (1 << 26) - 1, u64::MAX]) {
            let bucket = lag_bucket(us);
            assert!(bucket >= last && bucket < LAG_BUCKETS, "{us}");
            last = bucket;
            let us = us.min((1 << LAG_POWERS) - 1);
            assert!(us <= lag_bound(bucket), "{us}");
            assert!(bucket == 0 || us > lag_bound(bucket - 1), "{us}");
        }
    }

    #[test]
    fn quantiles_and_differences() {
        let lag = Lag::default();
        lag.record(Duration::from_micros(100), 99);
        let before = lag.snapshot();
        lag.record(Duration::from_millis(10), 1);
        let after = lag.snapshot();
        assert_eq!(after.count(), 100);
        assert!((100..=125).contains(&after.quantile_us(0.5)));
        assert_eq!(after.quantile_us(1.0), 10_000);
        assert_eq!(after.minus(&before).count(), 1);
        assert_eq!(after.at_most(200), 99);
        assert_eq!(LagSnapshot::default().quantile_us(0.5), 0);
    }

    #[test]
    fn shards_add_up() {
        let counters = IngestCounters::new(2);
        counters.shards[0].packets.add(2);
        counters.shards[1].packets.add(3);
        counters.shards[1].close(CloseCode::Replaced);
        let sum = counters.snapshot();
        assert_eq!(sum.packets, 5);
        assert_eq!(sum.closed_for(CloseCode::Replaced), 1);
        assert!(
            sum.plain().iter().any(|(name, _, gauge, value)| *name == "packets" && !gauge && *value == 5)
        );
    }
}
