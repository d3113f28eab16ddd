//! What can be asked of the register. One closed list; the next features append to it.

use crate::live::{Lifecycle, SensorType};
use crate::wire::id::{GatewayId, SensorId, SiteId, SubscriptionId, ZoneId};

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
    /// Another name for it.
    RenameSite { id: SiteId, name: String },
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
    /// Another name for it.
    RenameSensor { id: SensorId, name: String },
    /// To another zone, also of another site or subscription. History and identity stay.
    MoveSensor { id: SensorId, zone: ZoneId },
    /// The next step of its life; deleting is [`Command::DeleteSensor`].
    SetLifecycle { id: SensorId, lifecycle: Lifecycle },
    /// Gone for ever: its id never comes back.
    DeleteSensor { id: SensorId },
    /// A new gateway.
    AddGateway { id: GatewayId, name: String, sites: Vec<SiteId> },
    /// Another name for it.
    RenameGateway { id: GatewayId, name: String },
    /// The sites that it may speak for, all of them.
    SetGatewaySites { id: GatewayId, sites: Vec<SiteId> },
    /// Gone.
    DeleteGateway { id: GatewayId },
}

impl Command {
    /// Its stable name, as the audit log has it.
    pub const fn action(&self) -> &'static str {
        match self {
            Command::AddSubscription { .. } => "add-subscription",
            Command::RenameSubscription { .. } => "rename-subscription",
            Command::DeleteSubscription { .. } => "delete-subscription",
            Command::AddSite { .. } => "add-site",
            Command::RenameSite { .. } => "rename-site",
            Command::DeleteSite { .. } => "delete-site",
            Command::AddZone { .. } => "add-zone",
            Command::RenameZone { .. } => "rename-zone",
            Command::DeleteZone { .. } => "delete-zone",
            Command::AddSensor { .. } => "add-sensor",
            Command::RenameSensor { .. } => "rename-sensor",
            Command::MoveSensor { .. } => "move-sensor",
            Command::SetLifecycle { .. } => "set-lifecycle",
            Command::DeleteSensor { .. } => "delete-sensor",
            Command::AddGateway { .. } => "add-gateway",
            Command::RenameGateway { .. } => "rename-gateway",
            Command::SetGatewaySites { .. } => "set-gateway-sites",
            Command::DeleteGateway { .. } => "delete-gateway",
        }
    }
}
