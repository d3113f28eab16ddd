//! One sensor of a list: as JSON with the fields that were chosen, and as a line of CSV.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::fleet::{Register, Sensor, Site, Subscription, Zone};
use crate::health::{OverallState, RuleId, Severity, rules_of};
use crate::http::csv::Line;
use crate::http::documents::Reference;
use crate::http::times::rfc3339_of;
use crate::live::{Lifecycle, LiveState, SensorType, SlotIndex, Snapshot, Verdict};
use crate::time::Now;
use crate::wire::heartbeat::UpdateStage;
use crate::wire::id::SensorId;

/// A sensor with its places and its live state, looked at.
pub(super) struct Seen<'r> {
    sensor: &'r Sensor,
    zone: &'r Zone,
    site: &'r Site,
    subscription: Option<&'r Subscription>,
    /// None when a writer kept getting between.
    snapshot: Option<&'r Snapshot>,
    verdict: Verdict,
    now: Now,
}

impl<'r> Seen<'r> {
    /// `None` when it is gone.
    pub(super) fn of(
        register: &'r Register,
        live: &LiveState,
        id: SensorId,
        snapshot: Option<&'r Snapshot>,
        slot: SlotIndex,
        now: Now,
    ) -> Option<Seen<'r>> {
        let sensor = register.sensor(id)?;
        let zone = register.zone(sensor.zone)?;
        let site = register.site(zone.site)?;
        let subscription = register.subscription(site.subscription);
        Some(Seen { sensor, zone, site, subscription, snapshot, verdict: live.verdict(slot), now })
    }

    /// What it said of itself, once it did.
    fn reported(&self) -> Option<&'r Snapshot> {
        self.snapshot.filter(|snapshot| !snapshot.last_heartbeat.is_never())
    }

    fn state(&self) -> OverallState {
        OverallState::from_number(self.verdict.overall)
    }

    fn severity(&self) -> Option<Severity> {
        rules_of(self.verdict.active).map(|rule| rule.rule().severity).min()
    }

    fn disconnected(&self) -> bool {
        self.verdict.active & RuleId::Disconnected.bit() != 0
    }

    fn connected(&self) -> bool {
        self.snapshot.is_some_and(|snapshot| {
            let by_gateway = snapshot.via_gateway.is_some() && snapshot.heard_since_start;
            snapshot.connected || (by_gateway && !self.disconnected())
        })
    }

    /// `unavailable`: it can't be connected now, so it is not missing.
    fn status(&self) -> &'static str {
        let local = self.sensor.kind == SensorType::OtLocal;
        if local || self.sensor.lifecycle != Lifecycle::Active || self.reported().is_none() {
            "unavailable"
        } else if self.disconnected() || !self.connected() {
            "disconnected"
        } else {
            "ok"
        }
    }

    fn muted(&self) -> bool {
        let (at, quiet) = (self.now.unix, &self.sensor.more.quiet);
        self.snapshot.is_some_and(|snapshot| snapshot.facts.muted)
            || quiet.holds(at)
            || self.site.about.quiet.holds(at)
    }

    fn last_connected(&self) -> Option<String> {
        self.reported().and_then(|snapshot| rfc3339_of(snapshot.last_heartbeat, self.now))
    }

    fn age_seconds(&self) -> Option<f64> {
        let age = |snapshot: &Snapshot| self.now.mono.since(snapshot.last_heartbeat);
        self.reported().map(|snapshot| (age(snapshot).as_secs_f64() * 1_000.0).round() / 1_000.0)
    }

    fn version(&self) -> &'r str {
        self.reported().map_or("", |snapshot| snapshot.heartbeat.version_str())
    }

    /// Stage, per cent while it moves, target.
    fn update(&self) -> Option<(UpdateStage, Option<u8>, &'r str)> {
        let beat = &self.reported()?.heartbeat;
        let stage = beat.update_stage();
        let moves = matches!(stage, UpdateStage::Sending | UpdateStage::Installing);
        Some((stage, moves.then_some(beat.update_percent), beat.update_target_str()))
    }

    fn threat_intel(&self) -> (&'r str, &'static str) {
        let seen = |snapshot: &'r Snapshot| {
            (snapshot.heartbeat.ti_version_str(), snapshot.heartbeat.ti_status().as_str())
        };
        self.reported().map_or(("", "unknown"), seen)
    }
}

