//! `/api/v1/sensors/{id}/...`: steps of a sensor's life that an operator takes.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::sensors::{document, editable};
use super::{At, NoQuery, Registration, Tagged, change};
use crate::fleet::{Command, RefusalCode, Register};
use crate::http::app::App;
use crate::http::caller::Caller;
use crate::http::etag::IfMatch;
use crate::http::problem::Problem;
use crate::live::{Lifecycle, SensorType};
use crate::wire::id::SensorId;

#[utoipa::path(post, path = "/api/v1/sensors/{id}/reactivate", operation_id = "reactivate-sensor", tag = "Sensors",
    summary = "Sends an active sensor to reactivation: same row, same history, a new activation file",
    description = "Its connection ends until it is activated again.",
    params(("id" = String, Path, format = Uuid, description = "Id of the sensor")),
    responses((status = 200, description = "As it is declared now", body = Registration),
        (status = 412, description = "")))]
pub(in crate::http) async fn reactivate(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<SensorId>,
    _: NoQuery,
    if_match: IfMatch,
) -> Result<impl IntoResponse, Problem> {
    let command = Command::SetLifecycle { id, lifecycle: Lifecycle::PendingReactivation };
    step(&app, caller, id, if_match, command, |_| Ok(())).await
}

#[utoipa::path(post, path = "/api/v1/sensors/{id}/revoke", operation_id = "revoke-sensor", tag = "Sensors",
    summary = "Makes all certificates of a sensor void at once; it waits for reactivation",
    params(("id" = String, Path, format = Uuid, description = "Id of the sensor")),
    responses((status = 200, description = "As it is declared now", body = Registration),
        (status = 412, description = "")))]
pub(in crate::http) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<SensorId>,
    _: NoQuery,
    if_match: IfMatch,
) -> Result<impl IntoResponse, Problem> {
    step(&app, caller, id, if_match, Command::RevokeCredentials { id }, |_| Ok(())).await
}

#[utoipa::path(post, path = "/api/v1/sensors/{id}/mark-active", operation_id = "mark-sensor-active", tag = "Sensors",
    summary = "Marks a locally managed sensor as active: it never connects by itself",
    params(("id" = String, Path, format = Uuid, description = "Id of the sensor")),
    responses((status = 200, description = "As it is declared now", body = Registration),
        (status = 412, description = "")))]
pub(in crate::http) async fn mark_active(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<SensorId>,
    _: NoQuery,
    if_match: IfMatch,
) -> Result<impl IntoResponse, Problem> {
    let command = Command::SetLifecycle { id, lifecycle: Lifecycle::Active };
    step(&app, caller, id, if_match, command, |kind| match kind {
        SensorType::OtLocal => Ok(()),
        SensorType::OtCloud | SensorType::EnterpriseIot => {
            let detail = format!(
                "a sensor of type {} becomes active by its activation file; only ot-local is marked",
                kind.as_str()
            );
            let code = RefusalCode::WrongMode.as_str();
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
                .field("id", "the id of an ot-local sensor"))
        }
    })
    .await
}

async fn step(
    app: &Arc<App>,
    caller: Caller,
    id: SensorId,
    if_match: IfMatch,
    command: Command,
    fits: impl Fn(SensorType) -> Result<(), Problem> + Send + 'static,
) -> Result<Tagged<Registration>, Problem> {
    let may = move |register: &Register, caller: &Caller| {
        editable(register, caller, id, &if_match)?;
        register.sensor(id).map_or(Ok(()), |sensor| fits(sensor.kind))
    };
    change(app, caller, vec![command], may, move |register, at| document(register, id, at)).await
}
