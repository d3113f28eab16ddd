//! A token for one site, on every route that there is: nothing of another site is shown, counted or changed.
//!
//! The table ([`super::scope_table`]) says of each operation what it is about. The operations are read from the API's own
//! description, so a new one without a row there fails the test.

use std::collections::BTreeSet;
use std::time::Duration;

use fleetpulse::fleet::{Actor, Change, Command, Mute, Place};
use fleetpulse::live::{Lifecycle, SensorType};
use fleetpulse::time::Clock;
use fleetpulse::wire::id::{GatewayId, SensorId, SiteId, SubscriptionId, ZoneId};
use serde_json::{Value, json};

use super::scope_table::About::{Everything, List, Nothing, Stream, Thing, WholeBody, WholeThing};
use super::scope_table::{About, Body, Kind, Side, id_of, table};
use crate::export::rig::{Answer, Rig, until};
use crate::list::follow::{Asked, Follow};

struct World {
    rig: Rig,
    own: Side,
    /// In the same subscription, and in another one.
    others: [Side; 2],
    bearer: String,
}

fn side(rig: &Rig, subscription: SubscriptionId, name: &'static str) -> Side {
    let (site, zone, gateway) = (SiteId::fresh(), ZoneId::fresh(), GatewayId::fresh());
    let (sensor, local) = (SensorId::fresh(), SensorId::fresh());
    let add = |id, name: String, kind| Command::AddSensor {
        id,
        zone,
        name,
        kind,
        lifecycle: Lifecycle::PendingActivation,
    };
    let window = |place| Command::AddWindow {
        place,
        from: rig.server.clock().unix(),
        until: rig.server.clock().unix().plus(Duration::from_secs(60)),
        reason: format!("work at {name}"),
    };
    let mute = |place| Command::SetMute { place, mute: Some(Mute { until: None, reason: name.into() }) };
    rig.server
        .apply(
            &[
                Command::AddSite { id: site, subscription, name: format!("Site {name}") },
                Command::AddZone { id: zone, site, name: format!("Hall {name}") },
                add(sensor, format!("press {name}"), SensorType::OtCloud),
                add(local, format!("local {name}"), SensorType::OtLocal),
                Command::AddGateway { id: gateway, name: format!("relay {name}"), sites: vec![site] },
                window(Place::Site(site)),
                window(Place::Sensor(sensor)),
                mute(Place::Sensor(local)),
            ],
            Actor::command_line("test"),
        )
        .unwrap();
    Side { name, subscription, site, zone, sensor, local, gateway, job: String::new(), token: String::new() }
}

impl World {
    fn new() -> World {
        let rig = Rig::start_with(|config| {
            config.http.requests_per_second = 100_000;
            config.http.metrics_without_sign_in = fleetpulse::http::MetricsAccess::Nowhere;
        });
        let [contoso, fabrikam] = ["Contoso", "Fabrikam Oslo"].map(|name| {
            let id = SubscriptionId::fresh();
            let add = Command::AddSubscription { id, name: name.into() };
            rig.server.apply(&[add], Actor::command_line("test")).unwrap();
            id
        });
        let mut own = side(&rig, contoso, "Lyon");
        let mut others = [side(&rig, contoso, "Turin"), side(&rig, fabrikam, "Oslo")];
        let both = Command::AddGateway {
            id: GatewayId::fresh(),
            name: "relay of both".into(),
            sites: vec![own.site, others[0].site],
        };
        rig.server.apply(&[both], Actor::command_line("test")).unwrap();
        let token = |side: &Side| {
            let body = json!({"name": format!("of {}", side.name),
                "grants": [{"role": "administrator", "site": side.site.to_string()}]});
            let made = rig.send("POST", "/api/v1/tokens", Some(&body));
            assert_eq!(made.status, 201, "{made:?}");
            let text = |name: &str| made.json()[name].as_str().unwrap().to_owned();
            (text("id"), format!("Bearer {}", text("secret")))
        };
        let (id, bearer) = token(&own);
        own.token = id;
        for other in &mut others {
            other.token = token(other).0;
        }
        let mut world = World { rig, own, others, bearer };
        world.own.job = world.job(&world.bearer, &world.own);
        let all = format!("Bearer {}", world.rig.token);
        for place in 0..world.others.len() {
            world.others[place].job = world.job(&all, &world.others[place]);
        }
        world
    }

