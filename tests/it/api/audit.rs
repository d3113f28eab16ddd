//! The audit log over the API: who did what, in order, with before and after, and who may see it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fleetpulse::fleet::{Actor, Command, Event, EventCode, Role, SiteEdit};
use fleetpulse::wire::id::SiteId;
use serde_json::{Value, json};

use super::rig::{Api, problem};

/// Names that a spreadsheet could take for something to compute.
const FORMULA: &str = "=HYPERLINK(\"http://x\",\"y\")";

/// All pages of a query.
fn all(api: &Api, query: &str, limit: usize) -> Vec<Value> {
    all_as(api, &api.token, query, limit)
}

/// All pages that somebody sees of it.
fn all_as(api: &Api, token: &str, query: &str, limit: usize) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    for _ in 0..1_000 {
        let path = format!("/api/v1/audit?limit={limit}{query}{cursor}");
        let page = api.request_as(token, "GET", &path).send();
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

fn text<'v>(item: &'v Value, pointer: &str) -> &'v str {
    item.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Action, change, kind and name of what it is about.
fn told(item: &Value) -> [&str; 4] {
    ["/action", "/change", "/subject/kind", "/subject/name"].map(|pointer| text(item, pointer))
}

#[test]
fn a_whole_story_is_told_with_who_from_where_before_and_after() {
    let api = Api::start();
    let begin = all(&api, "", 1_000).len();
    let (_, site, zone) = api.ground();
    let hall = api.made(&format!("/api/v1/sites/{site}/zones"), &json!({"name": "Hall"}));
    let id = api.sensor(&zone, "press");
    let path = format!("/api/v1/sensors/{id}");
    assert_eq!(api.patch(&path, &json!({"name": "press 2", "notes": "wet"})).status, 200);
    assert_eq!(api.patch(&path, &json!({"zone": hall["id"]})).status, 200);
    assert_eq!(api.put(&format!("{path}/mute"), &json!({"reason": "work"})).status, 200);
    let policy = json!({"interval_seconds": 20.0, "numbers": {"disk-almost-full": {"percent": 91.0}}});
    assert_eq!(api.put(&format!("/api/v1/sites/{site}/policy"), &policy).status, 200);
    assert_eq!(api.patch(&path, &json!({"name": "press 2"})).status, 200, "no change, and no entry");
    let file = api.request("POST", &format!("{path}/activation")).send();
    assert_eq!(file.status, 200);
    assert_eq!(api.delete(&path).status, 204);
    let bob = json!({"name": "bob", "password": "correct horse battery", "grants": [{"role": "reader"}]});
    let bob = api.made("/api/v1/users", &bob);
    let user = format!("/api/v1/users/{}", bob["id"].as_str().unwrap());
    let edit = json!({"password": "another long password", "grants": [{"role": "operator"}]});
    assert_eq!(api.patch(&user, &edit).status, 200);
    let made = api.made("/api/v1/tokens", &json!({"name": "ci", "grants": [{"role": "reader"}]}));
    let token = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(api.delete(&token).status, 204);

    let story = all(&api, "&order=oldest", 1_000).split_off(begin);
    let expected = [
        ["add-subscription", "created", "subscription", "Contoso"],
        ["add-subscription", "created", "site", "Enterprise network"],
        ["add-subscription", "created", "zone", "Default"],
        ["add-site", "created", "site", "Lyon"],
        ["add-zone", "created", "zone", "Line 1"],
        ["add-zone", "created", "zone", "Hall"],
        ["add-sensor", "created", "sensor", "press"],
        ["edit-sensor", "changed", "sensor", "press 2"],
        ["move-sensor", "changed", "sensor", "press 2"],
        ["mute", "changed", "sensor", "press 2"],
        ["set-policy", "changed", "site", "Lyon"],
        ["issue-activation", "download", "sensor", "press 2"],
        ["issue-activation", "changed", "sensor", "press 2"],
        ["delete-sensor", "deleted", "sensor", "press 2"],
        ["add-user", "created", "user", "bob"],
        ["edit-user", "changed", "user", "bob"],
        ["add-token", "created", "token", "ci"],
        ["delete-token", "deleted", "token", "ci"],
    ];
    // Beside the story, the use of the rig's own token is noted once.
    let story: Vec<Value> = story.into_iter().filter(|item| item["action"] != "touch-token").collect();
    assert_eq!(story.iter().map(told).collect::<Vec<_>>(), expected);
    for item in &story {
        let actor = ["/actor/kind", "/actor/name", "/actor/from"].map(|pointer| text(item, pointer));
        assert!(actor[0] == "token" && actor[1].starts_with("rig/") && actor[2] == "127.0.0.1", "{item}");
    }
    let sides = |place: usize| (story[place]["before"].clone(), story[place]["after"].clone());
    let (none, new) = sides(6);
    assert_eq!(
        (&none, &new["name"], &new["zone"]["name"]),
        (&Value::Null, &json!("press"), &json!("Line 1"))
    );
    assert_eq!(
        (new.get("notes"), &new["lifecycle"]),
        (None, &json!("pending-activation")),
        "what says nothing"
    );
    assert_eq!(
        sides(7),
        (json!({"name": "press", "notes": ""}), json!({"name": "press 2", "notes": "wet"})),
        "the fields that differ, and no others"
    );
    let place = |id: &Value, name: &str| json!({"zone": {"id": id, "name": name}});
    assert_eq!(sides(8), (place(&json!(zone), "Line 1"), place(&hall["id"], "Hall")));
    assert_eq!(sides(9), (json!({"mute": null}), json!({"mute": {"until": null, "reason": "work"}})));
    let said = json!({"interval_seconds": 20.0, "disk-almost-full": {"percent": 91.0}});
    assert_eq!(sides(10), (json!({"policy": {}}), json!({"policy": said})));
    assert_eq!((&story[11]["detail"], &story[11]["before"]), (&json!("activation file"), &Value::Null));
    assert_eq!(sides(12).1["activation"]["generation"], 1);
    assert_eq!(story[11]["entry"], story[12]["entry"], "one command");
    assert_eq!(sides(13).1["lifecycle"], "deleted");
    let reader = json!([{"role": "reader"}]);
    assert_eq!(
        sides(15),
        (
            json!({"grants": reader, "password": "set"}),
            json!({"grants": [{"role": "operator"}], "password": "replaced"})
        )
    );
    assert_eq!((&sides(17).0["name"], &sides(17).1), (&json!("ci"), &Value::Null));

    // No secret, and nothing that is kept of one.
    let whole = json!(all(&api, "", 1_000)).to_string();
    for secret in ["argon2", "horse", "fp_", made["secret"].as_str().unwrap()] {
        assert!(!whole.contains(secret), "{secret}");
    }
    let mut backwards = all(&api, "", 1_000);
    backwards.reverse();
    assert_eq!(backwards, all(&api, "&order=oldest", 3));
}

