//! Parameters of a list of sensors.

use std::iter::Take;
use std::str::FromStr;

use ahash::{AHashMap, AHashSet};

use super::item::Fields;
use crate::fleet::query::{Filter, Grid, Health, Query, SortBy, TagTest, VersionTest};
use crate::fleet::{Grant, ThreatIntelMode};
use crate::health::CATALOGUE;
use crate::http::documents;
use crate::http::params::Params;
use crate::http::problem::Problem;
use crate::http::sight::sees;
use crate::limits::{FILTER_TEXT_CHARS_MAX, FILTER_VALUES_MAX};
use crate::live::{Lifecycle, SensorType};
use crate::wire::heartbeat::TiStatus;
use crate::wire::id::{SiteId, SubscriptionId, ZoneId};

/// What chooses sensors.
pub(in crate::http) const FILTER: [&str; 14] = [
    "q",
    "site",
    "zone",
    "subscription",
    "type",
    "lifecycle",
    "health",
    "code",
    "version",
    "tag",
    "owner",
    "connected",
    "ti_mode",
    "ti_status",
];
/// What a list can be asked for besides.
pub(super) const LIST: [&str; 2] = ["sort", "fields"];
/// What a page can be asked for besides.
pub(super) const PAGE: [&str; 3] = ["facets", "limit", "cursor"];

/// Which sensors, before names of places are looked up. The one filter of lists, files and bulk changes.
pub(in crate::http) struct Wanted {
    filter: Filter,
    sites: Vec<String>,
    zones: Vec<String>,
    subscriptions: Vec<String>,
}

/// A list as it is asked for.
pub(super) struct Asked {
    wanted: Wanted,
    sort: SortBy,
    descending: bool,
    pub(super) fields: Fields,
}

/// Which page.
pub(super) struct Paging {
    pub(super) limit: usize,
    pub(super) cursor: Option<String>,
    pub(super) facets: bool,
}

impl Paging {
    pub(super) fn read(params: &mut Params) -> Result<Paging, Problem> {
        Ok(Paging {
            limit: params.page_limit()?,
            cursor: params.take("cursor")?,
            facets: flag(params, "facets")?.unwrap_or(false),
        })
    }
}

impl Asked {
    pub(super) fn read(params: &mut Params) -> Result<Asked, Problem> {
        let wanted = Wanted::read(params)?;
        let (sort, descending) = sort(params)?;
        let fields = super::fields_of(&values(params, "fields")?)?;
        Ok(Asked { wanted, sort, descending, fields })
    }

    pub(super) fn resolve(self, grid: &Grid, grants: &[Grant]) -> Result<Query, Problem> {
        let Asked { wanted, sort, descending, .. } = self;
        Ok(Query { filter: wanted.resolve(grid, grants)?, sort, descending })
    }
}

impl Wanted {
    pub(in crate::http) fn read(params: &mut Params) -> Result<Wanted, Problem> {
        let codes = choices(params, "code", documents::rule_of_code, || {
            CATALOGUE.iter().map(|rule| rule.code).collect()
        })?;
        let filter = Filter {
            text: text(params, "q")?.unwrap_or_default(),
            kinds: choices(
                params,
                "type",
                |name| SensorType::ALL.into_iter().find(|kind| kind.as_str() == name),
                || SensorType::ALL.iter().map(|kind| kind.as_str()).collect(),
            )?,
            lifecycles: choices(
                params,
                "lifecycle",
                |name| Lifecycle::ALL[..3].iter().copied().find(|state| state.as_str() == name),
                || Lifecycle::ALL[..3].iter().map(|state| state.as_str()).collect(),
            )?,
            health: choices(params, "health", Health::named, Health::names)?,
            rules: codes.iter().fold(0, |bits, rule| bits | rule.id.bit()),
            version: params.read::<VersionTest>("version")?,
            tags: tags(params)?,
            owner: text(params, "owner")?,
            connected: flag(params, "connected")?,
            threat_intel_modes: choices(
                params,
                "ti_mode",
                |name| ThreatIntelMode::ALL.into_iter().find(|mode| mode.as_str() == name),
                || ThreatIntelMode::ALL.iter().map(|mode| mode.as_str()).collect(),
            )?,
            threat_intel: choices(
                params,
                "ti_status",
                |name| TiStatus::ALL.iter().copied().find(|status| status.as_str() == name),
                || TiStatus::ALL.iter().map(|status| status.as_str()).collect(),
            )?,
            ..Filter::default()
        };
        Ok(Wanted {
            filter,
            sites: values(params, "site")?,
            zones: values(params, "zone")?,
            subscriptions: values(params, "subscription")?,
        })
    }

    /// Whether it leaves nobody out.
    pub(in crate::http) fn is_everybody(&self) -> bool {
        let places = [&self.sites, &self.zones, &self.subscriptions];
        self.filter == Filter::default() && places.iter().all(|names| names.is_empty())
    }

