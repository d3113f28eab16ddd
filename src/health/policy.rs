//! Policies: the numbers that apply to a sensor.
//!
//! A [`Setting`] names one number of one rule (its raise-after, its clear-after or one of its thresholds).
//! A [`PolicyPatch`] says some of them; [`resolve`] lays patches over each other, sensor over zone over
//! site over subscription over the product's default, and keeps where each number came from. The sweep
//! sees only resolved [`Policy`] values in a [`PolicyTable`], by index.
//!
//! The heartbeat interval that a sensor is told to keep belongs to its policy, since silence is measured by it.

mod table;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::health::catalogue::{CATALOGUE, RULES, RuleId};

pub use table::PolicyTable;

/// Numbers of one rule: raise-after, clear-after, and its thresholds.
const PLACES: usize = 8;
const RAISE_AFTER: u8 = 0;
const CLEAR_AFTER: u8 = 1;
const FIRST_THRESHOLD: u8 = 2;
/// Longest raise-after and clear-after.
const HOLD_MAX_S: f64 = 90.0 * 86_400.0;

/// One number of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Setting {
    rule: RuleId,
    place: u8,
}

impl Setting {
    /// How long the rule must hold before it is raised, in seconds.
    pub const fn raise_after(rule: RuleId) -> Setting {
        Setting { rule, place: RAISE_AFTER }
    }

    /// How long the rule must not hold before it is cleared, in seconds.
    pub const fn clear_after(rule: RuleId) -> Setting {
        Setting { rule, place: CLEAR_AFTER }
    }

    /// A threshold by its key. Meant for constants: an unknown key fails the build.
    pub const fn of(rule: RuleId, key: &str) -> Setting {
        let thresholds = rule.rule().thresholds;
        let mut index = 0;
        while index < thresholds.len() {
            if same(thresholds[index].key.as_bytes(), key.as_bytes()) {
                return Setting { rule, place: FIRST_THRESHOLD + index as u8 };
            }
            index += 1;
        }
        panic!("no such threshold in the catalogue")
    }

    /// The setting of these names, such as `disk-almost-full` and `percent`.
    pub fn named(code: &str, key: &str) -> Result<Setting, PolicyError> {
        let unknown = || PolicyError::Unknown { code: code.into(), key: key.into() };
        let rule = RuleId::from_code(code).ok_or_else(unknown)?;
        Setting::all().find(|setting| setting.rule == rule && setting.key() == key).ok_or_else(unknown)
    }

    /// All settings.
    pub fn all() -> impl Iterator<Item = Setting> {
        CATALOGUE.iter().flat_map(|rule| {
            (0..FIRST_THRESHOLD + rule.thresholds.len() as u8).map(|place| Setting { rule: rule.id, place })
        })
    }

    /// Which rule.
    pub const fn rule(self) -> RuleId {
        self.rule
    }

    /// Its name inside the rule.
    pub fn key(self) -> &'static str {
        match self.place {
            RAISE_AFTER => "raise_after",
            CLEAR_AFTER => "clear_after",
            place => self.rule.rule().thresholds[usize::from(place - FIRST_THRESHOLD)].key,
        }
    }

    /// Its unit.
    pub fn unit(self) -> &'static str {
        match self.place {
            RAISE_AFTER | CLEAR_AFTER => "s",
            place => self.rule.rule().thresholds[usize::from(place - FIRST_THRESHOLD)].unit,
        }
    }

    /// The product's default.
    pub fn default(self) -> f64 {
        let rule = self.rule.rule();
        match self.place {
            RAISE_AFTER => rule.raise_after_s,
            CLEAR_AFTER => rule.clear_after_s,
            place => rule.thresholds[usize::from(place - FIRST_THRESHOLD)].default,
        }
    }

    /// Least and greatest value.
    pub fn range(self) -> (f64, f64) {
        match self.place {
            RAISE_AFTER | CLEAR_AFTER => (0.0, HOLD_MAX_S),
            place => {
                let threshold = &self.rule.rule().thresholds[usize::from(place - FIRST_THRESHOLD)];
                (threshold.min, threshold.max)
            }
        }
    }
}

const fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut index = 0;
    while index < left.len() {
        if left[index] != right[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// A policy that can't be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// No such rule, or no such number in it.
    #[error("no setting {code}.{key}; the rule's page lists those that exist")]
    Unknown {
        /// The rule as written.
        code: String,
        /// The key as written.
        key: String,
    },
    /// Outside its range.
    #[error("{code}.{key} = {value}: valid is {min} to {max} {unit}")]
    Range {
        /// The rule.
        code: &'static str,
        /// The key.
        key: &'static str,
        /// What was asked for.
        value: f64,
        /// Least value.
        min: f64,
        /// Greatest value.
        max: f64,
        /// Unit of all three.
        unit: &'static str,
    },
    /// Two numbers that can't be together.
    #[error(
        "{first} = {low} ({}) must be below {second} = {high} ({})", low_from.as_str(), high_from.as_str()
    )]
    Order {
        /// The setting that must be lower.
        first: &'static str,
        /// What it is.
        low: f64,
        /// Who said so.
        low_from: Layer,
        /// The setting that must be higher.
        second: &'static str,
        /// What it is.
        high: f64,
        /// Who said so.
        high_from: Layer,
    },
    /// The table is full.
    #[error("more than {0} different policies")]
    Full(usize),
}

/// Some numbers, said at one level.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyPatch {
    values: BTreeMap<Setting, f64>,
    unknown: Vec<UnknownNumber>,
}

/// No value is "not a number": those are in no range.
impl Eq for PolicyPatch {}

/// A number that this program has no use for, because another version wrote it: of a rule that it does not know, or
/// out of range here. It applies to nothing, and is kept so that the other version finds what it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownNumber {
    /// Code of the rule.
    pub rule: Box<str>,
    /// Which of its numbers.
    pub key: Box<str>,
    /// The number's bits ([`f64::to_bits`]).
    pub bits: u64,
}

impl PolicyPatch {
    /// Says nothing.
    pub fn new() -> PolicyPatch {
        PolicyPatch::default()
    }

    /// Says one number; refuses one out of range.
    pub fn set(&mut self, setting: Setting, value: f64) -> Result<(), PolicyError> {
        let (min, max) = setting.range();
        if !(min..=max).contains(&value) {
            return Err(PolicyError::Range {
                code: setting.rule.code(),
                key: setting.key(),
                value,
                min,
                max,
                unit: setting.unit(),
            });
        }
        self.values.insert(setting, value);
        Ok(())
    }

    /// Says one number by its names.
    pub fn set_named(&mut self, code: &str, key: &str, value: f64) -> Result<(), PolicyError> {
        self.set(Setting::named(code, key)?, value)
    }

    /// Says a number as it was stored; keeps it unused when it can't be said ([`UnknownNumber`]).
    pub fn set_stored(&mut self, code: &str, key: &str, value: f64) {
        if self.set_named(code, key, value).is_err() {
            self.unknown.push(UnknownNumber { rule: code.into(), key: key.into(), bits: value.to_bits() });
        }
    }

    /// What it keeps unused, in the order in which it was stored.
    pub fn unknown(&self) -> &[UnknownNumber] {
        &self.unknown
    }

    /// True when it says nothing.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.unknown.is_empty()
    }

    /// True when it says a number that must be below or above another one.
    pub fn is_ordered(&self) -> bool {
        ORDERED.iter().any(|order| [order.low, order.high].iter().any(|it| self.values.contains_key(it)))
    }

    /// What it says.
    pub fn iter(&self) -> impl Iterator<Item = (Setting, f64)> {
        self.values.iter().map(|(&setting, &value)| (setting, value))
    }
}

/// Who said a number, weakest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// The product, or the named policy in use.
    #[default]
    Default,
    /// The subscription.
    Subscription,
    /// The site.
    Site,
    /// The zone.
    Zone,
    /// The sensor itself.
    Sensor,
}

impl Layer {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Layer::Default => "default",
            Layer::Subscription => "subscription",
            Layer::Site => "site",
            Layer::Zone => "zone",
            Layer::Sensor => "sensor",
        }
    }
}

/// Where each number of a resolved policy came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Provenance {
    layers: [[Layer; PLACES]; RULES],
}

impl Provenance {
    /// Who said this number.
    pub fn of(&self, setting: Setting) -> Layer {
        self.layers[setting.rule as usize][usize::from(setting.place)]
    }
}

/// All numbers of all rules, resolved, and the interval of heartbeats.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    values: [[f64; PLACES]; RULES],
    interval: Duration,
}

/// No value is "not a number": those are in no range.
impl Eq for Policy {}

impl Hash for Policy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for value in self.values.iter().flatten() {
            // Zero and minus zero are equal.
            (value + 0.0).to_bits().hash(state);
        }
        self.interval.hash(state);
    }
}

