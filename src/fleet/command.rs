//! What can be asked of the register. One closed list; the next features append to it.

use std::collections::BTreeMap;

use super::access::{Grant, Token, User};
use super::change::Event;
use super::details::{Attempt, Credential, Mute, Overrides, ThreatIntelMode, TokenHash};
use crate::live::{Lifecycle, SensorType};
use crate::time::UnixMillis;
use crate::wire::id::{GatewayId, SensorId, SiteId, SubscriptionId, TokenId, UserId, ZoneId};

/// Where something is said: a policy, a mute, a maintenance window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "one variant a level")]
pub enum Place {
    Subscription(SubscriptionId),
    Site(SiteId),
    Zone(ZoneId),
    Sensor(SensorId),
}

/// What changes of a site; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the document")]
pub struct SiteEdit {
    pub name: Option<String>,
    pub tags: Option<BTreeMap<String, String>>,
    pub owners: Option<Vec<String>>,
}

impl SiteEdit {
    /// Another name and nothing else.
    pub fn named(name: impl Into<String>) -> SiteEdit {
        SiteEdit { name: Some(name.into()), ..SiteEdit::default() }
    }
}

/// What changes of a sensor; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the document")]
pub struct SensorEdit {
    pub name: Option<String>,
    pub notes: Option<String>,
    pub threat_intel: Option<ThreatIntelMode>,
}

impl SensorEdit {
    /// Another name and nothing else.
    pub fn named(name: impl Into<String>) -> SensorEdit {
        SensorEdit { name: Some(name.into()), ..SensorEdit::default() }
    }
}

/// What changes of a user; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the document")]
pub struct UserEdit {
    pub name: Option<String>,
    pub full_name: Option<String>,
    /// `Some(None)`: no password any more.
    pub password: Option<Option<String>>,
    pub grants: Option<Vec<Grant>>,
    pub disabled: Option<bool>,
}

/// One wish of an operator or of the server. Ids of new things are given, never made here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what they are; their documents explain them")]
pub enum Command {
    /// A new subscription, with its built-in enterprise site.
    AddSubscription { id: SubscriptionId, name: String },
    /// Another name for it.
    RenameSubscription { id: SubscriptionId, name: String },
    /// Gone, when it holds nothing but the empty built-in site.
    DeleteSubscription { id: SubscriptionId },
    /// A new OT site.
    AddSite { id: SiteId, subscription: SubscriptionId, name: String },
    /// Another name, other tags, other owners: together.
    EditSite { id: SiteId, edit: SiteEdit },
    /// Gone, when it has no zones and no gateway speaks for it.
    DeleteSite { id: SiteId },
    /// A new zone.
    AddZone { id: ZoneId, site: SiteId, name: String },
    /// Another name for it.
    RenameZone { id: ZoneId, name: String },
    /// Gone, when it holds no sensors.
    DeleteZone { id: ZoneId },
    /// A new sensor. `lifecycle` is where it starts: pending activation, or active when it is already known.
    AddSensor { id: SensorId, zone: ZoneId, name: String, kind: SensorType, lifecycle: Lifecycle },
    /// Another name, notes, way of threat intelligence: together.
    EditSensor { id: SensorId, edit: SensorEdit },
    /// To another zone, also of another site or subscription. History and identity stay.
    MoveSensor { id: SensorId, zone: ZoneId },
    /// From cloud-connected to locally managed or back. Back without a certificate, it waits for reactivation.
    SetMode { id: SensorId, kind: SensorType },
    /// The next step of its life; deleting is [`Command::DeleteSensor`].
    SetLifecycle { id: SensorId, lifecycle: Lifecycle },
    /// Gone for ever: its id never comes back.
    DeleteSensor { id: SensorId },
    /// An activation file with this token was made; those before are void.
    IssueActivation { id: SensorId, token: TokenHash, expires_at: UnixMillis },
    /// A sensor used its activation file and has a certificate for `key`.
    Activate {
        id: SensorId,
        token: TokenHash,
        key: [u8; 32],
        credential: Option<Credential>,
        from: Option<String>,
    },
    /// A certificate was made for it by hand, on the server's own machine.
    RecordCredential { id: SensorId, credential: Credential },
    /// An active sensor that showed one certificate has a new one.
    Renew { id: SensorId, shown: Credential, credential: Credential },
    /// Its certificates are good for nothing any more; it waits for reactivation.
    RevokeCredentials { id: SensorId },
    /// An enrolment of it was refused.
    NoteAttempt { id: SensorId, attempt: Attempt },
    /// The numbers said at a place, all of them.
    SetPolicy { place: Place, policy: Overrides },
    /// Mutes a sensor or site, or ends that.
    SetMute { place: Place, mute: Option<Mute> },
    /// A maintenance window of a sensor or site.
    AddWindow { place: Place, from: UnixMillis, until: UnixMillis, reason: String },
    /// Gone.
    RemoveWindow { place: Place, id: u32 },
    /// A new gateway.
    AddGateway { id: GatewayId, name: String, sites: Vec<SiteId> },
    /// Another name for it.
    RenameGateway { id: GatewayId, name: String },
    /// The sites that it may speak for, all of them.
    SetGatewaySites { id: GatewayId, sites: Vec<SiteId> },
    /// Gone.
    DeleteGateway { id: GatewayId },
    /// Somebody who may sign in.
    AddUser { user: User },
    /// Another name, password, grants.
    EditUser { id: UserId, edit: UserEdit },
    /// Gone, with all their tokens.
    DeleteUser { id: UserId },
    /// An API token.
    AddToken { token: Token },
    /// Good for nothing any more.
    DeleteToken { id: TokenId },
    /// It was used.
    TouchToken { id: TokenId, at: UnixMillis },
    /// Something happened that belongs into the audit log.
    Record(Event),
}

