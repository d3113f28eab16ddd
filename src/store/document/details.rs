//! What schema version 2 added to the documents: owned, because most documents have little of it.

use std::sync::Arc;
use std::time::Duration;

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use super::{Doc, bad, have};
use crate::fleet::{
    About, Activation, Attempt, Credential, Event, EventCode, Grant, Mute, Overrides, Quiet, Role, Scope,
    Sensor, SensorMore, SiteAbout, ThreatIntelMode, Token, TokenHash, Used, User, Window,
};
use crate::store::error::StoreError;
use crate::time::UnixMillis;
use crate::wire::id::{SensorId, SiteId, SubscriptionId, TokenId, UserId};

/// Rules and keys are text, so that numbers of a rule that is gone or not known yet don't make the register unreadable.
/// They are kept, unused: a change says what was before it, and must say the same whoever writes it.
#[derive(Encode, Decode)]
pub(super) struct OverridesDoc {
    #[n(0)]
    numbers: Vec<NumberDoc>,
    #[n(1)]
    interval_ms: Option<u64>,
}

#[derive(Encode, Decode)]
struct NumberDoc {
    #[n(0)]
    rule: String,
    #[n(1)]
    key: String,
    #[n(2)]
    value: f64,
}

impl OverridesDoc {
    pub(super) fn of(overrides: &Overrides) -> Option<OverridesDoc> {
        if *overrides == Overrides::default() {
            return None;
        }
        let number = |(setting, value): (crate::health::Setting, f64)| NumberDoc {
            rule: setting.rule().code().to_owned(),
            key: setting.key().to_owned(),
            value,
        };
        let unknown = overrides.numbers.unknown().iter().map(|number| NumberDoc {
            rule: number.rule.to_string(),
            key: number.key.to_string(),
            value: f64::from_bits(number.bits),
        });
        Some(OverridesDoc {
            numbers: overrides.numbers.iter().map(number).chain(unknown).collect(),
            interval_ms: overrides.interval.map(|interval| interval.as_millis() as u64),
        })
    }

    pub(super) fn read(document: Option<&OverridesDoc>) -> Result<Overrides, StoreError> {
        let Some(document) = document else { return Ok(Overrides::default()) };
        let mut overrides =
            Overrides { interval: document.interval_ms.map(Duration::from_millis), ..Overrides::default() };
        for number in &document.numbers {
            overrides.numbers.set_stored(&number.rule, &number.key, number.value);
        }
        Ok(overrides)
    }
}

#[derive(Encode, Decode)]
struct QuietDoc {
    #[n(0)]
    mute: Option<MuteDoc>,
    #[n(1)]
    windows: Vec<WindowDoc>,
}

#[derive(Encode, Decode)]
struct MuteDoc {
    #[n(0)]
    until: Option<i64>,
    #[n(1)]
    reason: String,
}

#[derive(Encode, Decode)]
struct WindowDoc {
    #[n(0)]
    id: u32,
    #[n(1)]
    from: i64,
    #[n(2)]
    until: i64,
    #[n(3)]
    reason: String,
}

impl QuietDoc {
    fn of(quiet: &Quiet) -> Option<QuietDoc> {
        if *quiet == Quiet::default() {
            return None;
        }
        let mute = quiet.mute.as_ref();
        Some(QuietDoc {
            mute: mute.map(|m| MuteDoc { until: m.until.map(|until| until.0), reason: m.reason.to_string() }),
            windows: (quiet.windows.iter())
                .map(|w| WindowDoc {
                    id: w.id,
                    from: w.from.0,
                    until: w.until.0,
                    reason: w.reason.to_string(),
                })
                .collect(),
        })
    }

    fn read(document: Option<&QuietDoc>) -> Quiet {
        let Some(document) = document else { return Quiet::default() };
        let mute = document.mute.as_ref();
        Quiet {
            mute: mute.map(|m| Mute { until: m.until.map(UnixMillis), reason: Arc::from(&*m.reason) }),
            windows: (document.windows.iter())
                .map(|w| Window {
                    id: w.id,
                    from: UnixMillis(w.from),
                    until: UnixMillis(w.until),
                    reason: Arc::from(&*w.reason),
                })
                .collect(),
        }
    }
}

