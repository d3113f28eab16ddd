//! Sites, zones, sensors and what is said of them: from nothing to a fleet, and back.

use serde_json::{Value, json};

use super::rig::Rig;
use crate::process::{Program, until};

fn texts(items: &Value, place: &str) -> Vec<String> {
    let items = items.as_array().expect("a list");
    let mut texts: Vec<String> = items
        .iter()
        .map(|item| item.pointer(place).and_then(Value::as_str).unwrap_or("?").to_owned())
        .collect();
    texts.sort();
    texts
}

/// A server with three pumps, two of them in Lyon.
fn pumps() -> Rig {
    let rig = Rig::start();
    for (name, site) in [("pump 1", "Lyon"), ("pump 2", "Lyon"), ("pump 1", "Bern")] {
        rig.cli.done(&["sensors", "onboard", name, "--site", site, "--create"]);
    }
    rig
}

#[test]
fn places_are_made_on_the_way_and_only_when_that_is_asked_for() {
    let rig = Rig::start();
    let onboard = ["sensors", "onboard", "pump station", "--site", "Lyon"];
    let said = rig.cli.fails(3, &onboard);
    assert!(said.contains("no site is called `Lyon`") && said.contains("--create"), "{said}");
    let made = rig.cli.json(&[&onboard[..], &["--create", "--notes", "behind the gate"]].concat());
    assert_eq!((&made["name"], &made["lifecycle"]), (&json!("pump station"), &json!("pending-activation")));
    assert_eq!((&made["site"]["name"], &made["zone"]["name"]), (&json!("Lyon"), &json!("Default")));
    let said = rig.cli.fails(3, &onboard);
    assert!(said.contains("name-taken") && said.contains("field  name"), "{said}");
    let listed = rig.cli.json(&["sensors", "list"]);
    assert_eq!(texts(&listed, "/name"), ["pump station"]);
    let card = rig.cli.done(&["sensors", "get", "pump station"]);
    for part in ["pump station", "pending-activation", "Lyon", "Default"] {
        assert!(card.contains(part), "{part}: {card}");
    }
    let iot = rig.cli.json(&[
        "sensors",
        "onboard",
        "camera",
        "--type",
        "enterprise-iot",
        "--subscription",
        "Default",
    ]);
    assert_eq!(iot["type"], "enterprise-iot");
}

#[test]
fn a_sensor_is_onboarded_where_it_was_said_and_nowhere_else() {
    let rig = Rig::start();
    for name in ["North", "South"] {
        rig.cli.done(&["subscriptions", "create", name]);
    }
    rig.cli.done(&["sites", "create", "Lyon", "--subscription", "North"]);
    let lyon = rig.cli.json(&["sites", "get", "Lyon"])["id"].as_str().unwrap().to_owned();
    let onboard = |more: &[&str]| rig.cli.run(&[&["sensors", "onboard", "pump"], more].concat());
    // The only Lyon there is belongs to somebody else.
    let ran = onboard(&["--subscription", "South", "--site", "Lyon"]);
    assert!(ran.code == 3 && ran.err.contains("no site is called `Lyon`"), "{ran:?}");
    let ran = onboard(&["--subscription", "South", "--site", &lyon, "--create"]);
    assert!(ran.code == 3, "an id is not made into a name either: {ran:?}");
    let ran = onboard(&["--subscription", "South", "--site", "Lyon", "--create", "--json"]);
    let made: Value = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert_eq!(made["subscription"]["name"], "South");
    let ran = onboard(&["--subscription", "North", "--site", "Lyon", "--create", "--json"]);
    assert!(ran.code == 0 && ran.out.contains(&lyon), "{ran:?}");
    // Usage that says two things, or too little.
    let iot = ["--type", "enterprise-iot", "--subscription", "North"];
    assert_eq!(onboard(&[&iot[..], &["--site", "Lyon"]].concat()).code, 64);
    assert_eq!(onboard(&[&iot[..], &["--zone", "Line 1"]].concat()).code, 64);
    let ran = onboard(&["--subscription", "North"]);
    assert!(ran.code == 64 && ran.err.contains("--site"), "{ran:?}");
    assert_eq!(rig.cli.json(&["sensors", "list"]).as_array().unwrap().len(), 2);
}

