//! Lists of the register: `GET /api/v1/subscriptions`, `/sites`, `/zones`, `/gateways`, in order of their names.
//!
//! Sites and zones come with their sensors counted by health, in one pass over the grid, so that a page of them costs
//! no more with many sensors than a page of sensors does. Names are compared without case; equal ones are in order
//! of their ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::app::App;
use super::caller::Caller;
use super::cursor::Cursors;
use super::documents::{self, Reference};
use super::grid::sees;
use super::params::Params;
use super::problem::Problem;
use super::times::rfc3339_of;
use super::workers::{Places, work};
use crate::fleet::query::{PlaceCounts, Tally};
use crate::fleet::{Grant, Permission, Scope, SiteKind};
use crate::health::{OverallState, RuleId, Subject};
use crate::limits::{FILTER_TEXT_CHARS_MAX, GRID_STEP_ROWS};
use crate::wire::id::{GatewayId, SiteId, SubscriptionId, ZoneId};

/// A page of subscriptions.
#[derive(Serialize, ToSchema)]
#[schema(as = SubscriptionPage)]
struct SubscriptionPage {
    items: Vec<SubscriptionItem>,
    /// Cursor of the page after this one.
    next: Option<String>,
}

/// Who owns sites and sensors.
#[derive(Serialize, ToSchema)]
#[schema(as = SubscriptionItem)]
struct SubscriptionItem {
    id: String,
    name: String,
    /// Those that the caller may see.
    sites: usize,
    sensors: usize,
}

/// A page of sites.
#[derive(Serialize, ToSchema)]
#[schema(as = SitePage)]
struct SitePage {
    items: Vec<SiteItem>,
    /// Cursor of the page after this one.
    next: Option<String>,
}

/// A place, with its sensors counted.
#[derive(Serialize, ToSchema)]
#[schema(as = SiteItem)]
struct SiteItem {
    id: String,
    name: String,
    /// `ot`, or `enterprise` for the built-in one.
    kind: &'static str,
    subscription: Reference,
    tags: BTreeMap<String, String>,
    /// E-mail addresses.
    owners: Vec<String>,
    muted: bool,
    zones: usize,
    sensors: SensorCounts,
    /// Codes of its own active messages.
    messages: Vec<&'static str>,
}

/// A page of zones.
#[derive(Serialize, ToSchema)]
#[schema(as = ZonePage)]
struct ZonePage {
    items: Vec<ZoneItem>,
    /// Cursor of the page after this one.
    next: Option<String>,
}

/// A segment of a site, with its sensors counted.
#[derive(Serialize, ToSchema)]
#[schema(as = ZoneItem)]
struct ZoneItem {
    id: String,
    name: String,
    site: Reference,
    sensors: SensorCounts,
}

/// Sensors by health. Muted ones are in neither `healthy` nor `unhealthy`.
#[derive(Serialize, ToSchema)]
#[schema(as = SensorCounts)]
struct SensorCounts {
    total: u32,
    healthy: u32,
    unhealthy: u32,
    muted: u32,
    connected: u32,
    /// Muted ones too.
    by_state: BTreeMap<&'static str, u32>,
}

/// A page of gateways.
#[derive(Serialize, ToSchema)]
#[schema(as = GatewayPage)]
struct GatewayPage {
    items: Vec<GatewayItem>,
    /// Cursor of the page after this one.
    next: Option<String>,
}

/// A relay.
#[derive(Serialize, ToSchema)]
#[schema(as = GatewayItem)]
struct GatewayItem {
    id: String,
    name: String,
    /// Sites that it may speak for, of those that the caller may see.
    sites: Vec<Reference>,
    connected: bool,
    last_seen: Option<String>,
    /// Sensors whose newest heartbeat it brought.
    sensors: u32,
    /// Codes of its own active messages.
    messages: Vec<&'static str>,
}

/// What such a list is asked for.
struct Asked {
    /// Folded.
    text: String,
    descending: bool,
    limit: usize,
    cursor: Option<String>,
}

/// Where a page ended.
#[derive(Serialize, Deserialize)]
struct Place {
    name: String,
    id: [u8; 16],
}

/// An id from its bytes, and the bytes of an id.
type Bytes<I> = (fn([u8; 16]) -> I, fn(I) -> [u8; 16]);
/// Ids of a page, and the cursor of the next one.
type IdPage<I> = (Vec<I>, Option<String>);

