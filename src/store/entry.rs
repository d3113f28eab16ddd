//! One line of the journal, and its document.

use minicbor::{Decode, Decoder, Encode};

use super::document;
use super::error::StoreError;
use crate::limits::{EVIDENCE_MAX, EVIDENCE_TEXT_BYTES_MAX};
use crate::time::UnixMillis;
use crate::wire::id::{GatewayId, SensorId, SiteId};

/// Schema version of entries that this program writes.
const SCHEMA: u32 = 1;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A sensor.
    Sensor(SensorId),
    /// A gateway.
    Gateway(GatewayId),
    /// A site.
    Site(SiteId),
}

/// Whether a message begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// It begins.
    Raised,
    /// It ends.
    Cleared,
}

/// A value that decided something.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Integer(i64),
    /// Another number.
    Number(f64),
    /// A text.
    Text(String),
}

/// A value beside its threshold.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryEvidence {
    /// What was measured.
    pub name: String,
    /// What it was.
    pub value: Value,
    /// What it was held against.
    pub threshold: Option<Value>,
    /// The unit of both.
    pub unit: String,
}

/// One transition of one message, as the journal keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalEntry {
    /// What it is about.
    pub subject: Subject,
    /// The site of the subject then.
    pub site: Option<SiteId>,
    /// The rule's code. Text, so that codes of older and newer versions stay readable.
    pub rule: String,
    /// Whether it begins or ends.
    pub kind: EntryKind,
    /// When the engine decided.
    pub at: UnixMillis,
    /// Since when it holds, or held.
    pub since: UnixMillis,
    /// What decided it.
    pub evidence: Vec<EntryEvidence>,
    /// The site message that stands for this one.
    pub folded_into: Option<SiteId>,
    /// The subject was muted: kept, not notified.
    pub muted: bool,
    /// How long after its deadline the engine decided.
    pub detection_delay_ms: Option<u32>,
    /// Why it ended, when it did not simply stop holding.
    pub reason: Option<String>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct EntryDoc {
    #[cbor(n(0), with = "minicbor::bytes")]
    subject: [u8; 17],
    #[cbor(n(1), with = "minicbor::bytes")]
    site: Option<[u8; 16]>,
    #[n(2)]
    rule: String,
    #[n(3)]
    cleared: bool,
    #[n(4)]
    at: i64,
    #[n(5)]
    since: i64,
    #[n(6)]
    evidence: Vec<EvidenceDoc>,
    #[cbor(n(7), with = "minicbor::bytes")]
    folded_into: Option<[u8; 16]>,
    #[n(8)]
    detection_delay_ms: Option<u32>,
    #[n(9)]
    reason: Option<String>,
    #[n(10)]
    muted: Option<bool>,
}

#[derive(Encode, Decode)]
struct EvidenceDoc {
    #[n(0)]
    name: String,
    #[n(1)]
    value: ValueDoc,
    #[n(2)]
    threshold: Option<ValueDoc>,
    #[n(3)]
    unit: String,
}

#[derive(Encode, Decode)]
enum ValueDoc {
    #[n(0)]
    Integer(#[n(0)] i64),
    #[n(1)]
    Number(#[n(0)] f64),
    #[n(2)]
    Text(#[n(0)] String),
}

impl Subject {
    /// A byte for the kind, then the id: sorts and compares as bytes.
    pub(super) fn to_bytes(self) -> [u8; 17] {
        let (kind, id) = match self {
            Subject::Sensor(id) => (0, id.0),
            Subject::Gateway(id) => (1, id.0),
            Subject::Site(id) => (2, id.0),
        };
        let mut bytes = [kind; 17];
        bytes[1..].copy_from_slice(&id);
        bytes
    }

    fn from_bytes(bytes: [u8; 17]) -> Result<Subject, StoreError> {
        let [kind, id @ ..] = bytes;
        match kind {
            0 => Ok(Subject::Sensor(SensorId(id))),
            1 => Ok(Subject::Gateway(GatewayId(id))),
            2 => Ok(Subject::Site(SiteId(id))),
            other => Err(document::bad(&format!("unknown kind of subject {other}"))),
        }
    }
}

impl JournalEntry {
    pub(super) fn encode(&self) -> Vec<u8> {
        let evidence = self.evidence.iter().take(EVIDENCE_MAX).map(|evidence| EvidenceDoc {
            name: cut(&evidence.name),
            value: value_doc(&evidence.value),
            threshold: evidence.threshold.as_ref().map(value_doc),
            unit: cut(&evidence.unit),
        });
        let document = EntryDoc {
            subject: self.subject.to_bytes(),
            site: self.site.map(|id| id.0),
            rule: cut(&self.rule),
            cleared: self.kind == EntryKind::Cleared,
            at: self.at.0,
            since: self.since.0,
            evidence: evidence.collect(),
            folded_into: self.folded_into.map(|id| id.0),
            detection_delay_ms: self.detection_delay_ms,
            reason: self.reason.as_deref().map(cut),
            muted: self.muted.then_some(true),
        };
        let mut bytes = Vec::with_capacity(160);
        document::write(&mut bytes, &SCHEMA);
        document::write(&mut bytes, &document);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<JournalEntry, StoreError> {
        let mut decoder = Decoder::new(bytes);
        document::known(&mut decoder, SCHEMA, "a journal entry")?;
        let document: EntryDoc = decoder.decode().map_err(|cause| document::bad(&cause))?;
        let evidence = document.evidence.into_iter().map(|evidence| EntryEvidence {
            name: evidence.name,
            value: value_of(evidence.value),
            threshold: evidence.threshold.map(value_of),
            unit: evidence.unit,
        });
        Ok(JournalEntry {
            subject: Subject::from_bytes(document.subject)?,
            site: document.site.map(SiteId),
            rule: document.rule,
            kind: if document.cleared { EntryKind::Cleared } else { EntryKind::Raised },
            at: UnixMillis(document.at),
            since: UnixMillis(document.since),
            evidence: evidence.collect(),
            folded_into: document.folded_into.map(SiteId),
            detection_delay_ms: document.detection_delay_ms,
            reason: document.reason,
            muted: document.muted.unwrap_or(false),
        })
    }
}

fn value_doc(value: &Value) -> ValueDoc {
    match value {
        Value::Integer(value) => ValueDoc::Integer(*value),
        Value::Number(value) => ValueDoc::Number(*value),
        Value::Text(value) => ValueDoc::Text(cut(value)),
    }
}

fn value_of(document: ValueDoc) -> Value {
    match document {
        ValueDoc::Integer(value) => Value::Integer(value),
        ValueDoc::Number(value) => Value::Number(value),
        ValueDoc::Text(value) => Value::Text(value),
    }
}

/// At most [`EVIDENCE_TEXT_BYTES_MAX`] bytes, cut at a character.
pub(super) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(EVIDENCE_TEXT_BYTES_MAX.min(text.len()))].to_owned()
}
