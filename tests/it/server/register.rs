//! What the register says counts for living connections: who has to go is told why, and nobody is looked for.

use std::time::Duration;

use fleetpulse::config::Config;
use fleetpulse::fleet::{Actor, Command};
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
    let mut config = Config { data_dir: folder.join("data"), ..Config::default() };
    config.ingest.listen = ([127, 0, 0, 1], 0).into();
    config.ingest.enrol_listen = ([127, 0, 0, 1], 0).into();
    config.ingest.shards = SHARDS;
    config.ingest.drain_spread = Duration::ZERO;
    config.ingest.interval = Duration::from_millis(200);
    config.http.listen = ([127, 0, 0, 1], 0).into();
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
