//! A scenario as written, and everything that can be wrong with it.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::kind::FaultKind;
use crate::limits::{INTERVAL_MAX, INTERVAL_MIN};
use crate::wire::heartbeat::EndpointState;

/// The built-in demonstration: every rule within two minutes, for the `demo` policy.
pub const DEMO: &str = include_str!("demo.toml");

/// Faults of one scenario: each is a bit in a word.
pub(super) const FAULTS_MAX: usize = 64;
/// Sensors of one site, and sites of one scenario.
const SENSORS_MAX: u32 = 100_000;
const DURATION_MAX: Duration = Duration::from_secs(30 * 86_400);

/// A scenario that can't be played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file can't be read.
    #[error("scenario {path} can't be read: {source}; check the path")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Not TOML, or with keys that don't exist.
    #[error("scenario, line {line}: {problem}")]
    Syntax {
        /// Where, from 1.
        line: usize,
        /// What is wrong, on one line.
        problem: String,
    },
    /// A value that can't be.
    #[error("scenario, {place}: {key} = {value}; {valid}")]
    Value {
        /// Which table.
        place: String,
        /// Which key.
        key: &'static str,
        /// As written.
        value: String,
        /// What would be valid.
        valid: String,
    },
    /// More sensors in it than were asked for.
    #[error("the scenario names {named} sensors, and only {wanted} are wanted; take at least {named}")]
    TooFew {
        /// Sensors that it names.
        named: usize,
        /// Sensors that are wanted.
        wanted: usize,
    },
}

/// What kind of sensor, as the register calls it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SensorKind {
    /// Reports to a server.
    #[default]
    OtCloud,
    /// Watches enterprise networks.
    EnterpriseIot,
}

/// A scenario as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name, for people.
    pub name: String,
    /// How long it plays, in seconds.
    pub duration_s: f64,
    /// Heartbeat interval in milliseconds.
    pub interval_ms: u64,
    /// Places with sensors.
    #[serde(default, rename = "site")]
    pub sites: Vec<Site>,
    /// Relays.
    #[serde(default, rename = "gateway")]
    pub gateways: Vec<Gateway>,
    /// What goes wrong.
    #[serde(default, rename = "fault")]
    pub faults: Vec<Fault>,
}

/// A place with sensors, numbered from 1.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Its name; sensors are called `<name>-001` and so on.
    pub name: String,
    /// How many sensors.
    pub sensors: u32,
    /// Their type.
    #[serde(default, rename = "type")]
    pub kind: SensorKind,
}

/// A relay for all sensors of its sites.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Its name.
    pub name: String,
    /// Its sites.
    pub sites: Vec<String>,
}

/// One scripted fault.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Its name in the truth table; the kind when left out.
    pub name: Option<String>,
    /// What goes wrong.
    pub kind: FaultKind,
    /// Where; not for a gateway's fault.
    pub site: Option<String>,
    /// Which sensors of the site, such as `1-3,7`; all when left out.
    pub sensors: Option<String>,
    /// Which gateway; only for its own fault.
    pub gateway: Option<String>,
    /// Begin, in seconds from the start.
    pub from_s: Option<f64>,
    /// End, in seconds from the start; left out, it lasts.
    pub until_s: Option<f64>,
    /// Why an endpoint can't be reached; only for `partially_connected`.
    pub reason: Option<String>,
    /// Codes of messages that it must raise on its sensors, instead of those of its kind.
    pub expect: Option<Vec<String>>,
    /// More codes that it may raise on its sensors.
    #[serde(default)]
    pub also: Vec<String>,
}

fn bad(place: &str, key: &'static str, value: impl ToString, valid: impl Into<String>) -> ScenarioError {
    ScenarioError::Value { place: place.to_owned(), key, value: value.to_string(), valid: valid.into() }
}

