//! A POST that is sent again is done once: `Idempotency-Key`.
//!
//! The first request with a key is carried out to its end, also when its client goes away meanwhile or is sent away
//! because it takes long, and its answer is kept for a day; the same request with the same key gets that answer. While
//! the first is under way the second is told to come back. Of an answer with a secret only that there was one is kept,
//! and who asks again is told so. What failed on our side (5xx) is forgotten at once, so that it can be tried again.
//!
//! Answers are kept in memory, so a restart forgets them, and for each caller apart, so that nobody sees those of
//! others. A user has a share of the keys and of the bytes, with all their tokens; who uses more pushes out their own
//! oldest. When all together are too many, whoever has most loses their oldest: many can fill the room, and they don't
//! push out those of somebody who has few.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::app::App;
use super::body;
use super::caller::Caller;
use super::problem::{Problem, shown};
use super::workers::to_the_end;
use crate::limits::{
    HTTP_ANSWER_TIMEOUT, IDEMPOTENCY_ANSWER_BYTES_MAX, IDEMPOTENCY_BYTES_MAX,
    IDEMPOTENCY_BYTES_PER_OWNER_MAX, IDEMPOTENCY_KEEP, IDEMPOTENCY_KEY_CHARS_MAX, IDEMPOTENCY_KEYS_MAX,
    IDEMPOTENCY_KEYS_PER_OWNER_MAX,
};
use crate::time::MonoNanos;
use crate::wire::id::UserId;

/// The header's name.
pub(super) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// On an answer that is given again.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

type Entries = HashMap<Key, Entry, ahash::RandomState>;

/// Answers by caller and key.
#[derive(Default)]
pub(super) struct Answers(Mutex<Entries>);

/// Who asks, and for what.
pub(super) struct Asking {
    caller: Arc<str>,
    /// In whose share the answer is kept.
    owner: Option<UserId>,
    /// The answer holds something that is shown this once.
    secret: bool,
}

