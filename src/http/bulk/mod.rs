//! Changes of many sensors at once: `POST /api/v1/bulk`, and the jobs that carry them out.
//!
//! A job goes on in durable batches of bounded size, so that single changes come between two of them and a disk that
//! fails leaves whole batches behind; with `all_or_nothing` it is one batch. What becomes of each item is kept until the
//! job is forgotten. Rights are looked at item by item, under the lock of the change: what lies outside the caller's
//! scope is told like what is not there. Jobs live in memory: a restart forgets them, and what their batches did stays.

mod action;
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
use super::body::Given;
use super::caller::Caller;
use super::edit::{Id, NoQuery, location};
use super::problem::Problem;
use super::workers::{Places, work};
use crate::limits::BULK_ITEMS_MAX;
use crate::wire::id::SensorId;

use action::{Action, ActionName, Arguments, Item};
pub(super) use jobs::Jobs;
use jobs::{ItemDocument, JobDocument};

/// A change of many sensors.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Bulk)]
pub(super) struct GivenBulk {
    action: ActionName,
    /// Ids of sensors; for `rename` objects with `id` and `name`. At most 10,000.
    #[schema(value_type = Vec<GivenItemSchema>, max_items = 10_000)]
    items: Vec<GivenItem>,
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
    /// Items that the change can be done to.
    would_do: usize,
    /// Whether anything would be done at all: with `all_or_nothing` only when nobody is left out.
    would_run: bool,
    /// Who is left out, and why.
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
    let GivenBulk { action, items, arguments, dry_run, all_or_nothing } = given;
    if items.len() > BULK_ITEMS_MAX {
        let detail = format!("`items` has {} items; give at most {BULK_ITEMS_MAX}", items.len());
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too-many", detail)
            .field("items", format!("at most {BULK_ITEMS_MAX} items")));
    }
    let items: Vec<Item> = items.into_iter().map(|GivenItem(item)| item).collect();
    let action = Action::read(action, arguments, &items)?;
    if dry_run {
        let document = work(&app, Places::Api, move |app| dry(app, &caller, &action, &items, all_or_nothing));
        return Ok(Json(document.await??).into_response());
    }
    let job = app.jobs.begin(&app, &caller, action.name(), items.len())?;
    let document = job.document();
    let at = location(&format!("/api/v1/jobs/{}", document.id()));
    run::start(&app, caller, job, action, items, all_or_nothing);
    Ok((StatusCode::ACCEPTED, [at], Json(document)).into_response())
}

fn dry(
    app: &App,
    caller: &Caller,
    action: &Action,
    items: &[Item],
    all_or_nothing: bool,
) -> Result<DryRun, Problem> {
    let register = app.backend.register();
    let planned = run::Planned::of(&register, caller, action, items);
    let sifted = register.sift(&planned.commands, caller.actor.clone(), app.clock.unix());
    let told = planned.told(sifted.refused);
    let left_out: Vec<ItemDocument> =
        told.into_iter().map(|(index, told)| ItemDocument::refused(items[index].id, &told)).collect();
    Ok(DryRun {
        action: action.name(),
        total: items.len(),
        would_do: items.len() - left_out.len(),
        would_run: left_out.is_empty() || !all_or_nothing && left_out.len() < items.len(),
        left_out,
    })
}
