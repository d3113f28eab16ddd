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
//!
//! A stream lasts up to an hour and goes by what its caller may see now, not at its start: before each piece one number
//! is compared ([`super::sign_in::standing`]), and a change of it wakes those who wait. Who sees more or less than before
//! begins anew (`snapshot`), who may see nothing is told why (`end`). What was handed to the connection before is not
//! called back: at most [`crate::limits::EVENT_PIECE_BYTES`] and what sockets hold.

mod encode;
mod follow;
mod ring;
mod stream;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::IntoParams;

use super::app::App;
use super::caller::Caller;
use super::connections::Connection;
use super::counters::count;
use super::params::Params;
use super::problem::Problem;
use crate::limits::{EVENT_STREAMS_MAX, EVENT_STREAMS_RETRY};

pub(super) use follow::{begin, follow, watch_access};
pub(super) use ring::Hub;

use stream::{EventBody, Stream};

/// Which events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Sensors,
    Messages,
}

/// A request to follow events: all that it says but which.
pub(super) struct Follow {
    app: Arc<App>,
    caller: Caller,
    connection: Arc<Connection>,
    /// `id` of the last event that was seen.
    last: Option<String>,
}

impl FromRequestParts<Arc<App>> for Follow {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Follow, Problem> {
        let caller = Caller::from_request_parts(parts, app).await?;
        let connection = parts.extensions.get::<Arc<Connection>>().cloned();
        let connection =
            connection.ok_or_else(|| Problem::internal("this resource does not know its connection"))?;
        let mut params = Params::parse(parts.uri.query())?;
        let cursor = params.take("cursor")?;
        params.finish(&["cursor"])?;
        let header = parts.headers.get("last-event-id");
        let header = header.map(|value| value.to_str().unwrap_or("?").to_owned());
        Ok(Follow { app: Arc::clone(app), caller, connection, last: header.or(cursor) })
    }
}

impl Follow {
    fn answer(self, topic: Topic) -> Result<Response, Problem> {
        let Follow { app, caller, connection, last } = self;
        let Some(place) = app.events.enter(topic) else {
            count(&app.counters.busy);
            let detail = format!("{EVENT_STREAMS_MAX} clients follow events already; try again later");
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-streams", detail);
            return Err(problem.retry_after(EVENT_STREAMS_RETRY.as_secs()));
        };
        let body = Body::new(EventBody::new(Stream::new(app, place, &caller, last), connection));
        let mut response = ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response();
        // A proxy that gathers answers would hold events back.
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(response)
    }
}

/// Where to go on, in a header.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only described; `Follow` reads it")]
struct LastEventId {
    /// `id` of the last event that was seen
    #[param(rename = "Last-Event-ID")]
    last_event_id: Option<String>,
}

/// The same in the query.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "only described; `Follow` reads it")]
struct LastEventCursor {
    /// The same, for clients that can't set headers
    cursor: Option<String>,
}

#[utoipa::path(get, path = "/api/v1/events/sensors", operation_id = "follow-sensors", tag = "Events",
    summary = "Changes of sensors and places, and how sensors stand, as server-sent events",
    description = "Events: `sensor`, `zone`, `site`, `subscription`, `gateway` (changed in the register; with an `id` to \
        resume from), `live` (verdict or connection of some sensors, at most once a second each; with `reset` all live \
        values that the client has are void), `snapshot` (everything that the client has is void: read the lists; what \
        follows is everything later), `gap` (the client read too slowly; a `snapshot` follows), `end` (nothing follows; \
        `reason` says why, `again` whether to come back as one is). An event may come twice. A stream goes by what its \
        caller may see now: more or less of it is a `snapshot`, nothing of it an `end`.",
    params(LastEventId, LastEventCursor),
    responses((status = 200, description = "Events, until either side ends it", body = String,
        content_type = "text/event-stream")))]
pub(super) async fn sensors(follow: Follow) -> Result<Response, Problem> {
    follow.answer(Topic::Sensors)
}

#[utoipa::path(get, path = "/api/v1/events/messages", operation_id = "follow-messages", tag = "Events",
    summary = "Health messages that begin and end, as server-sent events",
    description = "Events: `message` (an entry of the journal, as in `/api/v1/messages/history`; with an `id` to resume \
        from), `snapshot` (read `/api/v1/messages`; what follows is everything later), `gap` (the client read too slowly; \
        a `snapshot` follows), `end` (nothing follows; `reason` says why, `again` whether to come back as one is). An event \
        may come twice.",
    params(LastEventId, LastEventCursor),
    responses((status = 200, description = "Events, until either side ends it", body = String,
        content_type = "text/event-stream")))]
pub(super) async fn messages(follow: Follow) -> Result<Response, Problem> {
    follow.answer(Topic::Messages)
}
