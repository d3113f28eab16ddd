//! `GET /api/v1/sensors`: the grid, filtered, ordered, a page at a time, or all of it as CSV or NDJSON.
//!
//! A page costs one pass over dense rows ([`crate::fleet::query`]), in steps between which the grid is given back, and
//! then a look at the slots of its sensors. Neither holds up a heartbeat or a sweep. A file is the order of one
//! moment (16 bytes a sensor) and is written piece by piece as the client reads ([`super::download`]), so its memory does
//! not grow with what is said of the sensors.

mod export;
mod item;
mod params;

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::app::App;
use super::caller::Caller;
use super::cursor::Cursors;
use super::file::format_of;
use super::params::Params;
use super::problem::Problem;
use super::sight::sees;
use super::workers::{Places, work};
use crate::fleet::query::{Facets, Hit, Key, Mark, Outcome, Query, Search, SortBy};
use crate::fleet::{Grant, Register};
use crate::health::{OverallState, Version};
use crate::limits::{FACET_SITES_SHOWN, GRID_STEP_ROWS, SENSORS_BATCH};
use crate::live::{Lifecycle, SensorType};
use crate::wire::heartbeat::inline_str;
use crate::wire::id::{SensorId, SiteId};

use item::{Fields, Seen, SensorItem};
pub(super) use params::{FILTER, Wanted};

/// One page.
#[derive(Serialize, ToSchema)]
#[schema(as = SensorPage)]
struct Page {
    items: Vec<SensorItem>,
    /// Cursor of the page after this one.
    next: Option<String>,
    /// Sensors that the filter finds, on all pages.
    total: usize,
    /// They, counted; when `facets=true` was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    facets: Option<FacetsDocument>,
}

/// Counts of what the filter finds.
#[derive(Serialize, ToSchema)]
#[schema(as = SensorFacets)]
struct FacetsDocument {
    health: Vec<Count>,
    r#type: Vec<Count>,
    lifecycle: Vec<Count>,
    /// The largest ones.
    site: Vec<Count>,
    /// Most frequent first; an empty value stands for "not known".
    version: Vec<Count>,
}

/// A value of a filter, and how many it would find.
#[derive(Serialize, ToSchema)]
#[schema(as = SensorFacet)]
struct Count {
    value: String,
    /// For people, when it is another text.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    count: u32,
}

/// Where a page ended, as a cursor has it.
#[derive(Serialize, Deserialize)]
enum Place {
    #[serde(rename = "n")]
    Number(u64, SensorId16),
    #[serde(rename = "v")]
    Version(Option<String>, SensorId16),
    #[serde(rename = "t")]
    Text(String, SensorId16),
}

type SensorId16 = [u8; 16];

