//! What the HTTP side asks of the server.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::sync::RwLockReadGuard;
use std::time::Duration;

use super::problem::Problem;
use crate::export::{Readiness, Source};
use crate::fleet::query::Grid;
use crate::fleet::{Actor, Batch, Command, Place, Refusal, Register, Sifted};
use crate::health::{ActiveMessage, Layer, RuleId, RuleReport, Setting, Subject, SupportState};
use crate::identity::{ActivationResponse, FileSigner};
use crate::live::{LiveState, SiteIndex, Snapshot};
use crate::store::{BackupError, BackupFile, BackupName, Store, StoreError};
use crate::time::{Now, UnixMillis};
use crate::wire::enrol::EnrolRefusal;
use crate::wire::id::{SensorId, SiteId};

/// Why a change was not made. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// The register refused it.
    Refused(Refusal),
    /// What had to hold did not: an `If-Match` that is out of date, a right that ended meanwhile.
    Precondition(Problem),
    /// A file can't be made, or was not accepted: a stable code, and why.
    Unfit {
        /// For programs.
        code: &'static str,
        /// For people.
        detail: String,
    },
    /// It could not be made durable, and why.
    Store(String),
    /// There is no room for it, and what would make some.
    Full(String),
}

/// What has to hold when a change is made; looked at under the same lock.
pub type Expect<'e> = &'e dyn Fn(&Register) -> Result<(), Problem>;

/// One number that applies somewhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AppliedNumber {
    /// Which.
    pub setting: Setting,
    /// What applies.
    pub value: f64,
    /// Who said so.
    pub from: Layer,
    /// What it is where nobody says anything.
    pub default: f64,
}

/// All numbers that apply at a place, each with who said it.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Those of the rules.
    pub numbers: Vec<AppliedNumber>,
    /// The heartbeat interval that sensors are told to keep; zero = theirs.
    pub interval: Duration,
    /// Who said so.
    pub interval_from: Layer,
    /// What it is where nobody says anything.
    pub interval_default: Duration,
}

/// An activation file that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedActivation {
    /// A name for it, safe on any disk and in a header.
    pub name: String,
    /// The signed file.
    pub bytes: Vec<u8>,
    /// The same as one line to paste.
    pub command: String,
    /// When it is void, unless used before.
    pub expires_at: UnixMillis,
    /// Which of the sensor's files it is.
    pub generation: u32,
}

/// Where others find the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Names and addresses that its certificate is good for.
    pub names: Vec<String>,
    /// Where sensors and gateways connect (UDP).
    pub ingest: SocketAddr,
    /// Where sensors enrol (UDP).
    pub enrolment: SocketAddr,
    /// Where browsers and programs are told to go; none = where HTTP listens.
    pub public_url: Option<String>,
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeBackup {
    /// What it is.
    pub file: BackupFile,
    /// Of the file, in hexadecimal digits.
    pub sha256: String,
    /// How long it took.
    pub took: Duration,
    /// Older ones that made room for it.
    pub removed: Vec<BackupName>,
}

/// Why something with backups was not done.
#[derive(Debug, thiserror::Error)]
pub enum BackupFault {
    /// One at a time.
    #[error("the backup {0} is being written; wait for its end, and use that one or try again")]
    Running(BackupName),
    /// The disk could become full.
    #[error(
        "a backup could need {needed} bytes, and {free} are free where backups go; delete old ones, or set `backup.dir` to a folder with more room"
    )]
    NoRoom {
        /// Bytes that have to be free.
        needed: u64,
        /// Bytes that are.
        free: u64,
    },
    /// There is none of this name.
    #[error("there is no backup {0}; `GET /api/v1/backups` lists those that are there")]
    Unknown(BackupName),
    /// A backup holds keys: without a note in the audit log it is not handed out.
    #[error("that the backup is handed out could not be written to the audit log, so it was not: {0}")]
    Unnoted(String),
    /// Writing or reading.
    #[error(transparent)]
    Failed(#[from] BackupError),
}

impl From<StoreError> for BackupFault {
    fn from(error: StoreError) -> BackupFault {
        BackupFault::Failed(error.into())
    }
}

/// Enrolments that were refused: of one address, for one reason, for one sensor or for none that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedEnrolment {
    /// Whose activation file or certificate it was; `None`: a stranger's.
    pub sensor: Option<SensorId>,
    /// Network address.
    pub from: IpAddr,
    /// Why the last one was refused.
    pub refusal: EnrolRefusal,
    /// The first.
    pub first: UnixMillis,
    /// The last.
    pub last: UnixMillis,
    /// How many.
    pub count: u64,
    /// What the last one said of the program that asked.
    pub version: String,
}

