//! Changes of many sensors: dry runs, jobs, refusals in part.

use serde_json::{Value, json};

use super::rig::{Api, problem};
use crate::export::rig::until;

/// Registers sensors beside the API, many at a time.
fn many(api: &Api, zone: &str, count: u64) -> Vec<String> {
    use fleetpulse::fleet::{Actor, Command};
    use fleetpulse::live::{Lifecycle, SensorType};
    use fleetpulse::wire::id::SensorId;
    let zone = zone.parse().unwrap();
    let add = |number| Command::AddSensor {
        id: SensorId::from_number(number),
        zone,
        name: format!("press {number}"),
        kind: SensorType::OtCloud,
        lifecycle: Lifecycle::PendingActivation,
    };
    let commands: Vec<Command> = (1..=count).map(add).collect();
    for batch in commands.chunks(10_000) {
        api.server.apply(batch, Actor::command_line("test")).unwrap();
    }
    (1..=count).map(|number| SensorId::from_number(number).to_string()).collect()
}

/// Starts a bulk change and waits for its end: the job, and what became of each item.
fn carried_out(api: &Api, body: &Value) -> (Value, Vec<Value>) {
    let begun = api.post("/api/v1/bulk", body);
    assert_eq!(begun.status, 202, "{begun:?}");
    let path = begun.header("location").unwrap().to_owned();
    assert!(path.ends_with(begun.json()["id"].as_str().unwrap()));
    until(&false, || {
        let state = api.get(&path).json()["state"].clone();
        state == "waiting" || state == "running"
    });
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("{path}/items?limit=1000{cursor}")).json();
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (api.get(&path).json(), items),
        }
    }
}

#[test]
fn many_sensors_move_and_those_that_can_not_are_told_why() {
    let api = Api::start();
    let (subscription, _, zone) = api.ground();
    let ids = many(&api, &zone, 2_500);
    let metz = api.made("/api/v1/sites", &json!({"name": "Metz", "subscription": subscription}));
    let there =
        api.made(&format!("/api/v1/sites/{}/zones", metz["id"].as_str().unwrap()), &json!({"name": "A"}));
    let there = there["id"].as_str().unwrap();
    // Its name is taken there; another is deleted, a third never was.
    let twin = api.sensor(there, "press 7");
    assert_eq!(api.delete(&format!("/api/v1/sensors/{}", ids[8])).status, 204);
    let mut asked = ids.clone();
    let ghost = "00000000-0000-4000-8000-0000deadbeef";
    asked.push(ghost.to_owned());

    let body = json!({"action": "move", "items": asked, "arguments": {"zone": there}, "dry_run": true});
    let before = api.register();
    let dry = api.post("/api/v1/bulk", &body);
    assert_eq!(dry.status, 200, "{dry:?}");
    let dry = dry.json();
    let expected = [(&ids[6][..], "name-taken"), (&ids[8], "id-deleted"), (ghost, "unknown-sensor")];
    assert_eq!((&dry["refused"], &dry["matched"]), (&json!(3), &Value::Null));
    assert_eq!(dry["left_out"][1]["name"], "press 9", "what is deleted still has a name");
    let left_out: Vec<(&str, &str)> = dry["left_out"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["id"].as_str().unwrap(), item["code"].as_str().unwrap()))
        .collect();
    assert_eq!(left_out, expected);
    assert_eq!((&dry["total"], &dry["would_do"]), (&json!(2_501), &json!(2_498)));
    assert_eq!(api.register(), before, "a dry run changes nothing");

    let mut body = body;
    body["dry_run"] = false.into();
    body["all_or_nothing"] = true.into();
    let (job, items) = carried_out(&api, &body);
    assert_eq!((&job["state"], &job["done"], &job["refused"]), (&json!("failed"), &json!(0), &json!(3)));
    assert_eq!(items.iter().filter(|item| item["outcome"] == "not-done").count(), 2_498);
    assert_eq!(api.register(), before, "all or nothing was nothing");

    body["all_or_nothing"] = false.into();
    let (job, items) = carried_out(&api, &body);
    assert_eq!((&job["state"], &job["done"], &job["refused"]), (&json!("done"), &json!(2_498), &json!(3)));
    assert_eq!(items.iter().map(|item| item["id"].as_str().unwrap()).collect::<Vec<_>>(), asked);
    let refused: Vec<_> = items.iter().filter(|item| item["outcome"] == "refused").collect();
    assert_eq!(refused[0]["field"], "name");
    assert_eq!(api.get(&format!("/api/v1/sensors/{}", ids[0])).json()["site"]["name"], "Metz");
    assert_eq!(api.get(&format!("/api/v1/sensors/{}", ids[6])).json()["site"]["name"], "Lyon");
    assert_eq!(api.get(&format!("/api/v1/sensors/{twin}")).json()["name"], "press 7");
}

