//! `/api/v1/backup` and `/api/v1/backups`: copies of everything durable, made while the server works.
//!
//! For those who run the whole server: a backup holds the keys of the certificate authority. Where it goes is the
//! configuration's to say (`backup.dir`), and what it is called the server's, so no request names a path. A small one is
//! answered when it is complete; one that takes long is told to be under way, and the list says when it is there.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::backend::{BackupFault, MadeBackup};
use super::caller::Caller;
use super::connections::Connection;
use super::edit::NoQuery;
use super::file::{Pieces, place};
use super::params::path_id;
use super::problem::Problem;
use super::times::rfc3339;
use super::workers::{Places, work};
use crate::limits::{BACKUP_ANSWER_WAIT, BACKUP_PIECE_BYTES};
use crate::store::{BackupFile, BackupName};

/// A backup.
#[derive(Serialize, ToSchema)]
#[schema(as = Backup)]
struct BackupDocument {
    name: String,
    bytes: u64,
    /// When it was begun; this and the places below are none when the file can't be read.
    #[schema(format = DateTime)]
    made_at: Option<String>,
    /// The last entry of the register's log in it; the audit log has the same as `entry`.
    register: Option<String>,
    /// The last entry of the journal of health messages in it.
    journal: Option<String>,
}

/// A backup that was made.
#[derive(Serialize, ToSchema)]
#[schema(as = MadeBackup)]
struct MadeDocument {
    #[serde(flatten)]
    backup: BackupDocument,
    /// Of the file, as `sha256sum` has it.
    sha256: String,
    /// How long it took.
    seconds: f64,
    /// Older backups that were removed, because more than `backup.keep` were there.
    removed: Vec<String>,
}

/// A backup that takes long.
#[derive(Serialize, ToSchema)]
struct BackupUnderWay {
    name: String,
    /// Always `under-way`.
    state: &'static str,
}

/// Backups that are there.
#[derive(Serialize, ToSchema)]
struct BackupList {
    /// Newest first.
    items: Vec<BackupDocument>,
    /// The one that is being written.
    under_way: Option<String>,
}

impl BackupDocument {
    fn of(file: &BackupFile) -> BackupDocument {
        let BackupFile { name, bytes, lead } = file;
        BackupDocument {
            name: name.to_string(),
            bytes: *bytes,
            made_at: lead.map(|(at, _, _)| rfc3339(at)),
            register: lead.map(|(_, register, _)| register.to_string()),
            journal: lead.map(|(_, _, journal)| journal.to_string()),
        }
    }
}

fn problem(fault: &BackupFault) -> Problem {
    let detail = fault.to_string();
    match fault {
        BackupFault::Running(_) => Problem::new(StatusCode::CONFLICT, "backup-under-way", detail),
        BackupFault::NoRoom { .. } => Problem::new(StatusCode::INSUFFICIENT_STORAGE, "no-room", detail),
        BackupFault::Unknown(_) => Problem::new(StatusCode::NOT_FOUND, "not-found", detail),
        BackupFault::Unnoted(_) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", detail).retry_after(5)
        }
        BackupFault::Failed(_) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "backup-failed", detail).retry_after(5)
        }
    }
}

fn path(name: &BackupName) -> String {
    format!("/api/v1/backups/{name}")
}

#[utoipa::path(post, path = "/api/v1/backup", operation_id = "make-backup", tag = "Server",
    summary = "Make a backup of everything, while everything goes on",
    description = "Register with its audit log, journal, history, last states, and the keys of the certificate authority, as \
        one file in the folder `backup.dir` of the server. One at a time; when it is complete, the oldest beyond \
        `backup.keep` are removed. `fleetpulse store restore` makes a data directory of it.",
    responses(
        (status = 201, description = "Complete and durable", body = MadeDocument,
            headers(("Location" = String, description = "The backup"))),
        (status = 202, description = "Under way; `GET /api/v1/backups` says when it is there", body = BackupUnderWay,
            headers(("Location" = String, description = "The backup, when it is complete"))),
        (status = 409, description = "Another backup is being written, or the same `Idempotency-Key` is under way",
            body = super::problem::Document, content_type = "application/problem+json"),
        (status = 507, description = "")))]
