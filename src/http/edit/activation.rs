//! Activation files: made for a sensor that waits, one or many, and taken back as the response of one that never connects.
//!
//! A file holds the one secret with which a sensor gets its certificate. It exists only in the answer: the register has a
//! hash of it. Making one voids those before, so a lost answer costs a second request and nothing else.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::sensors::{document, editable};
use super::{At, Id, NoQuery, Registration, reach, reach_named};
use crate::fleet::{Permission, RefusalCode, Register};
use crate::http::app::App;
use crate::http::backend::IssuedActivation;
use crate::http::body::{self, Given};
use crate::http::caller::Caller;
use crate::http::etag::IfMatch;
use crate::http::problem::Problem;
use crate::http::times::rfc3339;
use crate::http::workers::{Places, work};
use crate::identity::ActivationResponse;
use crate::limits::ACTIVATIONS_MAX;
use crate::live::SensorType;
use crate::wire::id::SensorId;

/// Of a signed file.
pub(in crate::http) const SIGNED: &str = "application/jose+json";

/// One line to paste on a sensor's host.
#[derive(Serialize, ToSchema)]
#[schema(as = ActivationCommand)]
struct CommandDocument {
    command: String,
    /// When it is void, unless used before.
    expires_at: String,
    generation: u32,
}

/// Sensors that activation files are made for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ActivationsGiven)]
pub(in crate::http) struct GivenActivations {
    /// Ids of sensors that wait for activation; at most 1,000.
    #[schema(value_type = Vec<String>, max_items = 1_000)]
    items: Vec<Id<SensorId>>,
}

async fn issue(
    app: &Arc<App>,
    caller: Caller,
    ids: Vec<SensorId>,
    expect: impl Fn(&Register, &Caller) -> Result<(), Problem> + Send + 'static,
) -> Result<Vec<IssuedActivation>, Problem> {
    let job = move |app: &App| {
        let actor = caller.actor.clone();
        let may = |register: &Register| expect(register, &caller.anew(app, register)?);
        let issued = app.backend.issue_activations(&ids, actor, &may);
        issued.map_err(|error| Problem::not_applied(&error, &[]))
    };
    work(app, Places::Api, job).await?
}

async fn issue_one(
    app: &Arc<App>,
    caller: Caller,
    id: SensorId,
    expect: impl Fn(&Register, &Caller) -> Result<(), Problem> + Send + 'static,
) -> Result<IssuedActivation, Problem> {
    let issued = issue(app, caller, vec![id], expect).await?;
    issued.into_iter().next().ok_or_else(|| Problem::internal("no activation file was made"))
}

#[utoipa::path(post, path = "/api/v1/sensors/{id}/activation", operation_id = "make-activation-file", tag = "Activation",
    summary = "Makes the activation file of a sensor that waits for activation; files made before are void",
    description = "The answer is the file: signed, good once, void after 14 days. It is in no other place.",
    params(("id" = String, Path, format = Uuid, description = "Id of the sensor")),
    responses((status = 200, description = "The signed file", content((Object = "application/jose+json"))),
        (status = 412, description = "")))]
pub(in crate::http) async fn file(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<SensorId>,
    _: NoQuery,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let may = move |register: &Register, caller: &Caller| editable(register, caller, id, &if_match);
    let IssuedActivation { name, bytes, .. } = issue_one(&app, caller, id, may).await?;
    // The name is made of letters, digits and a few signs; a server's own.
    let attachment = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""));
    let attachment = attachment.unwrap_or(HeaderValue::from_static("attachment"));
    let headers =
        [(header::CONTENT_TYPE, HeaderValue::from_static(SIGNED)), (header::CONTENT_DISPOSITION, attachment)];
    Ok((headers, bytes).into_response())
}

#[utoipa::path(post, path = "/api/v1/sensors/{id}/activation-command", operation_id = "make-activation-command",
    tag = "Activation",
    summary = "Makes the activation command of an enterprise-IoT sensor: one line to paste on its host",
    description = "Files and commands made before are void.",
    params(("id" = String, Path, format = Uuid, description = "Id of the sensor")),
    responses((status = 200, description = "The command, with a secret in it", body = CommandDocument),
        (status = 412, description = "")))]
pub(in crate::http) async fn command(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<SensorId>,
    _: NoQuery,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let may = move |register: &Register, caller: &Caller| {
        editable(register, caller, id, &if_match)?;
        let kind = register.sensor(id).map(|sensor| sensor.kind);
        if kind == Some(SensorType::EnterpriseIot) { Ok(()) } else { Err(wrong_mode("enterprise-iot")) }
    };
    let issued = issue_one(&app, caller, id, may).await?;
    let IssuedActivation { command, expires_at, generation, .. } = issued;
    let document = CommandDocument { command, expires_at: rfc3339(expires_at), generation };
    Ok(Json(document).into_response())
}

