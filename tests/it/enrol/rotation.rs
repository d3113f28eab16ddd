//! Another root and another intermediate while the fleet is connected: the commands on the files, a real server that
//! reloads, real agents and clients, a gateway.

use std::path::PathBuf;
use std::time::Duration;

use fleetpulse::fleet::Command;
use fleetpulse::health::RuleId;
use fleetpulse::identity::{
    ClientIdentity, IdentityFolder, PeerIdentity, Proof, Rotation, RotationStage, RotationStatus,
};
use fleetpulse::live::{OwnerRef, SensorType};
use fleetpulse::sensor::{Batch, Beat, Boot, Client, ClientConfig, Loss, Socket};
use fleetpulse::server::Server;
use fleetpulse::time::Clock;
use fleetpulse::wire::heartbeat::Heartbeat;
use fleetpulse::wire::id::{GatewayId, SensorId};
use rustix::process::Signal;
use serde_json::Value;

use super::rig::{DAY, Rig, config};
use crate::process::{Program, run, until};

const INTERVAL: Duration = Duration::from_millis(200);

impl Rig {
    /// `fleetpulse ca ...` on the data directory of the running server.
    fn ca(&self, command: &[&str]) -> (Option<i32>, String) {
        let data = self.out("data");
        let mut arguments = vec!["ca", "--data-dir", &data];
        arguments.extend(command);
        let (code, said) = run(&arguments);
        (code, said.join("\n"))
    }

    /// A step that is taken, and taken over by the server.
    fn step(&self, command: &[&str]) -> String {
        let (code, said) = self.ca(command);
        assert_eq!(code, Some(0), "{command:?}: {said}");
        self.server.reload().expect("reloaded");
        said
    }

    fn status(&self) -> RotationStatus {
        Rotation::status(&self.folder.path().join("data")).expect("an authority")
    }

    fn until_proven(&self, what: &str, done: impl Fn(&Proof) -> bool) {
        until(what, || self.status().proof.filter(|proof| done(proof)).map(drop));
    }

    /// A folder with an activated sensor's identity.
    fn activated(&self, name: &str) -> (SensorId, PathBuf) {
        let id = self.onboard(name, SensorType::OtCloud);
        let folder = IdentityFolder::new(self.out(name));
        // The client library's own runtime is busy with the sensors.
        std::thread::scope(|scope| {
            scope.spawn(|| self.activate(&self.read(&self.issue(id)), &folder).expect("activated"));
        });
        (id, folder.path().to_owned())
    }

    fn link(&self, folder: &std::path::Path) -> ClientConfig {
        let mut config = ClientConfig::new(self.server.ingest_addr().to_string(), "localhost");
        config.interval = INTERVAL;
        config.back_off.refused = INTERVAL;
        config.back_off.first = INTERVAL;
        config.identity_dir = Some(folder.to_owned());
        config
    }

    /// Connects a sensor with what its folder has.
    fn connect(&self, socket: &Socket, id: SensorId, folder: &std::path::Path) -> Client {
        let clock = self.server.clock();
        let mut boot = Boot::new(id, clock.mono());
        let source = move |beat: &Beat| {
            let mut heartbeat = Heartbeat::default();
            boot.stamp(&mut heartbeat, beat.now);
            Some(heartbeat)
        };
        let identity = ClientIdentity::read(folder).expect("an identity");
        Client::start(self.link(folder), &identity, socket, clock, source).expect("a client")
    }

