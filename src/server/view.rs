//! The server as its HTTP side sees it: figures and readiness, from what the threads leave for readers.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLockReadGuard};
use std::time::Duration;

use super::activation::{Activations, IssueError, IssuedFile};
use super::backups::Backups;
use super::checkpoint::CheckpointStats;
use super::current::CurrentAuthority;
use super::enrolment::Enrolment;
use super::fleet::{CommandError, FleetService, Number, Numbers};
use super::historian::HistoryStats;
use super::holders::Holders;
use super::journal::JournalStats;
use super::probe::StoreProbe;
use super::sweeper::{Board, Judge, LISTENER_SILENT};
use crate::export::{
    Check, CheckpointFigures, Figures, HistoryFigures, HttpFigures, IngestFigures, JournalFigures,
    LiveFigures, ProcessFigures, Readiness, Source, SweepFigures,
};
use crate::fleet::query::Grid;
use crate::fleet::{About, Actor, Batch, Command, Event, EventCode, Place, Register, Sifted};
use crate::health::{ActiveMessage, Day, RuleId, RuleReport, Subject, SupportState, Version};
use crate::http::{
    Applied, AppliedNumber, ApplyError, Backend, BackupFault, Expect, IssuedActivation, MadeBackup, Problem,
    Reached, RefusedEnrolment,
};
use crate::identity::{ActivationResponse, FileSigner, Keys};
use crate::ingest::Ingest;
use crate::live::{LiveState, SiteIndex, Snapshot};
use crate::store::{BackupFile, BackupName, Store, StoreError};
use crate::time::{Clock, MonoNanos, Now, SystemClock, UnixMillis};
use crate::wire::id::{SensorId, SiteId};

/// A sweep is late when the last one began this many cadences ago.
const LATE_CADENCES: u32 = 5;

/// Everything that readers read.
pub struct View {
    /// The one clock.
    pub clock: SystemClock,
    /// Promised longest time between two sweeps.
    pub cadence: Duration,
    /// Sensors that live state has room for.
    pub sensors_max: u32,
    /// Names and addresses that the server's certificate is good for.
    pub names: Vec<String>,
    /// Where browsers are told to go.
    pub public_url: Option<String>,
    /// Live state.
    pub live: Arc<LiveState>,
    /// The register.
    pub fleet: Arc<FleetService>,
    /// Signs files.
    pub authority: Arc<CurrentAuthority>,
    /// Makes activation files.
    pub activations: Arc<Activations>,
    /// Makes backups.
    pub backups: Arc<Backups>,
    /// Judges enrolments.
    pub enrolment: Arc<Enrolment>,
    /// The engine with everything it judges by.
    pub judge: Arc<Judge>,
    /// What the sweep left.
    pub board: Arc<Board>,
    /// The QUIC side.
    pub ingest: Arc<Ingest>,
    /// Tickets that were opened.
    pub keys: Arc<Keys>,
    /// The store.
    pub store: Arc<Store>,
    /// Whether it can be written.
    pub probe: Arc<StoreProbe>,
    /// What the journal tells of itself.
    pub journal: Arc<JournalStats>,
    /// What the checkpoint tells of itself.
    pub checkpoint: Arc<CheckpointStats>,
    /// What history tells of itself.
    pub history: Arc<HistoryStats>,
    /// Who holds what of the authority.
    pub holders: Arc<Holders>,
    /// A planned stop has begun.
    pub draining: Arc<AtomicBool>,
}

impl Source for View {
    fn figures(&self) -> Figures {
        let now = self.clock.now();
        let counters = self.ingest.counters();
        Figures {
            now,
            summary: self.board.summary(),
            sweep: self.sweep(),
            ingest: IngestFigures {
                shards: counters.shards.iter().map(|shard| shard.snapshot()).collect(),
                enrolment: counters.enrolment.snapshot(),
                resumed: self.keys.tickets_opened(),
                health: self.ingest.shard_health(),
                silent_after: LISTENER_SILENT,
            },
            journal: self.journal(),
            checkpoint: self.checkpoint(),
            history: self.history(),
            store: self.probe.look(now.mono).0,
            register: self.fleet.register().counts(),
            live: LiveFigures {
                slots: self.live.slots(),
                slots_max: self.sensors_max,
                snapshots_busy: self.live.snapshots_busy(),
                gateways: self.live.gateways(),
                gateways_refused: self.live.gateways_refused(),
            },
            trust: self.holders.figures(),
            http: HttpFigures::default(),
            process: ProcessFigures::now(),
            readiness: self.readiness(),
        }
    }
}

impl From<CommandError> for ApplyError {
    fn from(error: CommandError) -> ApplyError {
        match error {
            CommandError::Refused(refusal) => ApplyError::Refused(refusal),
            CommandError::Store(error) => ApplyError::Store(error.to_string()),
            CommandError::OnlyRevoked { certificates, error } => {
                let but = "certificates that it takes back are revoked already; make it again later";
                ApplyError::Store(format!("{error}; but {certificates} {but}"))
            }
            CommandError::Revoke(error) => ApplyError::Store(error.to_string()),
            CommandError::Full(error) => ApplyError::Full(error.to_string()),
            CommandError::NoRandom(error) => ApplyError::Store(error.to_string()),
        }
    }
}