impl Scenario {
    /// Reads and checks a scenario.
    pub fn parse(text: &str) -> Result<Scenario, ScenarioError> {
        let scenario: Scenario = toml::from_str(text).map_err(|error| ScenarioError::Syntax {
            line: error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count()),
            problem: error.message().replace('\n', " "),
        })?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Reads and checks a scenario file.
    pub fn read(path: &Path) -> Result<Scenario, ScenarioError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ScenarioError::Unreadable { path: path.display().to_string(), source })?;
        Scenario::parse(&text)
    }

    /// How long it plays.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.duration_s)
    }

    /// Its heartbeat interval.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }

    fn site(&self, name: &str) -> Option<&Site> {
        self.sites.iter().find(|site| site.name == name)
    }

    fn check(&self) -> Result<(), ScenarioError> {
        let interval = self.interval();
        if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
            let valid = format!("valid is {} to {}", INTERVAL_MIN.as_millis(), INTERVAL_MAX.as_millis());
            return Err(bad("top level", "interval_ms", self.interval_ms, valid));
        }
        if !(self.duration_s > 0.0 && self.duration_s <= DURATION_MAX.as_secs_f64()) {
            return Err(bad(
                "top level",
                "duration_s",
                self.duration_s,
                "valid is more than 0, up to 30 days",
            ));
        }
        let mut names = HashSet::new();
        for site in &self.sites {
            if site.name.is_empty() || !names.insert(&site.name) {
                return Err(bad("[[site]]", "name", &site.name, "each site needs a name of its own"));
            }
            if site.sensors == 0 || site.sensors > SENSORS_MAX {
                let place = format!("site '{}'", site.name);
                return Err(bad(&place, "sensors", site.sensors, format!("valid is 1 to {SENSORS_MAX}")));
            }
        }
        let mut relayed = HashSet::new();
        let mut names = HashSet::new();
        for gateway in &self.gateways {
            if gateway.name.is_empty() || !names.insert(&gateway.name) {
                return Err(bad(
                    "[[gateway]]",
                    "name",
                    &gateway.name,
                    "each gateway needs a name of its own",
                ));
            }
            let place = format!("gateway '{}'", gateway.name);
            for site in &gateway.sites {
                if self.site(site).is_none() {
                    return Err(bad(&place, "sites", site, self.valid_sites()));
                }
                if !relayed.insert(site) {
                    return Err(bad(&place, "sites", site, "a site has one gateway here"));
                }
            }
        }
        if self.faults.len() > FAULTS_MAX {
            return Err(bad("[[fault]]", "count", self.faults.len(), format!("at most {FAULTS_MAX}")));
        }
        let mut names = HashSet::new();
        for fault in &self.faults {
            if !names.insert(fault.title()) {
                return Err(bad("[[fault]]", "name", fault.title(), "each fault needs a name of its own"));
            }
            self.check_fault(fault, &relayed)?;
        }
        Ok(())
    }

    fn check_fault(&self, fault: &Fault, relayed: &HashSet<&String>) -> Result<(), ScenarioError> {
        let place = format!("fault '{}'", fault.title());
        if fault.kind == FaultKind::GatewaySilent {
            let name = fault.gateway.as_deref().unwrap_or_default();
            if !self.gateways.iter().any(|gateway| gateway.name == name) {
                let known: Vec<_> = self.gateways.iter().map(|gateway| gateway.name.as_str()).collect();
                return Err(bad(&place, "gateway", name, format!("valid is one of: {}", known.join(", "))));
            }
            if fault.site.is_some() || fault.sensors.is_some() {
                return Err(bad(&place, "site", "set", "a gateway's fault names the gateway only"));
            }
        } else {
            let name = fault.site.as_deref().unwrap_or_default();
            let site = self.site(name).ok_or_else(|| bad(&place, "site", name, self.valid_sites()))?;
            fault.numbers(site.sensors).map_err(|valid| {
                bad(&place, "sensors", fault.sensors.as_deref().unwrap_or_default(), valid)
            })?;
            if fault.gateway.is_some() {
                return Err(bad(&place, "gateway", "set", "only gateway_silent names a gateway"));
            }
            let by_gateway = relayed.contains(&site.name);
            if by_gateway && (fault.kind.needs_connection() || fault.kind.is_standing()) {
                let valid = "its sensors speak through a gateway; take a site without one";
                return Err(bad(&place, "site", name, valid));
            }
            if fault.kind == FaultKind::SiteOutage && fault.sensors.is_some() {
                return Err(bad(&place, "sensors", "set", "a site outage takes the whole site"));
            }
        }
        if fault.reason.is_some() && fault.kind != FaultKind::PartiallyConnected {
            return Err(bad(&place, "reason", "set", "only partially_connected has a reason"));
        }
        fault
            .endpoint_state()
            .map_err(|valid| bad(&place, "reason", fault.reason.as_deref().unwrap_or(""), valid))?;
        if fault.kind.is_standing() {
            return match (fault.from_s, fault.until_s) {
                (None, None) => Ok(()),
                _ => Err(bad(&place, "from_s", "set", "this state lasts the whole run")),
            };
        }
        let from = fault.from_s.ok_or_else(|| bad(&place, "from_s", "", "say when it begins, in seconds"))?;
        if !(from >= 0.0 && from < self.duration_s) {
            return Err(bad(&place, "from_s", from, format!("valid is 0 to {}", self.duration_s)));
        }
        match fault.until_s {
            Some(until) if !(until > from && until <= self.duration_s) => Err(bad(
                &place,
                "until_s",
                until,
                format!("valid is after {from}, up to {}", self.duration_s),
            )),
            _ => Ok(()),
        }
    }

    fn valid_sites(&self) -> String {
        let known: Vec<_> = self.sites.iter().map(|site| site.name.as_str()).collect();
        format!("valid is one of: {}", known.join(", "))
    }
}

