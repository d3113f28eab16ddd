//! The grid: which sensors a list shows, in which order, a page at a time.
//!
//! A page must be quick at any size of the fleet, so nothing is sorted whole and nothing is looked up by hash. The
//! [`Grid`] is a table of what the register says of each sensor, by slot of live state and folded for comparing; the
//! verdicts lie in columns of the same order. A [`Search`] goes through both once, in steps between which locks can be
//! given back, and keeps the best `limit` rows. A page ends at a [`Mark`]: the key and id of its last row. The next
//! page is what lies behind it, so that whoever stays in its place is on exactly one page, whatever comes and goes.
//!
//! Rows of equal keys are in order of their ids, in both directions. What is not known counts as least.
//!
//! Cost at 100,000 sensors, on one core of the machine that `benches/list.rs` speaks of: 1 to 3 ms for a filter and
//! order by what the register says or the sweep decided; about 5 ms more where each slot must be opened (version,
//! threat intelligence). Memory: 56 bytes a sensor, and its name once more when that has capitals.

mod grid;
mod live;
mod search;
mod tally;
#[cfg(test)]
mod tests;

pub use grid::Grid;
pub use search::{Facets, Hit, Key, Mark, Outcome, Scope, Search};
pub use tally::{PlaceCounts, Tally};

use super::details::ThreatIntelMode;
use crate::health::{CATALOGUE, OverallState, RuleId, Severity, Version};
use crate::live::{Lifecycle, SensorType, SlotIndex};
use crate::time::MonoNanos;
use crate::wire::heartbeat::{TI_VERSION_BYTES, TiStatus, VERSION_BYTES};
use crate::wire::id::{SiteId, SubscriptionId, ZoneId};

/// What live state says of a sensor, cheap enough to ask for every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The one word on it.
    pub overall: OverallState,
    /// Its active messages.
    pub active: u64,
    /// Heard over a connection, its own or a gateway's.
    pub connected: bool,
    /// The engine holds its notifications.
    pub muted: bool,
    /// Time of its newest heartbeat.
    pub last: MonoNanos,
}

/// Live values, by slot.
pub trait Readings {
    /// What lies in columns.
    fn standing(&self, slot: SlotIndex) -> Standing;

    /// The version that it reports, padded with NUL; nothing but NUL when it is not known. Opens the slot.
    fn version(&self, slot: SlotIndex) -> [u8; VERSION_BYTES];

    /// Its threat intelligence: version, padded with NUL, and state. Opens the slot.
    fn threat_intel(&self, slot: SlotIndex) -> ([u8; TI_VERSION_BYTES], TiStatus);
}

/// How a sensor stands, as people ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// Counts as healthy: no fault, waiting, or stopped on purpose. Muted ones are held out, as in the counts.
    Healthy,
    /// A critical or warning message is active, and it is not muted.
    Unhealthy,
    /// Its version is past its support.
    Unsupported,
    /// Muted by hand or by a maintenance window.
    Muted,
    /// Exactly this state, muted or not.
    State(OverallState),
}

impl Health {
    /// The filter of a name.
    pub fn named(name: &str) -> Option<Health> {
        match name {
            "healthy" => Some(Health::Healthy),
            "unhealthy" => Some(Health::Unhealthy),
            "unsupported" => Some(Health::Unsupported),
            "muted" => Some(Health::Muted),
            "in-doubt" => Some(Health::State(OverallState::Unknown)),
            _ => OverallState::from_name(name).map(Health::State),
        }
    }

    /// All names.
    pub fn names() -> Vec<&'static str> {
        let groups = ["healthy", "unhealthy", "unsupported", "muted", "in-doubt"];
        let states = OverallState::ALL.iter().map(|state| state.as_str()).filter(|name| *name != "healthy");
        groups.into_iter().chain(states).collect()
    }

    fn holds(self, standing: Standing, muted: bool) -> bool {
        use OverallState::{Critical, Healthy, Pending, Stopped, Warning};
        match self {
            Health::Healthy => !muted && matches!(standing.overall, Healthy | Pending | Stopped),
            Health::Unhealthy => !muted && matches!(standing.overall, Warning | Critical),
            Health::Unsupported => standing.active & RuleId::VersionUnsupported.bit() != 0,
            Health::Muted => muted,
            Health::State(state) => standing.overall == state,
        }
    }
}

/// How a version is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compare {
    /// It is this one. Without a build in the filter, every build of it.
    Is,
    /// It begins with this, whole numbers only.
    BeginsWith,
    /// It is older.
    Below,
    /// It is older, or this one.
    AtMost,
    /// It is newer.
    Above,
    /// It is newer, or this one.
    AtLeast,
}

/// A filter by version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VersionTest {
    compare: Compare,
    text: String,
}

/// A text that is no filter by version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a version such as 26.1.2, the beginning of one such as 26.1*, or a bound such as <26.1, <=26.1, >26.1, >=26.1"
)]
pub struct BadVersionTest;

impl std::str::FromStr for VersionTest {
    type Err = BadVersionTest;

    fn from_str(text: &str) -> Result<VersionTest, BadVersionTest> {
        let signs =
            [("<=", Compare::AtMost), (">=", Compare::AtLeast), ("<", Compare::Below), (">", Compare::Above)];
        let found = signs.iter().find_map(|(sign, compare)| Some((text.strip_prefix(sign)?, *compare)));
        let (text, compare) = match (found, text.strip_suffix('*')) {
            (Some(bound), _) => bound,
            (None, Some(beginning)) => (beginning, Compare::BeginsWith),
            (None, None) => (text, Compare::Is),
        };
        let text = text.trim();
        let plain = !text.is_empty() && text.len() <= VERSION_BYTES && !text.contains(['\0', '*', '<', '>']);
        let readable = matches!(compare, Compare::Is | Compare::BeginsWith) || Version::parse(text).is_some();
        if plain && readable {
            Ok(VersionTest { compare, text: text.to_owned() })
        } else {
            Err(BadVersionTest)
        }
    }
}

