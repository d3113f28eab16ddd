//! Planned stop and reload: SIGTERM and SIGHUP on a running server with sensors.

use std::time::Duration;

use fleetpulse::sensor::{LinkState, Loss};
use fleetpulse::time::Clock;
use fleetpulse::wire::close::CloseCode;
use rustix::process::Signal;
use serde_json::Value;

use super::fleet::{Fault, Fleet, Sensor};
use crate::process::{GRAIN_MS, Server, millis, run, until};

const SENSORS: usize = 60;

#[test]
fn a_planned_stop_sends_sensors_away_and_they_come_back_as_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut fleet = Fleet::register(folder.path(), SENSORS);
    // No checkpoint but the one of the stop.
    let settings = ["store.checkpoint_every=10m".to_owned()];
    let mut server = Server::start(folder.path(), &settings);
    fleet.connect(server.ingest);
    until("all are heard", || (healthy(&server) == SENSORS).then_some(()));
    let before = last_heartbeats(&server, &fleet);
    let again = [settings[0].clone(), server.same_port()];

    let status = server.stop();
    assert_eq!(status.code(), Some(0));
    assert!(server.logged("stopped; everything is written"));
    until("each was told", || {
        let told = |report: fleetpulse::sensor::LinkReport| {
            report.last_loss == Some(Loss::Closed(CloseCode::Draining)) && report.state != LinkState::Up
        };
        fleet.sensors.iter().all(|sensor| told(sensor.report())).then_some(())
    });

    let server = Server::start(folder.path(), &again);
    assert!(server.logged("live state restored"));
    for (before, now) in before.into_iter().zip(last_heartbeats(&server, &fleet)) {
        assert!(now >= before - GRAIN_MS, "the checkpoint of the stop has them all: {before} {now}");
    }
    until("all are back", || (healthy(&server) == SENSORS).then_some(()));
    assert_eq!(fleet.connected(), SENSORS);
    for sensor in &fleet.sensors {
        assert_eq!(sensor.report().stats.reconnects, 1, "once, and not before the server was there");
    }
    assert_eq!(server.metric("fleetpulse_ingest_resumed_total"), Some(SENSORS as f64));
    assert_eq!(server.items("/api/v1/messages"), Vec::<Value>::new());
    assert_eq!(server.items("/api/v1/messages/history"), Vec::<Value>::new(), "nothing was ever raised");
}

fn healthy(server: &Server) -> usize {
    let fleet = server.json("/api/v1/fleet");
    fleet["sensors"]["by_state"]["healthy"].as_u64().unwrap_or(0) as usize
}

/// When the newest heartbeat of each sensor was made, as the server has it.
fn last_heartbeats(server: &Server, fleet: &Fleet) -> Vec<i64> {
    let sensor = |sensor: &Sensor| server.json(&format!("/api/v1/sensors/{}", sensor.id));
    fleet.sensors.iter().map(|each| millis(&sensor(each)["heartbeats"]["last"])).collect()
}

#[test]
fn a_reload_cuts_revoked_sensors_and_no_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut fleet = Fleet::register(folder.path(), 8);
    let mut server = Server::start(folder.path(), &[]);
    fleet.connect(server.ingest);
    until("all are heard", || (healthy(&server) == 8).then_some(()));

    let revoked = &fleet.sensors[3];
    let data = folder.path().display().to_string();
    let (code, said) = run(&["ca", "revoke", "--data-dir", &data, &revoked.serial]);
    assert_eq!((code, said), (Some(0), vec!["1 newly revoked".to_owned()]));
    assert_eq!(fleet.connected(), 8, "not before the reload");
    server.program.signal(Signal::HUP);
    server.program.until_said("that it reloaded", |line| {
        line.contains("certificates and revocations reloaded").then_some(())
    });
    until("it is cut", || {
        (revoked.report().last_loss == Some(Loss::Closed(CloseCode::CertificateRevoked))).then_some(())
    });
    // It is missed, as every sensor is that says nothing; the others went on as if nothing had been.
    let missed = format!("/api/v1/messages?code=disconnected&sensor={}", revoked.id);
    until("it is missed", || (!server.items(&missed).is_empty()).then_some(()));
    for entry in server.items("/api/v1/messages/history").iter().filter(|entry| !about(entry, revoked)) {
        assert!(really_silent(entry, &fleet), "false: {entry}");
    }
    for (number, sensor) in fleet.sensors.iter().enumerate() {
        let report = sensor.report();
        let up = (report.state == LinkState::Up, report.stats.connects) == (true, 1);
        assert_eq!(up, number != 3, "sensor {number}: {report:?}");
    }
    // The new authority's word holds for connections to come, too.
    assert_eq!(server.metric("fleetpulse_ingest_closed_total{reason=\"certificate_revoked\"}"), Some(1.0));
    assert_eq!(server.stop().code(), Some(0));
}

/// Longer than every deadline of the demo policy that has to do with time alone.
const STANDSTILL: Duration = Duration::from_secs(20);
const SILENCE_MS: i64 = 5_000;

#[test]
fn a_server_that_stood_still_blames_nobody_and_finds_who_really_fell_silent() {
    let folder = tempfile::tempdir().expect("a folder");
    // More heartbeats than the kernel keeps for a server that does not read: some are lost, by our fault.
    let mut fleet = Fleet::register(folder.path(), 200);
    let server = Server::start(folder.path(), &["ingest.receive_buffer_bytes=65536".to_owned()]);
    fleet.connect(server.ingest);
    until("all are heard", || (healthy(&server) == 200).then_some(()));
    sweeps(&server, 25.0);

    server.program.signal(Signal::STOP);
    let silent = &fleet.sensors[7];
    silent.set(Fault::Silent, true);
    std::thread::sleep(STANDSTILL);
    let went_on = fleet.clock().unix().0;
    server.program.signal(Signal::CONT);
    until("it answers again", || server.get("/livez"));
    sweeps(&server, 15.0);

    let drops = server.metric("fleetpulse_ingest_kernel_drops_total");
    assert!(drops > Some(0.0), "{drops:?}: no heartbeat was lost, so this test shows nothing");
    let history = server.items("/api/v1/messages/history");
    let raised = history.iter().find(|entry| about(entry, silent)).expect("it is missed");
    assert_eq!((&raised["kind"], &raised["code"]), (&"raised".into(), &"disconnected".into()));
    // Nobody listened before it went on, so the silence counts from there.
    assert!(millis(&raised["since"]) >= went_on + SILENCE_MS - GRAIN_MS, "{went_on}: {raised}");
    for entry in history.iter().filter(|entry| !about(entry, silent)) {
        assert!(really_silent(entry, &fleet), "it went on at {went_on}; false: {entry}");
    }
    until("the others are healthy", || (healthy(&server) == 199).then_some(()));
}

fn about(entry: &Value, sensor: &Sensor) -> bool {
    entry["subject"]["id"] == sensor.id.to_string()
}

/// Whether an entry is about a sensor that a machine with too much to do really kept from speaking.
fn really_silent(entry: &Value, fleet: &Fleet) -> bool {
    let sensor = fleet.sensors.iter().find(|sensor| about(entry, sensor)).expect("a sensor of ours");
    let (since, at) = (millis(&entry["since"]) - SILENCE_MS, millis(&entry["at"]));
    entry["code"] == "disconnected" && sensor.was_really_silent(since, at)
}

/// Lets the server judge so many times more.
fn sweeps(server: &Server, more: f64) {
    let sweeps = || server.metric("fleetpulse_sweeps_total");
    let from = sweeps().expect("a count");
    until("the server judges", || (sweeps()? >= from + more).then_some(()));
}
