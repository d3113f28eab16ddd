//! What went wrong, as people read it and as programs do.

use std::fmt::Write as _;

use serde_json::{Value, json};
use ureq::http::Response;

use crate::cli::paint::clean;
use crate::cli::{Failure, exit};
use crate::limits::CLIENT_PROBLEM_BYTES_MAX;

/// Longest text of a foreign answer that is shown.
const SHOWN_CHARS: usize = 400;

/// An answer that is no success.
pub(super) fn refused(mut answer: Response<ureq::Body>, what: &str) -> Failure {
    let status = answer.status().as_u16();
    let retry_after = super::http::retry_after(&answer);
    let text =
        answer.body_mut().with_config().limit(CLIENT_PROBLEM_BYTES_MAX).lossy_utf8(true).read_to_string();
    let document: Value = text.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let code = match status {
        401 | 403 => exit::NOT_ALLOWED,
        400..=499 => exit::REFUSED,
        _ => exit::FAILED,
    };
    if document["code"].is_string() {
        let message = told(&document, what, status, retry_after);
        return Failure::told(code, message, document);
    }
    let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
    let message = match (status, location) {
        (300..=399, Some(place)) => format!(
            "{what}: the server sends us to {}; give that address with --url if you trust it",
            shown(place)
        ),
        _ => format!(
            "{what}: the answer was {status}, and not in Fleetpulse's words; \
             is the address right, or is something between us and the server?"
        ),
    };
    Failure::told(code, message, json!({ "code": "foreign-answer", "status": status }))
}

/// What, which field, what would be right, what to do next.
fn told(document: &Value, what: &str, status: u16, retry_after: Option<u64>) -> String {
    let text = |name: &str| document[name].as_str().map(shown);
    let (code, detail) = (text("code").unwrap_or_default(), text("detail").unwrap_or_default());
    let mut message = format!("{what}: {detail}");
    let mut line = |name: &str, value: &str| {
        let _ = write!(message, "\n  {name:<6} {value}");
    };
    if let Some(field) = text("field") {
        line("field", &field);
    }
    if let Some(right) = text("valid").filter(|right| !detail.contains(right.as_str())) {
        line("right", &right);
    }
    for row in super::files::rows(&document["rows"]) {
        line("row", &row);
    }
    if let Some(next) = next(&code, status, retry_after) {
        line("next", &next);
    }
    line("code", &format!("{code} ({status})"));
    message
}

/// What to do next, where the detail does not say it.
fn next(code: &str, status: u16, retry_after: Option<u64>) -> Option<String> {
    let fixed = match (code, status) {
        (_, 401) => "sign in with `fleetpulse login`, or give a token with FLEETPULSE_TOKEN or --token-file",
        (_, 403) => "ask an administrator for the role, or use a profile that has it (--profile)",
        ("etag-mismatch", _) => "look at it again, and repeat the command if the change is still right",
        ("no-such-path" | "method-not-allowed" | "unknown-parameter" | "unknown-field", _) => {
            "the server may be of another version than this program: compare `fleetpulse --version`"
        }
        _ => {
            let seconds = retry_after?;
            return Some(format!("try again in {seconds} s"));
        }
    };
    Some(fixed.to_owned())
}

/// Foreign text: cut, and without anything that a terminal would obey.
pub(super) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS).collect();
    clean(&cut)
}

/// No answer at all.
pub(super) fn unreachable(error: &ureq::Error, url: &str, what: &str) -> Failure {
    let (reason, next) = reason(error);
    let code = if matches!(error, ureq::Error::BadUri(_) | ureq::Error::Http(_)) {
        exit::CONFIG
    } else {
        exit::UNREACHABLE
    };
    let message = format!("{what}: {url} can't be reached: {reason}\n  next   {next}");
    Failure::told(code, message, json!({ "code": "unreachable", "url": url, "detail": reason }))
}

fn reason(error: &ureq::Error) -> (String, &'static str) {
    use std::io::ErrorKind::ConnectionRefused;
    let running =
        "see that the server runs (`fleetpulse serve`) and listens there; --url gives another address";
    match error {
        ureq::Error::Io(error) if error.kind() == ConnectionRefused => {
            ("nobody listens there".to_owned(), running)
        }
        ureq::Error::HostNotFound => {
            ("there is no such host".to_owned(), "check --url, the profile and the name server")
        }
        ureq::Error::Timeout(_) => {
            ("it did not answer in time".to_owned(), "try again; look at its /readyz and at firewalls")
        }
        // Errors of TLS come through the socket too.
        other => {
            let text = shown(&other.to_string());
            let tls = ["certificate", "tls", "TLS", "UnknownIssuer", "Corrupt"];
            let next = if tls.iter().any(|word| text.contains(word)) {
                "check http or https in the address; --ca FILE gives the authority that signed the server's certificate"
            } else {
                running
            };
            (text, next)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_what_field_right_and_next() {
        let document = json!({
            "code": "name-taken", "detail": "`name` is \u{1b}[31mpump", "field": "name", "valid": "a free name",
        });
        let text = told(&document, "sites create", 409, None);
        assert!(
            text.starts_with("sites create: `name` is \u{fffd}[31mpump\n  field  name\n  right  a free name"),
            "{text}"
        );
        assert!(text.ends_with("code   name-taken (409)"), "{text}");
        assert!(told(&json!({ "code": "not-signed-in" }), "x", 401, None).contains("fleetpulse login"));
        assert!(told(&json!({ "code": "busy" }), "x", 503, Some(7)).contains("try again in 7 s"));
    }
}
