//! Every route for every role: who is let in, who is told what is missing, who is told nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use fleetpulse::fleet::Role::{Administrator, Operator, Reader};
use fleetpulse::fleet::{Actor, Command, Role, SensorEdit};
use fleetpulse::live::{Lifecycle, SensorType};
use fleetpulse::server::access::token_commands;
use fleetpulse::time::Clock;
use fleetpulse::wire::id::{GatewayId, SensorId, SiteId, SubscriptionId, ZoneId};
use serde_json::{Value, json};

use Who::{All, Anybody, Metrics, Part, SignedIn};

use crate::export::rig::{Rig, until};

/// Who may use an operation at all. Of which sensor, site or token is another question.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    /// Nobody has to sign in.
    Anybody,
    /// Whoever is signed in, whatever they may do.
    SignedIn,
    /// Readers of everything; and this machine, where it is configured so.
    Metrics,
    /// This role or a stronger one, over a part of the fleet at least.
    Part(Role),
    /// This role or a stronger one, over everything.
    All(Role),
}

/// Every operation, and who may use it: written down here once more, by hand, so that a slip in the server's own table
/// is found. A new route is a row here; the test below names those that are missing on either side.
#[rustfmt::skip]
const TABLE: &[(&str, &str, Who)] = &[
    ("GET", "/livez", Anybody),
    ("GET", "/readyz", Anybody),
    ("GET", "/metrics", Metrics),
    ("GET", "/metrics/sensors", Metrics),
    ("GET", "/api/v1/engine", Metrics),
    ("GET", "/api/v1/fleet", All(Reader)),
    ("GET", "/api/v1/messages", Part(Reader)),
    ("GET", "/api/v1/messages/history", Part(Reader)),
    ("GET", "/api/v1/subscriptions", Part(Reader)),
    ("POST", "/api/v1/subscriptions", Part(Administrator)),
    ("GET", "/api/v1/subscriptions/{id}", Part(Reader)),
    ("PATCH", "/api/v1/subscriptions/{id}", Part(Administrator)),
    ("DELETE", "/api/v1/subscriptions/{id}", Part(Administrator)),
    ("GET", "/api/v1/subscriptions/{id}/policy", Part(Reader)),
    ("PUT", "/api/v1/subscriptions/{id}/policy", Part(Operator)),
    ("GET", "/api/v1/sites", Part(Reader)),
    ("POST", "/api/v1/sites", Part(Operator)),
    ("GET", "/api/v1/sites/{id}", Part(Reader)),
    ("PATCH", "/api/v1/sites/{id}", Part(Operator)),
    ("DELETE", "/api/v1/sites/{id}", Part(Operator)),
    ("GET", "/api/v1/sites/{id}/policy", Part(Reader)),
    ("PUT", "/api/v1/sites/{id}/policy", Part(Operator)),
    ("PUT", "/api/v1/sites/{id}/mute", Part(Operator)),
    ("DELETE", "/api/v1/sites/{id}/mute", Part(Operator)),
    ("GET", "/api/v1/sites/{id}/windows", Part(Reader)),
    ("POST", "/api/v1/sites/{id}/windows", Part(Operator)),
    ("DELETE", "/api/v1/sites/{id}/windows/{window}", Part(Operator)),
    ("POST", "/api/v1/sites/{id}/zones", Part(Operator)),
    ("GET", "/api/v1/zones", Part(Reader)),
    ("GET", "/api/v1/zones/{id}", Part(Reader)),
    ("PATCH", "/api/v1/zones/{id}", Part(Operator)),
    ("DELETE", "/api/v1/zones/{id}", Part(Operator)),
    ("GET", "/api/v1/zones/{id}/policy", Part(Reader)),
    ("PUT", "/api/v1/zones/{id}/policy", Part(Operator)),
    ("GET", "/api/v1/gateways", Part(Reader)),
    ("POST", "/api/v1/gateways", Part(Administrator)),
    ("GET", "/api/v1/gateways/{id}", Part(Reader)),
    ("PATCH", "/api/v1/gateways/{id}", Part(Administrator)),
    ("DELETE", "/api/v1/gateways/{id}", Part(Administrator)),
    ("GET", "/api/v1/sensors", Part(Reader)),
    ("POST", "/api/v1/sensors", Part(Operator)),
    ("POST", "/api/v1/sensors/import", Part(Operator)),
    ("GET", "/api/v1/sensors/{id}", Part(Reader)),
    ("PATCH", "/api/v1/sensors/{id}", Part(Operator)),
    ("DELETE", "/api/v1/sensors/{id}", Part(Operator)),
    ("GET", "/api/v1/sensors/{id}/series", Part(Reader)),
    ("GET", "/api/v1/sensors/{id}/policy", Part(Reader)),
    ("PUT", "/api/v1/sensors/{id}/policy", Part(Operator)),
    ("PUT", "/api/v1/sensors/{id}/mute", Part(Operator)),
    ("DELETE", "/api/v1/sensors/{id}/mute", Part(Operator)),
    ("GET", "/api/v1/sensors/{id}/windows", Part(Reader)),
    ("POST", "/api/v1/sensors/{id}/windows", Part(Operator)),
    ("DELETE", "/api/v1/sensors/{id}/windows/{window}", Part(Operator)),
    ("POST", "/api/v1/sensors/{id}/reactivate", Part(Operator)),
    ("POST", "/api/v1/sensors/{id}/revoke", Part(Operator)),
    ("POST", "/api/v1/sensors/{id}/mark-active", Part(Operator)),
    ("POST", "/api/v1/sensors/{id}/activation", Part(Operator)),
    ("POST", "/api/v1/sensors/{id}/activation-command", Part(Operator)),
    ("POST", "/api/v1/sensors/{id}/response", Part(Operator)),
    ("POST", "/api/v1/activations", Part(Operator)),
    ("GET", "/api/v1/events/sensors", Part(Reader)),
    ("GET", "/api/v1/events/messages", Part(Reader)),
    ("POST", "/api/v1/bulk", Part(Operator)),
    ("GET", "/api/v1/jobs", Part(Reader)),
    ("GET", "/api/v1/jobs/{id}", Part(Reader)),
    ("DELETE", "/api/v1/jobs/{id}", Part(Reader)),
    ("GET", "/api/v1/jobs/{id}/items", Part(Reader)),
    ("GET", "/api/v1/endpoints", Part(Reader)),
    ("GET", "/api/v1/enrolment-attempts", All(Reader)),
    ("GET", "/api/v1/signatures/{id}", Part(Reader)),
    ("GET", "/api/v1/audit", Part(Operator)),
    ("POST", "/api/v1/backup", All(Administrator)),
    ("GET", "/api/v1/backups", All(Administrator)),
    ("GET", "/api/v1/backups/{name}", All(Administrator)),
    ("DELETE", "/api/v1/backups/{name}", All(Administrator)),
    ("GET", "/api/v1/openapi.json", Anybody),
    ("GET", "/api/v1/docs", Anybody),
    ("GET", "/setup", Anybody),
    ("POST", "/setup", Anybody),
    ("POST", "/api/v1/setup", Anybody),
    ("GET", "/api/v1/session", SignedIn),
    ("POST", "/api/v1/session", Anybody),
    ("DELETE", "/api/v1/session", SignedIn),
    ("PUT", "/api/v1/session/password", SignedIn),
    ("GET", "/api/v1/sign-in/oidc", Anybody),
    ("GET", "/api/v1/sign-in/oidc/callback", Anybody),
    ("GET", "/api/v1/users", All(Administrator)),
    ("POST", "/api/v1/users", All(Administrator)),
    ("GET", "/api/v1/users/{id}", All(Administrator)),
    ("PATCH", "/api/v1/users/{id}", All(Administrator)),
    ("DELETE", "/api/v1/users/{id}", All(Administrator)),
    ("GET", "/api/v1/tokens", SignedIn),
    ("POST", "/api/v1/tokens", SignedIn),
    ("GET", "/api/v1/tokens/{id}", SignedIn),
    ("DELETE", "/api/v1/tokens/{id}", SignedIn),
];

