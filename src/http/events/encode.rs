//! From changes, journal entries and live values to events: each encoded once, for all who may see it.

use ahash::AHashMap;
use bytes::Bytes;
use serde::Serialize;

use super::ring::{Entry, Event, Who};
use crate::fleet::{Change, Edit, Register, Sensor, Site, Zone};
use crate::health::{self, OverallState, RuleId, rules_of};
use crate::http::documents::{self, Reference};
use crate::http::message_history;
use crate::http::sign_in::standing::Over;
use crate::http::times::rfc3339;
use crate::limits::EVENT_LIVE_SENSORS;
use crate::live::{Lifecycle, Verdict};
use crate::store::{JournalEntry, Position, Subject};
use crate::time::UnixMillis;
use crate::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};

/// A sensor was changed.
#[derive(Serialize)]
struct SensorChange {
    /// `created`, `changed`, `deleted`; `left` for who may not see where it went.
    change: &'static str,
    id: String,
    at: String,
    /// As it is now; none when it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor: Option<SensorNow>,
}

#[derive(Serialize)]
struct SensorNow {
    name: String,
    r#type: &'static str,
    lifecycle: &'static str,
    zone: Option<Reference>,
    site: Option<Reference>,
    notes: String,
    ti_mode: &'static str,
}

/// A subscription, site, zone or gateway was changed.
#[derive(Serialize)]
struct PlaceChange {
    change: &'static str,
    id: String,
    at: String,
    /// Now; none when it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Of a zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<String>,
    /// Of a site.
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<String>,
}

/// How some sensors of a site stand now.
#[derive(Serialize)]
struct LiveChange<'l> {
    reset: bool,
    sensors: &'l [LiveNow],
}

/// How a sensor stands.
#[derive(Serialize)]
pub(super) struct LiveNow {
    pub(super) id: String,
    pub(super) state: &'static str,
    pub(super) connected: bool,
    /// Codes of its active messages.
    pub(super) messages: Vec<&'static str>,
}

impl LiveNow {
    pub(super) fn of(id: SensorId, verdict: Verdict, connected: bool) -> LiveNow {
        LiveNow {
            id: id.to_string(),
            state: OverallState::from_number(verdict.overall).as_str(),
            connected,
            messages: rules_of(verdict.active).map(RuleId::code).collect(),
        }
    }
}

/// Why a client begins anew.
#[derive(Serialize)]
struct Snapshot<'s> {
    /// `start`, `unknown-cursor`, `gap`.
    reason: &'s str,
    /// The list to read.
    read: &'s str,
}

/// Why nothing comes after this.
#[derive(Serialize)]
struct EndOfStream {
    reason: &'static str,
    detail: &'static str,
    again: bool,
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Who follows it may not any more.
    Access(Over),
    /// It lasted as long as one may.
    Life,
    /// The server stops.
    Stop,
    /// What comes next could not be read in time.
    Busy,
}

impl End {
    /// Reason, for programs; what it means, for people; whether the client may come back as it is.
    fn told(self) -> (&'static str, &'static str, bool) {
        let anew = false;
        match self {
            End::Access(Over::TokenDeleted) => {
                ("token-deleted", "the API token was deleted; use another", anew)
            }
            End::Access(Over::TokenExpired) => {
                ("token-expired", "the API token has expired; make a new one", anew)
            }
            End::Access(Over::UserDeleted) => ("user-deleted", "the user was deleted", anew),
            End::Access(Over::UserDisabled) => ("user-disabled", "the user may not sign in any more", anew),
            End::Access(Over::SessionEnded) => {
                ("session-ended", "the session was ended; sign in again", anew)
            }
            End::Access(Over::SessionExpired) => {
                ("session-expired", "the session has expired; sign in again", anew)
            }
            End::Access(Over::NoGrants) => {
                ("no-grants", "nothing is left that may be seen; ask an administrator", anew)
            }
            End::Access(Over::Busy) | End::Busy => {
                ("busy", "the server is busy; come back with the last `id`", true)
            }
            End::Life => ("life-over", "a stream lasts an hour; come back with the last `id`", true),
            End::Stop => ("server-stops", "the server stops; come back with the last `id`", true),
        }
    }
}

/// The lines of an event without `id` and end. JSON has no line breaks of its own.
fn lines(name: &str, document: &impl Serialize) -> Bytes {
    let mut text = format!("event: {name}\ndata: ").into_bytes();
    // Made of texts and numbers: it does not fail.
    let _ = serde_json::to_writer(&mut text, document);
    text.push(b'\n');
    text.into()
}

/// What the client has is void.
pub(super) fn snapshot(reason: &str, read: &str) -> Bytes {
    lines("snapshot", &Snapshot { reason, read })
}

/// The live values that the client has are void.
pub(super) fn live_reset() -> Bytes {
    lines("live", &LiveChange { reset: true, sensors: &[] })
}

/// The client was too slow.
pub(super) fn gap() -> Bytes {
    lines("gap", &serde_json::json!({}))
}

