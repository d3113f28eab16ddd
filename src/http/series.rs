//! `GET /api/v1/sensors/{id}/series`: one charted value of one sensor over time, from the history.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::caller::Caller;
use super::edit::reach;
use super::params::{Params, path_id};
use super::problem::Problem;
use super::times::rfc3339;
use super::workers::{Places, work};
use crate::fleet::Permission;
use crate::store::Metric;
use crate::wire::id::SensorId;

#[derive(Serialize, ToSchema)]
#[schema(as = Series)]
struct SeriesDocument {
    sensor: String,
    metric: &'static str,
    from: String,
    until: String,
    /// In order of time. Times in which nothing is known have none.
    points: Vec<PointDocument>,
    /// Blocks of history that are damaged and left out.
    damaged_blocks: usize,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Point)]
struct PointDocument {
    /// Beginning of the time that it stands for.
    at: String,
    /// How long that is.
    seconds: i64,
    min: f64,
    max: f64,
    last: f64,
}

const PARAMS: [&str; 3] = ["metric", "from", "until"];
/// What is shown when nobody says from when: the time of five-minute points.
const DEFAULT_SPAN: Duration = Duration::from_secs(24 * 3_600);

#[utoipa::path(get, path = "/api/v1/sensors/{id}/series", operation_id = "get-sensor-series", tag = "Sensors",
    summary = "One charted value of one sensor over time",
    params(
        ("id" = String, Path, format = Uuid, description = "Id of the sensor"),
        ("metric" = String, Query, description = "Which value, such as cpu or delivery-ratio"),
        ("from" = Option<String>, Query, format = DateTime, description = "From this time; a day before `until` when not given"),
        ("until" = Option<String>, Query, format = DateTime, description = "Until this time; now when not given")),
    responses((status = 200, description = "Points in order of time", body = SeriesDocument)))]
pub(super) async fn series(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let sensor: SensorId = path_id("id", &id)?;
    let mut params = Params::parse(query.as_deref())?;
    let names = || Metric::ALL.iter().map(|metric| metric.as_str()).collect::<Vec<_>>();
    let metric = params.choice("metric", Metric::from_name, names)?;
    let (from, until) = params.range()?;
    params.finish(&PARAMS)?;
    let missing =
        || Problem::bad_parameter("metric", "it is missing", &format!("one of {}", names().join(", ")));
    let metric = metric.ok_or_else(missing)?;
    let until = until.unwrap_or_else(|| app.clock.unix());
    let from = from.unwrap_or_else(|| until.minus(DEFAULT_SPAN));
    let document = work(&app, Places::Api, move |app| {
        reach(&caller, &app.backend.register(), Permission::View, sensor)?;
        let history = &app.backend.store().history;
        let series = history.series(sensor, metric, from, until).map_err(|error| Problem::store(&error))?;
        let point = |point: &crate::store::Point| PointDocument {
            at: rfc3339(point.at),
            seconds: point.resolution.millis() / 1_000,
            min: point.min,
            max: point.max,
            last: point.last,
        };
        Ok(SeriesDocument {
            sensor: sensor.to_string(),
            metric: metric.as_str(),
            from: rfc3339(from),
            until: rfc3339(until),
            points: series.points.iter().map(point).collect(),
            damaged_blocks: series.damaged,
        })
    });
    Ok(Json(document.await??).into_response())
}
