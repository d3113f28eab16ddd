//! Activation files, commands and responses over the API.

use fleetpulse::fleet::{Actor, ActorKind, Command};
use fleetpulse::identity::{ActivationFile, TrustBundle};
use fleetpulse::live::Lifecycle;
use fleetpulse::store::AuditQuery;
use fleetpulse::time::Clock;
use serde_json::json;

use super::rig::{Answer, Api, problem};
use crate::export::rig::until;
use crate::process::run;

fn read(api: &Api, bytes: &[u8]) -> ActivationFile {
    let trust = TrustBundle::from_pem(api.server.authority().trust_pem()).unwrap();
    ActivationFile::read(bytes, Some(&trust), api.server.clock().unix()).unwrap()
}

fn make(api: &Api, id: &str) -> Answer {
    api.request("POST", &format!("/api/v1/sensors/{id}/activation")).send()
}

#[test]
fn a_file_is_signed_good_for_its_sensor_and_voids_the_one_before() {
    let api = Api::start();
    let (_, _, zone) = api.ground();
    let id = api.sensor(&zone, "press \"1\"\\");
    let path = format!("/api/v1/sensors/{id}");
    assert_eq!(api.get(&path).json()["progress"], "file-needed");
    let first = make(&api, &id);
    assert_eq!((first.status, first.header("content-type")), (200, Some("application/jose+json")));
    let name = first.header("content-disposition").unwrap();
    assert!(name.starts_with("attachment; filename=\"") && name.matches('"').count() == 2, "{name}");
    let file = read(&api, first.body.as_bytes());
    assert_eq!((file.sensor.to_string(), file.generation), (id.clone(), 1));
    let second = read(&api, make(&api, &id).body.as_bytes());
    assert_eq!(second.generation, 2);
    assert_ne!(second.token, file.token);
    let shown = api.get(&path).json();
    assert_eq!(
        (&shown["progress"], &shown["activation"]["state"]),
        (&json!("never-got-through"), &json!("waiting"))
    );
    assert!(!shown.to_string().contains("token"), "no secret is shown");

    let stale = api.request("POST", &format!("{path}/activation")).header("If-Match", "\"x\"").send();
    assert_eq!(problem(&stale).0, 412);
    let command = api.request("POST", &format!("{path}/activation-command")).send();
    assert_eq!(problem(&command), (422, "wrong-mode".into(), "id".into()));
    assert_eq!(api.patch(&path, &json!({"type": "ot-local"})).status, 200);
    assert_eq!(api.request("POST", &format!("{path}/mark-active")).send().status, 200);
    assert_eq!(problem(&make(&api, &id)).1, "activation-not-pending");
}

#[test]
fn an_enterprise_sensor_gets_one_line_to_paste() {
    let api = Api::start();
    let (subscription, ..) = api.ground();
    let body = json!({"name": "office", "type": "enterprise-iot", "subscription": subscription});
    let id = api.made("/api/v1/sensors", &body)["id"].as_str().unwrap().to_owned();
    let answer = api.request("POST", &format!("/api/v1/sensors/{id}/activation-command")).send();
    let command = answer.json()["command"].as_str().unwrap().to_owned();
    assert!(
        command.ends_with(" | fleetpulse agent activate --inline") && command.lines().count() == 1,
        "{command}"
    );
    assert_eq!(answer.json()["generation"], 1);
}

#[test]
fn files_of_many_are_all_or_none() {
    let api = Api::start();
    let (_, _, zone) = api.ground();
    let ids = [api.sensor(&zone, "a"), api.sensor(&zone, "b")];
    let before = api.register();
    let ghost = "00000000-0000-4000-8000-000000000000";
    let refused = api.post("/api/v1/activations", &json!({"items": [ids[0], ghost]}));
    assert_eq!(problem(&refused), (422, "unknown-sensor".into(), "items[1]".into()));
    assert_eq!(
        problem(&api.post("/api/v1/activations", &json!({"items": vec![ghost; 1_001]}))).1,
        "too-many"
    );
    assert_eq!(api.register(), before);
    let twice = api.post("/api/v1/activations", &json!({"items": [ids[0], ids[1], ids[0]]}));
    assert_eq!(problem(&twice), (422, "given-twice".into(), "items[2]".into()));
    assert_eq!(api.register(), before);
    let answer = api.post("/api/v1/activations", &json!({"items": ids}));
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let made: Vec<String> =
        answer.body.lines().map(|line| read(&api, line.as_bytes()).sensor.to_string()).collect();
    assert_eq!(made, ids);
}

