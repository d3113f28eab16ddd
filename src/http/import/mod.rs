//! `POST /api/v1/sensors/import`: thousands of sensors onboarded from one CSV or JSON file.
//!
//! All rows, or none and what is wrong with which: a file is mended and sent again. `partial=true` takes the good rows
//! instead. What is done is one durable batch. A row is looked at against the register as the rows before it leave it,
//! so two rows of one name are told as well.

mod plan;
mod rows;

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::body;
use super::caller::Caller;
use super::change::sift;
use super::documents::Reference;
use super::params::Params;
use super::problem::{Problem, RowFault};
use super::workers::{Places, work};
use crate::fleet::{Register, Sifted};
use crate::limits::IMPORT_FAULTS_TOLD;
use plan::Plan;
use rows::Row;

/// What an import did.
#[derive(Serialize, ToSchema)]
#[schema(as = Imported)]
struct ImportedDocument {
    /// Nothing was done; this is what would be.
    dry_run: bool,
    /// Rows in all.
    rows: usize,
    /// In the order of the rows. Ids of a dry run are only examples.
    sensors: Vec<ImportedSensor>,
    /// Made because they were missing.
    sites: Vec<Reference>,
    /// Made because they were missing.
    zones: Vec<Reference>,
    /// Rows that were left out, with `partial=true`; at most 1,000 of them.
    left_out: Vec<RowFault>,
    /// How many were left out.
    left_out_count: usize,
}

/// A sensor that an import made.
#[derive(Serialize, ToSchema)]
struct ImportedSensor {
    /// Line of the CSV, or number of the item in the JSON array.
    line: u64,
    id: String,
    name: String,
}

/// How to import.
#[derive(Clone, Copy, Debug)]
struct Manner {
    dry_run: bool,
    partial: bool,
    create_places: bool,
}

const PARAMS: [&str; 3] = ["dry_run", "partial", "create_places"];

fn switch(params: &mut Params, name: &str) -> Result<bool, Problem> {
    let read = params.choice(
        name,
        |text| ["true", "false"].into_iter().find(|known| *known == text),
        || vec!["true", "false"],
    )?;
    Ok(read == Some("true"))
}

#[utoipa::path(post, path = "/api/v1/sensors/import", operation_id = "import-sensors", tag = "Sensors",
    summary = "Onboards many sensors from a CSV or JSON file: all rows or none, with what is wrong in which",
    description = "CSV in UTF-8 with a header line; comma or semicolon between. Columns: `name`, `type` (ot-cloud when empty), \
        `subscription`, `site`, `zone` (by name or id; the subscription may be left out where there is one), `notes`, \
        `threat_intel_mode`, and for sites that are made `tags` (`key=value;key=value`) and `owners` (addresses with `;`). \
        Enterprise-IoT sensors need no site and zone. At most 10,000 rows.",
    params(
        ("dry_run" = Option<bool>, Query, description = "Only say what would be done"),
        ("partial" = Option<bool>, Query, description = "Take the good rows, leave out the others"),
        ("create_places" = Option<bool>, Query, description = "Make sites and zones that are missing")),
    request_body(content((String = "text/csv"), (Vec<Row> = "application/json"))),
    responses((status = 200, description = "Done, or a dry run: what was made and left out", body = ImportedDocument),
        (status = 507, description = "")))]
pub(super) async fn import(
    State(app): State<Arc<App>>,
    caller: Caller,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let manner = Manner {
        dry_run: switch(&mut params, "dry_run")?,
        partial: switch(&mut params, "partial")?,
        create_places: switch(&mut params, "create_places")?,
    };
    params.finish(&PARAMS)?;
    let format = rows::Format::of(request.headers())?;
    let bytes = body::read(request).await?;
    let done = work(&app, Places::Api, move |app| {
        let (rows, faults) = format.rows(&bytes)?;
        carry_out(app, &caller, manner, &rows, faults)
    });
    Ok(Json(done.await??).into_response())
}

fn carry_out(
    app: &App,
    caller: &Caller,
    manner: Manner,
    rows: &[(u64, Row)],
    unread: Vec<RowFault>,
) -> Result<ImportedDocument, Problem> {
    let at = app.clock.unix();
    let all = rows.len() + unread.len();
    let mut made = None;
    let mut plan = |register: &Register, caller: &Caller| {
        let plan = made.insert(Plan::make(register, caller, manner, rows, unread.clone(), at));
        let does = !manner.dry_run && (plan.faults.is_empty() || manner.partial);
        if does { plan.commands() } else { Vec::new() }
    };
    // The plan has tried its commands under this very lock: nothing is refused now.
    let go = |sifted: &Sifted| sifted.refused.is_empty();
    let sifted = sift(app, caller, &mut plan, &go);
    let sifted = sifted.map_err(|error| Problem::not_applied(&error, &[]))?;
    if let Some(refusal) = sifted.refused.first() {
        return Err(Problem::refused(refusal, &[]));
    }
    let plan = made.ok_or_else(|| Problem::internal("the import was not planned"))?;
    if !plan.faults.is_empty() && !manner.partial {
        return Err(refused(plan.faults, all));
    }
    Ok(document(plan, manner, all))
}

fn refused(mut faults: Vec<RowFault>, all: usize) -> Problem {
    let count = faults.len();
    let first =
        faults.first().map_or_else(String::new, |fault| format!("line {}: {}", fault.line, fault.detail));
    faults.truncate(IMPORT_FAULTS_TOLD);
    let detail = format!("{count} of {all} rows can't be taken, and nothing was done; {first}");
    let field = faults.first().map_or("", |fault| fault.column.as_str()).to_owned();
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "rows-refused", detail)
        .field(field, "what `rows` says of each; or partial=true for the others")
        .rows(faults)
}

fn document(plan: Plan, manner: Manner, rows: usize) -> ImportedDocument {
    let left_out_count = plan.faults.len();
    let Plan { sensors, sites, zones, faults: mut left_out, .. } = plan;
    left_out.truncate(IMPORT_FAULTS_TOLD);
    let made = |(line, id, name): (u64, crate::wire::id::SensorId, String)| ImportedSensor {
        line,
        id: id.to_string(),
        name,
    };
    ImportedDocument {
        dry_run: manner.dry_run,
        rows,
        sensors: sensors.into_iter().map(made).collect(),
        sites: sites.iter().map(|(id, name)| Reference::new(id, name)).collect(),
        zones: zones.iter().map(|(id, name)| Reference::new(id, name)).collect(),
        left_out,
        left_out_count,
    }
}
