//! The values that go in and out of live state.

use std::time::Duration;

use crate::time::{MonoNanos, UnixMillis};
use crate::wire::heartbeat::Heartbeat;
use crate::wire::id::{GatewayId, SensorId};

/// Place of a sensor in the slab. Recycled: only a [`SlotHandle`] says whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotIndex(pub u32);

/// A slot and the generation in which it belongs to one sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotHandle {
    /// The place.
    pub index: SlotIndex,
    /// Raised when the slot is given to another sensor; a handle of an older generation is stale.
    pub generation: u32,
}

/// The register's dense number of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SiteIndex(pub u32);

/// Place in the policy table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PolicyIndex(pub u16);

/// Place in the table of gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayIndex(pub u32);

/// What kind of sensor it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum SensorType {
    /// OT sensor that reports here.
    OtCloud = 0,
    /// OT sensor that is managed on its own and does not report.
    OtLocal = 1,
    /// Enterprise IoT sensor.
    EnterpriseIot = 2,
}

impl SensorType {
    /// All types.
    pub const ALL: [SensorType; 3] = [SensorType::OtCloud, SensorType::OtLocal, SensorType::EnterpriseIot];

    /// The name that people and metrics see.
    pub const fn as_str(self) -> &'static str {
        match self {
            SensorType::OtCloud => "ot-cloud",
            SensorType::OtLocal => "ot-local",
            SensorType::EnterpriseIot => "enterprise-iot",
        }
    }

    const fn from_bits(bits: u64) -> SensorType {
        match bits & 3 {
            0 => SensorType::OtCloud,
            1 => SensorType::OtLocal,
            _ => SensorType::EnterpriseIot,
        }
    }
}

/// Where a sensor stands between onboarding and deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Lifecycle {
    /// Onboarded, never seen.
    PendingActivation = 0,
    /// Reports.
    Active = 1,
    /// Must be activated again.
    PendingReactivation = 2,
    /// Gone.
    Deleted = 3,
}

impl Lifecycle {
    /// All states.
    pub const ALL: [Lifecycle; 4] =
        [Lifecycle::PendingActivation, Lifecycle::Active, Lifecycle::PendingReactivation, Lifecycle::Deleted];

    /// The name that people and metrics see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Lifecycle::PendingActivation => "pending-activation",
            Lifecycle::Active => "active",
            Lifecycle::PendingReactivation => "pending-reactivation",
            Lifecycle::Deleted => "deleted",
        }
    }

    const fn from_bits(bits: u64) -> Lifecycle {
        match bits & 3 {
            0 => Lifecycle::PendingActivation,
            1 => Lifecycle::Active,
            2 => Lifecycle::PendingReactivation,
            _ => Lifecycle::Deleted,
        }
    }
}

/// What the register declares about a sensor; one word of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotFacts {
    /// Type.
    pub kind: SensorType,
    /// Lifecycle.
    pub lifecycle: Lifecycle,
    /// Site.
    pub site: SiteIndex,
    /// Thresholds that apply.
    pub policy: PolicyIndex,
    /// Its messages notify nobody.
    pub muted: bool,
}

impl SlotFacts {
    /// Whether heartbeats of it are welcome: locally managed sensors do not report, and one that waits to be activated
    /// again must not. One that was never activated may: its certificate can have come another way than by a file.
    pub fn may_report(&self) -> bool {
        self.kind != SensorType::OtLocal
            && matches!(self.lifecycle, Lifecycle::PendingActivation | Lifecycle::Active)
    }

    /// Set in the facts word of a slot that somebody has.
    pub(super) const OCCUPIED: u64 = 1 << 5;

    pub(super) fn to_word(self) -> u64 {
        u64::from(self.kind as u8)
            | u64::from(self.lifecycle as u8) << 2
            | u64::from(self.muted) << 4
            | SlotFacts::OCCUPIED
            | u64::from(self.policy.0) << 8
            | u64::from(self.site.0) << 32
    }

    pub(super) fn from_word(word: u64) -> Option<SlotFacts> {
        (word & SlotFacts::OCCUPIED != 0).then(|| SlotFacts {
            kind: SensorType::from_bits(word),
            lifecycle: Lifecycle::from_bits(word >> 2),
            muted: word & (1 << 4) != 0,
            policy: PolicyIndex((word >> 8) as u16),
            site: SiteIndex((word >> 32) as u32),
        })
    }
}

/// The connection that owns a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnerRef {
    /// Node of a cluster.
    pub node: u16,
    /// Shard of the node.
    pub shard: u8,
    /// The shard's own key of the connection.
    pub connection: u32,
}

impl OwnerRef {
    const PRESENT: u64 = 1 << 63;

    pub(super) fn to_word(self) -> u64 {
        OwnerRef::PRESENT
            | u64::from(self.node) << 40
            | u64::from(self.shard) << 32
            | u64::from(self.connection)
    }

