//! Bodies of requests: read within a size, a time and a time without progress, and taken apart as JSON.
//!
//! A handler takes [`Given<T>`]. `T` refuses unknown fields (`#[serde(deny_unknown_fields)]`), so a slip of the hand
//! is told and not passed over. A refusal names the field by its path (`items[3].name`) and what would be right.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use hyper::body::Body as _;
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use super::app::App;
use super::problem::{Problem, shown};
use super::workers::{Places, work};
use crate::limits::{HTTP_BODY_BYTES_MAX, HTTP_BODY_STALL_TIMEOUT, HTTP_BODY_TIMEOUT};

/// The JSON body of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<T>(pub(super) T);

/// Largest body that the route takes; put into the request by its gate.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyMax(pub(super) usize);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Arc<App>> for Given<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Given<T>, Problem> {
        is_json(request.headers())?;
        let bytes = read(request).await?;
        beside_sockets(app, bytes, |bytes: &[u8]| parse::<T>(bytes)).await?.map(Given)
    }
}

/// Does something with a body. A large one costs some milliseconds for each megabyte, which no other connection waits
/// for: it is done by a worker.
pub(super) async fn beside_sockets<T: Send + 'static>(
    app: &Arc<App>,
    bytes: Bytes,
    job: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Result<T, Problem> {
    if bytes.len() <= HTTP_BODY_BYTES_MAX {
        return Ok(job(&bytes));
    }
    work(app, Places::Api, move |_| job(&bytes)).await
}

/// The whole body of a request, as bytes.
pub(super) async fn read(request: Request) -> Result<Bytes, Problem> {
    let most = request.extensions().get::<BodyMax>().map_or(HTTP_BODY_BYTES_MAX, |most| most.0);
    let declared = declared(request.headers());
    if declared.is_some_and(|length| length > most as u64) {
        return Err(too_large(most));
    }
    let reading = collect(request.into_body(), declared.unwrap_or(0) as usize, most);
    match tokio::time::timeout(HTTP_BODY_TIMEOUT, reading).await {
        Ok(read) => read,
        Err(_) => Err(too_slow()),
    }
}

/// The length that a request declares.
pub(super) fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn collect(mut body: Body, expected: usize, most: usize) -> Result<Bytes, Problem> {
    // What is declared is not believed beyond a small body: memory follows what came.
    let mut whole = BytesMut::with_capacity(expected.min(HTTP_BODY_BYTES_MAX));
    loop {
        let next = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let frame = match tokio::time::timeout(HTTP_BODY_STALL_TIMEOUT, next).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                let detail = format!("the body ended early or is no HTTP: {error}");
                return Err(Problem::new(StatusCode::BAD_REQUEST, "bad-body", detail));
            }
            Ok(None) => return Ok(whole.freeze()),
            Err(_) => return Err(too_slow()),
        };
        // Trailers are passed over.
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > most - whole.len() {
            return Err(too_large(most));
        }
        whole.extend_from_slice(&data);
    }
}

fn too_large(most: usize) -> Problem {
    let detail = format!("the body is larger than the {most} bytes that this takes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
        .field("body", format!("at most {most} bytes"))
        .header(header::CONNECTION, header::HeaderValue::from_static("close"))
}

fn too_slow() -> Problem {
    let detail = format!(
        "the body did not come in time; send it within {} s, without a pause of {} s",
        HTTP_BODY_TIMEOUT.as_secs(),
        HTTP_BODY_STALL_TIMEOUT.as_secs()
    );
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body-too-slow", detail)
        .header(header::CONNECTION, header::HeaderValue::from_static("close"))
}

/// Refuses what does not say that it is JSON. (A form of a foreign page can't say so without asking first.)
fn is_json(headers: &HeaderMap) -> Result<(), Problem> {
    let written = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let essence = written.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let json = essence.eq_ignore_ascii_case("application/json")
        || essence
            .get(essence.len().saturating_sub(5)..)
            .is_some_and(|end| end.eq_ignore_ascii_case("+json") && essence.contains('/'));
    if json {
        return Ok(());
    }
    let what = written.map_or_else(|| "missing".to_owned(), shown);
    let detail = format!("`Content-Type` is {what}; send JSON, with `Content-Type: application/json`");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail)
        .field("Content-Type", "application/json"))
}

/// Reads JSON, or says where it is wrong and what would be right.
pub(super) fn parse<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| wrong(&error.path().to_string(), error.inner()))?;
    reader.end().map_err(|error| wrong("", &error))?;
    Ok(value)
}

fn wrong(path: &str, error: &serde_json::Error) -> Problem {
    if !matches!(error.classify(), Category::Data) {
        let detail = format!("the body is no JSON: {error}");
        return Problem::new(StatusCode::BAD_REQUEST, "bad-json", detail).field("body", "a JSON document");
    }
    let text = error.to_string();
    // The library adds the place in the text; the path of the field says it better.
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let path = if path == "." { "" } else { path };
    let (code, name, valid) = taken_apart(text);
    let field = match (path, name) {
        ("", None) => "body".to_owned(),
        ("", Some(name)) => name.to_owned(),
        (path, None) => path.to_owned(),
        // The library's path ends in the field already when it knew of it.
        (path, Some(name)) if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        (path, Some(name)) => format!("{path}.{name}"),
    };
    let shown_field = shown(&field);
    let detail = match code {
        "unknown-field" => format!("there is no field {shown_field} here; {valid}"),
        "missing-field" => format!("the field {shown_field} is missing"),
        _ => format!("the field {shown_field} can't be used: {}", cut_long(text)),
    };
    let field = shown_field.trim_matches('`').to_owned();
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail).field(field, valid)
}

