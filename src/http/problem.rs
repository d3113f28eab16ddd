//! Errors as people and programs get them: `application/problem+json` (RFC 9457) with a code that stays, the
//! field that is wrong, and what would be right.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::backend::ApplyError;
use crate::fleet::{Refusal, RefusalCode};

/// An error answer. Boxed, because every answer's type has room for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problem(Box<Document>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Document {
    /// `urn:fleetpulse:problem:` and the code.
    r#type: String,
    /// The same for every problem of this code.
    title: String,
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
    /// Of an import: the rows that can't be taken, each with what would be right.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    rows: Vec<RowFault>,
    #[serde(skip)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What is wrong in one row of an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct RowFault {
    /// Line of the CSV, the header being the first; or number of the item in the JSON array, from 1.
    pub(super) line: u64,
    /// Which column; empty for the row as a whole.
    pub(super) column: String,
    /// For programs; stays.
    pub(super) code: &'static str,
    /// What was found.
    pub(super) detail: String,
    /// What would be right.
    pub(super) valid: String,
}

/// Longest piece of a request that an answer repeats.
const SHOWN_CHARS: usize = 80;

impl Problem {
    /// A problem of a code; its title is the code as words.
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Problem {
        Problem(Box::new(Document {
            r#type: format!("urn:fleetpulse:problem:{code}"),
            title: words(code),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            field: None,
            valid: None,
            rows: Vec::new(),
            headers: Vec::new(),
        }))
    }

    /// Names the part of the request that is wrong, and what would be right.
    pub(super) fn field(mut self, field: impl Into<String>, valid: impl Into<String>) -> Problem {
        self.0.field = Some(field.into());
        self.0.valid = Some(valid.into());
        self
    }

    /// A parameter that stands in a field of the body.
    pub(super) fn within(mut self, field: &str) -> Problem {
        if self.0.status == StatusCode::BAD_REQUEST.as_u16() {
            self.0.status = StatusCode::UNPROCESSABLE_ENTITY.as_u16();
        }
        self.0.field = self.0.field.map(|inner| format!("{field}.{inner}"));
        self
    }

    /// Names the rows of an import that are wrong.
    pub(super) fn rows(mut self, rows: Vec<RowFault>) -> Problem {
        self.0.rows = rows;
        self
    }

    /// Says when to try again.
    pub(super) fn retry_after(self, seconds: u64) -> Problem {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Adds a header to the answer.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.0.headers.push((name, value));
        self
    }