/// Nothing comes after this.
pub(super) fn end(why: End) -> Bytes {
    let (reason, detail, again) = why.told();
    lines("end", &EndOfStream { reason, detail, again })
}

/// Live values by site.
pub(super) fn live(by_site: AHashMap<(SiteId, SubscriptionId), Vec<LiveNow>>) -> Entry {
    let mut events = Vec::with_capacity(by_site.len());
    for (place, sensors) in by_site {
        for sensors in sensors.chunks(EVENT_LIVE_SENSORS) {
            events.push(Event {
                who: Who::Sites(vec![place]),
                except: None,
                text: lines("live", &LiveChange { reset: false, sensors }),
            });
        }
    }
    Entry { position: None, events }
}

/// All live values are void, for everybody.
pub(super) fn live_reset_entry() -> Entry {
    Entry { position: None, events: vec![Event { who: Who::Everybody, except: None, text: live_reset() }] }
}

/// An entry of the journal.
pub(super) fn message(register: &Register, place: Position, entry: &JournalEntry) -> Entry {
    let who = match (entry.subject, entry.site) {
        (_, Some(site)) => whose(register, site),
        (Subject::Gateway(id), None) => {
            let sites = register.gateway(id).map(|gateway| gateway.sites.iter());
            let places = sites.into_iter().flatten().filter_map(|&id| register.site(id));
            Who::Sites(places.map(|site| (site.id, site.subscription)).collect())
        }
        _ => Who::All,
    };
    // One text for all who may see it, by where the subject stood then: its name is for them while it stands there.
    let named = match entry.subject {
        Subject::Sensor(id) => documents::site_of(register, health::Subject::Sensor(id)) == entry.site,
        _ => true,
    };
    let text = lines("message", &message_history::item(register, place, entry, named));
    Entry { position: Some(place), events: vec![Event { who, except: None, text }] }
}

fn whose(register: &Register, site: SiteId) -> Who {
    register.site(site).map_or(Who::All, |site| Who::Sites(vec![(site.id, site.subscription)]))
}

fn whose_zone(register: &Register, zone: ZoneId) -> Who {
    register.zone(zone).map_or(Who::All, |zone| whose(register, zone.site))
}

/// Changes of a batch of the register's log; `register` is at least as new.
pub(super) fn changes(register: &Register, changes: &[Change], at: UnixMillis, events: &mut Vec<Event>) {
    let at = rfc3339(at);
    for change in changes {
        match change {
            Change::Sensor(edit) => sensor(register, edit, &at, events),
            Change::Zone(edit) => events.extend(zone(register, edit, &at)),
            Change::Site(edit) => events.extend(site(edit, &at)),
            Change::Subscription(edit) => {
                let id = |subscription: &crate::fleet::Subscription| subscription.id;
                let Some(id) = edit.after.as_ref().or(edit.before.as_ref()).map(id) else { continue };
                let sites = register.sites_of(id).map(|site| (site.id, id)).collect::<Vec<_>>();
                let who = if sites.is_empty() { Who::All } else { Who::Sites(sites) };
                let name = edit.after.as_ref().map(|after| after.name.to_string());
                let change = kind(&edit.before, &edit.after);
                let (id, at) = (id.to_string(), at.clone());
                let document = PlaceChange { change, id, at, name, site: None, subscription: None };
                events.push(Event { who, except: None, text: lines("subscription", &document) });
            }
            Change::Gateway(edit) => {
                let Some(now) = edit.after.as_ref().or(edit.before.as_ref()) else { continue };
                let places = now.sites.iter().filter_map(|&id| register.site(id));
                let who = Who::Sites(places.map(|site| (site.id, site.subscription)).collect());
                let name = edit.after.as_ref().map(|after| after.name.to_string());
                let change = kind(&edit.before, &edit.after);
                let (id, at) = (now.id.to_string(), at.clone());
                let document = PlaceChange { change, id, at, name, site: None, subscription: None };
                events.push(Event { who, except: None, text: lines("gateway", &document) });
            }
            Change::User(_) | Change::Token(_) | Change::Event(_) => {}
        }
    }
}

fn kind<T>(before: &Option<T>, after: &Option<T>) -> &'static str {
    match (before, after) {
        (None, _) => "created",
        (_, None) => "deleted",
        _ => "changed",
    }
}