    /// A gateway that speaks for one sensor of its site.
    fn gateway(&self, socket: &Socket) -> (GatewayId, SensorId, PathBuf, Client) {
        let (id, behind) = (GatewayId::fresh(), self.onboard("behind", SensorType::OtCloud));
        let site = {
            let register = self.server.fleet().register();
            register.site_of(register.sensor(behind).expect("registered")).expect("a site").id
        };
        let lifecycle = fleetpulse::live::Lifecycle::Active;
        self.apply(&[
            Command::SetLifecycle { id: behind, lifecycle },
            Command::AddGateway { id, name: "relay".into(), sites: vec![site] },
        ]);
        let folder = PathBuf::from(self.out("relay"));
        let identity = self.server.authority().issue(PeerIdentity::Gateway(id), 30 * DAY, self.now());
        identity.expect("signed").write(&folder).expect("written");
        let clock = self.server.clock();
        let mut boot = Boot::new(behind, clock.mono());
        let source = move |beat: &Beat, batch: &mut Batch| {
            let mut heartbeat = Heartbeat::default();
            boot.stamp(&mut heartbeat, beat.now);
            heartbeat.interval_ms = INTERVAL.as_millis() as u32;
            batch.push(&heartbeat, 0);
        };
        let identity = ClientIdentity::read(&folder).expect("an identity");
        let client = Client::start_gateway(self.link(&folder), &identity, socket, clock, source);
        (id, behind, folder, client.expect("a client"))
    }

    fn owner(&self, id: SensorId) -> Option<OwnerRef> {
        self.server.live().snapshot_of(id)?.owner
    }

    fn gateway_owner(&self, id: GatewayId) -> Option<OwnerRef> {
        let index = self.server.live().find_gateway(id)?;
        self.server.live().gateway_snapshot(index)?.owner
    }

    fn raised(&self, rule: RuleId) -> u64 {
        self.server.figures().sweep.raised[rule as usize]
    }
}