#[test]
fn ten_thousand_changes_are_one_request() {
    let api = Api::start();
    let (_, _, zone) = api.ground();
    let ids = many(&api, &zone, 10_000);
    let body = json!({"action": "edit", "items": ids, "arguments": {"notes": "checked", "threat_intel_mode": "manual"}});
    let (job, items) = carried_out(&api, &body);
    assert_eq!((&job["state"], &job["done"], items.len()), (&json!("done"), &json!(10_000), 10_000));
    let register = api.server.fleet().register();
    assert!(register.sensors().all(|sensor| &*sensor.more.notes == "checked"));
}

#[test]
fn every_action_does_what_it_says() {
    let api = Api::start();
    let (_, _, zone) = api.ground();
    let ids = [api.sensor(&zone, "a"), api.sensor(&zone, "b")];
    let paths = ids.each_ref().map(|id| format!("/api/v1/sensors/{id}"));
    let all = |body: Value| {
        let (job, items) = carried_out(&api, &body);
        assert_eq!((&job["state"], &job["refused"]), (&json!("done"), &json!(0)), "{items:?}");
        paths.each_ref().map(|path| api.get(path).json())
    };
    let named = json!([{"id": ids[0], "name": "c"}, {"id": ids[1], "name": "d"}]);
    let seen = all(json!({"action": "rename", "items": named}));
    assert_eq!(seen.each_ref().map(|s| s["name"].clone()), ["c", "d"]);
    let seen = all(json!({"action": "mute", "items": ids, "arguments": {"reason": "noisy"}}));
    assert!(seen.iter().all(|s| s["quiet"]["mute"]["reason"] == "noisy"));
    let seen = all(json!({"action": "unmute", "items": ids}));
    assert!(seen.iter().all(|s| s["quiet"]["mute"].is_null()));
    let window = json!({"from": "2098-01-01T00:00:00Z", "until": "2098-01-01T08:00:00Z", "reason": "works"});
    let seen = all(json!({"action": "add-window", "items": ids, "arguments": window}));
    assert!(seen.iter().all(|s| s["quiet"]["windows"][0]["reason"] == "works"));
    all(json!({"action": "set-policy", "items": ids, "arguments": {"policy": {"interval_seconds": 30}}}));
    let said = api.get(&format!("{}/policy", paths[0])).json();
    assert_eq!(said["said"]["interval_seconds"], 30.0);
    let seen = all(json!({"action": "set-mode", "items": ids, "arguments": {"type": "ot-local"}}));
    assert!(seen.iter().all(|s| s["type"] == "ot-local"));
    for path in &paths {
        assert_eq!(api.request("POST", &format!("{path}/mark-active")).send().status, 200);
    }
    let seen = all(json!({"action": "reactivate", "items": ids}));
    assert!(seen.iter().all(|s| s["lifecycle"] == "pending-reactivation"));
    all(json!({"action": "revoke", "items": ids}));
    let seen = all(json!({"action": "delete", "items": ids}));
    assert!(seen.iter().all(|s| s["code"] == "not-found"));
    assert_eq!(
        api.get("/api/v1/jobs").json()["items"].as_array().unwrap().len(),
        8,
        "the oldest is forgotten"
    );
}

