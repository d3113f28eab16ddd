//! From rows to commands: places found or made, each row whole or not at all.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Manner;
use super::rows::{Row, as_id, fault};
use crate::fleet::{
    Command, Permission, Refusal, Register, Scope, SensorEdit, SiteEdit, SiteKind, Target, ThreatIntelMode,
    enterprise_zone,
};
use crate::http::caller::Caller;
use crate::http::problem::{RowFault, shown};
use crate::live::{Lifecycle, SensorType};
use crate::time::UnixMillis;
use crate::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};

/// What an import does.
#[derive(Default)]
pub(super) struct Plan {
    commands: Vec<Command>,
    /// Row of each command.
    of: Vec<usize>,
    /// Line, id and name of each sensor that is made.
    pub(super) sensors: Vec<(u64, SensorId, String)>,
    /// Sites that are made.
    pub(super) sites: Vec<(SiteId, String)>,
    /// Zones that are made.
    pub(super) zones: Vec<(ZoneId, String)>,
    /// Rows that can't be taken, by line.
    pub(super) faults: Vec<RowFault>,
}

/// Rounds of leaving out rows. What is left out can take a place with it that another row counts on, so it is planned
/// again; real files are done after two.
const ROUNDS_MAX: usize = 8;

impl Plan {
    /// Plans all rows that can be taken. Its commands were tried on this register: none of them is refused.
    pub(super) fn make(
        register: &Register,
        caller: &Caller,
        manner: Manner,
        rows: &[(u64, Row)],
        unread: Vec<RowFault>,
        at: UnixMillis,
    ) -> Plan {
        let mut faults = unread;
        let mut out: HashSet<usize> = HashSet::new();
        for round in 0.. {
            let mut planner = Planner::new(register, caller, manner);
            for (index, (line, row)) in rows.iter().enumerate() {
                if out.contains(&index) {
                    continue;
                }
                if let Err(found) = planner.row(index, *line, row) {
                    out.insert(index);
                    faults.push(found);
                }
            }
            let mut plan = planner.plan;
            let refused = register.sift(&plan.commands, caller.actor.clone(), at).refused;
            if refused.is_empty() || round == ROUNDS_MAX {
                if !refused.is_empty() {
                    let valid = "rows of one place that fit each other";
                    let detail = "its row and others depend on each other, and none can be taken";
                    faults.push(fault(0, "", "rows-entangled", detail, valid));
                    plan = Plan::default();
                }
                faults.sort_by_key(|fault| fault.line);
                plan.faults = faults;
                return plan;
            }
            for refusal in refused {
                let index = plan.of.get(refusal.index).copied().unwrap_or_default();
                if out.insert(index) {
                    faults.push(told(&refusal, &plan.commands, rows[index].0));
                }
            }
        }
        Plan::default()
    }

    pub(super) fn commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }
}

/// A refusal of the register, by the column that it comes from.
fn told(refusal: &Refusal, commands: &[Command], line: u64) -> RowFault {
    let column = match (commands.get(refusal.index), refusal.field) {
        (Some(Command::AddSite { .. }), "name") => "site",
        (Some(Command::AddZone { .. }), "name") => "zone",
        (_, field) => field,
    };
    let detail = format!("`{column}` is {}; give {}", refusal.value, refusal.right);
    fault(line, column, refusal.code.as_str(), detail, refusal.right.as_str())
}

/// Finds and makes places, row after row.
struct Planner<'r> {
    register: &'r Register,
    caller: &'r Caller,
    manner: Manner,
    plan: Plan,
    new_sites: HashMap<(SubscriptionId, String), SiteId>,
    new_zones: HashMap<(SiteId, String), ZoneId>,
    /// Subscriptions that the caller sees something of.
    subscriptions: Vec<SubscriptionId>,
}

/// A column, and what is wrong with it: code, detail, what would be right.
type Wrong = (&'static str, &'static str, String, String);

