//! Which path is answered by whom.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use super::app::App;
use super::problem::Problem;
use super::{engine, fleet, message_history, messages, metrics, probes, sensor, sensor_metrics, series};
use crate::limits::HTTP_BODY_BYTES_MAX;

/// Path, the name under which it is counted (one of [`crate::export::table::ROUTES`]), and who answers.
fn resources() -> [(&'static str, &'static str, MethodRouter<Arc<App>>); 10] {
    [
        ("/livez", "livez", get(probes::livez)),
        ("/readyz", "readyz", get(probes::readyz)),
        ("/metrics", "metrics", get(metrics::metrics)),
        ("/metrics/sensors", "sensor_metrics", get(sensor_metrics::sensor_metrics)),
        ("/api/v1/engine", "engine", get(engine::engine)),
        ("/api/v1/fleet", "fleet", get(fleet::fleet)),
        ("/api/v1/messages", "messages", get(messages::messages)),
        ("/api/v1/messages/history", "message_history", get(message_history::message_history)),
        ("/api/v1/sensors/{id}", "sensor", get(sensor::sensor)),
        ("/api/v1/sensors/{id}/series", "sensor_series", get(series::series)),
    ]
}

/// All resources.
pub(super) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for (path, _, resource) in resources() {
        router = router.route(path, resource);
    }
    router
        .method_not_allowed_fallback(async |method: Method| Problem::method_not_allowed(method.as_str()))
        .fallback(async |uri: Uri| Problem::no_such_path(uri.path()))
        .layer(DefaultBodyLimit::max(HTTP_BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), around))
        .with_state(app)
}

/// Counts each answer, and says on each what holds for all.
async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| name_of(path.as_str()));
    let mut response = next.run(request).await.into_response();
    app.counters.answered(route.unwrap_or("other"), response.status().as_u16());
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn name_of(path: &str) -> &'static str {
    resources().iter().find(|(known, _, _)| *known == path).map_or("other", |(_, name, _)| name)
}
