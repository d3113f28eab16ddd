//! A real Prometheus against a real server with a fleet: it scrapes both pages, every query of the dashboard and
//! every alert runs, and the numbers are the server's own.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fleetpulse::health::{OverallState, RuleId};
use fleetpulse::live::SensorType;
use serde_json::Value;

use super::dashboards::{alerts, dashboard_queries, folder};
use super::fleet::{Running, lasting};
use super::rig::{Rig, until};

/// Faults that last, and a site whose name is hard to write as a label.
fn scenario() -> String {
    lasting("").replace("'harbour'", "'harbour \"7\" \\\\ west'")
}

/// The alerts about the fleet that these faults fire, and no other.
const FIRING: [&str; 4] = [
    "FleetpulseDisconnected",
    "FleetpulseDiskAlmostFull",
    "FleetpulseGatewaySilent",
    "FleetpulseSelfTestFailed",
];

/// Alerts about the server that must be quiet however busy this machine is.
const QUIET: [&str; 8] = [
    "FleetpulseDown",
    "FleetpulseStoreNotWritable",
    "FleetpulseJournalFailing",
    "FleetpulseCheckpointStale",
    "FleetpulseCheckpointFailing",
    "FleetpulseHistoryFailing",
    "FleetpulseFull",
    "FleetpulseSensorPageTruncated",
];

