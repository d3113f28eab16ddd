//! `GET /api/v1/enrolment-attempts`: who was refused at the enrolment port, sensors and strangers alike.
//!
//! "Activated, but no data" and "never got through" are told apart here: whoever got through to the port and was refused
//! is listed, with the reason. It is about the server, not about a site: an address that nobody knows stands in none. So
//! it takes the right to see everything.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::backend::RefusedEnrolment;
use super::edit::NoQuery;
use super::problem::Problem;
use super::times::rfc3339;
use super::workers::{Places, work};
use crate::fleet::Register;

/// Enrolments that were refused.
#[derive(Serialize, ToSchema)]
pub(super) struct RefusedEnrolmentList {
    items: Vec<RefusedEnrolmentDocument>,
}

/// Refused enrolments of one address, for one reason, for one sensor or for none that is known.
#[derive(Serialize, ToSchema)]
#[schema(as = RefusedEnrolment)]
struct RefusedEnrolmentDocument {
    /// Whose activation file or certificate it was; null: nobody's that is registered.
    sensor: Option<RefusedSensor>,
    /// Network address.
    from: String,
    /// Why the last one was refused, for programs.
    code: &'static str,
    /// The same for people, with what to do.
    reason: &'static str,
    #[schema(format = DateTime)]
    first: String,
    #[schema(format = DateTime)]
    last: String,
    count: u64,
    /// Version of the program that asked last, as it says.
    version: String,
}

#[derive(Serialize, ToSchema)]
struct RefusedSensor {
    #[schema(format = Uuid)]
    id: String,
    name: String,
}

impl RefusedEnrolmentDocument {
    fn of(register: &Register, refused: RefusedEnrolment) -> RefusedEnrolmentDocument {
        let RefusedEnrolment { sensor, from, refusal, first, last, count, version } = refused;
        let sensor = sensor.and_then(|id| register.sensor(id));
        RefusedEnrolmentDocument {
            sensor: sensor.map(|it| RefusedSensor { id: it.id.to_string(), name: it.name.to_string() }),
            from: from.to_string(),
            code: refusal.label(),
            reason: refusal.text(),
            first: rfc3339(first),
            last: rfc3339(last),
            count,
            version,
        }
    }
}

#[utoipa::path(get, path = "/api/v1/enrolment-attempts", operation_id = "list-refused-enrolments", tag = "Activation",
    summary = "Enrolments that were refused, newest first",
    description = "Since the server started, one line for each sensor, address and reason; of strangers the last 256, and \
        as many of sensors. What was refused of a sensor is also noted on it, and outlives a restart there.",
    responses((status = 200, description = "Who was refused, and why", body = RefusedEnrolmentList)))]
pub(super) async fn refused(State(app): State<Arc<App>>, _: NoQuery) -> Result<Response, Problem> {
    let list = work(&app, Places::Api, |app| {
        let refused = app.backend.refused_enrolments();
        let register = app.backend.register();
        let items = refused.into_iter().map(|refused| RefusedEnrolmentDocument::of(&register, refused));
        RefusedEnrolmentList { items: items.collect() }
    });
    Ok(Json(list.await?).into_response())
}