impl Asked {
    fn read(params: &mut Params) -> Result<Asked, Problem> {
        let text = params.take("q")?.unwrap_or_default();
        if text.chars().nth(FILTER_TEXT_CHARS_MAX).is_some() {
            let valid = format!("at most {FILTER_TEXT_CHARS_MAX} characters");
            return Err(Problem::bad_parameter("q", "it is too long", &valid));
        }
        let orders = |text: &str| match text {
            "name" => Some(false),
            "-name" => Some(true),
            _ => None,
        };
        Ok(Asked {
            text: text.to_lowercase(),
            descending: params.choice("sort", orders, || vec!["name", "-name"])?.unwrap_or(false),
            limit: params.page_limit()?,
            cursor: params.take("cursor")?,
        })
    }

    /// The page of these: its entries in order, and the cursor of the next one.
    fn page<I: Copy + Ord>(
        &self,
        cursors: Cursors,
        mut found: Vec<(Arc<str>, I)>,
        (make, bytes): Bytes<I>,
    ) -> Result<IdPage<I>, Problem> {
        let order = |a: (&str, I), b: (&str, I)| {
            let by_name = if self.descending { b.0.cmp(a.0) } else { a.0.cmp(b.0) };
            by_name.then_with(|| a.1.cmp(&b.1))
        };
        if let Some(text) = &self.cursor {
            let after: Place = cursors.read(text)?;
            found.retain(|(name, id)| order((name, *id), (&after.name, make(after.id))).is_gt());
        }
        let more = found.len() > self.limit;
        if more {
            found.select_nth_unstable_by(self.limit - 1, |a, b| order((&a.0, a.1), (&b.0, b.1)));
            found.truncate(self.limit);
        }
        found.sort_unstable_by(|a, b| order((&a.0, a.1), (&b.0, b.1)));
        let last = found.last().filter(|_| more);
        let next = last.map(|(name, id)| cursors.show(&Place { name: name.to_string(), id: bytes(*id) }));
        Ok((found.into_iter().map(|(_, id)| id).collect(), next))
    }
}

/// Whether somebody sees anything of a subscription, or all of it.
fn sees_subscription(grants: &[Grant], id: SubscriptionId, sites: impl Iterator<Item = SiteId>) -> bool {
    let whole = |scope: &Scope| matches!(scope, Scope::All) || *scope == Scope::Subscription(id);
    let viewing = || grants.iter().filter(|grant| grant.role.may(Permission::View));
    viewing().any(|grant| whole(&grant.scope)) || {
        let mut sites = sites;
        sites.any(|site| viewing().any(|grant| grant.scope == Scope::Site(site)))
    }
}