#[utoipa::path(post, path = "/api/v1/activations", operation_id = "make-activation-files", tag = "Activation",
    summary = "Makes activation files of many sensors: all of them or none",
    request_body = GivenActivations,
    responses((status = 200, description = "A signed file on each line, in the order of `items`",
        content((String = "application/x-ndjson")))))]
pub(in crate::http) async fn many(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
    Given(GivenActivations { items }): Given<GivenActivations>,
) -> Result<Response, Problem> {
    if items.len() > ACTIVATIONS_MAX {
        let detail = format!("`items` has {} ids; give at most {ACTIVATIONS_MAX}", items.len());
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too-many", detail)
            .field("items", format!("at most {ACTIVATIONS_MAX} ids")));
    }
    let ids: Vec<SensorId> = items.into_iter().map(|Id(id)| id).collect();
    let mut seen = HashSet::with_capacity(ids.len());
    if let Some(place) = ids.iter().position(|id| !seen.insert(*id)) {
        let detail = format!("`items[{place}]` is given twice; the first of its files would be void");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "given-twice", detail)
            .field(format!("items[{place}]"), "each id once"));
    }
    let asked = ids.clone();
    let may = move |register: &Register, caller: &Caller| {
        let each = |(place, &id): (usize, &SensorId)| {
            reach_named(caller, register, Permission::EditFleet, &format!("items[{place}]"), id)
        };
        asked.iter().enumerate().try_for_each(each)
    };
    let issued = issue(&app, caller, ids, may).await?;
    let mut lines = Vec::with_capacity(issued.iter().map(|file| file.bytes.len() + 1).sum());
    for file in issued {
        // Compact JSON has no line ends of its own.
        lines.extend(file.bytes.into_iter().filter(|byte| *byte != b'\n'));
        lines.push(b'\n');
    }
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"activation-files.ndjson\""),
    ];
    Ok((headers, lines).into_response())
}

#[utoipa::path(post, path = "/api/v1/sensors/{id}/response", operation_id = "take-activation-response", tag = "Activation",
    summary = "Takes the response file of a locally managed sensor, which becomes active by it",
    params(("id" = String, Path, format = Uuid, description = "Id of the sensor")),
    request_body(content((Object = "application/jose+json"))),
    responses((status = 200, description = "As it is declared now", body = Registration),
        (status = 412, description = "")))]
pub(in crate::http) async fn response(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<SensorId>,
    _: NoQuery,
    if_match: IfMatch,
    request: Request,
) -> Result<Response, Problem> {
    let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
    let essence = content_type.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = essence.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if ![SIGNED, "application/json"].contains(&essence.as_str()) {
        let detail = format!("`Content-Type` is not that of a signed file; send {SIGNED}");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail)
            .field("Content-Type", SIGNED));
    }
    let bytes = body::read(request).await?;
    let job = move |app: &App| {
        // Somebody who may not touch the sensor learns nothing of the file.
        reach(&caller, &app.backend.register(), Permission::EditFleet, id)?;
        let read = ActivationResponse::read(&bytes);
        let read = read.map_err(|error| unfit(error.code(), error.to_string()))?;
        if read.sensor != id {
            let detail = format!("the file is the response of another sensor, {}", read.sensor);
            return Err(unfit("wrong-sensor", detail));
        }
        let may = |register: &Register| {
            editable(register, &caller.anew(app, register)?, id, &if_match)?;
            let kind = register.sensor(id).map(|sensor| sensor.kind);
            if kind == Some(SensorType::OtLocal) { Ok(()) } else { Err(wrong_mode("ot-local")) }
        };
        let taken = app.backend.take_response(&read, caller.actor.clone(), &may);
        taken.map_err(|error| Problem::not_applied(&error, &[]))?;
        document(&app.backend.register(), id, app.clock.unix())
    };
    Ok(work(&app, Places::Api, job).await??.into_response())
}

fn wrong_mode(wanted: &str) -> Problem {
    let detail = format!("the sensor is of another type; this is for {wanted} sensors");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, RefusalCode::WrongMode.as_str(), detail)
        .field("id", format!("the id of an {wanted} sensor"))
}

fn unfit(code: &'static str, detail: String) -> Problem {
    let valid = "the response file that `fleetpulse agent activate --offline` made for this sensor";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail).field("body", valid)
}
