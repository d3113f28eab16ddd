//! Lists of the register: `GET /api/v1/subscriptions`, `/sites`, `/zones`, `/gateways`, in order of their names.
//!
//! Sites and zones come with their sensors counted by health, in one pass over the grid, so that a page of them costs
//! no more with many sensors than a page of sensors does. Names are compared without case; equal ones are in order
//! of their ids. As CSV or NDJSON all of a list comes as one file ([`super::download`]).

mod list;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::caller::Caller;
use super::csv::Line;
use super::documents::{self, Reference};
use super::params::Params;
use super::problem::Problem;
use super::sight::{sees, sees_gateway, sees_subscription};
use super::times::rfc3339_of;
use crate::fleet::query::{PlaceCounts, Tally};
use crate::fleet::{Grant, SiteKind};
use crate::health::{OverallState, RuleId, Subject};
use crate::limits::GRID_STEP_ROWS;
use crate::wire::id::{GatewayId, SiteId, SubscriptionId, ZoneId};

use list::{Asked, List, Named, Row};

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

impl Row for SubscriptionItem {
    const COLUMNS: &'static [&'static str] = &["id", "name", "sites", "sensors"];

    fn cells(&self, line: &mut Line<'_>) {
        line.cell(&self.id);
        line.cell(&self.name);
        line.cell(&self.sites.to_string());
        line.cell(&self.sensors.to_string());
    }
}

impl Row for SiteItem {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "name",
        "kind",
        "subscription",
        "tags",
        "owners",
        "muted",
        "zones",
        "sensors",
        "healthy",
        "unhealthy",
        "sensors_muted",
        "connected",
        "messages",
    ];

    fn cells(&self, line: &mut Line<'_>) {
        line.cell(&self.id);
        line.cell(&self.name);
        line.cell(self.kind);
        line.cell(self.subscription.name());
        let tags = self.tags.iter().map(|(key, value)| format!("{key}={value}"));
        line.cell(&tags.collect::<Vec<_>>().join("; "));
        line.cell(&self.owners.join("; "));
        line.cell(yes(self.muted));
        line.cell(&self.zones.to_string());
        self.sensors.cells(line);
        line.cell(&self.messages.join("; "));
    }
}

impl Row for ZoneItem {
    const COLUMNS: &'static [&'static str] =
        &["id", "name", "site", "sensors", "healthy", "unhealthy", "sensors_muted", "connected"];

    fn cells(&self, line: &mut Line<'_>) {
        line.cell(&self.id);
        line.cell(&self.name);
        line.cell(self.site.name());
        self.sensors.cells(line);
    }
}

impl Row for GatewayItem {
    const COLUMNS: &'static [&'static str] =
        &["id", "name", "sites", "connected", "last_seen", "sensors", "messages"];

    fn cells(&self, line: &mut Line<'_>) {
        line.cell(&self.id);
        line.cell(&self.name);
        let sites: Vec<&str> = self.sites.iter().map(Reference::name).collect();
        line.cell(&sites.join("; "));
        line.cell(yes(self.connected));
        line.cell(self.last_seen.as_deref().unwrap_or_default());
        line.cell(&self.sensors.to_string());
        line.cell(&self.messages.join("; "));
    }
}

