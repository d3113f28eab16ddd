//! The register at work: a command becomes a durable batch, then memory, then what the engine knows.
//!
//! The order is the promise. A batch is on disk before anything in memory changes and before the caller
//! hears "done"; live state and connections follow. Commands are taken one after the other under one
//! lock: they are rare, and the disk is slower than any of this.
//!
//! What live state is told of a sensor (its policy, whether it is muted) is told under a second lock, which nobody
//! holds while waiting for the disk: the sweep needs it when a quiet time begins or ends.

mod numbers;
mod overlay;
mod policies;
mod quiet;
mod revoke;
mod show;
#[cfg(test)]
mod shown_tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, TryLockError};

pub use numbers::{Number, Numbers};
pub use policies::{PoliciesFull, Published};
pub(super) use revoke::revoke;

use crate::fleet::query::Grid;
use crate::fleet::{Actor, Batch, Change, Command, Refusal, Register, Sifted};
use crate::health::{Lookup, Policy};
use crate::http::NoRandom;
use crate::identity::{FileError, Revocations, Serial};
use crate::live::{GatewaysFull, LiveState, OwnerRef, SiteIndex, SlabFull};
use crate::store::{Position, Store, StoreError};
use crate::time::{Clock, UnixMillis};
use crate::wire::close::CloseCode;
use crate::wire::id::{SensorId, SiteId};
use show::Shown;