/// Generation of the bundle in a folder, and whether who signs now signed the certificate.
fn held(rig: &Rig, folder: &std::path::Path) -> (u32, bool) {
    let identity = ClientIdentity::read(folder).expect("an identity");
    let signs = identity.leaf().expect("a leaf").issuer == rig.server.authority().mark();
    (identity.trust().expect("a bundle").generation, signs)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_is_replaced_and_no_connection_is_lost() {
    let rig = Rig::new();
    let socket = Socket::bind().expect("a socket");
    let sensors: Vec<_> = ["press", "pump", "tank"].into_iter().map(|name| rig.activated(name)).collect();
    let clients: Vec<_> = sensors.iter().map(|(id, folder)| rig.connect(&socket, *id, folder)).collect();
    let (relay, behind, relay_folder, relay_client) = rig.gateway(&socket);
    let (agent_id, file) = rig.file("mill");
    let agent_folder = PathBuf::from(rig.out("mill"));
    let out = rig.out("mill");
    let (code, said) = run(&["agent", "activate", &file.display().to_string(), "--out", &out]);
    assert_eq!(code, Some(0), "{said:?}");
    let mut agent = rig.agent(&out);
    let mut ids: Vec<_> = sensors.iter().map(|(id, _)| *id).collect();
    ids.push(agent_id);
    ids.iter().chain([&behind]).for_each(|&id| rig.until_heartbeats(id));
    until("the gateway", || rig.gateway_owner(relay));
    let owners = || (ids.iter().map(|&id| rig.owner(id)).collect::<Vec<_>>(), rig.gateway_owner(relay));
    let before = owners();
    let mut folders: Vec<_> = sensors.iter().map(|(_, folder)| folder.clone()).collect();
    folders.extend([agent_folder, relay_folder]);
    let all = |generation| {
        folders.iter().for_each(|folder| assert_eq!(held(&rig, folder), (generation, true), "{folder:?}"));
    };

    // An intermediate of its own time changes nothing for those who are there.
    rig.step(&["rotate-intermediate"]);
    assert!(folders.iter().all(|folder| held(&rig, folder) == (1, false)), "certificates stay");

    rig.step(&["rotate-root", "introduce"]);
    // The sensor behind the gateway has no certificate, and does not count.
    rig.until_proven("everybody has the bundle", |proof| (proof.peers, proof.with_bundle) == (5, 5));
    let (_, again) = rig.ca(&["rotate-root", "introduce"]);
    assert!(again.contains("introduce was done on") && again.contains("5 of 5"), "{again}");

    rig.step(&["rotate-root", "switch"]);
    rig.until_proven("everybody has another certificate", |proof| proof.with_certificate == 5);
    all(2);
    let (code, said) = rig.ca(&["status", "--json"]);
    let status: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &status["stage"], &status["generation"]), (Some(0), &"switched".into(), &2.into()));
    assert_eq!((&status["fleet"]["peers"], &status["roots"][1]["signs"]), (&5.into(), &true.into()));
    let figures = rig.server.figures().trust;
    assert_eq!((figures.stage, figures.peers, figures.with_certificate), ("switched", 5, 5));

    rig.step(&["rotate-root", "retire"]);
    until("everybody has the bundle without the old root", || {
        let trust = rig.server.figures().trust;
        (trust.generation == 3 && trust.stage == "settled" && trust.with_certificate == 5).then_some(())
    });
    all(3);
    assert!(
        folders.iter().all(|f| ClientIdentity::read(f).expect("one").trust().expect("one").roots.len() == 1)
    );

    // All the time, the very same connections, and nobody was missed.
    ids.iter().chain([&behind]).for_each(|&id| rig.until_heartbeats(id));
    assert_eq!(owners(), before);
    assert!(before.0.iter().all(Option::is_some) && before.1.is_some());
    assert_eq!((rig.raised(RuleId::Disconnected), rig.raised(RuleId::GatewaySilent)), (0, 0));

    // And who comes back comes back by the new root alone.
    for client in clients.into_iter().chain([relay_client]) {
        client.stop().await;
    }
    agent.signal(Signal::TERM);
    agent.wait();
    until("they are gone", || ids.iter().all(|&id| rig.owner(id).is_none()).then_some(()));
    let _clients: Vec<_> = sensors.iter().map(|(id, folder)| rig.connect(&socket, *id, folder)).collect();
    let agent = rig.agent(&out);
    ids.iter().for_each(|&id| rig.until_heartbeats(id));
    agent.signal(Signal::TERM);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_that_was_off_comes_back_while_the_old_root_is_trusted() {
    let rig = Rig::new();
    let socket = Socket::bind().expect("a socket");
    let (here, here_folder) = rig.activated("here");
    let (off, off_folder) = rig.activated("off");
    let _here = rig.connect(&socket, here, &here_folder);
    let client = rig.connect(&socket, off, &off_folder);
    [here, off].into_iter().for_each(|id| rig.until_heartbeats(id));
    client.stop().await;
    until("it is gone", || rig.owner(off).is_none().then_some(()));

    rig.step(&["rotate-root", "introduce"]);
    rig.until_proven("one has the bundle", |proof| (proof.peers, proof.with_bundle) == (2, 1));
    rig.step(&["rotate-root", "switch"]);
    rig.until_proven("one has another certificate", |proof| (proof.peers, proof.with_certificate) == (2, 1));
    let (code, said) = rig.ca(&["rotate-root", "retire"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("1 of 2") && said.contains("off (has trust bundle 1 of 2)"), "{said}");
    let (code, said) = rig.ca(&["rotate-root", "retire", "--json"]);
    let refused: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &refused["code"]), (Some(1), &"lagging".into()));
    assert_eq!(refused["fleet"]["lagging"][0]["id"], off.to_string());
    assert_eq!(rig.status().stage, RotationStage::Switched);

    // It knows only the old root, and finds its server by what that signed.
    assert_eq!(held(&rig, &off_folder), (1, false));
    let _off = rig.connect(&socket, off, &off_folder);
    rig.until_heartbeats(off);
    rig.until_proven("both have everything", |proof| proof.with_certificate == 2);
    assert_eq!(held(&rig, &off_folder), (2, true));
    let (code, said) = rig.ca(&["rotate-root", "retire"]);
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sensor_that_was_off_until_the_old_root_was_retired_hears_why() {
    let rig = Rig::new();
    let socket = Socket::bind().expect("a socket");
    let (off, off_folder) = rig.activated("off");
    let (late, late_folder) = rig.activated("late");
    rig.step(&["rotate-root", "introduce"]);
    let client = rig.connect(&socket, late, &late_folder);
    rig.until_proven("one has the bundle", |proof| (proof.peers, proof.with_bundle) == (2, 1));
    client.stop().await;
    rig.step(&["rotate-root", "switch"]);
    let (code, said) = rig.ca(&["rotate-root", "retire"]);
    assert_eq!(code, Some(1), "{said}");
    rig.step(&["rotate-root", "retire", "--force"]);

    // One that was off all the time does not know its server, one that has the bundle is not known any more.
    let client = rig.connect(&socket, off, &off_folder);
    until("told why", || (client.report().last_loss == Some(Loss::UnknownServer)).then_some(()));
    let client = rig.connect(&socket, late, &late_folder);
    until("told why", || (client.report().last_loss == Some(Loss::UnknownToServer)).then_some(()));
    let configured = format!(
        "servers = ['{}']\nserver_name = 'localhost'\nidentity_dir = '{}'\n",
        rig.server.ingest_addr(),
        off_folder.display()
    );
    std::fs::write(off_folder.join("agent.toml"), configured).expect("written");
    let mut agent = Program::start(&["agent", "--identity", &off_folder.display().to_string()]);
    agent.until_said("what to do", |line| line.contains("then activate it anew").then_some(()));
    agent.signal(Signal::TERM);

    // Activated anew it is there again.
    rig.apply(&[Command::RevokeCredentials { id: off }]);
    let folder = IdentityFolder::new(rig.out("anew"));
    std::thread::scope(|scope| {
        scope.spawn(|| rig.activate(&rig.read(&rig.issue(off)), &folder).expect("activated"));
    });
    let _client = rig.connect(&socket, off, folder.path());
    rig.until_heartbeats(off);
}