fn yes(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

#[utoipa::path(get, path = "/api/v1/subscriptions", operation_id = "list-subscriptions", tag = "Subscriptions",
    summary = "Subscriptions, by name",
    params(
        ("q" = Option<String>, Query, max_length = 200, description = "Part of the name"),
        ("sort" = Option<String>, Query, description = "name, or -name for the other way round"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "Items on the page; 100 when not given"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page of subscriptions, or all of them as a signed file", content(
        (SubscriptionPage = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")))))]
pub(super) async fn subscriptions(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let asked = Asked::read(&mut params, &headers)?;
    asked.finish(params, &[])?;
    let list = List {
        name: "subscriptions",
        id: SubscriptionId,
        bytes: |id| id.0,
        items: |_, grants| Box::new(move |app, ids| subscription_items(app, &grants, ids)),
        page: |items, next| SubscriptionPage { items, next },
    };
    let find = |app: &App, caller: &Caller, asked: &Asked| -> Named<SubscriptionId> {
        let register = app.backend.register();
        let seen = register
            .subscriptions()
            .filter(|subscription| sees_subscription(&register, &caller.grants, subscription.id));
        seen.filter_map(|found| Some((asked.wanted(&found.name)?, found.id))).collect()
    };
    list.answer(&app, caller, asked, (), find).await
}

fn subscription_items(app: &App, grants: &[Grant], ids: &[SubscriptionId]) -> Vec<SubscriptionItem> {
    let register = app.backend.register();
    let item = |&id: &SubscriptionId| {
        let found = register.subscription(id)?;
        let sites = register.sites_of(id).filter(|site| sees(grants, site.id, id));
        let (count, sensors) = sites
            .fold((0, 0), |(sites, sensors), site| (sites + 1, sensors + register.sensors_of_count(site.id)));
        Some(SubscriptionItem { id: id.to_string(), name: found.name.to_string(), sites: count, sensors })
    };
    ids.iter().filter_map(item).collect()
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
    responses((status = 200, description = "A page of sites, or all of them as a signed file", content(
        (SitePage = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")))))]
pub(super) async fn sites(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let asked = Asked::read(&mut params, &headers)?;
    let subscription = params.read::<SubscriptionId>("subscription")?;
    let tag = params.take("tag")?;
    let owner = params.take("owner")?.map(|owner| owner.to_lowercase());
    asked.finish(params, &["subscription", "tag", "owner"])?;
    let list = List {
        name: "sites",
        id: SiteId,
        bytes: |id| id.0,
        items: |app, _| {
            let tally = tallied(app);
            Box::new(move |app, ids| site_items(app, &tally, ids))
        },
        page: |items, next| SitePage { items, next },
    };
    let filter = (subscription, tag.clone(), owner.clone());
    let find = move |app: &App, caller: &Caller, asked: &Asked| {
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
        found
    };
    list.answer(&app, caller, asked, filter, find).await
}

fn site_items(app: &App, tally: &Tally, ids: &[SiteId]) -> Vec<SiteItem> {
    // The engine before the register: a sweep asks the register.
    let keys: Vec<_> = ids.iter().map(|&id| (Subject::Site(id), RuleId::SiteOutage)).collect();
    let active = app.backend.active(&keys);
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
    fn cells(&self, line: &mut Line<'_>) {
        for count in [self.total, self.healthy, self.unhealthy, self.muted, self.connected] {
            line.cell(&count.to_string());
        }
    }

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
    responses((status = 200, description = "A page of zones, or all of them as a signed file", content(
        (ZonePage = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")))))]
pub(super) async fn zones(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let asked = Asked::read(&mut params, &headers)?;
    let site = params.read::<SiteId>("site")?;
    asked.finish(params, &["site"])?;
    let list = List {
        name: "zones",
        id: ZoneId,
        bytes: |id| id.0,
        items: |app, _| {
            let tally = tallied(app);
            Box::new(move |app, ids| zone_items(app, &tally, ids))
        },
        page: |items, next| ZonePage { items, next },
    };
    let find = move |app: &App, caller: &Caller, asked: &Asked| {
        let mut found = Vec::new();
        for (id, of, subscription, name) in app.backend.grid().zones() {
            let right = site.is_none_or(|wanted| wanted == of) && name.contains(asked.text.as_str());
            if right && sees(&caller.grants, of, subscription) {
                found.push((Arc::clone(name), id));
            }
        }
        found
    };
    list.answer(&app, caller, asked, site, find).await
}

fn zone_items(app: &App, tally: &Tally, ids: &[ZoneId]) -> Vec<ZoneItem> {
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
    ids.iter().zip(counts).filter_map(item).collect()
}

#[utoipa::path(get, path = "/api/v1/gateways", operation_id = "list-gateways", tag = "Gateways",
    summary = "Gateways, by name",
    params(
        ("q" = Option<String>, Query, max_length = 200, description = "Part of the name"),
        ("site" = Option<String>, Query, format = Uuid, description = "Only those that may speak for this site"),
        ("sort" = Option<String>, Query, description = "name, or -name for the other way round"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "Items on the page; 100 when not given"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page of gateways, or all of them as a signed file", content(
        (GatewayPage = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")))))]
pub(super) async fn gateways(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let asked = Asked::read(&mut params, &headers)?;
    let site = params.read::<SiteId>("site")?;
    asked.finish(params, &["site"])?;
    let list = List {
        name: "gateways",
        id: GatewayId,
        bytes: |id| id.0,
        items: |_, grants| Box::new(move |app, ids| gateway_items(app, &grants, ids)),
        page: |items, next| GatewayPage { items, next },
    };
    let find = move |app: &App, caller: &Caller, asked: &Asked| -> Named<GatewayId> {
        let register = app.backend.register();
        let seen = register.gateways().filter(|gateway| {
            site.is_none_or(|wanted| gateway.sites.contains(&wanted))
                && sees_gateway(&register, &caller.grants, gateway)
        });
        seen.filter_map(|found| Some((asked.wanted(&found.name)?, found.id))).collect()
    };
    list.answer(&app, caller, asked, site, find).await
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
