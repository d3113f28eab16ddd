//! Instants, and the one clock.
//!
//! Two time lines are kept apart on purpose. [`MonoNanos`] is the engine's own monotonic time: every
//! deadline, age and verdict uses it, and no clock step can move it. [`UnixMillis`] is wall time: it is
//! only ever shown to people, written to the journal, or compared with what a sensor claims.
//!
//! Nothing but [`SystemClock`] reads a clock (clippy's `disallowed-methods` enforces it), so a test drives
//! hours of engine time in milliseconds with [`ManualClock`].

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Where engine time starts. Far from zero, so that "three weeks before this process started" (a
/// last-seen restored from a checkpoint) is still a positive instant, and zero can mean "never".
pub const MONO_ORIGIN: MonoNanos = MonoNanos(4_000 * 24 * 3_600 * 1_000_000_000);

/// An instant of the engine's monotonic time, in nanoseconds. Zero means "never".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoNanos(pub u64);

impl MonoNanos {
    /// "Never happened": before every real instant.
    pub const NEVER: MonoNanos = MonoNanos(0);

    /// True when this is [`MonoNanos::NEVER`].
    pub fn is_never(self) -> bool {
        self.0 == 0
    }

    /// The instant `later` after this one, saturating.
    pub fn plus(self, later: Duration) -> MonoNanos {
        MonoNanos(self.0.saturating_add(nanos(later)))
    }

    /// The instant `earlier` before this one, never reaching [`MonoNanos::NEVER`].
    pub fn minus(self, earlier: Duration) -> MonoNanos {
        MonoNanos(self.0.saturating_sub(nanos(earlier)).max(1))
    }

    /// How long ago `earlier` was, zero when it lies ahead.
    pub fn since(self, earlier: MonoNanos) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// An instant of wall time, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The instant `earlier` before this one, saturating.
    pub fn minus(self, earlier: Duration) -> UnixMillis {
        UnixMillis(self.0.saturating_sub(millis_i64(earlier)))
    }

    /// The instant `later` after this one, saturating.
    pub fn plus(self, later: Duration) -> UnixMillis {
        UnixMillis(self.0.saturating_add(millis_i64(later)))
    }
}

/// Both time lines read at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Engine time.
    pub mono: MonoNanos,
    /// Wall time.
    pub unix: UnixMillis,
}

/// A source of [`Now`]. Injected; nothing else reads a clock.
pub trait Clock: Send + Sync + 'static {
    /// Engine time now.
    fn mono(&self) -> MonoNanos;
    /// Wall time now.
    fn unix(&self) -> UnixMillis;
    /// Both, read one after the other.
    fn now(&self) -> Now {
        Now { mono: self.mono(), unix: self.unix() }
    }
}

/// The machine's clocks (`CLOCK_MONOTONIC`, `CLOCK_REALTIME`).
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// Engine time starts at [`MONO_ORIGIN`] here. Make one and share it: two of them disagree.
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    pub fn start() -> SystemClock {
        SystemClock { start: std::time::Instant::now() }
    }

    /// The engine instant of an `Instant` that a library (QUIC, TLS) handed us.
    pub fn mono_of(&self, instant: std::time::Instant) -> MonoNanos {
        MONO_ORIGIN.plus(instant.saturating_duration_since(self.start))
    }

    /// The `Instant` that a library (QUIC, TLS) wants for an engine instant.
    pub fn instant_of(&self, mono: MonoNanos) -> std::time::Instant {
        self.start + mono.since(MONO_ORIGIN)
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    fn mono(&self) -> MonoNanos {
        self.mono_of(std::time::Instant::now())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    fn unix(&self) -> UnixMillis {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        UnixMillis(since_epoch.map_or_else(|before| -millis_i64(before.duration()), millis_i64))
    }
}

/// A clock that moves only when told to. For tests and simulation.
#[derive(Debug)]
pub struct ManualClock {
    mono: AtomicU64,
    unix: AtomicI64,
}

impl ManualClock {
    /// Engine time starts at [`MONO_ORIGIN`], wall time at `unix`.
    pub fn new(unix: UnixMillis) -> ManualClock {
        ManualClock { mono: AtomicU64::new(MONO_ORIGIN.0), unix: AtomicI64::new(unix.0) }
    }

    /// Moves both time lines forward.
    pub fn advance(&self, by: Duration) {
        self.mono.fetch_add(nanos(by), Ordering::Relaxed);
        self.unix.fetch_add(millis_i64(by), Ordering::Relaxed);
    }

    /// Steps wall time alone, as NTP or an operator would.
    pub fn step_unix(&self, by_ms: i64) {
        self.unix.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn mono(&self) -> MonoNanos {
        MonoNanos(self.mono.load(Ordering::Relaxed))
    }

    fn unix(&self) -> UnixMillis {
        UnixMillis(self.unix.load(Ordering::Relaxed))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn millis_i64(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// So many seconds after the beginning, for tests.
#[cfg(test)]
pub fn at_second(seconds: u64) -> MonoNanos {
    MONO_ORIGIN.plus(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_step_never_moves_engine_time() {
        let clock = ManualClock::new(UnixMillis(1_000));
        clock.step_unix(-5_000);
        assert_eq!(clock.mono(), MONO_ORIGIN);
        assert_eq!(clock.unix(), UnixMillis(-4_000));
    }

    #[test]
    fn going_back_before_the_process_started_stays_a_real_instant() {
        let week = Duration::from_secs(7 * 86_400);
        assert!(!MONO_ORIGIN.minus(week).is_never());
        assert_eq!(MONO_ORIGIN.since(MONO_ORIGIN.minus(week)), week);
        assert_eq!(MonoNanos(5).minus(week), MonoNanos(1));
    }
}