#[test]
fn requests_that_do_not_fit_are_told_by_field() {
    let api = Api::start();
    let (_, _, zone) = api.ground();
    let id = api.sensor(&zone, "a");
    for (body, code, field) in [
        (json!({"action": "move", "items": [id]}), "missing-field", "arguments.zone"),
        (
            json!({"action": "delete", "items": [id], "arguments": {"zone": zone}}),
            "unknown-field",
            "arguments.zone",
        ),
        (json!({"action": "explode", "items": [id]}), "bad-field", "action"),
        (json!({"action": "rename", "items": [id]}), "missing-field", "items[0].name"),
        (json!({"action": "delete", "items": [{"id": id, "name": "x"}]}), "unknown-field", "items[0].name"),
        (json!({"action": "delete", "items": [id, 7]}), "bad-field", "items[1]"),
        (json!({"action": "delete", "items": [{"name": "x"}]}), "missing-field", "items[0].id"),
        (json!({"action": "delete"}), "missing-field", "items"),
        (json!({"action": "delete", "items": null, "filter": null}), "missing-field", "items"),
        (json!({"action": "edit", "items": [id]}), "missing-field", "arguments.notes"),
        (
            json!({"action": "set-policy", "items": [id], "arguments": {"policy": {"numbers": {"x": {"y": 1}}}}}),
            "policy-invalid",
            "arguments.policy.numbers.x.y",
        ),
        (json!({"action": "delete", "items": vec![&id; 10_001]}), "too-many", "items"),
    ] {
        assert_eq!(problem(&api.post("/api/v1/bulk", &body)), (422, code.into(), field.into()));
    }
    assert_eq!(api.get(&format!("/api/v1/sensors/{id}")).status, 200);
    let job = "/api/v1/jobs/00000000-0000-4000-8000-000000000000";
    assert_eq!(problem(&api.get(job)).0, 404);
    assert_eq!(problem(&api.delete(job)).0, 404);
    assert_eq!(problem(&api.get("/api/v1/jobs/1")).0, 400);
    let (done, _) = carried_out(&api, &json!({"action": "unmute", "items": [id]}));
    let path = format!("/api/v1/jobs/{}", done["id"].as_str().unwrap());
    assert_eq!(
        problem(&api.get(&format!("{path}/items?outcome=good"))),
        (400, "bad-parameter".into(), "outcome".into())
    );
    assert_eq!(problem(&api.get(&format!("{path}/items?cursor=xx"))).1, "bad-cursor");
    assert_eq!(api.delete(&path).status, 204);
    assert_eq!(api.get(&path).status, 404, "a finished one is forgotten");
}

/// A second site beside the ground, with its zone and sensors.
fn beside(api: &Api, subscription: &str, name: &str, sensors: &[&str]) -> (String, Vec<String>) {
    let site = api.made("/api/v1/sites", &json!({"name": name, "subscription": subscription}));
    let site = site["id"].as_str().unwrap().to_owned();
    let zone = api.made(&format!("/api/v1/sites/{site}/zones"), &json!({"name": "A"}));
    let zone = zone["id"].as_str().unwrap();
    let ids = sensors.iter().map(|name| api.sensor(zone, name)).collect();
    (site, ids)
}

