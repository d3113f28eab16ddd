//! Rights are those of the moment in which something is done, not of the moment in which it was asked for.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crossbeam::channel::bounded;
use fleetpulse::fleet::{Actor, Command, Grant, Role, Scope, UserEdit};
use fleetpulse::live::{Lifecycle, SensorType};
use fleetpulse::time::Clock;
use fleetpulse::wire::id::{SensorId, SiteId, SubscriptionId, UserId, ZoneId};
use serde_json::{Value, json};

use super::browser::{Browser, NAME, PASSWORD, set_up};
use crate::export::rig::{Answer, Rig, answer, connect, until};

/// A request whose head was let in and whose body is still to come.
struct Half {
    stream: TcpStream,
    body: String,
}

impl Half {
    fn begin(rig: &Rig, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Half {
        let mut stream = connect(rig.server.http_addr());
        let body = body.to_string();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("Expect: 100-continue\r\nContent-Type: application/json\r\n");
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes()).unwrap();
        // It is said when the body is first asked for: the gate is behind then.
        let mut said = [0; 25];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
        Half { stream, body }
    }

    fn finish(mut self) -> Answer {
        self.stream.write_all(self.body.as_bytes()).unwrap();
        let mut text = String::new();
        self.stream.read_to_string(&mut text).unwrap();
        answer(&text)
    }
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

fn user_id(rig: &Rig, name: &str) -> UserId {
    rig.server.fleet().register().user_named(name).unwrap().id
}

#[test]
fn who_is_dismissed_while_a_request_trickles_in_changes_nothing() {
    let rig = Rig::start();
    let life = Duration::from_secs(3_600);
    let eve = format!("Bearer {}", rig.server.token_for("eve", Role::Administrator, life).unwrap());
    let path = format!("/api/v1/users/{}", user_id(&rig, "eve"));
    let half = |name: &str| {
        let body = json!({"name": name, "grants": [{"role": "administrator"}]});
        Half::begin(&rig, "POST", "/api/v1/users", &[("Authorization", &eve)], &body)
    };
    let patch = |body: Value| assert_eq!(rig.send("PATCH", &path, Some(&body)).status, 200);

    let waits = half("one");
    patch(json!({"disabled": true}));
    assert_eq!(code(&waits.finish()), (401, "bad-token".into()), "disabled");
    patch(json!({"disabled": false}));
    let waits = half("two");
    patch(json!({"grants": [{"role": "operator"}]}));
    assert_eq!(code(&waits.finish()), (403, "not-allowed".into()), "demoted");
    patch(json!({"grants": [{"role": "administrator"}]}));
    let waits = half("three");
    let tokens = rig.get("/api/v1/tokens").json()["items"].as_array().unwrap().clone();
    let token = tokens.iter().find(|token| token["owner"]["name"] == "eve").unwrap()["id"].clone();
    assert_eq!(rig.send("DELETE", &format!("/api/v1/tokens/{}", token.as_str().unwrap()), None).status, 204);
    assert_eq!(code(&waits.finish()), (401, "bad-token".into()), "without the token");
    let names: Vec<Value> = rig.get("/api/v1/users").json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["name"].clone())
        .collect();
    assert_eq!(names, ["eve", "rig"]);
}

#[test]
fn a_session_that_ended_while_a_request_trickles_in_changes_nothing() {
    let rig = Rig::start_without_users(|_| {});
    set_up(&rig);
    let half = |browser: &Browser<'_>| {
        let headers = [
            ("Cookie", browser.cookie.as_str()),
            ("Sec-Fetch-Site", "same-origin"),
            ("X-Fleetpulse-CSRF", browser.csrf.as_str()),
        ];
        Half::begin(&rig, "POST", "/api/v1/users", &headers, &json!({"name": "bob"}))
    };
    let browser = Browser::sign_in(&rig, NAME, PASSWORD).unwrap();
    let waits = half(&browser);
    assert_eq!(browser.send("DELETE", "/api/v1/session", None).status, 204);
    assert_eq!(code(&waits.finish()), (401, "not-signed-in".into()), "signed out");
    // Whoever sets another password, and whether they came to ending the sessions or not.
    let browser = Browser::sign_in(&rig, NAME, PASSWORD).unwrap();
    let waits = half(&browser);
    let edit = UserEdit { password: Some(Some("$argon2id$another".into())), ..UserEdit::default() };
    let command = Command::EditUser { id: user_id(&rig, NAME), edit };
    rig.server.apply(&[command], Actor::command_line("test")).unwrap();
    assert_eq!(code(&waits.finish()), (401, "not-signed-in".into()), "another password");
    assert_eq!(browser.send("GET", "/api/v1/session", None).status, 401);
    assert!(rig.server.fleet().register().user_named("bob").is_none());
}

