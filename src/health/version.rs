//! Software versions: reading, ordering, and whether one is still supported.
//!
//! The end of support is never computed from a release date: it is data, a row for each release, with a
//! rule only for what the table does not know. The day is given in, so a verdict can be replayed.

use std::cmp::Ordering;
use std::fmt;

use crate::time::UnixMillis;

/// Numbers that a version can have.
const PARTS_MAX: usize = 6;

/// A version such as `22.3.7`, `22.1.4.8-r-6372aad` or `2020.11.01.1643`.
///
/// Ordered by its numbers, a missing one counting as zero. What follows the first `-` names a build; it
/// has no order and is left out.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    parts: [u32; PARTS_MAX],
    count: u8,
}

impl Version {
    /// Reads a version; `None` for a text that is none.
    pub fn parse(text: &str) -> Option<Version> {
        let numbers = text.split_once('-').map_or(text, |(numbers, _build)| numbers);
        let mut version = Version { parts: [0; PARTS_MAX], count: 0 };
        for part in numbers.split('.') {
            if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            *version.parts.get_mut(usize::from(version.count))? = part.parse().ok()?;
            version.count += 1;
        }
        (version.count >= 2).then_some(version)
    }

    fn starts_with(&self, line: &Version) -> bool {
        let count = usize::from(line.count);
        self.parts[..count] == line.parts[..count]
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Version) -> bool {
        self.parts == other.parts
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        self.parts.cmp(&other.parts)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, part) in self.parts[..usize::from(self.count)].iter().enumerate() {
            write!(f, "{}{part}", if place == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

/// A day, counted from 1970-01-01 (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i64);

impl Day {
    /// The day of an instant.
    pub fn of(at: UnixMillis) -> Day {
        Day(at.0.div_euclid(86_400_000))
    }

    /// Reads `2026-11-24`.
    pub fn parse(text: &str) -> Option<Day> {
        let mut parts = text.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        let (year, month, day) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
        if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        Some(Day::civil(year, month, day))
    }

    /// The last day of a month written as `2026-11`.
    pub fn month_end(text: &str) -> Option<Day> {
        let (year, month) = text.split_once('-')?;
        let (year, month): (i64, i64) = (year.parse().ok()?, month.parse().ok()?);
        if !(1..=12).contains(&month) {
            return None;
        }
        let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        Some(Day(Day::civil(next.0, next.1, 1).0 - 1))
    }

    /// Days from the civil calendar: eras of 400 years, years that start in March.
    fn civil(year: i64, month: i64, day: i64) -> Day {
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        Day(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
    }
}

/// Whether a version is supported: an axis of its own, beside severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SupportState {
    /// Not said, or not readable.
    #[default]
    Unknown,
    /// Supported, and the newest.
    Supported,
    /// Supported, and a newer version exists.
    Outdated,
    /// Past the end of its support.
    Unsupported,
}

impl SupportState {
    /// All states.
    pub const ALL: [SupportState; 4] =
        [SupportState::Unknown, SupportState::Supported, SupportState::Outdated, SupportState::Unsupported];

    /// Its name, also the metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            SupportState::Unknown => "unknown",
            SupportState::Supported => "supported",
            SupportState::Outdated => "outdated",
            SupportState::Unsupported => "unsupported",
        }
    }
}

/// One release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its version; longer versions that begin with it belong to it.
    pub version: Version,
    /// The day it came out.
    pub released: Day,
    /// The last day of its support.
    pub supported_until: Day,
}

/// Releases in order, with the end of their support.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionTable {
    releases: Vec<Release>,
}

/// A row of a version table that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("version table, row {row}: {what}")]
pub struct BadVersionTable {
    /// Which row, from 1.
    pub row: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Our own line as of this build: version, day of release, last month of support.
/// A file of the same form replaces it (key `versions` in the configuration).
pub const RELEASES: &[(&str, &str, &str)] = &[
    ("22.1.4", "2022-04-12", "2023-03"),
    ("22.2.7", "2022-10-18", "2023-10"),
    ("22.3.7", "2023-03-21", "2024-03"),
    ("23.1.3", "2023-11-07", "2024-11"),
    ("24.1.6", "2024-11-12", "2025-12"),
    ("25.1.1", "2025-04-08", "2026-04"),
    ("25.2.0", "2025-10-14", "2026-10"),
    ("26.1.2", "2026-03-10", "2027-03"),
    ("26.2.0", "2026-09-08", "2027-09"),
];

impl Default for VersionTable {
    fn default() -> VersionTable {
        VersionTable::from_rows(RELEASES.iter().copied()).unwrap_or(VersionTable { releases: Vec::new() })
    }
}

impl VersionTable {
    /// Reads rows of version, day of release, last month of support.
    pub fn from_rows<'t>(
        rows: impl IntoIterator<Item = (&'t str, &'t str, &'t str)>,
    ) -> Result<VersionTable, BadVersionTable> {
        let mut releases: Vec<Release> = Vec::new();
        for (index, (version, released, until)) in rows.into_iter().enumerate() {
            let bad = |what| BadVersionTable { row: index + 1, what };
            let release = Release {
                version: Version::parse(version).ok_or(bad("the version is not like 22.3.7"))?,
                released: Day::parse(released).ok_or(bad("the day of release is not like 2026-11-24"))?,
                supported_until: Day::month_end(until)
                    .ok_or(bad("the end of support is not like 2026-11"))?,
            };
            if release.supported_until < release.released {
                return Err(bad("the end of support lies before the release"));
            }
            if releases.iter().any(|known| known.version == release.version) {
                return Err(bad("this version is there twice"));
            }
            releases.push(release);
        }
        releases.sort_by_key(|release| release.version);
        Ok(VersionTable { releases })
    }

