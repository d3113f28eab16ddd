//! What the agent shows of itself: a row for each heartbeat on a terminal, JSON objects for programs, and
//! nothing (but the log) otherwise.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::sensor::agent::AgentConfig;
use crate::sensor::{LinkReport, LinkState};
use crate::time::{Clock, SystemClock, UnixMillis};
use crate::wire::heartbeat::{
    BackupResult, DISK_NAMES, EndpointState, Heartbeat, NtpState, UNKNOWN_I16, UNKNOWN_U16, UNKNOWN_U32,
    inline_str,
};
use crate::wire::id::SensorId;

/// Rows between two heads.
const HEAD_EVERY: u64 = 20;
const HEAD: &str =
    "    time  link         interfaces  packets/s   Mbit/s    lost    cpu  memory   disk    temp  findings";

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Rows with a head now and then.
    Rows,
    /// One object a line.
    Json,
    /// Not at all.
    Nothing,
}

impl Form {
    /// What suits whoever reads standard output.
    pub(super) fn of_stdout(json: bool) -> Form {
        match (json, io::stdout().is_terminal()) {
            (true, _) => Form::Json,
            (false, true) => Form::Rows,
            (false, false) => Form::Nothing,
        }
    }
}

/// Writes reports to standard output.
pub(super) struct Reporter {
    form: Form,
    sensor: SensorId,
    endpoints: Vec<String>,
    self_tests: Vec<String>,
    clock: SystemClock,
    rows: u64,
    before: Option<Heartbeat>,
    state: Option<LinkState>,
}

impl Reporter {
    pub(super) fn new(form: Form, config: &AgentConfig, sensor: SensorId, clock: SystemClock) -> Reporter {
        Reporter {
            form,
            sensor,
            endpoints: config.endpoints.iter().map(|e| format!("{}:{}", e.host, e.port)).collect(),
            self_tests: config.self_tests.iter().map(|test| test.name.clone()).collect(),
            clock,
            rows: 0,
            before: None,
            state: None,
        }
    }

