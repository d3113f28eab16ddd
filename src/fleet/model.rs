//! The documents of the register.

use std::sync::{Arc, LazyLock};

use super::details::{Overrides, SensorMore, SiteAbout};
use crate::live::{Lifecycle, SensorType};
use crate::wire::id::{GatewayId, SensorId, SiteId, SubscriptionId, ZoneId};

/// Name of the built-in site of each subscription that holds its enterprise-IoT sensors.
pub const ENTERPRISE_SITE_NAME: &str = "Enterprise network";
/// Name of the zone that the built-in site starts with.
pub const ENTERPRISE_ZONE_NAME: &str = "Default";

/// Who owns sites and sensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// What people call it; one of a kind.
    pub name: Arc<str>,
    /// Numbers said for all its sensors.
    pub policy: Overrides,
}

/// Which sensors a site may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SiteKind {
    /// OT sensors.
    Ot,
    /// Enterprise-IoT sensors; built in, one in each subscription.
    Enterprise,
}

impl SiteKind {
    /// The site kind that a sensor of this type belongs in.
    pub fn of(kind: SensorType) -> SiteKind {
        match kind {
            SensorType::EnterpriseIot => SiteKind::Enterprise,
            SensorType::OtCloud | SensorType::OtLocal => SiteKind::Ot,
        }
    }
}

/// A place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its id.
    pub id: SiteId,
    /// Whose it is.
    pub subscription: SubscriptionId,
    /// What people call it; one of a kind in its subscription.
    pub name: Arc<str>,
    /// Which sensors it may hold.
    pub kind: SiteKind,
    /// What people say of it.
    pub about: Arc<SiteAbout>,
}

/// A segment in a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its id.
    pub id: ZoneId,
    /// Where it lies.
    pub site: SiteId,
    /// What people call it; one of a kind in its site.
    pub name: Arc<str>,
    /// Numbers said for all its sensors.
    pub policy: Overrides,
}

/// A sensor as declared. What it says about itself (version, counters, health) is live state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sensor {
    /// Its id, for ever.
    pub id: SensorId,
    /// Where it stands.
    pub zone: ZoneId,
    /// What people call it; one of a kind in its site.
    pub name: Arc<str>,
    /// What it is.
    pub kind: SensorType,
    /// Where its life stands.
    pub lifecycle: Lifecycle,
    /// The rest.
    pub more: Arc<SensorMore>,
}

impl Sensor {
    /// What a sensor has of which nobody said more: one for all of them.
    pub fn plain() -> Arc<SensorMore> {
        static PLAIN: LazyLock<Arc<SensorMore>> = LazyLock::new(Arc::default);
        Arc::clone(&PLAIN)
    }
}

/// A relay and the sites that it may speak for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its id.
    pub id: GatewayId,
    /// What people call it; one of a kind.
    pub name: Arc<str>,
    /// Sites whose sensors' heartbeats it may send; sorted, each once.
    pub sites: Arc<[SiteId]>,
}

/// The built-in enterprise site of a subscription. Derived, so that replaying a log and asking for it
/// need no look-up and no random number.
pub fn enterprise_site(subscription: SubscriptionId) -> SiteId {
    SiteId(derived(subscription.0, *b"ent-site"))
}

/// The zone that the built-in enterprise site starts with.
pub fn enterprise_zone(subscription: SubscriptionId) -> ZoneId {
    ZoneId(derived(subscription.0, *b"ent-zone"))
}

/// Another id of the same form: the version nibble becomes 8 ("made by us"), the tail is mixed.
fn derived(mut id: [u8; 16], salt: [u8; 8]) -> [u8; 16] {
    for (byte, salt) in id[8..].iter_mut().zip(salt) {
        *byte ^= salt & 0x3f;
    }
    id[6] = (id[6] & 0x0f) | 0x80;
    id
}
