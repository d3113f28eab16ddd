//! The one table of what the HTTP side answers: path, name under which it is counted, methods, and who may.
//!
//! A new resource is a row here, its name in [`crate::export::table::ROUTES`], and its operations in
//! [`super::openapi`]. A route without a permission can't be written down.

use super::router::Access::{Metrics, Needs, Public};
use super::router::{Route, get, route};
use super::{
    docs, engine, fleet, message_history, messages, metrics, openapi, probes, sensor, sensor_metrics, series,
};
use crate::fleet::Permission::View;

/// Every route there is.
pub(super) fn table() -> Vec<Route> {
    vec![
        route("/livez", "livez", [get(Public, probes::livez)]),
        route("/readyz", "readyz", [get(Public, probes::readyz)]),
        route("/metrics", "metrics", [get(Metrics, metrics::metrics)]),
        route("/metrics/sensors", "sensor_metrics", [get(Metrics, sensor_metrics::sensor_metrics)]),
        route("/api/v1/engine", "engine", [get(Needs(View), engine::engine)]),
        route("/api/v1/fleet", "fleet", [get(Needs(View), fleet::fleet)]),
        route("/api/v1/messages", "messages", [get(Needs(View), messages::messages)]),
        route(
            "/api/v1/messages/history",
            "message_history",
            [get(Needs(View), message_history::message_history)],
        ),
        route("/api/v1/sensors/{id}", "sensor", [get(Needs(View), sensor::sensor)]),
        route("/api/v1/sensors/{id}/series", "sensor_series", [get(Needs(View), series::series)]),
        route("/api/v1/openapi.json", "openapi", [get(Public, openapi::openapi)]),
        route("/api/v1/docs", "docs", [get(Public, docs::docs)]),
    ]
}
