//! Times on the command line.

use crate::time::UnixMillis;

/// A time as people write it: RFC 3339.
pub(super) fn time(text: &str) -> Result<UnixMillis, String> {
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => Ok(UnixMillis(at.as_millisecond())),
        Err(_) => Err("write it as 2026-11-25T08:00:00Z, with Z or an offset".to_owned()),
    }
}

/// As the API takes it; a time beyond the calendar is the calendar's first.
pub(super) fn rfc3339(at: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_string()
}
