//! Every route for every role: who is let in, who is told what is missing, who is told nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use fleetpulse::fleet::{Actor, Command, Role};
use fleetpulse::live::{Lifecycle, SensorType};
use fleetpulse::server::access::token_commands;
use fleetpulse::time::Clock;
use fleetpulse::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};
use serde_json::{Value, json};

use crate::export::rig::{Rig, until};

/// What an operation needs, as the API itself describes it.
#[derive(Clone, Debug, PartialEq)]
enum Needs {
    Nothing,
    AnySignIn,
    /// View of everything, or this machine.
    Metrics,
    Permission(String),
    /// Over everything.
    All(String),
}

fn operations(rig: &Rig) -> Vec<(String, String, Needs)> {
    let document = rig.get("/api/v1/openapi.json").json();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let description = operation["description"].as_str().unwrap_or_default();
            let needs = if operation["security"] == json!([]) {
                Needs::Nothing
            } else if description.contains("http.metrics_without_sign_in") {
                Needs::Metrics
            } else if description.contains("Needs any sign-in") {
                Needs::AnySignIn
            } else {
                let needed = description.split("Needs *").nth(1).and_then(|rest| rest.split_once('*'));
                let (permission, rest) = needed.unwrap_or_else(|| panic!("{method} {path}: {description}"));
                let everything = rest.starts_with(" over everything");
                if everything { Needs::All(permission.into()) } else { Needs::Permission(permission.into()) }
            };
            found.push((method.to_uppercase(), path.clone(), needs));
        }
    }
    found
}

fn may(role: Role, permission: &str) -> bool {
    match role {
        Role::Reader => permission == "view",
        Role::Operator => ["view", "edit-fleet", "read-audit"].contains(&permission),
        Role::Administrator => true,
    }
}

/// Somebody of each kind, by name: token and role.
fn people(rig: &Rig) -> BTreeMap<&'static str, (String, Role)> {
    let life = Duration::from_secs(3_600);
    let mut people = BTreeMap::new();
    for (name, role) in
        [("reader", Role::Reader), ("operator", Role::Operator), ("administrator", Role::Administrator)]
    {
        people.insert(name, (rig.server.token_for(name, role, life).unwrap(), role));
    }
    let (subscription, site) = (SubscriptionId::fresh(), SiteId::fresh());
    let ground = [
        Command::AddSubscription { id: subscription, name: "Contoso".into() },
        Command::AddSite { id: site, subscription, name: "Lyon".into() },
    ];
    rig.server.apply(&ground, Actor::command_line("test")).unwrap();
    let users = json!({"name": "site operator", "grants": [{"role": "operator", "site": site.to_string()}]});
    let added = rig.send("POST", "/api/v1/users", Some(&users));
    assert_eq!(added.status, 201, "{added:?}");
    let now = rig.server.clock().unix();
    let (commands, token) =
        token_commands(&rig.server.fleet().register(), "site operator", Role::Operator, life, now).unwrap();
    rig.server.apply(&commands, Actor::command_line("test")).unwrap();
    people.insert("site operator", (token, Role::Operator));
    people
}

#[test]
fn every_route_lets_in_who_may_and_nobody_else() {
    let rig = Rig::start_with(|config| {
        config.http.requests_per_second = 100_000;
        config.http.metrics_without_sign_in = fleetpulse::http::MetricsAccess::Nowhere;
    });
    let people = people(&rig);
    let operations = operations(&rig);
    assert!(operations.len() >= 28, "{}", operations.len());
    let mut seen = 0;
    for (method, path, needs) in &operations {
        // An id that nothing has, and a body that is wrong: who is let in is told so, and nothing happens.
        let path = path.replace("{id}", "00000000-0000-4000-8000-000000000001");
        let path = path.replace("{name}", "fleetpulse-20200101T000000000Z.backup");
        let body: Option<Value> =
            (!matches!(method.as_str(), "GET" | "DELETE")).then(|| json!({"no such field": 1}));
        let ask = |headers: &[(&str, &str)]| rig.send_with(method, &path, headers, body.as_ref());
        let nobody = ask(&[]);
        match needs {
            Needs::Nothing => assert!(![403].contains(&nobody.status), "{method} {path}: {nobody:?}"),
            _ => {
                assert_eq!(nobody.status, 401, "{method} {path}: {nobody:?}");
                assert_eq!(nobody.json()["code"], "not-signed-in", "{method} {path}");
            }
        }
        for (name, (token, role)) in &people {
            // It would end what the next request needs.
            let signs_out = method == "DELETE" && path == "/api/v1/session";
            let allowed = match needs {
                Needs::Nothing | Needs::AnySignIn => true,
                Needs::Metrics => *name != "site operator",
                Needs::Permission(permission) => may(*role, permission),
                Needs::All(permission) => may(*role, permission) && *name != "site operator",
            };
            let answer = ask(&[("Authorization", &format!("Bearer {token}"))]);
            let what = format!("{method} {path} as {name}: {} {}", answer.status, answer.body);
            assert!(answer.status < 500 || path == "/readyz", "{what}");
            if allowed {
                assert!(answer.status != 403, "{what}");
                assert!(answer.status != 401 || *needs == Needs::Nothing, "{what}");
            } else {
                assert_eq!(
                    (answer.status, answer.json()["code"].as_str()),
                    (403, Some("not-allowed")),
                    "{what}"
                );
            }
            assert!(!signs_out || answer.status == 409, "{what}");
            seen += 1;
        }
    }
    assert_eq!(seen, operations.len() * 4);
}

