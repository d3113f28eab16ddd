//! `fleetpulse load` through the real binary: what was sent was received, and every figure is there.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleetpulse::config::Config;
use fleetpulse::fleet::Actor;
use fleetpulse::identity::PeerIdentity;
use fleetpulse::live::SensorType;
use fleetpulse::sensor::load::{Carried, GatewayRate, LoadCounts, LoadDriver, LoadPeer, LoadTarget};
use fleetpulse::server::Server;
use fleetpulse::server::enlist::Enlistment;
use fleetpulse::time::Clock;
use fleetpulse::wire::id::{GatewayId, SensorId};
use serde_json::Value;

fn load(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fleetpulse")).arg("load").args(arguments).output().unwrap()
}

fn figures(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

fn number(figures: &Value, path: &str) -> f64 {
    let value = figures.pointer(path).unwrap_or_else(|| panic!("{path} is missing in {figures}"));
    value.as_f64().unwrap_or_else(|| panic!("{path} is {value}"))
}

fn percentiles_rise(figures: &Value, name: &str) {
    let at = |place: &str| number(figures, &format!("/{name}/{place}"));
    assert!(at("p50") <= at("p99") && at("p99") <= at("p999") && at("p999") <= at("max"), "{figures}");
    assert!(at("max") > 0.0, "{name}: {figures}");
}

#[test]
fn every_heartbeat_of_every_sensor_is_counted_by_the_server() {
    let output = load(&["--sensors", "50", "--duration", "3s", "--warm-up", "0s", "--json"]);
    let figures = figures(&output);
    let sent = number(&figures, "/sent");
    assert_eq!(sent, number(&figures, "/received"));
    assert_eq!(number(&figures, "/not_sent"), 0.0);
    assert!(sent >= 50.0, "{figures}");
    for name in ["lag_us", "client_schedule_lag_us", "round_trip_us"] {
        percentiles_rise(&figures, name);
    }
    for name in [
        "heartbeats_per_second",
        "server_cpu_us_per_heartbeat",
        "client_cpu_us_per_heartbeat",
        "rss_kb_per_connection",
        "rss_kb_per_registered_sensor",
        "handshakes_per_second",
        "server_cpu_us_per_handshake",
    ] {
        assert!(number(&figures, &format!("/{name}")) > 0.0, "{name}: {figures}");
    }
    assert_eq!(number(&figures, "/connect/full"), 50.0);
    assert_eq!(figures["reconnect"], Value::Null);
}

#[test]
fn gateways_and_a_storm_of_resumed_connections() {
    let output = load(&[
        "--sensors",
        "20",
        "--interval",
        "200ms",
        "--gateways",
        "3",
        "--sensors-per-gateway",
        "25",
        "--rate",
        "1500",
        "--duration",
        "2s",
        "--warm-up",
        "0s",
        "--threads",
        "2",
        "--reconnect",
        "--resume",
        "--json",
    ]);
    let figures = figures(&output);
    assert_eq!(number(&figures, "/sent"), number(&figures, "/received"));
    // A heartbeat of each sensor, a batch of each gateway, and after the storm each sensor once.
    assert!(number(&figures, "/sent") >= 20.0 + 75.0 + 20.0, "{figures}");
    assert_eq!(number(&figures, "/connect/full"), 23.0);
    assert_eq!(number(&figures, "/reconnect/handshakes"), 23.0);
    assert_eq!(number(&figures, "/reconnect/resumed"), 23.0, "{figures}");
    assert!(number(&figures, "/reconnect/server_cpu_us_per_handshake") > 0.0);
}

#[test]
fn a_full_storm_asks_everybody_for_the_certificate() {
    let output = load(&["--sensors", "10", "--duration", "0s", "--reconnect", "--json"]);
    let figures = figures(&output);
    assert_eq!(number(&figures, "/reconnect/full"), 10.0, "{figures}");
    assert_eq!(number(&figures, "/reconnect/resumed"), 0.0, "{figures}");
    // After the storm each sensor was heard once.
    assert_eq!((number(&figures, "/sent"), number(&figures, "/received")), (10.0, 10.0));
    assert_eq!(figures["lag_us"], Value::Null);
}

#[test]
fn a_server_that_runs_elsewhere_is_driven_with_prepared_identities() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (data, identities) = (path("data"), path("identities"));
    let prepare = ["--prepare", &identities, "--data-dir", &data, "--sensors", "12", "--gateways", "1"];
    let output = load(&prepare);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = Path::new(&identities).join("identities.cbor");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let mut config = fleetpulse::config::Config { data_dir: data.clone().into(), ..Default::default() };
    config.ingest.listen = ([127, 0, 0, 1], 0).into();
    config.ingest.enrol_listen = ([127, 0, 0, 1], 0).into();
    config.http.listen = ([127, 0, 0, 1], 0).into();
    let server = fleetpulse::server::Server::start(config).unwrap();
    let (address, http) = (server.ingest_addr().to_string(), format!("http://{}", server.http_addr()));
    let drive = |more: &[&str]| {
        let mut arguments = vec!["--server", &address, "--http", &http, "--identities", &identities];
        arguments.extend(["--duration", "1s", "--warm-up", "0s", "--json"]);
        arguments.extend(more);
        load(&arguments)
    };
    let all = figures(&drive(&[]));
    assert_eq!(number(&all, "/connect/handshakes"), 13.0, "{all}");
    assert_eq!(number(&all, "/sent"), number(&all, "/received"));
    let some = figures(&drive(&["--sensors", "5"]));
    assert_eq!(number(&some, "/connect/handshakes"), 5.0, "{some}");
    let too_many = drive(&["--sensors", "13"]);
    assert_eq!(too_many.status.code(), Some(64), "{}", String::from_utf8_lossy(&too_many.stderr));
    server.stop();
}

