//! Server-sent events: `GET /api/v1/events/sensors` (what is changed in the register, and how sensors stand) and
//! `GET /api/v1/events/messages` (health messages that begin and end).
//!
//! ```text
//! register log, journal --position--> follower --one encoding an event--> ring --a place in it--> each reader
//! columns of live state --once a second--^
//! ```
//!
//! One follower looks at the ends of the logs ten times a second and puts what is new into a ring of fixed size. A
//! reader is a place in that ring and nothing else: a slow one costs no memory, falls out of the ring, is told so
//! (`gap`) and begins anew. While nobody listens nothing is read and nothing encoded.
//!
//! `id` is a place in a log. A client that comes back with it (`Last-Event-ID`) gets what came after, from the ring, or
//! from the log itself when the server was restarted. Live values are not in a log: who comes back is told to read
//! them again (`live` with `reset`). A place that no log knows (foreign, or too long ago) is answered by
//! `snapshot`: what the client has is void; it reads the list, and everything later follows. Events carry the state
//! after the change, so that seeing one twice does no harm.

mod encode;
mod follow;
mod ring;
mod stream;

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::app::App;
use super::caller::Caller;
use super::connections::Connection;
use super::counters::count;
use super::params::Params;
use super::problem::Problem;
use crate::limits::{EVENT_STREAMS_MAX, EVENT_STREAMS_RETRY};

pub(super) use follow::{begin, follow};
pub(super) use ring::Hub;

use stream::{EventBody, Stream};

/// Which events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Sensors,
    Messages,
}

#[utoipa::path(get, path = "/api/v1/events/sensors", operation_id = "follow-sensors", tag = "Events",
    summary = "Changes of sensors and places, and how sensors stand, as server-sent events",
    description = "Events: `sensor`, `zone`, `site`, `subscription`, `gateway` (changed in the register; with an `id` to \
        resume from), `live` (verdict or connection of some sensors, at most once a second each; with `reset` all live \
        values that the client has are void), `snapshot` (everything that the client has is void: read the lists; what \
        follows is everything later), `gap` (the client read too slowly; a `snapshot` follows). An event may come twice.",
    params(
        ("Last-Event-ID" = Option<String>, Header, description = "`id` of the last event that was seen"),
        ("cursor" = Option<String>, Query, description = "The same, for clients that can't set headers")),
    responses((status = 200, description = "Events, until either side ends it", body = String,
        content_type = "text/event-stream")))]
pub(super) async fn sensors(
    state: State<Arc<App>>,
    caller: Caller,
    connection: Extension<Arc<Connection>>,
    headers: HeaderMap,
    query: RawQuery,
) -> Result<Response, Problem> {
    events(state, &caller, connection, &headers, query, Topic::Sensors)
}

#[utoipa::path(get, path = "/api/v1/events/messages", operation_id = "follow-messages", tag = "Events",
    summary = "Health messages that begin and end, as server-sent events",
    description = "Events: `message` (an entry of the journal, as in `/api/v1/messages/history`; with an `id` to resume \
        from), `snapshot` (read `/api/v1/messages`; what follows is everything later), `gap` (the client read too slowly; \
        a `snapshot` follows). An event may come twice.",
    params(
        ("Last-Event-ID" = Option<String>, Header, description = "`id` of the last event that was seen"),
        ("cursor" = Option<String>, Query, description = "The same, for clients that can't set headers")),
    responses((status = 200, description = "Events, until either side ends it", body = String,
        content_type = "text/event-stream")))]
pub(super) async fn messages(
    state: State<Arc<App>>,
    caller: Caller,
    connection: Extension<Arc<Connection>>,
    headers: HeaderMap,
    query: RawQuery,
) -> Result<Response, Problem> {
    events(state, &caller, connection, &headers, query, Topic::Messages)
}

fn events(
    State(app): State<Arc<App>>,
    caller: &Caller,
    Extension(connection): Extension<Arc<Connection>>,
    headers: &HeaderMap,
    RawQuery(query): RawQuery,
    topic: Topic,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let cursor = params.take("cursor")?;
    params.finish(&["cursor"])?;
    let header = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?").to_owned());
    let Some(place) = app.events.enter(topic) else {
        count(&app.counters.busy);
        let detail = format!("{EVENT_STREAMS_MAX} clients follow events already; try again later");
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-streams", detail);
        return Err(problem.retry_after(EVENT_STREAMS_RETRY.as_secs()));
    };
    let stream = Stream::new(Arc::clone(&app), place, Arc::clone(&caller.grants), header.or(cursor));
    let body = Body::new(EventBody::new(stream, connection));
    let mut response = ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response();
    // A proxy that gathers answers would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}
