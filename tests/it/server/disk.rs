//! A data directory on a disk that is really full: it is said everywhere, verdicts go on from memory, and what
//! could not be written is written once when there is room.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::fleet::{Fault, Fleet};
use crate::process::{Server, until};
use crate::small_disk::{SmallDisk, fill};

const SENSORS: usize = 120;
/// What is raised at once and ends by itself soon.
const FAULTS: [Fault; 2] = [Fault::SelfTest, Fault::Disk];

#[test]
fn a_full_disk_is_said_verdicts_go_on_and_everything_is_written_once() {
    let disk = SmallDisk::mount("24m");
    let (data, filler) = (disk.path().join("data"), disk.path().join("filler"));
    let mut fleet = Fleet::register(&data, SENSORS);
    let mut server = Server::start(&data, &[]);
    fleet.connect(server.ingest);
    until("it is ready", || ready(&server).0.then_some(()));
    until("all are heard", || (server.json("/api/v1/fleet")["sensors"]["healthy"] == SENSORS).then_some(()));

    // Room that earlier batches left is used first, so it takes some messages until nothing can be written.
    let mut on = false;
    until("the journal can't be written", || {
        fill(&filler).expect("a file");
        on = !on;
        set_all(&fleet, on);
        until("verdicts follow", || {
            (active(&server) == if on { SENSORS * FAULTS.len() } else { 0 }).then_some(())
        });
        (server.metric("fleetpulse_journal_failing") == Some(1.0)).then_some(())
    });
    let written = server.items("/api/v1/messages/history").len();

    let checks = until("readiness says it", || {
        let (ready, checks) = ready(&server);
        let failing = |name: &str| checks[name]["ok"] == false;
        (!ready && failing("store") && failing("journal")).then_some(checks)
    });
    let detail = checks["store"]["detail"].as_str().expect("words");
    assert!(detail.contains("no room on the disk"), "{checks:?}");
    for (metric, value) in [("fleetpulse_store_writable", 0.0), ("fleetpulse_ready", 0.0)] {
        assert_eq!(server.metric(metric), Some(value), "{metric}");
    }
    assert!(server.metric("fleetpulse_journal_failures_total") > Some(0.0));
    assert!(server.metric("fleetpulse_store_free_bytes").is_some_and(|free| free < 65_536.0));
    assert!(server.logged("the journal can't be written; verdicts go on from memory"));
    until("a checkpoint fails", || server.logged("the checkpoint can't be written").then_some(()));

    // Verdicts go on: both ways, and marked for what they are.
    for on in [false, true] {
        set_all(&fleet, on);
        let wanted = if on { SENSORS * FAULTS.len() } else { 0 };
        until("verdicts follow", || (active(&server) == wanted).then_some(()));
    }
    let messages = server.items("/api/v1/messages");
    let mortal = messages.iter().filter(|message| message["durable"] == false).count();
    assert!(mortal > 0, "{messages:#?}");
    assert_eq!(server.items("/api/v1/messages/history").len(), written, "nothing half-written");

    fs::remove_file(&filler).expect("removed");
    until("everything is durable", || {
        let messages = server.items("/api/v1/messages");
        let durable = messages.iter().all(|message| message["durable"] == true);
        (durable && messages.len() == SENSORS * FAULTS.len()).then_some(())
    });
    until("it is ready again", || ready(&server).0.then_some(()));
    assert_eq!(server.metric("fleetpulse_journal_failing"), Some(0.0));
    assert!(server.logged("the journal can be written again"));
    until("checkpoints are written again", || {
        server.logged("checkpoints can be written again").then_some(())
    });
    once_each(&server);

    // And a restart knows all of it, and raises none of it again.
    let again = [server.same_port()];
    let entries = server.items("/api/v1/messages/history").len();
    assert_eq!(server.stop().code(), Some(0));
    let server = Server::start(&data, &again);
    until("all are back", || (fleet.connected() == SENSORS).then_some(()));
    until("the first are judged", || (server.metric("fleetpulse_sweeps_total") > Some(3.0)).then_some(()));
    assert_eq!(
        (active(&server), server.items("/api/v1/messages/history").len()),
        (SENSORS * FAULTS.len(), entries)
    );
}

fn set_all(fleet: &Fleet, on: bool) {
    for sensor in &fleet.sensors {
        FAULTS.iter().for_each(|fault| sensor.set(*fault, on));
    }
}

fn active(server: &Server) -> usize {
    server.items("/api/v1/messages").len()
}

/// Whether it is, and each check by its name.
fn ready(server: &Server) -> (bool, BTreeMap<String, Value>) {
    let (status, body) = server.get("/readyz").expect("an answer");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let checks = body["checks"].as_array().expect("checks").iter();
    let checks = checks.map(|check| (check["name"].as_str().expect("a name").to_owned(), check.clone()));
    (status == 200, checks.collect())
}

/// Each message that is active was raised once more than it was cleared, and entries alternate.
fn once_each(server: &Server) {
    let mut standing: BTreeMap<(String, String), bool> = BTreeMap::new();
    for entry in server.items("/api/v1/messages/history").iter().rev() {
        let word = |value: &Value| value.as_str().expect("a word").to_owned();
        let key = (word(&entry["subject"]["id"]), word(&entry["code"]));
        let raised = entry["kind"] == "raised";
        let before = standing.insert(key, raised).unwrap_or(false);
        assert_ne!(before, raised, "twice the same: {entry}");
    }
    let raised = standing.values().filter(|raised| **raised).count();
    assert_eq!(raised, SENSORS * FAULTS.len());
}