#[test]
fn a_sensor_is_not_registered_for_a_file_that_cannot_be_written() {
    let rig = Rig::start();
    std::fs::write(rig.cli.home().join("taken"), "x").unwrap();
    for out in ["taken", "no/such/folder"] {
        rig.cli.fails(1, &["sensors", "onboard", "pump", "--site", "Lyon", "--create", "--out", out]);
    }
    assert_eq!(rig.cli.json(&["sensors", "list"]), json!([]));
    assert_eq!(std::fs::read(rig.cli.home().join("taken")).unwrap(), b"x");
    rig.cli.fails(3, &["sensors", "onboard", "pump", "--site", "Lyon", "--out", "fresh"]);
    assert!(!rig.cli.home().join("fresh").exists(), "no empty file is left");
}

#[test]
fn sensors_are_found_by_what_is_said_of_them_in_every_form() {
    let rig = pumps();
    let list = |filter: &[&str]| rig.cli.json(&[&["sensors", "list"], filter].concat());
    assert_eq!(texts(&list(&["--site", "Lyon"]), "/name"), ["pump 1", "pump 2"]);
    assert_eq!(texts(&list(&["--search", "PUMP 1"]), "/site/name"), ["Bern", "Lyon"]);
    assert_eq!(texts(&list(&["--lifecycle", "active"]), "/name"), [""; 0]);
    assert_eq!(texts(&list(&["--sort", "-name", "--max", "1"]), "/name"), ["pump 2"]);
    assert_eq!(texts(&list(&["--type", "ot-cloud", "--connected", "false"]), "/name").len(), 3);
    rig.cli.done(&[
        "sites",
        "edit",
        "Bern",
        "--tag",
        "line=3",
        "--tag",
        "new=yes",
        "--owner",
        "ann@example.com",
    ]);
    assert_eq!(texts(&list(&["--tag", "line=3", "--tag", "new"]), "/site/name"), ["Bern"]);
    assert_eq!(texts(&list(&["--tag", "line=3", "--tag", "old"]), "/site/name"), [""; 0]);
    rig.cli.done(&["sites", "edit", "Bern", "--remove-tag", "new"]);
    rig.cli.done(&["sensors", "edit", "pump 2", "--ti-mode", "manual"]);
    assert_eq!(texts(&list(&["--ti-mode", "manual"]), "/name"), ["pump 2"]);
    assert_eq!(list(&["--ti-status", "failed"]), json!([]));
    let some = rig.cli.done(&["sensors", "list", "--fields", "name,notes", "-o", "csv", "--sort", "name"]);
    assert!(some.starts_with("name,notes\r\npump 1,"), "{some}");
    // The numbers are those of the last sweep.
    until("the fleet is counted", || (rig.cli.json(&["fleet"])["sensors"]["total"] == 3).then_some(()));
    let series = rig.cli.json(&["sensors", "series", "pump 2", "--metric", "cpu-ratio"]);
    assert_eq!(series, json!([]), "it never reported");
    assert!(rig.cli.fails(3, &["sensors", "series", "pump 2", "--metric", "x"]).contains("field  metric"));
    assert_eq!(texts(&list(&["--tag", "line=3", "--owner", "ann@example.com"]), "/site/name"), ["Bern"]);
    let csv = rig.cli.done(&["sensors", "list", "--sort", "name", "-o", "csv"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("name,health.state,site.name,"), "{csv}");
    assert_eq!(lines.len(), 4, "{csv}");
    assert!(lines[3].starts_with("pump 2,"), "{csv}");
    let columns = lines[0].split(',').count();
    assert!(lines.iter().all(|line| line.split(',').count() == columns), "nothing here needs quotes: {csv}");
    let lines = rig.cli.done(&["sensors", "list", "-o", "ndjson"]);
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    let table = rig.cli.done(&["sensors", "list"]);
    assert!(
        table.starts_with("NAME") && !table.contains('\u{1b}'),
        "no colours where there is no terminal: {table}"
    );
    assert!(rig.cli.done(&["sensors", "list", "-o", "wide"]).contains("LIFECYCLE"));
    let said = rig.cli.fails(3, &["sensors", "list", "--health", "poorly"]);
    assert!(said.contains("field  health"), "{said}");
}

#[test]
fn a_name_that_two_have_is_told_with_where_they_stand() {
    let rig = pumps();
    let said = rig.cli.fails(3, &["sensors", "get", "pump 1"]);
    assert!(said.contains("name of 2 sensors") && said.contains("Lyon") && said.contains("Bern"), "{said}");
    let said: Value =
        serde_json::from_str(&rig.cli.fails(3, &["sensors", "get", "pump 1", "--json"])).unwrap();
    assert_eq!(said["candidates"].as_array().unwrap().len(), 2, "{said}");
    // A site's name may have in it what separates others in a filter.
    rig.cli.done(&["sites", "create", "Lyon, hall 2"]);
    rig.cli.done(&["zones", "create", "Default", "--site", "Lyon, hall 2"]);
    rig.cli.done(&["sensors", "onboard", "pump 2", "--site", "Lyon, hall 2"]);
    let there = rig.cli.json(&["sensors", "get", "pump 2", "--in", "Lyon, hall 2"]);
    assert_eq!(there["site"]["name"], "Lyon, hall 2");
    let elsewhere = there["id"].as_str().unwrap();
    rig.cli.fails(3, &["sensors", "get", elsewhere, "--in", "Bern"]);
    rig.cli.done(&["sensors", "delete", elsewhere, "--in", "Lyon, hall 2", "--yes"]);
    let one = rig.cli.json(&["sensors", "get", "pump 1", "--in", "Bern"]);
    let id = one["id"].as_str().unwrap();
    assert_eq!(rig.cli.json(&["sensors", "get", id])["site"]["name"], "Bern");
    assert_eq!(
        rig.cli.json(&["sensors", "get", "PUMP 2"])["name"],
        "pump 2",
        "when nothing else has the name"
    );
    let said = rig.cli.fails(3, &["sensors", "get", "pump 3"]);
    assert!(said.contains("no sensor is called `pump 3`") && said.contains("sensors list"), "{said}");
    rig.cli.fails(3, &["sensors", "get", "00000000-0000-4000-8000-000000000000"]);
}

#[test]
fn some_sensors_get_their_activation_files_at_once() {
    let rig = pumps();
    let make = ["sensors", "activations", "--filter", "q=pump", "--out", "files"];
    let made = rig.cli.json(&make);
    assert_eq!(made["files"].as_array().unwrap().len(), 3, "{made}");
    let folder = rig.cli.home().join("files");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3, "two of them have one name");
    for file in made["files"].as_array().unwrap() {
        let told = rig.cli.done(&["verify", file["file"].as_str().unwrap()]);
        assert!(told.starts_with("good"), "{told}");
    }
    rig.cli.fails(1, &make);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3, "nothing is written over");
}