/// The schedule goes on when the server is gone: what comes due then is counted, of gateways as of sensors.
#[test]
fn what_comes_due_without_a_connection_is_counted_as_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
    for address in [&mut config.ingest.listen, &mut config.ingest.enrol_listen, &mut config.http.listen] {
        *address = ([127, 0, 0, 1], 0).into();
    }
    let server = Server::start(config).unwrap();
    let clock = server.clock();
    let sensors: Vec<_> = (0..10).map(|_| SensorId::fresh()).collect();
    let gateway = GatewayId::fresh();
    let commands = {
        let register = server.fleet().register();
        let mut plan = Enlistment::new(&register);
        for id in &sensors {
            plan.sensor(*id, &id.to_string(), SensorType::OtCloud, "site", "zone");
        }
        plan.gateway(gateway, "gateway", &["site"]);
        plan.into_commands()
    };
    server.apply(&commands, Actor::command_line("test")).unwrap();
    let life = Duration::from_secs(86_400);
    let identity = server.authority().issue(PeerIdentity::Gateway(gateway), life, clock.unix()).unwrap();
    let counts = Arc::new(LoadCounts::default());
    let target = LoadTarget {
        server: server.ingest_addr(),
        server_name: "localhost".into(),
        clock,
        handshakes_at_once: 1,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let peers = vec![LoadPeer { identity, carried: Carried::Gateway(sensors) }];
        let mut driver = LoadDriver::new(target, peers, Arc::clone(&counts)).unwrap();
        assert_eq!(driver.connect().await.up, 1);
        let told = Arc::clone(&counts);
        let ends = std::thread::spawn(move || {
            let wait = |what: &AtomicU64, least: u64| {
                while what.load(Ordering::Relaxed) < least {
                    std::thread::sleep(Duration::from_millis(10));
                }
            };
            wait(&told.sent, 50);
            server.stop();
            wait(&told.not_sent, 100);
            told.stop.store(true, Ordering::Relaxed);
        });
        // 200 frames a second: ten of them each 50 ms.
        let beating = driver.beat(Duration::from_secs(1), GatewayRate::PerGateway(200.0), 1);
        tokio::time::timeout(Duration::from_secs(60), beating).await.expect("they were never counted");
        ends.join().unwrap();
    });
    assert_eq!(counts.not_sent.load(Ordering::Relaxed) % 10, 0, "whole batches");
}

#[test]
fn wrong_flags_are_wrong_usage_and_say_what_would_be_right() {
    for (arguments, hint) in [
        (&["--sensors", "0"][..], "--sensors"),
        (&["--sensors", "9999999"], "1000000"),
        (&["--interval", "1ms"], "100ms"),
        (&["--interval", "soon"], "10s"),
        (&["--gateways", "1", "--rate", "fast"], "most"),
        (&["--rate", "0"], "rate"),
        (&["--resume"], "--reconnect"),
        (&["--server", "127.0.0.1:1"], "--http"),
        (&["--server", "nowhere", "--http", "http://127.0.0.1:1", "--identities", "x"], "--server"),
        (&["--server", "127.0.0.1:1", "--http", "127.0.0.1:1", "--identities", "x"], "http://"),
        (&["--prepare", "x"], "--data-dir"),
        (&["--cores", "0"], "two"),
        (&["--cores", "0,1000"], "1000"),
        (&["--threads", "0"], "--threads"),
        (&["--handshakes", "0"], "--handshakes"),
        (&["--sensors-per-gateway", "0", "--gateways", "1"], "--sensors-per-gateway"),
    ] {
        let output = load(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {errors}");
        assert!(errors.contains(hint), "{arguments:?} does not say {hint}: {errors}");
        assert!(output.stdout.is_empty());
    }
}