#[test]
fn a_filter_finds_what_the_list_finds() {
    let api = Api::start();
    let (subscription, site, zone) = api.ground();
    let ids = many(&api, &zone, 1_500);
    let (metz, there) = beside(&api, &subscription, "Metz", &["press 7", "pump"]);
    let move_there = |filter: Value| {
        let zone = api.get(&format!("/api/v1/sensors/{}", there[0])).json()["zone"]["id"].clone();
        json!({"action": "move", "filter": filter, "arguments": {"zone": zone}, "dry_run": true})
    };
    let before = api.register();
    let dry = api.post("/api/v1/bulk", &move_there(json!({"site": "lyon", "connected": false})));
    assert_eq!(dry.status, 200, "{dry:?}");
    let dry = dry.json();
    assert_eq!((&dry["matched"], &dry["total"]), (&json!(1_500), &json!(1_500)));
    assert_eq!((&dry["would_do"], &dry["refused"]), (&json!(1_499), &json!(1)));
    let out = &dry["left_out"][0];
    assert_eq!((&out["id"], &out["name"]), (&json!(ids[6]), &json!("press 7")));
    assert_eq!(out["code"], "name-taken");
    assert_eq!(api.register(), before, "a dry run changes nothing");

    // One parser: what the list finds by its parameters, the filter finds by the same.
    for (query, filter) in [
        ("q=press%20140", json!({"q": "press 140"})),
        ("site=Metz", json!({"site": ["Metz"]})),
        (&format!("site=Metz,{site}&q=7"), json!({"site": ["Metz", site], "q": "7"})),
        ("zone=A&type=ot-cloud", json!({"zone": "A", "type": "ot-cloud"})),
        ("subscription=Contoso&health=muted", json!({"subscription": "Contoso", "health": ["muted"]})),
        ("subscription=Contoso", json!({"subscription": "Contoso"})),
        ("lifecycle=active", json!({"lifecycle": "active"})),
        ("connected=true", json!({"connected": true})),
        ("ti_mode=manual", json!({"ti_mode": "manual"})),
        ("version=26*", json!({"version": "26*"})),
        ("owner=ann@example.com", json!({"owner": "ann@example.com"})),
        ("tag=region", json!({"tag": ["region"]})),
        ("code=disconnected", json!({"code": "disconnected"})),
    ] {
        let list = api.get(&format!("/api/v1/sensors?limit=1&{query}")).json();
        let dry = api.post("/api/v1/bulk", &move_there(filter.clone())).json();
        assert_eq!(dry["matched"], list["total"], "{query} and {filter}");
    }

    let body =
        json!({"action": "edit", "filter": {"site": metz}, "arguments": {"notes": "seen"}, "at_most": 2});
    let (job, items) = carried_out(&api, &body);
    assert_eq!((&job["state"], &job["done"], &job["total"]), (&json!("done"), &json!(2), &json!(2)));
    let mut named: Vec<&str> = items.iter().map(|item| item["name"].as_str().unwrap()).collect();
    named.sort_unstable();
    assert_eq!(named, ["press 7", "pump"]);
    let noted = |id: &str| api.get(&format!("/api/v1/sensors/{id}")).json()["notes"] == "seen";
    assert!(there.iter().all(|id| noted(id)) && !noted(&ids[0]));

    // Whatever it finds, each is done or told: here in more than one batch.
    let mut body = move_there(json!({"q": "press", "site": "Lyon"}));
    body["dry_run"] = false.into();
    let (job, items) = carried_out(&api, &body);
    assert_eq!((&job["done"], &job["refused"], items.len()), (&json!(1_499), &json!(1), 1_500));
    let everybody = json!({"action": "mute", "filter": {}, "all": true});
    let (job, _) = carried_out(&api, &everybody);
    assert_eq!((&job["state"], &job["done"]), (&json!("done"), &json!(1_502)));
    let (job, _) = carried_out(&api, &json!({"action": "unmute", "filter": {"q": "nobody"}}));
    assert_eq!((&job["state"], &job["total"]), (&json!("done"), &json!(0)));
}

#[test]
fn a_filter_finds_nobody_outside_the_callers_scope() {
    let api = Api::start();
    let (subscription, lyon, zone) = api.ground();
    let ours = api.sensor(&zone, "press 1");
    let (metz, theirs) = beside(&api, &subscription, "Metz", &["press 2"]);
    let grants = json!([{"role": "operator", "site": lyon}, {"role": "reader", "site": metz}]);
    let limited = |name: &str, grants: &Value| {
        let made = api.made("/api/v1/tokens", &json!({"name": name, "grants": grants}));
        made["secret"].as_str().expect("the secret").to_owned()
    };
    let ask = |token: &str, body: &Value| {
        let address = api.server.http_addr();
        let bearer = format!("Bearer {token}");
        crate::export::rig::send(address, "POST", "/api/v1/bulk", &[("Authorization", &bearer)], Some(body))
    };
    let body = json!({"action": "delete", "filter": {}, "all": true, "dry_run": true});
    let only_lyon = limited("lyon", &json!([{"role": "operator", "site": lyon}]));
    let dry = ask(&only_lyon, &body).json();
    assert_eq!((&dry["matched"], &dry["would_do"], &dry["refused"]), (&json!(1), &json!(1), &json!(0)));
    let refused = ask(&only_lyon, &json!({"action": "delete", "filter": {"site": "Metz"}, "dry_run": true}));
    assert_eq!(problem(&refused), (422, "bad-parameter".into(), "filter.site".into()));
    // Who sees more than they may change is told so.
    let dry = ask(&limited("both", &grants), &body).json();
    assert_eq!((&dry["matched"], &dry["would_do"], &dry["refused"]), (&json!(2), &json!(1), &json!(1)));
    assert_eq!(
        (&dry["left_out"][0]["id"], &dry["left_out"][0]["code"]),
        (&json!(theirs[0]), &json!("not-allowed"))
    );
    let begun = ask(&only_lyon, &json!({"action": "delete", "filter": {}, "all": true}));
    assert_eq!((begun.status, &begun.json()["total"]), (202, &json!(1)));
    until(&404, || api.get(&format!("/api/v1/sensors/{ours}")).status);
    assert_eq!(api.get(&format!("/api/v1/sensors/{}", theirs[0])).status, 200);
}