#[test]
fn one_sensor_is_renamed_moved_muted_and_deleted() {
    let rig = pumps();
    let get = || rig.cli.json(&["sensors", "get", "main pump"]);
    rig.cli.done(&["sensors", "rename", "pump 2", "main pump"]);
    assert_eq!(get()["site"]["name"], "Lyon");
    rig.cli.done(&["zones", "create", "Line 3", "--site", "Bern"]);
    rig.cli.done(&["sensors", "move", "main pump", "--site", "Bern", "--zone", "Line 3"]);
    assert_eq!((&get()["site"]["name"], &get()["zone"]["name"]), (&json!("Bern"), &json!("Line 3")));
    let edited =
        rig.cli.json(&["sensors", "edit", "main pump", "--notes", "new seal", "--ti-mode", "manual"]);
    assert_eq!((&edited["notes"], &edited["threat_intel_mode"]), (&json!("new seal"), &json!("manual")));
    rig.cli.done(&["sensors", "set-mode", "main pump", "--mode", "ot-local"]);
    assert_eq!(get()["type"], "ot-local");
    rig.cli.done(&["sensors", "mark-active", "main pump"]);
    assert_eq!(get()["lifecycle"], "active");
    rig.cli.done(&["sensors", "reactivate", "main pump"]);
    assert_eq!(get()["lifecycle"], "pending-reactivation");
    rig.cli.done(&["sensors", "mute", "main pump", "--for", "2h", "--reason", "seal"]);
    assert_eq!(get()["muted"], true);
    rig.cli.done(&["sensors", "unmute", "main pump"]);
    assert_eq!(get()["muted"], false);
    rig.cli.done(&["sensors", "windows", "main pump", "add", "--for", "4h", "--reason", "night"]);
    let windows = rig.cli.json(&["sensors", "windows", "main pump", "list"]);
    assert_eq!(windows[0]["reason"], "night");
    let number = windows[0]["id"].to_string();
    rig.cli.done(&["sensors", "windows", "main pump", "remove", &number]);
    assert_eq!(rig.cli.json(&["sensors", "windows", "main pump", "list"]), json!([]));
    let both = ["main pump", "pump 1", "--in", "Lyon"];
    let said = rig.cli.fails(3, &[&["sensors", "add-window"], &both[..], &["--for", "1h", "--yes"]].concat());
    assert!(said.contains("no sensor is called `main pump`"), "it went to Bern: {said}");
    rig.cli.fails(64, &["sensors", "add-window", "main pump"]);
    let set = ["--number", "disk-almost-full.percent=95", "--interval", "30s", "--yes"];
    let pumps = ["sensors", "set-policy", "--filter", "site=Bern"];
    assert_eq!(rig.cli.json(&[&pumps[..], &set].concat())["done"], 2);
    let policy = rig.cli.json(&["policy", "get", "--sensor", "main pump"]);
    assert_eq!(policy["said"]["numbers"]["disk-almost-full"]["percent"], 95.0);
    rig.cli.done(&["sensors", "set-policy", "main pump", "--interval", "20s"]);
    let policy = rig.cli.json(&["policy", "get", "--sensor", "main pump"]);
    assert_eq!(policy["said"], json!({ "interval_seconds": 20.0, "numbers": {} }), "and nothing else");
    let add = ["sensors", "add-window", "--filter", "site=Bern", "--for", "1h", "--yes"];
    assert_eq!(rig.cli.json(&add)["done"], 2);
    assert_eq!(rig.cli.json(&["sensors", "windows", "main pump", "list"]).as_array().unwrap().len(), 1);
    let why = rig.cli.done(&["sensors", "why", "main pump"]);
    assert!(why.starts_with("RULE"), "{why}");
    assert!(rig.cli.json(&["sensors", "why", "main pump"]).as_array().is_some_and(|rules| !rules.is_empty()));
    let said = rig.cli.fails(64, &["sensors", "delete", "main pump"]);
    assert!(said.contains("--yes") && said.contains("`main pump` will be deleted"), "{said}");
    rig.cli.done(&["sensors", "delete", "main pump", "--yes"]);
    rig.cli.fails(3, &["sensors", "get", "main pump"]);
}