    /// The newest version that is out on this day.
    pub fn newest(&self, today: Day) -> Option<&Release> {
        self.releases.iter().rev().find(|release| release.released <= today)
    }

    /// The row that a version belongs to: its own, else that of the next older release.
    pub fn release_of(&self, version: Version) -> Option<&Release> {
        let lines = self.releases.iter().filter(|release| version.starts_with(&release.version));
        let exact = lines.max_by_key(|release| release.version.count);
        exact.or_else(|| self.releases.iter().rev().find(|release| release.version <= version))
    }

    /// Whether a version is supported on this day. A version newer than all that the table knows counts as
    /// supported (the table is older than the sensor), one older than all as unsupported.
    pub fn support(&self, version: Version, today: Day) -> SupportState {
        let Some(newest) = self.newest(today) else { return SupportState::Unknown };
        if version > newest.version && !version.starts_with(&newest.version) {
            return SupportState::Supported;
        }
        match self.release_of(version) {
            None => SupportState::Unsupported,
            Some(release) if today > release.supported_until => SupportState::Unsupported,
            Some(_) if version < newest.version => SupportState::Outdated,
            Some(_) => SupportState::Supported,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn versions_are_ordered_by_number_not_by_letter() {
        let ordered =
            ["10.0", "22.1.4", "22.1.4.8-r-6372aad", "22.1.7", "22.3.7", "22.10.1", "2020.11.01.1643"];
        for pair in ordered.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        assert_eq!(version("22.3"), version("22.3.0"));
        assert_eq!(version("22.1.4.8-r-6372aad").to_string(), "22.1.4.8");
        for bad in ["", "22", "22.", "22..1", "v22.1", "22.1.x", "1.2.3.4.5.6.7", "99999999999.1", "-r-1"] {
            assert!(Version::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn days_agree_with_the_calendar() {
        assert_eq!(Day::parse("1970-01-01"), Some(Day(0)));
        assert_eq!(Day::parse("2000-03-01"), Some(Day(11_017)));
        assert_eq!(Day::month_end("2024-02"), Day::parse("2024-02-29"));
        assert_eq!(Day::month_end("2023-12"), Day::parse("2023-12-31"));
        assert_eq!(Day::of(UnixMillis(1_795_478_400_000)), Day::parse("2026-11-24").unwrap());
        assert_eq!(Day::of(UnixMillis(-1)), Day(-1));
        assert_eq!(Day::parse("2026-13-01"), None);
    }

    #[test]
    fn support_lasts_through_the_last_day_of_the_month() {
        let table = VersionTable::default();
        let on = |text: &str, day: &str| table.support(version(text), Day::parse(day).unwrap());
        assert_eq!(on("25.1.1", "2026-04-30"), SupportState::Outdated);
        assert_eq!(on("25.1.1", "2026-05-01"), SupportState::Unsupported);
        assert_eq!(on("26.2.0", "2026-11-24"), SupportState::Supported);
        assert_eq!(on("26.2.0.3-r-1", "2026-11-24"), SupportState::Supported);
        assert_eq!(on("27.1.0", "2026-11-24"), SupportState::Supported, "newer than the table");
        assert_eq!(on("21.0.0", "2022-11-24"), SupportState::Unsupported, "older than the table");
        assert_eq!(on("24.1.9", "2025-12-31"), SupportState::Outdated, "belongs to 24.1.6");
    }

    #[test]
    fn the_embedded_table_is_sound_and_bad_rows_are_named() {
        assert_eq!(VersionTable::default().releases.len(), RELEASES.len());
        let twice = [("1.0", "2020-01-01", "2021-01"), ("1.0.0", "2020-01-01", "2021-01")];
        assert_eq!(VersionTable::from_rows(twice).unwrap_err().row, 2);
        assert!(VersionTable::from_rows([("1.0", "2020-01-01", "2019-01")]).is_err());
    }
}