    /// A bulk change that is finished: its id.
    fn job(&self, bearer: &str, side: &Side) -> String {
        let body = json!({"action": "unmute", "items": [side.sensor.to_string()]});
        let begun = self.rig.send_with("POST", "/api/v1/bulk", &[("Authorization", bearer)], Some(&body));
        assert_eq!(begun.status, 202, "{begun:?}");
        let id = begun.json()["id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/jobs/{id}");
        until(&true, || {
            let job = self.rig.send_with("GET", &path, &[("Authorization", bearer)], None).json();
            job["finished_at"].is_string()
        });
        id
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.rig.send_with(method, path, &[("Authorization", &self.bearer)], body)
    }

    /// Everything that is registered, but for when tokens were used.
    fn register(&self) -> Vec<Change> {
        let register = self.rig.server.fleet().register();
        register.as_changes().filter(|change| !matches!(change, Change::Token(_))).collect()
    }

    fn tokens(&self) -> usize {
        self.rig.server.fleet().register().tokens().count()
    }

    /// Nothing in an answer is of another site.
    fn hides_others(&self, what: &str, answer: &Answer) {
        for side in &self.others {
            let ids = [
                side.site.to_string(),
                side.zone.to_string(),
                side.sensor.to_string(),
                side.local.to_string(),
                side.gateway.to_string(),
                side.job.clone(),
                side.token.clone(),
            ];
            for word in ids.iter().map(String::as_str).chain([side.name]) {
                assert!(!answer.body.contains(word), "{what} shows {word}: {}", answer.body);
            }
        }
    }

    fn shows_own(&self, what: &str, answer: &Answer) {
        assert!(
            answer.body.contains("Lyon")
                || answer.body.contains("Contoso")
                || answer.body.contains(&self.own.job),
            "{what}: {answer:?}"
        );
    }
}

fn filled(path: &str, id: &str) -> String {
    path.replace("{id}", id).replace("{window}", "1")
}

/// Refused, and nothing was changed by it.
fn refused(world: &World, what: &str, statuses: &[u16], ask: impl FnOnce() -> Answer) {
    let before = (world.register(), world.tokens());
    let answer = ask();
    assert!(statuses.contains(&answer.status), "{what}: {answer:?}");
    assert!(before == (world.register(), world.tokens()), "{what} changed something");
    let named: BTreeSet<&str> = world.others.iter().map(|side| side.name).collect();
    assert!(named.iter().all(|name| !answer.body.contains(name)), "{what}: {answer:?}");
}

/// The thing itself answered, whatever it said.
fn reached(what: &str, answer: &Answer) {
    assert!(matches!(answer.status, 200..=299 | 409 | 422), "{what}: {answer:?}");
}

fn things(world: &World, method: &str, path: &str, kind: Kind, body: Body, whole: bool) {
    let ask = |side: &Side| {
        let body = body.map(|body| body(side));
        world.ask(method, &filled(path, &id_of(kind, side)), body.as_ref())
    };
    let own = id_of(kind, &world.own);
    for side in world.others.iter().filter(|side| whole || id_of(kind, side) != own) {
        let what = format!("{method} {path} of {}", side.name);
        refused(world, &what, if whole { &[403, 404] } else { &[404] }, || ask(side));
    }
    let what = format!("{method} {path} of the own site");
    if whole {
        refused(world, &what, &[403, 404], || ask(&world.own));
    } else if method != "DELETE" {
        let answer = ask(&world.own);
        reached(&what, &answer);
        world.hides_others(&what, &answer);
    }
}

fn bodies(world: &World, method: &str, path: &str, body: Body, whole: bool) {
    let body = body.expect("a body");
    let ask = |side: &Side| world.ask(method, path, Some(&body(side)));
    for side in &world.others {
        let what = format!("{method} {path} naming {}", side.name);
        // A dry run tells what would be left out.
        if path == "/api/v1/bulk" {
            let told = ask(side).json();
            assert_eq!((&told["would_do"], &told["would_run"]), (&json!(0), &json!(false)), "{what}: {told}");
            let real =
                json!({"action": "edit", "items": [side.sensor.to_string()], "arguments": {"notes": "x"}});
            refused(world, &what, &[202], || {
                let begun = world.ask(method, path, Some(&real));
                let job = format!("/api/v1/jobs/{}", begun.json()["id"].as_str().unwrap());
                until(&true, || world.ask("GET", &job, None).json()["finished_at"].is_string());
                let items = world.ask("GET", &format!("{job}/items"), None).json();
                assert_eq!(items["items"][0]["code"], "unknown-sensor", "{items}");
                begun
            });
        } else {
            refused(world, &what, &[403, 422], || ask(side));
        }
    }
    let what = format!("{method} {path} naming the own site");
    if whole {
        refused(world, &what, &[403, 422], || ask(&world.own));
    } else {
        let answer = ask(&world.own);
        assert!(matches!(answer.status, 200..=299), "{what}: {answer:?}");
        world.hides_others(&what, &answer);
    }
}

