//! From commands to changes or a refusal: every rule of the register stands here, once.

mod activation;
mod details;
mod levels;
mod people;

use std::fmt::Display;
use std::sync::Arc;

use super::change::{Actor, Batch};
use super::command::Command;
use super::details::Overrides;
use super::draft::{Draft, Scope};
use super::model::{
    ENTERPRISE_SITE_NAME, ENTERPRISE_ZONE_NAME, Gateway, Sensor, Site, SiteKind, Subscription, Zone,
    enterprise_site, enterprise_zone,
};
use super::name::check_name;
use super::refusal::{Refusal, RefusalCode, shown};
use super::register::Register;
use crate::limits::{
    COMMANDS_PER_BATCH_MAX, EVENT_DETAIL_BYTES_MAX, GATEWAY_SITES_MAX, GATEWAYS_MAX, SENSORS_EVER_MAX,
    SENSORS_MAX, SITES_MAX, ZONES_MAX,
};
use crate::live::{Lifecycle, SensorType};
use crate::time::UnixMillis;
use crate::wire::id::{GatewayId, SensorId, SiteId, SubscriptionId, ZoneId};

/// What [`Register::sift`] made of many commands: a batch of those that can be done, and why not the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sifted {
    /// Everything that can be done, in order.
    pub batch: Batch,
    /// What can't.
    pub refused: Vec<Refusal>,
}

impl Register {
    /// All of these commands as one batch, or the first refusal and nothing. A later command sees what the
    /// earlier ones do. Changes nothing here: make the batch durable, then [`Register::fold`] it.
    pub fn apply(&self, commands: &[Command], actor: Actor, at: UnixMillis) -> Result<Batch, Refusal> {
        let mut draft = Draft::new(self);
        within(COMMANDS_PER_BATCH_MAX, commands.len().saturating_sub(1), "commands")
            .map_err(|fault| fault.at(COMMANDS_PER_BATCH_MAX))?;
        for (index, command) in commands.iter().enumerate() {
            plan(&mut draft, command, at).map_err(|fault| fault.at(index))?;
        }
        Ok(Batch { at, actor, action: action_of(commands), changes: draft.into_changes() })
    }

    /// Those of these commands that can be done, as one batch, with a refusal for each of the rest. Also
    /// the dry run of a bulk change. What goes beyond [`COMMANDS_PER_BATCH_MAX`] is refused.
    pub fn sift(&self, commands: &[Command], actor: Actor, at: UnixMillis) -> Sifted {
        let mut draft = Draft::new(self);
        let mut refused = Vec::new();
        for (index, command) in commands.iter().enumerate() {
            let planned = within(COMMANDS_PER_BATCH_MAX, index, "commands");
            if let Err(fault) = planned.and_then(|()| plan(&mut draft, command, at)) {
                refused.push(fault.at(index));
            }
        }
        let batch = Batch { at, actor, action: action_of(commands), changes: draft.into_changes() };
        Sifted { batch, refused }
    }
}

fn action_of(commands: &[Command]) -> String {
    // What is only noted beside a change is not what was asked for.
    let noted = |command: &&Command| matches!(command, Command::Record(_));
    let only_notes = commands.iter().all(|command| noted(&command));
    let mut actions = commands.iter().filter(|c| only_notes || !noted(c)).map(Command::action);
    match actions.next() {
        Some(first) if actions.all(|action| action == first) => first.to_owned(),
        _ => "bulk".to_owned(),
    }
}

/// A refusal that does not know its place yet.
struct Fault {
    code: RefusalCode,
    field: &'static str,
    value: String,
    right: String,
}

impl Fault {
    fn at(self, index: usize) -> Refusal {
        let Fault { code, field, value, right } = self;
        Refusal { index, code, field, value, right }
    }
}

fn fault<T>(
    code: RefusalCode,
    field: &'static str,
    value: impl Display,
    right: impl Into<String>,
) -> Result<T, Fault> {
    Err(Fault { code, field, value: value.to_string(), right: right.into() })
}