#[test]
fn a_filter_that_does_not_fit_changes_nothing() {
    let api = Api::start();
    let (_, _, zone) = api.ground();
    let id = api.sensor(&zone, "a");
    api.sensor(&zone, "b");
    let with = |more: Value| {
        let mut body = json!({"action": "delete"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let before = api.register();
    for (more, code, field) in [
        (json!({"filter": {}}), "filter-empty", "filter"),
        (json!({"filter": {"q": " "}}), "filter-empty", "filter"),
        (json!({"filter": {"site": ""}}), "filter-empty", "filter"),
        (json!({"filter": {"site": []}, "dry_run": true}), "filter-empty", "filter"),
        (json!({"filter": {"site": "Lyon"}, "all": true}), "bad-field", "all"),
        (json!({"filter": {"site": "Nowhere"}}), "bad-parameter", "filter.site"),
        (json!({"filter": {"health": "poorly"}}), "bad-parameter", "filter.health"),
        (json!({"filter": {"connected": "maybe"}}), "bad-parameter", "filter.connected"),
        (json!({"filter": {"q": ["a", "b"]}}), "bad-parameter", "filter.q"),
        (json!({"filter": {"q": "x".repeat(201)}}), "bad-parameter", "filter.q"),
        (json!({"filter": {"colour": "red"}}), "unknown-parameter", "filter.colour"),
        (json!({"filter": {"q": "a", "sort": "name"}}), "unknown-parameter", "filter.sort"),
        (json!({"filter": {"q": "a", "limit": "1"}}), "unknown-parameter", "filter.limit"),
        (json!({"filter": {"q": 7}}), "bad-field", "filter.q"),
        (json!({"filter": {"site": [1]}}), "bad-field", "filter.site[0]"),
        (json!({"filter": {"site": vec!["Lyon"; 101]}}), "bad-field", "filter.site"),
        (json!({"filter": ["site"]}), "bad-field", "filter"),
        (json!({"filter": {"q": "a"}, "items": [id]}), "bad-field", "filter"),
        (json!({"items": [id], "all": true}), "bad-field", "all"),
        (json!({"items": [id], "at_most": 1}), "bad-field", "at_most"),
        (json!({"filter": {"site": "Lyon"}, "at_most": 1}), "too-many", "filter"),
        (json!({"filter": {"site": "Lyon"}, "at_most": -1}), "bad-field", "at_most"),
        (json!({"all": true}), "missing-field", "items"),
        (json!({"action": "rename", "filter": {"q": "a"}}), "bad-field", "filter"),
        (json!({"action": "move", "filter": {"q": "a"}}), "missing-field", "arguments.zone"),
    ] {
        let refused = problem(&api.post("/api/v1/bulk", &with(more.clone())));
        assert_eq!(refused, (422, code.into(), field.into()), "{more}");
    }
    let refused = api.post("/api/v1/bulk", &with(json!({"filter": {"site": "Lyon"}, "at_most": 1}))).json();
    assert!(refused["detail"].as_str().unwrap().contains("finds 2 sensors"), "{refused}");
    assert_eq!(api.register(), before);
    assert_eq!(api.get("/api/v1/jobs").json()["items"], json!([]));
}

#[test]
fn more_than_a_change_may_find_is_refused_with_the_count() {
    let api = Api::start();
    let (_, _, zone) = api.ground();
    many(&api, &zone, 50_001);
    let body = json!({"action": "edit", "filter": {"site": "Lyon"}, "arguments": {"notes": "x"}});
    let refused = api.post("/api/v1/bulk", &body);
    assert_eq!(problem(&refused), (422, "too-many".into(), "filter".into()));
    assert!(refused.json()["detail"].as_str().unwrap().contains("finds 50001 sensors"), "{refused:?}");
    let all = json!({"action": "edit", "filter": {"q": "3"}, "arguments": {"notes": "x"}});
    let found = api.get("/api/v1/sensors?q=3&limit=1").json()["total"].as_u64().unwrap();
    assert!(found > 10_000, "more than can be named: {found}");
    let (job, items) = carried_out(&api, &all);
    assert_eq!((&job["state"], &job["done"], items.len() as u64), (&json!("done"), &json!(found), found));
}
