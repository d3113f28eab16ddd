//! `GET /api/v1/sensors`: who is on the list, in which order, on which page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use fleetpulse::fleet::{Command, SensorEdit};
use fleetpulse::live::{Lifecycle, SensorType};
use fleetpulse::wire::id::SensorId;
use serde_json::Value;

use super::world::{World, name_of, pages, text};
use crate::export::fleet::{Running, lasting};
use crate::export::rig::{Rig, until};

const SENSORS: usize = 200;

fn numbers(right: impl Fn(usize) -> bool) -> BTreeSet<String> {
    (0..SENSORS).filter(|&number| right(number)).map(name_of).collect()
}

#[test]
fn what_the_register_says_filters_and_orders_in_pages_of_any_size() {
    let world = World::new(SENSORS);
    filters_find_who_they_mean(&world);
    orders_hold_across_pages(&world);
    fields_and_counts_are_chosen(&world);
    cursors_belong_to_their_list(&world);
}

fn filters_find_who_they_mean(world: &World) {
    let check = |query: &str, right: &dyn Fn(usize) -> bool| {
        for limit in [7, 1_000] {
            let found = world.names(query, limit);
            let expected = numbers(right);
            assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), expected, "{query}");
            assert_eq!(found.len(), expected.len(), "{query}: each once");
        }
        assert_eq!(world.page(query)["total"], numbers(right).len(), "{query}");
    };
    let (site, zone) = (world.sites[3], world.zones[1]);
    check("", &|_| true);
    check("type=ot-local", &|n| n % 5 == 4);
    check("type=ot-local,ot-cloud&lifecycle=pending-activation", &|n| n % 4 == 3);
    check(&format!("site={site}"), &|n| n % 6 == 3);
    check("site=site%203&site=SITE%205", &|n| n % 6 == 3 || n % 6 == 5);
    check(&format!("zone={zone}"), &|n| n % 6 == 0 && n % 3 != 0);
    check("zone=LINE%20A", &|n| n % 3 == 0);
    check("subscription=default", &|_| true);
    check("tag=region", &|n| n % 6 == 2);
    check("tag=region=north&tag=a,b=c%3Dd", &|n| n % 6 == 2);
    check("tag=region=south", &|_| false);
    check("owner=BOB@example.com", &|n| n % 6 == 2);
    check("owner=bob", &|_| false);
    check("q=pump", &|n| name_of(n).starts_with("pump"));
    check("q=%C3%84RGER", &|n| name_of(n).starts_with("Ärger"));
    check("q=second%20press", &|n| n == 5);
    check("q=site%204", &|n| n % 6 == 4 || name_of(n).contains('4'));
    check(&format!("q={}", world.sensors[9]), &|n| n == 9);
    check("q=%3DHYPERLINK", &|n| n == 10);
    check("ti_mode=manual", &|n| n == 5);
    check("health=muted", &|n| n == 7 || n % 6 == 4);
    check("connected=true", &|_| false);
    check("version=%3E%3D1.0", &|_| false);
    check("ti_status=unknown", &|_| true);
    check("q=%20%20", &|_| true);
}

fn orders_hold_across_pages(world: &World) {
    let by_name = |reverse: bool| {
        let mut names: Vec<String> = (0..SENSORS).map(name_of).collect();
        names.sort_by_key(|name| name.to_lowercase());
        if reverse {
            names.reverse();
        }
        names
    };
    for limit in [1, 13, 200, 1_000] {
        assert_eq!(world.names("sort=name", limit), by_name(false), "{limit}");
        assert_eq!(world.names("sort=-name", limit), by_name(true), "{limit}");
    }
    let mut all_ids: Vec<String> = world.sensors.iter().map(ToString::to_string).collect();
    all_ids.sort();
    for sort in [
        "health",
        "type",
        "zone",
        "site",
        "subscription",
        "version",
        "last_connected",
        "ti_version",
        "lifecycle",
    ] {
        for sort in [sort.to_owned(), format!("-{sort}")] {
            let whole = pages(&world.rig, &format!("/api/v1/sensors?sort={sort}&"), 1_000);
            let cut = pages(&world.rig, &format!("/api/v1/sensors?sort={sort}&"), 17);
            let ids = |items: &[Value]| -> Vec<String> {
                items.iter().map(|item| text(item, "/id").to_owned()).collect()
            };
            assert_eq!(ids(&whole), ids(&cut), "{sort}");
            let mut sorted = ids(&whole);
            sorted.sort();
            assert_eq!(sorted, all_ids, "{sort}");
            let key = |item: &Value| match sort.trim_start_matches('-') {
                "type" => SensorType::ALL.iter().position(|k| k.as_str() == text(item, "/type")),
                "lifecycle" => Lifecycle::ALL.iter().position(|k| k.as_str() == text(item, "/lifecycle")),
                "site" => text(item, "/site/name").strip_prefix("Site ").and_then(|n| n.parse().ok()),
                _ => None,
            };
            let keys: Vec<_> = whole.iter().map(key).collect();
            let in_order =
                if sort.starts_with('-') { keys.is_sorted_by(|a, b| a >= b) } else { keys.is_sorted() };
            assert!(in_order, "{sort}");
            let ties = whole.windows(2).filter(|two| key(&two[0]) == key(&two[1]));
            let fixed = ["type", "lifecycle", "site"].contains(&sort.trim_start_matches('-'));
            assert!(
                !fixed || ties.into_iter().all(|two| text(&two[0], "/id") < text(&two[1], "/id")),
                "{sort}: equal ones by id"
            );
        }
    }
}

