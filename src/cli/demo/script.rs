//! The script of a run: the scenario, cut to the time there is, and what it must lead to.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::Failure;
use super::truth::{Expectation, NO_MESSAGE, Need};
use crate::health::{CATALOGUE, Policy, RuleId, Setting};
use crate::limits::{DEMO_SENSORS_DEFAULT, DEMO_SENSORS_MAX};
use crate::sensor::sim::{DEMO, Plan, PlannedFault, Played, Scenario};
use crate::time::MonoNanos;

/// A message may be raised this long after its fault ended: one heartbeat on its way and one sweep, on a
/// machine that has other things to do.
const SETTLE: Duration = Duration::from_secs(3);
/// Beside what its rule takes, a message has cleared this long after its fault ended: a connection made anew,
/// a heartbeat, a sweep.
const CLEAR_SLACK: Duration = Duration::from_secs(8);
/// Heartbeats until an old clock offset is forgotten: two groups of eight.
const CLOCK_MEMORY: u32 = 16;
/// Every rule of the `demo` policy raises this soon; a fault without an end needs so much time.
const RAISE_WITHIN: Duration = Duration::from_secs(20);
/// Names the time in which sensors are registered and not connected yet.
const CONNECTING: &str = "the fleet connected";

/// What is played.
#[derive(Debug)]
pub struct Script {
    /// Sensors, gateways, faults.
    pub plan: Plan,
    /// Faults that did not fit in the time there is.
    pub fell_out: Vec<String>,
}

/// What was done, and when.
#[derive(Clone, Copy, Debug)]
pub struct Acts<'p> {
    /// The fleet was registered.
    pub registered: MonoNanos,
    /// The fleet was connected: the script began.
    pub started: MonoNanos,
    /// The run ended.
    pub end: MonoNanos,
    /// It ended before its time.
    pub interrupted: bool,
    /// Faults that began.
    pub played: &'p [Played],
}

impl Script {
    /// The built-in scenario or that of a file, for so many sensors, cut or stretched to `length`.
    pub fn load(
        file: Option<&Path>,
        sensors: Option<u32>,
        length: Option<Duration>,
    ) -> Result<Script, Failure> {
        let Some(file) = file else {
            let scenario = Scenario::parse(DEMO).map_err(Failure::failed)?;
            return Script::of(scenario, sensors, length).map_err(Failure::usage);
        };
        let named = |error: String| Failure::config(format!("{}: {error}", file.display()));
        // The error of a file that can't be read names it.
        let scenario = Scenario::read(file).map_err(|error| match error {
            unreadable @ crate::sensor::sim::ScenarioError::Unreadable { .. } => Failure::config(unreadable),
            other => named(other.to_string()),
        })?;
        Script::of(scenario, sensors, length).map_err(named)
    }

    fn of(mut scenario: Scenario, sensors: Option<u32>, length: Option<Duration>) -> Result<Script, String> {
        known_codes(&scenario)?;
        let fell_out = length.map_or_else(Vec::new, |length| fit(&mut scenario, length));
        let named = scenario.sites.iter().fold(0, |sum: u32, site| sum.saturating_add(site.sensors));
        if named > DEMO_SENSORS_MAX {
            return Err(format!("the scenario names {named} sensors; valid is up to {DEMO_SENSORS_MAX}"));
        }
        let sensors = sensors.unwrap_or(named.max(DEMO_SENSORS_DEFAULT)) as usize;
        let plan = Plan::new(&scenario, Some(sensors)).map_err(|error| error.to_string())?;
        Ok(Script { plan, fell_out })
    }

    /// Everything that what was done must lead to, or may.
    pub fn expectations(&self, acts: &Acts<'_>) -> Vec<Expectation> {
        let mut all = self.while_connecting(acts);
        for played in acts.played {
            let fault = &self.plan.faults[played.fault];
            let from = if fault.kind.is_standing() { acts.registered } else { played.started };
            let cut = cut_short(fault, played, acts);
            for hit in &fault.hits {
                let must = hit.required && !cut;
                let Some(rule) = RuleId::from_code(&hit.code) else { continue };
                let clear_within = self.clear_within(rule);
                let (need, grace) = if must { (Need::Must, SETTLE) } else { (Need::May, clear_within) };
                all.push(Expectation {
                    fault: fault.name.clone(),
                    subject: hit.subject.clone(),
                    code: rule.code(),
                    from,
                    until: played.ended,
                    grace,
                    clear_within,
                    need,
                });
            }
            if !fault.hits.iter().any(|hit| hit.required) {
                all.extend(fault.sensors.iter().map(|place| Expectation {
                    fault: fault.name.clone(),
                    subject: self.plan.sensors[*place].name.clone(),
                    code: NO_MESSAGE,
                    from,
                    until: played.ended,
                    grace: CLEAR_SLACK,
                    clear_within: CLEAR_SLACK,
                    need: Need::Nothing,
                }));
            }
        }
        all
    }