#[utoipa::path(get, path = "/api/v1/subscriptions", operation_id = "list-subscriptions", tag = "Subscriptions",
    summary = "Subscriptions, by name",
    params(
        ("q" = Option<String>, Query, max_length = 200, description = "Part of the name"),
        ("sort" = Option<String>, Query, description = "name, or -name for the other way round"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "Items on the page; 100 when not given"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page of subscriptions", body = SubscriptionPage)))]
pub(super) async fn subscriptions(
    State(app): State<Arc<App>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let asked = Asked::read(&mut params)?;
    params.finish(&["q", "sort", "limit", "cursor"])?;
    let page = work(&app, Places::Api, move |app| {
        let register = app.backend.register();
        let seen = register.subscriptions().filter(|subscription| {
            let sites = register.sites_of(subscription.id).map(|site| site.id);
            sees_subscription(&caller.grants, subscription.id, sites)
        });
        let named = seen.filter_map(|found| Some((wanted(&found.name, &asked.text)?, found.id)));
        let cursors = Cursors::of("subscriptions", (&asked.text, asked.descending));
        let (ids, next) = asked.page(cursors, named.collect(), (SubscriptionId, |id| id.0))?;
        let item = |id: SubscriptionId| {
            let found = register.subscription(id)?;
            let sites = register.sites_of(id).filter(|site| sees(&caller.grants, site.id, id));
            let (count, sensors) = sites.fold((0, 0), |(sites, sensors), site| {
                (sites + 1, sensors + register.sensors_of_count(site.id))
            });
            Some(SubscriptionItem { id: id.to_string(), name: found.name.to_string(), sites: count, sensors })
        };
        Ok::<_, Problem>(SubscriptionPage { items: ids.into_iter().filter_map(item).collect(), next })
    });
    Ok(Json(page.await??).into_response())
}

/// The folded name, when the text is in it.
fn wanted(name: &str, text: &str) -> Option<Arc<str>> {
    let name = name.to_lowercase();
    name.contains(text).then(|| name.into())
}

#[utoipa::path(get, path = "/api/v1/sites", operation_id = "list-sites", tag = "Sites",
    summary = "Sites, by name, with their sensors counted by health",
    params(
        ("q" = Option<String>, Query, max_length = 200, description = "Part of the name"),
        ("subscription" = Option<String>, Query, format = Uuid, description = "Only of this subscription"),
        ("tag" = Option<String>, Query, description = "With this tag: `key` or `key=value`"),
        ("owner" = Option<String>, Query, description = "With this owner, by e-mail address"),
        ("sort" = Option<String>, Query, description = "name, or -name for the other way round"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "Items on the page; 100 when not given"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page of sites", body = SitePage)))]
pub(super) async fn sites(
    State(app): State<Arc<App>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let asked = Asked::read(&mut params)?;
    let subscription = params.read::<SubscriptionId>("subscription")?;
    let tag = params.take("tag")?;
    let owner = params.take("owner")?.map(|owner| owner.to_lowercase());
    params.finish(&["q", "subscription", "tag", "owner", "sort", "limit", "cursor"])?;
    let page = work(&app, Places::Api, move |app| {
        let mut found = Vec::new();
        for (id, of, name, about) in app.backend.grid().sites() {
            let tagged = tag.as_ref().is_none_or(|tag| match tag.split_once('=') {
                Some((key, value)) => about.tags.get(key).is_some_and(|found| **found == *value),
                None => about.tags.contains_key(tag.as_str()),
            });
            let owned = owner
                .as_ref()
                .is_none_or(|owner| about.owners.iter().any(|known| known.to_lowercase() == *owner));
            let right = subscription.is_none_or(|wanted| wanted == of) && tagged && owned;
            if right && name.contains(asked.text.as_str()) && sees(&caller.grants, id, of) {
                found.push((Arc::clone(name), id));
            }
        }
        let cursors = Cursors::of("sites", (&asked.text, asked.descending, subscription, &tag, &owner));
        let (ids, next) = asked.page(cursors, found, (SiteId, |id| id.0))?;
        Ok::<_, Problem>(SitePage { items: site_items(app, &ids), next })
    });
    Ok(Json(page.await??).into_response())
}

fn site_items(app: &App, ids: &[SiteId]) -> Vec<SiteItem> {
    // The engine before the register: a sweep asks the register.
    let keys: Vec<_> = ids.iter().map(|&id| (Subject::Site(id), RuleId::SiteOutage)).collect();
    let active = app.backend.active(&keys);
    let tally = tallied(app);
    let counts = tally.of_sites(&app.backend.grid(), ids);
    let now = app.clock.unix();
    let register = app.backend.register();
    let item = |(id, counts): (&SiteId, PlaceCounts)| {
        let site = register.site(*id)?;
        let about = &site.about;
        let owner = register.subscription(site.subscription).map_or("", |owner| &*owner.name);
        let own = active.iter().filter(|message| message.subject == Subject::Site(*id));
        Some(SiteItem {
            id: id.to_string(),
            name: site.name.to_string(),
            kind: match site.kind {
                SiteKind::Ot => "ot",
                SiteKind::Enterprise => "enterprise",
            },
            subscription: Reference::new(site.subscription, owner),
            tags: about.tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            owners: about.owners.iter().map(ToString::to_string).collect(),
            muted: about.quiet.holds(now),
            zones: register.zones_of(*id).count(),
            sensors: SensorCounts::of(&counts),
            messages: own.map(|message| message.rule.code()).collect(),
        })
    };
    ids.iter().zip(counts).filter_map(item).collect()
}

fn tallied(app: &App) -> Tally {
    let mut tally = Tally::new(app.clock.unix());
    while tally.step(&app.backend.grid(), app.backend.live(), GRID_STEP_ROWS) {}
    tally
}

impl SensorCounts {
    fn of(counts: &PlaceCounts) -> SensorCounts {
        SensorCounts {
            total: counts.sensors,
            healthy: counts.healthy,
            unhealthy: counts.unhealthy,
            muted: counts.muted,
            connected: counts.connected,
            by_state: OverallState::ALL
                .iter()
                .map(|state| (state.as_str(), counts.states[*state as usize]))
                .collect(),
        }
    }
}

#[utoipa::path(get, path = "/api/v1/zones", operation_id = "list-zones", tag = "Sites",
    summary = "Zones, by name, with their sensors counted by health",
    params(
        ("q" = Option<String>, Query, max_length = 200, description = "Part of the name"),
        ("site" = Option<String>, Query, format = Uuid, description = "Only of this site"),
        ("sort" = Option<String>, Query, description = "name, or -name for the other way round"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "Items on the page; 100 when not given"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page of zones", body = ZonePage)))]
pub(super) async fn zones(
    State(app): State<Arc<App>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let asked = Asked::read(&mut params)?;
    let site = params.read::<SiteId>("site")?;
    params.finish(&["q", "site", "sort", "limit", "cursor"])?;
    let page = work(&app, Places::Api, move |app| {
        let mut found = Vec::new();
        for (id, of, subscription, name) in app.backend.grid().zones() {
            let right = site.is_none_or(|wanted| wanted == of) && name.contains(asked.text.as_str());
            if right && sees(&caller.grants, of, subscription) {
                found.push((Arc::clone(name), id));
            }
        }
        let cursors = Cursors::of("zones", (&asked.text, asked.descending, site));
        let (ids, next) = asked.page(cursors, found, (ZoneId, |id| id.0))?;
        let tally = tallied(app);
        let counts: Vec<PlaceCounts> = {
            let grid = app.backend.grid();
            ids.iter().map(|&id| tally.of_zone(&grid, id)).collect()
        };
        let register = app.backend.register();
        let item = |(id, counts): (&ZoneId, PlaceCounts)| {
            let zone = register.zone(*id)?;
            Some(ZoneItem {
                id: id.to_string(),
                name: zone.name.to_string(),
                site: documents::site(&register, zone.site),
                sensors: SensorCounts::of(&counts),
            })
        };
        Ok::<_, Problem>(ZonePage { items: ids.iter().zip(counts).filter_map(item).collect(), next })
    });
    Ok(Json(page.await??).into_response())
}

#[utoipa::path(get, path = "/api/v1/gateways", operation_id = "list-gateways", tag = "Gateways",
    summary = "Gateways, by name",
    params(
        ("q" = Option<String>, Query, max_length = 200, description = "Part of the name"),
        ("site" = Option<String>, Query, format = Uuid, description = "Only those that may speak for this site"),
        ("sort" = Option<String>, Query, description = "name, or -name for the other way round"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "Items on the page; 100 when not given"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page of gateways", body = GatewayPage)))]
pub(super) async fn gateways(
    State(app): State<Arc<App>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let asked = Asked::read(&mut params)?;
    let site = params.read::<SiteId>("site")?;
    params.finish(&["q", "site", "sort", "limit", "cursor"])?;
    let page = work(&app, Places::Api, move |app| {
        let (ids, next) = {
            let register = app.backend.register();
            // One that may speak for a site that the caller sees; who sees all sees those without sites too.
            let seen = register.gateways().filter(|gateway| {
                let all = |grant: &Grant| grant.scope == Scope::All && grant.role.may(Permission::View);
                let mut sites = gateway.sites.iter().filter_map(|&id| register.site(id));
                site.is_none_or(|wanted| gateway.sites.contains(&wanted))
                    && (caller.grants.iter().any(all)
                        || sites.any(|site| sees(&caller.grants, site.id, site.subscription)))
            });
            let named = seen.filter_map(|found| Some((wanted(&found.name, &asked.text)?, found.id)));
            let cursors = Cursors::of("gateways", (&asked.text, asked.descending, site));
            asked.page(cursors, named.collect(), (GatewayId, |id| id.0))?
        };
        Ok::<_, Problem>(GatewayPage { items: gateway_items(app, &caller.grants, &ids), next })
    });
    Ok(Json(page.await??).into_response())
}

fn gateway_items(app: &App, grants: &[Grant], ids: &[GatewayId]) -> Vec<GatewayItem> {
    let keys: Vec<_> = ids.iter().map(|&id| (Subject::Gateway(id), RuleId::GatewaySilent)).collect();
    let active = app.backend.active(&keys);
    let live = app.backend.live();
    let now = app.clock.now();
    let register = app.backend.register();
    let item = |id: &GatewayId| {
        let gateway = register.gateway(*id)?;
        let sites = gateway.sites.iter().filter_map(|&id| register.site(id));
        let seen = sites.filter(|site| sees(grants, site.id, site.subscription));
        let snapshot = live.find_gateway(*id).and_then(|index| live.gateway_snapshot(index));
        let own = active.iter().filter(|message| message.subject == Subject::Gateway(*id));
        Some(GatewayItem {
            id: id.to_string(),
            name: gateway.name.to_string(),
            sites: seen.map(|site| Reference::new(site.id, &site.name)).collect(),
            connected: snapshot.as_ref().is_some_and(|snapshot| snapshot.connected),
            last_seen: snapshot.as_ref().and_then(|snapshot| rfc3339_of(snapshot.last_seen, now)),
            sensors: snapshot.as_ref().map_or(0, |snapshot| snapshot.sensors),
            messages: own.map(|message| message.rule.code()).collect(),
        })
    };
    ids.iter().filter_map(item).collect()
}