/// Every check of a command comes before its first `put`: a refused command leaves the draft as it was.
fn plan(draft: &mut Draft<'_>, command: &Command, at: UnixMillis) -> Result<(), Fault> {
    match command {
        Command::AddSubscription { id, name } => add_subscription(draft, *id, name),
        Command::RenameSubscription { id, name } => {
            let before = subscription(draft, *id, "id")?;
            let name = rename(draft, Scope::Subscriptions, &before.name, name)?;
            draft.put_subscription(Some(before.clone()), Some(Subscription { name, ..before }));
            Ok(())
        }
        Command::DeleteSubscription { id } => delete_subscription(draft, *id),
        Command::AddSite { id, subscription: owner, name } => add_site(draft, *id, *owner, name),
        Command::EditSite { id, edit } => details::edit_site(draft, *id, edit),
        Command::DeleteSite { id } => delete_site(draft, *id),
        Command::AddZone { id, site: place, name } => {
            site(draft, *place, "site")?;
            if draft.zone(*id).is_some() {
                return fault(RefusalCode::IdTaken, "id", id, "a fresh id");
            }
            within(ZONES_MAX, draft.zones_count(), "zones")?;
            let name = new_name(draft, Scope::Zones(*place), name)?;
            draft.put_zone(None, Some(Zone { id: *id, site: *place, name, policy: Overrides::default() }));
            Ok(())
        }
        Command::RenameZone { id, name } => {
            let before = zone(draft, *id, "id")?;
            let name = rename(draft, Scope::Zones(before.site), &before.name, name)?;
            draft.put_zone(Some(before.clone()), Some(Zone { name, ..before }));
            Ok(())
        }
        Command::DeleteZone { id } => delete_zone(draft, *id),
        Command::AddSensor { id, zone, name, kind, lifecycle } => {
            add_sensor(draft, *id, *zone, name, *kind, *lifecycle)
        }
        Command::EditSensor { id, edit } => details::edit_sensor(draft, *id, edit),
        Command::SetMode { id, kind } => activation::set_mode(draft, *id, *kind),
        Command::MoveSensor { id, zone } => move_sensor(draft, *id, *zone),
        Command::SetLifecycle { id, lifecycle } => set_lifecycle(draft, *id, *lifecycle),
        Command::DeleteSensor { id } => {
            let before = sensor(draft, *id)?;
            draft.put_sensor(Some(before.clone()), Sensor { lifecycle: Lifecycle::Deleted, ..before });
            Ok(())
        }
        Command::AddGateway { id, name, sites } => add_gateway(draft, *id, name, sites),
        Command::RenameGateway { id, name } => {
            let before = gateway(draft, *id)?;
            let name = rename(draft, Scope::Gateways, &before.name, name)?;
            draft.put_gateway(Some(before.clone()), Some(Gateway { name, ..before }));
            Ok(())
        }
        Command::SetGatewaySites { id, sites } => {
            let before = gateway(draft, *id)?;
            let sites = gateway_sites(draft, sites)?;
            draft.put_gateway(Some(before.clone()), Some(Gateway { sites, ..before }));
            Ok(())
        }
        Command::DeleteGateway { id } => {
            let before = gateway(draft, *id)?;
            draft.put_gateway(Some(before), None);
            Ok(())
        }
        Command::IssueActivation { .. }
        | Command::Activate { .. }
        | Command::RecordCredential { .. }
        | Command::Renew { .. }
        | Command::RevokeCredentials { .. }
        | Command::NoteAttempt { .. } => activation::plan(draft, command, at),
        Command::SetPolicy { place, policy } => details::set_policy(draft, *place, policy),
        Command::SetMute { place, mute } => details::set_mute(draft, *place, mute.as_ref(), at),
        Command::AddWindow { place, from, until, reason } => {
            details::add_window(draft, *place, *from, *until, reason, at)
        }
        Command::RemoveWindow { place, id } => details::remove_window(draft, *place, *id, at),
        Command::AddUser { .. }
        | Command::EditUser { .. }
        | Command::DeleteUser { .. }
        | Command::AddToken { .. }
        | Command::DeleteToken { .. }
        | Command::TouchToken { .. } => people::plan(draft, command),
        Command::Record(event) => {
            let mut event = event.clone();
            event.detail.truncate(event.detail.floor_char_boundary(EVENT_DETAIL_BYTES_MAX));
            draft.put_event(event);
            Ok(())
        }
    }
}