    /// Until nobody reads, or the agent is gone.
    pub(super) async fn run(
        mut self,
        mut heartbeats: watch::Receiver<Option<Heartbeat>>,
        mut link: watch::Receiver<LinkReport>,
    ) {
        if self.form == Form::Nothing {
            return std::future::pending().await;
        }
        loop {
            let (changed, beat) = tokio::select! {
                changed = heartbeats.changed() => (changed, true),
                changed = link.changed() => (changed, false),
            };
            if changed.is_err() {
                return;
            }
            let report = link.borrow_and_update().clone();
            let heartbeat = if beat { heartbeats.borrow_and_update().clone() } else { None };
            let text = self.text(&report, heartbeat, self.clock.unix());
            if io::stdout().lock().write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn text(&mut self, report: &LinkReport, heartbeat: Option<Heartbeat>, at: UnixMillis) -> String {
        let moved = self.state.replace(report.state) != Some(report.state);
        let text = match (self.form, &heartbeat) {
            (Form::Rows, Some(heartbeat)) => self.row(report, heartbeat, at),
            (Form::Json, heartbeat) if moved || heartbeat.is_some() => {
                format!("{}\n", self.object(report, heartbeat.as_ref(), at))
            }
            _ => String::new(),
        };
        self.before = heartbeat.or(self.before.take());
        text
    }

    fn row(&mut self, report: &LinkReport, heartbeat: &Heartbeat, at: UnixMillis) -> String {
        let head = if self.rows.is_multiple_of(HEAD_EVERY) { format!("{HEAD}\n") } else { String::new() };
        self.rows += 1;
        let link = match (report.state, report.stats.rtt_us) {
            (LinkState::Up, Some(rtt_us)) => format!("up {:.1} ms", f64::from(rtt_us) / 1e3),
            (LinkState::Up, None) => "up".to_owned(),
            (LinkState::Connecting, _) => "connecting".to_owned(),
            (LinkState::Waiting { until }, _) => {
                format!("again in {} s", until.since(self.clock.mono()).as_secs())
            }
            (LinkState::Stopped, _) => "stopped".to_owned(),
        };
        let rate = |now: u64, before: fn(&Heartbeat) -> u64| {
            let earlier = self.before.as_ref()?;
            let seconds = Duration::from_millis(heartbeat.uptime_ms.checked_sub(earlier.uptime_ms)?);
            let grown = now.checked_sub(before(earlier))?;
            (!seconds.is_zero()).then(|| grown as f64 / seconds.as_secs_f64())
        };
        let figure = |rate: Option<f64>, digits: usize| match rate {
            Some(rate) => format!("{rate:.digits$}"),
            None => "-".to_owned(),
        };
        let megabits = rate(heartbeat.rx_bytes, |before| before.rx_bytes).map(|bytes| bytes * 8.0 / 1e6);
        let fullest = heartbeat.disk_permille.iter().copied().filter(|&disk| disk != UNKNOWN_U16).max();
        format!(
            "{head}{}  {link:<12} {:>4}/{} up  {:>9}  {:>7}  {:>6}  {:>5}  {:>6}  {:>5}  {:>6}  {}\n",
            time_of_day(at),
            heartbeat.interfaces_up,
            heartbeat.interfaces_total,
            figure(rate(heartbeat.rx_packets, |before| before.rx_packets), 0),
            figure(megabits, 3),
            heartbeat.rx_dropped,
            percent(heartbeat.cpu_permille),
            percent(heartbeat.memory_permille),
            percent(fullest.unwrap_or(UNKNOWN_U16)),
            temperature(heartbeat.temperature_decicelsius),
            self.findings(heartbeat),
        )
    }

    /// What is not as it should be, in words.
    fn findings(&self, heartbeat: &Heartbeat) -> String {
        let mut findings = Vec::new();
        for (endpoint, &state) in self.endpoints.iter().zip(&heartbeat.endpoint_states) {
            match EndpointState::from_wire(state) {
                Some(EndpointState::Ok) => {}
                Some(EndpointState::NotConfigured) | None => {
                    findings.push(format!("{endpoint}: not checked yet"))
                }
                Some(state) => findings.push(format!("{endpoint}: {}", state.as_str())),
            }
        }
        match NtpState::from_wire(heartbeat.ntp_state) {
            Some(NtpState::Unreachable) => findings.push("no time server answers".to_owned()),
            Some(NtpState::NotConfigured) => findings.push("nothing keeps the clock".to_owned()),
            _ => {}
        }
        let (configured, reachable) = (heartbeat.directory_configured, heartbeat.directory_reachable);
        if reachable < configured {
            findings.push(format!("{reachable} of {configured} directory servers answer"));
        }
        for (bit, test) in self.self_tests.iter().enumerate() {
            if heartbeat.self_test_failed & 1 << bit != 0 {
                findings.push(format!("{test} failed"));
            }
        }
        match BackupResult::from_wire(heartbeat.backup_result) {
            Some(BackupResult::None | BackupResult::Ok) | None => {}
            Some(result) => findings.push(format!("backup: {}", result.as_str())),
        }
        if findings.is_empty() { "none".to_owned() } else { findings.join(", ") }
    }

    fn object(&self, report: &LinkReport, heartbeat: Option<&Heartbeat>, at: UnixMillis) -> Value {
        let (state, again_in_ms) = match report.state {
            LinkState::Connecting => ("connecting", None),
            LinkState::Up => ("up", None),
            LinkState::Waiting { until } => {
                ("waiting", Some(until.since(self.clock.mono()).as_millis() as u64))
            }
            LinkState::Stopped => ("stopped", None),
        };
        json!({
            "at_unix_ms": at.0,
            "sensor": self.sensor.to_string(),
            "link": {
                "state": state,
                "again_in_ms": again_in_ms,
                "last_loss": report.last_loss.as_ref().map(ToString::to_string),
                "rtt_us": report.stats.rtt_us,
                "interval_ms": report.interval.as_millis() as u64,
                "reconnects": report.stats.reconnects,
                "send_failures": report.stats.send_failures,
                "waiting": report.stats.waiting,
            },
            "heartbeat": heartbeat.map(|heartbeat| self.values(heartbeat)),
        })
    }

    fn values(&self, heartbeat: &Heartbeat) -> Value {
        let endpoints = self.endpoints.iter().zip(&heartbeat.endpoint_states).map(|(address, &state)| {
            json!({ "address": address, "state": EndpointState::from_wire(state).map(EndpointState::as_str) })
        });
        let self_tests = self.self_tests.iter().enumerate().map(|(bit, name)| {
            let ran = heartbeat.self_test_ran & 1 << bit != 0;
            json!({ "name": name, "passed": ran.then_some(heartbeat.self_test_failed & 1 << bit == 0) })
        });
        let disks = DISK_NAMES.iter().zip(&heartbeat.disk_permille);
        let disks = disks.map(|(name, &fill)| ((*name).to_owned(), json!(known(fill))));
        let temperature = heartbeat.temperature_decicelsius;
        json!({
            "sequence": heartbeat.sequence,
            "uptime_ms": heartbeat.uptime_ms,
            "version": inline_str(&heartbeat.version),
            "interfaces_total": heartbeat.interfaces_total,
            "interfaces_up": heartbeat.interfaces_up,
            "interfaces_with_traffic": heartbeat.interfaces_with_traffic,
            "rx_packets": heartbeat.rx_packets,
            "rx_bytes": heartbeat.rx_bytes,
            "rx_dropped": heartbeat.rx_dropped,
            "cpu_permille": known(heartbeat.cpu_permille),
            "memory_permille": known(heartbeat.memory_permille),
            "disk_permille": disks.collect::<serde_json::Map<_, _>>(),
            "temperature_decicelsius": (temperature != UNKNOWN_I16).then_some(temperature),
            "ntp_state": NtpState::from_wire(heartbeat.ntp_state).map(NtpState::as_str),
            "directory_configured": heartbeat.directory_configured,
            "directory_reachable": heartbeat.directory_reachable,
            "endpoints": endpoints.collect::<Vec<_>>(),
            "self_tests": self_tests.collect::<Vec<_>>(),
            "backup_result": BackupResult::from_wire(heartbeat.backup_result).map(BackupResult::as_str),
            "backup_age_s": (heartbeat.backup_age_s != UNKNOWN_U32).then_some(heartbeat.backup_age_s),
            "devices": heartbeat.devices,
            "alerts": heartbeat.alerts,
        })
    }
}

fn known(permille: u16) -> Option<u16> {
    (permille != UNKNOWN_U16).then_some(permille)
}

fn percent(permille: u16) -> String {
    known(permille).map_or_else(|| "-".to_owned(), |permille| format!("{} %", (permille + 5) / 10))
}

fn temperature(decicelsius: i16) -> String {
    if decicelsius == UNKNOWN_I16 { "-".to_owned() } else { format!("{} °C", decicelsius / 10) }
}

/// Local time; the world's where the host has no time zone.
fn time_of_day(at: UnixMillis) -> String {
    let zoned = jiff::Timestamp::from_millisecond(at.0)
        .unwrap_or_default()
        .to_zoned_datetime(jiff::tz::TimeZone::system());
    zoned.strftime("%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::LinkStats;
    use crate::wire::heartbeat::inline;

    fn reporter(form: Form) -> Reporter {
        let config = AgentConfig::from_toml(
            "servers = ['a:1']\nidentity_dir = '/x'\n[[endpoints]]\naddress = 'cloud.example'\n\
             [[self_tests]]\nname = 'capture'\ncommand = ['x']\n",
        )
        .expect("valid");
        Reporter::new(form, &config, SensorId::from_number(7), SystemClock::start())
    }

    fn up() -> LinkReport {
        let stats = LinkStats { rtt_us: Some(340), ..LinkStats::default() };
        LinkReport { state: LinkState::Up, stats, interval: Duration::from_secs(1), last_loss: None }
    }

    fn heartbeat(second: u64) -> Heartbeat {
        Heartbeat {
            sequence: second,
            uptime_ms: second * 1_000,
            version: inline("22.3.7"),
            interfaces_total: 2,
            interfaces_up: 1,
            rx_packets: 50 * second,
            rx_bytes: 125_000 * second,
            endpoint_states: [EndpointState::Ok.to_wire(), 0, 0, 0, 0, 0, 0, 0],
            ntp_state: NtpState::Ok.to_wire(),
            cpu_permille: 34,
            memory_permille: UNKNOWN_U16,
            disk_permille: [610, UNKNOWN_U16, 999, UNKNOWN_U16],
            temperature_decicelsius: UNKNOWN_I16,
            ..Heartbeat::default()
        }
    }

    #[test]
    fn a_row_says_rates_between_heartbeats_and_nothing_that_is_not_known() {
        let mut reporter = reporter(Form::Rows);
        let first = reporter.text(&up(), Some(heartbeat(1)), UnixMillis(0));
        let (head, row) = first.split_once('\n').expect("a head and a row");
        assert_eq!(head, HEAD);
        assert!(row.contains("up 0.3 ms") && row.contains("1/2 up") && row.contains(" - "), "{row}");
        let second = reporter.text(&up(), Some(heartbeat(3)), UnixMillis(0));
        assert_eq!(second.lines().count(), 1);
        let words: Vec<_> = second.split_whitespace().skip(1).collect();
        assert_eq!(words.join(" "), "up 0.3 ms 1/2 up 50 1.000 0 3 % - 100 % - none");
        assert_eq!(reporter.text(&up(), None, UnixMillis(0)), "", "the log says how the connection does");
    }

    #[test]
    fn findings_are_named() {
        let bad = Heartbeat {
            endpoint_states: [EndpointState::Tls.to_wire(), 0, 0, 0, 0, 0, 0, 0],
            ntp_state: NtpState::Unreachable.to_wire(),
            directory_configured: 2,
            directory_reachable: 1,
            self_test_ran: 1,
            self_test_failed: 1,
            backup_result: BackupResult::NoRoom.to_wire(),
            ..heartbeat(1)
        };
        assert_eq!(
            reporter(Form::Rows).findings(&bad),
            "cloud.example:443: tls, no time server answers, 1 of 2 directory servers answer, capture failed, \
             backup: no-room"
        );
    }

    #[test]
    fn programs_get_an_object_for_each_heartbeat_and_each_change_of_the_connection() {
        let mut reporter = reporter(Form::Json);
        let object: Value = serde_json::from_str(&reporter.text(&up(), None, UnixMillis(5))).expect("JSON");
        assert_eq!((&object["at_unix_ms"], &object["link"]["state"]), (&json!(5), &json!("up")));
        assert_eq!(object["heartbeat"], Value::Null);
        assert_eq!(reporter.text(&up(), None, UnixMillis(6)), "", "nothing changed");
        let text = reporter.text(&up(), Some(heartbeat(2)), UnixMillis(7));
        assert_eq!(text.lines().count(), 1);
        let object: Value = serde_json::from_str(&text).expect("JSON");
        let said = &object["heartbeat"];
        assert_eq!(said["endpoints"], json!([{ "address": "cloud.example:443", "state": "ok" }]));
        assert_eq!(said["self_tests"], json!([{ "name": "capture", "passed": null }]));
        assert_eq!(said["disk_permille"], json!({ "root": 610, "data": null, "boot": 999, "log": null }));
        assert_eq!((&said["memory_permille"], &said["rx_packets"]), (&Value::Null, &json!(100)));
    }

    #[test]
    fn who_is_no_terminal_and_asks_for_nothing_gets_nothing() {
        assert_eq!(reporter(Form::Nothing).text(&up(), Some(heartbeat(1)), UnixMillis(0)), "");
    }
}