/// Sensors, and somebody who begins a bulk change of them that waits for a change under way. What this makes of
/// `EditUser` is done before the bulk change: its last state.
fn bulk_while(edit: UserEdit) -> (Value, Vec<Value>) {
    let rig = Rig::start();
    let (subscription, site, zone) = (SubscriptionId::fresh(), SiteId::fresh(), ZoneId::fresh());
    let mut commands = vec![
        Command::AddSubscription { id: subscription, name: "Contoso".into() },
        Command::AddSite { id: site, subscription, name: "Lyon".into() },
        Command::AddZone { id: zone, site, name: "Hall".into() },
    ];
    let sensors = [1, 2, 3].map(SensorId::from_number);
    commands.extend(sensors.map(|id| Command::AddSensor {
        id,
        zone,
        name: format!("press {id}"),
        kind: SensorType::OtCloud,
        lifecycle: Lifecycle::Active,
    }));
    rig.server.apply(&commands, Actor::command_line("test")).unwrap();
    let life = Duration::from_secs(3_600);
    let eve = format!("Bearer {}", rig.server.token_for("eve", Role::Operator, life).unwrap());
    let id = user_id(&rig, "eve");

    let (began, begun) = bounded(1);
    let (go, gone) = bounded::<()>(1);
    let (at, after) = std::thread::scope(|scope| {
        let (server, begun) = (&rig.server, begun);
        scope.spawn(move || {
            let plan = |_: &_| {
                began.send(()).unwrap();
                gone.recv().unwrap();
                vec![Command::EditUser { id, edit }]
            };
            let actor = Actor::command_line("test");
            server.fleet().sift_if(plan, |_| true, actor, server.clock().unix()).unwrap();
        });
        begun.recv().unwrap();
        let items: Vec<String> = sensors.iter().map(ToString::to_string).collect();
        let body = json!({"action": "delete", "items": items});
        let answer = rig.send_with("POST", "/api/v1/bulk", &[("Authorization", &eve)], Some(&body));
        assert_eq!(answer.status, 202, "{answer:?}");
        // One change after the other: when this one is over, the one before is.
        let body = json!({"action": "unmute", "items": items});
        let after = rig.send("POST", "/api/v1/bulk", Some(&body));
        go.send(()).unwrap();
        let at = |answer: &Answer| answer.header("location").unwrap().to_owned();
        (at(&answer), at(&after))
    });
    until(&json!("done"), || rig.get(&after).json()["state"].clone());
    // Only the caller sees their job, when they may again.
    let back = UserEdit {
        disabled: Some(false),
        grants: Some(vec![Grant { role: Role::Reader, scope: Scope::All }]),
        ..UserEdit::default()
    };
    rig.server.apply(&[Command::EditUser { id, edit: back }], Actor::command_line("test")).unwrap();
    let ask = |path: &str| rig.send_with("GET", path, &[("Authorization", &eve)], None).json();
    assert_eq!(rig.server.fleet().register().sensors().count(), 3, "nothing was deleted");
    (ask(&at), ask(&format!("{at}/items"))["items"].as_array().unwrap().clone())
}