/// A Prometheus with a folder of its own.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// With the configuration that we give people, at this server and faster.
    fn start(server: SocketAddr) -> Prometheus {
        let folder = tempfile::tempdir().unwrap();
        let config = fs::read_to_string(self::folder().join("prometheus.yaml")).unwrap();
        assert_eq!(config.matches("127.0.0.1:8080").count(), 2);
        let config = config.replace("127.0.0.1:8080", &server.to_string());
        let config = config.replace("15s", "1s").replace("60s", "1s");
        fs::write(folder.path().join("prometheus.yaml"), config).unwrap();
        for rules in ["alerts-messages.yaml", "alerts-server.yaml"] {
            fs::copy(self::folder().join(rules), folder.path().join(rules)).unwrap();
        }
        // Nobody tells it a free port but the kernel, which we ask before it does.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let process = Command::new(found("prometheus"))
            .arg(format!("--config.file={}", folder.path().join("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Prometheus { process, address, _folder: folder }
    }

    fn get(&self, path: &str) -> Option<Value> {
        let mut answer = ureq::get(format!("http://{}{path}", self.address)).call().ok()?;
        answer.body_mut().read_json().ok()
    }

    /// The answer to an instant query: labels and value.
    fn query(&self, expr: &str) -> Vec<(Value, f64)> {
        let encoded: String = expr.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}"));
        let answer = answer.unwrap_or_else(|| panic!("it refuses {expr}"));
        assert_eq!(answer["status"], "success", "{expr}: {answer}");
        let value = |row: &Value| (row["metric"].clone(), row["value"][1].as_str().unwrap().parse().unwrap());
        answer["data"]["result"].as_array().unwrap().iter().map(value).collect()
    }

    /// The one value of an expression.
    fn value(&self, expr: &str) -> f64 {
        let rows = self.query(expr);
        if rows.len() == 1 { rows[0].1 } else { f64::NAN }
    }

    /// Jobs whose last scrape was good.
    fn scraped(&self) -> BTreeSet<String> {
        let Some(targets) = self.get("/api/v1/targets") else { return BTreeSet::new() };
        let active = targets["data"]["activeTargets"].as_array().unwrap().iter();
        let up = active.filter(|target| target["health"] == "up");
        up.map(|target| target["labels"]["job"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program that `tests/run` installs.
fn found(name: &str) -> std::path::PathBuf {
    let folders = std::env::var_os("PATH").unwrap();
    let mut places = std::env::split_paths(&folders).map(|folder| folder.join(name));
    places.find(|place| place.is_file()).unwrap_or_else(|| {
        panic!("there is no {name} on this machine; tests/run installs it (Debian package prometheus)")
    })
}

pub fn promtool(arguments: &[&str], input: &str) -> String {
    let mut process = Command::new(found("promtool"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said.into_owned()
}

#[test]
fn promtool_accepts_pages_rules_and_configuration() {
    let rig = Rig::start();
    let fleet = Running::start(&rig.server, &scenario());
    until(&true, || rig.server.board().summary().fleet.in_state(OverallState::Healthy) > 10);
    for path in ["/metrics", "/metrics/sensors"] {
        let said = promtool(&["check", "metrics"], &rig.get(path).body);
        assert_eq!(said, "", "{path}");
    }
    drop(fleet);
    let path = |name: &str| folder().join(name).display().to_string();
    for rules in ["alerts-messages.yaml", "alerts-server.yaml"] {
        assert!(promtool(&["check", "rules", &path(rules)], "").contains("SUCCESS"));
    }
    assert!(promtool(&["check", "config", &path("prometheus.yaml")], "").contains("SUCCESS"));
}

#[test]
fn a_real_prometheus_scrapes_and_its_answers_are_the_servers_own() {
    let rig = Rig::start_with(|config| config.store.checkpoint_every = Duration::from_secs(1));
    let fleet = Running::start(&rig.server, &scenario());
    let prometheus = Prometheus::start(rig.server.http_addr());
    let jobs: BTreeSet<String> = ["fleetpulse", "fleetpulse-sensors"].map(String::from).into();
    until(&jobs, || prometheus.scraped());
    it_reads_open_metrics(&prometheus);
    the_alerts_of_the_faults_fire(&prometheus);
    every_query_of_the_dashboard_answers(&prometheus);
    gauges_are_the_servers(&rig, &prometheus);
    single_sensors_are_the_servers(&rig, &prometheus, &fleet);
    drop(fleet);
    counters_are_the_servers(&rig, &prometheus);
    assert_eq!(prometheus.scraped(), jobs);
}

/// Units come with OpenMetrics only.
fn it_reads_open_metrics(prometheus: &Prometheus) {
    let unit = |metric: &str| {
        let all = prometheus.get(&format!("/api/v1/targets/metadata?metric={metric}")).unwrap();
        let one = &all["data"][0];
        (one["type"].as_str().unwrap_or("").to_owned(), one["unit"].as_str().unwrap_or("").to_owned())
    };
    let is = |kind: &str, unit: &str| (kind.to_owned(), unit.to_owned());
    until(&is("histogram", "seconds"), || unit("fleetpulse_ingest_lag_seconds"));
    assert_eq!(unit("fleetpulse_ingest_bytes"), is("counter", "bytes"));
    assert_eq!(unit("fleetpulse_build"), is("info", ""));
    assert_eq!(unit("fleetpulse_sensor_jitter_seconds"), is("gauge", "seconds"));
}

fn the_alerts_of_the_faults_fire(prometheus: &Prometheus) {
    let rules = || {
        let answer = prometheus.get("/api/v1/rules").unwrap();
        let groups = answer["data"]["groups"].as_array().unwrap().clone();
        groups.into_iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect::<Vec<_>>()
    };
    let names: Vec<String> = rules().iter().map(|rule| rule["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, alerts().into_iter().map(|(name, _)| name).collect::<Vec<_>>());
    let firing: BTreeSet<String> = FIRING.map(String::from).into();
    until(&firing, || {
        let rules = rules();
        let of_the_fleet = rules.iter().filter(|rule| rule["query"].as_str().unwrap().contains("_active"));
        let firing = of_the_fleet.filter(|rule| rule["state"] == "firing");
        firing.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
    });
    for rule in rules() {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    for (name, expr) in alerts() {
        let rows = prometheus.query(&expr);
        assert!(!FIRING.contains(&name.as_str()) || !rows.is_empty(), "{name}");
        assert!(!QUIET.contains(&name.as_str()) || rows.is_empty(), "{name}: {rows:?}");
    }
    let disk = prometheus.query("ALERTS{alertname=\"FleetpulseDiskAlmostFull\",alertstate=\"firing\"}");
    assert_eq!(disk[0].0["severity"], RuleId::DiskAlmostFull.rule().severity.as_str());
}

fn every_query_of_the_dashboard_answers(prometheus: &Prometheus) {
    // Two scrapes within the range of a rate.
    until(&true, || prometheus.value("count_over_time(fleetpulse_sweeps_total[1m])") >= 3.0);
    let mut empty = Vec::new();
    for (title, expr) in dashboard_queries() {
        let expr = expr.replace("$instance", ".*").replace("$__rate_interval", "1m");
        assert!(!expr.contains('$'), "{title}: {expr}");
        // Where only what is not zero is shown, there may be nothing.
        if prometheus.query(&expr).is_empty() && !expr.contains("> 0") {
            empty.push(format!("{title}: {expr}"));
        }
    }
    assert!(empty.is_empty(), "{empty:#?}");
}

fn gauges_are_the_servers(rig: &Rig, prometheus: &Prometheus) {
    let server = &rig.server;
    for kind in SensorType::ALL {
        for state in OverallState::ALL {
            let expr =
                format!("fleetpulse_sensors{{type=\"{}\",state=\"{}\"}}", kind.as_str(), state.as_str());
            let own = f64::from(server.board().summary().fleet.of(kind, state));
            until(&own, || prometheus.value(&expr));
        }
    }
    for rule in RuleId::ALL {
        let expr = format!("fleetpulse_messages_active{{code=\"{}\"}}", rule.code());
        until(&f64::from(server.board().summary().active_of(rule)), || prometheus.value(&expr));
    }
    let figures = server.figures();
    until(&figures.summary.fleet.score().unwrap(), || prometheus.value("fleetpulse_health_score_ratio"));
    until(&(figures.register.sensors as f64), || {
        prometheus.value("fleetpulse_register_objects{kind=\"sensor\"}")
    });
    until(&(figures.ingest.total().sensors as f64), || prometheus.value("fleetpulse_ingest_sensors"));
    assert_eq!(prometheus.value("fleetpulse_ready"), 1.0);
    assert_eq!(prometheus.value("fleetpulse_ingest_shards_alive"), 2.0);
}

fn single_sensors_are_the_servers(rig: &Rig, prometheus: &Prometheus, fleet: &Running) {
    until(&(fleet.plan.sensors.len() as f64), || prometheus.value("count(fleetpulse_sensor_info)"));
    assert_eq!(prometheus.value("fleetpulse_sensor_page_truncated"), 0.0);
    for sensor in &fleet.plan.sensors {
        let row = prometheus.query(&format!("fleetpulse_sensor_info{{sensor=\"{}\"}}", sensor.id));
        let register = rig.server.fleet().register();
        let site = register.site_of(register.sensor(sensor.id).unwrap()).unwrap().name.to_string();
        drop(register);
        let named = (&row[0].0["name"], &row[0].0["site"]);
        assert_eq!(named, (&sensor.name.as_str().into(), &site.into()));
        let handle = rig.server.live().find(sensor.id).unwrap();
        let healthy = match OverallState::from_number(rig.server.live().verdict(handle.index).overall) {
            OverallState::Healthy => 1.0,
            OverallState::Unknown => f64::NAN,
            _ => 0.0,
        };
        let expr = format!("fleetpulse_sensor_healthy{{sensor=\"{}\"}}", sensor.id);
        // Not there and not a number are both no answer.
        until(&healthy.to_string(), || prometheus.value(&expr).to_string());
    }
}

/// Nothing comes in any more, so both can be compared to the last unit.
fn counters_are_the_servers(rig: &Rig, prometheus: &Prometheus) {
    until(&0, || rig.server.figures().ingest.total().connections);
    let total = rig.server.figures().ingest.total();
    let moving = ["turns"];
    for (name, _, gauge, value) in total.plain() {
        if moving.contains(&name) {
            continue;
        }
        let expr = format!("fleetpulse_ingest_{name}{}", if gauge { "" } else { "_total" });
        until(&(value as f64), || prometheus.value(&expr));
    }
    assert!(total.frames > 100, "{}", total.frames);
    until(&(total.lag.count() as f64), || prometheus.value("fleetpulse_ingest_lag_seconds_count"));
    let sum = prometheus.value("fleetpulse_ingest_lag_seconds_sum");
    assert!((sum - total.lag.sum_us as f64 / 1e6).abs() < 1e-9, "{sum}");
    for (outcome, count) in &total.observed {
        let expr = format!("fleetpulse_ingest_observed_total{{outcome=\"{outcome}\"}}");
        until(&(*count as f64), || prometheus.value(&expr));
    }
    let engine = rig.get("/api/v1/engine").json();
    assert_eq!(engine["ingest"]["total"]["counters"]["frames"], total.frames);
    let buckets = engine["ingest"]["total"]["lag"]["buckets"].as_array().unwrap();
    let counted: u64 = buckets.iter().map(|bucket| bucket[1].as_u64().unwrap()).sum();
    assert_eq!(counted, total.lag.count());
}

/// What `dashboards/` holds is named here, so that nothing lies there unchecked.
#[test]
fn everything_in_the_folder_is_checked() {
    let mut names: Vec<_> = fs::read_dir(Path::new(&folder()))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["alerts-messages.yaml", "alerts-server.yaml", "fleetpulse.json", "prometheus.yaml"]);
}
