//! The server, assembled: data directory, live state, ingest, sweep, journal, checkpoint, HTTP.
//!
//! Threads, and what flows between them:
//!
//! ```text
//! shards --atomics--> live state <--atomics-- sweep --bounded channel--> journal --> disk
//!                          |                    |  ^------- what is durable ----'
//!                          |--> checkpoint      `--> board --> view --> HTTP <-- probe of the disk
//!                          `--> history
//! ```
//!
//! A server is started and stopped only through [`Server`], by the command line and by tests alike.

pub mod access;
pub mod activation;
pub mod attempts;
mod backups;
mod cert_renewal;
mod checkpoint;
mod configured;
pub mod current;
pub mod data;
pub mod enlist;
pub mod enrolment;
pub mod fleet;
mod grants;
mod historian;
mod holders;
mod journal;
mod known;
mod probe;
mod renewal;
pub mod stop;
mod sweeper;
pub mod tap;
mod view;
mod web;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::bounded;

pub use backups::Backups;
pub use checkpoint::CheckpointStats;
pub use historian::HistoryStats;
pub use journal::{JournalStats, subject_document, subject_of};
pub use sweeper::{Board, Judge, Totals};

use activation::{Activations, Endpoints};
use cert_renewal::CertRenewalThread;
use checkpoint::CheckpointThread;
use configured::{certificate_rules, ingest_config};
use current::{CurrentAuthority, wanted};
use data::{DataDir, DataError};
use enrolment::Enrolment;
use fleet::{CommandError, Defaults, Desired, FleetService, NoRoom};
use grants::Grants;
use historian::HistoryThread;
use holders::{Holders, HoldersThread};
use journal::JournalThread;
use known::{restore, versions};
use probe::{ProbeThread, StoreProbe};
use renewal::RenewalThread;
use stop::StopSignal;
use sweeper::SweepThread;
use tap::{Tap, Taps, TooManyTaps};
use view::View;

use crate::config::Config;
use crate::control::ConnectedControl;
use crate::export::{Figures, Source};
use crate::fleet::{Actor, Batch, Command, Role};
use crate::health::{Engine, Policy};
use crate::http::{Http, HttpError};
use crate::identity::{Authority, AuthorityError, FileError, Keys, Revocations, ServerTls, ServerTlsError};
use crate::ingest::{DrainPlan, InboxError, Ingest, IngestError, IngestParts, RegisterCheck};
use crate::limits::TRANSITIONS_QUEUE;
use crate::live::LiveState;
use crate::store::{Store, StoreError};
use crate::time::{Clock, SystemClock};