/// Keeps what an expectation said while a stand-in for it passes through the makers of activation files.
fn noted(expected: Result<(), Problem>, refused: &mut Option<Problem>) -> Result<(), IssueError> {
    expected.map_err(|problem| {
        *refused = Some(problem);
        IssueError::Expected
    })
}

fn not_issued(error: IssueError, refused: Option<Problem>) -> ApplyError {
    match (error, refused) {
        (_, Some(problem)) => ApplyError::Precondition(problem),
        (IssueError::Command(error), None) => error.into(),
        (error, None) => ApplyError::Unfit { code: error.code(), detail: error.to_string() },
    }
}

impl Backend for View {
    fn refused_enrolments(&self) -> Vec<RefusedEnrolment> {
        self.enrolment.attempts().refused()
    }

    fn live(&self) -> &LiveState {
        &self.live
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn register(&self) -> RwLockReadGuard<'_, Register> {
        self.fleet.register()
    }

    fn try_register(&self) -> Option<RwLockReadGuard<'_, Register>> {
        self.fleet.try_register()
    }

    fn access_changes(&self) -> u64 {
        self.fleet.access_changes()
    }

    fn grid(&self) -> RwLockReadGuard<'_, Grid> {
        self.fleet.grid()
    }

    fn apply(&self, commands: &[Command], actor: Actor, expect: Expect<'_>) -> Result<Batch, ApplyError> {
        let still = |register: &Register| expect(register).map_err(ApplyError::Precondition);
        self.fleet.apply_if(still, commands, actor, self.clock.unix())
    }

    fn sift(
        &self,
        plan: &mut dyn FnMut(&Register) -> Vec<Command>,
        go: &dyn Fn(&Sifted) -> bool,
        actor: Actor,
    ) -> Result<Sifted, ApplyError> {
        Ok(self.fleet.sift_if(plan, go, actor, self.clock.unix())?)
    }

    fn numbers_at(&self, place: Place) -> Option<Applied> {
        let Numbers { numbers, interval, interval_from, interval_default } = self.fleet.numbers_at(place)?;
        let number = |number: Number| {
            let Number { setting, value, from, default } = number;
            AppliedNumber { setting, value, from, default }
        };
        let numbers = numbers.into_iter().map(number).collect();
        Some(Applied { numbers, interval, interval_from, interval_default })
    }

    fn issue_activations(
        &self,
        sensors: &[SensorId],
        actor: Actor,
        expect: Expect<'_>,
    ) -> Result<Vec<IssuedActivation>, ApplyError> {
        let handed_out = |&id: &SensorId| {
            let about = Some(About::Sensor(id));
            Command::Record(Event { code: EventCode::Download, about, detail: "activation file".to_owned() })
        };
        let events = sensors.iter().map(handed_out).collect();
        let mut refused = None;
        let still = |register: &Register| noted(expect(register), &mut refused);
        let issued = self.activations.issue_if(still, events, sensors, actor, self.clock.unix());
        let file = |file: IssuedFile| IssuedActivation {
            command: file.command(),
            name: file.name,
            bytes: file.bytes,
            expires_at: file.expires_at,
            generation: file.generation,
        };
        issued.map(|files| files.into_iter().map(file).collect()).map_err(|error| not_issued(error, refused))
    }

    fn take_response(
        &self,
        response: &ActivationResponse,
        actor: Actor,
        expect: Expect<'_>,
    ) -> Result<(), ApplyError> {
        let mut refused = None;
        let still = |register: &Register| noted(expect(register), &mut refused);
        let taken = self.activations.accept_if(still, response, actor, self.clock.unix());
        taken.map_err(|error| not_issued(error, refused))
    }

    fn reached(&self) -> Reached {
        Reached {
            names: self.names.clone(),
            ingest: self.ingest.local_addr(),
            enrolment: self.ingest.enrol_addr(),
            public_url: self.public_url.clone(),
        }
    }

    fn begin_signature(&self, name: &str, media_type: &str) -> Result<FileSigner, String> {
        let position = self.fleet.position().to_string();
        let begun = self.authority.get().begin_signature(name, media_type, position, self.clock.unix());
        begun.map_err(|error| error.to_string())
    }

    fn make_backup(&self, actor: Actor) -> Result<MadeBackup, BackupFault> {
        self.backups.make(&actor)
    }

    fn backup_under_way(&self) -> Option<BackupName> {
        self.backups.under_way()
    }

    fn backups(&self) -> Result<Vec<BackupFile>, StoreError> {
        self.backups.list()
    }

    fn open_backup(&self, name: &BackupName, actor: Actor) -> Result<(File, u64), BackupFault> {
        self.backups.open(name, actor)
    }

    fn remove_backup(&self, name: &BackupName, actor: Actor) -> Result<(), BackupFault> {
        self.backups.remove(name, &actor)
    }

    fn site_index(&self, id: SiteId) -> Option<SiteIndex> {
        self.fleet.site_index(id)
    }

    fn active(&self, keys: &[(Subject, RuleId)]) -> Vec<ActiveMessage> {
        let engine = self.judge.engine();
        keys.iter().filter_map(|&(subject, rule)| engine.active_message(subject, rule)).cloned().collect()
    }

    fn active_places(
        &self,
        after: Option<(Subject, RuleId)>,
        most: usize,
        wanted: &dyn Fn(Subject, RuleId) -> bool,
    ) -> Vec<ActiveMessage> {
        let engine = self.judge.engine();
        let places = engine.active_places(after).filter(|message| wanted(message.subject, message.rule));
        places.take(most).cloned().collect()
    }

    fn why(&self, sensor: SensorId, now: Now) -> Option<Vec<RuleReport>> {
        self.judge.why(sensor, now)
    }

    fn support(&self, sensor: &Snapshot, now: Now) -> SupportState {
        let version = Version::parse(sensor.heartbeat.version_str());
        version
            .map_or(SupportState::Unknown, |version| self.judge.versions.support(version, Day::of(now.unix)))
    }

    fn readiness(&self) -> Readiness {
        let now = self.clock.mono();
        Readiness {
            checks: vec![
                self.check_store(now),
                self.check_journal(),
                self.check_shards(now),
                self.check_sweep(now),
                self.check_drain(),
            ],
        }
    }
}