    /// Names of places become ids; only what the caller may see has a name. The names are folded once, and the places
    /// gone through once, however many names there are.
    pub(super) fn resolve(self, grid: &Grid, grants: &[Grant]) -> Result<Filter, Problem> {
        let Wanted { mut filter, sites, zones, subscriptions } = self;
        let seen = |site, subscription| sees(grants, site, subscription);
        let mut named = Named::<SiteId>::of(&sites);
        for (id, subscription, name, _) in named.looks(grid.sites()) {
            named.note(name, id, || seen(id, subscription));
        }
        filter.sites = named.ids("site")?;
        let mut named = Named::<ZoneId>::of(&zones);
        for (id, site, subscription, name) in named.looks(grid.zones()) {
            named.note(name, id, || seen(site, subscription));
        }
        filter.zones = named.ids("zone")?;
        let mut named = Named::<SubscriptionId>::of(&subscriptions);
        let sites = named.looks(grid.sites()).filter(|(id, of, ..)| seen(*id, *of));
        let with_sites: AHashSet<SubscriptionId> = sites.map(|(_, of, ..)| of).collect();
        for (id, name) in named.looks(grid.subscriptions()) {
            named.note(name, id, || with_sites.contains(&id));
        }
        filter.subscriptions = named.ids("subscription")?;
        Ok(filter)
    }
}

/// What a parameter says: ids as they are, and names with what has them.
struct Named<'w, I> {
    written: &'w [String],
    /// By folded name.
    found: AHashMap<String, Vec<I>>,
}

impl<'w, I: FromStr + Copy + Ord> Named<'w, I> {
    fn of(written: &'w [String]) -> Named<'w, I> {
        let names = written.iter().filter(|text| text.parse::<I>().is_err());
        Named { written, found: names.map(|name| (name.to_lowercase(), Vec::new())).collect() }
    }

    /// Those to look at: none when no name is given.
    fn looks<P: Iterator>(&self, places: P) -> Take<P> {
        let most = if self.found.is_empty() { 0 } else { usize::MAX };
        places.take(most)
    }

    fn note(&mut self, name: &str, id: I, seen: impl FnOnce() -> bool) {
        if let Some(ids) = self.found.get_mut(name)
            && seen()
        {
            ids.push(id);
        }
    }

    /// In the order in which they were written.
    fn ids(mut self, parameter: &str) -> Result<Vec<I>, Problem> {
        let mut all = Vec::new();
        for text in self.written {
            if let Ok(id) = text.parse() {
                all.push(id);
                continue;
            }
            let Some(found) = self.found.get_mut(&text.to_lowercase()).filter(|found| !found.is_empty())
            else {
                let valid = format!("the id or the name of a {parameter}");
                return Err(Problem::bad_value(parameter, text, &valid));
            };
            // Cursors hold a hash of the ids: the same whatever the order in which they were found.
            found.sort_unstable();
            all.extend_from_slice(found);
        }
        Ok(all)
    }
}

/// All values of a parameter, with commas between or repeated.
fn values(params: &mut Params, name: &str) -> Result<Vec<String>, Problem> {
    let written = params.take_all(name);
    let values: Vec<String> = written
        .iter()
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .map(str::to_owned)
        .collect();
    if values.len() > FILTER_VALUES_MAX {
        let valid = format!("at most {FILTER_VALUES_MAX} values");
        return Err(Problem::bad_parameter(name, "it has too many values", &valid));
    }
    Ok(values)
}

fn choices<T>(
    params: &mut Params,
    name: &str,
    find: impl Fn(&str) -> Option<T>,
    valid: impl Fn() -> Vec<&'static str>,
) -> Result<Vec<T>, Problem> {
    let found = |value: &String| {
        let bad = || Problem::bad_value(name, value, &format!("some of {}", valid().join(", ")));
        find(value).ok_or_else(bad)
    };
    values(params, name)?.iter().map(found).collect()
}

fn text(params: &mut Params, name: &str) -> Result<Option<String>, Problem> {
    let Some(text) = params.take(name)? else { return Ok(None) };
    if text.chars().nth(FILTER_TEXT_CHARS_MAX).is_some() {
        let valid = format!("at most {FILTER_TEXT_CHARS_MAX} characters");
        return Err(Problem::bad_parameter(name, "it is too long", &valid));
    }
    Ok(Some(text).filter(|text| !text.trim().is_empty()))
}

fn flag(params: &mut Params, name: &str) -> Result<Option<bool>, Problem> {
    let find = |text: &str| match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    };
    params.choice(name, find, || vec!["true", "false"])
}