/// The library's text as a code, the field that it names, and what would be right.
fn taken_apart(text: &str) -> (&'static str, Option<&str>, String) {
    let quoted = |text: &str, start: &str| {
        let rest = text.strip_prefix(start)?;
        rest.find('`').map(|end| (text.len() - rest.len(), text.len() - rest.len() + end))
    };
    let expected = text.split_once(", expected ").map(|(_, valid)| cut_long(valid));
    if let Some((from, to)) = quoted(text, "unknown field `") {
        let none = || "no field at all".to_owned();
        return (
            "unknown-field",
            text.get(from..to),
            expected.map_or_else(none, |valid| format!("give {valid}")),
        );
    }
    if let Some((from, to)) = quoted(text, "missing field `") {
        return ("missing-field", text.get(from..to), "a value for it".to_owned());
    }
    if text.starts_with(TOO_MANY) {
        return ("too-many", None, expected.unwrap_or_default());
    }
    if let Some((from, to)) = quoted(text, "duplicate field `") {
        return ("bad-field", text.get(from..to), "it once".to_owned());
    }
    ("bad-field", None, expected.unwrap_or_else(|| "what the description of the API says".to_owned()))
}

/// What a list with too many items is told as.
const TOO_MANY: &str = "too many items";

/// A list of at most `MOST` items: it is read no further than the first one too many, whatever follows.
pub(super) struct AtMost<const MOST: usize, T>(pub(super) Vec<T>);

impl<'de, const MOST: usize, T: Deserialize<'de>> Deserialize<'de> for AtMost<MOST, T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<AtMost<MOST, T>, D::Error> {
        struct Items<const MOST: usize, T>(PhantomData<T>);

        impl<'de, const MOST: usize, T: Deserialize<'de>> Visitor<'de> for Items<MOST, T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a list of at most {MOST} items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut given: A) -> Result<Vec<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = given.next_element()? {
                    if items.len() == MOST {
                        let told = format_args!("{TOO_MANY}, expected at most {MOST} items");
                        return Err(A::Error::custom(told));
                    }
                    items.push(item);
                }
                Ok(items)
            }
        }
        reader.deserialize_seq(Items::<MOST, T>(PhantomData)).map(AtMost)
    }
}

/// For a field that can be left out (`None`), cleared with `null` (`Some(None)`) or given.
pub(super) fn given_or_null<'de, T, D>(reader: D) -> Result<Option<Option<T>>, D::Error>
where
    T: serde::Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    <Option<T> as serde::Deserialize>::deserialize(reader).map(Some)
}

/// Longest message of the library that an answer repeats.
const MESSAGE_CHARS: usize = 400;

fn cut_long(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read by the parser")]
    struct Outer {
        name: String,
        #[serde(default)]
        items: Vec<Inner>,
        kind: Option<Kind>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read by the parser")]
    struct Inner {
        count: u32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        OtCloud,
        OtLocal,
    }

    fn refused(text: &str) -> (String, String, String) {
        let problem = serde_json::to_value(parse::<Outer>(text.as_bytes()).unwrap_err()).unwrap();
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        (text("code"), text("field"), text("valid"))
    }

    #[test]
    fn a_wrong_field_is_named_by_its_path_with_what_would_be_right() {
        let is = |text, code: &str, field: &str, valid: &str| {
            let (found, at, right) = refused(text);
            assert_eq!((found.as_str(), at.as_str()), (code, field), "{text}");
            assert!(right.contains(valid), "{text}: {right}");
        };
        is(r#"{"name":"a","colour":1}"#, "unknown-field", "colour", "`name`");
        is(r#"{"name":"a","items":[{"count":1},{"cuont":2}]}"#, "unknown-field", "items[1].cuont", "`count`");
        is(r#"{}"#, "missing-field", "name", "a value");
        is(r#"{"name":"a","items":[{}]}"#, "missing-field", "items[0].count", "a value");
        is(r#"{"name":1}"#, "bad-field", "name", "a string");
        is(r#"{"name":"a","items":[{"count":-1}]}"#, "bad-field", "items[0].count", "u32");
        is(r#"{"name":"a","kind":"cloud"}"#, "bad-field", "kind", "`ot-local`");
        is(r#"{"name":"a","name":"b"}"#, "bad-field", "name", "once");
        is(r#"[]"#, "bad-field", "body", "");
        is(r#"3"#, "bad-field", "body", "struct");
        for text in ["", "{", "{]", "\u{0}", "{\"name\":\"a\"} x", "{\"name\":\"\\ud800\"}", "nul"] {
            assert_eq!(refused(text).0, "bad-json", "{text}");
        }
        assert_eq!(refused(&"[".repeat(10_000)).0, "bad-field");
        assert!(parse::<Outer>(br#"{"name":"a","kind":"ot-cloud","items":[{"count":3}]}"#).is_ok());
        assert!(parse::<Outer>(b"{\"name\":\"\xff\"}").is_err(), "no UTF-8");
    }

    #[test]
    fn a_hostile_field_name_is_shown_cut_and_clean() {
        let (code, field, _) = refused(&format!("{{\"name\":\"a\",\"{}\\u0007\":1}}", "x`y".repeat(100)));
        assert_eq!(code, "unknown-field");
        assert!(field.chars().count() < 100 && !field.contains('\u{7}'), "{field}");
    }
}