macro_rules! fields {
    ($($bit:literal $name:ident $text:literal: [$($column:literal),*] $cells:expr;)+) => {
        /// Which fields of a sensor to show.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) struct Fields(u32);

        impl Fields {
            pub(super) const ALL: Fields = Fields(0 $(| 1 << $bit)+);
            $(pub(super) const $name: Fields = Fields(1 << $bit);)+

            pub(super) fn named(name: &str) -> Option<Fields> {
                match name { $($text => Some(Fields::$name),)+ _ => None }
            }

            pub(super) fn names() -> Vec<&'static str> {
                vec![$($text),+]
            }
        }

        /// The first line of a file.
        pub(super) fn csv_head(fields: Fields, out: &mut Vec<u8>) {
            let mut line = Line::begin(out);
            $(if fields.has(Fields::$name) {
                $(line.cell($column);)*
            })+
            line.end();
        }

        /// The line of a sensor.
        pub(super) fn csv_line(seen: &Seen<'_>, fields: Fields, out: &mut Vec<u8>) {
            let mut line = Line::begin(out);
            $(if fields.has(Fields::$name) {
                let cells: fn(&Seen<'_>, &mut Line<'_>) = $cells;
                cells(seen, &mut line);
            })+
            line.end();
        }
    };
}

impl Fields {
    pub(super) const fn has(self, field: Fields) -> bool {
        self.0 & field.0 != 0
    }

    pub(super) const fn with(self, field: Fields) -> Fields {
        Fields(self.0 | field.0)
    }
}

fields! {
    0 ID "id": ["id"] |seen, line| line.cell(&seen.sensor.id.to_string());
    1 NAME "name": ["name"] |seen, line| line.cell(&seen.sensor.name);
    2 TYPE "type": ["type"] |seen, line| line.cell(seen.sensor.kind.as_str());
    3 ZONE "zone": ["zone"] |seen, line| line.cell(&seen.zone.name);
    4 SITE "site": ["site", "tags", "owners"] |seen, line| {
        line.cell(&seen.site.name);
        let tags = seen.site.about.tags.iter().map(|(key, value)| format!("{key}={value}"));
        line.cell(&tags.collect::<Vec<_>>().join("; "));
        line.cell(&seen.site.about.owners.join("; "));
    };
    5 SUBSCRIPTION "subscription": ["subscription"] |seen, line| {
        line.cell(seen.subscription.map_or("", |found| &found.name));
    };
    6 LIFECYCLE "lifecycle": ["lifecycle"] |seen, line| line.cell(seen.sensor.lifecycle.as_str());
    7 VERSION "version": ["version", "update_stage", "update_percent", "update_target"] |seen, line| {
        line.cell(seen.version());
        let (stage, percent, target) = seen.update().map_or(("", None, ""), |(stage, percent, target)| {
            (stage.as_str(), percent, target)
        });
        line.cell(stage);
        line.cell(&percent.map_or_else(String::new, |percent| percent.to_string()));
        line.cell(target);
    };
    8 HEALTH "health": ["health", "severity", "messages"] |seen, line| {
        line.cell(seen.state().as_str());
        line.cell(seen.severity().map_or("", Severity::as_str));
        let codes: Vec<&str> = rules_of(seen.verdict.active).map(RuleId::code).collect();
        line.cell(&codes.join("; "));
    };
    9 STATUS "status": ["status"] |seen, line| line.cell(seen.status());
    10 CONNECTED "connected": ["connected"] |seen, line| line.cell(yes(seen.connected()));
    11 LAST_CONNECTED "last_connected": ["last_connected", "last_connected_age_seconds"] |seen, line| {
        line.cell(&seen.last_connected().unwrap_or_default());
        line.cell(&seen.age_seconds().map_or_else(String::new, |age| format!("{age:.3}")));
    };
    12 THREAT_INTEL "ti": ["ti_version", "ti_mode", "ti_status"] |seen, line| {
        let (version, status) = seen.threat_intel();
        line.cell(version);
        line.cell(seen.sensor.more.threat_intel.as_str());
        line.cell(status);
    };
    13 MUTED "muted": ["muted"] |seen, line| line.cell(yes(seen.muted()));
    14 NOTES "notes": ["notes"] |seen, line| line.cell(&seen.sensor.more.notes);
}