/// What the API says that it has.
fn described(rig: &Rig) -> BTreeMap<(String, String), String> {
    let document = rig.get("/api/v1/openapi.json").json();
    let mut found = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let mut said = operation["description"].as_str().unwrap_or_default().to_owned();
            if operation["security"] == json!([]) {
                said.push_str("Needs nothing.");
            }
            found.insert((method.to_uppercase(), path.clone()), said);
        }
    }
    found
}

#[test]
fn the_api_has_the_operations_of_the_table_and_says_who_may() {
    let rig = Rig::start();
    let described = described(&rig);
    let written: BTreeMap<(String, String), Who> =
        TABLE.iter().map(|(method, path, who)| ((method.to_string(), path.to_string()), *who)).collect();
    assert_eq!(written.len(), TABLE.len(), "a row is there twice");
    let missing: Vec<_> = described.keys().filter(|key| !written.contains_key(key)).collect();
    assert!(missing.is_empty(), "operations without a row in TABLE: {missing:?}");
    let gone: Vec<_> = written.keys().filter(|key| !described.contains_key(key)).collect();
    assert!(gone.is_empty(), "rows of TABLE without an operation: {gone:?}");
    for (operation, said) in &described {
        let expected = match written[operation] {
            Anybody => "Needs nothing.".to_owned(),
            SignedIn => "Needs any sign-in.".to_owned(),
            Metrics => "Needs *view* over everything; without sign-in where".to_owned(),
            Part(role) => format!("* (role {}).", role.as_str()),
            All(role) => format!("* over everything (role {}).", role.as_str()),
        };
        assert!(said.contains(&expected), "{operation:?}: {expected} {said}");
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
    for &(method, path, who) in TABLE {
        // An id that nothing has, and a body that is wrong: who is let in is told so, and nothing happens.
        let path = path.replace("{id}", "00000000-0000-4000-8000-000000000001").replace("{window}", "1");
        let path = path.replace("{name}", "fleetpulse-20200101T000000000Z.backup");
        let body: Option<Value> = (!matches!(method, "GET" | "DELETE")).then(|| json!({"no such field": 1}));
        let ask = |headers: &[(&str, &str)]| rig.send_with(method, &path, headers, body.as_ref());
        let nobody = ask(&[]);
        match who {
            Anybody => assert!(nobody.status != 403, "{method} {path}: {nobody:?}"),
            _ => {
                assert_eq!(nobody.status, 401, "{method} {path}: {nobody:?}");
                assert_eq!(nobody.json()["code"], "not-signed-in", "{method} {path}");
            }
        }
        for (name, (token, role)) in &people {
            let everywhere = *name != "site operator";
            let allowed = match who {
                Anybody | SignedIn => true,
                Metrics => everywhere,
                Part(least) => *role >= least,
                All(least) => *role >= least && everywhere,
            };
            let answer = ask(&[("Authorization", &format!("Bearer {token}"))]);
            let what = format!("{method} {path} as {name}: {} {}", answer.status, answer.body);
            assert!(answer.status < 500 || path == "/readyz", "{what}");
            if allowed {
                assert!(answer.status != 403, "{what}");
                assert!(answer.status != 401 || who == Anybody, "{what}");
            } else {
                let code = answer.json()["code"].as_str().map(str::to_owned);
                assert_eq!((answer.status, code.as_deref()), (403, Some("not-allowed")), "{what}");
            }
            // It would end what the next request needs.
            let signs_out = method == "DELETE" && path == "/api/v1/session";
            assert!(!signs_out || answer.status == 409, "{what}");
        }
    }
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

#[test]
fn what_a_list_shows_is_there_by_its_id_and_tells_only_of_what_is_in_sight() {
    let rig = Rig::start();
    let [(lyon, _), (turin, _)] = two_sites(&rig);
    let gateway = |name: &str, sites: Vec<SiteId>| {
        let id = GatewayId::fresh();
        let command = Command::AddGateway { id, name: name.into(), sites };
        rig.server.apply(&[command], Actor::command_line("test")).unwrap();
        id
    };
    let (both, other) = (gateway("both", vec![lyon, turin]), gateway("other", vec![turin]));
    let body = json!({"name": "lyon", "grants": [{"role": "operator", "site": lyon.to_string()}]});
    assert_eq!(rig.send("POST", "/api/v1/users", Some(&body)).status, 201);
    let token = rig.server.token_for("lyon", Role::Administrator, Duration::from_secs(60)).unwrap();
    let bearer = format!("Bearer {token}");
    let send = |method: &str, path: &str, body: Option<&Value>| {
        rig.send_with(method, path, &[("Authorization", &bearer)], body)
    };
    for kind in ["gateways", "subscriptions"] {
        let listed =
            send("GET", &format!("/api/v1/{kind}"), None).json()["items"].as_array().unwrap().clone();
        assert_eq!(listed.len(), 1, "{kind}: {listed:?}");
        let path = format!("/api/v1/{kind}/{}", listed[0]["id"].as_str().unwrap());
        let shown = send("GET", &path, None);
        assert_eq!(shown.status, 200, "{shown:?}");
        assert_eq!(shown.json()["sites"], listed[0]["sites"], "{kind}: as much as the list tells");
        let change = send("PATCH", &path, Some(&json!({"name": "x"})));
        assert_eq!((change.status, change.json()["code"].as_str()), (403, Some("not-allowed")), "{kind}");
    }
    let sites = |answer: Value| answer["sites"].as_array().unwrap().len();
    assert_eq!(sites(send("GET", &format!("/api/v1/gateways/{both}"), None).json()), 1);
    assert_eq!(sites(rig.get(&format!("/api/v1/gateways/{both}")).json()), 2);
    assert_eq!(send("GET", &format!("/api/v1/gateways/{other}"), None).status, 404);
}

#[test]
fn the_past_of_a_sensor_that_went_out_of_sight_does_not_tell_its_new_name() {
    let rig = Rig::start();
    let [(lyon, sensor), (turin, _)] = two_sites(&rig);
    let body = json!({"name": "lyon", "grants": [{"role": "reader", "site": lyon.to_string()}]});
    assert_eq!(rig.send("POST", "/api/v1/users", Some(&body)).status, 201);
    let token = rig.server.token_for("lyon", Role::Administrator, Duration::from_secs(60)).unwrap();
    let bearer = format!("Bearer {token}");
    let path = format!("/api/v1/messages/history?sensor={sensor}&site={lyon}");
    let seen = || {
        let page = rig.send_with("GET", &path, &[("Authorization", &bearer)], None).json();
        let items = page["items"].as_array().unwrap();
        items.iter().map(|item| item["subject"]["name"].clone()).collect::<Vec<_>>()
    };
    until(&vec![json!("Lyon 1")], seen);
    let hall = rig.server.fleet().register().zones_of(turin).next().unwrap().id;
    let edit = SensorEdit { name: Some("secret press".into()), ..SensorEdit::default() };
    let commands = [Command::MoveSensor { id: sensor, zone: hall }, Command::EditSensor { id: sensor, edit }];
    rig.server.apply(&commands, Actor::command_line("test")).unwrap();
    let after = seen();
    assert!(!after.is_empty() && after.iter().all(Value::is_null), "{after:?}");
    assert_eq!(rig.get(&path).json()["items"][0]["subject"]["name"], "secret press", "who sees it there");
}