#[test]
fn a_response_must_be_the_sensors_own() {
    let api = Api::start();
    let (_, _, zone) = api.ground();
    let id = api.sensor(&zone, "a");
    assert_eq!(api.patch(&format!("/api/v1/sensors/{id}"), &json!({"type": "ot-local"})).status, 200);
    let file = make(&api, &id);
    let before = api.register();
    let path = format!("/api/v1/sensors/{id}/response");
    for bytes in [b"".to_vec(), b"{}".to_vec(), file.body.into_bytes(), vec![b'[', 70]] {
        let answer = api.request("POST", &path).body("application/jose+json", bytes).send();
        assert_eq!((problem(&answer).0, problem(&answer).2), (422, "body".into()), "{answer:?}");
    }
    assert_eq!(problem(&api.request("POST", &path).body("text/plain", b"{}".to_vec()).send()).0, 415);
    let large = api.request("POST", &path).body("application/jose+json", vec![b' '; 70_000]).send();
    assert_eq!(problem(&large).0, 413);
    assert_eq!(api.register(), before);
}

/// From onboarding to active without a connection: the agent makes the response on the sensor's host, somebody carries it.
#[test]
fn a_response_that_is_accepted_makes_a_sensor_active_that_no_rule_of_silence_is_for() {
    let api = Api::start();
    let (_, _, zone) = api.ground();
    let body = json!({"name": "island", "type": "ot-local", "zone": zone});
    let id = api.made("/api/v1/sensors", &body)["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/sensors/{id}");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let offline = |file: &str, out: &str| {
        std::fs::write(at("island.activation"), file).unwrap();
        let (code, said) =
            run(&["agent", "activate", &at("island.activation"), "--out", &at(out), "--offline"]);
        assert_eq!(code, Some(0), "{said:?}");
        std::fs::read(folder.path().join(out).join("activation-response.json")).unwrap()
    };
    let upload = |bytes: &[u8]| {
        api.request("POST", &format!("{path}/response")).body("application/jose+json", bytes.to_vec()).send()
    };
    let void = offline(&make(&api, &id).body, "void");
    let response = offline(&make(&api, &id).body, "island");
    assert_eq!(problem(&upload(&void)).1, "activation-void", "of a file that is void");
    let mut edited = response.clone();
    let middle = edited.len() / 2;
    edited[middle] ^= 1;
    assert_eq!(upload(&edited).status, 422);
    assert_eq!(api.get(&path).json()["lifecycle"], "pending-activation");

    let accepted = upload(&response);
    assert_eq!((accepted.status, &accepted.json()["lifecycle"]), (200, &json!("active")), "{accepted:?}");
    let entry = api.server.store().register.audit(&AuditQuery { limit: 1, ..AuditQuery::default() }).unwrap();
    let (_, batch) = &entry.entries[0];
    assert_eq!((&*batch.action, batch.actor.kind), ("activate", ActorKind::Token), "{batch:?}");
    let register = api.register();
    assert_eq!(upload(&response).status, 200, "again: nothing new");
    assert_eq!(api.register(), register);

    // A neighbour that connects is judged by silence; this one is not, however long nobody hears of it.
    let cloud = json!({"name": "cloud", "type": "ot-cloud", "zone": zone});
    let cloud = api.made("/api/v1/sensors", &cloud)["id"].as_str().unwrap().to_owned();
    let commands = [Command::SetLifecycle { id: cloud.parse().unwrap(), lifecycle: Lifecycle::Active }];
    api.server.apply(&commands, Actor::command_line("test")).unwrap();
    let rules = |id: &str| -> Vec<String> {
        let sensor = api.get(&format!("/api/v1/sensors/{id}")).json();
        let rules = sensor["rules"].as_array().unwrap().iter();
        rules.map(|rule| rule["code"].as_str().unwrap().to_owned()).collect()
    };
    assert!(rules(&cloud).contains(&"disconnected".to_owned()));
    let messages = || api.get("/api/v1/messages").body;
    until(&true, || messages().contains(&cloud));
    assert!(!rules(&id).contains(&"disconnected".to_owned()), "{:?}", rules(&id));
    let sensor = api.get(&path).json();
    assert_eq!((&sensor["active"], &sensor["lifecycle"]), (&json!([]), &json!("active")), "{sensor}");
    assert!(!messages().contains(&id));
}
