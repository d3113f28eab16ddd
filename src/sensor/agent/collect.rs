//! The heartbeat: what the host says at once, and the latest findings of the background tasks.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::config::{AgentConfig, Endpoint, Job, host_and_port};
use super::host::{Host, HostPaths, disk_permille, temperature_decicelsius};
use super::probe::{Failure, Prober, Trust, reach};
use super::status::Status;
use super::{job, kernel_clock, sntp};
use crate::limits::{LOCAL_CHECK_EVERY, LOCAL_CHECK_TIMEOUT};
use crate::sensor::{Beat, Boot, Source};
use crate::time::{Clock, MonoNanos, SystemClock};
use crate::wire::heartbeat::{
    BackupResult, DISKS_MAX, ENDPOINTS_MAX, EndpointState, FLAG_BACKUP_DISABLED, FLAG_LOCAL_OVERRIDE,
    Heartbeat, NtpState, TiStatus, UNKNOWN_I16, UNKNOWN_U16, UNKNOWN_U32, UpdateStage, inline,
};
use crate::wire::id::SensorId;

/// What the background tasks found last. Everything starts as unknown.
#[derive(Clone, Debug, PartialEq)]
struct Findings {
    disks: [u16; DISKS_MAX],
    temperature: i16,
    status: Option<Status>,
    endpoints: [EndpointState; ENDPOINTS_MAX],
    ntp: NtpState,
    /// Servers that are configured and that answered; `None` before the first check.
    directory: Option<(u8, u8)>,
    /// For each self-test that ran: when it ended, and whether it passed.
    self_tests: Vec<Option<(MonoNanos, bool)>>,
    backup: Option<(MonoNanos, BackupResult)>,
}

/// The findings, kept up to date by tasks.
#[derive(Clone, Debug)]
pub struct Background {
    findings: watch::Receiver<Findings>,
}

type Shared = Arc<watch::Sender<Findings>>;

impl Background {
    /// Starts the tasks inside a tokio runtime; they end when the set is dropped.
    pub fn start(config: &AgentConfig, trust: Trust, clock: SystemClock) -> (Background, JoinSet<()>) {
        let (sender, findings) = watch::channel(Findings {
            disks: [UNKNOWN_U16; DISKS_MAX],
            temperature: UNKNOWN_I16,
            status: None,
            endpoints: [EndpointState::NotConfigured; ENDPOINTS_MAX],
            ntp: NtpState::Unknown,
            directory: None,
            self_tests: vec![None; config.self_tests.len()],
            backup: None,
        });
        let sender = Arc::new(sender);
        let mut tasks = JoinSet::new();
        let local = Local {
            paths: config.host.clone(),
            disks: config.disks.clone(),
            status_file: config.status_file.clone(),
        };
        tasks.spawn(watch_local(local, sender.clone()));
        tasks.spawn(watch_network(Network::new(config, trust), config.check_every, sender.clone()));
        for (place, test) in config.self_tests.iter().cloned().enumerate() {
            let sender = sender.clone();
            tasks.spawn(repeat(test, move |ended| {
                let done = Some((clock.mono(), ended.is_good()));
                sender.send_modify(|findings| findings.self_tests[place] = done);
            }));
        }
        if let Some(backup) = config.backup.clone() {
            tasks.spawn(repeat(backup, move |ended| {
                let done = Some((clock.mono(), ended.backup_result()));
                sender.send_modify(|findings| findings.backup = done);
            }));
        }
        (Background { findings }, tasks)
    }
}