impl Fault {
    /// Its name in the truth table.
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(self.kind.as_str())
    }

    /// The numbers of the sensors that it hits, from 1.
    pub(super) fn numbers(&self, sensors: u32) -> Result<Vec<u32>, String> {
        let valid = || format!("write numbers from 1 to {sensors}, such as 1-3,7");
        let Some(text) = &self.sensors else { return Ok((1..=sensors).collect()) };
        let mut numbers = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: u32 = first.trim().parse().map_err(|_| valid())?;
            let last: u32 = last.trim().parse().map_err(|_| valid())?;
            if first == 0 || first > last || last > sensors {
                return Err(valid());
            }
            numbers.extend(first..=last);
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    /// The state of an endpoint that it makes unreachable.
    pub(super) fn endpoint_state(&self) -> Result<EndpointState, String> {
        let failures = || EndpointState::ALL.iter().filter(|state| **state > EndpointState::Ok);
        let Some(reason) = &self.reason else { return Ok(EndpointState::General) };
        failures().find(|state| state.as_str() == reason).copied().ok_or_else(|| {
            let names: Vec<_> = failures().map(|state| state.as_str()).collect();
            format!("valid is one of: {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "name = 'x'\nduration_s = 60\ninterval_ms = 1000\n\
        [[site]]\nname = 'north'\nsensors = 10\n[[site]]\nname = 'mine'\nsensors = 5\n\
        [[gateway]]\nname = 'gw'\nsites = ['mine']\n";

    fn with(fault: &str) -> Result<Scenario, String> {
        Scenario::parse(&format!("{BASE}[[fault]]\n{fault}")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_demo_shows_every_kind_within_its_time() {
        let demo = Scenario::parse(DEMO).unwrap();
        for kind in FaultKind::ALL {
            assert!(demo.faults.iter().any(|fault| fault.kind == *kind), "{kind:?}");
        }
        assert!(demo.duration() <= Duration::from_secs(120));
    }

    #[test]
    fn kinds_are_written_as_they_are_named() {
        for kind in FaultKind::ALL {
            let named = if *kind == FaultKind::GatewaySilent { "gateway = 'gw'" } else { "site = 'north'" };
            let times = if kind.is_standing() { "" } else { "from_s = 1\nuntil_s = 9" };
            with(&format!("kind = '{}'\n{named}\n{times}", kind.as_str())).unwrap();
        }
    }

    #[test]
    fn selections_are_numbers_and_ranges() {
        let numbers = |text: &str| {
            let fault = with(&format!("kind = 'silence'\nsite = 'north'\nfrom_s = 1\nsensors = '{text}'"))?;
            fault.faults[0].numbers(10)
        };
        assert_eq!(numbers("1-3,7").unwrap(), [1, 2, 3, 7]);
        assert_eq!(numbers("5, 5, 4-5").unwrap(), [4, 5]);
        for wrong in ["", "0", "11", "3-1", "a", "1-", "1;2"] {
            let error = numbers(wrong).unwrap_err();
            assert!(error.contains("sensors") && error.contains("1 to 10"), "{wrong}: {error}");
        }
    }

    #[test]
    fn what_can_not_be_played_is_named_with_what_could() {
        for (fault, words) in [
            ("kind = 'nonsense'", ["line 14: unknown variant `nonsense`", "expected one of"]),
            ("kind = ", ["line 14", "value"]),
            ("kind = 'silence'\nsite = 'south'\nfrom_s = 1", ["south", "north, mine"]),
            ("kind = 'silence'\nsite = 'north'", ["from_s", "seconds"]),
            ("kind = 'silence'\nsite = 'north'\nfrom_s = 61", ["from_s = 61", "0 to 60"]),
            ("kind = 'silence'\nsite = 'north'\nfrom_s = 9\nuntil_s = 9", ["until_s = 9", "after 9"]),
            ("kind = 'disconnect'\nsite = 'mine'\nfrom_s = 9", ["mine", "gateway"]),
            ("kind = 'gateway_silent'\ngateway = 'x'\nfrom_s = 9", ["gateway = x", "gw"]),
            ("kind = 'disk_full'\nsite = 'north'\nfrom_s = 9\nreason = 'dns'", ["reason", "partially"]),
            (
                "kind = 'partially_connected'\nsite = 'north'\nfrom_s = 9\nreason = 'x'",
                ["reason", "proxy-auth"],
            ),
            ("kind = 'pending_activation'\nsite = 'north'\nfrom_s = 9", ["from_s", "whole run"]),
            ("kind = 'silence'\nsite = 'north'\nfrom_s = 9\ncolour = 1", ["colour", "unknown field"]),
        ] {
            let error = with(fault).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{fault}\n{error}");
            assert!(!error.contains('\n'), "one line: {error}");
        }
        let missing = Scenario::read(Path::new("/nowhere/x.toml")).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/x.toml"), "{missing}");
    }
}