#[derive(Encode, Decode)]
pub(super) struct SiteAboutDoc {
    #[n(0)]
    tags: Vec<(String, String)>,
    #[n(1)]
    owners: Vec<String>,
    #[n(2)]
    policy: Option<OverridesDoc>,
    #[n(3)]
    quiet: Option<QuietDoc>,
}

impl SiteAboutDoc {
    pub(super) fn of(about: &SiteAbout) -> Option<SiteAboutDoc> {
        if *about == SiteAbout::default() {
            return None;
        }
        Some(SiteAboutDoc {
            tags: about.tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            owners: about.owners.iter().map(ToString::to_string).collect(),
            policy: OverridesDoc::of(&about.policy),
            quiet: QuietDoc::of(&about.quiet),
        })
    }

    pub(super) fn read(document: Option<&SiteAboutDoc>) -> Result<Arc<SiteAbout>, StoreError> {
        let Some(document) = document else { return Ok(Arc::default()) };
        let tags = document.tags.iter().map(|(key, value)| (Arc::from(&**key), Arc::from(&**value)));
        Ok(Arc::new(SiteAbout {
            tags: tags.collect(),
            owners: document.owners.iter().map(|owner| Arc::from(&**owner)).collect(),
            policy: OverridesDoc::read(document.policy.as_ref())?,
            quiet: QuietDoc::read(document.quiet.as_ref()),
        }))
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct MoreDoc {
    #[n(0)]
    notes: Option<String>,
    #[n(1)]
    manual_threat_intel: Option<bool>,
    #[n(2)]
    policy: Option<OverridesDoc>,
    #[n(3)]
    quiet: Option<QuietDoc>,
    #[n(4)]
    activation: Option<ActivationDoc>,
    #[n(5)]
    credentials: Option<Vec<CredentialDoc>>,
    #[n(6)]
    attempts: Option<Vec<AttemptDoc>>,
}

#[derive(Encode, Decode)]
struct ActivationDoc {
    #[n(0)]
    token: ByteArray<32>,
    #[n(1)]
    generation: u32,
    #[n(2)]
    voided: Vec<ByteArray<32>>,
    #[n(3)]
    issued_at: i64,
    #[n(4)]
    expires_at: i64,
    #[n(5)]
    used: Option<UsedDoc>,
}

#[derive(Encode, Decode)]
struct UsedDoc {
    #[n(0)]
    at: i64,
    #[n(1)]
    key: ByteArray<32>,
    #[n(2)]
    from: Option<String>,
}

#[derive(Encode, Decode)]
struct CredentialDoc {
    #[n(0)]
    serial: String,
    #[n(1)]
    not_before: i64,
    #[n(2)]
    not_after: i64,
}

#[derive(Encode, Decode)]
struct AttemptDoc {
    #[n(0)]
    at: i64,
    #[n(1)]
    from: String,
    #[n(2)]
    code: String,
    #[n(3)]
    detail: String,
}

impl MoreDoc {
    pub(super) fn of(more: &SensorMore) -> Option<MoreDoc> {
        if *more == SensorMore::default() {
            return None;
        }
        let credential = |c: &Credential| CredentialDoc {
            serial: c.serial.to_string(),
            not_before: c.not_before.0,
            not_after: c.not_after.0,
        };
        let attempt = |a: &Attempt| AttemptDoc {
            at: a.at.0,
            from: a.from.to_string(),
            code: a.code.to_string(),
            detail: a.detail.to_string(),
        };
        Some(MoreDoc {
            notes: (!more.notes.is_empty()).then(|| more.notes.to_string()),
            manual_threat_intel: (more.threat_intel == ThreatIntelMode::Manual).then_some(true),
            policy: OverridesDoc::of(&more.policy),
            quiet: QuietDoc::of(&more.quiet),
            activation: more.activation.as_ref().map(ActivationDoc::of),
            credentials: some(more.credentials.iter().map(credential).collect()),
            attempts: some(more.attempts.iter().map(attempt).collect()),
        })
    }

    pub(super) fn read(document: Option<&MoreDoc>) -> Result<Arc<SensorMore>, StoreError> {
        let Some(document) = document else { return Ok(Sensor::plain()) };
        let credential = |c: &CredentialDoc| Credential {
            serial: Arc::from(&*c.serial),
            not_before: UnixMillis(c.not_before),
            not_after: UnixMillis(c.not_after),
        };
        let attempt = |a: &AttemptDoc| Attempt {
            at: UnixMillis(a.at),
            from: Arc::from(&*a.from),
            code: Arc::from(&*a.code),
            detail: Arc::from(&*a.detail),
        };
        Ok(Arc::new(SensorMore {
            notes: Arc::from(document.notes.as_deref().unwrap_or_default()),
            threat_intel: match document.manual_threat_intel {
                Some(true) => ThreatIntelMode::Manual,
                _ => ThreatIntelMode::Automatic,
            },
            policy: OverridesDoc::read(document.policy.as_ref())?,
            quiet: QuietDoc::read(document.quiet.as_ref()),
            activation: document.activation.as_ref().map(ActivationDoc::read),
            credentials: document.credentials.iter().flatten().map(credential).collect(),
            attempts: document.attempts.iter().flatten().map(attempt).collect(),
        }))
    }
}

impl ActivationDoc {
    fn of(activation: &Activation) -> ActivationDoc {
        let used = activation.used.as_ref();
        ActivationDoc {
            token: activation.token.0.into(),
            generation: activation.generation,
            voided: activation.voided.iter().map(|token| token.0.into()).collect(),
            issued_at: activation.issued_at.0,
            expires_at: activation.expires_at.0,
            used: used.map(|used| UsedDoc {
                at: used.at.0,
                key: used.key.into(),
                from: used.from.as_deref().map(str::to_owned),
            }),
        }
    }

    fn read(&self) -> Activation {
        let used = self.used.as_ref();
        Activation {
            token: TokenHash(*self.token),
            generation: self.generation,
            voided: self.voided.iter().map(|token| TokenHash(**token)).collect(),
            issued_at: UnixMillis(self.issued_at),
            expires_at: UnixMillis(self.expires_at),
            used: used.map(|used| Used {
                at: UnixMillis(used.at),
                key: *used.key,
                from: used.from.as_deref().map(Arc::from),
            }),
        }
    }
}

/// Role, then scope: 0 all, 1 subscription, 2 site.
#[derive(Encode, Decode)]
struct GrantDoc {
    #[n(0)]
    role: u8,
    #[n(1)]
    scope: u8,
    #[n(2)]
    of: Option<ByteArray<16>>,
}

impl GrantDoc {
    fn of(grant: &Grant) -> GrantDoc {
        let role = match grant.role {
            Role::Reader => 0,
            Role::Operator => 1,
            Role::Administrator => 2,
        };
        let (scope, of) = match grant.scope {
            Scope::All => (0, None),
            Scope::Subscription(id) => (1, Some(id.0.into())),
            Scope::Site(id) => (2, Some(id.0.into())),
        };
        GrantDoc { role, scope, of }
    }

    fn read(&self) -> Result<Grant, StoreError> {
        let role = match self.role {
            0 => Role::Reader,
            1 => Role::Operator,
            2 => Role::Administrator,
            other => return Err(bad(&format!("unknown role {other}"))),
        };
        let of = || have(self.of.as_ref()).map(|of| **of);
        let scope = match self.scope {
            0 => Scope::All,
            1 => Scope::Subscription(SubscriptionId(of()?)),
            2 => Scope::Site(SiteId(of()?)),
            other => return Err(bad(&format!("unknown scope {other}"))),
        };
        Ok(Grant { role, scope })
    }
}

#[derive(Encode, Decode)]
pub(super) struct UserDoc {
    #[n(0)]
    full_name: String,
    #[n(1)]
    password: Option<String>,
    #[n(2)]
    external: Option<(String, String)>,
    #[n(3)]
    grants: Vec<GrantDoc>,
    #[n(4)]
    disabled: bool,
}

impl UserDoc {
    pub(super) fn of(user: &User) -> UserDoc {
        let external = user.external.as_ref();
        UserDoc {
            full_name: user.full_name.to_string(),
            password: user.password.as_deref().map(str::to_owned),
            external: external.map(|(issuer, subject)| (issuer.to_string(), subject.to_string())),
            grants: user.grants.iter().map(GrantDoc::of).collect(),
            disabled: user.disabled,
        }
    }
}

pub(super) fn user(doc: &Doc<'_>, user: &UserDoc) -> Result<User, StoreError> {
    let external = user.external.as_ref();
    Ok(User {
        id: UserId(doc.id),
        name: Arc::from(doc.name),
        full_name: Arc::from(&*user.full_name),
        password: user.password.as_deref().map(Arc::from),
        external: external.map(|(issuer, subject)| (Arc::from(&**issuer), Arc::from(&**subject))),
        grants: user.grants.iter().map(GrantDoc::read).collect::<Result<_, _>>()?,
        disabled: user.disabled,
    })
}

#[derive(Encode, Decode)]
pub(super) struct TokenDoc {
    #[n(0)]
    hash: ByteArray<32>,
    #[n(1)]
    grants: Vec<GrantDoc>,
    #[n(2)]
    created: i64,
    #[n(3)]
    expires: i64,
    #[n(4)]
    last_used: Option<i64>,
}

impl TokenDoc {
    pub(super) fn of(token: &Token) -> TokenDoc {
        TokenDoc {
            hash: token.hash.0.into(),
            grants: token.grants.iter().map(GrantDoc::of).collect(),
            created: token.created.0,
            expires: token.expires.0,
            last_used: token.last_used.map(|at| at.0),
        }
    }
}

pub(super) fn token(doc: &Doc<'_>, token: &TokenDoc) -> Result<Token, StoreError> {
    Ok(Token {
        id: TokenId(doc.id),
        name: Arc::from(doc.name),
        owner: UserId(have(doc.parent)?),
        hash: TokenHash(*token.hash),
        grants: token.grants.iter().map(GrantDoc::read).collect::<Result<_, _>>()?,
        created: UnixMillis(token.created),
        expires: UnixMillis(token.expires),
        last_used: token.last_used.map(UnixMillis),
    })
}

/// The code is text: an event of a newer kind is no reason to refuse a log. It is shown as what it is, an unknown one,
/// with its code before its detail.
#[derive(Encode, Decode)]
pub(super) struct EventDoc {
    #[n(0)]
    code: String,
    /// Kind of the thing: 0 user, 1 sensor, 2 site.
    #[n(1)]
    kind: Option<u8>,
    #[n(2)]
    about: Option<ByteArray<16>>,
    #[n(3)]
    detail: String,
}

impl EventDoc {
    pub(super) fn of(event: &Event) -> EventDoc {
        let about = event.about.map(|about| match about {
            About::User(id) => (0, id.0),
            About::Sensor(id) => (1, id.0),
            About::Site(id) => (2, id.0),
        });
        EventDoc {
            code: event.code.as_str().to_owned(),
            kind: about.map(|(kind, _)| kind),
            about: about.map(|(_, id)| id.into()),
            detail: event.detail.clone(),
        }
    }

    pub(super) fn read(&self) -> Event {
        let known = EventCode::ALL.iter().find(|code| code.as_str() == self.code);
        let (code, detail) = match known {
            Some(code) => (*code, self.detail.clone()),
            None => (EventCode::Unknown, format!("{}: {}", self.code, self.detail)),
        };
        let about = match (self.kind, &self.about) {
            (Some(0), Some(id)) => Some(About::User(UserId(**id))),
            (Some(1), Some(id)) => Some(About::Sensor(SensorId(**id))),
            (Some(2), Some(id)) => Some(About::Site(SiteId(**id))),
            _ => None,
        };
        Event { code, about, detail }
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