fn fields_and_counts_are_chosen(world: &World) {
    let page = world.page(&format!("q={}", world.sensors[5]));
    let item = &page["items"][0];
    assert_eq!(text(item, "/notes"), "Behind the PRESS,\n\"second\" shelf");
    assert_eq!((text(item, "/status"), text(item, "/health/state")), ("unavailable", "unknown"));
    assert_eq!((&item["last_connected"], &item["connected"]), (&Value::Null, &Value::Bool(false)));
    assert_eq!(item["ti"], serde_json::json!({"version": null, "mode": "manual", "status": "unknown"}));
    assert_eq!(text(item, "/subscription/name"), "Default");
    let with_tags = world.page(&format!("q={}", world.sensors[8]));
    assert_eq!(with_tags["items"][0]["site"]["owners"][1], "bob@example.com");
    assert_eq!(with_tags["items"][0]["site"]["tags"]["a,b"], "c=d");
    let few = world.page("fields=name,%20muted&limit=1");
    let keys: Vec<_> = few["items"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["id", "muted", "name"]);
    let counted = world.page("facets=true&type=ot-local&limit=1");
    let facet = |group: &str| -> BTreeMap<String, u64> {
        let rows = counted["facets"][group].as_array().unwrap().iter();
        rows.map(|row| (text(row, "/value").to_owned(), row["count"].as_u64().unwrap())).collect()
    };
    assert_eq!(facet("type")["ot-local"], 40);
    assert_eq!(facet("type")["ot-cloud"], 0);
    assert_eq!(facet("lifecycle").values().sum::<u64>(), 40);
    assert_eq!(facet("site").values().sum::<u64>(), 40);
    assert_eq!(facet("version")[""], 40);
    let muted = numbers(|n| n % 5 == 4 && (n == 7 || n % 6 == 4)).len() as u64;
    assert_eq!(facet("health")["muted"], muted);
}

fn cursors_belong_to_their_list(world: &World) {
    let cursor = |query: &str| text(&world.page(query), "/next").to_owned();
    let refused = |query: &str| {
        let refused = world.rig.get(&format!("/api/v1/sensors?{query}"));
        (refused.status, refused.json()["code"].as_str().unwrap().to_owned())
    };
    let bad = (400, "bad-cursor".to_owned());
    let one = cursor("sort=name&limit=3");
    assert_eq!(refused(&format!("sort=-name&limit=3&cursor={one}")), bad);
    assert_eq!(refused(&format!("sort=name&q=press&cursor={one}")), bad);
    assert_eq!(refused(&format!("sort=name&cursor={one}x")), bad);
    assert_eq!(refused("cursor=AAAA"), bad);
    let same = world.page(&format!("sort=name&limit=5&cursor={one}"));
    assert_eq!(same["items"].as_array().unwrap().len(), 5, "another limit is the same list");
}

#[test]
fn hostile_queries_are_refused_by_name() {
    let world = World::new(10);
    let refused = |query: &str| {
        let refused = world.rig.get(&format!("/api/v1/sensors?{query}"));
        assert_eq!(refused.status, 400, "{query}: {refused:?}");
        let problem = refused.json();
        assert!(!text(&problem, "/valid").is_empty(), "{query}");
        format!("{} {}", text(&problem, "/code"), text(&problem, "/field"))
    };
    for (query, field) in [
        ("colour=red", "unknown-parameter colour"),
        ("type=cloud", "bad-parameter type"),
        ("health=ill", "bad-parameter health"),
        ("code=no-such-rule", "bad-parameter code"),
        ("lifecycle=deleted", "bad-parameter lifecycle"),
        ("version=%3Cabc", "bad-parameter version"),
        ("site=Atlantis", "bad-parameter site"),
        ("zone=%00", "bad-parameter zone"),
        ("connected=maybe", "bad-parameter connected"),
        ("sort=colour", "bad-parameter sort"),
        ("sort=--name", "bad-parameter sort"),
        ("sort=name&sort=name", "bad-parameter sort"),
        ("fields=password", "bad-parameter fields"),
        ("tag==x", "bad-parameter tag"),
        ("limit=0", "bad-parameter limit"),
        ("limit=1001", "bad-parameter limit"),
        ("cursor=%00%ff", "bad-cursor cursor"),
        ("facets=1", "bad-parameter facets"),
    ] {
        assert_eq!(refused(query), field, "{query}");
    }
    assert_eq!(refused(&format!("q={}", "x".repeat(201))), "bad-parameter q");
    assert_eq!(refused(&format!("site={}", "a,".repeat(101))), "bad-parameter site");
    assert_eq!(refused(&"q=1&".repeat(33)), "bad-parameter ");
    for odd in
        ["q=%ff%fe%00", "q=%E2%80%AE", "q=%27%20OR%201%3D1", "q=.*%28", "owner=%3Cscript%3E", "q=&sort=name"]
    {
        assert_eq!(world.rig.get(&format!("/api/v1/sensors?{odd}")).status, 200, "{odd}");
    }
}

