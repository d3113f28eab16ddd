//! The agent watches a real interface: what is said when traffic stops, when the agent or the server stands still,
//! and when the agent says goodbye.

use fleetpulse::time::{Clock, SystemClock};
use rustix::process::Signal;
use serde_json::Value;

use super::host::{Probe, time_server};
use super::wire::Wire;
use crate::process::{GRAIN_MS, Server, millis, until};

/// What the demo policy says, in milliseconds.
const NO_TRAFFIC_MS: i64 = 6_000;
const SILENCE_MS: i64 = 5_000;
/// Health's cadence, and so the most that a verdict comes late.
const CADENCE_MS: i64 = 1_000;
const INTERVAL_MS: i64 = 1_000;
/// Longer than every deadline of the demo policy that has to do with time alone.
const STANDSTILL: std::time::Duration = std::time::Duration::from_secs(20);

/// The journal about the sensor, oldest first.
fn journal(server: &Server) -> Vec<Value> {
    let mut entries = server.items("/api/v1/messages/history");
    entries.reverse();
    entries
}

fn said(entries: &[Value]) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    entries.iter().map(|entry| (word(&entry["kind"]), word(&entry["code"]))).collect()
}

/// Waits until the journal has so many entries and checks which the last one is.
fn next(server: &Server, count: usize, kind: &str, code: &str) -> Value {
    let entries = until(&format!("{code} is {kind}"), || {
        let entries = journal(server);
        (entries.len() >= count).then_some(entries)
    });
    assert_eq!(said(&entries)[count - 1..], [(kind.to_owned(), code.to_owned())], "{:?}", said(&entries));
    entries.last().expect("checked").clone()
}

/// A silence was raised at its deadline: that of this last sign of life, and not a cadence later.
fn at_its_deadline(entry: &Value, last_sign: i64, window: i64) {
    let (since, at) = (millis(&entry["since"]), millis(&entry["at"]));
    let delay = entry["detection_delay_ms"].as_i64().expect("a silence has one");
    assert!((since - last_sign - window).abs() <= GRAIN_MS, "{entry} after {last_sign}");
    assert!((0..=CADENCE_MS).contains(&delay), "{entry}");
    assert!((at - since - delay).abs() <= GRAIN_MS, "{entry}");
}

/// Lets the server judge so many times more.
fn sweeps(server: &Server, more: f64) {
    let sweeps = || server.metric("fleetpulse_sweeps_total");
    let from = sweeps().expect("a count");
    until("the server judges", || (sweeps()? >= from + more).then_some(()));
}

#[test]
fn traffic_silence_standstill_and_goodbye_are_told_apart() {
    let clock = SystemClock::start();
    let probe = Probe::register();
    let wire = Wire::lay();
    let traffic = wire.traffic();
    let server = Server::start(&probe.data, &[]);
    let more = format!("interfaces = ['{}']\nntp_servers = ['{}']", wire.interface, time_server());
    traffic.set(true);
    let mut agent = probe.agent(&server, &more);

    // Real traffic keeps it healthy.
    until("it is healthy", || (probe.seen(&server)["state"] == "healthy").then_some(()));
    until("its packets are counted", || {
        (probe.seen(&server)["reported"]["capture"]["packets"].as_u64() > Some(10)).then_some(())
    });
    let seen = probe.seen(&server);
    assert_eq!(seen["reported"]["interfaces"], serde_json::json!({ "total": 1, "up": 1, "with_traffic": 1 }));
    assert_eq!(seen["reported"]["capture"]["dropped"], 0);
    assert!(traffic.sent() >= seen["reported"]["capture"]["packets"].as_u64().expect("a count"));
    sweeps(&server, (NO_TRAFFIC_MS / CADENCE_MS + 2) as f64);
    assert_eq!(said(&journal(&server)), []);

    // It stops: said at its deadline, and ended when packets come again.
    traffic.set(false);
    let stopped = clock.unix().0;
    let raised = next(&server, 1, "raised", "no-traffic");
    let last = millis(&probe.seen(&server)["reported"]["capture"]["last_traffic"]);
    at_its_deadline(&raised, last, NO_TRAFFIC_MS);
    assert!(last >= stopped - INTERVAL_MS - GRAIN_MS, "the last heartbeat with packets: {last} {stopped}");
    assert_eq!(probe.messages(&server), ["no-traffic"]);
    traffic.set(true);
    next(&server, 2, "cleared", "no-traffic");

    // The agent stands still: it is missed, and not any more when it goes on.
    agent.signal(Signal::STOP);
    let raised = next(&server, 3, "raised", "disconnected");
    let last = millis(&probe.seen(&server)["heartbeats"]["last"]);
    at_its_deadline(&raised, last, SILENCE_MS);
    agent.signal(Signal::CONT);
    next(&server, 4, "cleared", "disconnected");
    until("it is healthy again", || (probe.seen(&server)["state"] == "healthy").then_some(()));

    // The server stands still, for longer than any silence may last: its own fault, and nobody else's.
    server.program.signal(Signal::STOP);
    std::thread::sleep(STANDSTILL);
    server.program.signal(Signal::CONT);
    until("it answers again", || server.get("/livez"));
    sweeps(&server, (NO_TRAFFIC_MS / CADENCE_MS + 4) as f64);
    assert_eq!(journal(&server).len(), 4, "{:?}", said(&journal(&server)));
    assert_eq!(probe.seen(&server)["state"], "healthy");
    assert!(server.metric("fleetpulse_doubt_intervals_total{cause=\"lag\"}") >= Some(1.0), "it knows why");

    // A goodbye is no silence.
    agent.signal(Signal::TERM);
    assert_eq!(agent.wait().code(), Some(0));
    next(&server, 5, "raised", "planned-stop");
    sweeps(&server, (SILENCE_MS / CADENCE_MS + 4) as f64);
    assert_eq!(journal(&server).len(), 5, "{:?}", said(&journal(&server)));
    assert_eq!(probe.seen(&server)["state"], "stopped");

    // And the next start is a new one.
    let _agent = probe.agent(&server, &more);
    next(&server, 6, "cleared", "planned-stop");
    until("it is healthy again", || (probe.seen(&server)["state"] == "healthy").then_some(()));
    assert_eq!(probe.seen(&server)["heartbeats"]["restarts"], 1);
}
