//! Errors as people and programs get them: `application/problem+json` (RFC 9457) with a code that stays, the
//! field that is wrong, and what would be right.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An error answer. Boxed, because every answer's type has room for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problem(Box<Document>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Document {
    /// `urn:fleetpulse:problem:` and the code.
    r#type: String,
    /// The same for every problem of this code.
    title: &'static str,
    status: u16,
    /// For programs; stays.
    code: &'static str,
    /// What happened this time, and what to do.
    detail: String,
    /// The parameter that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// What would be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<String>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

/// Longest piece of a request that an answer repeats.
const SHOWN_CHARS: usize = 80;

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: String) -> Problem {
        Problem(Box::new(Document {
            r#type: format!("urn:fleetpulse:problem:{code}"),
            title,
            status: status.as_u16(),
            code,
            detail,
            field: None,
            valid: None,
            retry_after_s: None,
        }))
    }

    /// No such path.
    pub(super) fn no_such_path(path: &str) -> Problem {
        let detail = format!("there is nothing at {}; the API is below /api/v1", shown(path));
        Problem::new(StatusCode::NOT_FOUND, "no-such-path", "No such path", detail)
    }

    /// The path exists for other methods.
    pub(super) fn method_not_allowed(method: &str) -> Problem {
        let detail = format!("{} is not possible here; only GET is", shown(method));
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed", detail)
    }

    /// A parameter that the resource does not have.
    pub(super) fn unknown_parameter(name: &str, known: &[&str]) -> Problem {
        let detail = format!("there is no parameter {} here", shown(name));
        let mut problem =
            Problem::new(StatusCode::BAD_REQUEST, "unknown-parameter", "Unknown parameter", detail);
        problem.0.field = Some(cut(name));
        problem.0.valid =
            Some(if known.is_empty() { "none".to_owned() } else { format!("one of {}", known.join(", ")) });
        problem
    }

    /// A parameter that can't be used, and why.
    pub(super) fn bad_parameter(name: &str, wrong: &str, valid: &str) -> Problem {
        let detail = format!("`{name}` can't be used: {wrong}; give {valid}");
        let mut problem = Problem::new(StatusCode::BAD_REQUEST, "bad-parameter", "Bad parameter", detail);
        problem.0.field = Some(name.to_owned());
        problem.0.valid = Some(valid.to_owned());
        problem
    }

    /// A value that the parameter does not take.
    pub(super) fn bad_value(name: &str, value: &str, valid: &str) -> Problem {
        Problem::bad_parameter(name, &format!("it is {}", shown(value)), valid)
    }

    /// A cursor that this server did not give, or not since its last start.
    pub(super) fn bad_cursor(value: &str) -> Problem {
        let valid = "`next` of the page before, with the same filter, or no cursor to begin anew";
        let detail = format!("{} is no cursor of this list; give {valid}", shown(value));
        let mut problem = Problem::new(StatusCode::BAD_REQUEST, "bad-cursor", "Bad cursor", detail);
        problem.0.field = Some("cursor".to_owned());
        problem.0.valid = Some(valid.to_owned());
        problem
    }

    /// Nothing has this id.
    pub(super) fn not_found(what: &str, id: &str, more: &str) -> Problem {
        let detail = format!("there is no {what} {}{more}", shown(id));
        Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// The store can't be read.
    pub(super) fn store(error: &crate::store::StoreError) -> Problem {
        tracing::warn!(%error, "an API answer could not be read from the store");
        let detail = format!("the store could not be read: {error}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store-unreadable", "Store unreadable", detail)
    }

    /// All workers are busy.
    pub(super) fn busy() -> Problem {
        let detail = "all workers are busy with other requests; try again in a moment".to_owned();
        let mut problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Busy", detail);
        problem.0.retry_after_s = Some(1);
        problem
    }

    /// Something of ours failed.
    pub(super) fn internal(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail.into())
    }
}

/// A piece of a request, safe to show: in quotes, cut, and without control characters.
pub(super) fn shown(text: &str) -> String {
    format!("`{}`", cut(text))
}

fn cut(text: &str) -> String {
    let clean: String =
        text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() { format!("{clean}...") } else { clean }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.0.retry_after_s;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}
