//! Changes of many sensors at once: `POST /api/v1/bulk`, and the jobs that carry them out.
//!
//! A job goes on in durable batches of bounded size, so that single changes come between two of them and a disk that
//! fails leaves whole batches behind; with `all_or_nothing` it is one batch. What becomes of each item is kept until the
//! job is forgotten. Rights are looked at item by item and as they are then, under the lock of the change: what lies
//! outside the caller's scope is told like what is not there, and a job whose caller may not sign in any more ends. A
//! filter instead of names is looked up once, at the start, among what the caller may see; so a change of all that is
//! unhealthy does not run after what becomes so meanwhile. Jobs live in memory: a restart forgets them, and what their
//! batches did stays.

mod action;
mod filter;
pub(super) mod jobs;
mod run;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::app::App;
use super::body::{AtMost, Given};
use super::caller::Caller;
use super::change::sift;
use super::edit::{Id, NoQuery, location};
use super::problem::Problem;
use super::workers::{Places, work};
use crate::fleet::Register;
use crate::limits::{BULK_FOUND_MAX, BULK_ITEMS_MAX, BULK_LEFT_OUT_TOLD};
use crate::wire::id::SensorId;

use action::{Action, ActionName, Arguments, Item};
use filter::GivenFilter;
pub(super) use jobs::Jobs;
use jobs::{ItemDocument, JobDocument};

/// A change of many sensors.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Bulk)]
pub(super) struct GivenBulk {
    action: ActionName,
    /// Ids of sensors; for `rename` objects with `id` and `name`. At most 10,000. Either this or `filter`.
    #[schema(value_type = Option<Vec<GivenItemSchema>>, max_items = 10_000)]
    items: Option<AtMost<BULK_ITEMS_MAX, GivenItem>>,
    /// All sensors that these parameters of the list of sensors find when it starts, at most 50,000. Not for `rename`.
    #[schema(value_type = Option<filter::Described>)]
    filter: Option<GivenFilter>,
    /// An empty filter is meant: every sensor that the caller may see.
    #[serde(default)]
    all: bool,
    /// Nothing is done when the filter finds more: as many as a dry run said.
    at_most: Option<usize>,
    /// What the action needs; each says which.
    #[serde(default)]
    arguments: Arguments,
    /// Only say what would be done, and who is left out and why.
    #[serde(default)]
    dry_run: bool,
    /// Do nothing when anything is refused.
    #[serde(default)]
    all_or_nothing: bool,
}

/// A sensor's id, or an object with id and name.
#[derive(Debug)]
pub(super) struct GivenItem(Item);

/// How an item looks in a description.
#[derive(ToSchema)]
#[schema(as = BulkItem)]
#[allow(dead_code, reason = "only described")]
#[derive(Serialize)]
#[serde(untagged)]
enum GivenItemSchema {
    Id(String),
    Named(Named),
}

/// For `rename`.
#[derive(Serialize, ToSchema)]
#[schema(as = BulkName)]
struct Named {
    #[schema(format = Uuid)]
    id: String,
    name: String,
}

impl<'de> Deserialize<'de> for GivenItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<GivenItem, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            id: Id<SensorId>,
            name: Option<String>,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = GivenItem;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the id of a sensor, or an object with `id` and `name`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<GivenItem, E> {
                text.parse().map(|id| GivenItem(Item { id, name: None })).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GivenItem, A::Error> {
                let fields = Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(GivenItem(Item { id: fields.id.0, name: fields.name }))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// What a bulk change would do.
#[derive(Serialize, ToSchema)]
#[schema(as = DryRun)]
struct DryRun {
    action: &'static str,
    /// Items in all.
    total: usize,
    /// Sensors that the filter finds; none when `items` names them.
    matched: Option<usize>,
    /// Items that the change can be done to.
    would_do: usize,
    /// Whether anything would be done at all: with `all_or_nothing` only when nobody is left out.
    would_run: bool,
    /// Items that are left out.
    refused: usize,
    /// Who they are, and why: the first 10,000.
    left_out: Vec<ItemDocument>,
}

#[utoipa::path(post, path = "/api/v1/bulk", operation_id = "bulk-change", tag = "Bulk changes",
    summary = "Changes many sensors: move, edit, rename, set-mode, set-policy, mute, unmute, add-window, reactivate, revoke, delete",
    request_body = GivenBulk,
    responses((status = 200, description = "Dry run: what would be done, and who is left out", body = DryRun),
        (status = 202, description = "Under way; `Location` says where to look", body = JobDocument)))]
