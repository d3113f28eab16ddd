//! What the register says counts for living connections: who has to go is told why, and nobody is looked for.

use std::time::Duration;

use fleetpulse::config::Config;
use fleetpulse::fleet::{Actor, Command, Overrides, Place};
use fleetpulse::health::{PolicyPatch, RuleId, Subject};
use fleetpulse::identity::PeerIdentity;
use fleetpulse::limits::PEER_CERTIFICATE_LIFE;
use fleetpulse::live::{Lifecycle, SensorType};
use fleetpulse::sensor::{Batch, Beat, Boot, Client, ClientConfig, LinkState, Loss, Socket};
use fleetpulse::server::Server;
use fleetpulse::server::enlist::Enlistment;
use fleetpulse::time::Clock;
use fleetpulse::wire::close::CloseCode;
use fleetpulse::wire::heartbeat::Heartbeat;
use fleetpulse::wire::id::{GatewayId, SensorId};

use crate::process::until;

const SHARDS: usize = 3;

fn server(folder: &std::path::Path) -> Server {
    server_with(folder, |_| {})
}

fn server_with(folder: &std::path::Path, more: impl FnOnce(&mut Config)) -> Server {
    let mut config = Config { data_dir: folder.join("data"), ..Config::default() };
    config.ingest.listen = ([127, 0, 0, 1], 0).into();
    config.ingest.enrol_listen = ([127, 0, 0, 1], 0).into();
    config.ingest.shards = SHARDS;
    config.ingest.drain_spread = Duration::ZERO;
    config.ingest.interval = Duration::from_millis(200);
    config.http.listen = ([127, 0, 0, 1], 0).into();
    more(&mut config);
    Server::start(config).expect("a server")
}

fn connect(server: &Server, socket: &Socket, peer: PeerIdentity) -> Client {
    let clock = server.clock();
    let config = ClientConfig {
        interval: Duration::from_millis(200),
        ..ClientConfig::new(server.ingest_addr().to_string(), "localhost")
    };
    let identity = server.authority().issue(peer, PEER_CERTIFICATE_LIFE, clock.unix()).expect("signed");
    let client = match peer {
        PeerIdentity::Sensor(id) => {
            let mut boot = Boot::new(id, clock.mono());
            let source = move |beat: &Beat| {
                let mut heartbeat = Heartbeat::default();
                boot.stamp(&mut heartbeat, beat.now);
                Some(heartbeat)
            };
            Client::start(config, &identity, socket, clock, source)
        }
        PeerIdentity::Gateway(_) => {
            Client::start_gateway(config, &identity, socket, clock, |_: &Beat, _: &mut Batch| {})
        }
    };
    client.expect("a client")
}

fn until_lost(client: &Client, why: CloseCode) {
    until("told why", || (client.report().last_loss == Some(Loss::Closed(why))).then_some(()));
}

#[test]
fn who_has_to_go_is_closed_where_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(folder.path());
    let sensors: Vec<_> = (0..6).map(|_| SensorId::fresh()).collect();
    let absent: Vec<_> = (0..50).map(|_| SensorId::fresh()).collect();
    let gateway = GatewayId::fresh();
    let commands = {
        let register = server.fleet().register();
        let mut plan = Enlistment::new(&register);
        for id in sensors.iter().chain(&absent) {
            plan.sensor(*id, &id.to_string(), SensorType::OtCloud, "site", "zone");
        }
        plan.gateway(gateway, "gateway", &["site"]);
        plan.into_commands()
    };
    let actor = || Actor::command_line("test");
    server.apply(&commands, actor()).expect("registered");

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let _inside = runtime.enter();
    let socket = Socket::bind().expect("a socket");
    let peers = sensors.iter().map(|id| PeerIdentity::Sensor(*id)).chain([PeerIdentity::Gateway(gateway)]);
    let clients: Vec<_> = peers.map(|peer| connect(&server, &socket, peer)).collect();
    let counters = server.ingest().counters();
    let seen = || counters.snapshot().sensors + counters.snapshot().gateways;
    until("all are connected", || (seen() == 7).then_some(()));
    let commands_before = counters.snapshot().commands;

    // Those that are not there cost no shard anything.
    let mut gone: Vec<_> = absent[..25].iter().map(|&id| Command::DeleteSensor { id }).collect();
    let inactive = |id| Command::SetLifecycle { id, lifecycle: Lifecycle::PendingReactivation };
    gone.extend(absent[25..].iter().map(|&id| inactive(id)));
    server.apply(&gone, actor()).expect("done");
    // All of one change are closed by one command for each shard that has any.
    let gone = [
        Command::DeleteSensor { id: sensors[0] },
        Command::DeleteSensor { id: sensors[1] },
        inactive(sensors[2]),
        inactive(sensors[3]),
        Command::DeleteGateway { id: gateway },
    ];
    server.apply(&gone, actor()).expect("done");
    for (place, why) in [
        (0, CloseCode::UnknownIdentity),
        (1, CloseCode::UnknownIdentity),
        (2, CloseCode::NotActive),
        (3, CloseCode::NotActive),
        (6, CloseCode::UnknownIdentity),
    ] {
        until_lost(&clients[place], why);
    }
    let counters = counters.snapshot();
    assert_eq!(counters.closed_for(CloseCode::UnknownIdentity), 3);
    assert_eq!(counters.closed_for(CloseCode::NotActive), 2);
    let commands = counters.commands - commands_before;
    assert!((1..=SHARDS as u64).contains(&commands), "{commands} commands to {SHARDS} shards");
    for client in &clients[4..6] {
        let report = client.report();
        assert_eq!((report.state, report.stats.reconnects), (LinkState::Up, 0), "{report:?}");
    }
    server.stop();
}