impl Default for Policy {
    fn default() -> Policy {
        let mut values = [[0.0; PLACES]; RULES];
        for setting in Setting::all() {
            values[setting.rule as usize][usize::from(setting.place)] = setting.default();
        }
        Policy { values, interval: Duration::ZERO }
    }
}

impl Policy {
    /// The policy of this name: `default` or `demo`.
    pub fn named(name: &str) -> Option<Policy> {
        match name {
            "default" => Some(Policy::default()),
            "demo" => Some(Policy::demo()),
            _ => None,
        }
    }

    /// Deadlines of seconds, for demonstrations and tests with one heartbeat a second.
    pub fn demo() -> Policy {
        let mut policy = Policy::default();
        for &(rule, key, value) in DEMO {
            let setting = Setting::all().find(|setting| setting.rule == rule && setting.key() == key);
            if let Some(setting) = setting {
                policy.values[rule as usize][usize::from(setting.place)] = value;
            }
        }
        policy
    }

    /// One number.
    #[inline]
    pub fn value(&self, setting: Setting) -> f64 {
        self.values[setting.rule as usize][usize::from(setting.place)]
    }

    /// One number that is in seconds, in nanoseconds.
    #[inline]
    pub fn nanos(&self, setting: Setting) -> u64 {
        (self.value(setting) * 1e9) as u64
    }

    /// The heartbeat interval that its sensors are told to keep; zero = theirs.
    #[inline]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// This policy with another interval.
    #[must_use]
    pub fn with_interval(self, interval: Duration) -> Policy {
        Policy { interval, ..self }
    }

    /// This policy with a patch over it.
    pub fn with(&self, patch: &PolicyPatch) -> Result<Policy, PolicyError> {
        resolve(self, &[(Layer::Sensor, patch)]).map(|(policy, _)| policy)
    }

    fn check(&self, from: &Provenance) -> Result<(), PolicyError> {
        for &Ordered { low, high, first, second } in &ORDERED {
            if self.value(low) >= self.value(high) {
                return Err(PolicyError::Order {
                    first,
                    low: self.value(low),
                    low_from: from.of(low),
                    second,
                    high: self.value(high),
                    high_from: from.of(high),
                });
            }
        }
        Ok(())
    }
}

/// Two settings of which one must be below the other.
struct Ordered {
    low: Setting,
    high: Setting,
    first: &'static str,
    second: &'static str,
}

const ORDERED: [Ordered; 2] = [
    Ordered {
        low: Setting::of(RuleId::BandwidthNearLimit, "percent"),
        high: Setting::of(RuleId::BandwidthExceeded, "percent"),
        first: "bandwidth-near-limit.percent",
        second: "bandwidth-exceeded.percent",
    },
    Ordered {
        low: Setting::of(RuleId::DevicesNearLimit, "percent"),
        high: Setting::of(RuleId::DevicesExceeded, "percent"),
        first: "devices-near-limit.percent",
        second: "devices-exceeded.percent",
    },
];

/// Lays patches over a base, in the order of their layers, and tells where each number came from. Refuses numbers
/// that can't be together.
pub fn resolve(
    base: &Policy,
    patches: &[(Layer, &PolicyPatch)],
) -> Result<(Policy, Provenance), PolicyError> {
    let (policy, provenance) = lay(base, patches);
    policy.check(&provenance)?;
    Ok((policy, provenance))
}

/// As [`resolve`], for patches that were accepted: what can't be together stays so.
pub fn lay(base: &Policy, patches: &[(Layer, &PolicyPatch)]) -> (Policy, Provenance) {
    let mut policy = base.clone();
    let mut provenance = Provenance { layers: [[Layer::Default; PLACES]; RULES] };
    let mut ordered: Vec<_> = patches.to_vec();
    ordered.sort_by_key(|(layer, _)| *layer);
    for (layer, patch) in ordered {
        for (setting, value) in patch.iter() {
            let (rule, place) = (setting.rule as usize, usize::from(setting.place));
            policy.values[rule][place] = value;
            provenance.layers[rule][place] = layer;
        }
    }
    (policy, provenance)
}

