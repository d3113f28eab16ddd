//! What people declared, as the API shows it, and what of it an entity tag covers.

use serde::Serialize;
use utoipa::ToSchema;

use crate::fleet::{Activation, Attempt, Credential, Mute, Overrides, Quiet, Register, Sensor, Window};
use crate::http::documents::Reference;
use crate::http::etag::ETag;
use crate::http::times::rfc3339;
use crate::live::SensorType;
use crate::time::UnixMillis;

/// Nobody is notified.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Mute)]
pub(in crate::http) struct MuteDocument {
    /// Until when; none = until somebody ends it.
    until: Option<String>,
    reason: String,
}

/// A maintenance window.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Window)]
pub(in crate::http) struct WindowDocument {
    /// Its number among those of its place.
    pub(super) id: u32,
    from: String,
    until: String,
    reason: String,
}

/// When something is quiet.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Quiet)]
pub(in crate::http) struct QuietDocument {
    /// It is quiet now, by mute or window of its own.
    now: bool,
    mute: Option<MuteDocument>,
    windows: Vec<WindowDocument>,
}

impl MuteDocument {
    pub(in crate::http) fn of(mute: &Mute) -> MuteDocument {
        MuteDocument { until: mute.until.map(rfc3339), reason: mute.reason.to_string() }
    }
}

impl WindowDocument {
    pub(in crate::http) fn of(window: &Window) -> WindowDocument {
        WindowDocument {
            id: window.id,
            from: rfc3339(window.from),
            until: rfc3339(window.until),
            reason: window.reason.to_string(),
        }
    }
}

impl QuietDocument {
    pub(in crate::http) fn of(quiet: &Quiet, at: UnixMillis) -> QuietDocument {
        QuietDocument {
            now: quiet.holds(at),
            mute: quiet.mute.as_ref().map(MuteDocument::of),
            windows: quiet.windows.iter().map(WindowDocument::of).collect(),
        }
    }
}

/// A sensor as declared: what people said of it and what activation left behind. Nothing here comes from heartbeats.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Registration {
    id: String,
    name: String,
    r#type: &'static str,
    lifecycle: &'static str,
    subscription: Option<Reference>,
    site: Option<Reference>,
    zone: Option<Reference>,
    notes: String,
    /// `automatic` or `manual`.
    threat_intel_mode: &'static str,
    quiet: QuietDocument,
    /// Its newest activation file; none when none was made.
    activation: Option<ActivationDocument>,
    /// Certificates that are good for it, newest last.
    credentials: Vec<CredentialDocument>,
    /// The last enrolments that were refused, newest last.
    attempts: Vec<AttemptDocument>,
}

/// An activation file and what became of it. Its secret is in the file alone.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Activation)]
struct ActivationDocument {
    /// Files made for this sensor so far; only the newest is good.
    generation: u32,
    issued_at: String,
    expires_at: String,
    /// `waiting`, `expired` or `used`.
    state: &'static str,
    used_at: Option<String>,
    /// Network address that it was used from.
    used_from: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Credential)]