fn add_subscription(draft: &mut Draft<'_>, id: SubscriptionId, name: &str) -> Result<(), Fault> {
    let (site, zone) = (enterprise_site(id), enterprise_zone(id));
    if draft.subscription(id).is_some() || draft.site(site).is_some() || draft.zone(zone).is_some() {
        return fault(RefusalCode::IdTaken, "id", id, "a fresh id");
    }
    within(SITES_MAX, draft.sites_count(), "sites")?;
    within(ZONES_MAX, draft.zones_count(), "zones")?;
    let name = new_name(draft, Scope::Subscriptions, name)?;
    let policy = Overrides::default();
    draft.put_subscription(None, Some(Subscription { id, name, policy: policy.clone() }));
    let (kind, about) = (SiteKind::Enterprise, Arc::default());
    let name = Arc::from(ENTERPRISE_SITE_NAME);
    draft.put_site(None, Some(Site { id: site, subscription: id, name, kind, about }));
    draft.put_zone(None, Some(Zone { id: zone, site, name: Arc::from(ENTERPRISE_ZONE_NAME), policy }));
    Ok(())
}

fn delete_subscription(draft: &mut Draft<'_>, id: SubscriptionId) -> Result<(), Fault> {
    let before = subscription(draft, id, "id")?;
    let built_in = enterprise_site(id);
    let zones = draft.zones_of(built_in);
    let sites = draft.sites_of(id).into_iter().filter(|&site| site != built_in).count();
    let sensors: usize = zones.iter().map(|&zone| draft.zone_sensors_count(zone)).sum();
    if sites + sensors > 0 {
        let value = format!("{id} with {sites} sites and {sensors} enterprise sensors");
        return fault(RefusalCode::NotEmpty, "id", value, "an empty subscription: delete those first");
    }
    no_gateway(draft, built_in)?;
    for zone in zones {
        draft.put_zone(draft.zone(zone).cloned(), None);
    }
    draft.put_site(draft.site(built_in).cloned(), None);
    draft.put_subscription(Some(before), None);
    Ok(())
}

fn add_site(draft: &mut Draft<'_>, id: SiteId, owner: SubscriptionId, name: &str) -> Result<(), Fault> {
    subscription(draft, owner, "subscription")?;
    if draft.site(id).is_some() {
        return fault(RefusalCode::IdTaken, "id", id, "a fresh id");
    }
    within(SITES_MAX, draft.sites_count(), "sites")?;
    let name = new_name(draft, Scope::Sites(owner), name)?;
    draft.put_site(
        None,
        Some(Site { id, subscription: owner, name, kind: SiteKind::Ot, about: Arc::default() }),
    );
    Ok(())
}

fn delete_site(draft: &mut Draft<'_>, id: SiteId) -> Result<(), Fault> {
    let before = own_site(draft, id)?;
    let zones = draft.zones_of(id).len();
    if zones > 0 {
        let value = format!("{id} with {zones} zones");
        return fault(RefusalCode::NotEmpty, "id", value, "an empty site: delete its zones first");
    }
    no_gateway(draft, id)?;
    draft.put_site(Some(before), None);
    Ok(())
}

fn delete_zone(draft: &mut Draft<'_>, id: ZoneId) -> Result<(), Fault> {
    let before = zone(draft, id, "id")?;
    let owner = site(draft, before.site, "site")?.subscription;
    if id == enterprise_zone(owner) {
        return fault(RefusalCode::BuiltIn, "id", id, "a zone that is not built in");
    }
    let sensors = draft.zone_sensors_count(id);
    if sensors > 0 {
        let value = format!("{id} with {sensors} sensors");
        return fault(RefusalCode::NotEmpty, "id", value, "an empty zone: move or delete its sensors first");
    }
    draft.put_zone(Some(before), None);
    Ok(())
}