/// The demo policy, where it differs. One heartbeat a second is assumed.
const DEMO: &[(RuleId, &str, f64)] = &[
    (RuleId::Disconnected, "silence_after", 5.0),
    (RuleId::Disconnected, "missed_intervals", 3.0),
    (RuleId::Disconnected, "install_grace", 20.0),
    (RuleId::Disconnected, "restart_grace", 15.0),
    (RuleId::NoTraffic, "silence_after", 6.0),
    (RuleId::BackupFailed, "age_max", 26.0 * 3_600.0),
    (RuleId::NtpUnreachable, "raise_after", 3.0),
    (RuleId::DirectoryUnreachable, "raise_after", 3.0),
    (RuleId::BandwidthExceeded, "raise_after", 3.0),
    (RuleId::BandwidthExceeded, "clear_after", 3.0),
    (RuleId::DevicesExceeded, "clear_after", 2.0),
    (RuleId::PackageTransferFailed, "stalled_after", 30.0),
    (RuleId::UpdateFailed, "stalled_after", 30.0),
    (RuleId::UnstableLink, "window", 20.0),
    (RuleId::UnstableLink, "missing_percent", 20.0),
    (RuleId::UnstableLink, "clear_after", 3.0),
    (RuleId::PartiallyConnected, "raise_after", 3.0),
    (RuleId::PartiallyConnected, "clear_after", 3.0),
    (RuleId::BandwidthNearLimit, "raise_after", 3.0),
    (RuleId::BandwidthNearLimit, "clear_after", 3.0),
    (RuleId::DevicesNearLimit, "clear_after", 2.0),
    (RuleId::DiskAlmostFull, "clear_after", 3.0),
    (RuleId::CaptureOverload, "raise_after", 3.0),
    (RuleId::CaptureOverload, "clear_after", 5.0),
    (RuleId::ClockDrift, "raise_after", 3.0),
    (RuleId::ClockDrift, "clear_after", 3.0),
    (RuleId::ClockDrift, "hold_after_step", 10.0),
    (RuleId::UnstableLink, "reconnect_window", 20.0),
    (RuleId::DuplicateIdentity, "count", 1.0),
    (RuleId::DuplicateIdentity, "window", 20.0),
    (RuleId::RestartLoop, "window", 20.0),
    (RuleId::RestartLoop, "clear_after", 2.0),
    (RuleId::SettingsOutOfSync, "raise_after", 4.0),
    (RuleId::ThreatIntelOutdated, "raise_after", 4.0),
    (RuleId::GatewaySilent, "silence_after", 3.0),
    (RuleId::SiteOutage, "clear_after", 2.0),
];

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Setting = Setting::of(RuleId::DiskAlmostFull, "percent");

    #[test]
    fn the_nearest_layer_wins_and_is_named() {
        let mut site = PolicyPatch::new();
        site.set(DISK, 80.0).unwrap();
        site.set_named("no-traffic", "silence_after", 60.0).unwrap();
        let mut sensor = PolicyPatch::new();
        sensor.set_named("disk-almost-full", "percent", 95.0).unwrap();
        let (policy, from) =
            resolve(&Policy::default(), &[(Layer::Sensor, &sensor), (Layer::Site, &site)]).unwrap();
        assert_eq!((policy.value(DISK), from.of(DISK)), (95.0, Layer::Sensor));
        let traffic = Setting::of(RuleId::NoTraffic, "silence_after");
        assert_eq!((policy.value(traffic), from.of(traffic)), (60.0, Layer::Site));
        let margin = Setting::of(RuleId::DiskAlmostFull, "margin");
        assert_eq!((policy.value(margin), from.of(margin)), (5.0, Layer::Default));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_could() {
        let mut patch = PolicyPatch::new();
        let text = patch.set(DISK, 250.0).unwrap_err().to_string();
        assert_eq!(text, "disk-almost-full.percent = 250: valid is 10 to 100 %");
        assert!(patch.set(DISK, f64::NAN).is_err());
        assert!(matches!(patch.set_named("disk", "percent", 1.0), Err(PolicyError::Unknown { .. })));
        patch.set_named("devices-exceeded", "percent", 70.0).unwrap();
        assert!(matches!(Policy::default().with(&patch), Err(PolicyError::Order { .. })));
    }

    #[test]
    fn every_demo_number_exists_and_is_in_range() {
        for &(rule, key, value) in DEMO {
            PolicyPatch::new().set_named(rule.code(), key, value).unwrap();
        }
        assert!(resolve(&Policy::demo(), &[]).is_ok());
        assert!(resolve(&Policy::default(), &[]).is_ok());
        // The register checks overrides against the default, whichever of the two is in use.
        for order in &ORDERED {
            for setting in [order.low, order.high] {
                assert_eq!(Policy::demo().value(setting), Policy::default().value(setting));
            }
        }
        assert!(CATALOGUE.iter().all(|rule| rule.thresholds.len() + 2 <= PLACES));
    }
}