impl<'r> Planner<'r> {
    fn new(register: &'r Register, caller: &'r Caller, manner: Manner) -> Planner<'r> {
        let all = caller.grants.iter().any(|grant| grant.scope == Scope::All);
        let seen = |id: SubscriptionId| {
            caller.grants.iter().any(|grant| match grant.scope {
                Scope::All => true,
                Scope::Subscription(granted) => granted == id,
                Scope::Site(site) => register.site(site).is_some_and(|site| site.subscription == id),
            })
        };
        let subscriptions = register.subscriptions().map(|subscription| subscription.id);
        let subscriptions = subscriptions.filter(|&id| all || seen(id)).collect();
        let (new_sites, new_zones) = (HashMap::new(), HashMap::new());
        Planner { register, caller, manner, plan: Plan::default(), new_sites, new_zones, subscriptions }
    }

    fn row(&mut self, index: usize, line: u64, row: &Row) -> Result<(), RowFault> {
        let before = self.plan.commands.len();
        match self.sensor(line, row) {
            Ok(()) => {
                self.plan.of.resize(self.plan.commands.len(), index);
                Ok(())
            }
            Err((column, code, detail, valid)) => {
                self.plan.commands.truncate(before);
                Err(fault(line, column, code, detail, valid))
            }
        }
    }

    /// Checks everything before it changes the plan.
    fn sensor(&mut self, line: u64, row: &Row) -> Result<(), Wrong> {
        let kind = one_of("type", &row.r#type, SensorType::OtCloud, &SensorType::ALL, SensorType::as_str)?;
        let automatic = ThreatIntelMode::default();
        let modes = &ThreatIntelMode::ALL;
        let mode =
            one_of("threat_intel_mode", &row.threat_intel_mode, automatic, modes, ThreatIntelMode::as_str)?;
        let owner = self.subscription(&row.subscription)?;
        let zone = match (SiteKind::of(kind), row.site.is_empty() && row.zone.is_empty()) {
            (SiteKind::Enterprise, true) => {
                let zone = enterprise_zone(owner);
                self.may("subscription", &row.subscription, Target::Zone(zone))?;
                zone
            }
            _ => self.zone(owner, row)?,
        };
        let id = SensorId::fresh();
        let (name, lifecycle) = (row.name.clone(), Lifecycle::PendingActivation);
        self.plan.commands.push(Command::AddSensor { id, zone, name, kind, lifecycle });
        if !row.notes.is_empty() || mode != automatic {
            let notes = Some(row.notes.clone()).filter(|notes| !notes.is_empty());
            let edit = SensorEdit { name: None, notes, threat_intel: Some(mode) };
            self.plan.commands.push(Command::EditSensor { id, edit });
        }
        self.plan.sensors.push((line, id, row.name.clone()));
        Ok(())
    }

    fn may(&self, column: &'static str, given: &str, target: Target) -> Result<(), Wrong> {
        if self.caller.may(self.register, Permission::EditFleet, target) {
            return Ok(());
        }
        let detail = format!("{} may not be changed by you", shown(given));
        Err((column, "not-allowed", detail, "a place for which you have the role operator".to_owned()))
    }

    fn subscription(&self, given: &str) -> Result<SubscriptionId, Wrong> {
        let known = |id: &SubscriptionId| {
            let named = self.register.subscription(*id).is_some_and(|found| &*found.name == given);
            named || as_id(given) == Some(*id)
        };
        match (given.is_empty(), &self.subscriptions[..]) {
            (true, [only]) => Ok(*only),
            (true, _) => Err((
                "subscription",
                "missing-field",
                "the row does not say whose the sensor is".to_owned(),
                "the name or id of a subscription".to_owned(),
            )),
            (false, all) => all.iter().find(|id| known(id)).copied().ok_or_else(|| {
                let detail = format!("there is no subscription {}", shown(given));
                (
                    "subscription",
                    "unknown-subscription",
                    detail,
                    "the name or id of a subscription".to_owned(),
                )
            }),
        }
    }

    /// The zone of a row: found, or made with all that it needs.
    fn zone(&mut self, owner: SubscriptionId, row: &Row) -> Result<ZoneId, Wrong> {
        for (column, given) in [("site", &row.site), ("zone", &row.zone)] {
            if given.is_empty() {
                let detail = format!("the row does not say in which {column} the sensor stands");
                return Err((column, "missing-field", detail, format!("the name or id of a {column}")));
            }
        }
        let found = self.found_site(owner, &row.site);
        if found.is_some() && (!row.tags.is_empty() || !row.owners.is_empty()) {
            let column = if row.tags.is_empty() { "owners" } else { "tags" };
            let detail = format!("the site {} is there; an import does not change it", shown(&row.site));
            return Err((column, "wrong-place", detail, format!("no `{column}` for a site that is there")));
        }
        let key = (owner, row.site.clone());
        let planned = self.new_sites.get(&key).copied();
        let Some(site) = found.or(planned) else {
            self.missing("site", "unknown-site", &row.site)?;
            self.may("site", &row.site, Target::Subscription(owner))?;
            let (tags, owners) = (tags(&row.tags)?, owners(&row.owners));
            let (site, zone) = (SiteId::fresh(), ZoneId::fresh());
            let name = row.site.clone();
            self.plan.commands.push(Command::AddSite { id: site, subscription: owner, name });
            if !tags.is_empty() || !owners.is_empty() {
                let edit = SiteEdit { name: None, tags: Some(tags), owners: Some(owners) };
                self.plan.commands.push(Command::EditSite { id: site, edit });
            }
            self.plan.commands.push(Command::AddZone { id: zone, site, name: row.zone.clone() });
            self.new_sites.insert(key, site);
            self.new_zones.insert((site, row.zone.clone()), zone);
            self.plan.sites.push((site, row.site.clone()));
            self.plan.zones.push((zone, row.zone.clone()));
            return Ok(zone);
        };
        if found.is_some() {
            self.may("site", &row.site, Target::Site(site))?;
        }
        let key = (site, row.zone.clone());
        if let Some(zone) = self.found_zone(site, &row.zone).or(self.new_zones.get(&key).copied()) {
            return Ok(zone);
        }
        self.missing("zone", "unknown-zone", &row.zone)?;
        let zone = ZoneId::fresh();
        self.plan.commands.push(Command::AddZone { id: zone, site, name: row.zone.clone() });
        self.new_zones.insert(key, zone);
        self.plan.zones.push((zone, row.zone.clone()));
        Ok(zone)
    }

    /// A place that is not there: told, unless it may be made.
    fn missing(&self, column: &'static str, code: &'static str, given: &str) -> Result<(), Wrong> {
        if self.manner.create_places && as_id::<SiteId>(given).is_none() {
            return Ok(());
        }
        let detail = format!("there is no {column} {}", shown(given));
        Err((column, code, detail, format!("a {column} that is there, or its name and create_places=true")))
    }

    fn found_site(&self, owner: SubscriptionId, given: &str) -> Option<SiteId> {
        let by_id = as_id(given).and_then(|id| self.register.site(id));
        let by_id = by_id.filter(|site| site.subscription == owner);
        let site = by_id.or_else(|| self.register.site_named(owner, given))?;
        self.caller.may(self.register, Permission::View, Target::Site(site.id)).then_some(site.id)
    }

    fn found_zone(&self, site: SiteId, given: &str) -> Option<ZoneId> {
        let by_id = as_id(given).and_then(|id| self.register.zone(id)).filter(|zone| zone.site == site);
        by_id.or_else(|| self.register.zone_named(site, given)).map(|zone| zone.id)
    }
}

fn one_of<T: Copy>(
    column: &'static str,
    given: &str,
    usual: T,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<T, Wrong> {
    if given.is_empty() {
        return Ok(usual);
    }
    all.iter().copied().find(|&known| name(known) == given).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|&known| name(known)).collect();
        let valid = format!("one of {}", names.join(", "));
        (column, "bad-field", format!("`{column}` is {}", shown(given)), valid)
    })
}

fn tags(given: &str) -> Result<BTreeMap<String, String>, Wrong> {
    let parts = given.split(';').map(str::trim).filter(|part| !part.is_empty());
    let mut tags = BTreeMap::new();
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        if tags.insert(key.trim().to_owned(), value.trim().to_owned()).is_some() {
            let detail = format!("the key {} is there twice", shown(key));
            return Err(("tags", "tag-invalid", detail, "each key once".to_owned()));
        }
    }
    Ok(tags)
}

fn owners(given: &str) -> Vec<String> {
    given.split(';').map(str::trim).filter(|owner| !owner.is_empty()).map(str::to_owned).collect()
}