/// The server, as the HTTP side sees it. Its methods may wait for locks and for the disk, so they are called on
/// worker threads only; none holds up the sweep for longer than one page takes to copy.
///
/// Order of locks: whoever asks the engine ([`Backend::active`], [`Backend::active_places`], [`Backend::why`])
/// must not hold the register, because a sweep asks the register.
pub trait Backend: Source {
    /// Whether requests and sensors may be sent here.
    fn readiness(&self) -> Readiness;

    /// Live state.
    fn live(&self) -> &LiveState;

    /// The store.
    fn store(&self) -> &Store;

    /// The register, locked for reading. Commands wait meanwhile, so not for long.
    fn register(&self) -> RwLockReadGuard<'_, Register>;

    /// The register, if no change is being taken in at this moment. May be called on the thread that drives sockets.
    fn try_register(&self) -> Option<RwLockReadGuard<'_, Register>>;

    /// How often it changed what users and tokens may do, without waiting for anybody. Counted after the register has the
    /// change and before the change is acknowledged.
    fn access_changes(&self) -> u64;

    /// The table that lists of sensors are made from, locked for reading. Commands wait meanwhile, so not for long; and
    /// the register must not be waited for with it in hand.
    fn grid(&self) -> RwLockReadGuard<'_, Grid>;

    /// Does all of `commands` or none, if `expect` holds then. When this returns the change is durable.
    fn apply(&self, commands: &[Command], actor: Actor, expect: Expect<'_>) -> Result<Batch, ApplyError>;

    /// Does those commands of `plan` that can be done, if `go` agrees to what becomes of them. Both are asked under
    /// the lock of the change itself. What is done is durable when this returns.
    fn sift(
        &self,
        plan: &mut dyn FnMut(&Register) -> Vec<Command>,
        go: &dyn Fn(&Sifted) -> bool,
        actor: Actor,
    ) -> Result<Sifted, ApplyError>;

    /// The numbers that apply at a place, and who said each.
    fn numbers_at(&self, place: Place) -> Option<Applied>;

    /// Makes an activation file for each of these sensors, in their order: all or none, if `expect` holds then.
    fn issue_activations(
        &self,
        sensors: &[SensorId],
        actor: Actor,
        expect: Expect<'_>,
    ) -> Result<Vec<IssuedActivation>, ApplyError>;

    /// Takes the response of a sensor that never connects, if `expect` holds then.
    fn take_response(
        &self,
        response: &ActivationResponse,
        actor: Actor,
        expect: Expect<'_>,
    ) -> Result<(), ApplyError>;

    /// Where others find the server, as it is at work.
    fn reached(&self) -> Reached;

    /// Begins the signature of a file of this name and media type. Everything that was declared before is known to who
    /// looks afterwards. `Err` says why it can't be signed.
    fn begin_signature(&self, name: &str, media_type: &str) -> Result<FileSigner, String>;

    /// Makes a backup, which takes as long as the disk needs; one at a time.
    fn make_backup(&self, actor: Actor) -> Result<MadeBackup, BackupFault>;

    /// The backup that is being written. May be called on the thread that drives sockets.
    fn backup_under_way(&self) -> Option<BackupName>;

    /// The backups that are there, newest first.
    fn backups(&self) -> Result<Vec<BackupFile>, StoreError>;

    /// A backup to hand out, and its size. That it is handed out is durably noted when this returns.
    fn open_backup(&self, name: &BackupName, actor: Actor) -> Result<(File, u64), BackupFault>;

    /// Removes a backup.
    fn remove_backup(&self, name: &BackupName, actor: Actor) -> Result<(), BackupFault>;

    /// Enrolments that were refused since the server started, the newest first.
    fn refused_enrolments(&self) -> Vec<RefusedEnrolment>;

    /// The number of a site; one that never had a sensor or gateway has none.
    fn site_index(&self, id: SiteId) -> Option<SiteIndex>;

    /// Those of these messages that are active.
    fn active(&self, keys: &[(Subject, RuleId)]) -> Vec<ActiveMessage>;

    /// Active messages of gateways and sites that are wanted, in order, from the one after `after`.
    fn active_places(
        &self,
        after: Option<(Subject, RuleId)>,
        most: usize,
        wanted: &dyn Fn(Subject, RuleId) -> bool,
    ) -> Vec<ActiveMessage>;

    /// Why a sensor is as it is: every rule that applies to it.
    fn why(&self, sensor: SensorId, now: Now) -> Option<Vec<RuleReport>>;

    /// Support of a sensor's software version.
    fn support(&self, sensor: &Snapshot, now: Now) -> SupportState;
}