    pub(super) fn from_word(word: u64) -> Option<OwnerRef> {
        (word & OwnerRef::PRESENT != 0).then_some(OwnerRef {
            node: (word >> 40) as u16,
            shard: (word >> 32) as u8,
            connection: word as u32,
        })
    }
}

/// Who hands in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The sensor's own connection, which took the slot at this epoch.
    Direct {
        /// From [`Taken::epoch`].
        epoch: u64,
    },
    /// A gateway; refused while the sensor has its own connection.
    Gateway(GatewayIndex),
}

/// A slot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Proof of ownership; every later take makes it worthless.
    pub epoch: u64,
    /// The connection that had the slot and must be closed.
    pub replaced: Option<OwnerRef>,
}

/// The handle belongs to a sensor that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sensor was removed")]
pub struct Stale;

/// No slot is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {slots_max} slots are in use; raise the limit of sensors")]
pub struct SlabFull {
    /// The limit.
    pub slots_max: u32,
}

/// When a frame was read, and what its reader does not know of its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Read from the socket then.
    pub at: MonoNanos,
    /// It arrived after this: by then the reader had read all that there was. Far from `at` when the reader stood
    /// still, or is behind.
    pub after: MonoNanos,
    /// Until then packets may have been lost in the reader's own buffer: a gap that began before says nothing about
    /// the sensor's link.
    pub unheard_until: MonoNanos,
}

impl Receipt {
    /// By a reader that misses nothing and is never late.
    pub fn exact(at: MonoNanos) -> Receipt {
        Receipt { at, after: at, unheard_until: MonoNanos::NEVER }
    }

    /// Longest time that the frame may have waited to be read.
    #[inline]
    pub(super) fn waited_nanos(&self) -> u64 {
        self.at.0.saturating_sub(self.after.0)
    }
}

/// No index is left for a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "all {gateways_max} indices of gateways are in use, those of deleted gateways included; restart the server, \
     which frees those, or use fewer gateways"
)]
pub struct GatewaysFull {
    /// The limit.
    pub gateways_max: usize,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Observed {
    /// The newest: current values are its values.
    Current = 0,
    /// Older than the newest, and in the arrival window: history only.
    Late = 1,
    /// Seen before.
    Duplicate = 2,
    /// So far behind that nobody can say whether it was seen before. Counts as lost, as it did already.
    BeyondWindow = 3,
    /// Older than any frame may be.
    TooOld = 4,
    /// The writer does not own the slot (any more).
    NotOwner = 5,
    /// The sensor was removed.
    StaleSlot = 6,
    /// Another writer was in the slot for too long.
    Busy = 7,
}

impl Observed {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [Observed; 8] = [
        Observed::Current,
        Observed::Late,
        Observed::Duplicate,
        Observed::BeyondWindow,
        Observed::TooOld,
        Observed::NotOwner,
        Observed::StaleSlot,
        Observed::Busy,
    ];

    /// Place in [`Observed::ALL`], for arrays of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The label in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Observed::Current => "current",
            Observed::Late => "late",
            Observed::Duplicate => "duplicate",
            Observed::BeyondWindow => "beyond_window",
            Observed::TooOld => "too_old",
            Observed::NotOwner => "not_owner",
            Observed::StaleSlot => "stale_slot",
            Observed::Busy => "busy",
        }
    }

    /// True when the frame was counted in the sensor's arrivals, as news or as history.
    pub const fn counts(self) -> bool {
        matches!(self, Observed::Current | Observed::Late)
    }
}

/// When something last happened, up to `N` times, to a quarter of a second. Enough for "n times within t".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recent<const N: usize> {
    pub(super) quarters: [u32; N],
}

const NANOS_PER_QUARTER: u64 = 250_000_000;

/// Engine time in quarters of a second: lasts for 23 years after the engine's origin.
pub(super) fn quarters(at: MonoNanos) -> u32 {
    u32::try_from(at.0 / NANOS_PER_QUARTER).unwrap_or(u32::MAX)
}

impl<const N: usize> Recent<N> {
    /// How often it happened within `window` before `now`; at most `N`.
    pub fn within(&self, now: MonoNanos, window: Duration) -> u32 {
        let now = quarters(now);
        let window = u32::try_from(window.as_millis() / 250).unwrap_or(u32::MAX);
        let happened = |&&at: &&u32| at != 0 && now.saturating_sub(at) <= window;
        self.quarters.iter().filter(happened).count() as u32
    }

    /// The last time it happened.
    pub fn last(&self) -> MonoNanos {
        let newest = self.quarters.iter().copied().max().unwrap_or(0);
        MonoNanos(u64::from(newest) * NANOS_PER_QUARTER)
    }
}

/// Starts and reconnections that a slot remembers.
pub const RECENT_STARTS: usize = 8;
/// Replacements that a slot remembers.
pub const RECENT_REPLACED: usize = 4;