pub(super) async fn bulk(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    Given(given): Given<GivenBulk>,
) -> Result<Response, Problem> {
    let GivenBulk { action, items, filter, all, at_most, arguments, dry_run, all_or_nothing } = given;
    let (action, items, matched) = match (items, filter) {
        (Some(AtMost(items)), None) => {
            let unfit = [("all", all), ("at_most", at_most.is_some())].into_iter().find(|(_, there)| *there);
            if let Some((field, _)) = unfit {
                return Err(unfitting(field, "it belongs to `filter`", "it with `filter` alone"));
            }
            let items: Vec<Item> = items.into_iter().map(|GivenItem(item)| item).collect();
            (Action::read(action, arguments, &items)?, items, None)
        }
        (None, Some(filter)) => {
            if matches!(action, ActionName::Rename) {
                let wrong = "`rename` needs a name for each sensor";
                return Err(unfitting("filter", wrong, "`items` with `id` and `name`"));
            }
            let action = Action::read(action, arguments, &[])?;
            let (wanted, grants) = (filter.read(all)?, Arc::clone(&caller.grants));
            let most = at_most.unwrap_or(BULK_FOUND_MAX).min(BULK_FOUND_MAX);
            let found = work(&app, Places::Api, move |app| filter::find(app, &grants, wanted, most));
            let items = found.await??;
            let matched = items.len();
            (action, items, Some(matched))
        }
        (None, None) => {
            let detail = "the field `items` is missing; give `items` or `filter`";
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "missing-field", detail);
            return Err(problem.field("items", "`items` or `filter`"));
        }
        (Some(_), Some(_)) => {
            return Err(unfitting("filter", "`items` names the sensors already", "one of the two"));
        }
    };
    if dry_run {
        let document = work(&app, Places::Api, move |app| {
            let run = dry(app, &caller, &action, &items, all_or_nothing)?;
            Ok::<_, Problem>(DryRun { matched, ..run })
        });
        return Ok(Json(document.await??).into_response());
    }
    let job = app.jobs.begin(&app, &caller, action.name(), items.len())?;
    let document = job.document();
    let at = location(&format!("/api/v1/jobs/{}", document.id()));
    run::start(&app, caller, job, action, items, all_or_nothing);
    Ok((StatusCode::ACCEPTED, [at], Json(document)).into_response())
}

fn unfitting(field: &str, wrong: &str, valid: &str) -> Problem {
    let detail = format!("`{field}` can't be used: {wrong}; give {valid}");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-field", detail).field(field, valid)
}

fn dry(
    app: &App,
    caller: &Caller,
    action: &Action,
    items: &[Item],
    all_or_nothing: bool,
) -> Result<DryRun, Problem> {
    let mut planned = run::Planned::default();
    let mut plan = |register: &Register, caller: &Caller| {
        planned = run::Planned::of(register, caller, action, items);
        std::mem::take(&mut planned.commands)
    };
    let sifted = sift(app, caller, &mut plan, &|_| false);
    let told = planned.told(sifted.map_err(|error| Problem::not_applied(&error, &[]))?.refused);
    let refused = told.len();
    let register = app.backend.register();
    let document = |(index, told): &(usize, jobs::Told)| {
        ItemDocument::refused(&register, caller, items[*index].id, told)
    };
    Ok(DryRun {
        action: action.name(),
        total: items.len(),
        matched: None,
        would_do: items.len() - refused,
        would_run: refused == 0 || !all_or_nothing && refused < items.len(),
        refused,
        left_out: told.iter().take(BULK_LEFT_OUT_TOLD).map(document).collect(),
    })
}