#[utoipa::path(get, path = "/api/v1/sensors", operation_id = "list-sensors", tag = "Sensors",
    summary = "Sensors: filtered, in order, a page at a time; or all of them as a file",
    description = "With `Accept: text/csv` or `application/x-ndjson` all sensors that the filter finds come as one file, \
        without `limit` and `cursor`. Parameters that take several values take them with commas between or repeated, \
        and mean any of them. In CSV, a text that a spreadsheet could take for a formula has an apostrophe in front. The \
        signature of a file is where its header `Fleetpulse-Signature` says.",
    params(
        ("q" = Option<String>, Query, max_length = 200, description = "Words, each of which is in the name, notes, site, zone, version or (from 8 characters on) id"),
        ("site" = Option<String>, Query, description = "Sites, by id or name"),
        ("zone" = Option<String>, Query, description = "Zones, by id or name"),
        ("subscription" = Option<String>, Query, description = "Subscriptions, by id or name"),
        ("type" = Option<String>, Query, description = "ot-cloud, ot-local, enterprise-iot"),
        ("lifecycle" = Option<String>, Query, description = "pending-activation, active, pending-reactivation"),
        ("health" = Option<String>, Query, description = "healthy, unhealthy, unsupported, muted, in-doubt; or warning, critical, unknown, pending, stopped, local"),
        ("code" = Option<String>, Query, description = "Rules that have an active message, such as disconnected"),
        ("version" = Option<String>, Query, description = "26.1.2, 26.1* or <26.1, <=26.1, >26.1, >=26.1"),
        ("tag" = Option<String>, Query, description = "Tags of the site, `key` or `key=value`; all of them"),
        ("owner" = Option<String>, Query, description = "An owner of the site, by e-mail address"),
        ("connected" = Option<bool>, Query, description = "Connected or not"),
        ("ti_mode" = Option<String>, Query, description = "automatic, manual"),
        ("ti_status" = Option<String>, Query, description = "unknown, ok, update-available, in-progress, failed"),
        ("sort" = Option<String>, Query, description = "health (worst first), name, type, zone, site, subscription, version, last_connected, ti_version, lifecycle; `-` in front turns it round"),
        ("fields" = Option<String>, Query, description = "Only these fields of each sensor (and `id`)"),
        ("facets" = Option<bool>, Query, description = "Count what the filter finds by health, type, lifecycle, site and version"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "Items on the page; 100 when not given"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before, with the same filter and order")),
    responses((status = 200, description = "A page of sensors, or a file", content(
        (Page = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")))))]
pub(super) async fn sensors(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let asked = params::Asked::read(&mut params)?;
    if let Some(format) = format_of(&headers) {
        params.finish(&[&params::FILTER[..], &params::LIST].concat())?;
        return export::file(&app, caller, asked, format).await;
    }
    let paging = params::Paging::read(&mut params)?;
    params.finish(&[&params::FILTER[..], &params::LIST, &params::PAGE].concat())?;
    let page = work(&app, Places::Api, move |app| page(app, &caller.grants, asked, &paging)).await??;
    Ok(Json(page).into_response())
}

fn page(app: &App, grants: &[Grant], asked: params::Asked, paging: &params::Paging) -> Result<Page, Problem> {
    let fields = asked.fields;
    let query = asked.resolve(&app.backend.grid(), grants)?;
    // Engine time begins anew with each run.
    let run = (query.sort == SortBy::LastConnected).then_some(app.run);
    let cursors = Cursors::of("sensors", (&query, run));
    let after = paging.cursor.as_deref().map(|text| cursors.read::<Place>(text).map(Place::into_mark));
    let after = after.transpose()?;
    let Outcome { hits, next, total, facets } =
        found(app, grants, &query, after.as_ref(), paging.limit, paging.facets);
    let mut items = Vec::with_capacity(hits.len());
    each(app, &hits, &mut |seen| items.push(SensorItem::of(seen, fields)));
    Ok(Page {
        items,
        next: next.map(|mark| cursors.show(&Place::of(mark))),
        total,
        facets: facets.map(|facets| counted(&app.backend.register(), &facets)),
    })
}

impl Place {
    fn of(mark: Mark) -> Place {
        let id = mark.id.0;
        match mark.key {
            Key::Number(number) => Place::Number(number, id),
            Key::Version(version) => Place::Version(version.map(|version| version.to_string()), id),
            Key::Text(text) => Place::Text(text.to_string(), id),
        }
    }

    fn into_mark(self) -> Mark {
        let (key, id) = match self {
            Place::Number(number, id) => (Key::Number(number), id),
            Place::Version(version, id) => (Key::Version(version.as_deref().and_then(Version::parse)), id),
            Place::Text(text, id) => (Key::Text(text.into()), id),
        };
        Mark { key, id: SensorId(id) }
    }
}

/// The sensors that a filter finds among those that somebody may see, by name; at most `most` of them, and how many there
/// are in all.
pub(super) fn chosen(
    app: &App,
    grants: &[Grant],
    wanted: Wanted,
    most: usize,
) -> Result<(Vec<SensorId>, usize), Problem> {
    let filter = wanted.resolve(&app.backend.grid(), grants)?;
    let query = Query { filter, sort: SortBy::Name, descending: false };
    let Outcome { hits, total, .. } = found(app, grants, &query, None, most, false);
    Ok((hits.into_iter().map(|hit| hit.id).collect(), total))
}

/// Goes through the grid in steps, so that neither a command nor another page waits for the whole of it.
fn found(
    app: &App,
    grants: &[Grant],
    query: &Query,
    after: Option<&Mark>,
    limit: usize,
    facets: bool,
) -> Outcome {
    let scope = |site, subscription| sees(grants, site, subscription);
    let mut search = Search::new(query, &scope, after, limit, app.clock.unix());
    if facets {
        search = search.with_facets();
    }
    while search.step(&app.backend.grid(), app.backend.live(), GRID_STEP_ROWS) {}
    search.finish()
}

/// Looks at these sensors, some hundred at a time: the slots first, then with the register in hand. Who is gone by now
/// is left out.
fn each(app: &App, hits: &[Hit], look: &mut dyn FnMut(&Seen<'_>)) {
    let live = app.backend.live();
    let mut slots = Vec::with_capacity(SENSORS_BATCH.min(hits.len()));
    for hits in hits.chunks(SENSORS_BATCH) {
        slots.clear();
        slots.extend(hits.iter().map(|hit| {
            let snapshot = live.snapshot(hit.slot).filter(|snapshot| snapshot.id == hit.id);
            let snapshot = snapshot.or_else(|| live.snapshot_of(hit.id));
            let slot = snapshot.as_ref().map_or(hit.slot, |snapshot| snapshot.handle.index);
            (hit.id, snapshot, slot)
        }));
        let now = app.clock.now();
        let register = app.backend.register();
        for (id, snapshot, slot) in &slots {
            if let Some(seen) = Seen::of(&register, live, *id, snapshot.as_ref(), *slot, now) {
                look(&seen);
            }
        }
    }
}

fn counted(register: &Register, facets: &Facets) -> FacetsDocument {
    let named = |value: &'static str, count: u32| Count { value: value.to_owned(), name: None, count };
    let groups = ["healthy", "unhealthy", "unsupported", "muted"].into_iter().zip(facets.health);
    let states = OverallState::ALL.iter().map(|state| (state.as_str(), facets.states[*state as usize]));
    let mut sites: Vec<(SiteId, u32)> = facets.sites.iter().map(|(id, count)| (*id, *count)).collect();
    sites.sort_unstable_by_key(|&(id, count)| (std::cmp::Reverse(count), id));
    let mut versions: Vec<(&str, u32)> =
        facets.versions.iter().map(|(raw, count)| (inline_str(raw).unwrap_or(""), *count)).collect();
    versions.sort_unstable_by_key(|&(version, count)| (std::cmp::Reverse(count), version));
    FacetsDocument {
        health: groups
            .chain(states.filter(|(name, _)| *name != "healthy"))
            .map(|(name, count)| named(name, count))
            .collect(),
        r#type: SensorType::ALL
            .iter()
            .map(|kind| named(kind.as_str(), facets.kinds[*kind as usize]))
            .collect(),
        lifecycle: Lifecycle::ALL[..3]
            .iter()
            .map(|state| named(state.as_str(), facets.lifecycles[*state as usize]))
            .collect(),
        site: sites
            .into_iter()
            .take(FACET_SITES_SHOWN)
            .map(|(id, count)| Count {
                value: id.to_string(),
                name: register.site(id).map(|site| site.name.to_string()),
                count,
            })
            .collect(),
        version: versions
            .into_iter()
            .map(|(version, count)| Count { value: version.to_owned(), name: None, count })
            .collect(),
    }
}

/// The fields of a sensor, for the parameter.
fn fields_of(names: &[String]) -> Result<Fields, Problem> {
    if names.is_empty() {
        return Ok(Fields::ALL);
    }
    let mut fields = Fields::ID;
    for name in names {
        let known = Fields::named(name).ok_or_else(|| {
            let valid = format!("some of {}, with commas between", Fields::names().join(", "));
            Problem::bad_value("fields", name, &valid)
        });
        fields = fields.with(known?);
    }
    Ok(fields)
}