/// Runs a command again and again.
async fn repeat(job: Job, tell: impl Fn(job::Ended) + Send + 'static) {
    let mut ticks = tokio::time::interval(job.every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut good = true;
    loop {
        ticks.tick().await;
        let ended = job::run(&job).await;
        if ended.is_good() != good {
            good = ended.is_good();
            tracing::info!(job = job.name, ?ended, "command ends differently than before");
        }
        tell(ended);
    }
}

#[derive(Clone)]
struct Local {
    paths: HostPaths,
    disks: [Option<PathBuf>; DISKS_MAX],
    status_file: Option<PathBuf>,
}

impl Local {
    fn look(&self) -> ([u16; DISKS_MAX], i16, Option<Result<Status, String>>) {
        let disks =
            std::array::from_fn(|place| self.disks[place].as_deref().map_or(UNKNOWN_U16, disk_permille));
        (disks, temperature_decicelsius(&self.paths), self.status_file.as_deref().map(Status::read))
    }
}

/// Disks may hang, so they are looked at on a thread of their own; while they do, they are unknown.
async fn watch_local(local: Local, sender: Shared) {
    let mut ticks = tokio::time::interval(LOCAL_CHECK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut problem = None;
    loop {
        ticks.tick().await;
        let look = local.clone();
        let mut looking = tokio::task::spawn_blocking(move || look.look());
        let found = match timeout(LOCAL_CHECK_TIMEOUT, &mut looking).await {
            Ok(found) => found,
            Err(_) => {
                tracing::warn!("a disk does not answer");
                sender.send_modify(|findings| findings.disks = [UNKNOWN_U16; DISKS_MAX]);
                looking.await
            }
        };
        let Ok((disks, temperature, status)) = found else { continue };
        let (status, now) = match status.transpose() {
            Ok(status) => (status, None),
            Err(why) => (None, Some(why)),
        };
        if now != problem {
            if let Some(why) = &now {
                tracing::warn!(problem = why, "status file can't be used");
            }
            problem = now;
        }
        sender.send_modify(|findings| {
            findings.disks = disks;
            findings.temperature = temperature;
            findings.status = status;
        });
    }
}

struct Network {
    prober: Prober,
    patience: Duration,
    endpoints: Vec<Endpoint>,
    ntp: Vec<(String, u16)>,
    directory: Vec<(String, u16)>,
    /// What was said last about each, so that only changes are logged.
    last: HashMap<What, EndpointState>,
}

/// What is checked: one of a kind, by its place in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Endpoint(usize),
    Ntp(usize),
    Directory(usize),
}

impl Network {
    fn new(config: &AgentConfig, trust: Trust) -> Network {
        let split = |list: &[String], port| -> Vec<_> {
            // Checked when the configuration was read.
            list.iter().filter_map(|server| host_and_port("", server, port).ok()).collect()
        };
        Network {
            prober: Prober::new(trust, config.check_timeout),
            patience: config.check_timeout,
            endpoints: config.endpoints.clone(),
            ntp: split(&config.ntp_servers, Some(123)),
            directory: split(&config.directory_servers, None),
            last: HashMap::new(),
        }
    }

    /// All checks side by side; the slowest decides how long it takes, at most twice the patience.
    async fn check(&mut self) -> ([EndpointState; ENDPOINTS_MAX], NtpState, (u8, u8)) {
        let patience = self.patience;
        let mut checks = JoinSet::new();
        for (place, endpoint) in self.endpoints.iter().cloned().enumerate() {
            let prober = self.prober.clone();
            checks.spawn(async move { (What::Endpoint(place), prober.check(&endpoint).await) });
        }
        for (place, (host, port)) in self.ntp.iter().cloned().enumerate() {
            checks.spawn(async move { (What::Ntp(place), in_time(patience, sntp::ask(&host, port)).await) });
        }
        for (place, (host, port)) in self.directory.iter().cloned().enumerate() {
            checks
                .spawn(async move { (What::Directory(place), in_time(patience, reach(&host, port)).await) });
        }
        let mut states = [EndpointState::NotConfigured; ENDPOINTS_MAX];
        let (mut ntp_answers, mut reachable) = (false, 0);
        while let Some(checked) = checks.join_next().await {
            let (what, found) = match checked {
                Ok(checked) => checked,
                Err(error) => {
                    tracing::error!(%error, "a check ended early");
                    continue;
                }
            };
            self.say(what, found.as_ref().err());
            match what {
                What::Endpoint(place) => {
                    states[place] = found.map_or_else(|failure| failure.state, |()| EndpointState::Ok);
                }
                What::Ntp(_) => ntp_answers |= found.is_ok(),
                What::Directory(_) => reachable += u8::from(found.is_ok()),
            }
        }
        let ntp = ntp_state(!self.ntp.is_empty(), ntp_answers, kernel_clock::is_synchronised);
        (states, ntp, (u8::try_from(self.directory.len()).unwrap_or(u8::MAX), reachable))
    }

    /// A line when something is reachable that was not, or not any more, or for another reason.
    fn say(&mut self, what: What, failure: Option<&Failure>) {
        let state = failure.map_or(EndpointState::Ok, |failure| failure.state);
        if self.last.insert(what, state) == Some(state) {
            return;
        }
        let (kind, (host, port), proxy) = match what {
            What::Endpoint(place) => {
                let endpoint = &self.endpoints[place];
                let proxy = endpoint.proxy.as_ref().map(|proxy| format!("{}:{}", proxy.host, proxy.port));
                ("endpoint", (&endpoint.host, endpoint.port), proxy)
            }
            What::Ntp(place) => ("time server", (&self.ntp[place].0, self.ntp[place].1), None),
            What::Directory(place) => {
                ("directory server", (&self.directory[place].0, self.directory[place].1), None)
            }
        };
        match failure {
            None => tracing::info!(host, port, proxy, "{kind} reachable"),
            Some(failure) => {
                let (state, reason) = (failure.state.as_str(), &failure.reason);
                tracing::warn!(host, port, proxy, state, reason, "{kind} not reachable");
            }
        }
    }
}

async fn in_time(patience: Duration, check: impl Future<Output = Result<(), String>>) -> Result<(), Failure> {
    let found = timeout(patience, check).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
    found.map_err(|reason| Failure { state: EndpointState::General, reason })
}

/// Configured time servers are asked themselves. Where none is, the host may still have a service of its own:
/// the kernel knows.
fn ntp_state(configured: bool, answers: bool, kernel: impl Fn() -> Option<bool>) -> NtpState {
    match (configured, answers) {
        (true, true) => NtpState::Ok,
        (true, false) => NtpState::Unreachable,
        (false, _) => match kernel() {
            Some(true) => NtpState::Ok,
            Some(false) => NtpState::NotConfigured,
            None => NtpState::Unknown,
        },
    }
}

async fn watch_network(mut network: Network, every: Duration, sender: Shared) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (endpoints, ntp, directory) = network.check().await;
        sender.send_modify(|findings| {
            findings.endpoints = endpoints;
            findings.ntp = ntp;
            findings.directory = Some(directory);
        });
    }
}