#[test]
fn a_bulk_change_ends_with_the_rights_of_its_caller() {
    let (job, items) = bulk_while(UserEdit { disabled: Some(true), ..UserEdit::default() });
    assert_eq!(job["state"], "failed", "{job}");
    assert!(job["error"].as_str().unwrap().contains("may not sign in any more"), "{job}");
    assert!(items.len() == 3 && items.iter().all(|item| item["outcome"] == "not-done"), "{items:?}");

    let reader = vec![Grant { role: Role::Reader, scope: Scope::All }];
    let (job, items) = bulk_while(UserEdit { grants: Some(reader), ..UserEdit::default() });
    assert_eq!((&job["state"], &job["refused"]), (&json!("done"), &json!(3)), "{job}");
    assert!(items.iter().all(|item| item["code"] == "not-allowed"), "{items:?}");
}

#[test]
fn a_weak_token_neither_sees_nor_deletes_its_owners_strong_ones() {
    let rig = Rig::start();
    let make = |name: &str, role: &str| {
        let made =
            rig.send("POST", "/api/v1/tokens", Some(&json!({"name": name, "grants": [{"role": role}]})));
        assert_eq!(made.status, 201, "{made:?}");
        let text = |field: &str| made.json()[field].as_str().unwrap().to_owned();
        (format!("Bearer {}", text("secret")), format!("/api/v1/tokens/{}", text("id")))
    };
    let (strong, weak, other) = (make("strong", "operator"), make("weak", "reader"), make("other", "reader"));
    let ask = |method: &str, path: &str, bearer: &str| {
        rig.send_with(method, path, &[("Authorization", bearer)], None)
    };
    let names = |bearer: &str| -> Vec<String> {
        let items = ask("GET", "/api/v1/tokens", bearer).json()["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&weak.0), ["weak", "other"]);
    assert_eq!(names(&strong.0), ["strong", "weak", "other"]);
    for method in ["GET", "DELETE"] {
        assert_eq!(ask(method, &strong.1, &weak.0).status, 404, "{method}");
    }
    assert_eq!(ask("DELETE", &other.1, &weak.0).status, 204, "it is no more than itself");
    assert_eq!(ask("DELETE", &weak.1, &weak.0).status, 204, "itself");
    assert_eq!(ask("GET", &strong.1, &strong.0).status, 200);
}

#[test]
fn another_password_is_another_version_of_a_user() {
    let rig = Rig::start();
    let body = json!({"name": "bob", "password": PASSWORD});
    let made = rig.send("POST", "/api/v1/users", Some(&body));
    let (path, before) = (made.header("location").unwrap(), made.header("etag").unwrap());
    assert_eq!(rig.get(path).header("etag"), Some(before));
    let change = |tag: &str| {
        let bearer = format!("Bearer {}", rig.token);
        let headers = [("Authorization", bearer.as_str()), ("If-Match", tag)];
        rig.send_with("PATCH", path, &headers, Some(&json!({"password": "another long password"})))
    };
    let changed = change(before);
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_ne!(changed.header("etag"), Some(before));
    assert_eq!(change(before).status, 412, "who meant the first password is told");
    assert_eq!(rig.get(path).header("etag"), changed.header("etag"));
}

#[test]
fn who_plans_a_maintenance_window_is_told_of_their_own() {
    let rig = Rig::start();
    let (subscription, site) = (SubscriptionId::fresh(), SiteId::fresh());
    let commands = [
        Command::AddSubscription { id: subscription, name: "Contoso".into() },
        Command::AddSite { id: site, subscription, name: "Lyon".into() },
    ];
    rig.server.apply(&commands, Actor::command_line("test")).unwrap();
    let path = format!("/api/v1/sites/{site}/windows");
    let plan = |reason: String| {
        let body = json!({"from": "2098-01-01T00:00:00Z", "until": "2098-01-01T08:00:00Z", "reason": reason});
        let made = rig.send("POST", &path, Some(&body));
        assert_eq!((made.status, &made.json()["reason"]), (201, &json!(reason)), "{made:?}");
        made.header("location").unwrap().to_owned()
    };
    let mut places: Vec<String> = std::thread::scope(|scope| {
        let plan = &plan;
        let each = |who| move || (0..4).map(|one| plan(format!("works {who}.{one}"))).collect::<Vec<_>>();
        let planning: Vec<_> = (0..4).map(|who| scope.spawn(each(who))).collect();
        planning.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    places.sort();
    places.dedup();
    assert_eq!(places.len(), 16, "each is somewhere else");
}
