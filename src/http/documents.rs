//! Parts that several resources show: references with names, evidence, health messages.

use serde::Serialize;
use utoipa::ToSchema;

use super::times::rfc3339;
use crate::fleet::Register;
use crate::health::{ActiveMessage, CATALOGUE, Evidence, EvidenceValue, Rule, RuleId, Subject};
use crate::store;
use crate::wire::id::{GatewayId, SensorId, SiteId};

/// Something in the register: its id, and its name while it is there and in sight.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reference {
    id: String,
    name: Option<String>,
}

/// What a message is about.
#[derive(Serialize, ToSchema)]
#[schema(as = Subject)]
pub(super) struct SubjectDocument {
    kind: &'static str,
    #[serde(flatten)]
    reference: Reference,
}

/// A value that decided something, beside its threshold.
#[derive(Serialize, ToSchema)]
#[schema(as = Evidence)]
pub(super) struct EvidenceDocument {
    name: String,
    value: ValueDocument,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<ValueDocument>,
    #[serde(skip_serializing_if = "String::is_empty")]
    unit: String,
}

/// A number or a text.
#[derive(Serialize, ToSchema)]
#[schema(as = Value)]
#[serde(untagged)]
pub(super) enum ValueDocument {
    Integer(i64),
    Number(f64),
    Text(String),
}

/// A message that is active now.
#[derive(Serialize, ToSchema)]
#[schema(as = Message)]
pub(super) struct MessageDocument {
    subject: SubjectDocument,
    /// Where the subject stands; none for a gateway.
    site: Option<Reference>,
    code: &'static str,
    severity: &'static str,
    title: &'static str,
    text: &'static str,
    recommendation: &'static str,
    /// Since when it holds.
    since: String,
    /// When the sweep decided.
    raised_at: String,
    evidence: Vec<EvidenceDocument>,
    /// Written to the journal.
    durable: bool,
    /// Frozen: the last known value of something that can't be judged now.
    unknown: bool,
    /// The sensor is muted: nobody is notified.
    muted: bool,
    /// The site whose message covers it.
    folded_into: Option<String>,
}

pub(super) fn site(register: &Register, id: SiteId) -> Reference {
    Reference { id: id.to_string(), name: register.site(id).map(|site| site.name.to_string()) }
}

pub(super) fn gateway(register: &Register, id: GatewayId) -> Reference {
    Reference { id: id.to_string(), name: register.gateway(id).map(|gateway| gateway.name.to_string()) }
}

fn sensor(register: &Register, id: SensorId) -> Reference {
    let found = register.sensor(id).or_else(|| register.deleted_sensor(id));
    Reference { id: id.to_string(), name: found.map(|sensor| sensor.name.to_string()) }
}

impl Reference {
    pub(super) fn new(id: impl ToString, name: &str) -> Reference {
        Reference::of(id, Some(name))
    }

    pub(super) fn of(id: impl ToString, name: Option<&str>) -> Reference {
        Reference { id: id.to_string(), name: name.map(str::to_owned) }
    }

    /// Its name; empty when it is gone.
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

pub(super) fn subject(register: &Register, subject: Subject) -> SubjectDocument {
    let (kind, reference) = match subject {
        Subject::Sensor(id) => ("sensor", sensor(register, id)),
        Subject::Gateway(id) => ("gateway", gateway(register, id)),
        Subject::Site(id) => ("site", site(register, id)),
    };
    SubjectDocument { kind, reference }
}

/// As [`subject`], for who may not know what it is called now.
pub(super) fn nameless(subject: Subject) -> SubjectDocument {
    let (kind, id) = match subject {
        Subject::Sensor(id) => ("sensor", id.to_string()),
        Subject::Gateway(id) => ("gateway", id.to_string()),
        Subject::Site(id) => ("site", id.to_string()),
    };
    SubjectDocument { kind, reference: Reference { id, name: None } }
}

/// Where a subject stands now.
pub(super) fn site_of(register: &Register, subject: Subject) -> Option<SiteId> {
    match subject {
        Subject::Site(id) => Some(id),
        Subject::Gateway(_) => None,
        Subject::Sensor(id) => {
            let sensor = register.sensor(id).or_else(|| register.deleted_sensor(id))?;
            register.site_of(sensor).map(|site| site.id)
        }
    }
}

pub(super) fn message(register: &Register, message: &ActiveMessage) -> MessageDocument {
    let rule = message.rule.rule();
    MessageDocument {
        subject: subject(register, message.subject),
        site: site_of(register, message.subject).map(|id| site(register, id)),
        code: rule.code,
        severity: rule.severity.as_str(),
        title: rule.title,
        text: rule.text,
        recommendation: rule.recommendation,
        since: rfc3339(message.since),
        raised_at: rfc3339(message.raised_at),
        evidence: evidence(&message.evidence),
        durable: message.durable,
        unknown: message.unknown,
        muted: message.muted,
        folded_into: message.folded_into.map(|id| id.to_string()),
    }
}

pub(super) fn evidence(all: &[Evidence]) -> Vec<EvidenceDocument> {
    let value = |value: &EvidenceValue| match value {
        EvidenceValue::Integer(integer) => ValueDocument::Integer(*integer),
        EvidenceValue::Number(number) => ValueDocument::Number(*number),
        EvidenceValue::Text(text) => ValueDocument::Text(text.clone()),
    };
    let document = |evidence: &Evidence| EvidenceDocument {
        name: evidence.name.to_owned(),
        value: value(&evidence.value),
        threshold: evidence.threshold.as_ref().map(value),
        unit: evidence.unit.to_owned(),
    };
    all.iter().map(document).collect()
}

pub(super) fn stored_evidence(all: &[store::EntryEvidence]) -> Vec<EvidenceDocument> {
    let value = |value: &store::Value| match value {
        store::Value::Integer(integer) => ValueDocument::Integer(*integer),
        store::Value::Number(number) => ValueDocument::Number(*number),
        store::Value::Text(text) => ValueDocument::Text(text.clone()),
    };
    let document = |evidence: &store::EntryEvidence| EvidenceDocument {
        name: evidence.name.clone(),
        value: value(&evidence.value),
        threshold: evidence.threshold.as_ref().map(value),
        unit: evidence.unit.clone(),
    };
    all.iter().map(document).collect()
}

/// The rule of a code, for a parameter.
pub(super) fn rule_of_code(code: &str) -> Option<&'static Rule> {
    RuleId::from_code(code).map(RuleId::rule)
}

/// All codes.
pub(super) fn codes() -> Vec<&'static str> {
    CATALOGUE.iter().map(|rule| rule.code).collect()
}
