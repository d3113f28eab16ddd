//! `kill -9` two hundred times during a stream of requests to the API: what was answered is there, what was under way is
//! done or not done and never half, and the audit log has each exactly once, in order.
//!
//! The server is this test program again, as a process of its own that is killed; it writes snapshots far more often
//! than a server does. Two clients ask it at the same time over HTTP. Each request changes several documents, and each
//! client's requests come in a fixed order; so half a change, or one that is there twice or out of order, does not go
//! unseen. One life in eight ends while the server starts.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use fleetpulse::config::Config;
use fleetpulse::fleet::{Actor, Batch, Change, Command, EventCode, Register, Role, Sensor};
use fleetpulse::live::Lifecycle;
use fleetpulse::server::Server;
use fleetpulse::server::access::token_commands;
use fleetpulse::server::data::DataDir;
use fleetpulse::store::{AuditQuery, Position, Store};
use fleetpulse::time::{Clock, SystemClock};
use fleetpulse::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::process::tell;

const DRIVER_DIR: &str = "FLEETPULSE_TEST_API_DRIVER";
const KILLS: usize = 200;
const CLIENTS: u64 = 2;
const SUBSCRIPTION: SubscriptionId = SubscriptionId::from_number(1);
/// Where sensors of all groups end.
const HOME: ZoneId = ZoneId::from_number(1);
/// Answers that one life lasts for at most, and some more.
const ANSWERS_HEARD: usize = 16;
/// Changes between two snapshots.
const SNAPSHOT_EVERY: u64 = 9;