#[test]
fn filters_find_what_they_name_and_no_more() {
    let api = Api::start();
    let (subscription, site, zone) = api.ground();
    let other = api.made("/api/v1/sites", &json!({"name": "Metz", "subscription": subscription}));
    let other = other["id"].as_str().unwrap();
    let hall = api.made(&format!("/api/v1/sites/{other}/zones"), &json!({"name": "Hall"}));
    let (one, two) = (api.sensor(&zone, "one"), api.sensor(hall["id"].as_str().unwrap(), "two"));
    let gateway = api.made("/api/v1/gateways", &json!({"name": "relay", "sites": [other]}));
    assert_eq!(api.patch(&format!("/api/v1/sensors/{one}"), &json!({"zone": hall["id"]})).status, 200);
    let ann = api.server.token_for("ann", Role::Administrator, Duration::from_secs(60)).unwrap();
    let edit = api.request_as(&ann, "PATCH", &format!("/api/v1/sensors/{two}"));
    assert_eq!(edit.json(&json!({"notes": "x"})).send().status, 200);
    let counts = |query: &str| -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for item in all(&api, query, 2) {
            let [action, _, kind, name] = told(&item);
            *counts.entry(format!("{action} {kind} {name}")).or_default() += 1;
        }
        counts
    };
    let is = |query: &str, expected: &[&str]| {
        let expected: BTreeMap<String, usize> = expected.iter().map(|text| (text.to_string(), 1)).collect();
        assert_eq!(counts(query), expected, "{query}");
    };
    is(&format!("&sensor={one}"), &["add-sensor sensor one", "move-sensor sensor one"]);
    is(
        &format!("&zone={zone}"),
        &["add-zone zone Line 1", "add-sensor sensor one", "move-sensor sensor one"],
    );
    is(
        &format!("&site={site}"),
        &["add-site site Lyon", "add-zone zone Line 1", "add-sensor sensor one", "move-sensor sensor one"],
    );
    is(&format!("&site={other}&action=move-sensor"), &["move-sensor sensor one"]);
    is(&format!("&gateway={}", gateway["id"].as_str().unwrap()), &["add-gateway gateway relay"]);
    // It, its built-in site and zone, two sites with a zone and a sensor each, two changes of those, the gateway.
    assert_eq!(counts(&format!("&subscription={subscription}")).len(), 12);
    is("&actor=ann&action=edit-sensor", &["edit-sensor sensor two"]);
    assert_eq!(counts("&actor=an"), BTreeMap::new(), "a whole name");
    assert!(
        counts("&actor_kind=command-line")
            .keys()
            .all(|key| key.contains(" user ") || key.contains(" token "))
    );
    is("&action=add-gateway", &["add-gateway gateway relay"]);
    is("&actor_kind=peer", &[]);
    let users = api.get("/api/v1/users").json();
    let ann = users["items"].as_array().unwrap().iter().find(|user| user["name"] == "ann").unwrap();
    let of_ann = all(&api, &format!("&user={}", ann["id"].as_str().unwrap()), 100);
    let kinds: Vec<[&str; 4]> = of_ann.iter().map(told).collect();
    assert!(kinds.iter().any(|told| told[..3] == ["bulk", "created", "user"]), "{kinds:?}");
    assert!(kinds.iter().any(|told| told[2] == "token"), "and their tokens: {kinds:?}");

    // Times: from is in, until is out.
    let at = all(&api, "&action=add-gateway", 10)[0]["at"].as_str().unwrap().to_owned();
    is(&format!("&action=add-gateway&from={at}"), &["add-gateway gateway relay"]);
    is(&format!("&action=add-gateway&until={at}"), &[]);
    for (query, code, field) in [
        ("colour=red", "unknown-parameter", "colour"),
        ("actor_kind=robot", "bad-parameter", "actor_kind"),
        ("order=down", "bad-parameter", "order"),
        ("site=Lyon", "bad-parameter", "site"),
        (&format!("site={site}&sensor={one}"), "bad-parameter", "sensor"),
        ("cursor=x", "bad-cursor", "cursor"),
        ("limit=0", "bad-parameter", "limit"),
    ] {
        let answer = api.get(&format!("/api/v1/audit?{query}"));
        assert_eq!(problem(&answer), (400, code.into(), field.into()), "{query}");
    }
    let next = api.get("/api/v1/audit?limit=1").json()["next"].as_str().unwrap().to_owned();
    let other = api.get(&format!("/api/v1/audit?limit=1&order=oldest&cursor={next}"));
    assert_eq!(problem(&other).1, "bad-cursor", "of another order");
}