/// A value may hold a comma, so tags are repeated and not listed.
fn tags(params: &mut Params) -> Result<Vec<TagTest>, Problem> {
    let written = params.take_all("tag");
    let read = |text: &String| {
        let (key, value) =
            text.split_once('=').map_or((text.as_str(), None), |(key, value)| (key, Some(value.to_owned())));
        if key.is_empty() {
            return Err(Problem::bad_value("tag", text, "`key` or `key=value`"));
        }
        Ok(TagTest { key: key.to_owned(), value })
    };
    written.iter().map(read).collect()
}

fn sort(params: &mut Params) -> Result<(SortBy, bool), Problem> {
    let Some(text) = params.take("sort")? else { return Ok((SortBy::default(), false)) };
    let (name, descending) = match text.strip_prefix('-') {
        Some(name) => (name, true),
        None => (text.as_str(), false),
    };
    let found = SortBy::ALL.into_iter().find(|sort| sort.as_str() == name);
    let names = || SortBy::ALL.map(SortBy::as_str).join(", ");
    let bad =
        || Problem::bad_value("sort", &text, &format!("one of {}, with or without `-` in front", names()));
    Ok((found.ok_or_else(bad)?, descending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Actor, Command, Register, Role, Scope};
    use crate::time::{Clock, SystemClock, UnixMillis};

    fn resolved(grid: &Grid, scope: Scope, query: &str) -> Result<Filter, Problem> {
        let asked = Asked::read(&mut Params::parse(Some(query)).unwrap()).unwrap();
        asked.resolve(grid, &[Grant { role: Role::Reader, scope }]).map(|query| query.filter)
    }

    /// Two subscriptions with so many sites each, called the same in both, with a zone each.
    fn grid(sites: u64) -> Grid {
        let mut commands = Vec::new();
        for owner in [1, 2] {
            let subscription = SubscriptionId::from_number(owner);
            commands.push(Command::AddSubscription { id: subscription, name: format!("Owner {owner}") });
            for number in 0..sites {
                let (site, zone) = (owner * 1_000_000 + number, owner * 1_000_000 + number);
                let (id, name) = (SiteId::from_number(site), format!("Werk \u{d6}st {number}"));
                commands.push(Command::AddSite { id, subscription, name });
                commands.push(Command::AddZone {
                    id: ZoneId::from_number(zone),
                    site: id,
                    name: "Halle".into(),
                });
            }
        }
        let mut register = Register::new();
        let batch = register.apply(&commands, Actor::system("test"), UnixMillis(0)).unwrap();
        register.fold(&batch).unwrap();
        Grid::of(&register)
    }

    #[test]
    fn names_stand_for_all_places_in_sight_that_have_them() {
        let grid = grid(3);
        let site = |owner: u64, number: u64| SiteId::from_number(owner * 1_000_000 + number);
        let (one, all) = (Scope::Subscription(SubscriptionId::from_number(1)), Scope::All);
        let query = format!("site=werk%20%C3%B6ST%202,{},WERK%20%C3%96ST%200", site(2, 1));
        assert_eq!(
            resolved(&grid, all, &query).unwrap().sites,
            [site(1, 2), site(2, 2), site(2, 1), site(1, 0), site(2, 0)],
            "in the order of the request, whatever the case"
        );
        assert_eq!(resolved(&grid, one, "site=werk%20%C3%B6st%202").unwrap().sites, [site(1, 2)]);
        assert_eq!(resolved(&grid, all, "zone=halle").unwrap().zones.len(), 6);
        assert_eq!(resolved(&grid, one, "zone=HALLE").unwrap().zones.len(), 3);
        let owners = |scope| resolved(&grid, scope, "subscription=owner%201").map(|f| f.subscriptions);
        assert_eq!(owners(Scope::Site(site(1, 0))).unwrap(), [SubscriptionId::from_number(1)]);
        for (scope, query) in [
            (one, "subscription=Owner%202"),
            (Scope::Site(site(2, 0)), "subscription=Owner%201"),
            (Scope::Site(site(2, 0)), "site=Werk%20%C3%96st%201"),
            (all, "site=Werk%20%C3%96st%201,nowhere"),
        ] {
            assert_eq!(resolved(&grid, scope, query).unwrap_err().code(), "bad-parameter", "{query}");
        }
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "how long it takes")]
    fn a_hundred_names_are_one_pass() {
        let grid = grid(10_000);
        let names: Vec<String> = (0..FILTER_VALUES_MAX).map(|n| format!("werk%20%C3%B6st%20{n}")).collect();
        let clock = SystemClock::start();
        let begun = clock.mono();
        let found = resolved(&grid, Scope::All, &format!("site={}", names.join(","))).unwrap();
        println!("{} names among 20,000 sites: {:?}", names.len(), clock.mono().since(begun));
        assert_eq!(found.sites.len(), 2 * FILTER_VALUES_MAX);
    }
}