#[test]
fn every_answer_is_described() {
    let rig = Rig::start_with(|config| config.http.requests_per_second = 100_000);
    let document = rig.get("/api/v1/openapi.json").json();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let described: Vec<&String> = operation["responses"].as_object().unwrap().keys().collect();
            let known = path.replace("{id}", "00000000-0000-4000-8000-000000000001");
            let known = known.replace("{name}", "fleetpulse-20200101T000000000Z.backup");
            let odd = path.replace("{id}", "%00").replace("{name}", "%00");
            let bodies = [None, Some(json!({})), Some(json!({"x": 1})), Some(json!([]))];
            for path in [known.clone(), odd, format!("{known}?x=1"), format!("{known}?limit=0")] {
                for body in &bodies {
                    let answer = rig.send(&method.to_uppercase(), &path, body.as_ref());
                    let status = answer.status.to_string();
                    assert!(described.contains(&&status), "{method} {path} {body:?}: {answer:?}");
                }
            }
        }
    }
}

/// Two sites with one sensor each that waits for its activation, which is a health message.
fn two_sites(rig: &Rig) -> [(SiteId, SensorId); 2] {
    let subscription = SubscriptionId::fresh();
    let mut commands = vec![Command::AddSubscription { id: subscription, name: "Contoso".into() }];
    let places = ["Lyon", "Turin"].map(|name| {
        let (site, zone, sensor) = (SiteId::fresh(), ZoneId::fresh(), SensorId::fresh());
        commands.push(Command::AddSite { id: site, subscription, name: name.into() });
        commands.push(Command::AddZone { id: zone, site, name: "Hall".into() });
        commands.push(Command::AddSensor {
            id: sensor,
            zone,
            name: format!("{name} 1"),
            kind: SensorType::OtCloud,
            lifecycle: Lifecycle::PendingActivation,
        });
        (site, sensor)
    });
    rig.server.apply(&commands, Actor::command_line("test")).unwrap();
    places
}

#[test]
fn what_lies_outside_somebodys_scope_does_not_exist_for_them() {
    let rig = Rig::start();
    let [(lyon, lyon_1), (turin, turin_1)] = two_sites(&rig);
    let body = json!({"name": "lyon", "grants": [{"role": "reader", "site": lyon.to_string()}]});
    assert_eq!(rig.send("POST", "/api/v1/users", Some(&body)).status, 201);
    let token = rig.server.token_for("lyon", Role::Administrator, Duration::from_secs(60)).unwrap();
    let ask = |path: &str| rig.send_with("GET", path, &[("Authorization", &format!("Bearer {token}"))], None);
    for path in ["/api/v1/messages", "/api/v1/messages/history"] {
        let sites = |page: Value| -> Vec<String> {
            let items = page["items"].as_array().unwrap().clone();
            let mut sites: Vec<String> =
                items.iter().map(|item| item["site"]["id"].as_str().unwrap().to_owned()).collect();
            sites.sort();
            sites
        };
        let mut both = vec![lyon.to_string(), turin.to_string()];
        both.sort();
        until(&both, || sites(rig.get(path).json()));
        assert_eq!(sites(ask(path).json()), [lyon.to_string()], "{path}");
        for filter in [format!("?site={turin}"), format!("?sensor={turin_1}")] {
            assert_eq!(sites(ask(&format!("{path}{filter}")).json()), Vec::<String>::new(), "{path}{filter}");
        }
        assert_eq!(sites(ask(&format!("{path}?sensor={lyon_1}")).json()), [lyon.to_string()], "{path}");
    }
    for more in ["", "/series?metric=cpu-ratio"] {
        assert_eq!(ask(&format!("/api/v1/sensors/{lyon_1}{more}")).status, 200, "{more}");
        let other = ask(&format!("/api/v1/sensors/{turin_1}{more}"));
        assert_eq!((other.status, other.json()["code"].as_str()), (404, Some("not-found")), "{more}");
    }
}