/// Serves until it is killed, and says where. Does nothing unless told on which data.
#[test]
fn driver() {
    let Some(dir) = std::env::var_os(DRIVER_DIR) else { return };
    let mut config = Config { data_dir: dir.into(), ..Config::default() };
    config.ingest.listen = ([127, 0, 0, 1], 0).into();
    config.ingest.enrol_listen = ([127, 0, 0, 1], 0).into();
    config.ingest.shards = 1;
    config.http.listen = ([127, 0, 0, 1], 0).into();
    config.http.requests_per_second = 100_000;
    let server = Server::start(config).expect("a server");
    writeln!(std::io::stdout(), "ready {}", server.http_addr()).expect("told");
    let mut written = 0;
    loop {
        let at = server.store().register.position().sequence;
        if at >= written + SNAPSHOT_EVERY {
            written = at;
            server.fleet().snapshot().expect("a snapshot");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

struct Killed(Child);

impl Killed {
    fn start(data: &Path) -> Killed {
        let program = std::env::current_exe().expect("this program");
        let mut process = Process::new(program);
        process.args(["--exact", "server::kill_api::driver", "--nocapture"]).env(DRIVER_DIR, data);
        Killed(process.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a driver"))
    }

    /// Where it serves; `None` when it ended before.
    fn ready(&mut self) -> Option<SocketAddr> {
        let lines = BufReader::new(self.0.stdout.take().expect("its words")).lines();
        // The harness may have begun a line of its own.
        lines.map_while(Result::ok).find_map(|line| line.rsplit_once("ready ")?.1.parse().ok())
    }

    fn kill(&mut self) {
        self.0.kill().expect("killed");
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Steps of a group: a site with a zone and three sensors, from their onboarding to their end.
const STEPS: u64 = 7;

/// One client: its requests are numbered from 1, in the order in which they are made.
struct Client {
    number: u64,
    token: String,
    /// As the audit log has it.
    actor: String,
    /// Requests that are done.
    done: u64,
    /// Answered since the last look.
    answered: u64,
    /// Zone and sensors of the present group.
    zone: String,
    sensors: Vec<String>,
    /// The newest of its batches.
    newest: Vec<Batch>,
}

impl Client {
    fn group(&self, n: u64) -> String {
        format!("{}-{}", self.number, (n - 1) / STEPS)
    }

    /// Asks until nobody answers.
    fn ask(&mut self, address: SocketAddr, answered: &Sender<()>) {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent: ureq::Agent = config.timeout_global(Some(Duration::from_secs(10))).build().into();
        while let Some(answer) = self.request(&agent, address, self.done + self.answered + 1) {
            if let Some(sensors) = answer["sensors"].as_array() {
                let id = |value: &Value| value["id"].as_str().expect("an id").to_owned();
                self.sensors = sensors.iter().map(id).collect();
                self.zone = id(&answer["zones"][0]);
            }
            self.answered += 1;
            // Nobody listens once there were enough.
            let _ = answered.try_send(());
        }
    }

    /// Request `n`; `None` when it was not answered.
    fn request(&self, agent: &ureq::Agent, address: SocketAddr, n: u64) -> Option<Value> {
        let (group, sensors, zone) = (self.group(n), &self.sensors, &self.zone);
        let send = |method: &str, path: &str, body: Value| self.send(agent, address, method, path, &body);
        let bulk = |action: &str, arguments: Value| {
            let body =
                json!({"action": action, "items": sensors, "arguments": arguments, "all_or_nothing": true});
            let job = format!("/api/v1/jobs/{}", send("POST", "/api/v1/bulk", body)?["id"].as_str()?);
            // It is done when the job says so.
            loop {
                let job = send("GET", &job, Value::Null)?;
                if job["finished_at"].is_string() {
                    assert_eq!(job["state"], "done", "{job}");
                    return Some(job);
                }
            }
        };
        match (n - 1) % STEPS {
            0 => {
                let row = |k: u64| {
                    json!({"name": format!("sensor {group} {k}"), "site": format!("site {group}"),
                        "zone": format!("zone {group}"), "notes": format!("made by {n}")})
                };
                send("POST", "/api/v1/sensors/import?create_places=true", json!([row(0), row(1), row(2)]))
            }
            1 => {
                let body = json!({"name": format!("renamed by {n} of {}", self.number), "notes": format!("edited by {n}"),
                    "threat_intel_mode": "manual"});
                send("PATCH", &format!("/api/v1/sensors/{}", sensors[0]), body)
            }
            2 => send("POST", "/api/v1/activations", json!({"items": sensors})),
            3 => {
                let body = json!({"interval_seconds": 1 + n % 100, "numbers": {"disk-almost-full": {"percent": 91}}});
                send("PUT", &format!("/api/v1/zones/{zone}/policy"), body)
            }
            4 => bulk("move", json!({"zone": HOME.to_string()})),
            5 => bulk("delete", json!({})),
            _ => send("DELETE", &format!("/api/v1/zones/{zone}"), Value::Null),
        }
    }

    fn send(
        &self,
        agent: &ureq::Agent,
        address: SocketAddr,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Option<Value> {
        let request = ureq::http::Request::builder().method(method).uri(format!("http://{address}{path}"));
        let request = request.header("Authorization", format!("Bearer {}", self.token));
        let mut answer = match body {
            Value::Null => agent.run(request.body(()).expect("a request")),
            body => {
                let request = request.header("Content-Type", "application/json");
                agent.run(request.body(body.to_string()).expect("a request"))
            }
        }
        .ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        let status = answer.status().as_u16();
        assert!((200..300).contains(&status), "{method} {path}: {status} {text}");
        // Files, one a line, are no document.
        Some(serde_json::from_str(&text).unwrap_or_default())
    }

    /// The batch is request `n` of this client, whole.
    fn check(&self, register: &Register, n: u64, batch: &Batch) -> Result<(), String> {
        let group = self.group(n);
        let mut sensors: Vec<&Sensor> = Vec::new();
        let (mut events, mut others) = (0, Vec::new());
        for change in &batch.changes {
            match change {
                Change::Sensor(edit) => sensors.extend(&edit.after),
                Change::Event(event) if event.code == EventCode::Download => events += 1,
                Change::Site(edit) => {
                    others.push((edit.before.is_some(), edit.after.as_ref().map(|it| it.name.to_string())))
                }
                Change::Zone(edit) => {
                    others.push((edit.before.is_some(), edit.after.as_ref().map(|it| it.name.to_string())))
                }
                other => return Err(format!("a change of nobody: {other:?}")),
            }
        }
        // A document may be changed by several commands of one batch: the last one counts.
        let last = |id: SensorId| sensors.iter().rev().find(|sensor| sensor.id == id).copied();
        let ids: std::collections::BTreeSet<SensorId> = sensors.iter().map(|sensor| sensor.id).collect();
        let all = |is: &dyn Fn(&Sensor) -> bool| ids.iter().filter_map(|&id| last(id)).all(is);
        let named = |what: &str| (false, Some(format!("{what} {group}")));
        let whole = match (n - 1) % STEPS {
            0 => {
                let notes = format!("made by {n}");
                let mut names: Vec<&str> =
                    ids.iter().filter_map(|&id| last(id)).map(|sensor| &*sensor.name).collect();
                names.sort_unstable();
                let wanted = [0, 1, 2].map(|k| format!("sensor {group} {k}"));
                names == wanted
                    && all(&|sensor| *sensor.more.notes == *notes)
                    && others == [named("site"), named("zone")]
            }
            1 => {
                let (name, notes) = (format!("renamed by {n} of {}", self.number), format!("edited by {n}"));
                ids.len() == 1 && all(&|sensor| *sensor.name == *name && *sensor.more.notes == *notes)
            }
            2 => ids.len() == 3 && events == 3 && all(&|sensor| sensor.more.activation.is_some()),
            3 => batch.action == "set-policy" && others == [(true, Some(format!("zone {group}")))],
            4 => ids.len() == 3 && all(&|sensor| sensor.zone == HOME),
            5 => ids.len() == 3 && all(&|sensor| sensor.lifecycle == Lifecycle::Deleted),
            _ => {
                others == [(true, None)]
                    && register.zones().all(|zone| *zone.name != *format!("zone {group}"))
            }
        };
        if whole {
            Ok(())
        } else {
            Err(format!("request {n} of {} is not what was asked: {batch:?}", self.number))
        }
    }

    /// What became of the request that was under way when the server was killed.
    fn learn(&mut self, register: &Register, counted: u64) {
        self.done = counted;
        self.answered = 0;
        if counted > 0 && (counted - 1).is_multiple_of(STEPS) {
            let group = self.group(counted);
            let zone = register.zones().find(|zone| *zone.name == *format!("zone {group}")).expect("made");
            let mut sensors: Vec<&Sensor> =
                register.sensors().filter(|sensor| sensor.zone == zone.id).collect();
            sensors.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            self.zone = zone.id.to_string();
            self.sensors = sensors.iter().map(|sensor| sensor.id.to_string()).collect();
        }
    }
}

/// What is known to be true so far.
struct Known {
    register: Register,
    position: Option<Position>,
}

fn check(data: &Path, known: &mut Known, clients: &mut [Client], context: &str) {
    let store = Store::open(data.join("store")).unwrap_or_else(|error| panic!("{context}: {error}"));
    let loaded = store.register.load().unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(loaded.snapshot_errors.is_empty(), "{context}: {:?}", loaded.snapshot_errors);
    let from = known.position.unwrap_or(loaded.position.at(0));
    let batches = store.register.read_from(from, usize::MAX).expect("the log");
    let mut counted: Vec<u64> = clients.iter().map(|client| client.done).collect();
    for (place, batch) in &batches {
        known.register.fold(batch).unwrap_or_else(|error| panic!("{context}: {place}: {error}"));
        let by = clients.iter_mut().zip(&mut counted).find(|(client, _)| client.actor == batch.actor.name);
        // The first use of a token is noted in its name.
        if let Some((client, counted)) = by.filter(|_| batch.action != "touch-token") {
            *counted += 1;
            let whole = client.check(&known.register, *counted, batch);
            whole.unwrap_or_else(|error| panic!("{context}: {place}: {error}"));
            client.newest.insert(0, batch.clone());
            client.newest.truncate(3);
        }
    }
    assert!(known.register == loaded.register, "{context}: the state is not that of its log");
    for (client, counted) in clients.iter_mut().zip(counted) {
        // One more than answered: it was killed after writing and before it said so.
        let told = client.done + client.answered;
        assert!((told..=told + 1).contains(&counted), "{context}: {counted} of {told} by {}", client.actor);
        let query = AuditQuery { actor: Some(client.actor.clone()), limit: 4, ..AuditQuery::default() };
        let found = store.register.audit(&query).expect("the audit log").entries;
        let found: Vec<&Batch> = found
            .iter()
            .map(|(_, batch)| batch)
            .filter(|batch| batch.action != "touch-token")
            .take(3)
            .collect();
        assert_eq!(found, client.newest.iter().collect::<Vec<_>>(), "{context}: {}", client.actor);
        client.learn(&loaded.register, counted);
    }
    known.position = Some(loaded.position);
}

/// The ground, and a user with a token for each client.
fn set_up(data: &Path) -> Vec<Client> {
    let clock = SystemClock::start();
    let mut opened = DataDir::open(data, Arc::new(clock)).expect("the data directory");
    let site = SiteId::from_number(1);
    let ground = [
        Command::AddSubscription { id: SUBSCRIPTION, name: "Contoso".into() },
        Command::AddSite { id: site, subscription: SUBSCRIPTION, name: "Werk".into() },
        Command::AddZone { id: HOME, site, name: "home".into() },
    ];
    opened.apply(&ground, Actor::system("test"), clock.unix()).expect("the ground");
    let client = |number: u64| {
        let (name, life) = (format!("client {number}"), Duration::from_secs(86_400));
        let made = token_commands(&opened.register, &name, Role::Administrator, life, clock.unix());
        let (commands, token) = made.expect("a token");
        opened.apply(&commands, Actor::system("test"), clock.unix()).expect("done");
        let id = opened.register.user_named(&name).expect("there").id;
        let named = opened.register.tokens_of(id).next().expect("a token").name.clone();
        Client {
            number,
            token,
            actor: format!("{name}/{named}"),
            done: 0,
            answered: 0,
            zone: String::new(),
            sensors: Vec::new(),
            newest: Vec::new(),
        }
    };
    (0..CLIENTS).map(client).collect()
}

#[test]
fn two_hundred_kills_during_requests_to_the_api_lose_nothing_and_leave_nothing_half_done() {
    let seed: u64 = rand::random();
    tell(&format!("seed {seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut clients = set_up(&data);
    let mut known = Known { register: Register::new(), position: None };
    for kill in 0..KILLS {
        let context = format!("seed {seed}, kill {kill}");
        let mut server = Killed::start(&data);
        let moment = Duration::from_micros(random.random_range(0..15_000));
        let answers = random.random_range(0..8);
        if answers == 0 {
            // While it starts, or right after.
            std::thread::sleep(moment * 20);
            server.kill();
        } else {
            let address = server.ready().unwrap_or_else(|| panic!("{context}: it ended by itself"));
            let (answered, heard) = bounded(ANSWERS_HEARD);
            std::thread::scope(|scope| {
                for client in &mut clients {
                    let answered = answered.clone();
                    scope.spawn(move || client.ask(address, &answered));
                }
                drop(answered);
                let enough = (0..answers).all(|_| heard.recv().is_ok());
                std::thread::sleep(moment);
                server.kill();
                assert!(enough, "{context}: it ended by itself");
            });
        }
        drop(server);
        check(&data, &mut known, &mut clients, &context);
    }
    let made: u64 = clients.iter().map(|client| client.done).sum();
    tell(&format!("{made} requests were done"));
    assert!(made > KILLS as u64, "{made} requests are no stream");
    let report = fleetpulse::store::check(&data.join("store")).expect("looked at");
    assert!(report.findings.is_empty(), "{report:?}");
}
