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