#[test]
fn pages_have_no_gaps_and_no_repeats_while_changes_come() {
    let api = Api::start();
    let (subscription, _, zone) = api.ground();
    let rows: Vec<Value> = (0..40)
        .map(|n| json!({"name": format!("pump {n}"), "type": "ot-cloud", "subscription": "Contoso", "site": "Lyon", "zone": "Line 1"}))
        .collect();
    let made = api.post("/api/v1/sensors/import", &json!(rows));
    assert!(made.status < 300, "{made:?}");
    let id = api.sensor(&zone, "press");
    let ids =
        |items: &[Value]| -> Vec<String> { items.iter().map(|item| text(item, "/id").to_owned()).collect() };
    for order in ["newest", "oldest"] {
        let before = ids(&all(&api, &format!("&order={order}"), 1_000));
        let (mut seen, mut cursor, mut number) = (Vec::new(), String::new(), 0);
        loop {
            let page = api.get(&format!("/api/v1/audit?limit=7&order={order}{cursor}")).json();
            seen.extend(ids(page["items"].as_array().unwrap()));
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
            number += 1;
            assert!(number < 1_000, "pages without end");
            // Not for ever, or the end would run away.
            if number <= 5 {
                let notes = json!({"notes": format!("{order} {number}")});
                assert_eq!(api.patch(&format!("/api/v1/sensors/{id}"), &notes).status, 200);
            }
        }
        let after = ids(&all(&api, &format!("&order={order}"), 1_000));
        assert_eq!(seen, if order == "newest" { before } else { after.clone() });
        assert_eq!(after.iter().collect::<BTreeSet<_>>().len(), after.len());
    }
    // One command, one entry, one item for each sensor.
    let found = all(&api, &format!("&subscription={subscription}"), 9);
    let imported = found.iter().filter(|item| text(item, "/subject/name").starts_with("pump "));
    let entries: Vec<&str> = imported.map(|item| text(item, "/entry")).collect();
    assert_eq!(entries.len(), 40);
    assert!(entries.iter().all(|entry| *entry == entries[0]));
}