pub(super) async fn make(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
) -> Result<Response, Problem> {
    let shared = Arc::clone(&app);
    // On a thread of its own, and to its end also when nobody waits for it any more.
    let mut making = tokio::task::spawn_blocking(move || shared.backend.make_backup(caller.actor));
    let waited = tokio::time::timeout(BACKUP_ANSWER_WAIT, &mut making).await;
    let made = match (waited, app.backend.backup_under_way()) {
        (Ok(made), _) => made,
        (Err(_), Some(name)) => {
            let body = BackupUnderWay { name: name.to_string(), state: "under-way" };
            let location = [(header::LOCATION, path(&name))];
            return Ok((StatusCode::ACCEPTED, location, Json(body)).into_response());
        }
        // It ended at this moment.
        (Err(_), None) => making.await,
    };
    let made = made.map_err(|_| Problem::internal("the backup could not be made; the log says why"))?;
    let MadeBackup { file, sha256, took, removed } = made.map_err(|fault| problem(&fault))?;
    let body = MadeDocument {
        backup: BackupDocument::of(&file),
        sha256,
        seconds: took.as_secs_f64(),
        removed: removed.iter().map(BackupName::to_string).collect(),
    };
    Ok((StatusCode::CREATED, [(header::LOCATION, path(&file.name))], Json(body)).into_response())
}

#[utoipa::path(get, path = "/api/v1/backups", operation_id = "list-backups", tag = "Server",
    summary = "The backups that are there, newest first",
    responses((status = 200, description = "All of them", body = BackupList)))]
pub(super) async fn list(State(app): State<Arc<App>>, _: NoQuery) -> Result<Response, Problem> {
    let list = work(&app, Places::Api, |app| {
        let under_way = app.backend.backup_under_way().map(|name| name.to_string());
        let files = app.backend.backups().map_err(|error| Problem::store(&error))?;
        Ok(BackupList { items: files.iter().map(BackupDocument::of).collect(), under_way })
    });
    Ok(Json(list.await??).into_response())
}

#[utoipa::path(get, path = "/api/v1/backups/{name}", operation_id = "download-backup", tag = "Server",
    summary = "Download a backup",
    description = "It holds the keys of the certificate authority and the hashes of passwords: keep it as safe as the server. \
        That it was handed out is in the audit log.",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(super) async fn download(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(connection): Extension<Arc<Connection>>,
    Name(name): Name,
    _: NoQuery,
) -> Result<Response, Problem> {
    let place = place(&app, &app.backup_downloads)?;
    let wanted = name.clone();
    let opened = work(&app, Places::Api, move |app| app.backend.open_backup(&wanted, caller.actor)).await?;
    let (file, bytes) = opened.map_err(|fault| problem(&fault))?;
    let mut pieces = FilePieces { file, left: bytes };
    let pieces = Pieces::new(&app, place, move |_| pieces.next());
    Ok(pieces.of_length(bytes).renewing(connection).into_file("application/octet-stream", &name.to_string()))
}

/// What is still to be read of a file.
struct FilePieces {
    file: File,
    left: u64,
}

impl FilePieces {
    fn next(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        if self.left == 0 {
            return Ok(None);
        }
        let most = self.left.min(BACKUP_PIECE_BYTES as u64);
        let mut piece = Vec::new();
        let read = self.file.by_ref().take(most).read_to_end(&mut piece);
        match read {
            Ok(read) if read as u64 == most => {
                self.left -= most;
                Ok(Some(piece))
            }
            // The length was told: less of it is a file that is cut short, and the client must hear so.
            other => {
                tracing::warn!(?other, "a backup could not be read to its end");
                Err(Problem::internal("the backup could not be read to its end"))
            }
        }
    }
}

#[utoipa::path(delete, path = "/api/v1/backups/{name}", operation_id = "delete-backup", tag = "Server",
    summary = "Delete a backup",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 204, description = "Deleted")))]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Name(name): Name,
    _: NoQuery,
) -> Result<Response, Problem> {
    let removed = work(&app, Places::Api, move |app| app.backend.remove_backup(&name, caller.actor)).await?;
    removed.map_err(|fault| problem(&fault))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The part `{name}` of the path: the name of a backup, or it is refused.
pub(super) struct Name(BackupName);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Name, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) =
            text.map_err(|_| Problem::bad_parameter("name", "not UTF-8", "a name of the list"))?;
        path_id("name", &text).map(Name)
    }
}
