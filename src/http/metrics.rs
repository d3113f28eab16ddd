//! `/metrics`: the server and the fleet as a whole, for Prometheus.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::app::App;
use super::problem::Problem;
use super::workers::{Places, work};
use crate::export::Format;

#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "Metrics",
    summary = "The server and the fleet as a whole, for Prometheus",
    description = "Classic text, or OpenMetrics for who asks for it in `Accept`. At most 1,000 series, whatever the fleet.",
    responses((status = 200, description = "A page of metrics", content(
        (String = "text/plain"), (String = "application/openmetrics-text")))))]
pub(super) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let format = format_of(&headers);
    let page = work(&app, Places::Reserved, move |app| app.exposition.render(format)).await?;
    Ok((content_type(format), page).into_response())
}

/// The format that the client asks for.
pub(super) fn format_of(headers: &HeaderMap) -> Format {
    let accept: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    Format::negotiate(&accept.join(","))
}

/// Headers that say which format it is, and that it depends on the request.
pub(super) fn content_type(format: Format) -> [(header::HeaderName, HeaderValue); 2] {
    [
        (header::CONTENT_TYPE, HeaderValue::from_static(format.content_type())),
        (header::VARY, HeaderValue::from_static("accept")),
    ]
}
