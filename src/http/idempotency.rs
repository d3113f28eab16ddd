//! A POST that is sent again is done once: `Idempotency-Key`.
//!
//! The first request with a key is carried out to its end, also when its client goes away meanwhile, and its answer is
//! kept for a day; the same request with the same key gets that answer. While the first is under way the second is
//! told to come back. Answers are kept in memory and for each caller apart: a restart forgets them, and nobody sees or
//! pushes out those of others. What failed on our side (5xx) is forgotten at once, so that it can be tried again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::app::App;
use super::body;
use super::problem::{Problem, shown};
use crate::limits::{
    IDEMPOTENCY_ANSWER_BYTES_MAX, IDEMPOTENCY_BYTES_MAX, IDEMPOTENCY_KEEP, IDEMPOTENCY_KEY_CHARS_MAX,
    IDEMPOTENCY_KEYS_MAX, IDEMPOTENCY_KEYS_PER_CALLER_MAX,
};
use crate::time::MonoNanos;

/// The header's name.
pub(super) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// On an answer that is given again.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Answers by caller and key.
#[derive(Default)]
pub(super) struct Answers(Mutex<HashMap<Key, Entry, ahash::RandomState>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    caller: Arc<str>,
    key: String,
}

struct Entry {
    /// SHA-256 of what was asked.
    request: [u8; 32],
    begun: MonoNanos,
    /// `None` while it is under way.
    answer: Option<Kept>,
}

#[derive(Clone)]
struct Kept {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// What to do with a request that has a key.
enum Turn {
    First(Running),
    Again(Kept),
}

/// Carries out a request, or gives the answer that it had before. Without the header it just runs.
pub(super) async fn once(app: &Arc<App>, caller: &Arc<str>, request: Request, next: Next) -> Response {
    if !request.headers().contains_key(HEADER) {
        return next.run(request).await;
    }
    match keyed(app, caller, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn keyed(app: &Arc<App>, caller: &Arc<str>, request: Request, next: Next) -> Result<Response, Problem> {
    let key = Key { caller: Arc::clone(caller), key: key_of(request.headers())? };
    let (parts, body) = request.into_parts();
    let bytes = body::read(Request::from_parts(parts.clone(), body)).await?;
    let mut hash = Context::new(&SHA256);
    for piece in [parts.method.as_str().as_bytes(), parts.uri.to_string().as_bytes(), &bytes] {
        hash.update(&(piece.len() as u64).to_be_bytes());
        hash.update(piece);
    }
    let mut asked = [0; 32];
    asked.copy_from_slice(hash.finish().as_ref());
    let running = match Answers::enter(app, key, asked)? {
        Turn::Again(kept) => return Ok(kept.into_response()),
        Turn::First(running) => running,
    };
    let request = Request::from_parts(parts, Body::from(bytes));
    // On a task of its own: a client that goes away and asks again must find what became of its first request.
    let carried_out = tokio::spawn(async move { running.keep(next.run(request).await).await });
    carried_out.await.map_err(|_| Problem::internal("the request could not be carried out; the log says why"))
}

fn key_of(headers: &HeaderMap) -> Result<String, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let text = values.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let good = (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if good && values.next().is_none() {
        return Ok(text.to_owned());
    }
    let valid =
        format!("one text of 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable ASCII characters, such as a UUID");
    let detail = format!("`Idempotency-Key` can't be used: {}; give {valid}", shown(text));
    Err(Problem::new(StatusCode::BAD_REQUEST, "bad-idempotency-key", detail).field("Idempotency-Key", valid))
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry, ahash::RandomState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(app: &Arc<App>, key: Key, request: [u8; 32]) -> Result<Turn, Problem> {
        let now = app.clock.mono();
        let mut entries = app.answers.lock();
        entries.retain(|_, entry| entry.answer.is_none() || now.since(entry.begun) < IDEMPOTENCY_KEEP);
        if let Some(entry) = entries.get(&key) {
            return match &entry.answer {
                _ if entry.request != request => Err(reused()),
                Some(kept) => Ok(Turn::Again(kept.clone())),
                None => Err(under_way()),
            };
        }
        let own = entries.keys().filter(|other| other.caller == key.caller).count();
        if own >= IDEMPOTENCY_KEYS_PER_CALLER_MAX {
            make_room(&mut entries, |other| other.caller == key.caller)?;
        }
        if entries.len() >= IDEMPOTENCY_KEYS_MAX {
            make_room(&mut entries, |_| true)?;
        }
        entries.insert(key.clone(), Entry { request, begun: now, answer: None });
        Ok(Turn::First(Running { app: Arc::clone(app), key: Some(key) }))
    }
}

/// Forgets the oldest finished answer of those in question.
fn make_room(
    entries: &mut HashMap<Key, Entry, ahash::RandomState>,
    among: impl Fn(&Key) -> bool,
) -> Result<(), Problem> {
    let finished = entries.iter().filter(|(key, entry)| among(key) && entry.answer.is_some());
    let oldest = finished.min_by_key(|(_, entry)| entry.begun).map(|(key, _)| key.clone());
    oldest.and_then(|key| entries.remove(&key)).map(drop).ok_or_else(Problem::busy)
}

fn reused() -> Problem {
    let detail = "this key came with another request before; give each request a key of its own";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused", detail)
        .field("Idempotency-Key", "a key that was not used for anything else within a day")
}

fn under_way() -> Problem {
    let detail = "a request with this key is under way; ask again in a moment for its answer";
    Problem::new(StatusCode::CONFLICT, "idempotency-key-in-use", detail).retry_after(1)
}

/// A request under way. Dropped without an answer, it was never there.
struct Running {
    app: Arc<App>,
    key: Option<Key>,
}

impl Running {
    async fn keep(mut self, response: Response) -> Response {
        let (parts, body) = response.into_parts();
        let forget = parts.status.is_server_error()
            || parts.status == StatusCode::TOO_MANY_REQUESTS
            || parts.status == StatusCode::REQUEST_TIMEOUT;
        if forget || !small(&body) {
            return Response::from_parts(parts, body);
        }
        let Ok(bytes) = to_bytes(body, IDEMPOTENCY_ANSWER_BYTES_MAX).await else {
            return Problem::internal("the answer could not be read").into_response();
        };
        let kept = Kept { status: parts.status, headers: parts.headers.clone(), body: bytes.clone() };
        if let Some(key) = self.key.take() {
            let mut entries = self.app.answers.lock();
            if let Some(entry) = entries.get_mut(&key) {
                entry.answer = Some(kept);
            }
            let size = |entries: &HashMap<Key, Entry, _>| -> usize {
                entries.values().filter_map(|entry| entry.answer.as_ref()).map(|kept| kept.body.len()).sum()
            };
            while size(&entries) > IDEMPOTENCY_BYTES_MAX && make_room(&mut entries, |_| true).is_ok() {}
        }
        Response::from_parts(parts, Body::from(bytes))
    }
}

/// Whether an answer is known to be small enough to be kept; streams are not.
fn small(body: &Body) -> bool {
    use hyper::body::Body as _;
    body.size_hint().upper().is_some_and(|most| most <= IDEMPOTENCY_ANSWER_BYTES_MAX as u64)
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.app.answers.lock().remove(&key);
        }
    }
}

impl IntoResponse for Kept {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        *response.headers_mut() = self.headers;
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}
