//! `GET /api/v1/signatures/{id}`: the signature of a file that was downloaded, to be laid beside it.
//!
//! Kept in memory, for the caller who has the file, and not for long; [`super::download`] says why it comes apart.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::app::App;
use super::caller::Caller;
use super::edit::{At, NoQuery};
use super::problem::Problem;
use crate::limits::{SIGNATURE_KEEP, SIGNATURES_MAX, SIGNATURES_PER_CALLER_MAX};
use crate::time::MonoNanos;
use crate::wire::id::BadId;

/// Signatures that can be fetched, oldest first.
#[derive(Default)]
pub(super) struct Signatures(Mutex<VecDeque<Entry>>);

/// A signature's id: random, and it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SignatureId(uuid::Uuid);

impl std::str::FromStr for SignatureId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<SignatureId, BadId> {
        uuid::Uuid::try_parse(text).map(SignatureId).map_err(|_| BadId)
    }
}

struct Entry {
    id: SignatureId,
    caller: Arc<str>,
    /// Of the file.
    name: String,
    /// When the file was begun, then when it was complete.
    at: MonoNanos,
    /// `None` while the file is under way.
    signature: Option<String>,
}

impl Entry {
    fn is_good(&self, now: MonoNanos) -> bool {
        self.signature.is_none() || now.since(self.at) < SIGNATURE_KEEP
    }
}

/// A signature that will be there when its file is complete. Dropped before that, there is none.
pub(super) struct Promised {
    app: Arc<App>,
    id: SignatureId,
}

impl Promised {
    pub(super) fn new(app: &Arc<App>, caller: &Caller, name: &str) -> Promised {
        let id = SignatureId(uuid::Uuid::new_v4());
        let now = app.clock.mono();
        let mut known = app.signatures.lock();
        known.retain(|entry| entry.is_good(now));
        if known.iter().filter(|entry| entry.caller == caller.key).count() >= SIGNATURES_PER_CALLER_MAX {
            let oldest = known.iter().position(|entry| entry.caller == caller.key);
            oldest.and_then(|place| known.remove(place));
        }
        if known.len() >= SIGNATURES_MAX {
            known.pop_front();
        }
        let (caller, name) = (Arc::clone(&caller.key), name.to_owned());
        known.push_back(Entry { id, caller, name, at: now, signature: None });
        Promised { app: Arc::clone(app), id }
    }

    pub(super) fn path(&self) -> String {
        format!("/api/v1/signatures/{}", self.id.0.as_hyphenated())
    }

    /// The file is complete.
    pub(super) fn keep(self, signature: String) {
        let mut known = self.app.signatures.lock();
        if let Some(entry) = known.iter_mut().find(|entry| entry.id == self.id) {
            entry.signature = Some(signature);
            entry.at = self.app.clock.mono();
        }
    }
}

impl Drop for Promised {
    fn drop(&mut self) {
        self.app.signatures.lock().retain(|entry| entry.id != self.id || entry.signature.is_some());
    }
}

impl Signatures {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[utoipa::path(get, path = "/api/v1/signatures/{id}", operation_id = "get-signature", tag = "Files",
    summary = "The signature of a file that you downloaded, for a quarter of an hour",
    description = "Each file (CSV, NDJSON, endpoint details) says in the header `Fleetpulse-Signature` where its signature \
        is. Keep it beside the file as `FILE.jws`; `fleetpulse verify FILE --trust trust.pem` checks both. It is a JSON Web \
        Signature in compact form over the file as it is (RFC 7515 appendix F, RFC 7797), with the chain of certificates.",
    params(("id" = String, Path, format = Uuid, description = "As the file's header says")),
    responses((status = 200, description = "One line: header..signature", content((String = "application/jose"))),
        (status = 409, description = "")))]
pub(super) async fn signature(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<SignatureId>,
    _: NoQuery,
) -> Result<Response, Problem> {
    let now = app.clock.mono();
    let known = app.signatures.lock();
    let own = |entry: &&Entry| entry.id == id && entry.caller == caller.key && entry.is_good(now);
    let found = known.iter().find(own);
    let entry = found.ok_or_else(|| {
        let more = " of yours; it is kept for a quarter of an hour, for a file that was read to its end";
        Problem::not_found("signature", &id.0.to_string(), more)
    })?;
    let signature = entry.signature.clone().ok_or_else(|| {
        let detail = "the file is not complete; read it to its end first";
        Problem::new(StatusCode::CONFLICT, "download-under-way", detail)
    })?;
    let attachment = HeaderValue::try_from(format!("attachment; filename=\"{}.jws\"", entry.name));
    let attachment = attachment.unwrap_or(HeaderValue::from_static("attachment"));
    let kind = HeaderValue::from_static("application/jose");
    Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, attachment)], signature).into_response())
}