impl Asking {
    pub(super) fn of(caller: &Caller, secret: bool) -> Asking {
        Asking { caller: Arc::clone(&caller.key), owner: caller.user(), secret }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    caller: Arc<str>,
    key: String,
}

struct Entry {
    /// SHA-256 of what was asked.
    request: [u8; 32],
    owner: Option<UserId>,
    begun: MonoNanos,
    /// `None` while it is under way.
    answer: Option<Kept>,
}

/// What is kept of an answer.
#[derive(Clone, Debug)]
enum Kept {
    Whole {
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
    },
    /// It held a secret. Where what was made is to be found, when it has a place.
    Secret(Option<HeaderValue>),
}

impl Kept {
    fn bytes(&self) -> usize {
        match self {
            Kept::Whole { body, .. } => body.len(),
            Kept::Secret(_) => 0,
        }
    }
}

/// What to do with a request that has a key.
enum Turn {
    First(Running),
    Again(Kept),
}

/// Carries out a request, or gives the answer that it had before. Without the header it just runs.
pub(super) async fn once(app: &Arc<App>, asking: Asking, request: Request, next: Next) -> Response {
    if !request.headers().contains_key(HEADER) {
        return next.run(request).await;
    }
    match keyed(app, asking, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn keyed(app: &Arc<App>, asking: Asking, request: Request, next: Next) -> Result<Response, Problem> {
    let key = Key { caller: Arc::clone(&asking.caller), key: key_of(request.headers())? };
    let (parts, body) = request.into_parts();
    let bytes = body::read(Request::from_parts(parts.clone(), body)).await?;
    let (method, uri) = (parts.method.clone(), parts.uri.to_string());
    let asked = move |bytes: &[u8]| hash_of([method.as_str().as_bytes(), uri.as_bytes(), bytes]);
    let asked = body::beside_sockets(app, bytes.clone(), asked).await?;
    let running = match Answers::enter(&app.answers, key, &asking, asked, app.clock.mono())? {
        Turn::Again(kept) => return Ok(kept.into_response()),
        Turn::First(running) => running,
    };
    let request = Request::from_parts(parts, Body::from(bytes));
    carried_out(running, next.run(request), HTTP_ANSWER_TIMEOUT).await
}

fn hash_of(pieces: [&[u8]; 3]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    for piece in pieces {
        hash.update(&(piece.len() as u64).to_be_bytes());
        hash.update(piece);
    }
    let mut whole = [0; 32];
    whole.copy_from_slice(hash.finish().as_ref());
    whole
}

/// Carries a request out on a task of its own, to its end: a client that went away, or was sent away after `patience`,
/// and asks again must find what became of its first request.
async fn carried_out(
    running: Running,
    answering: impl Future<Output = Response> + Send + 'static,
    patience: Duration,
) -> Result<Response, Problem> {
    let task = tokio::spawn(to_the_end(async move { running.keep(answering.await).await }));
    match tokio::time::timeout(patience, task).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(_)) => Err(Problem::internal("the request could not be carried out; the log says why")),
        // With the key it does no harm to ask again.
        Err(_) => Err(Problem::outcome_unknown().retry_after(UNDER_WAY_RETRY_SECONDS)),
    }
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

    fn enter(
        this: &Arc<Answers>,
        key: Key,
        asking: &Asking,
        request: [u8; 32],
        now: MonoNanos,
    ) -> Result<Turn, Problem> {
        let mut entries = this.lock();
        entries.retain(|_, entry| entry.answer.is_none() || now.since(entry.begun) < IDEMPOTENCY_KEEP);
        if let Some(entry) = entries.get(&key) {
            return match &entry.answer {
                _ if entry.request != request => Err(reused()),
                Some(kept) => Ok(Turn::Again(kept.clone())),
                None => Err(under_way()),
            };
        }
        let owner = asking.owner;
        let own = entries.values().filter(|entry| entry.owner == owner).count();
        if own >= IDEMPOTENCY_KEYS_PER_OWNER_MAX {
            make_room(&mut entries, owner)?;
        }
        if entries.len() >= IDEMPOTENCY_KEYS_MAX {
            let most = who_has_most(&entries, |entry| usize::from(entry.answer.is_some()));
            make_room(&mut entries, most)?;
        }
        entries.insert(key.clone(), Entry { request, owner, begun: now, answer: None });
        Ok(Turn::First(Running { answers: Arc::clone(this), key: Some(key), secret: asking.secret }))
    }

    /// The answer of a key. Others go for it when there are too many bytes.
    fn answered(&self, key: &Key, kept: Kept) {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(key) else { return };
        entry.answer = Some(kept);
        let owner = entry.owner;
        while held(&entries, |entry| entry.owner == owner) > IDEMPOTENCY_BYTES_PER_OWNER_MAX
            && make_room(&mut entries, owner).is_ok()
        {}
        while held(&entries, |_| true) > IDEMPOTENCY_BYTES_MAX {
            let most = who_has_most(&entries, Entry::bytes);
            if make_room(&mut entries, most).is_err() {
                break;
            }
        }
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        self.answer.as_ref().map_or(0, Kept::bytes)
    }
}

/// Bytes of some answers.
fn held(entries: &Entries, among: impl Fn(&Entry) -> bool) -> usize {
    entries.values().filter(|entry| among(entry)).map(Entry::bytes).sum()
}

fn who_has_most(entries: &Entries, weight: impl Fn(&Entry) -> usize) -> Option<UserId> {
    let mut by_owner: HashMap<Option<UserId>, usize, ahash::RandomState> = HashMap::default();
    for entry in entries.values() {
        *by_owner.entry(entry.owner).or_default() += weight(entry);
    }
    by_owner.into_iter().max_by_key(|(_, weight)| *weight).and_then(|(owner, _)| owner)
}

/// Forgets somebody's oldest finished answer.
fn make_room(entries: &mut Entries, owner: Option<UserId>) -> Result<(), Problem> {
    let finished = entries.iter().filter(|(_, entry)| entry.owner == owner && entry.answer.is_some());
    let oldest = finished.min_by_key(|(_, entry)| entry.begun).map(|(key, _)| key.clone());
    oldest.and_then(|key| entries.remove(&key)).map(drop).ok_or_else(Problem::busy)
}

fn reused() -> Problem {
    let detail = "this key came with another request before; give each request a key of its own";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused", detail)
        .field("Idempotency-Key", "a key that was not used for anything else within a day")
}

/// When to ask again for what is under way.
const UNDER_WAY_RETRY_SECONDS: u64 = 1;

fn under_way() -> Problem {
    let detail = "a request with this key is under way; ask again in a moment for its answer";
    Problem::new(StatusCode::CONFLICT, "idempotency-key-in-use", detail).retry_after(UNDER_WAY_RETRY_SECONDS)
}

/// It was done, and what the first answer showed can't be shown again.
fn secret_not_kept(location: Option<HeaderValue>) -> Problem {
    let detail = "the request with this key was done, and its answer held a secret, which is not kept; ask for another \
        one with another key, and remove the first where it has a place of its own (`Location`)";
    let problem = Problem::new(StatusCode::CONFLICT, "secret-not-kept", detail);
    match location {
        Some(location) => problem.header(header::LOCATION, location),
        None => problem,
    }
}

/// A request under way. Dropped without an answer, it was never there.
struct Running {
    answers: Arc<Answers>,
    key: Option<Key>,
    secret: bool,
}

impl Running {
    async fn keep(mut self, response: Response) -> Response {
        let (parts, body) = response.into_parts();
        let forget = parts.status.is_server_error()
            || parts.status == StatusCode::TOO_MANY_REQUESTS
            || parts.status == StatusCode::REQUEST_TIMEOUT;
        let secret = self.secret && parts.status.is_success();
        if forget || !secret && !small(&body) {
            return Response::from_parts(parts, body);
        }
        let Some(key) = self.key.take() else { return Response::from_parts(parts, body) };
        if secret {
            self.answers.answered(&key, Kept::Secret(parts.headers.get(header::LOCATION).cloned()));
            return Response::from_parts(parts, body);
        }
        let Ok(bytes) = to_bytes(body, IDEMPOTENCY_ANSWER_BYTES_MAX).await else {
            // Dropped: it is forgotten.
            self.key = Some(key);
            return Problem::internal("the answer could not be read").into_response();
        };
        let kept = Kept::Whole { status: parts.status, headers: parts.headers.clone(), body: bytes.clone() };
        self.answers.answered(&key, kept);
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
            self.answers.lock().remove(&key);
        }
    }
}