/// Muted, the messages stay and are marked, and nothing counts as unhealthy; then they count again.
#[test]
fn a_window_of_seconds_mutes_a_site_while_it_lasts_and_its_verdicts_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server_with(folder.path(), |config| config.health.policy = "demo".into());
    let (loud, calm) = (SensorId::fresh(), SensorId::fresh());
    let commands = {
        let register = server.fleet().register();
        let mut plan = Enlistment::new(&register);
        plan.sensor(loud, "loud", SensorType::OtCloud, "quiet site", "zone");
        plan.sensor(calm, "calm", SensorType::OtCloud, "other site", "zone");
        plan.into_commands()
    };
    let actor = || Actor::command_line("test");
    server.apply(&commands, actor()).expect("registered");
    // Nobody ever connects: after five seconds by the demo policy all are silent.
    let disconnected = || server.board().summary().active_of(RuleId::Disconnected);
    let muted = || server.board().summary().active_muted[RuleId::Disconnected as usize];
    let unhealthy = || server.board().summary().fleet.unhealthy();
    until("both are silent", || (disconnected() == 2 && unhealthy() == 2).then_some(()));
    let site = {
        let register = server.fleet().register();
        register.site_of(register.sensor(loud).expect("registered")).expect("a site").id
    };
    let now = server.clock().unix();
    let window = Command::AddWindow {
        place: Place::Site(site),
        from: now.plus(Duration::from_secs(2)),
        until: now.plus(Duration::from_secs(4)),
        reason: "valve".into(),
    };
    server.apply(&[window], actor()).expect("a window");
    until("one is muted", || (muted() == 1).then_some(()));
    assert!(server.clock().unix() >= now.plus(Duration::from_secs(2)), "not before its begin");
    until("it is shown apart", || {
        let fleet = server.board().summary().fleet.clone();
        (fleet.unhealthy() == 1 && fleet.muted() == 1).then_some(())
    });
    let message =
        server.judge().engine().active_message(Subject::Sensor(loud), RuleId::Disconnected).cloned();
    assert!(message.expect("verdicts go on").muted);
    let message =
        server.judge().engine().active_message(Subject::Sensor(calm), RuleId::Disconnected).cloned();
    assert!(!message.expect("silent").muted);
    until("it counts again", || (muted() == 0 && unhealthy() == 2).then_some(()));
    assert!(server.clock().unix() >= now.plus(Duration::from_secs(4)), "not before its end");
    assert_eq!(disconnected(), 2);
}

/// A policy that is said of a site reaches its sensor: the interval it keeps, and what it is judged by.
#[test]
fn what_a_site_says_reaches_its_connected_sensors() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(folder.path());
    let id = SensorId::fresh();
    let commands = {
        let register = server.fleet().register();
        let mut plan = Enlistment::new(&register);
        plan.sensor(id, "one", SensorType::OtCloud, "site", "zone");
        plan.into_commands()
    };
    let actor = || Actor::command_line("test");
    server.apply(&commands, actor()).expect("registered");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let _inside = runtime.enter();
    let socket = Socket::bind().expect("a socket");
    let client = connect(&server, &socket, PeerIdentity::Sensor(id));
    until("it reports", || (client.report().stats.sent > 2).then_some(()));
    let site = {
        let register = server.fleet().register();
        register.site_of(register.sensor(id).expect("registered")).expect("a site").id
    };
    let interval = Some(Duration::from_millis(700));
    let policy = |interval, window| {
        let mut numbers = PolicyPatch::new();
        numbers.set_named("disconnected", "silence_after", window).expect("in range");
        Command::SetPolicy { place: Place::Site(site), policy: Overrides { numbers, interval } }
    };
    let kept = || server.live().snapshot_of(id).expect("registered").heartbeat.interval_ms;
    server.apply(&[policy(interval, 100.0)], actor()).expect("said");
    until("it keeps the interval of its site", || (kept() == 700).then_some(()));
    server.apply(&[policy(None, 100.0)], actor()).expect("said");
    until("it keeps that of all", || (kept() == 200).then_some(()));

    // A silence that is not one yet by the numbers of before becomes one by those of now, and ends by others.
    drop(client);
    let active =
        || server.judge().engine().active_message(Subject::Sensor(id), RuleId::Disconnected).is_some();
    server.apply(&[policy(None, 1.0)], actor()).expect("said");
    until("it is silent", || active().then_some(()));
    server.apply(&[policy(None, 3_600.0)], actor()).expect("said");
    until("an hour is not over", || (!active()).then_some(()));
}
