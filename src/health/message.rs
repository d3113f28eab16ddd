//! What the sweep says: transitions, active messages and the evidence that decided them.
//!
//! Plain owned values. Their form on paper (journal documents, API types, labels) belongs to the edges.

use std::time::Duration;

use crate::health::catalogue::RuleId;
use crate::live::SlotHandle;
use crate::time::{MonoNanos, UnixMillis};
use crate::wire::id::{GatewayId, SensorId, SiteId};

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// One sensor.
    Sensor(SensorId),
    /// One gateway.
    Gateway(GatewayId),
    /// One site.
    Site(SiteId),
}

/// The two ways a message changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransitionKind {
    /// It became active.
    Raised,
    /// It is over.
    Cleared,
}

impl TransitionKind {
    /// Its name in logs and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            TransitionKind::Raised => "raised",
            TransitionKind::Cleared => "cleared",
        }
    }
}

/// Why a message was cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClearReason {
    /// The rule no longer holds, for as long as its clear-after asks.
    Recovered,
    /// A stronger message about the same thing took its place.
    Superseded,
    /// The sensor's lifecycle, type or flags changed so that the rule does not apply any more.
    NotApplicable,
    /// The subject was deleted.
    SubjectGone,
}

impl ClearReason {
    /// All reasons.
    pub const ALL: [ClearReason; 4] = [
        ClearReason::Recovered,
        ClearReason::Superseded,
        ClearReason::NotApplicable,
        ClearReason::SubjectGone,
    ];

    /// Its name in logs and documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            ClearReason::Recovered => "recovered",
            ClearReason::Superseded => "superseded",
            ClearReason::NotApplicable => "not-applicable",
            ClearReason::SubjectGone => "subject-gone",
        }
    }
}

/// One value of evidence.
#[derive(Clone, Debug, PartialEq)]
pub enum EvidenceValue {
    /// A count, or an amount in whole units.
    Integer(i64),
    /// A measured amount.
    Number(f64),
    /// A name, a version, a date.
    Text(String),
}

/// A value that decided a verdict, beside the threshold it was compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// What was looked at, such as `silent_for`.
    pub name: &'static str,
    /// What was seen.
    pub value: EvidenceValue,
    /// What it was compared with.
    pub threshold: Option<EvidenceValue>,
    /// Unit of both, empty for none.
    pub unit: &'static str,
}

/// One change of one message, offered to the journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// What it is about.
    pub subject: Subject,
    /// The sensor's slot when the subject is a sensor that still has one.
    pub slot: Option<SlotHandle>,
    /// Which rule.
    pub rule: RuleId,
    /// Raised or cleared.
    pub kind: TransitionKind,
    /// Wall time of the sweep that decided.
    pub at: UnixMillis,
    /// Engine time of the sweep that decided.
    pub at_mono: MonoNanos,
    /// Since when the rule has held: for a silence the instant its window ran out, not the sweep's.
    pub since: UnixMillis,
    /// For silences: time of this sweep minus the deadline.
    pub detection_delay: Option<Duration>,
    /// The site message that already covers this one.
    pub folded_into: Option<SiteId>,
    /// The sensor was muted: journalled like any other, not to be notified.
    pub muted: bool,
    /// What decided it.
    pub evidence: Vec<Evidence>,
    /// Why it ended; `None` for a raise.
    pub clear_reason: Option<ClearReason>,
}

/// A message that is active now.
#[derive(Clone, Debug, PartialEq)]
pub struct ActiveMessage {
    /// What it is about.
    pub subject: Subject,
    /// Which rule.
    pub rule: RuleId,
    /// Since when the rule has held.
    pub since: UnixMillis,
    /// When the sweep raised it.
    pub raised_at: UnixMillis,
    /// What decided it, as of the raise.
    pub evidence: Vec<Evidence>,
    /// Written to the journal, as far as the engine was told.
    pub durable: bool,
    /// Frozen: the last known value of something that can't be judged now.
    pub unknown: bool,
    /// The site message that covers it.
    pub folded_into: Option<SiteId>,
    /// The sensor is muted.
    pub muted: bool,
}