/// Fills heartbeats.
#[derive(Debug)]
pub struct Collector {
    boot: Boot,
    host: Host,
    background: Background,
    version: String,
    profile: u8,
    backup_disabled: bool,
    trust_generation: u32,
    last: watch::Sender<Option<Heartbeat>>,
}

impl Collector {
    /// A new start of the sensor: random boot id, sequence from one. Also gives a look at the last heartbeat.
    pub fn new(
        config: &AgentConfig,
        sensor: SensorId,
        trust_generation: u32,
        background: Background,
        now: MonoNanos,
    ) -> (Collector, watch::Receiver<Option<Heartbeat>>) {
        let (last, heartbeats) = watch::channel(None);
        let collector = Collector {
            boot: Boot::new(sensor, now),
            host: Host::new(config.host.clone(), &config.interfaces),
            background,
            version: config.version.clone(),
            profile: config.profile.to_wire(),
            backup_disabled: config.backup_disabled,
            trust_generation,
            last,
        };
        (collector, heartbeats)
    }

    fn fill(&mut self, now: MonoNanos) -> Heartbeat {
        let interfaces = self.host.interfaces();
        let findings = self.background.findings.borrow();
        let status = findings.status.clone().unwrap_or_default();
        let (directory_configured, directory_reachable) = findings.directory.unwrap_or_default();
        let (self_test_ran, self_test_failed, self_test_age_s) = self_test_bits(&findings.self_tests, now);
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        Heartbeat {
            flags: flag(status.local_override, FLAG_LOCAL_OVERRIDE)
                | flag(self.backup_disabled, FLAG_BACKUP_DISABLED),
            version: inline(status.version.as_deref().unwrap_or(&self.version)),
            profile: self.profile,
            update_stage: status.stage().unwrap_or(UpdateStage::Idle).to_wire(),
            update_percent: status.update.percent,
            update_error: status.update.error,
            update_target: inline(&status.update.target),
            ti_status: status.ti().unwrap_or(TiStatus::Unknown).to_wire(),
            ti_version: inline(&status.threat_intelligence.version),
            devices: status.devices,
            alerts: status.alerts,
            backup_result: findings.backup.map_or(BackupResult::None, |(_, result)| result).to_wire(),
            backup_age_s: findings.backup.map_or(UNKNOWN_U32, |(at, _)| age_s(at, now)),
            ntp_state: findings.ntp.to_wire(),
            directory_configured,
            directory_reachable,
            endpoint_states: findings.endpoints.map(EndpointState::to_wire),
            interfaces_total: interfaces.total,
            interfaces_up: interfaces.up,
            interfaces_with_traffic: interfaces.with_traffic,
            rx_packets: interfaces.packets,
            rx_bytes: interfaces.bytes,
            rx_dropped: interfaces.dropped,
            self_test_ran,
            self_test_failed,
            self_test_age_s,
            cpu_permille: self.host.cpu_permille(),
            memory_permille: self.host.memory_permille(),
            disk_permille: findings.disks,
            temperature_decicelsius: findings.temperature,
            trust_generation: self.trust_generation,
            ..Heartbeat::default()
        }
    }
}

impl Source for Collector {
    fn heartbeat(&mut self, beat: &Beat) -> Option<Heartbeat> {
        let mut heartbeat = self.fill(beat.now.mono);
        self.boot.stamp(&mut heartbeat, beat.now);
        self.last.send_replace(Some(heartbeat.clone()));
        Some(heartbeat)
    }
}

/// Which ran, which failed, and how long ago the oldest of the last runs was: the worst that can be said.
fn self_test_bits(tests: &[Option<(MonoNanos, bool)>], now: MonoNanos) -> (u32, u32, u32) {
    let (mut ran, mut failed, mut oldest) = (0, 0, None);
    for (bit, (at, passed)) in tests.iter().enumerate().filter_map(|(bit, test)| Some((bit, (*test)?))) {
        ran |= 1 << bit;
        failed |= u32::from(!passed) << bit;
        oldest = Some(oldest.map_or(at, |oldest: MonoNanos| oldest.min(at)));
    }
    (ran, failed, oldest.map_or(UNKNOWN_U32, |at| age_s(at, now)))
}

fn age_s(at: MonoNanos, now: MonoNanos) -> u32 {
    u32::try_from(now.since(at).as_secs()).unwrap_or(UNKNOWN_U32 - 1)
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