impl View {
    fn sweep(&self) -> SweepFigures {
        self.board.totals(|totals| SweepFigures {
            count: totals.sweeps,
            last: totals.last,
            cadence: self.cadence,
            raised: totals.raised,
            cleared: totals.cleared,
            looked_at: totals.looked_at,
            busy: totals.busy,
            duration: totals.durations.clone(),
            detection_delay: totals.detection_delays.clone(),
        })
    }

    fn journal(&self) -> JournalFigures {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        JournalFigures {
            written: load(&self.journal.written),
            known: load(&self.journal.known),
            failures: load(&self.journal.failures),
            pending: load(&self.journal.pending),
            failing: self.journal.failing.load(Ordering::Relaxed),
        }
    }

    fn checkpoint(&self) -> CheckpointFigures {
        let last = self.checkpoint.last_unix_ms.load(Ordering::Relaxed);
        CheckpointFigures {
            written: self.checkpoint.written.load(Ordering::Relaxed),
            failures: self.checkpoint.failures.load(Ordering::Relaxed),
            failing: self.checkpoint.failing.load(Ordering::Relaxed),
            last: (last != 0).then_some(UnixMillis(last)),
            bytes: self.checkpoint.bytes.load(Ordering::Relaxed),
        }
    }

    fn history(&self) -> HistoryFigures {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HistoryFigures {
            written: load(&self.history.written),
            failures: load(&self.history.failures),
            dropped: load(&self.history.dropped),
            failing: self.history.failing.load(Ordering::Relaxed),
            damaged: self.store.history.damaged(),
        }
    }

    fn check_store(&self, now: MonoNanos) -> Check {
        let (figures, error) = self.probe.look(now);
        let detail = match error {
            None if figures.writable => "the data directory can be written".to_owned(),
            None => "the data directory was not tried yet".to_owned(),
            Some(error) => format!("{error}; verdicts go on from memory"),
        };
        Check { name: "store", ok: figures.writable, detail }
    }

    fn check_journal(&self) -> Check {
        let journal = self.journal();
        let detail = if journal.failing {
            format!(
                "the journal can't be written ({} tries failed since the start); verdicts go on from memory, the log says why",
                journal.failures
            )
        } else {
            "the journal is written".to_owned()
        };
        Check { name: "journal", ok: !journal.failing, detail }
    }

    fn check_shards(&self, now: MonoNanos) -> Check {
        let health = self.ingest.shard_health();
        let dead: Vec<String> = health
            .iter()
            .filter(|shard| !shard.alive || now.since(shard.last_turn) > LISTENER_SILENT)
            .map(|shard| shard.shard.to_string())
            .collect();
        let detail = if dead.is_empty() {
            format!("all {} ingest threads turn", health.len())
        } else {
            format!("ingest threads {} of {} do not turn; restart the server", dead.join(", "), health.len())
        };
        Check { name: "shards", ok: dead.is_empty(), detail }
    }

    fn check_sweep(&self, now: MonoNanos) -> Check {
        let last = self.board.totals(|totals| totals.last);
        let age = now.since(last);
        let ok = !last.is_never() && age <= self.cadence * LATE_CADENCES;
        let detail = if last.is_never() {
            "no sweep was made yet".to_owned()
        } else {
            format!("the last sweep began {} ms ago; its cadence is {:?}", age.as_millis(), self.cadence)
        };
        Check { name: "sweep", ok, detail }
    }

    fn check_drain(&self) -> Check {
        let draining = self.draining.load(Ordering::Relaxed);
        let detail = if draining { "a planned stop is under way" } else { "no stop is under way" };
        Check { name: "drain", ok: !draining, detail: detail.to_owned() }
    }
}