fn add_sensor(
    draft: &mut Draft<'_>,
    id: SensorId,
    zone: ZoneId,
    name: &str,
    kind: SensorType,
    lifecycle: Lifecycle,
) -> Result<(), Fault> {
    if draft.was_deleted(id) {
        return fault(RefusalCode::IdDeleted, "id", id, "a fresh id: this one was deleted");
    }
    if draft.sensor(id).is_some() {
        return fault(RefusalCode::IdTaken, "id", id, "a fresh id");
    }
    if !matches!(lifecycle, Lifecycle::PendingActivation | Lifecycle::Active) {
        let right = "pending-activation, or active";
        return fault(RefusalCode::LifecycleStep, "lifecycle", lifecycle.as_str(), right);
    }
    within(SENSORS_MAX, draft.sensors_count(), "sensors")?;
    within(SENSORS_EVER_MAX, draft.sensors_ever_count(), "sensors")?;
    let place = place_for(draft, zone, kind)?;
    let name = new_name(draft, Scope::Sensors(place), name)?;
    draft.put_sensor(None, Sensor { id, zone, name, kind, lifecycle, more: Sensor::plain() });
    Ok(())
}

fn move_sensor(draft: &mut Draft<'_>, id: SensorId, to: ZoneId) -> Result<(), Fault> {
    let before = sensor(draft, id)?;
    let place = place_for(draft, to, before.kind)?;
    if zone(draft, before.zone, "zone")?.site != place {
        new_name(draft, Scope::Sensors(place), &before.name)?;
    }
    levels::meet_there(draft, &before, to)?;
    draft.put_sensor(Some(before.clone()), Sensor { zone: to, ..before });
    Ok(())
}

fn set_lifecycle(draft: &mut Draft<'_>, id: SensorId, to: Lifecycle) -> Result<(), Fault> {
    use Lifecycle::{Active, PendingActivation, PendingReactivation};
    let before = sensor(draft, id)?;
    let right = match before.lifecycle {
        PendingActivation => [PendingActivation, Active],
        Active => [Active, PendingReactivation],
        PendingReactivation => [PendingReactivation, Active],
        Lifecycle::Deleted => return fault(RefusalCode::UnknownSensor, "id", id, "a sensor"),
    };
    if !right.contains(&to) {
        let right =
            format!("{} (deleting is a command of its own)", right.map(Lifecycle::as_str).join(" or "));
        return fault(RefusalCode::LifecycleStep, "lifecycle", to.as_str(), right);
    }
    draft.put_sensor(Some(before.clone()), Sensor { lifecycle: to, ..before });
    Ok(())
}

fn add_gateway(draft: &mut Draft<'_>, id: GatewayId, name: &str, sites: &[SiteId]) -> Result<(), Fault> {
    if draft.gateway(id).is_some() {
        return fault(RefusalCode::IdTaken, "id", id, "a fresh id");
    }
    within(GATEWAYS_MAX, draft.gateways_count(), "gateways")?;
    let name = new_name(draft, Scope::Gateways, name)?;
    let sites = gateway_sites(draft, sites)?;
    draft.put_gateway(None, Some(Gateway { id, name, sites }));
    Ok(())
}

fn gateway_sites(draft: &Draft<'_>, sites: &[SiteId]) -> Result<Arc<[SiteId]>, Fault> {
    within(GATEWAY_SITES_MAX, sites.len().saturating_sub(1), "sites")?;
    for &id in sites {
        site(draft, id, "sites")?;
    }
    let mut sites = sites.to_vec();
    sites.sort_unstable();
    sites.dedup();
    Ok(Arc::from(sites))
}