fn sensor(register: &Register, edit: &Edit<Sensor>, at: &str, events: &mut Vec<Event>) {
    let alive = edit.after.as_ref().filter(|after| after.lifecycle != Lifecycle::Deleted);
    let Some(id) = edit.after.as_ref().or(edit.before.as_ref()).map(|sensor| sensor.id) else { return };
    let change = |change, sensor| SensorChange { change, id: id.to_string(), at: at.to_owned(), sensor };
    let was = edit.before.as_ref().map(|before| whose_zone(register, before.zone));
    let Some(after) = alive else {
        let who = was.unwrap_or(Who::All);
        return events.push(Event { who, except: None, text: lines("sensor", &change("deleted", None)) });
    };
    let is = whose_zone(register, after.zone);
    let zone = register.zone(after.zone);
    let now = SensorNow {
        name: after.name.to_string(),
        r#type: after.kind.as_str(),
        lifecycle: after.lifecycle.as_str(),
        zone: zone.map(|zone| Reference::new(zone.id, &zone.name)),
        site: zone.map(|zone| documents::site(register, zone.site)),
        notes: after.more.notes.to_string(),
        ti_mode: after.more.threat_intel.as_str(),
    };
    let text = lines("sensor", &change(kind(&edit.before, &edit.after), Some(now)));
    if let Some(was) = was.filter(|was| *was != is) {
        let text = lines("sensor", &change("left", None));
        events.push(Event { who: was, except: Some(is.clone()), text });
    }
    events.push(Event { who: is, except: None, text });
}

fn zone(register: &Register, edit: &Edit<Zone>, at: &str) -> Option<Event> {
    let now = edit.after.as_ref().or(edit.before.as_ref())?;
    let document = PlaceChange {
        change: kind(&edit.before, &edit.after),
        id: now.id.to_string(),
        at: at.to_owned(),
        name: edit.after.as_ref().map(|after| after.name.to_string()),
        site: Some(now.site.to_string()),
        subscription: None,
    };
    let text = lines("zone", &document);
    Some(Event { who: whose(register, now.site), except: None, text })
}

fn site(edit: &Edit<Site>, at: &str) -> Option<Event> {
    let now = edit.after.as_ref().or(edit.before.as_ref())?;
    let document = PlaceChange {
        change: kind(&edit.before, &edit.after),
        id: now.id.to_string(),
        at: at.to_owned(),
        name: edit.after.as_ref().map(|after| after.name.to_string()),
        site: None,
        subscription: Some(now.subscription.to_string()),
    };
    let who = Who::Sites(vec![(now.id, now.subscription)]);
    Some(Event { who, except: None, text: lines("site", &document) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Actor, Command, Grant, Role, Scope};
    use crate::live::SensorType;

    fn applied(register: &mut Register, commands: &[Command]) -> Vec<Event> {
        let batch = register.apply(commands, Actor::system("test"), UnixMillis(0)).unwrap();
        register.fold(&batch).unwrap();
        let mut events = Vec::new();
        changes(register, &batch.changes, batch.at, &mut events);
        events
    }

    /// Kinds of the events that somebody sees.
    fn seen(events: &[Event], scopes: &[Scope]) -> Vec<String> {
        let grants: Vec<Grant> = scopes.iter().map(|&scope| Grant { role: Role::Reader, scope }).collect();
        let shown = events.iter().filter(|event| event.is_for(&grants));
        let kind = |event: &Event| {
            let text = std::str::from_utf8(&event.text).unwrap();
            let data = text.split_once("data: ").unwrap().1;
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            format!("{} {}", text.lines().next().unwrap(), data["change"].as_str().unwrap())
        };
        shown.map(kind).collect()
    }

    #[test]
    fn who_sees_one_of_two_sites_sees_a_sensor_come_or_leave_and_nothing_of_the_other() {
        let mut register = Register::new();
        let subscription = SubscriptionId::from_number(1);
        let (site, zone) = (SiteId::from_number, ZoneId::from_number);
        let mut commands = vec![Command::AddSubscription { id: subscription, name: "Contoso".into() }];
        for number in [1, 2] {
            commands.push(Command::AddSite {
                id: site(number),
                subscription,
                name: format!("Site {number}"),
            });
            commands.push(Command::AddZone { id: zone(number), site: site(number), name: "Line".into() });
        }
        let sensor = SensorId::from_number(1);
        commands.push(Command::AddSensor {
            id: sensor,
            zone: zone(1),
            name: "press".into(),
            kind: SensorType::OtCloud,
            lifecycle: Lifecycle::Active,
        });
        let made = applied(&mut register, &commands);
        let one = [Scope::Site(site(1))];
        assert_eq!(
            seen(&made, &one),
            [
                "event: subscription created",
                "event: site created",
                "event: zone created",
                "event: sensor created"
            ]
        );
        let moved = applied(&mut register, &[Command::MoveSensor { id: sensor, zone: zone(2) }]);
        assert_eq!(seen(&moved, &one), ["event: sensor left"]);
        assert_eq!(seen(&moved, &[Scope::Site(site(2))]), ["event: sensor changed"]);
        assert_eq!(seen(&moved, &[Scope::Site(site(1)), Scope::Site(site(2))]), ["event: sensor changed"]);
        assert_eq!(seen(&moved, &[Scope::Subscription(subscription)]), ["event: sensor changed"]);
        assert_eq!(seen(&moved, &[Scope::All]), ["event: sensor changed"]);
        assert!(seen(&moved, &[]).is_empty());
        let gone = applied(&mut register, &[Command::DeleteSensor { id: sensor }]);
        assert!(seen(&gone, &one).is_empty());
        assert_eq!(seen(&gone, &[Scope::All]), ["event: sensor deleted"]);
    }
}