/// Why a command was not done. Nothing changed, but where it says so.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The register refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be made durable.
    #[error("the change could not be stored and was not made: {0}")]
    Store(#[from] StoreError),
    /// It could not be made durable after certificates were revoked for it.
    #[error(
        "the change could not be stored and was not made, but {certificates} certificates that it takes back are \
         revoked already: {error}; make the change again when the store can be written"
    )]
    OnlyRevoked {
        /// How many.
        certificates: usize,
        /// Why it could not be stored.
        error: StoreError,
    },
    /// Certificates could not be revoked.
    #[error("the certificates could not be revoked, and the change was not made: {0}")]
    Revoke(#[from] FileError),
    /// Live state has no room for it.
    #[error(transparent)]
    Full(#[from] NoRoom),
    /// No secret can be made for it.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

/// Live state has no room for what is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// For so many sensors.
    #[error("{0}; raise `store.sensors_max`")]
    Sensors(#[from] SlabFull),
    /// For so many gateways.
    #[error(transparent)]
    Gateways(#[from] GatewaysFull),
    /// For so many different policies.
    #[error(transparent)]
    Policies(#[from] PoliciesFull),
}

/// A connection whose peer has to go, and why.
pub type ToClose = (OwnerRef, CloseCode);

/// Closes the connections of peers whose standing changed. Live state knows which these are: it is asked after the
/// change, and who takes a slot later is judged by what was changed. So nobody is looked for, and who has no
/// connection costs nothing. Besides, those that came with one of these certificates: for them all connections are
/// looked at, so they are only those of sensors that may keep another connection.
pub type Closer = Box<dyn Fn(&[ToClose], &[Serial]) + Send + Sync>;

/// Sites as the engine numbers them: dense, never reused while the process lives.
#[derive(Debug, Default)]
pub struct SiteNumbers {
    index_of: HashMap<SiteId, SiteIndex, ahash::RandomState>,
    ids: Vec<SiteId>,
}

impl SiteNumbers {
    fn number(&mut self, id: SiteId) -> SiteIndex {
        *self.index_of.entry(id).or_insert_with(|| {
            self.ids.push(id);
            SiteIndex(u32::try_from(self.ids.len() - 1).expect("limits::SITES_MAX is far below"))
        })
    }

    /// The number of a site.
    pub fn get(&self, id: SiteId) -> Option<SiteIndex> {
        self.index_of.get(&id).copied()
    }

    /// All sites in the order of their numbers.
    pub fn ids(&self) -> &[SiteId] {
        &self.ids
    }
}

/// What every sensor should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Settings generation; `None` = nothing is asked for.
    pub settings_generation: Option<u64>,
    /// Day of the newest threat-intelligence package; `None` = unknown.
    pub threat_intel: Option<String>,
}

/// The register, its log, and its image in live state.
pub struct FleetService {
    register: RwLock<Register>,
    /// What lists are made from. Nobody waits for the register with it in hand.
    grid: RwLock<Grid>,
    sites: RwLock<SiteNumbers>,
    /// The lock under which commands are taken one after the other; holds the log's end.
    position: Mutex<Position>,
    /// The batch up to which readers see everything. Apart, so that they need not wait for commands.
    visible: Mutex<Position>,
    store: Arc<Store>,
    live: Arc<LiveState>,
    closer: OnceLock<Closer>,
    revocations: OnceLock<Arc<Revocations>>,
    desired: Desired,
    /// What live state was told. Taken after the register.
    shown: Mutex<Shown>,
    published: Published,
    /// When a quiet time begins or ends next.
    quiet_next: AtomicI64,
    /// The wall time that quiet times were judged by last.
    quiet_last: AtomicI64,
    /// Batches so far that changed what somebody may do.
    access_changes: AtomicU64,
    clock: Arc<dyn Clock>,
}

/// What applies where the register says nothing.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// What every sensor should have.
    pub desired: Desired,
    /// The numbers of the rules, and the heartbeat interval.
    pub policy: Policy,
}

impl Lookup for FleetService {
    fn site(&self, site: SiteIndex) -> Option<SiteId> {
        let numbers = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        numbers.ids().get(site.0 as usize).copied()
    }

    fn desired_settings(&self, _: SensorId) -> Option<u64> {
        self.desired.settings_generation
    }

    fn newest_threat_intel(&self) -> Option<&str> {
        self.desired.threat_intel.as_deref()
    }
}

impl FleetService {
    /// Takes over a register as the store had it at `position`, and shows it to live state.
    pub fn new(
        register: Register,
        position: Position,
        store: Arc<Store>,
        live: Arc<LiveState>,
        defaults: Defaults,
        clock: Arc<dyn Clock>,
    ) -> Result<FleetService, NoRoom> {
        let Defaults { desired, policy } = defaults;
        let at = clock.unix();
        let service = FleetService {
            grid: RwLock::new(Grid::of(&register)),
            register: RwLock::new(register),
            sites: RwLock::default(),
            position: Mutex::new(position),
            visible: Mutex::new(position),
            store,
            live,
            closer: OnceLock::new(),
            revocations: OnceLock::new(),
            desired,
            shown: Mutex::new(Shown::new(policy.clone())),
            published: Published::new(policy),
            quiet_next: AtomicI64::new(i64::MAX),
            quiet_last: AtomicI64::new(at.0),
            access_changes: AtomicU64::new(0),
            clock,
        };
        let register = service.register();
        service.show_all(&register, at)?;
        for gateway in register.gateways() {
            service.live.insert_gateway(gateway.id, &service.numbers(&gateway.sites))?;
        }
        drop(register);
        Ok(service)
    }

    /// From now on connections of deleted or changed peers are closed through `closer`.
    pub fn close_through(&self, closer: Closer) {
        // Set once by the server's start; a second call would be a mistake of ours that changes nothing.
        let _ = self.closer.set(closer);
    }

    /// From now on certificates that the register takes back are revoked there.
    pub fn revoke_through(&self, revocations: Arc<Revocations>) {
        // As above.
        let _ = self.revocations.set(revocations);
    }

    /// The register, for reading.
    pub fn register(&self) -> RwLockReadGuard<'_, Register> {
        self.register.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The register, for reading, unless a change is being taken in just now.
    pub fn try_register(&self) -> Option<RwLockReadGuard<'_, Register>> {
        match self.register.try_read() {
            Ok(register) => Some(register),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// How often it changed what somebody may do. Whoever reads the register after this sees all of these changes, and a
    /// change is counted before its caller hears "done".
    pub fn access_changes(&self) -> u64 {
        self.access_changes.load(Ordering::Acquire)
    }

    /// The table that lists are made from, for reading. Whoever holds it must not wait for the register.
    pub fn grid(&self) -> RwLockReadGuard<'_, Grid> {
        self.grid.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Site ids in the order of the engine's numbers.
    pub fn site_ids(&self) -> Vec<SiteId> {
        self.sites.read().unwrap_or_else(PoisonError::into_inner).ids().to_vec()
    }

    /// The engine's number of a site.
    pub fn site_index(&self, id: SiteId) -> Option<SiteIndex> {
        self.sites.read().unwrap_or_else(PoisonError::into_inner).get(id)
    }

    /// The last batch that whoever looks from now on finds in the register and in lists.
    pub fn position(&self) -> Position {
        *self.visible.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does all of `commands` or none. When this returns the change is durable.
    ///
    /// Its batch has the time at which its turn came, by the clock, and never one before `asked`: who waits for others
    /// may wait for the disk, and times that go backwards are left to clocks that are set back.
    pub fn apply(
        &self,
        commands: &[Command],
        actor: Actor,
        asked: UnixMillis,
    ) -> Result<Batch, CommandError> {
        self.apply_if(|_| Ok::<(), CommandError>(()), commands, actor, asked)
    }

    /// Does all of `commands` or none, and only if `still` holds: it sees the register as the commands will, and
    /// nothing comes between.
    pub fn apply_if<E: From<CommandError>>(
        &self,
        still: impl FnOnce(&Register) -> Result<(), E>,
        commands: &[Command],
        actor: Actor,
        asked: UnixMillis,
    ) -> Result<Batch, E> {
        let mut position = self.lock();
        still(&self.register())?;
        let at = asked.max(self.clock.unix());
        Ok(self.apply_locked(&mut position, commands, actor, at)?)
    }

    fn apply_locked(
        &self,
        position: &mut Position,
        commands: &[Command],
        actor: Actor,
        at: UnixMillis,
    ) -> Result<Batch, CommandError> {
        let batch = self.register().apply(commands, actor, at)?;
        self.keep(position, &batch)?;
        Ok(batch)
    }

    /// Does those commands of `plan` that can be done, as one batch, if `go` agrees to what becomes of them. Both see
    /// the register as the commands will, and nothing comes between.
    pub fn sift_if(
        &self,
        plan: impl FnOnce(&Register) -> Vec<Command>,
        go: impl FnOnce(&Sifted) -> bool,
        actor: Actor,
        asked: UnixMillis,
    ) -> Result<Sifted, CommandError> {
        let mut position = self.lock();
        let commands = plan(&self.register());
        let at = asked.max(self.clock.unix());
        let sifted = self.register().sift(&commands, actor, at);
        if go(&sifted) {
            self.keep(&mut position, &sifted.batch)?;
        }
        Ok(sifted)
    }

    /// Makes a batch durable, then known.
    fn keep(&self, position: &mut Position, batch: &Batch) -> Result<(), CommandError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.room_for(batch)
            .inspect_err(|error| tracing::warn!(%error, "a change of the fleet is refused"))?;
        let revocations = self.revocations.get();
        let taken = revocations.map(|all| revoke(batch, all)).transpose()?.unwrap_or_default();
        *position = self.store.register.append(*position, batch).map_err(|error| {
            // They are void all the same, and so are the connections that were made with them.
            self.close(&[], &taken);
            match taken.len() {
                0 => CommandError::Store(error),
                certificates => CommandError::OnlyRevoked { certificates, error },
            }
        })?;
        self.register
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .fold(batch)
            .expect("a batch that the register made folds into it");
        if batch.changes.iter().any(Change::is_of_access) {
            self.access_changes.fetch_add(1, Ordering::Release);
        }
        // Room was checked above, under the same lock.
        let to_close = self.show(batch).expect("room for every new sensor and gateway");
        *self.visible.lock().unwrap_or_else(PoisonError::into_inner) = *position;
        self.close(&to_close, &taken);
        Ok(())
    }

    fn close(&self, connections: &[ToClose], certificates: &[Serial]) {
        if (!connections.is_empty() || !certificates.is_empty())
            && let Some(closer) = self.closer.get()
        {
            closer(connections, certificates);
        }
    }

    /// Writes a snapshot when enough was appended to make the next start slow.
    pub fn snapshot_if_due(&self) -> Result<(), StoreError> {
        if self.store.register.snapshot_is_due() { self.snapshot() } else { Ok(()) }
    }

    /// Writes a snapshot. It is made from the log, so commands go on meanwhile.
    pub fn snapshot(&self) -> Result<(), StoreError> {
        self.store.register.snapshot().map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, Position> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room_for(&self, batch: &Batch) -> Result<(), NoRoom> {
        let (mut sensors, mut gateways) = (0, Vec::new());
        for change in &batch.changes {
            match change {
                Change::Sensor(edit) if edit.before.is_none() => sensors += 1,
                Change::Gateway(edit) => gateways.extend(edit.after.as_ref().map(|gateway| gateway.id)),
                _ => {}
            }
        }
        self.live.room_for(sensors)?;
        self.live.room_for_gateways(&gateways)?;
        let register = self.register();
        Ok(self.shown().policies.room_for(&register, batch, &self.published)?)
    }

    fn numbers(&self, sites: &[SiteId]) -> Vec<SiteIndex> {
        let mut numbers = self.sites.write().unwrap_or_else(PoisonError::into_inner);
        sites.iter().map(|&site| numbers.number(site)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::GATEWAYS_MAX;
    use crate::time::ManualClock;
    use crate::wire::id::{GatewayId, SubscriptionId};

    const SITE: SiteId = SiteId::from_number(1);

    impl FleetService {
        /// Of an empty register, in a store of its own.
        pub(in crate::server) fn empty(dir: &std::path::Path) -> (Arc<Store>, FleetService) {
            let store = Arc::new(Store::open(dir).expect("a store"));
            let loaded = store.register.load().expect("a register");
            let live = Arc::new(LiveState::with_capacity(1));
            let (register, defaults) = (loaded.register, Defaults::default());
            let clock = Arc::new(ManualClock::new(UnixMillis(0)));
            let fleet =
                FleetService::new(register, loaded.position, Arc::clone(&store), live, defaults, clock);
            (store, fleet.expect("room"))
        }

        fn give(&self, commands: &[Command]) -> Result<Batch, CommandError> {
            self.apply(commands, Actor::command_line("test"), UnixMillis(0))
        }
    }

    #[test]
    fn a_snapshot_is_written_while_a_command_has_its_turn() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, fleet) = FleetService::empty(dir.path());
        let subscription = SubscriptionId::from_number(1);
        fleet.give(&[Command::AddSubscription { id: subscription, name: "Contoso".into() }]).expect("done");
        std::thread::scope(|scope| {
            let (done, told) = crossbeam::channel::bounded(1);
            let fleet = &fleet;
            let turn = (fleet.lock(), fleet.register.write().expect("not poisoned"));
            scope.spawn(move || done.send(fleet.snapshot()));
            let written = told.recv_timeout(std::time::Duration::from_secs(30));
            drop(turn);
            written.expect("it waits for no command").expect("written");
        });
        let loaded = store.register.load().expect("a register");
        assert_eq!((loaded.replayed, &loaded.register), (0, &*fleet.register()));
    }

    fn add_gateway(number: u64) -> Command {
        let id = GatewayId::from_number(number);
        Command::AddGateway { id, name: format!("gateway {number}"), sites: vec![SITE] }
    }

    #[test]
    fn a_gateway_for_which_live_state_has_no_index_is_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, fleet) = FleetService::empty(dir.path());
        let subscription = SubscriptionId::from_number(1);
        let ground = [
            Command::AddSubscription { id: subscription, name: "Contoso".into() },
            Command::AddSite { id: SITE, subscription, name: "Werk".into() },
            add_gateway(0),
        ];
        fleet.give(&ground).expect("done");
        // Gateways that came and went: the register has no more of them, live state keeps their indices.
        for number in 2..GATEWAYS_MAX as u64 {
            fleet.live.insert_gateway(GatewayId::from_number(number), &[]).expect("room");
            fleet.live.remove_gateway(GatewayId::from_number(number)).expect("registered");
        }
        fleet.give(&[add_gateway(1)]).expect("the last index");
        let written = *fleet.lock();

        let both =
            [Command::DeleteGateway { id: GatewayId::from_number(0) }, add_gateway(GATEWAYS_MAX as u64)];
        let refused = fleet.give(&both).expect_err("no index is left");
        let full = GatewaysFull { gateways_max: GATEWAYS_MAX };
        assert!(matches!(refused, CommandError::Full(NoRoom::Gateways(error)) if error == full), "{refused}");
        assert!(refused.to_string().contains("restart the server"), "{refused}");
        assert_eq!(fleet.live.gateways_refused(), 1);
        assert_eq!((*fleet.lock(), store.register.load().expect("a register").position), (written, written));
        assert!(fleet.register().gateway(GatewayId::from_number(0)).is_some(), "all or nothing");

        // Who has an index goes on with it, also after being deleted.
        fleet.give(&both[..1]).expect("deleted");
        fleet.give(&[add_gateway(0)]).expect("added again");
        assert!(fleet.live.find_gateway(GatewayId::from_number(0)).is_some());
        // A restart frees the indices.
        drop(fleet);
        let loaded = store.register.load().expect("a register");
        let live = Arc::new(LiveState::with_capacity(1));
        let (store, defaults) = (Arc::clone(&store), Defaults::default());
        let clock = Arc::new(ManualClock::new(UnixMillis(0)));
        let fleet = FleetService::new(loaded.register, loaded.position, store, live, defaults, clock);
        let fleet = fleet.expect("room");
        fleet.give(&[add_gateway(GATEWAYS_MAX as u64)]).expect("room");
        assert_eq!((fleet.live.gateways(), fleet.live.gateways_refused()), (3, 0));
    }
}