/// Everything known of one sensor, copied out at one consistent moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Who.
    pub id: SensorId,
    /// Where.
    pub handle: SlotHandle,
    /// What the register declares.
    pub facts: SlotFacts,
    /// The newest heartbeat; all at "not known" before the first one ([`Snapshot::last_heartbeat`] tells).
    pub heartbeat: Heartbeat,

    /// Time of the first heartbeat ever; never = none yet.
    pub first_heartbeat: MonoNanos,
    /// Time of the newest heartbeat: its receipt minus its age.
    pub last_heartbeat: MonoNanos,
    /// Receipt of the newest heartbeat.
    pub last_received: MonoNanos,
    /// When anything at all came in on its connection.
    pub last_transport: MonoNanos,
    /// When the monitored traffic counters last grew; starts afresh at each start of the sensor.
    pub last_traffic: MonoNanos,
    /// A heartbeat came in since this process started (false: restored from a checkpoint, or none).
    pub heard_since_start: bool,

    /// Has its own connection now.
    pub connected: bool,
    /// That connection.
    pub owner: Option<OwnerRef>,
    /// The gateway that brought the newest heartbeat.
    pub via_gateway: Option<GatewayIndex>,
    /// End of its certificate, to the second, as its last connection showed it.
    pub cert_not_after: Option<UnixMillis>,
    /// Mark of who signed it; zero: not known.
    pub cert_issuer: u16,

    /// Starts after the first one seen.
    pub restarts: u32,
    /// When they were.
    pub recent_restarts: Recent<RECENT_STARTS>,
    /// The newest boot was running already while the one before still reported: two machines, not one that
    /// started again.
    pub boots_overlap: bool,
    /// Connections after the first one.
    pub reconnects: u32,
    /// When they were.
    pub recent_reconnects: Recent<RECENT_STARTS>,
    /// Connections that another one with the same identity pushed out.
    pub replaced: u32,
    /// When they were.
    pub recent_replaced: Recent<RECENT_REPLACED>,

    /// Different heartbeats that came in.
    pub received: u64,
    /// Heartbeats that were made and did not come within [`crate::limits::ARRIVAL_WINDOW`] of their turn.
    pub lost: u64,
    /// Heartbeats that came again.
    pub duplicates: u32,
    /// Heartbeats that came after a later one.
    pub reordered: u32,
    /// Heartbeats that came too late to know whether they came before.
    pub beyond_window: u32,
    /// Times that the sequence went backwards for good, without a new boot id.
    pub rollbacks: u32,
    /// Bit n: the heartbeat n before the newest came in.
    pub window: u64,
    /// Valid bits of the window: heartbeats that were expected, at most 64.
    pub window_expected: u32,
    /// Share of the expected heartbeats in the window that came in; 1 before the first.
    pub delivery_ratio: f32,
    /// Interarrival jitter (RFC 3550, section 6.4.1) in milliseconds.
    pub jitter_ms: f32,
    /// Server's clock minus sensor's clock, the least of the last heartbeats (so with the least of the
    /// path's delay), in milliseconds. `i64::MIN` = not known.
    pub clock_offset_ms: i64,

    /// Captured bytes a second, over about a minute. NaN = not known yet.
    pub rx_bytes_per_s: f32,
    /// Captured packets a second, over about a minute. NaN = not known yet.
    pub rx_packets_per_s: f32,
    /// Share of packets that capture lost, over about a minute. NaN = not known yet.
    pub drop_ratio: f32,

    /// The newest heartbeat announced a planned stop.
    pub goodbye: bool,
    /// When the update stage last changed.
    pub update_stage_since: MonoNanos,
}

/// Rule bits that the sweep keeps for a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Rules that hold.
    pub active: u64,
    /// Rules whose truth is not known now; frozen where they were.
    pub unknown: u64,
    /// Rules that the journal has as active.
    pub journalled: u64,
    /// The one word on the sensor, as the sweep numbers it; zero = not judged yet.
    pub overall: u8,
}

/// Everything known of one gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySnapshot {
    /// Who.
    pub id: GatewayId,
    /// Where.
    pub index: GatewayIndex,
    /// Has a connection now.
    pub connected: bool,
    /// That connection.
    pub owner: Option<OwnerRef>,
    /// When anything came in on it; never = not yet.
    pub last_seen: MonoNanos,
    /// When the connection was made.
    pub connected_since: MonoNanos,
    /// Connections after the first one.
    pub reconnects: u32,
    /// Connections that another one with the same identity pushed out.
    pub replaced: u32,
    /// Sensors whose newest heartbeat it brought.
    pub sensors: u32,
    /// Sites that it may speak for.
    pub sites: Vec<SiteIndex>,
    /// Generation of the trust bundle that it said to hold; zero: not known since this process started.
    pub trust_generation: u32,
    /// Mark of who signed its certificate, as its last connection showed it; zero: not known.
    pub cert_issuer: u16,
}