impl VersionTest {
    /// Whether a reported version passes. One that can't be read passes only where texts are compared.
    fn holds(&self, reported: &str) -> bool {
        let both = || Some((Version::parse(reported)?, Version::parse(&self.text)?));
        let ordered = |right: fn(std::cmp::Ordering) -> bool| both().is_some_and(|(a, b)| right(a.cmp(&b)));
        match self.compare {
            Compare::Is => {
                reported == self.text || (!self.text.contains('-') && ordered(std::cmp::Ordering::is_eq))
            }
            Compare::BeginsWith => reported.strip_prefix(self.text.as_str()).is_some_and(|rest| {
                let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
                !(digit(self.text.chars().last()) && digit(rest.chars().next()))
            }),
            Compare::Below => ordered(std::cmp::Ordering::is_lt),
            Compare::AtMost => ordered(std::cmp::Ordering::is_le),
            Compare::Above => ordered(std::cmp::Ordering::is_gt),
            Compare::AtLeast => ordered(std::cmp::Ordering::is_ge),
        }
    }
}

/// A tag that a sensor's site must have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TagTest {
    /// Key.
    pub key: String,
    /// Value; any when it is not said.
    pub value: Option<String>,
}

/// Words of one free text that are looked for.
pub const WORDS_MAX: usize = 8;

/// Which sensors. Each list is "one of these", and empty means any; all that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Words, each of which must be in the name, notes, site, zone, version, or (from eight characters on) the id;
    /// whatever their case. At most [`WORDS_MAX`] of them count.
    pub text: String,
    /// Sites.
    pub sites: Vec<SiteId>,
    /// Zones.
    pub zones: Vec<ZoneId>,
    /// Subscriptions.
    pub subscriptions: Vec<SubscriptionId>,
    /// Types.
    pub kinds: Vec<SensorType>,
    /// Lifecycles.
    pub lifecycles: Vec<Lifecycle>,
    /// Health.
    pub health: Vec<Health>,
    /// Active messages, as bits of rules: any of them. Zero: whatever is active.
    pub rules: u64,
    /// Software version.
    pub version: Option<VersionTest>,
    /// Tags of the site, all of them.
    pub tags: Vec<TagTest>,
    /// An owner of the site, whatever the case.
    pub owner: Option<String>,
    /// Connected or not.
    pub connected: Option<bool>,
    /// How threat intelligence reaches it.
    pub threat_intel_modes: Vec<ThreatIntelMode>,
    /// State of threat intelligence.
    pub threat_intel: Vec<TiStatus>,
}

/// By what a list is ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SortBy {
    /// Worst first; among equals those with more messages first.
    #[default]
    Health,
    /// Name.
    Name,
    /// Type.
    Type,
    /// Name of its zone.
    Zone,
    /// Name of its site.
    Site,
    /// Name of its subscription.
    Subscription,
    /// Software version, by its numbers.
    Version,
    /// Time of its newest heartbeat.
    LastConnected,
    /// Version of its threat intelligence.
    ThreatIntelVersion,
    /// Where its life stands.
    Lifecycle,
}

impl SortBy {
    /// All orders.
    pub const ALL: [SortBy; 10] = [
        SortBy::Health,
        SortBy::Name,
        SortBy::Type,
        SortBy::Zone,
        SortBy::Site,
        SortBy::Subscription,
        SortBy::Version,
        SortBy::LastConnected,
        SortBy::ThreatIntelVersion,
        SortBy::Lifecycle,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            SortBy::Health => "health",
            SortBy::Name => "name",
            SortBy::Type => "type",
            SortBy::Zone => "zone",
            SortBy::Site => "site",
            SortBy::Subscription => "subscription",
            SortBy::Version => "version",
            SortBy::LastConnected => "last_connected",
            SortBy::ThreatIntelVersion => "ti_version",
            SortBy::Lifecycle => "lifecycle",
        }
    }
}

/// A list as it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Query {
    /// Which sensors.
    pub filter: Filter,
    /// In which order.
    pub sort: SortBy,
    /// The other way round; equal keys stay in order of their ids.
    pub descending: bool,
}

/// Worst first: the number by which [`SortBy::Health`] orders.
fn badness(standing: Standing) -> u64 {
    let place = match standing.overall {
        OverallState::Critical => 0,
        OverallState::Warning => 1,
        OverallState::Unknown => 2,
        OverallState::Stopped => 3,
        OverallState::Pending => 4,
        OverallState::Local => 5,
        OverallState::Healthy => 6,
    };
    place << 8 | u64::from(u64::BITS - (standing.active & FAULTS).count_ones())
}

/// Rules whose messages make a sensor unhealthy.
const FAULTS: u64 = {
    let (mut bits, mut place) = (0, 0);
    while place < CATALOGUE.len() {
        if !matches!(CATALOGUE[place].severity, Severity::Lifecycle) {
            bits |= CATALOGUE[place].id.bit();
        }
        place += 1;
    }
    bits
};

/// Text as it is compared: without case.
fn fold(text: &str) -> String {
    text.to_lowercase()
}