    /// How long after a fault its message has surely gone: what the rule looks back on, its clear-after, and
    /// some slack.
    fn clear_within(&self, rule: RuleId) -> Duration {
        let policy = Policy::demo();
        let seconds = |setting| Duration::from_nanos(policy.nanos(setting));
        let windows =
            Setting::all().filter(|setting| setting.rule() == rule && setting.key().contains("window"));
        let memory = windows.map(|setting| match setting.unit() {
            "s" => seconds(setting),
            _ => self.plan.interval * policy.value(setting) as u32,
        });
        let clock =
            if rule == RuleId::ClockDrift { self.plan.interval * CLOCK_MEMORY } else { Duration::ZERO };
        memory.fold(clock, Duration::max) + seconds(Setting::clear_after(rule)) + CLEAR_SLACK
    }

    /// Faults that an interruption left without the time to show.
    pub fn cut_short(&self, acts: &Acts<'_>) -> Vec<String> {
        let cut = |played: &&Played| cut_short(&self.plan.faults[played.fault], played, acts);
        acts.played.iter().filter(cut).map(|played| self.plan.faults[played.fault].name.clone()).collect()
    }

    /// A big fleet on a small machine takes long to connect, and meanwhile those that are connected get little
    /// time to send: sensors are truly not heard, or not all of what they send, and may be said to be so.
    /// Nothing else, and not later: the script begins when the engine has heard them all.
    fn while_connecting(&self, acts: &Acts<'_>) -> Vec<Expectation> {
        let may = |subject: &str, rule: RuleId| Expectation {
            fault: CONNECTING.to_owned(),
            subject: subject.to_owned(),
            code: rule.code(),
            from: acts.registered,
            until: Some(acts.started),
            grace: Duration::ZERO,
            clear_within: self.clear_within(rule),
            need: Need::Often,
        };
        let Plan { sensors, gateways, .. } = &self.plan;
        let sites: BTreeSet<&str> = sensors.iter().map(|sensor| sensor.site.as_str()).collect();
        let silent = sensors.iter().map(|sensor| may(&sensor.name, RuleId::Disconnected));
        let lossy = sensors.iter().map(|sensor| may(&sensor.name, RuleId::UnstableLink));
        let outages = sites.into_iter().map(|site| may(site, RuleId::SiteOutage));
        let gateways = gateways.iter().map(|gateway| may(&gateway.name, RuleId::GatewaySilent));
        silent.chain(lossy).chain(outages).chain(gateways).collect()
    }
}

fn cut_short(fault: &PlannedFault, played: &Played, acts: &Acts<'_>) -> bool {
    let short = played.started.plus(RAISE_WITHIN) > acts.end;
    acts.interrupted
        && !fault.kind.is_standing()
        && played.ended.is_none()
        && (fault.until.is_some() || short)
}

/// Makes the scenario as long as the run. Leaves out what would not end, or not show, within it; says what.
fn fit(scenario: &mut Scenario, length: Duration) -> Vec<String> {
    let length_s = length.as_secs_f64();
    let mut fell_out = Vec::new();
    if length_s < scenario.duration_s {
        scenario.faults.retain(|fault| {
            let needs = match (fault.from_s, fault.until_s) {
                (_, Some(until)) => until,
                (Some(from), None) => from + RAISE_WITHIN.as_secs_f64(),
                (None, None) => 0.0,
            };
            if needs > length_s {
                fell_out.push(fault.title().to_owned());
            }
            needs <= length_s
        });
    }
    scenario.duration_s = length_s;
    fell_out
}

