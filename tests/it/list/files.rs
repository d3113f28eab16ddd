//! All that a filter finds, as CSV and NDJSON, and the signatures of these files.

use std::collections::BTreeMap;

use fleetpulse::fleet::{Command, Role, SiteEdit};
use fleetpulse::identity::{SignatureCheck, SignedError, VouchedFile};
use fleetpulse::store::Position;
use fleetpulse::time::Clock;
use serde_json::Value;

use super::world::{FORMULAS, World, name_of, pages, text};
use crate::export::rig::{Answer, Rig, until};

const SENSORS: usize = 3_000;

/// Read by a library that knows nothing of ours.
fn rows(body: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(body.as_bytes());
    reader.deserialize().map(|row| row.unwrap()).collect()
}

#[test]
fn all_that_a_filter_finds_comes_as_one_file() {
    let world = World::new(SENSORS);
    csv_holds_every_column(&world);
    csv_is_harmless(&world.rig);
    lines_hold_what_pages_hold(&world);
    files_have_no_pages(&world.rig);
}

fn csv_holds_every_column(world: &World) {
    let file = world.rig.get_as("/api/v1/sensors?sort=name", "text/csv");
    assert_eq!(file.status, 200);
    assert_eq!(file.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    let name = file.header("content-disposition").unwrap();
    assert!(
        name.starts_with("attachment; filename=\"fleetpulse-sensors-20") && name.ends_with("Z.csv\""),
        "{name}"
    );
    let rows = rows(&file.body);
    assert_eq!(rows.len(), SENSORS);
    let noted = rows.iter().find(|row| row["id"] == world.sensors[5].to_string()).unwrap();
    assert_eq!(noted["notes"], "Behind the PRESS,\n\"second\" shelf");
    assert_eq!((&*noted["ti_mode"], &*noted["muted"]), ("manual", "false"));
    let tagged = rows.iter().find(|row| row["id"] == world.sensors[8].to_string()).unwrap();
    assert_eq!(tagged["tags"], "a,b=c=d; region=north");
    assert_eq!(tagged["owners"], "ann@example.com; bob@example.com");
    let page = world.page("sort=name&limit=1000");
    for (row, item) in rows.iter().zip(page["items"].as_array().unwrap()) {
        assert_eq!(row["id"], text(item, "/id"), "in the order that was asked for");
        for (column, pointer) in [
            ("type", "/type"),
            ("zone", "/zone/name"),
            ("site", "/site/name"),
            ("subscription", "/subscription/name"),
            ("lifecycle", "/lifecycle"),
            ("status", "/status"),
            ("ti_status", "/ti/status"),
        ] {
            assert_eq!(row[column], text(item, pointer), "{column}");
        }
    }
    let few = world.rig.get_as("/api/v1/sensors?site=site%201&fields=name", "text/csv");
    assert!(few.body.starts_with("id,name\r\n"), "{}", few.body);
    assert_eq!(few.body.lines().count(), 1 + SENSORS / 6);
    let none = world.rig.get_as("/api/v1/sensors?q=nobody", "text/csv");
    assert_eq!(none.body.lines().count(), 1, "the head alone");
}

fn csv_is_harmless(rig: &Rig) {
    let file = rig.get_as("/api/v1/sensors?sort=name", "text/csv");
    let rows = rows(&file.body);
    for formula in FORMULAS {
        assert!(rows.iter().any(|row| row["name"] == format!("'{formula}")), "{formula}");
    }
    for row in &rows {
        for (column, cell) in row {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{column}: {cell}");
        }
    }
}

fn lines_hold_what_pages_hold(world: &World) {
    // What the sweep does not change meanwhile.
    let query = "sort=name&fields=name,type,zone,site,subscription,lifecycle,notes,ti,last_connected";
    let file = world.rig.get_as(&format!("/api/v1/sensors?{query}"), "application/x-ndjson");
    assert_eq!(file.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> = file.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), SENSORS);
    let page = world.page(&format!("{query}&limit=1000"));
    for (line, item) in lines.iter().zip(page["items"].as_array().unwrap()) {
        assert_eq!(line, item);
    }
    let names: Vec<&str> = lines.iter().map(|line| text(line, "/name")).collect();
    assert!(FORMULAS.iter().all(|formula| names.contains(formula)), "JSON has names as they are");
    let mut expected: Vec<String> = (0..SENSORS).map(|n| name_of(n).to_lowercase()).collect();
    expected.sort();
    assert_eq!(names.iter().map(|name| name.to_lowercase()).collect::<Vec<_>>(), expected);
}

fn files_have_no_pages(rig: &Rig) {
    for query in ["limit=5", "cursor=x", "facets=true"] {
        let refused = rig.get_as(&format!("/api/v1/sensors?{query}"), "text/csv");
        assert_eq!((refused.status, &refused.json()["code"]), (400, &"unknown-parameter".into()), "{query}");
    }
}

/// The file, checked against the signature that its answer leads to.
fn vouched(rig: &Rig, file: &Answer, content: &str) -> Result<VouchedFile, SignedError> {
    assert_eq!(file.status, 200, "{file:?}");
    let signature = rig.get(file.header("fleetpulse-signature").expect("where its signature is"));
    assert_eq!((signature.status, signature.header("content-type")), (200, Some("application/jose")));
    let (authority, now) = (rig.server.authority(), rig.server.clock().unix());
    let trust = authority.trust();
    let mut check = SignatureCheck::begin(signature.body.as_bytes(), trust, now)?;
    check.update(content.as_bytes());
    check.finish()
}