#[test]
fn many_sensors_change_by_one_command_after_a_question() {
    let rig = pumps();
    let zone = rig.cli.json(&["zones", "create", "Line 3", "--site", "Lyon"]);
    let zone = zone["id"].as_str().unwrap();
    let mv = ["sensors", "move", "--filter", "q=pump,connected=false", "--zone", zone];
    // `pump 1` of Bern would be a second one in Lyon.
    let ran = rig.cli.run(&[&mv[..], &["--dry-run"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("2 of 3 sensors would be moved to"), "{ran:?}");
    assert!(ran.err.contains("`pump 1` is left out") && ran.err.contains("name-taken"), "{ran:?}");
    assert!(rig.cli.fails(64, &mv).contains("3 sensors will be moved"));
    let ran = rig.cli.run(&[&mv[..], &["--yes", "--all-or-nothing"]].concat());
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.out.contains("0 of 3"), "{ran:?}");
    let ran = rig.cli.run(&[&mv[..], &["--yes", "--all-or-nothing", "--json"]].concat());
    let said: Value = serde_json::from_str(&ran.out).expect("one document");
    assert_eq!(said["left_out"][0]["code"], "name-taken", "{said}");
    let ran = rig.cli.run(&[&mv[..], &["--yes"]].concat());
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.out.contains("2 of 3 sensors are moved to"), "{ran:?}");
    assert_eq!(texts(&rig.cli.json(&["sensors", "list", "--zone", zone]), "/name"), ["pump 1", "pump 2"]);
    let muted = rig.cli.json(&["sensors", "mute", "pump 2", "pump 1", "--in", "Lyon", "--yes"]);
    assert_eq!((&muted["state"], &muted["done"]), (&json!("done"), &json!(2)));
    assert_eq!(
        texts(&rig.cli.json(&["sensors", "list", "--health", "muted"]), "/name"),
        ["pump 1", "pump 2"]
    );
    rig.cli.fails(3, &["sensors", "unmute", "--filter", "site=Nowhere", "--yes"]);
    rig.cli.fails(64, &["sensors", "unmute", "--filter", "colour=red", "--yes"]);
    rig.cli.fails(64, &["sensors", "unmute", "pump 2", "--filter", "site=Lyon"]);
    rig.cli.fails(64, &["sensors", "unmute", "--in", "Lyon", "--filter", "q=pump"]);
    rig.cli.fails(64, &["sensors", "unmute", "--all", "--filter", "site=Lyon"]);
    rig.cli.fails(3, &["sensors", "unmute", "--filter", "q=nobody", "--dry-run"]);
    let all = rig.cli.json(&["sensors", "unmute", "--all", "--dry-run"]);
    assert_eq!((&all["matched"], &all["would_do"]), (&json!(3), &json!(3)));
    let some = rig.cli.json(&["sensors", "unmute", "--filter", "site=Lyon,site=Bern,q=pump 2", "--dry-run"]);
    assert_eq!(some["matched"], 1);
    rig.cli.fails(3, &["sensors", "unmute", "pump 2", "pump 9", "--yes"]);
    let jobs = rig.cli.json(&["jobs", "list"]);
    assert_eq!(texts(&jobs, "/action"), ["move", "move", "move", "mute"]);
    let moved = jobs.as_array().unwrap().iter().find(|job| job["action"] == "move").unwrap();
    let id = moved["id"].as_str().unwrap();
    assert_eq!(rig.cli.json(&["jobs", "get", id])["id"], id);
    assert_eq!(rig.cli.json(&["jobs", "items", id]).as_array().unwrap().len(), 3);
    rig.cli.done(&["sensors", "delete", "--filter", "site=Lyon", "--yes"]);
    assert_eq!(texts(&rig.cli.json(&["sensors", "list"]), "/site/name"), ["Bern"]);
}

