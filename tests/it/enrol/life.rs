//! The whole life of a sensor, by the API and the real agent, and the audit log that tells it.

use std::time::Duration;

use fleetpulse::fleet::Role;
use fleetpulse::identity::ClientIdentity;
use fleetpulse::live::Lifecycle;
use fleetpulse::store::Position;
use fleetpulse::wire::id::SensorId;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::rig::Rig;
use crate::export::rig::{Answer, send};
use crate::process::{run, until};

/// An operator with an API token.
struct Operator<'r> {
    rig: &'r Rig,
    bearer: String,
}

impl Operator<'_> {
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let headers = [("Authorization", self.bearer.as_str())];
        send(self.rig.server.http_addr(), method, &format!("/api/v1{path}"), &headers, body)
    }

    /// Something that must be done.
    fn done(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let answer = self.ask(method, path, body);
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
        answer
    }

    fn made(&self, path: &str, body: &Value) -> String {
        self.done("POST", path, Some(body)).json()["id"].as_str().expect("an id").to_owned()
    }

    /// Makes an activation file and has the agent use it.
    fn activate(&self, id: &str, file: &str, out: &str) {
        let made = self.done("POST", &format!("/sensors/{id}/activation"), None);
        let path = self.rig.out(file);
        std::fs::write(&path, &made.body).expect("written");
        let (code, said) = run(&["agent", "activate", &path, "--out", out]);
        assert_eq!(code, Some(0), "{said:?}");
    }
}

#[test]
fn from_onboarding_to_deletion_and_the_audit_log_tells_it() {
    let rig = Rig::with(|config| config.identity.certificate_life = Duration::from_secs(20));
    let token =
        rig.server.token_for("ops", Role::Administrator, Duration::from_secs(3_600)).expect("a token");
    let operator = Operator { rig: &rig, bearer: format!("Bearer {token}") };

    // Onboard.
    let subscription = operator.made("/subscriptions", &json!({"name": "Contoso"}));
    let site = |name: &str| operator.made("/sites", &json!({"name": name, "subscription": subscription}));
    let (lyon, kiel) = (site("Lyon"), site("Kiel"));
    let zone = |site: &str| operator.made(&format!("/sites/{site}/zones"), &json!({"name": "Line 1"}));
    let (here, there) = (zone(&lyon), zone(&kiel));
    let text = operator.made("/sensors", &json!({"name": "press", "type": "ot-cloud", "zone": here}));
    let id: SensorId = text.parse().expect("an id");
    let path = format!("/sensors/{text}");
    assert_eq!(operator.ask("GET", &path, None).json()["lifecycle"], "pending-activation");

    // Activate, beat, renew.
    let out = rig.out("press");
    operator.activate(&text, "first.jws", &out);
    let serial = || {
        let leaf = ClientIdentity::read(out.as_ref()).ok()?.leaf().ok()?;
        Some(leaf.serial.to_string())
    };
    let first = serial().expect("a certificate");
    let agent = rig.agent(&out);
    rig.until_heartbeats(id);
    until("another certificate", || serial().filter(|serial| *serial != first));
    assert_eq!(operator.ask("GET", &path, None).json()["lifecycle"], "active");

    // Rename, move: the very same connection goes on.
    let owner = rig.server.live().snapshot_of(id).expect("known").owner;
    operator.done("PATCH", &path, Some(&json!({"name": "press 4"})));
    operator.done("PATCH", &path, Some(&json!({"zone": there})));
    rig.until_heartbeats(id);
    assert_eq!(rig.server.live().snapshot_of(id).expect("known").owner, owner);
    let now = operator.ask("GET", &path, None).json();
    assert_eq!((&now["name"], &now["site"]["name"]), (&json!("press 4"), &json!("Kiel")));

    // Locally managed it must not report; cloud-connected again it comes back by itself.
    operator.done("PATCH", &path, Some(&json!({"type": "ot-local"})));
    until("it is sent away", || (!rig.is_connected(id)).then_some(()));
    operator.done("PATCH", &path, Some(&json!({"type": "ot-cloud"})));
    agent.signal(Signal::TERM);
    drop(agent);
    let agent = rig.agent(&out);
    rig.until_heartbeats(id);

    // Reactivate with another file: the same row, its history kept.
    let received = rig.received(id);
    operator.done("POST", &format!("{path}/reactivate"), None);
    until("it is sent away", || (!rig.is_connected(id)).then_some(()));
    agent.signal(Signal::TERM);
    drop(agent);
    operator.activate(&text, "second.jws", &rig.out("again"));
    let agent = rig.agent(&rig.out("again"));
    rig.until_heartbeats(id);
    assert!(rig.received(id) > received, "counted on");

    // Whoever has the folder from before, a thief perhaps, is refused, and the right one goes on.
    let owner = rig.server.live().snapshot_of(id).expect("known").owner;
    let mut old = rig.agent(&out);
    old.until_said("that it was refused", |line| {
        (line.contains("certificate-revoked") || line.contains("certificate was revoked")).then_some(())
    });
    drop(old);
    assert_eq!(rig.server.live().snapshot_of(id).expect("known").owner, owner);
    rig.until_heartbeats(id);

    // Revoke: gone at once, and it stays out.
    operator.done("POST", &format!("{path}/revoke"), None);
    until("it is sent away", || (!rig.is_connected(id)).then_some(()));
    assert_eq!(rig.sensor(id).lifecycle, Lifecycle::PendingReactivation);
    assert_eq!(rig.sensor(id).more.credentials, []);
    agent.signal(Signal::TERM);

    // Delete.
    operator.done("DELETE", &path, None);
    assert_eq!(operator.ask("GET", &path, None).status, 404);

    // The story, in order; renewals may come in between.
    let log = &rig.server.store().register;
    let batches = log.read_from(Position::start(log.position().log), 1_000).expect("readable");
    let told: Vec<&str> =
        batches.iter().map(|(_, batch)| &*batch.action).filter(|action| *action != "renew").collect();
    let story = [
        "add-sensor",
        "issue-activation",
        "activate",
        "edit-sensor",
        "move-sensor",
        "set-mode",
        "set-mode",
        "set-lifecycle",
        "issue-activation",
        "activate",
        "revoke-credentials",
        "delete-sensor",
    ];
    let mut rest = told.iter();
    for action in story {
        assert!(rest.any(|told| *told == action), "{action} is missing, or too early, in {told:?}");
    }
    assert!(batches.iter().any(|(_, batch)| batch.action == "renew"), "{told:?}");
}