/// The property test of the search does this over a model; here threads, locks and cursors are real.
#[test]
fn who_stays_is_on_one_page_while_others_come_go_and_change() {
    let world = World::new(SENSORS);
    let stop = AtomicBool::new(false);
    // Odd ones stay as they are; even ones are renamed, moved and deleted, new ones come.
    let stays: BTreeSet<String> = world.sensors.iter().skip(1).step_by(2).map(ToString::to_string).collect();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let (server, mut round) = (&world.rig.server, 0_usize);
            while !stop.load(Ordering::Relaxed) {
                let id = world.sensors[(round * 2) % world.sensors.len()];
                let fresh = SensorId::from_number(1_000_000 + round as u64);
                let name = format!("{} {round}", ["a", "press", "zz"][round % 3]);
                let commands = [
                    Command::EditSensor { id, edit: SensorEdit::named(name.clone()) },
                    Command::MoveSensor { id, zone: world.zones[round % world.zones.len()] },
                    Command::DeleteSensor { id },
                    Command::AddSensor {
                        id: fresh,
                        zone: world.zones[0],
                        name: format!("new {name}"),
                        kind: SensorType::OtCloud,
                        lifecycle: Lifecycle::Active,
                    },
                ];
                for command in commands {
                    // Some of them are gone by then.
                    let _ = server.apply(&[command], fleetpulse::fleet::Actor::command_line("test"));
                }
                round += 1;
            }
        });
        for _ in 0..3 {
            for sort in ["name", "-name", "site", "type"] {
                let mut seen = BTreeMap::<String, usize>::new();
                for item in pages(&world.rig, &format!("/api/v1/sensors?fields=id&sort={sort}&"), 9) {
                    *seen.entry(text(&item, "/id").to_owned()).or_default() += 1;
                }
                for id in &stays {
                    assert_eq!(seen.get(id), Some(&1), "{sort}: {id}");
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_sensors_say_filters_and_orders() {
    let rig = Rig::start_with(|config| config.http.requests_per_second = 100_000);
    let fleet = Running::start(&rig.server, &lasting(""));
    let names = |query: &str| -> BTreeSet<String> {
        let items = pages(&rig, &format!("/api/v1/sensors?{query}&"), 5);
        items.iter().map(|item| text(item, "/name").to_owned()).collect()
    };
    let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    until(&set(&["north-001"]), || names("code=disconnected&site=north"));
    until(&set(&["north-002", "north-003", "north-004"]), || names("code=disk-almost-full"));
    let everybody: BTreeSet<String> = fleet.plan.sensors.iter().map(|sensor| sensor.name.clone()).collect();
    until(&everybody, || {
        let (healthy, unhealthy) = (names("health=healthy"), names("health=unhealthy"));
        assert!(healthy.is_disjoint(&unhealthy));
        let unknown = names("health=in-doubt");
        healthy.union(&unhealthy).cloned().collect::<BTreeSet<_>>().union(&unknown).cloned().collect()
    });
    assert!(names("health=unhealthy").is_superset(&set(&["north-001", "north-002", "north-004"])));
    assert_eq!(names("health=critical,warning"), names("health=unhealthy"));
    assert!(names("connected=true").contains("north-002"));
    let first = rig.get("/api/v1/sensors?limit=1").json();
    assert_eq!(text(&first, "/items/0/health/state"), "critical", "worst first");
    let last = rig.get("/api/v1/sensors?limit=1&sort=-health").json();
    assert_ne!(text(&last, "/items/0/health/state"), "critical");
    let silent = &rig.get("/api/v1/sensors?q=north-001").json()["items"][0];
    assert_eq!(text(silent, "/health/severity"), "critical");
    assert_eq!(silent["health"]["messages"][0], "disconnected");
    assert!(silent["last_connected_age_seconds"].as_f64().unwrap() > 0.5);
    let oldest = rig.get("/api/v1/sensors?site=north&sort=last_connected&limit=1").json();
    assert_eq!(text(&oldest, "/items/0/name"), "north-001");
    let version =
        text(&rig.get("/api/v1/sensors?q=north-002").json(), "/items/0/version/reported").to_owned();
    assert!(names(&format!("version={version}")).contains("north-002"));
    assert!(names(&format!("q=north%20{version}")).contains("north-002"));
    assert!(names("version=%3C1.0").is_empty());
    let whole = pages(&rig, "/api/v1/sensors?sort=-version&", 3);
    assert_eq!(whole.len(), everybody.len());
    let site = rig.get("/api/v1/sites?q=north").json();
    assert_eq!(site["items"][0]["sensors"]["total"], names("site=north").len());
    assert!(site["items"][0]["sensors"]["unhealthy"].as_u64().unwrap() >= 4);
    let gateway = rig.get("/api/v1/gateways").json();
    assert_eq!(text(&gateway, "/items/0/name"), "relay");
}