fn yes(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// A sensor of a list. Fields that were not asked for are left out.
#[derive(Serialize, ToSchema)]
#[schema(as = SensorItem)]
pub(super) struct SensorItem {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<ItemSite>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifecycle: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<ItemVersion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<ItemHealth>,
    /// `ok`, `disconnected`, or `unavailable`: it can't be connected now, so it is not missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    /// Heard over a connection, its own or a gateway's.
    #[serde(skip_serializing_if = "Option::is_none")]
    connected: Option<bool>,
    /// Time of its newest heartbeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    last_connected: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    last_connected_age_seconds: Option<Option<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ti: Option<ItemThreatIntel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    muted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<String>,
}

/// A site with what people say of it.
#[derive(Serialize, ToSchema)]
#[schema(as = SensorItemSite)]
struct ItemSite {
    id: String,
    name: String,
    tags: BTreeMap<String, String>,
    owners: Vec<String>,
}

/// Software.
#[derive(Serialize, ToSchema)]
#[schema(as = SensorItemVersion)]
struct ItemVersion {
    /// As reported.
    reported: Option<String>,
    /// None before its first heartbeat.
    update: Option<ItemUpdate>,
}

/// An update under way, or the last one.
#[derive(Serialize, ToSchema)]
#[schema(as = SensorItemUpdate)]
struct ItemUpdate {
    stage: &'static str,
    /// While it is sent or installed.
    percent: Option<u8>,
    target: Option<String>,
}

/// The verdict.
#[derive(Serialize, ToSchema)]
#[schema(as = SensorItemHealth)]
struct ItemHealth {
    state: &'static str,
    /// Of the worst active message.
    severity: Option<&'static str>,
    /// Codes of active messages.
    messages: Vec<&'static str>,
    /// Codes of rules that can't be judged now.
    unknown: Vec<&'static str>,
}

/// Threat intelligence.
#[derive(Serialize, ToSchema)]
#[schema(as = SensorItemThreatIntel)]
struct ItemThreatIntel {
    version: Option<String>,
    mode: &'static str,
    status: &'static str,
}

fn known(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl SensorItem {
    pub(super) fn of(seen: &Seen<'_>, fields: Fields) -> SensorItem {
        let sensor = seen.sensor;
        let has = |field| fields.has(field);
        let subscription = || seen.subscription.map(|found| Reference::new(found.id, &found.name));
        SensorItem {
            id: sensor.id.to_string(),
            name: has(Fields::NAME).then(|| sensor.name.to_string()),
            r#type: has(Fields::TYPE).then(|| sensor.kind.as_str()),
            zone: has(Fields::ZONE).then(|| Reference::new(seen.zone.id, &seen.zone.name)),
            site: has(Fields::SITE).then(|| ItemSite::of(seen.site)),
            subscription: if has(Fields::SUBSCRIPTION) { subscription() } else { None },
            lifecycle: has(Fields::LIFECYCLE).then(|| sensor.lifecycle.as_str()),
            version: has(Fields::VERSION).then(|| ItemVersion {
                reported: known(seen.version()),
                update: seen.update().map(|(stage, percent, target)| ItemUpdate {
                    stage: stage.as_str(),
                    percent,
                    target: known(target),
                }),
            }),
            health: has(Fields::HEALTH).then(|| ItemHealth {
                state: seen.state().as_str(),
                severity: seen.severity().map(Severity::as_str),
                messages: rules_of(seen.verdict.active).map(RuleId::code).collect(),
                unknown: rules_of(seen.verdict.unknown).map(RuleId::code).collect(),
            }),
            status: has(Fields::STATUS).then(|| seen.status()),
            connected: has(Fields::CONNECTED).then(|| seen.connected()),
            last_connected: has(Fields::LAST_CONNECTED).then(|| seen.last_connected()),
            last_connected_age_seconds: has(Fields::LAST_CONNECTED).then(|| seen.age_seconds()),
            ti: has(Fields::THREAT_INTEL).then(|| {
                let (version, status) = seen.threat_intel();
                let mode = sensor.more.threat_intel.as_str();
                ItemThreatIntel { version: known(version), mode, status }
            }),
            muted: has(Fields::MUTED).then(|| seen.muted()),
            notes: has(Fields::NOTES).then(|| sensor.more.notes.to_string()),
        }
    }
}

impl ItemSite {
    fn of(site: &Site) -> ItemSite {
        let tags = site.about.tags.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        ItemSite {
            id: site.id.to_string(),
            name: site.name.to_string(),
            tags: tags.collect(),
            owners: site.about.owners.iter().map(ToString::to_string).collect(),
        }
    }
}
