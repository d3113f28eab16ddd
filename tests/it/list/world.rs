//! A register with everything that a list can show, and the means to ask for it.

use std::collections::BTreeMap;

use fleetpulse::fleet::{Actor, Command, Mute, Place, SensorEdit, SiteEdit, ThreatIntelMode};
use fleetpulse::live::{Lifecycle, SensorType};
use fleetpulse::server::enlist::Enlistment;
use fleetpulse::wire::id::{SensorId, SiteId, ZoneId};
use serde_json::Value;

use crate::export::rig::Rig;

/// A name as another spreadsheet's way to compute something.
pub const FORMULAS: [&str; 5] = ["=HYPERLINK(\"http://x\",\"y\")", "+1+1", "-2", "@SUM(1)", "\u{ff1d}1"];

/// Sensors that nobody hears, in six sites.
pub struct World {
    pub rig: Rig,
    pub sites: Vec<SiteId>,
    pub zones: Vec<ZoneId>,
    pub sensors: Vec<SensorId>,
}

pub fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} of {value}"))
}

impl World {
    pub fn new(sensors: usize) -> World {
        let rig = Rig::start_with(|config| config.http.requests_per_second = 100_000);
        let (mut sites, mut zones, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        let commands = {
            let register = rig.server.fleet().register();
            let mut enlistment = Enlistment::new(&register);
            for site in 0..6 {
                let name = format!("Site {site}");
                sites.push(enlistment.site(&name));
                for zone in ["Line A", "line b"] {
                    zones.push(enlistment.zone(sites[site], zone));
                }
            }
            for number in 0..sensors {
                let id = SensorId::from_number(number as u64 * 7 + 1);
                let kind = if number % 5 == 4 { SensorType::OtLocal } else { SensorType::OtCloud };
                let lifecycle = match number % 4 {
                    3 => Lifecycle::PendingActivation,
                    _ => Lifecycle::Active,
                };
                let zone = if number % 3 == 0 { "Line A" } else { "line b" };
                let name = name_of(number);
                enlistment.sensor_as(lifecycle, id, &name, kind, &format!("Site {}", number % 6), zone);
                ids.push(id);
            }
            enlistment.into_commands()
        };
        for commands in commands.chunks(5_000) {
            rig.server.apply(commands, Actor::command_line("test")).unwrap();
        }
        let world = World { rig, sites, zones, sensors: ids };
        if sensors > 7 {
            world.say_more();
        }
        world
    }

    fn say_more(&self) {
        let edit = SiteEdit {
            name: None,
            tags: Some(BTreeMap::from([("region".into(), "north".into()), ("a,b".into(), "c=d".into())])),
            owners: Some(vec!["ann@example.com".into(), "bob@example.com".into()]),
        };
        let notes = SensorEdit {
            name: None,
            notes: Some("Behind the PRESS,\n\"second\" shelf".into()),
            threat_intel: Some(ThreatIntelMode::Manual),
        };
        let mute = Mute { until: None, reason: "work".into() };
        self.apply(&[
            Command::EditSite { id: self.sites[2], edit },
            Command::EditSensor { id: self.sensors[5], edit: notes },
            Command::SetMute { place: Place::Sensor(self.sensors[7]), mute: Some(mute.clone()) },
            Command::SetMute { place: Place::Site(self.sites[4]), mute: Some(mute) },
        ]);
    }

    pub fn apply(&self, commands: &[Command]) {
        self.rig.server.apply(commands, Actor::command_line("test")).unwrap();
    }

    /// One page.
    pub fn page(&self, query: &str) -> Value {
        let page = self.rig.get(&format!("/api/v1/sensors?{query}"));
        assert_eq!(page.status, 200, "{query}: {page:?}");
        page.json()
    }

    /// The names that a query finds, at so many a page.
    pub fn names(&self, query: &str, limit: usize) -> Vec<String> {
        let all = pages(&self.rig, &format!("/api/v1/sensors?{query}&"), limit);
        all.iter().map(|item| text(item, "/name").to_owned()).collect()
    }
}

/// Names in no order, some of them formulas, all different.
pub fn name_of(number: usize) -> String {
    match number {
        10..15 => FORMULAS[number - 10].to_owned(),
        _ => format!("{} {:04}", ["Press", "pump", "Ärger"][number % 3], number * 37 % 1_009),
    }
}

/// All pages of a list.
pub fn pages(rig: &Rig, path: &str, limit: usize) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    for _ in 0..1_000 {
        let page = rig.get(&format!("{path}limit={limit}{cursor}"));
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        let found = page["items"].as_array().unwrap();
        assert!(found.len() <= limit);
        items.extend(found.iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
    panic!("pages without end");
}