#[test]
fn the_whole_log_comes_as_one_harmless_file() {
    let api = Api::start();
    let (_, site, zone) = api.ground();
    let id = api.sensor(&zone, FORMULA);
    for number in 0..3 {
        let notes = json!({"notes": format!("@SUM({number}),\n\"quoted\"")});
        assert_eq!(api.patch(&format!("/api/v1/sensors/{id}"), &notes).status, 200);
    }
    let hostile = Event { code: EventCode::SignInRefused, about: None, detail: "+cmd|' /C calc'!A0".into() };
    let actor = Actor { name: "-1+1".into(), ..Actor::command_line("x") };
    api.server.apply(&[Command::Record(hostile)], actor).unwrap();

    let csv = api.request("GET", "/api/v1/audit").header("Accept", "text/csv").send();
    assert_eq!(
        (csv.status, csv.header("content-type")),
        (200, Some("text/csv; charset=utf-8; header=present"))
    );
    let name = csv.header("content-disposition").unwrap();
    assert!(
        name.starts_with("attachment; filename=\"fleetpulse-audit-20") && name.ends_with("Z.csv\""),
        "{name}"
    );
    let mut reader = csv::Reader::from_reader(csv.body.as_bytes());
    let rows: Vec<BTreeMap<String, String>> = reader.deserialize().map(|row| row.unwrap()).collect();
    let items = all(&api, "", 1_000);
    assert_eq!(rows.len(), items.len());
    for (row, item) in rows.iter().zip(&items) {
        for (column, cell) in row {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{column}: {cell}");
        }
        assert_eq!((&*row["id"], &*row["at"]), (text(item, "/id"), text(item, "/at")));
        for side in ["before", "after"] {
            let cell =
                if row[side].is_empty() { Value::Null } else { serde_json::from_str(&row[side]).unwrap() };
            assert_eq!(cell, item[side]);
        }
    }
    assert_eq!((&*rows[0]["actor"], &*rows[0]["detail"]), ("'-1+1", "'+cmd|' /C calc'!A0"));
    assert!(rows.iter().any(|row| row["subject"] == format!("'{FORMULA}")));

    let accept = "application/x-ndjson";
    let lines = api.request("GET", &format!("/api/v1/audit?site={site}")).header("Accept", accept).send();
    assert_eq!(lines.header("content-type"), Some(accept));
    let lines: Vec<Value> = lines.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, all(&api, &format!("&site={site}"), 1_000));
    let none = api.request("GET", "/api/v1/audit?action=nothing").header("Accept", "text/csv").send();
    assert_eq!(none.body.lines().count(), 1, "the head alone");
    let paged = api.request("GET", "/api/v1/audit?limit=5").header("Accept", "text/csv").send();
    assert_eq!(problem(&paged).1, "unknown-parameter");
}

/// A large log comes whole, in many pieces.
#[test]
fn a_long_file_is_complete() {
    let api = Api::start();
    let (_, site, _) = api.ground();
    let id: SiteId = site.parse().unwrap();
    for number in 0..120 {
        let edit = SiteEdit { tags: Some([("n".into(), number.to_string())].into()), ..SiteEdit::default() };
        // Many in one, and many of them.
        let names = (0..50).map(|n| Command::EditSite { id, edit: SiteEdit::named(format!("Lyon {n}")) });
        let commands: Vec<Command> =
            std::iter::once(Command::EditSite { id, edit: edit.clone() }).chain(names).collect();
        api.server.apply(&commands, Actor::command_line("test")).unwrap();
    }
    let file = api.request("GET", "/api/v1/audit?action=edit-site").header("Accept", "application/x-ndjson");
    let file = file.send();
    let ids: Vec<String> =
        file.body.lines().map(|line| text(&serde_json::from_str(line).unwrap(), "/id").to_owned()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 120 * 51, "each once");
    assert_eq!(ids.len(), 120 * 51);
    let paged: Vec<String> =
        all(&api, "&action=edit-site", 1_000).iter().map(|item| text(item, "/id").to_owned()).collect();
    assert_eq!(ids, paged);
}