impl IntoResponse for Kept {
    fn into_response(self) -> Response {
        let mut response = match self {
            Kept::Whole { status, headers, body } => {
                let mut response = (status, body).into_response();
                *response.headers_mut() = headers;
                response
            }
            Kept::Secret(location) => secret_not_kept(location).into_response(),
        };
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::http::workers::worked_out;
    use crate::time::MONO_ORIGIN;

    fn asking(owner: u64, token: &str) -> Asking {
        let caller = format!("token {token} of {owner}").into();
        Asking { caller, owner: Some(UserId::from_number(owner)), secret: false }
    }

    fn enter(answers: &Arc<Answers>, asking: &Asking, key: &str) -> Result<Turn, Problem> {
        let key = Key { caller: Arc::clone(&asking.caller), key: key.to_owned() };
        // Each later than the one before.
        static TICKS: AtomicU64 = AtomicU64::new(0);
        let now = MONO_ORIGIN.plus(Duration::from_nanos(TICKS.fetch_add(1, Ordering::Relaxed)));
        Answers::enter(answers, key, asking, [0; 32], now)
    }

    /// A request that is answered with so many bytes.
    async fn done(answers: &Arc<Answers>, asking: &Asking, key: &str, bytes: usize) -> Response {
        let Ok(Turn::First(running)) = enter(answers, asking, key) else { panic!("{key} was there") };
        running.keep((StatusCode::CREATED, vec![b'x'; bytes]).into_response()).await
    }

    fn is_kept(answers: &Arc<Answers>, asking: &Asking, key: &str) -> bool {
        matches!(enter(answers, asking, key), Ok(Turn::Again(_)))
    }

    #[tokio::test]
    async fn what_takes_longer_than_an_answer_may_is_done_once_and_its_answer_is_kept() {
        let (answers, ann) = (Arc::<Answers>::default(), asking(1, "a"));
        let (end, ended) = tokio::sync::oneshot::channel();
        let Ok(Turn::First(running)) = enter(&answers, &ann, "k") else { panic!("it is the first") };
        // A handler whose worker waits for a slow disk.
        let handler = async {
            match worked_out(tokio::spawn(ended), Duration::ZERO).await {
                Ok(_) => StatusCode::CREATED.into_response(),
                Err(problem) => problem.into_response(),
            }
        };
        let told = carried_out(running, handler, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!((told.status(), told.code()), (503, "outcome-unknown"));
        let Err(again) = enter(&answers, &ann, "k") else { panic!("it is under way") };
        assert_eq!(again.code(), "idempotency-key-in-use");
        end.send(()).unwrap();
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        let Ok(Turn::Again(Kept::Whole { status, .. })) = enter(&answers, &ann, "k") else { panic!("kept") };
        assert_eq!(status, StatusCode::CREATED);
    }

    #[tokio::test]
    async fn without_a_key_nobody_waits_longer_and_the_outcome_is_not_called_busy() {
        let (_end, ended) = tokio::sync::oneshot::channel::<()>();
        let told = worked_out(tokio::spawn(ended), Duration::from_millis(1)).await.unwrap_err();
        assert_eq!((told.status(), told.code()), (503, "outcome-unknown"));
    }

    #[tokio::test]
    async fn nobody_pushes_out_the_answers_of_who_has_few() {
        let (answers, few) = (Arc::<Answers>::default(), asking(0, "few"));
        done(&answers, &few, "first", 100).await;
        // Somebody with many tokens and large answers fills their own share only.
        for number in 0..100 {
            done(&answers, &asking(1, &number.to_string()), "k", IDEMPOTENCY_ANSWER_BYTES_MAX).await;
        }
        let of_one = held(&answers.lock(), |entry| entry.owner == Some(UserId::from_number(1)));
        assert_eq!(of_one, IDEMPOTENCY_BYTES_PER_OWNER_MAX);
        assert!(!is_kept(&answers, &asking(1, "0"), "k"), "their own oldest went");
        // So do others, until all together are too many.
        for owner in 2..20 {
            let full = IDEMPOTENCY_BYTES_PER_OWNER_MAX / IDEMPOTENCY_ANSWER_BYTES_MAX;
            for number in 0..full {
                done(&answers, &asking(owner, "t"), &number.to_string(), IDEMPOTENCY_ANSWER_BYTES_MAX).await;
            }
        }
        assert!(held(&answers.lock(), |_| true) <= IDEMPOTENCY_BYTES_MAX);
        for owner in 100..110 {
            for number in 0..IDEMPOTENCY_KEYS_PER_OWNER_MAX + 1 {
                done(&answers, &asking(owner, "t"), &number.to_string(), 1).await;
            }
        }
        assert_eq!(answers.lock().len(), IDEMPOTENCY_KEYS_MAX);
        assert!(is_kept(&answers, &few, "first"));
    }

    #[tokio::test]
    async fn of_a_secret_only_that_it_was_told_is_kept() {
        let (answers, ann) = (Arc::<Answers>::default(), Asking { secret: true, ..asking(1, "a") });
        let Ok(Turn::First(running)) = enter(&answers, &ann, "k") else { panic!("it is the first") };
        let made = (StatusCode::CREATED, [(header::LOCATION, "/there")], "fp_secret").into_response();
        let first = running.keep(made).await;
        assert_eq!(to_bytes(first.into_body(), 100).await.unwrap(), "fp_secret");
        let Ok(Turn::Again(kept)) = enter(&answers, &ann, "k") else { panic!("it was done") };
        assert!(!format!("{kept:?}").contains("fp_secret"));
        let again = kept.into_response();
        assert_eq!(again.status(), StatusCode::CONFLICT);
        assert_eq!(again.headers()[header::LOCATION], "/there");
        let problem: serde_json::Value =
            serde_json::from_slice(&to_bytes(again.into_body(), 10_000).await.unwrap()).unwrap();
        assert_eq!(problem["code"], "secret-not-kept");
        // A refusal holds none.
        let Ok(Turn::First(running)) = enter(&answers, &ann, "other") else { panic!("it is the first") };
        running.keep(Problem::busy().into_response()).await;
        let Ok(Turn::First(running)) = enter(&answers, &ann, "other") else { panic!("forgotten") };
        running.keep((StatusCode::FORBIDDEN, "no").into_response()).await;
        assert!(matches!(enter(&answers, &ann, "other"), Ok(Turn::Again(Kept::Whole { .. }))));
    }
}