fn lists(world: &World, path: &str, queries: &[&str]) {
    for query in queries {
        let of = |side: &Side| {
            let query = query
                .replace("{site}", &side.site.to_string())
                .replace("{zone}", &side.zone.to_string())
                .replace("{sensor}", &side.sensor.to_string())
                .replace("{gateway}", &side.gateway.to_string())
                .replace("{name}", side.name);
            format!("{path}?{query}")
        };
        for accept in ["application/json", "text/csv", "application/x-ndjson"] {
            // A file has neither pages nor counts.
            if accept != "application/json" && (query.contains("facets") || query.contains("limit")) {
                continue;
            }
            let ask = |bearer: &str, at: &str| {
                world.rig.send_with("GET", at, &[("Authorization", bearer), ("Accept", accept)], None)
            };
            let own = of(&world.own);
            let answer = ask(&world.bearer, &own);
            let what = format!("{own} as {accept}");
            assert_eq!(answer.status, 200, "{what}: {answer:?}");
            world.hides_others(&what, &answer);
            // Of gateways nothing was said so far; and a page of one may be empty and go on.
            if !query.starts_with("gateway") && *query != "limit=1" {
                world.shows_own(&what, &answer);
            }
            for side in world.others.iter().filter(|_| query.contains('{')) {
                let at = of(side);
                let answer = ask(&world.bearer, &at);
                assert_eq!(answer.status, 200, "{at}: {answer:?}");
                let shown = answer.body.replace(&at, "");
                let shown = Answer { body: shown, ..answer };
                world.hides_others(&at, &shown);
                assert!(!shown.body.contains("Lyon"), "{at}: {shown:?}");
            }
        }
    }
    // Who sees everything is shown the others by the same list: that it hides them is no accident.
    if !path.ends_with("/jobs") {
        let all = world.rig.get(&format!("{path}?limit=1000"));
        assert!(all.body.contains("Oslo"), "{path}: {all:?}");
    }
}

fn operations(rig: &Rig) -> BTreeSet<(String, String)> {
    let document = rig.get("/api/v1/openapi.json").json();
    let of = |(path, item): (&String, &Value)| -> Vec<(String, String)> {
        item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())).collect()
    };
    document["paths"].as_object().unwrap().iter().flat_map(of).collect()
}

#[test]
fn a_token_for_one_site_reaches_nothing_of_another_by_any_route() {
    let world = World::new();
    // Each sensor that waits for its activation is a health message, in both lists.
    for path in ["/api/v1/messages", "/api/v1/messages/history"] {
        until(&3, || {
            let items = world.rig.get(&format!("{path}?limit=1000")).json()["items"].clone();
            let waits = |name: &&&str| items.to_string().contains(&format!("press {name}"));
            ["Lyon", "Turin", "Oslo"].iter().filter(waits).count()
        });
    }
    let table = table();
    let rows: BTreeSet<(String, String)> = table
        .iter()
        .map(|(method, path, _)| {
            let path = path.split('?').next().unwrap();
            ((*method).to_owned(), path.to_owned())
        })
        .collect();
    assert_eq!(rows, operations(&world.rig), "say in `scope_table` what the operation is about");
    for (method, path, about) in &table {
        match about {
            Thing(kind, body) => things(&world, method, path, *kind, *body, false),
            WholeThing(kind, body) => things(&world, method, path, *kind, *body, true),
            About::Body(body) => bodies(&world, method, path, *body, false),
            WholeBody(body) => bodies(&world, method, path, *body, true),
            List(queries) => lists(&world, path, queries),
            Stream => streams(&world, path),
            Everything => {
                let body = (*method != "GET").then(|| json!({}));
                let path = filled(path, "00000000-0000-4000-8000-000000000001");
                refused(&world, &path, &[403], || world.ask(method, &path, body.as_ref()));
            }
            Nothing => {}
        }
    }
    counts(&world);
    names_in_bodies_beside_the_path(&world);
    deletions(&world, &table);
}