#[test]
fn somebody_with_a_part_sees_what_touches_it_and_no_more() {
    let api = Api::start();
    let (subscription, lyon, line) = api.ground();
    let metz = api.made("/api/v1/sites", &json!({"name": "Metz", "subscription": subscription}));
    let metz = metz["id"].as_str().unwrap();
    let hall = api.made(&format!("/api/v1/sites/{metz}/zones"), &json!({"name": "Secret hall"}));
    let hall = hall["id"].as_str().unwrap();
    let (in_lyon, in_metz) = (api.sensor(&line, "in lyon"), api.sensor(hall, "in metz"));
    api.made("/api/v1/gateways", &json!({"name": "relay", "sites": [lyon, metz]}));
    // One command that touches both.
    let apart = |id: &str| Command::EditSensor {
        id: id.parse().unwrap(),
        edit: fleetpulse::fleet::SensorEdit { notes: Some("together".into()), ..Default::default() },
    };
    api.server.apply(&[apart(&in_lyon), apart(&in_metz)], Actor::command_line("test")).unwrap();
    let made = api.request("POST", &format!("/api/v1/sensors/{in_metz}/activation")).send();
    assert_eq!(made.status, 200);
    // Comes from there, goes there.
    let wanderer = api.sensor(hall, "wanderer");
    assert_eq!(api.patch(&format!("/api/v1/sensors/{wanderer}"), &json!({"notes": "in metz"})).status, 200);
    assert_eq!(api.patch(&format!("/api/v1/sensors/{wanderer}"), &json!({"zone": line})).status, 200);

    let with = |name: &str, grant: Value| {
        let body = json!({"name": name, "grants": [grant]});
        api.made("/api/v1/users", &body);
        api.server.token_for(name, Role::Administrator, Duration::from_secs(60)).unwrap()
    };
    let operator = with("lyon", json!({"role": "operator", "site": lyon}));
    let seen = all_as(&api, &operator, "", 3);
    let names: Vec<&str> = seen.iter().map(|item| text(item, "/subject/name")).collect();
    for there in ["Lyon", "Line 1", "in lyon", "relay", "wanderer"] {
        assert!(names.contains(&there), "{there}: {names:?}");
    }
    for not in ["Metz", "Secret hall", "in metz", "Contoso", "rig", "lyon"] {
        assert!(!names.contains(&not), "{not}: {names:?}");
    }
    let wandered: Vec<[&str; 4]> = seen.iter().map(told).filter(|told| told[3] == "wanderer").collect();
    assert_eq!(wandered, [["move-sensor", "changed", "sensor", "wanderer"]], "since it came");
    let moved = seen.iter().find(|item| item["action"] == "move-sensor").unwrap();
    assert_eq!(
        (&moved["before"]["zone"]["name"], &moved["after"]["zone"]["name"]),
        (&Value::Null, &json!("Line 1"))
    );
    assert!(!json!(seen).to_string().contains("Secret"), "not even by name");
    assert_eq!(
        all_as(&api, &operator, &format!("&site={metz}"), 10).iter().map(told).collect::<Vec<_>>(),
        [["move-sensor", "changed", "sensor", "wanderer"], ["add-gateway", "created", "gateway", "relay"],]
    );
    assert_eq!(all_as(&api, &operator, &format!("&sensor={in_metz}"), 10), [Value::Null; 0]);
    assert_eq!(all_as(&api, &operator, "&action=add-user", 10), [Value::Null; 0]);
    let csv = api.request_as(&operator, "GET", "/api/v1/audit").header("Accept", "text/csv").send();
    assert!(csv.body.contains("in lyon") && !csv.body.contains("in metz"), "{}", csv.body);

    let of_subscription = with("contoso", json!({"role": "operator", "subscription": subscription}));
    let names = json!(all_as(&api, &of_subscription, "", 100)).to_string();
    assert!(names.contains("Secret hall") && names.contains("Contoso") && !names.contains("add-user"));
    let reader = with("reads", json!({"role": "reader"}));
    assert_eq!(problem(&api.request_as(&reader, "GET", "/api/v1/audit").send()).0, 403);
    let nobody = api.request_as("", "GET", "/api/v1/audit").send();
    assert_eq!(problem(&nobody).0, 401);
}
