//! All that a filter finds, as CSV and NDJSON.

use std::collections::BTreeMap;

use serde_json::Value;

use super::world::{FORMULAS, World, name_of, text};
use crate::export::rig::Rig;

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