    /// Its code.
    pub(super) fn code(&self) -> &'static str {
        self.0.code
    }

    /// What happened this time.
    pub(super) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The part of the request that is wrong; empty when none is named.
    pub(super) fn named(&self) -> &str {
        self.0.field.as_deref().unwrap_or_default()
    }

    /// What would be right; empty when nothing is said.
    pub(super) fn valid(&self) -> &str {
        self.0.valid.as_deref().unwrap_or_default()
    }

    /// Its status.
    pub(super) fn status(&self) -> u16 {
        self.0.status
    }

    /// No such path.
    pub(super) fn no_such_path(path: &str) -> Problem {
        let detail = format!("there is nothing at {}; the API is below /api/v1", shown(path));
        Problem::new(StatusCode::NOT_FOUND, "no-such-path", detail)
    }

    /// The path exists for other methods: those in `allowed`, with commas.
    pub(super) fn method_not_allowed(method: &str, allowed: &str) -> Problem {
        let detail = format!("{} is not possible here; possible: {allowed}", shown(method));
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail);
        match HeaderValue::from_str(allowed) {
            Ok(value) => problem.header(header::ALLOW, value),
            Err(_) => problem,
        }
    }

    /// A parameter that the resource does not have.
    pub(super) fn unknown_parameter(name: &str, known: &[&str]) -> Problem {
        let detail = format!("there is no parameter {} here", shown(name));
        let valid = if known.is_empty() { "none".to_owned() } else { format!("one of {}", known.join(", ")) };
        Problem::new(StatusCode::BAD_REQUEST, "unknown-parameter", detail).field(cut(name), valid)
    }

    /// A parameter that can't be used, and why.
    pub(super) fn bad_parameter(name: &str, wrong: &str, valid: &str) -> Problem {
        let detail = format!("`{name}` can't be used: {wrong}; give {valid}");
        Problem::new(StatusCode::BAD_REQUEST, "bad-parameter", detail).field(name, valid)
    }

    /// A value that the parameter does not take.
    pub(super) fn bad_value(name: &str, value: &str, valid: &str) -> Problem {
        Problem::bad_parameter(name, &format!("it is {}", shown(value)), valid)
    }

    /// A cursor that this server did not give, or not since its last start.
    pub(super) fn bad_cursor(value: &str) -> Problem {
        let valid = "`next` of the page before, with the same filter, or no cursor to begin anew";
        let detail = format!("{} is no cursor of this list; give {valid}", shown(value));
        Problem::new(StatusCode::BAD_REQUEST, "bad-cursor", detail).field("cursor", valid)
    }

    /// Nothing has this id.
    pub(super) fn not_found(what: &str, id: &str, more: &str) -> Problem {
        let detail = format!("there is no {what} {}{more}", shown(id));
        Problem::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// The store can't be read.
    pub(super) fn store(error: &crate::store::StoreError) -> Problem {
        tracing::warn!(%error, "an API answer could not be read from the store");
        let detail = format!("the store could not be read: {error}");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store-unreadable", detail).retry_after(5)
    }

    /// All workers are busy.
    pub(super) fn busy() -> Problem {
        let detail = "all workers are busy with other requests; try again in a moment";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).retry_after(1)
    }

    /// What was begun takes longer than an answer may. Not [`Problem::busy`]: it goes on, so sending it again blindly
    /// could do it twice.
    pub(super) fn outcome_unknown() -> Problem {
        let detail = "this takes longer than an answer may; it goes on, and whether it was done is not known yet: \
            look at what it is about before sending it again";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "outcome-unknown", detail)
    }

    /// Something of ours failed.
    pub(super) fn internal(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// The register refused a command. What the path names and is not there is 404: `in_path` has the codes for
    /// that, such as `unknown-site` below `/sites/{id}`.
    pub(super) fn refused(refusal: &Refusal, in_path: &[RefusalCode]) -> Problem {
        let code = refusal.code.as_str();
        let status = if in_path.contains(&refusal.code) {
            StatusCode::NOT_FOUND
        } else if is_conflict(code) {
            StatusCode::CONFLICT
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        };
        let detail = format!("`{}` is {}; give {}", refusal.field, refusal.value, refusal.right);
        Problem::new(status, code, detail).field(refusal.field, refusal.right.as_str())
    }

    /// A change was not made.
    pub(super) fn not_applied(error: &ApplyError, in_path: &[RefusalCode]) -> Problem {
        match error {
            ApplyError::Refused(refusal) => Problem::refused(refusal, in_path),
            ApplyError::Precondition(problem) => problem.clone(),
            ApplyError::Store(error) => {
                tracing::error!(error, "a change could not be stored and was not made");
                let detail = format!("the change could not be stored and was not made: {error}");
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", detail).retry_after(5)
            }
            ApplyError::Unfit { code: "signing-failed", detail } => Problem::internal(detail.as_str()),
            ApplyError::Unfit { code, detail } => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail.as_str())
            }
            ApplyError::Full(error) => {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, "no-room", error.as_str())
            }
        }
    }
}

/// Codes that say that the present state is in the way, not the request.
fn is_conflict(code: &str) -> bool {
    code.ends_with("-taken")
        || code.starts_with("activation-")
        || ["id-deleted", "not-empty", "built-in", "lifecycle-step", "last-administrator", "not-pending"]
            .contains(&code)
}

/// `name-taken` as a title: "Name taken".
fn words(code: &str) -> String {
    let mut words = code.replace('-', " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
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
        let own = self.0.headers.clone();
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(own);
        response
    }
}