struct CredentialDocument {
    serial: String,
    not_before: String,
    not_after: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
struct AttemptDocument {
    at: String,
    from: String,
    /// Stable code of the refusal.
    code: String,
    detail: String,
}

impl Registration {
    pub(in crate::http) fn of(register: &Register, sensor: &Sensor, at: UnixMillis) -> Registration {
        let (zone, site) = (register.zone(sensor.zone), register.site_of(sensor));
        let subscription = site.and_then(|site| register.subscription(site.subscription));
        let more = &sensor.more;
        Registration {
            id: sensor.id.to_string(),
            name: sensor.name.to_string(),
            r#type: sensor.kind.as_str(),
            lifecycle: sensor.lifecycle.as_str(),
            subscription: subscription.map(|found| Reference::new(found.id, &found.name)),
            site: site.map(|found| Reference::new(found.id, &found.name)),
            zone: zone.map(|found| Reference::new(found.id, &found.name)),
            notes: more.notes.to_string(),
            threat_intel_mode: more.threat_intel.as_str(),
            quiet: QuietDocument::of(&more.quiet, at),
            activation: more.activation.as_ref().map(|activation| ActivationDocument::of(activation, at)),
            credentials: more.credentials.iter().map(CredentialDocument::of).collect(),
            attempts: more.attempts.iter().map(AttemptDocument::of).collect(),
        }
    }
}

impl ActivationDocument {
    fn of(activation: &Activation, at: UnixMillis) -> ActivationDocument {
        let used = activation.used.as_ref();
        ActivationDocument {
            generation: activation.generation,
            issued_at: rfc3339(activation.issued_at),
            expires_at: rfc3339(activation.expires_at),
            state: match used {
                Some(_) => "used",
                None if at >= activation.expires_at => "expired",
                None => "waiting",
            },
            used_at: used.map(|used| rfc3339(used.at)),
            used_from: used.and_then(|used| used.from.as_ref()).map(ToString::to_string),
        }
    }
}

impl CredentialDocument {
    fn of(credential: &Credential) -> CredentialDocument {
        CredentialDocument {
            serial: credential.serial.to_string(),
            not_before: rfc3339(credential.not_before),
            not_after: rfc3339(credential.not_after),
        }
    }
}

impl AttemptDocument {
    fn of(attempt: &Attempt) -> AttemptDocument {
        AttemptDocument {
            at: rfc3339(attempt.at),
            from: attempt.from.to_string(),
            code: attempt.code.to_string(),
            detail: attempt.detail.to_string(),
        }
    }
}

/// A sensor's entity tag: what people edit, and its lifecycle. Refused enrolments and renewed certificates leave it as it
/// is, so that a machine that knocks keeps nobody from editing.
pub(in crate::http) fn sensor_tag(sensor: &Sensor) -> ETag {
    let more = &sensor.more;
    let generation = more.activation.as_ref().map(|activation| activation.generation);
    let declared = (sensor.zone.0, &*sensor.name, sensor.kind.as_str(), sensor.lifecycle.as_str());
    let said = (&*more.notes, more.threat_intel.as_str(), generation);
    ETag::of(&(declared, said, quiet_tag(&more.quiet), policy_tag(&more.policy)))
}

/// What is said of quiet times, for a tag.
pub(super) fn quiet_tag(quiet: &Quiet) -> impl Serialize {
    let mute = quiet.mute.as_ref().map(|mute| (mute.until.map(|until| until.0), mute.reason.to_string()));
    let window = |w: &Window| (w.id, w.from.0, w.until.0, w.reason.to_string());
    (mute, quiet.windows.iter().map(window).collect::<Vec<_>>())
}

/// What is said of numbers, for a tag.
pub(super) fn policy_tag(policy: &Overrides) -> impl Serialize {
    let numbers = policy.numbers.iter();
    let numbers = numbers.map(|(setting, value)| (setting.rule().code(), setting.key(), value.to_bits()));
    (numbers.collect::<Vec<_>>(), policy.interval.map(|interval| interval.as_nanos().to_string()))
}

/// A sensor's type, as bodies have it.
#[derive(Clone, Copy, Debug, serde::Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = SensorType)]
pub(in crate::http) enum TypeName {
    OtCloud,
    OtLocal,
    EnterpriseIot,
}

impl From<TypeName> for SensorType {
    fn from(name: TypeName) -> SensorType {
        match name {
            TypeName::OtCloud => SensorType::OtCloud,
            TypeName::OtLocal => SensorType::OtLocal,
            TypeName::EnterpriseIot => SensorType::EnterpriseIot,
        }
    }
}

/// How threat intelligence reaches a sensor, as bodies have it.
#[derive(Clone, Copy, Debug, serde::Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = ThreatIntelMode)]
pub(in crate::http) enum ThreatIntelName {
    Automatic,
    Manual,
}

impl From<ThreatIntelName> for crate::fleet::ThreatIntelMode {
    fn from(name: ThreatIntelName) -> crate::fleet::ThreatIntelMode {
        match name {
            ThreatIntelName::Automatic => crate::fleet::ThreatIntelMode::Automatic,
            ThreatIntelName::Manual => crate::fleet::ThreatIntelMode::Manual,
        }
    }
}