/// Why a server can't start or reload.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Keys or revocations.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate authority, at a reload.
    #[error("{0}; the authority in use stays")]
    Authority(#[from] AuthorityError),
    /// More is registered than live state has room for.
    #[error(transparent)]
    Full(#[from] NoRoom),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] ServerTlsError),
    /// The QUIC side.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The HTTP side.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The version table.
    #[error("`health.versions_file` = `{path}`: {error}")]
    Versions {
        /// The path as given.
        path: String,
        /// What is wrong.
        error: String,
    },
    /// Not all connections with revoked certificates could be closed.
    #[error("not all connections with revoked certificates are closed yet: {0}; reload again")]
    Revoke(InboxError),
    /// A thread can't be started.
    #[error("a thread can't be started: {0}")]
    Thread(std::io::Error),
}

impl StartError {
    /// True when the configuration must be changed before another try can succeed.
    pub fn is_configuration(&self) -> bool {
        matches!(self, StartError::Full(_) | StartError::Versions { .. })
            || matches!(
                self,
                StartError::Http(
                    HttpError::Bind { .. } | HttpError::Plain { .. } | HttpError::Oidc(_) | HttpError::Tls(_)
                )
            )
            || matches!(self, StartError::Ingest(IngestError::Bind { .. } | IngestError::Range { .. }))
    }
}

/// A running server. Dropping it stops it without sending anybody away in good order.
pub struct Server {
    config: Config,
    clock: SystemClock,
    authority: Arc<CurrentAuthority>,
    keys: Arc<Keys>,
    revocations: Arc<Revocations>,
    store: Arc<Store>,
    live: Arc<LiveState>,
    fleet: Arc<FleetService>,
    enrolment: Arc<Enrolment>,
    activations: Arc<Activations>,
    ingest: Arc<Ingest>,
    judge: Arc<Judge>,
    board: Arc<Board>,
    journal_stats: Arc<JournalStats>,
    taps: Arc<Taps>,
    checkpoint_stats: Arc<CheckpointStats>,
    history_stats: Arc<HistoryStats>,
    view: Arc<View>,
    http: Http,
    stop_sweep: StopSignal,
    stop_rest: StopSignal,
    sweep_thread: Mutex<Option<JoinHandle<()>>>,
    other_threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Server {
    /// Starts everything. When this returns, sensors can connect and requests are answered.
    pub fn start(config: Config) -> Result<Server, StartError> {
        let clock = SystemClock::start();
        let shared_clock: Arc<dyn Clock> = Arc::new(clock);
        let versions = versions(&config)?;
        let DataDir { store, register, position, authority, keys, revocations, .. } =
            DataDir::open(&config.data_dir, Arc::clone(&shared_clock))?;
        let live = Arc::new(LiveState::with_capacity(config.store.sensors_max));
        live.set_wall(clock.now());
        let desired = Desired {
            settings_generation: Some(config.health.settings_generation).filter(|&generation| generation > 0),
            threat_intel: config.health.threat_intel_newest.clone(),
        };
        // The name was checked when the configuration was read.
        let policy = Policy::named(&config.health.policy).unwrap_or_default();
        let defaults = Defaults { desired, policy: policy.with_interval(config.ingest.interval) };
        let (shared, timed) = (Arc::clone(&store), Arc::clone(&shared_clock));
        let fleet = FleetService::new(register, position, shared, Arc::clone(&live), defaults, timed)?;
        let fleet = Arc::new(fleet);
        let engine = restore(Engine::new(config.health.cadence), &store, &live, &clock)?;
        let judge = Arc::new(Judge {
            engine: Mutex::new(engine),
            live: Arc::clone(&live),
            versions,
            fleet: Arc::clone(&fleet),
        });

        let tls =
            ServerTls::build(&authority, &keys, &config.ingest.server_names, Arc::clone(&shared_clock))?;
        let wanted = wanted(&authority);
        let authority = Arc::new(CurrentAuthority::new(config.data_dir.clone(), authority));
        let rules = certificate_rules(&config);
        let grants = Arc::new(Grants {
            fleet: Arc::clone(&fleet),
            authority: Arc::clone(&authority),
            revocations: Arc::clone(&revocations),
            rules,
        });
        let enrolment = Arc::new(Enrolment::new(Arc::clone(&grants)));
        fleet.revoke_through(Arc::clone(&revocations));
        let parts = IngestParts {
            live: Arc::clone(&live),
            tls,
            keys: (&*keys).into(),
            check: Arc::new(RegisterCheck::new(Arc::clone(&live), Arc::clone(&revocations))),
            enrol: Arc::clone(&enrolment) as _,
            clock,
            node: 0,
        };
        let ingest = Arc::new(Ingest::start(&ingest_config(&config), &parts)?);
        judge.engine().note_start(clock.mono());
        close_through(&fleet, &ingest);
        let (port, enrol_port) = (ingest.local_addr().port(), ingest.enrol_addr().port());
        let endpoints = Endpoints::new(&config.ingest.server_names, port, enrol_port);
        let activations =
            Activations::new(Arc::clone(&fleet), Arc::clone(&authority), endpoints, rules.drift_max);
        let activations = Arc::new(activations);

        let (transitions, taken) = bounded(TRANSITIONS_QUEUE);
        let (durable, written) = bounded(TRANSITIONS_QUEUE);
        let (stop_sweep, stop_rest) = (StopSignal::default(), StopSignal::default());
        let board = Arc::new(Board::default());
        let journal_stats = Arc::new(JournalStats::default());
        let taps = Arc::new(Taps::default());
        let checkpoint_stats = Arc::new(CheckpointStats::default());
        let history_stats = Arc::new(HistoryStats::default());
        let draining = Arc::new(AtomicBool::new(false));
        let sweep = SweepThread {
            draining: Arc::clone(&draining),
            judge: Arc::clone(&judge),
            board: Arc::clone(&board),
            ingest: Arc::clone(&ingest),
            transitions,
            durable: written,
            clock: Arc::clone(&shared_clock),
            stop: stop_sweep.clone(),
        };
        let journal = JournalThread {
            transitions: taken,
            durable,
            store: Arc::clone(&store),
            fleet: Arc::clone(&fleet),
            stats: Arc::clone(&journal_stats),
            taps: Arc::clone(&taps),
            clock: Arc::clone(&shared_clock),
            keep: config.store.journal_keep,
            stop: stop_rest.clone(),
        };
        let checkpoint = CheckpointThread {
            live: Arc::clone(&live),
            judge: Arc::clone(&judge),
            store: Arc::clone(&store),
            fleet: Arc::clone(&fleet),
            stats: Arc::clone(&checkpoint_stats),
            clock: Arc::clone(&shared_clock),
            every: config.store.checkpoint_every,
            stop: stop_rest.clone(),
        };
        let history = HistoryThread {
            live: Arc::clone(&live),
            store: Arc::clone(&store),
            stats: Arc::clone(&history_stats),
            clock: Arc::clone(&shared_clock),
            stop: stop_rest.clone(),
        };
        let store_probe = Arc::new(StoreProbe::default());
        store_probe.try_now(&store, &clock);
        let probe = ProbeThread {
            store: Arc::clone(&store),
            probe: Arc::clone(&store_probe),
            clock: Arc::clone(&shared_clock),
            stop: stop_rest.clone(),
        };
        let renewal = RenewalThread {
            authority: Arc::clone(&authority),
            keys: Arc::clone(&keys),
            names: config.ingest.server_names.clone(),
            ingest: Arc::clone(&ingest),
            clock: Arc::clone(&shared_clock),
            stop: stop_rest.clone(),
        };
        ingest.want(wanted);
        let cert_renewal = CertRenewalThread {
            due: ingest.renewals(),
            grants,
            ingest: Arc::clone(&ingest),
            control: ConnectedControl::new(Arc::clone(&live), Arc::clone(&ingest)),
            clock: Arc::clone(&shared_clock),
            stop: stop_rest.clone(),
        };
        let folder = config.backup.dir.clone().unwrap_or_else(|| config.data_dir.join("backups"));
        let backups =
            Backups::new(&folder, config.backup.keep, clock, Arc::clone(&store), Arc::clone(&fleet));
        let holders = Arc::new(Holders::default());
        let holders_thread = HoldersThread {
            live: Arc::clone(&live),
            fleet: Arc::clone(&fleet),
            authority: Arc::clone(&authority),
            grace: rules.grace,
            data: config.data_dir.clone(),
            holders: Arc::clone(&holders),
            clock: Arc::clone(&shared_clock),
            stop: stop_rest.clone(),
        };
        let view = Arc::new(View {
            clock,
            holders,
            cadence: config.health.cadence,
            sensors_max: config.store.sensors_max,
            names: config.ingest.server_names.clone(),
            public_url: config.http.public_url.clone(),
            live: Arc::clone(&live),
            fleet: Arc::clone(&fleet),
            authority: Arc::clone(&authority),
            activations: Arc::clone(&activations),
            backups: Arc::new(backups),
            enrolment: Arc::clone(&enrolment),
            judge: Arc::clone(&judge),
            board: Arc::clone(&board),
            ingest: Arc::clone(&ingest),
            keys: Arc::clone(&keys),
            store: Arc::clone(&store),
            probe: store_probe,
            journal: Arc::clone(&journal_stats),
            checkpoint: Arc::clone(&checkpoint_stats),
            history: Arc::clone(&history_stats),
            draining,
        });
        // Before any other thread: an address that can't be had ends the start while nothing runs.
        let http =
            Http::start(web::http_config(&config, &authority, clock)?, Arc::clone(&view) as _, shared_clock)?;
        let sweep_thread = spawn("sweep", move || sweep.run())?;
        let other_threads = vec![
            spawn("journal", move || journal.run())?,
            spawn("checkpoint", move || checkpoint.run())?,
            spawn("history", move || history.run())?,
            spawn("renewal", move || renewal.run())?,
            spawn("cert-renewal", move || cert_renewal.run())?,
            spawn("holders", move || holders_thread.run())?,
            spawn("probe", move || probe.run())?,
        ];
        Ok(Server {
            config,
            clock,
            authority,
            keys,
            revocations,
            store,
            live,
            fleet,
            enrolment,
            activations,
            ingest,
            judge,
            board,
            journal_stats,
            taps,
            checkpoint_stats,
            history_stats,
            view,
            http,
            stop_sweep,
            stop_rest,
            sweep_thread: Mutex::new(Some(sweep_thread)),
            other_threads: Mutex::new(other_threads),
        })
    }

    /// Where sensors and gateways connect.
    pub fn ingest_addr(&self) -> SocketAddr {
        self.ingest.local_addr()
    }

    /// Where sensors enrol.
    pub fn enrol_addr(&self) -> SocketAddr {
        self.ingest.enrol_addr()
    }

    /// Where API and metrics are.
    pub fn http_addr(&self) -> SocketAddr {
        self.http.local_addr()
    }

    /// Serves HTTP once more, at another free port, by another clock: so that a test can play hours of sessions in a
    /// moment. It has sessions of its own.
    pub fn http_by(&self, clock: Arc<dyn Clock>) -> Result<Http, StartError> {
        let mut config = web::http_config(&self.config, &self.authority, self.clock)?;
        config.listen.set_port(0);
        Ok(Http::start(config, Arc::clone(&self.view) as _, clock)?)
    }

    /// What metrics and API tell of the server, now.
    pub fn figures(&self) -> Figures {
        self.view.figures()
    }

    /// The one clock of this server.
    pub fn clock(&self) -> SystemClock {
        self.clock
    }

    /// Time between two sweeps that is promised.
    pub fn cadence(&self) -> Duration {
        self.config.health.cadence
    }

    /// The register at work.
    pub fn fleet(&self) -> &Arc<FleetService> {
        &self.fleet
    }

    /// Judges enrolments, and remembers those of strangers.
    pub fn enrolment(&self) -> &Arc<Enrolment> {
        &self.enrolment
    }

    /// Makes activation files.
    pub fn activations(&self) -> &Arc<Activations> {
        &self.activations
    }

    /// Signs certificates, as it is now: a reload may replace it.
    pub fn authority(&self) -> Arc<Authority> {
        self.authority.get()
    }

    /// Live state.
    pub fn live(&self) -> &Arc<LiveState> {
        &self.live
    }

    /// The engine with everything it judges by.
    pub fn judge(&self) -> &Arc<Judge> {
        &self.judge
    }

    /// What the sweep left for readers.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// The QUIC side.
    pub fn ingest(&self) -> &Arc<Ingest> {
        &self.ingest
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// What the journal tells of itself.
    pub fn journal_stats(&self) -> &Arc<JournalStats> {
        &self.journal_stats
    }

    /// Follows the journal: every transition that is written from now on, with its engine time.
    pub fn tap(&self) -> Result<Tap, TooManyTaps> {
        self.taps.open()
    }

    /// What the checkpoint tells of itself.
    pub fn checkpoint_stats(&self) -> &Arc<CheckpointStats> {
        &self.checkpoint_stats
    }

    /// Does all of `commands` or none, durably.
    pub fn apply(&self, commands: &[Command], actor: Actor) -> Result<Batch, CommandError> {
        self.fleet.apply(commands, actor, self.clock.unix())
    }

    /// While nobody is registered: the link with which the first administrator is made. Each call makes another and
    /// voids the one before.
    pub fn setup_link(&self) -> Option<String> {
        let token = self.http.setup_token()?;
        let here = || format!("{}://{}", self.http.scheme(), self.http.local_addr());
        let base = self.config.http.public_url.clone().unwrap_or_else(here);
        Some(format!("{}/setup?token={token}", base.trim_end_matches('/')))
    }

    /// An API token of the user `name`, who is made with this role over everything if there is none.
    pub fn token_for(&self, name: &str, role: Role, life: Duration) -> Result<String, CommandError> {
        let now = self.clock.unix();
        let (commands, secret) = access::token_commands(&self.fleet.register(), name, role, life, now)?;
        self.apply(&commands, Actor::command_line("token"))?;
        Ok(secret)
    }

    /// Backups of itself.
    pub fn backups(&self) -> &Arc<Backups> {
        &self.view.backups
    }

    /// What history tells of itself.
    pub fn history_stats(&self) -> &Arc<HistoryStats> {
        &self.history_stats
    }

    /// Reads revocations, the authority and the server's certificate again: new handshakes use them, connections that
    /// came with a revoked certificate are closed, the others stay, and are brought to what the authority wants of them.
    pub fn reload(&self) -> Result<(), StartError> {
        self.revocations.reload()?;
        // First, whatever becomes of the rest; and all of them, so that a reload mends what an earlier one left.
        let closed = self.ingest.revoke(self.revocations.serials());
        self.keys.rotate_due()?;
        let names = &self.config.ingest.server_names;
        let authority = self.authority.read(self.clock.unix())?;
        let tls = ServerTls::build(&authority, &self.keys, names, Arc::new(self.clock))?;
        self.ingest.reload_tls(&tls)?;
        // After that: who comes back with what it gets now has to be understood.
        self.authority.replace(Arc::clone(&authority));
        self.ingest.want(wanted(&authority));
        self.http.reload()?;
        closed.map_err(StartError::Revoke)
    }

    /// Sends every sensor away, each told when to come back, and waits until they are gone (at most the
    /// time that the sending takes and five seconds).
    pub fn drain(&self) {
        self.view.draining.store(true, Ordering::Relaxed);
        let spread = self.config.ingest.drain_spread;
        let over = spread.min(Duration::from_secs(10)) / 4;
        let plan = DrainPlan { over, come_back_after: Duration::from_secs(1), come_back_spread: spread };
        if let Err(error) = self.ingest.drain(plan) {
            tracing::warn!(%error, "not all sensors could be told when to come back");
        }
        let end = self.clock.mono().plus(over + Duration::from_secs(5));
        while !self.ingest.drained() && self.clock.mono() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops everything: first what makes news, then what writes it down.
    pub fn stop(&self) {
        self.stop_sweep.stop();
        let sweep = self.sweep_thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        join(sweep);
        self.ingest.stop();
        self.stop_rest.stop();
        let others = std::mem::take(&mut *self.other_threads.lock().unwrap_or_else(PoisonError::into_inner));
        others.into_iter().map(Some).for_each(join);
        self.http.stop();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn join(thread: Option<JoinHandle<()>>) {
    if let Some(thread) = thread
        && thread.join().is_err()
    {
        tracing::error!("a thread of the server had panicked");
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new().name(name.into()).spawn(run).map_err(StartError::Thread)
}

/// Deleted and changed peers lose their connection, wherever it is.
fn close_through(fleet: &FleetService, ingest: &Arc<Ingest>) {
    let ingest = Arc::downgrade(ingest);
    fleet.close_through(Box::new(move |connections, certificates| {
        let Some(ingest) = ingest.upgrade() else { return };
        let closed = if certificates.is_empty() {
            ingest.close(connections)
        } else {
            ingest.close(connections).and(ingest.revoke(certificates.iter().copied()))
        };
        if let Err(error) = closed {
            let count = connections.len() + certificates.len();
            tracing::warn!(%error, count, "connections could not be closed at once");
        }
    }));
}
