//! Times as the API has them: RFC 3339, UTC, to the millisecond.

use std::time::Duration;

use crate::time::{MonoNanos, Now, UnixMillis};

/// A wall time. Years beyond what RFC 3339 can say are cut to its ends.
pub(super) fn rfc3339(at: UnixMillis) -> String {
    const FIRST: i64 = -62_167_219_200_000;
    const LAST: i64 = 253_402_207_199_999;
    let at =
        jiff::Timestamp::from_millisecond(at.0.clamp(FIRST, LAST)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{at:.3}")
}

/// An engine time as wall time, by how both stand now; `None` for "never".
pub(super) fn rfc3339_of(at: MonoNanos, now: Now) -> Option<String> {
    (!at.is_never()).then(|| rfc3339(wall(at, now)))
}

/// An engine time as wall time, by how both stand now.
pub(super) fn wall(at: MonoNanos, now: Now) -> UnixMillis {
    let ahead: Duration = at.since(now.mono);
    if ahead.is_zero() { now.unix.minus(now.mono.since(at)) } else { now.unix.plus(ahead) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MONO_ORIGIN;

    #[test]
    fn times_are_utc_to_the_millisecond() {
        assert_eq!(rfc3339(UnixMillis(1_764_000_000_007)), "2025-11-24T16:00:00.007Z");
        assert_eq!(rfc3339(UnixMillis(0)), "1970-01-01T00:00:00.000Z");
        assert!(rfc3339(UnixMillis(i64::MIN)).starts_with("0000-"));
        assert!(rfc3339(UnixMillis(i64::MAX)).starts_with("9999-"));
    }

    #[test]
    fn engine_time_is_shown_by_how_the_clocks_stand_now() {
        let now = Now { mono: MONO_ORIGIN.plus(Duration::from_secs(10)), unix: UnixMillis(100_000) };
        assert_eq!(wall(MONO_ORIGIN, now), UnixMillis(90_000));
        assert_eq!(wall(MONO_ORIGIN.plus(Duration::from_secs(11)), now), UnixMillis(101_000));
        assert_eq!(rfc3339_of(MonoNanos::NEVER, now), None);
    }
}
