//! From names to commands: puts sensors and gateways into the register by the names of their places, making
//! what does not exist yet. `ca`, `demo` and `load` register through it.

use std::collections::HashMap;

use crate::fleet::{Command, Register, enterprise_site, enterprise_zone};
use crate::live::{Lifecycle, SensorType};
use crate::wire::id::{GatewayId, SensorId, SiteId, SubscriptionId, ZoneId};

/// The subscription that things belong to when nobody names one.
pub const SUBSCRIPTION: &str = "Default";

/// Plans commands against a register; knows what the commands before made.
pub struct Enlistment<'r> {
    register: &'r Register,
    subscription: SubscriptionId,
    sites: HashMap<String, SiteId>,
    zones: HashMap<(SiteId, String), ZoneId>,
    commands: Vec<Command>,
}

impl<'r> Enlistment<'r> {
    /// Starts with nothing planned but, where it is missing, the subscription.
    pub fn new(register: &'r Register) -> Enlistment<'r> {
        let mut commands = Vec::new();
        let subscription = match register.subscription_named(SUBSCRIPTION) {
            Some(subscription) => subscription.id,
            None => {
                let id = SubscriptionId::fresh();
                commands.push(Command::AddSubscription { id, name: SUBSCRIPTION.into() });
                id
            }
        };
        Enlistment { register, subscription, sites: HashMap::new(), zones: HashMap::new(), commands }
    }

    /// The site of this name, planned if it is not there.
    pub fn site(&mut self, name: &str) -> SiteId {
        if let Some(site) = self.register.site_named(self.subscription, name) {
            return site.id;
        }
        let (subscription, commands) = (self.subscription, &mut self.commands);
        *self.sites.entry(name.to_owned()).or_insert_with(|| {
            let id = SiteId::fresh();
            commands.push(Command::AddSite { id, subscription, name: name.to_owned() });
            id
        })
    }

    /// The zone of this name in a site, planned if it is not there.
    pub fn zone(&mut self, site: SiteId, name: &str) -> ZoneId {
        if let Some(zone) = self.register.zone_named(site, name) {
            return zone.id;
        }
        let commands = &mut self.commands;
        *self.zones.entry((site, name.to_owned())).or_insert_with(|| {
            let id = ZoneId::fresh();
            commands.push(Command::AddZone { id, site, name: name.to_owned() });
            id
        })
    }

    /// A sensor, active at once. Enterprise-IoT sensors go to their built-in site, whatever `site` says.
    pub fn sensor(&mut self, id: SensorId, name: &str, kind: SensorType, site: &str, zone: &str) {
        self.sensor_as(Lifecycle::Active, id, name, kind, site, zone);
    }

    /// A sensor that stands like this; otherwise like [`Enlistment::sensor`].
    pub fn sensor_as(
        &mut self,
        lifecycle: Lifecycle,
        id: SensorId,
        name: &str,
        kind: SensorType,
        site: &str,
        zone: &str,
    ) {
        let zone = match kind {
            SensorType::EnterpriseIot => enterprise_zone(self.subscription),
            SensorType::OtCloud | SensorType::OtLocal => {
                let site = self.site(site);
                self.zone(site, zone)
            }
        };
        // Only an active sensor can wait for another activation.
        let first = if lifecycle == Lifecycle::PendingActivation { lifecycle } else { Lifecycle::Active };
        self.commands.push(Command::AddSensor { id, zone, name: name.to_owned(), kind, lifecycle: first });
        if lifecycle != first {
            self.commands.push(Command::SetLifecycle { id, lifecycle });
        }
    }

    /// A gateway that may speak for these sites.
    pub fn gateway(&mut self, id: GatewayId, name: &str, sites: &[&str]) {
        let sites = sites.iter().map(|site| self.site(site)).collect();
        self.commands.push(Command::AddGateway { id, name: name.to_owned(), sites });
    }

    /// The built-in site of enterprise-IoT sensors.
    pub fn enterprise_site(&self) -> SiteId {
        enterprise_site(self.subscription)
    }

    /// What was planned, in order.
    pub fn into_commands(self) -> Vec<Command> {
        self.commands
    }
}