/// The site of a zone that may hold a sensor of this type.
fn place_for(draft: &Draft<'_>, to: ZoneId, kind: SensorType) -> Result<SiteId, Fault> {
    let place = site(draft, zone(draft, to, "zone")?.site, "site")?;
    if place.kind == SiteKind::of(kind) {
        return Ok(place.id);
    }
    let right = match SiteKind::of(kind) {
        SiteKind::Enterprise => format!(
            "a zone of the built-in site {ENTERPRISE_SITE_NAME:?}, such as {}",
            enterprise_zone(place.subscription)
        ),
        SiteKind::Ot => {
            format!("a zone of an OT site; {ENTERPRISE_SITE_NAME:?} holds enterprise-IoT sensors")
        }
    };
    fault(RefusalCode::WrongSiteKind, "zone", to, right)
}

fn no_gateway(draft: &Draft<'_>, id: SiteId) -> Result<(), Fault> {
    match draft.gateway_of(id) {
        Some(gateway) => {
            let right = format!("a site that no gateway speaks for: take it off gateway {}", gateway.id);
            fault(RefusalCode::NotEmpty, "id", id, right)
        }
        None => Ok(()),
    }
}

fn within(most: usize, have: usize, field: &'static str) -> Result<(), Fault> {
    if have < most {
        return Ok(());
    }
    fault(RefusalCode::TooMany, field, format!("more than {most}"), format!("at most {most}"))
}

fn new_name(draft: &Draft<'_>, scope: Scope, text: &str) -> Result<Arc<str>, Fault> {
    let name = match check_name(text) {
        Ok(name) => name,
        Err((code, right)) => return fault(code, "name", shown(text), right),
    };
    if draft.is_named(scope, &name) {
        return fault(RefusalCode::NameTaken, "name", shown(text), "a name that is not in use there");
    }
    Ok(name)
}

/// A new name for what is called `old`; keeping the old one is fine.
fn rename(draft: &Draft<'_>, scope: Scope, old: &Arc<str>, text: &str) -> Result<Arc<str>, Fault> {
    if **old == *text { Ok(old.clone()) } else { new_name(draft, scope, text) }
}

fn subscription(draft: &Draft<'_>, id: SubscriptionId, field: &'static str) -> Result<Subscription, Fault> {
    match draft.subscription(id) {
        Some(found) => Ok(found.clone()),
        None => fault(RefusalCode::UnknownSubscription, field, id, "the id of a subscription"),
    }
}

fn site(draft: &Draft<'_>, id: SiteId, field: &'static str) -> Result<Site, Fault> {
    match draft.site(id) {
        Some(found) => Ok(found.clone()),
        None => fault(RefusalCode::UnknownSite, field, id, "the id of a site"),
    }
}

/// A site that people made, and may change.
fn own_site(draft: &Draft<'_>, id: SiteId) -> Result<Site, Fault> {
    let found = site(draft, id, "id")?;
    if found.kind == SiteKind::Enterprise {
        return fault(RefusalCode::BuiltIn, "id", id, "a site that is not built in");
    }
    Ok(found)
}

fn zone(draft: &Draft<'_>, id: ZoneId, field: &'static str) -> Result<Zone, Fault> {
    match draft.zone(id) {
        Some(found) => Ok(found.clone()),
        None => fault(RefusalCode::UnknownZone, field, id, "the id of a zone"),
    }
}

fn sensor(draft: &Draft<'_>, id: SensorId) -> Result<Sensor, Fault> {
    match draft.sensor(id) {
        Some(found) => Ok(found.clone()),
        None if draft.was_deleted(id) => {
            fault(RefusalCode::IdDeleted, "id", id, "the id of a sensor that is not deleted")
        }
        None => fault(RefusalCode::UnknownSensor, "id", id, "the id of a sensor"),
    }
}

fn gateway(draft: &Draft<'_>, id: GatewayId) -> Result<Gateway, Fault> {
    match draft.gateway(id) {
        Some(found) => Ok(found.clone()),
        None => fault(RefusalCode::UnknownGateway, "id", id, "the id of a gateway"),
    }
}