impl Command {
    /// Its stable name, as the audit log has it.
    pub const fn action(&self) -> &'static str {
        match self {
            Command::AddSubscription { .. } => "add-subscription",
            Command::RenameSubscription { .. } => "rename-subscription",
            Command::DeleteSubscription { .. } => "delete-subscription",
            Command::AddSite { .. } => "add-site",
            Command::EditSite { .. } => "edit-site",
            Command::DeleteSite { .. } => "delete-site",
            Command::AddZone { .. } => "add-zone",
            Command::RenameZone { .. } => "rename-zone",
            Command::DeleteZone { .. } => "delete-zone",
            Command::AddSensor { .. } => "add-sensor",
            Command::EditSensor { .. } => "edit-sensor",
            Command::MoveSensor { .. } => "move-sensor",
            Command::SetMode { .. } => "set-mode",
            Command::SetLifecycle { .. } => "set-lifecycle",
            Command::DeleteSensor { .. } => "delete-sensor",
            Command::AddGateway { .. } => "add-gateway",
            Command::RenameGateway { .. } => "rename-gateway",
            Command::SetGatewaySites { .. } => "set-gateway-sites",
            Command::DeleteGateway { .. } => "delete-gateway",
            Command::IssueActivation { .. } => "issue-activation",
            Command::Activate { .. } => "activate",
            Command::RecordCredential { .. } => "record-credential",
            Command::Renew { .. } => "renew",
            Command::RevokeCredentials { .. } => "revoke-credentials",
            Command::NoteAttempt { .. } => "refuse-enrolment",
            Command::SetPolicy { .. } => "set-policy",
            Command::SetMute { mute: Some(_), .. } => "mute",
            Command::SetMute { mute: None, .. } => "unmute",
            Command::AddWindow { .. } => "add-window",
            Command::RemoveWindow { .. } => "remove-window",
            Command::AddUser { .. } => "add-user",
            Command::EditUser { .. } => "edit-user",
            Command::DeleteUser { .. } => "delete-user",
            Command::AddToken { .. } => "add-token",
            Command::DeleteToken { .. } => "delete-token",
            Command::TouchToken { .. } => "touch-token",
            Command::Record(event) => event.code.as_str(),
        }
    }
}
