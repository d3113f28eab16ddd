//! `kill -9` at random moments during a stream of requests to the API: what was answered is there, the request that
//! was under way is done or not done, and the audit log has each exactly once.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use fleetpulse::fleet::Register;
use fleetpulse::store::{AuditQuery, Store};
use fleetpulse::wire::id::SensorId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::process::{Server, tell};

const KILLS: usize = 50;
const THREADS: u64 = 2;

/// A sensor as the API said it is. Name and notes are always changed together.
#[derive(Clone, Debug, PartialEq)]
enum State {
    Alive { name: String, notes: String },
    Deleted,
}

#[derive(Clone, Debug)]
enum Request {
    Onboard { name: String },
    Edit { id: String, name: String, notes: String },
    Delete { id: String },
}

/// What one client asked for.
#[derive(Default)]
struct Client {
    number: u64,
    /// Requests of this client so far.
    count: u64,
    /// What was answered of each sensor, and how many batches that are.
    sensors: BTreeMap<String, (State, usize)>,
    /// Sent, and not answered.
    open: Option<Request>,
}

impl Client {
    fn next(&mut self) -> Request {
        self.count += 1;
        let name = format!("client {} sensor {}", self.number, self.count);
        let alive: Vec<&String> = self
            .sensors
            .iter()
            .filter(|(_, (state, _))| *state != State::Deleted)
            .map(|(id, _)| id)
            .collect();
        match (self.count % 5, alive.last()) {
            (0, Some(id)) => Request::Delete { id: (*id).clone() },
            (2 | 4, Some(id)) => Request::Edit { id: (*id).clone(), notes: name.clone(), name },
            _ => Request::Onboard { name },
        }
    }

    /// Asks until nobody answers.
    fn ask(&mut self, server: &Server, zone: &str) {
        loop {
            let request = self.next();
            self.open = Some(request.clone());
            let answer = match &request {
                Request::Onboard { name } => {
                    let body = json!({"name": name, "type": "ot-cloud", "zone": zone, "notes": name});
                    server.send("POST", "/api/v1/sensors", Some(&body))
                }
                Request::Edit { id, name, notes } => {
                    let body = json!({"name": name, "notes": notes});
                    server.send("PATCH", &format!("/api/v1/sensors/{id}"), Some(&body))
                }
                Request::Delete { id } => server.send("DELETE", &format!("/api/v1/sensors/{id}"), None),
            };
            let Some((status, body)) = answer else { return };
            self.open = None;
            if status == 429 {
                // Put off, so not done.
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            assert!((200..300).contains(&status), "{request:?}: {status} {body}");
            match request {
                Request::Onboard { name } => {
                    let made: Value = serde_json::from_str(&body).expect("JSON");
                    let id = made["id"].as_str().expect("an id").to_owned();
                    self.sensors.insert(id, (State::Alive { name: name.clone(), notes: name }, 1));
                }
                Request::Edit { id, name, notes } => self.change(&id, State::Alive { name, notes }),
                Request::Delete { id } => self.change(&id, State::Deleted),
            }
        }
    }

    fn change(&mut self, id: &str, to: State) {
        let known = self.sensors.get_mut(id).expect("onboarded");
        *known = (to, known.1 + 1);
    }

    /// Holds what was answered against what is there, and learns what became of the open request.
    fn check(&mut self, store: &Store, register: &Register, context: &str) {
        match self.open.take() {
            Some(Request::Onboard { name }) => {
                if let Some(sensor) = register.sensors().find(|sensor| *sensor.name == *name) {
                    let state = State::Alive { name: name.clone(), notes: name };
                    self.sensors.insert(sensor.id.to_string(), (state, 1));
                }
            }
            Some(Request::Edit { id, name, notes }) => {
                let after = State::Alive { name, notes };
                if state(register, &id) == after {
                    self.change(&id, after);
                }
            }
            Some(Request::Delete { id }) if state(register, &id) == State::Deleted => {
                self.change(&id, State::Deleted);
            }
            Some(Request::Delete { .. }) | None => {}
        }
        for (id, (expected, batches)) in &self.sensors {
            assert_eq!(state(register, id), *expected, "{context}: {id}");
            let subject = id.parse::<SensorId>().expect("an id").0;
            let query = AuditQuery { subject: Some(subject), ..AuditQuery::default() };
            let told = store.register.audit(&query).expect("the audit log").entries;
            assert_eq!(told.len(), *batches, "{context}: {id}: {told:?}");
        }
    }
}

fn state(register: &Register, id: &str) -> State {
    let id = id.parse::<SensorId>().expect("an id");
    match register.sensor(id) {
        Some(sensor) => State::Alive { name: sensor.name.to_string(), notes: sensor.more.notes.to_string() },
        None => {
            assert!(register.deleted_sensor(id).is_some(), "{id} is gone without a trace");
            State::Deleted
        }
    }
}

/// A zone for all of it.
fn zone(server: &Server) -> String {
    let made = |path: &str, body: Value| -> String {
        let (status, body) = server.send("POST", path, Some(&body)).expect("an answer");
        assert_eq!(status, 201, "{path}: {body}");
        let made: Value = serde_json::from_str(&body).expect("JSON");
        made["id"].as_str().expect("an id").to_owned()
    };
    let subscription = made("/api/v1/subscriptions", json!({"name": "Contoso"}));
    let site = made("/api/v1/sites", json!({"name": "Lyon", "subscription": subscription}));
    made(&format!("/api/v1/sites/{site}/zones"), json!({"name": "Line 1"}))
}

#[test]
fn killed_during_requests_to_the_api_nothing_that_was_answered_is_lost() {
    let seed: u64 = rand::random();
    tell(&format!("seed {seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let data: &Path = folder.path();
    let client = |number| Client { number, ..Client::default() };
    let mut clients: Vec<Client> = (0..THREADS).map(client).collect();
    let mut zone_id = None;
    for kill in 0..KILLS {
        let server = Server::start(data, &[]);
        let zone = &*zone_id.get_or_insert_with(|| zone(&server));
        std::thread::scope(|scope| {
            for client in &mut clients {
                let server = &server;
                scope.spawn(move || client.ask(server, zone));
            }
            std::thread::sleep(Duration::from_micros(random.random_range(0..200_000)));
            server.program.signal(rustix::process::Signal::KILL);
        });
        drop(server);
        let context = format!("seed {seed}, kill {kill}");
        let store = Store::open(data.join("store")).unwrap_or_else(|error| panic!("{context}: {error}"));
        let loaded = store.register.load().unwrap_or_else(|error| panic!("{context}: {error}"));
        for client in &mut clients {
            client.check(&store, &loaded.register, &context);
        }
    }
    let asked: u64 = clients.iter().map(|client| client.count).sum();
    assert!(asked > 2 * KILLS as u64, "{asked} requests are no stream");
    let report = fleetpulse::store::check(&data.join("store")).expect("looked at");
    assert!(report.findings.is_empty(), "{report:?}");
}