#[test]
fn sites_keep_what_an_edit_does_not_name() {
    let rig = Rig::start();
    rig.cli.done(&["subscriptions", "create", "North"]);
    rig.cli.done(&[
        "sites",
        "create",
        "Lyon",
        "--tag",
        "country=fr",
        "--tag",
        "line=1",
        "--owner",
        "ann@example.com",
    ]);
    let edit =
        ["sites", "edit", "Lyon", "--name", "Lyon south", "--tag", "line=2", "--remove-tag", "country"];
    let site = rig.cli.json(&edit);
    assert_eq!(site["tags"], json!({ "line": "2" }));
    assert_eq!(site["owners"], json!(["ann@example.com"]));
    let site = rig.cli.json(&[
        "sites",
        "edit",
        "Lyon south",
        "--owner",
        "bob@example.com",
        "--remove-owner",
        "ann@example.com",
    ]);
    assert_eq!((&site["owners"], &site["name"]), (&json!(["bob@example.com"]), &json!("Lyon south")));
    rig.cli.fails(64, &["sites", "edit", "Lyon south"]);
    let said = rig.cli.fails(3, &["sites", "edit", "Lyon south", "--owner", "nobody"]);
    assert!(said.contains("field  owners"), "{said}");
    rig.cli.done(&["sites", "mute", "Lyon south", "--reason", "power is off"]);
    assert_eq!(rig.cli.json(&["sites", "get", "Lyon south"])["quiet"]["mute"]["reason"], "power is off");
    rig.cli.done(&["sites", "unmute", "Lyon south"]);
    let add = ["sites", "windows", "Lyon south", "add", "--from", "2035-01-01T00:00:00Z", "--for", "4h"];
    rig.cli.done(&add);
    assert_eq!(
        rig.cli.json(&["sites", "windows", "Lyon south", "list"])[0]["until"],
        "2035-01-01T04:00:00.000Z"
    );
    let said = rig.cli.fails(64, &["sites", "delete", "Lyon south"]);
    assert!(said.contains("--yes") && !said.contains("--dry-run"), "there is none: {said}");
    rig.cli.done(&["subscriptions", "create", "South"]);
    assert!(rig.cli.fails(64, &["sites", "create", "Bern"]).contains("--subscription"));
    rig.cli.done(&["sites", "create", "Bern", "--subscription", "South"]);
    rig.cli.done(&["sites", "delete", "Bern", "--yes"]);
    let names = texts(&rig.cli.json(&["sites", "list"]), "/name");
    assert!(names.contains(&"Lyon south".to_owned()) && !names.contains(&"Bern".to_owned()), "{names:?}");
    assert!(rig.cli.done(&["sites", "list"]).contains("line=2"));
}