#[test]
fn every_file_is_signed_and_a_change_of_it_shows() {
    let world = World::new(3_000);
    let rig = &world.rig;
    let position = rig.server.fleet().position();
    for path in
        ["sensors", "sensors?site=site%201&fields=name", "sites", "zones", "subscriptions", "gateways"]
    {
        for (accept, ending) in [("text/csv", ".csv"), ("application/x-ndjson", ".ndjson")] {
            let file = rig.get_as(&format!("/api/v1/{path}"), accept);
            let good = vouched(rig, &file, &file.body).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(file.header("content-type"), Some(good.media_type.as_str()), "{path}");
            assert!(
                file.header("content-disposition").unwrap().contains(&good.name),
                "{path}: {}",
                good.name
            );
            assert!(good.name.ends_with(ending), "{}", good.name);
            let register: Position = good.register.parse().unwrap();
            assert_eq!((register.log, good.bytes), (position.log, file.body.len() as u64));
            assert!(register.sequence >= position.sequence, "{register} has all that was there before");
            let changed = format!("{}x", file.body);
            assert_eq!(vouched(rig, &file, &changed), Err(SignedError::Edited), "{path}");
        }
    }
    let page = rig.get("/api/v1/sensors");
    assert!(page.header("fleetpulse-signature").is_none(), "a page is no file");
}

#[test]
fn a_signature_is_for_who_has_the_file_and_only_for_a_whole_one() {
    let world = World::new(10);
    let rig = &world.rig;
    let file = rig.get_as("/api/v1/sensors", "text/csv");
    let path = file.header("fleetpulse-signature").unwrap().to_owned();
    let other =
        rig.server.token_for("other", Role::Administrator, std::time::Duration::from_secs(60)).unwrap();
    let bearer = format!("Bearer {other}");
    let refused = rig.send_with("GET", &path, &[("Authorization", &bearer)], None);
    assert_eq!((refused.status, &refused.json()["code"]), (404, &"not-found".into()));
    assert_eq!(rig.get(&path).status, 200);
    for (id, status) in [("00000000-0000-4000-8000-000000000000", 404), ("x", 400)] {
        assert_eq!(rig.get(&format!("/api/v1/signatures/{id}")).status, status);
    }
    // Nobody took the body.
    let authorization = format!("Bearer {}", rig.token);
    let headers = [("Accept", "text/csv"), ("Authorization", authorization.as_str())];
    let head = rig.send_with("HEAD", "/api/v1/sensors", &headers, None);
    let path = head.header("fleetpulse-signature").expect("the same head").to_owned();
    until(&404, || rig.get(&path).status);
    // One's own files push out nobody else's signature, and the oldest of one's own.
    let mine = rig.get_as("/api/v1/sites", "text/csv").header("fleetpulse-signature").unwrap().to_owned();
    for _ in 0..32 {
        let headers = [("Accept", "text/csv"), ("Authorization", bearer.as_str())];
        assert_eq!(rig.send_with("GET", "/api/v1/sites", &headers, None).status, 200);
    }
    assert_eq!(rig.get(&mine).status, 200);
    for _ in 0..32 {
        assert_eq!(rig.get_as("/api/v1/sites", "text/csv").status, 200);
    }
    assert_eq!(rig.get(&mine).status, 404);
}

#[test]
fn places_are_files_too() {
    let world = World::new(60);
    let rig = &world.rig;
    let edit = SiteEdit { name: Some(FORMULAS[0].into()), tags: None, owners: None };
    world.apply(&[Command::EditSite { id: world.sites[3], edit }]);
    for list in ["sites", "zones", "subscriptions", "gateways"] {
        let file = rig.get_as(&format!("/api/v1/{list}?sort=-name"), "text/csv");
        let lines = rig.get_as(&format!("/api/v1/{list}?sort=-name"), "application/x-ndjson");
        let (rows, items) = (rows(&file.body), pages(rig, &format!("/api/v1/{list}?sort=-name&"), 100));
        let lines: Vec<Value> = lines.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ids = |items: &[Value]| items.iter().map(|item| text(item, "/id").to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(&lines), ids(&items), "{list}");
        assert_eq!(rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>(), ids(&items), "{list}");
        for row in &rows {
            assert!(row.values().all(|cell| !cell.starts_with(['=', '+', '-', '@'])), "{list}: {row:?}");
        }
        for query in ["limit=5", "cursor=x", "colour=red"] {
            let refused = rig.get_as(&format!("/api/v1/{list}?{query}"), "text/csv");
            assert_eq!(
                (refused.status, &refused.json()["code"]),
                (400, &"unknown-parameter".into()),
                "{list}"
            );
        }
    }
    let sites = rows(&rig.get_as("/api/v1/sites", "text/csv").body);
    let named = |name: &str| sites.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(named("Site 2")["owners"], "ann@example.com; bob@example.com");
    assert_eq!((&*named("Site 4")["muted"], &*named("Site 4")["sensors_muted"]), ("true", "10"));
    assert_eq!(named(&format!("'{}", FORMULAS[0]))["sensors"], "10");
    let zones = rows(&rig.get_as(&format!("/api/v1/zones?site={}", world.sites[1]), "text/csv").body);
    let sum: u32 = zones.iter().map(|row| row["sensors"].parse::<u32>().unwrap()).sum();
    assert_eq!((zones.len(), sum), (2, 10));
    assert!(zones.iter().all(|row| row["site"] == "Site 1"));
}