fn known_codes(scenario: &Scenario) -> Result<(), String> {
    for fault in &scenario.faults {
        for code in fault.expect.iter().flatten().chain(&fault.also) {
            if RuleId::from_code(code).is_none() {
                let codes: Vec<_> = CATALOGUE.iter().map(|rule| rule.code).collect();
                let place = fault.title();
                let valid = codes.join(", ");
                return Err(format!(
                    "scenario, fault '{place}': no message is called {code}; valid is {valid}"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Day, SubjectKind, SupportState, Version, VersionTable};
    use crate::sensor::sim::{OLD_VERSION, VERSION, Whom};
    use crate::time::at_second as seconds;

    fn demo(length: Option<u64>) -> Script {
        Script::load(None, None, length.map(Duration::from_secs)).unwrap_or_else(|_| panic!("sound"))
    }

    #[test]
    fn the_demo_shows_every_rule_on_its_kind_of_subject() {
        let script = demo(None);
        for rule in &CATALOGUE {
            let whom = match rule.subject {
                SubjectKind::Sensor => Whom::Sensor,
                SubjectKind::Gateway => Whom::Gateway,
                SubjectKind::Site => Whom::Site,
            };
            let mut hits = script.plan.faults.iter().flat_map(|fault| &fault.hits);
            assert!(
                hits.any(|hit| hit.required && hit.code == rule.code && hit.whom == whom),
                "no fault of the demo shows {}",
                rule.code
            );
        }
    }

    #[test]
    fn every_fault_of_the_demo_has_time_to_show_and_to_clear_within_two_minutes() {
        let script = demo(Some(120));
        assert!(script.fell_out.is_empty(), "{:?}", script.fell_out);
        for fault in script.plan.faults.iter().filter(|fault| !fault.kind.is_standing()) {
            let until = fault.until.unwrap_or(Duration::MAX);
            for hit in &fault.hits {
                let clear_within = script.clear_within(RuleId::from_code(&hit.code).unwrap());
                let over = until.saturating_add(clear_within);
                assert!(over <= Duration::from_secs(120), "{}: {}", fault.name, hit.code);
            }
        }
    }

    #[test]
    fn a_short_run_leaves_out_what_does_not_fit_and_a_long_one_goes_on() {
        let script = demo(Some(40));
        assert_eq!(script.plan.duration, Duration::from_secs(40));
        assert!(script.plan.faults.iter().all(|fault| fault.until.is_none_or(|until| until.as_secs() <= 40)));
        assert!(script.fell_out.iter().any(|name| name == "harbour cut off"), "{:?}", script.fell_out);
        assert!(script.plan.faults.iter().any(|fault| fault.kind.is_standing()));
        let long = demo(Some(600));
        assert_eq!((long.plan.duration.as_secs(), long.fell_out.len()), (600, 0));
    }

    #[test]
    fn what_was_interrupted_is_not_demanded() {
        let script = demo(None);
        let place = script.plan.faults.iter().position(|fault| fault.name == "hung process").unwrap();
        let played = [Played { fault: place, started: seconds(10), ended: None }];
        let acts = |interrupted| Acts {
            registered: seconds(1),
            started: seconds(2),
            end: seconds(12),
            interrupted,
            played: &played,
        };
        let needs = |interrupted| {
            let all = script.expectations(&acts(interrupted));
            all.iter().filter(|expectation| expectation.need == Need::Must).count()
        };
        assert_eq!((needs(true), needs(false)), (0, 2));
        assert_eq!(script.cut_short(&acts(true)), ["hung process"]);
    }

    #[test]
    fn a_message_that_does_not_exist_is_named() {
        let text = "name = 'x'\nduration_s = 60\ninterval_ms = 1000\n[[site]]\nname = 'a'\nsensors = 2\n\
            [[fault]]\nkind = 'silence'\nsite = 'a'\nfrom_s = 1\nexpect = ['nonsense']\n";
        let error = Script::of(Scenario::parse(text).unwrap(), None, None).unwrap_err();
        assert!(error.contains("fault 'silence'") && error.contains("nonsense"), "{error}");
        assert!(error.contains("disk-almost-full") && !error.contains('\n'), "{error}");
    }

    #[test]
    fn simulated_versions_are_what_the_demos_table_says_for_years() {
        for (year, today) in [(2026, 1_795_478_400_000), (2036, 2_111_011_200_000)] {
            let today = crate::time::UnixMillis(today);
            let text = super::super::stage::version_table(today);
            let rows: toml::Table = text.parse().unwrap();
            let rows = rows["release"].as_array().unwrap();
            let field = |row: &'_ toml::Value, key: &str| row[key].as_str().unwrap().to_owned();
            let rows: Vec<_> = rows
                .iter()
                .map(|row| (field(row, "version"), field(row, "released"), field(row, "supported_until")))
                .collect();
            let rows = rows.iter().map(|(v, r, u)| (v.as_str(), r.as_str(), u.as_str()));
            let table = VersionTable::from_rows(rows).unwrap();
            let support = |version: &str| table.support(Version::parse(version).unwrap(), Day::of(today));
            assert_eq!(support(VERSION), SupportState::Supported, "{year}");
            assert_eq!(support(OLD_VERSION), SupportState::Unsupported, "{year}");
        }
    }
}