impl Rig {
    /// The server ends, a step is taken, and another server starts on what is there.
    fn step_between(self, command: &[&str]) -> Rig {
        let Rig { folder, server } = self;
        drop(server);
        let data = folder.path().join("data").display().to_string();
        let mut arguments = vec!["ca", "--data-dir", &data];
        arguments.extend(command);
        let (code, said) = run(&arguments);
        assert_eq!(code, Some(0), "{said:?}");
        let server = Server::start(config(folder.path())).expect("a server");
        Rig { folder, server }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_between_two_servers_are_taken_over_by_the_next() {
    let socket = Socket::bind().expect("a socket");
    let rig = Rig::new();
    let (id, folder) = rig.activated("press");
    let rig = rig.step_between(&["rotate-root", "introduce"]);
    let client = rig.connect(&socket, id, &folder);
    rig.until_proven("it has the bundle", |proof| (proof.peers, proof.with_bundle) == (1, 1));
    client.stop().await;

    // What it proved outlives the server that heard it.
    let rig = rig.step_between(&["rotate-root", "switch"]);
    rig.until_proven("counted", |proof| {
        (proof.peers, proof.with_bundle, proof.with_certificate) == (1, 1, 0)
    });
    let client = rig.connect(&socket, id, &folder);
    rig.until_proven("it has another certificate", |proof| proof.with_certificate == 1);
    client.stop().await;
    let rig = rig.step_between(&["status"]);
    rig.until_proven("still counted", |proof| (proof.peers, proof.with_certificate) == (1, 1));
    let rig = rig.step_between(&["rotate-root", "retire"]);
    let _client = rig.connect(&socket, id, &folder);
    rig.until_heartbeats(id);
    until("the last bundle", || (held(&rig, &folder) == (3, true)).then_some(()));
}

#[test]
fn a_step_without_its_key_changes_nothing() {
    let rig = Rig::new();
    let key = rig.folder.path().join("data/identity/root.key");
    let away = rig.folder.path().join("root.key");
    std::fs::rename(&key, &away).expect("moved");
    let before = rig.status();
    let (code, said) = rig.ca(&["rotate-intermediate"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("root.key is not here: put it back"), "{said}");
    let now = rig.status();
    assert_eq!((now.intermediate, now.generation), (before.intermediate, before.generation));
    let (_, said) = rig.ca(&["status"]);
    assert!(said.contains("its key is away") && said.contains("settled"), "{said}");
    let (code, said) = rig.ca(&["rotate-root", "switch", "--json"]);
    let refused: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &refused["code"]), (Some(1), &"too-early".into()));
    std::fs::rename(&away, &key).expect("moved back");
    rig.step(&["rotate-intermediate"]);
}
