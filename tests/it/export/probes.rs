//! Probes, metrics in both formats, and the engine's figures, of a server without a fleet.

use std::time::Duration;

use fleetpulse::export::{Figures, table};

use super::rig::{Rig, until};

#[test]
fn a_server_is_live_at_once_and_ready_after_its_first_sweep() {
    let rig = Rig::start();
    let live = rig.get("/livez");
    assert_eq!((live.status, live.header("content-type")), (200, Some("application/json")));
    rig.until_ready();
    let ready = rig.get("/readyz").json();
    let names: Vec<_> =
        ready["checks"].as_array().unwrap().iter().map(|check| check["name"].clone()).collect();
    assert_eq!(names, table::CHECKS);

    rig.server.drain();
    let draining = rig.get("/readyz");
    assert_eq!(draining.status, 503);
    let failing: Vec<_> = draining.json()["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["ok"] == false)
        .map(|check| (check["name"].clone(), check["detail"].clone()))
        .collect();
    assert_eq!(failing, [("drain".into(), "a planned stop is under way".into())]);
    assert_eq!(rig.get("/livez").status, 200);
}

#[test]
fn a_stopped_server_takes_no_more_requests() {
    let rig = Rig::start();
    let address = rig.server.http_addr();
    rig.server.stop();
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn checkpoints_that_cant_be_written_are_told_until_they_can() {
    let rig = Rig::start_with(|config| config.store.checkpoint_every = Duration::from_secs(1));
    let value = |name: &str| {
        let page = rig.get("/metrics").body;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}")).parse::<f64>().unwrap()
    };
    assert_eq!(value("fleetpulse_checkpoint_failing"), 0.0);
    // A folder where it writes its file; a checkpoint may be under way just now.
    let beside = rig.server.store().dir().join("live.checkpoint.new");
    until(&true, || std::fs::create_dir(&beside).is_ok());
    until(&1.0, || value("fleetpulse_checkpoint_failing"));
    assert!(value("fleetpulse_checkpoint_failures_total") >= 1.0);
    std::fs::remove_dir(&beside).unwrap();
    until(&0.0, || value("fleetpulse_checkpoint_failing"));
    assert!(value("fleetpulse_checkpoint_written_total") >= 1.0);
}

#[test]
fn every_family_of_the_table_is_there_and_no_other() {
    let rig = Rig::start();
    rig.until_ready();
    // The one family that waits for something to happen.
    rig.server.checkpoint_stats().last_unix_ms.store(1, std::sync::atomic::Ordering::Relaxed);
    let page = rig.get("/metrics").body;
    let mut shown: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let mut listed: Vec<&str> = table::families().map(|family| family.name).collect();
    // Without a sensor there is no score.
    listed.retain(|name| *name != table::HEALTH_SCORE.name);
    listed.sort_unstable();
    shown.sort_unstable();
    assert_eq!(shown, listed);
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        check_sample(line);
    }
    let series = page.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series <= fleetpulse::limits::METRICS_SERIES_MAX, "{series}");
}

/// Labels and their values are those of the table.
fn check_sample(line: &str) {
    let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
    let bare = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
    let family = table::family(name).or_else(|| table::family(bare?));
    let family = family.unwrap_or_else(|| panic!("{line}"));
    let labels = rest.strip_prefix('{').map_or("", |rest| rest.split_once('}').unwrap().0);
    let mut names = Vec::new();
    for pair in labels.split(',').filter(|pair| !pair.is_empty()) {
        let (label, value) = pair.split_once('=').unwrap();
        if label == "le" {
            continue;
        }
        let row = family.labels.iter().find(|row| row.name == label).unwrap_or_else(|| panic!("{line}"));
        assert!((row.values)().contains(&value.trim_matches('"')), "{line}");
        names.push(label);
    }
    assert_eq!(names, family.labels.iter().map(|row| row.name).collect::<Vec<_>>(), "{line}");
}

#[test]
fn open_metrics_is_given_to_who_asks_for_it() {
    let rig = Rig::start();
    rig.until_ready();
    let page = rig.get_as("/metrics", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert_eq!(
        page.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(page.body.ends_with("# EOF\n"));
    assert!(page.body.contains("# TYPE fleetpulse_ingest_frames counter\n"));
    assert!(page.body.contains("\nfleetpulse_ingest_frames_total 0\n"));
    assert!(page.body.contains("# TYPE fleetpulse_build info\n"));
    assert!(
        page.body
            .contains(&format!("\nfleetpulse_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION")))
    );
    assert!(page.body.contains("# UNIT fleetpulse_sweep_duration_seconds seconds\n"));
    assert!(page.body.contains("\nfleetpulse_sweep_duration_seconds_bucket{le=\"+Inf\"} "));
    let classic = rig.get("/metrics");
    assert_eq!(classic.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(!classic.body.contains("# EOF"));
}

#[test]
fn the_engine_tells_what_the_server_knows() {
    let rig = Rig::start();
    rig.until_ready();
    let engine = rig.get("/api/v1/engine").json();
    let figures: Figures = rig.server.figures();
    assert_eq!(engine["ingest"]["shards"].as_array().unwrap().len(), 1);
    assert_eq!(engine["ingest"]["enrolment"]["alive"], true);
    for (name, _, _, _) in figures.ingest.total().plain() {
        assert!(engine["ingest"]["total"]["counters"][name].is_u64(), "{name}");
    }
    assert!(engine["sweep"]["count"].as_u64().unwrap() >= 1);
    assert_eq!(engine["sweep"]["cadence_seconds"], 1.0);
    assert!(engine["process"]["cpu_us"].as_u64().unwrap() > 1_000);
    assert!(engine["process"]["resident_bytes"].as_u64().unwrap() > 1_000_000);
    assert_eq!(engine["doubt"]["recent"][0]["cause"], "start");
    assert_eq!(engine["store"]["writable"], true);
    assert!(engine["store"]["bytes"]["journal"].as_u64().unwrap() > 0);
}
