//! Which version of a resource an answer shows, and whether a change means that version.
//!
//! An entity tag is a hash of what the register says of a resource, never of live values: so it stays while a sensor
//! reports, it is the same after a restart, and it changes with every edit. `If-Match` is looked at under the lock of
//! the change itself ([`super::Backend::apply`]), so two editors never overwrite each other unseen.

use std::io;

use aws_lc_rs::digest::{Context, SHA256};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::problem::{Problem, shown};

/// A strong entity tag, with its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ETag(String);

/// Bytes of the hash that are shown.
const SHOWN_BYTES: usize = 16;

impl ETag {
    /// Of a document that holds what the register says and nothing else.
    pub(super) fn of<T: Serialize + ?Sized>(document: &T) -> ETag {
        let mut hash = Hash(Context::new(&SHA256));
        // A document of ours has text for keys and writes into memory: it does not fail.
        let _ = serde_json::to_writer(&mut hash, document);
        let digest = hash.0.finish();
        ETag(format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest.as_ref()[..SHOWN_BYTES])))
    }

    /// For an answer.
    pub(super) fn header(&self) -> (HeaderName, HeaderValue) {
        // Letters of base64 in quotes.
        (header::ETAG, HeaderValue::from_str(&self.0).unwrap_or(HeaderValue::from_static("\"\"")))
    }

    /// Whether the client has this version already (`If-None-Match`): the answer is 304 then.
    pub(super) fn is_known(&self, headers: &HeaderMap) -> bool {
        headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|list| {
            list.split(',').any(|tag| tag.trim() == "*" || tag.trim().trim_start_matches("W/") == self.0)
        })
    }
}

struct Hash(Context);

impl io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The `If-Match` of a request; without one everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct IfMatch(Option<Vec<String>>);

/// Tags that one request may name.
const TAGS_MAX: usize = 16;

impl IfMatch {
    pub(super) fn read(headers: &HeaderMap) -> Result<IfMatch, Problem> {
        let mut tags = Vec::new();
        let mut given = false;
        for value in headers.get_all(header::IF_MATCH) {
            given = true;
            let text = value.to_str().map_err(|_| bad_if_match("not ASCII"))?;
            for tag in text.split(',').map(str::trim) {
                let quoted = tag.len() >= 2 && tag.starts_with('"') && tag.ends_with('"');
                if !quoted && tag != "*" || tags.len() == TAGS_MAX {
                    return Err(bad_if_match(tag));
                }
                tags.push(tag.to_owned());
            }
        }
        Ok(IfMatch(given.then_some(tags)))
    }

    /// Refuses a change that means another version than the present one.
    pub(super) fn check(&self, present: &ETag) -> Result<(), Problem> {
        let Some(tags) = &self.0 else { return Ok(()) };
        if tags.iter().any(|tag| tag == "*" || *tag == present.0) {
            return Ok(());
        }
        let detail =
            "it was changed since you read it; read it again, and send the change with the new `ETag`";
        Err(Problem::new(StatusCode::PRECONDITION_FAILED, "etag-mismatch", detail)
            .field("If-Match", present.0.as_str()))
    }
}

fn bad_if_match(tag: &str) -> Problem {
    let detail = format!("`If-Match` can't be used: {}", shown(tag));
    Problem::new(StatusCode::BAD_REQUEST, "bad-if-match", detail)
        .field("If-Match", "the `ETag` of an answer, with its quotes, or *")
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<IfMatch, Problem> {
        IfMatch::read(&parts.headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_tag_follows_the_document() {
        let (one, two) = (ETag::of(&("a", 1)), ETag::of(&("a", 2)));
        assert_ne!(one, two);
        assert_eq!(one, ETag::of(&("a", 1)));
        assert_eq!(one.0.len(), 24);
        let none_match = |value: &str| one.is_known(&with(header::IF_NONE_MATCH, value));
        assert!(none_match("*") && none_match(&one.0) && none_match(&format!("W/{}, {}", two.0, one.0)));
        assert!(!none_match(&two.0) && !one.is_known(&HeaderMap::new()));
    }

    #[test]
    fn a_change_of_another_version_is_refused() {
        let (one, two) = (ETag::of(&1), ETag::of(&2));
        let read = |value: &str| IfMatch::read(&with(header::IF_MATCH, value));
        assert!(IfMatch::default().check(&one).is_ok());
        assert!(read("*").unwrap().check(&one).is_ok());
        assert!(read(&format!("{}, {}", two.0, one.0)).unwrap().check(&one).is_ok());
        assert_eq!(read(&two.0).unwrap().check(&one).unwrap_err().code(), "etag-mismatch");
        for wrong in ["", "x", "W/\"x\"", "\"", "\"a\",", &vec!["\"a\""; 17].join(",")] {
            assert_eq!(read(wrong).unwrap_err().code(), "bad-if-match", "{wrong}");
        }
    }
}