fn streams(world: &World, path: &str) {
    let topic = path.rsplit('/').next().unwrap();
    let secret = world.bearer.strip_prefix("Bearer ").unwrap();
    let of = Asked::token(world.rig.server.http_addr(), secret);
    // All that the log has, and then what comes.
    let log = Follow::open(&of, topic, None).begins_anew("start");
    let first = format!("{}.0", log.split_once('.').unwrap().0);
    let mut stream = Follow::open(&of, topic, Some(&first));
    let marker = format!("marker {topic} Lyon");
    let named = |id: SensorId, name: &str| Command::EditSensor {
        id,
        edit: fleetpulse::fleet::SensorEdit::named(name),
    };
    for side in &world.others {
        let name = format!("renamed {topic} {}", side.name);
        world.rig.server.apply(&[named(side.sensor, &name)], Actor::command_line("test")).unwrap();
    }
    world.rig.server.apply(&[named(world.own.sensor, &marker)], Actor::command_line("test")).unwrap();
    let messages = world.ask("GET", "/api/v1/messages/history?limit=1000", None).json();
    let messages = messages["items"].as_array().unwrap().len();
    let mut seen = 0;
    loop {
        let event = stream.next_of_log();
        let text = event.data.to_string();
        let told = Answer { status: 200, head: String::new(), body: text.clone() };
        // A subscription is seen by who sees one of its sites; its name is of no site.
        world.hides_others(&format!("{path}: {}", event.name), &told);
        seen += 1;
        if text.contains(&marker) || topic == "messages" && seen >= messages {
            break;
        }
    }
    assert!(seen > 0);
}

/// What is counted is what may be seen.
fn counts(world: &World) {
    let list = |path: &str| world.ask("GET", path, None).json();
    let sensors = world.ask("GET", "/api/v1/sensors?facets=true&limit=1000", None).json();
    let shown = sensors["items"].as_array().unwrap().len();
    assert!(shown >= 2, "{sensors}");
    assert_eq!(sensors["total"], shown, "{sensors}");
    let sum = |facet: &str| -> u64 {
        sensors["facets"][facet].as_array().unwrap().iter().map(|one| one["count"].as_u64().unwrap()).sum()
    };
    for facet in ["type", "lifecycle", "site", "version"] {
        assert_eq!(sum(facet), shown as u64, "{facet}: {sensors}");
    }
    for (path, pointer) in
        [("/api/v1/sites", "/items/0/sensors/total"), ("/api/v1/subscriptions", "/items/0/sensors")]
    {
        let found = list(path);
        assert_eq!(found["items"].as_array().unwrap().len(), 1, "{found}");
        assert_eq!(found.pointer(pointer), Some(&json!(shown)), "{found}");
    }
    assert_eq!(list("/api/v1/subscriptions")["items"][0]["sites"], 1);
}

/// A thing of the own site can't be sent to, or be fetched from, another one.
fn names_in_bodies_beside_the_path(world: &World) {
    let own = format!("/api/v1/sensors/{}", world.own.sensor);
    for side in &world.others {
        let zone = json!({"zone": side.zone.to_string()});
        refused(world, "a move to another site", &[403, 422], || world.ask("PATCH", &own, Some(&zone)));
        let theirs = format!("/api/v1/sensors/{}", side.sensor);
        let zone = json!({"zone": world.own.zone.to_string()});
        refused(world, "a move from another site", &[404], || world.ask("PATCH", &theirs, Some(&zone)));
        for (sensor, zone) in [(world.own.sensor, side.zone), (side.sensor, world.own.zone)] {
            let body = json!({"action": "move", "items": [sensor.to_string()],
                "arguments": {"zone": zone.to_string()}, "dry_run": true});
            let told = world.ask("POST", "/api/v1/bulk", Some(&body));
            let done = told.status == 200 && told.json()["would_do"] != 0;
            assert!(!done, "{told:?}");
            world.hides_others(
                "a move of many",
                &Answer {
                    body: told.body.replace(&side.sensor.to_string(), "").replace(&side.zone.to_string(), ""),
                    ..told
                },
            );
        }
        let mixed = json!({"items": [world.own.sensor.to_string(), side.sensor.to_string()]});
        refused(world, "files of both", &[422], || world.ask("POST", "/api/v1/activations", Some(&mixed)));
    }
}

/// Last, since what they reach is gone then: the own ones, of which it was not shown yet that they are reached.
fn deletions(world: &World, table: &[(&str, &str, About)]) {
    let deletes = table.iter().filter(|(method, ..)| *method == "DELETE");
    let mut own: Vec<(&str, Kind)> = deletes
        .filter_map(|(_, path, about)| match about {
            Thing(kind, _) => Some((*path, *kind)),
            _ => None,
        })
        .collect();
    // Windows and mutes before the things that have them; the token that asks at the very end.
    own.sort_by_key(|(path, kind)| (matches!(kind, Kind::Token), std::cmp::Reverse(path.len())));
    for (path, kind) in own {
        let path = filled(path, &id_of(kind, &world.own));
        reached(&path, &world.ask("DELETE", &path, None));
    }
    assert_eq!(world.ask("GET", "/api/v1/session", None).status, 401, "the token is gone");
}