#[test]
fn zones_subscriptions_and_gateways_come_and_go() {
    let rig = Rig::start();
    rig.cli.done(&["subscriptions", "create", "Nord"]);
    rig.cli.done(&["subscriptions", "rename", "Nord", "North"]);
    assert_eq!(texts(&rig.cli.json(&["subscriptions", "list"]), "/name"), ["North"]);
    assert!(rig.cli.done(&["subscriptions", "get", "North"]).contains("North"));
    rig.cli.done(&["sites", "create", "Lyon"]);
    rig.cli.done(&["zones", "create", "Line 1", "--site", "Lyon"]);
    rig.cli.done(&["zones", "rename", "Line 1", "Line 2", "--in", "Lyon"]);
    assert!(texts(&rig.cli.json(&["zones", "list", "--in", "Lyon"]), "/name").contains(&"Line 2".to_owned()));
    assert_eq!(rig.cli.json(&["zones", "get", "Line 2"])["site"]["name"], "Lyon");
    rig.cli.done(&["gateways", "create", "relay", "--site", "Lyon"]);
    rig.cli.done(&["gateways", "edit", "relay", "--name", "relay 1"]);
    assert_eq!(texts(&rig.cli.json(&["gateways", "list"]), "/name"), ["relay 1"]);
    assert!(rig.cli.done(&["gateways", "get", "relay 1"]).contains("Lyon"));
    rig.cli.fails(3, &["subscriptions", "delete", "North", "--yes"]);
    rig.cli.done(&["gateways", "delete", "relay 1", "--yes"]);
    rig.cli.done(&["zones", "delete", "Line 2", "--yes"]);
    rig.cli.done(&["sites", "delete", "Lyon", "--yes"]);
    rig.cli.done(&["subscriptions", "delete", "North", "--yes"]);
    assert_eq!(rig.cli.json(&["subscriptions", "list"]), json!([]));
}

#[test]
fn numbers_are_said_at_a_level_and_taken_back() {
    let rig = pumps();
    let set =
        ["policy", "set", "--site", "Lyon", "--number", "disk-almost-full.percent=95", "--interval", "30s"];
    let policy = rig.cli.json(&set);
    assert_eq!(policy["said"]["numbers"]["disk-almost-full"]["percent"], 95.0);
    assert_eq!(policy["said"]["interval_seconds"], 30.0);
    let at_sensor = rig.cli.done(&["policy", "get", "--sensor", "pump 2"]);
    assert!(at_sensor.contains("95") && at_sensor.contains("site"), "who said it: {at_sensor}");
    let clear =
        ["policy", "set", "--site", "Lyon", "--clear", "disk-almost-full.percent", "--clear-interval"];
    let policy = rig.cli.json(&clear);
    assert_eq!(policy["said"], json!({ "interval_seconds": null, "numbers": {} }));
    let wrong = ["policy", "set", "--site", "Lyon", "--number", "disk-almost-full.percent=950"];
    assert!(rig.cli.fails(3, &wrong).contains("field  numbers.disk-almost-full.percent"));
    rig.cli.fails(64, &["policy", "get"]);
    rig.cli.fails(64, &["policy", "set", "--site", "Lyon", "--number", "disk-almost-full=95"]);
}

#[test]
fn events_are_told_as_they_happen() {
    let rig = pumps();
    let mut follow = Program::of(rig.cli.command(&["events", "sensors", "--json", "--max", "8"]));
    // Until enough was heard: whoever follows may begin after the first of these.
    let mut turn = 0;
    while follow.said().len() < 8 {
        turn += 1;
        rig.cli.done(&["sensors", "edit", "pump 2", "--notes", &format!("turn {turn}")]);
        assert!(turn < 1_000, "nothing is heard");
    }
    assert!(follow.wait().success());
    let events: Vec<Value> = follow.said().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 8);
    let sensor = events.iter().find(|event| event["event"] == "sensor").expect("a change of a sensor");
    assert_eq!(sensor["data"]["sensor"]["name"], "pump 2");
    assert!(sensor["id"].is_string());
    let after = sensor["id"].as_str().unwrap();
    rig.cli.done(&["sensors", "rename", "pump 2", "pump 3"]);
    let next = rig.cli.done(&["events", "sensors", "--after", after, "--max", "2"]);
    assert!(next.lines().count() == 2 && next.contains("sensor"), "{next}");
}
