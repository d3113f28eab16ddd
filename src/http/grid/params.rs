//! Parameters of a list of sensors.

use super::item::Fields;
use crate::fleet::query::{Filter, Health, Query, SortBy, TagTest, VersionTest};
use crate::fleet::{Grant, Register, ThreatIntelMode};
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

    pub(super) fn resolve(self, register: &Register, grants: &[Grant]) -> Result<Query, Problem> {
        let Asked { wanted, sort, descending, .. } = self;
        Ok(Query { filter: wanted.resolve(register, grants)?, sort, descending })
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

    /// Names of places become ids; only what the caller may see has a name.
    pub(super) fn resolve(self, register: &Register, grants: &[Grant]) -> Result<Filter, Problem> {
        let Wanted { mut filter, sites, zones, subscriptions } = self;
        let sees_site = |id: SiteId, subscription| sees(grants, id, subscription);
        let seen_sites = || register.sites().filter(|site| sees_site(site.id, site.subscription));
        filter.sites = ids::<SiteId>("site", &sites, &|name| {
            seen_sites().filter(|site| alike(&site.name, name)).map(|site| site.id).collect()
        })?;
        filter.zones = ids::<ZoneId>("zone", &zones, &|name| {
            let zones = seen_sites().flat_map(|site| register.zones_of(site.id));
            zones.filter(|zone| alike(&zone.name, name)).map(|zone| zone.id).collect()
        })?;
        filter.subscriptions = ids::<SubscriptionId>("subscription", &subscriptions, &|name| {
            let seen = |id| register.sites_of(id).any(|site| sees_site(site.id, id));
            let named = register.subscriptions().filter(|subscription| alike(&subscription.name, name));
            named.map(|subscription| subscription.id).filter(|&id| seen(id)).collect()
        })?;
        Ok(filter)
    }
}

fn alike(name: &str, wanted: &str) -> bool {
    name.to_lowercase() == wanted.to_lowercase()
}

fn ids<I: std::str::FromStr>(
    parameter: &str,
    written: &[String],
    named: &dyn Fn(&str) -> Vec<I>,
) -> Result<Vec<I>, Problem> {
    let mut all = Vec::new();
    for text in written {
        if let Ok(id) = text.parse() {
            all.push(id);
            continue;
        }
        let found = named(text);
        if found.is_empty() {
            return Err(Problem::bad_value(parameter, text, &format!("the id or the name of a {parameter}")));
        }
        all.extend(found);
    }
    Ok(all)
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
