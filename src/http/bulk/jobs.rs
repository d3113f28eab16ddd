//! `/api/v1/jobs`: bulk changes under way and finished, each with what became of every item. Of the caller only.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use crate::fleet::{Permission, Refusal, Register, Target};
use crate::http::app::App;
use crate::http::caller::Caller;
use crate::http::cursor::Cursors;
use crate::http::edit::{At, NoQuery};
use crate::http::params::Params;
use crate::http::problem::Problem;
use crate::http::times::rfc3339;
use crate::http::workers::{Places, work};
use crate::limits::{JOB_ITEMS_MAX, JOB_WORKERS, JOBS_MAX, JOBS_PER_CALLER_MAX};
use crate::time::UnixMillis;
use crate::wire::id::{BadId, SensorId};

/// All jobs that are known, oldest first.
pub(in crate::http) struct Jobs {
    known: Mutex<VecDeque<Arc<Job>>>,
    /// One bulk change at a time.
    pub(super) turn: Arc<Semaphore>,
}

impl Default for Jobs {
    fn default() -> Jobs {
        Jobs { known: Mutex::default(), turn: Arc::new(Semaphore::new(JOB_WORKERS)) }
    }
}

/// A bulk change.
pub(in crate::http) struct Job {
    id: JobId,
    caller: Arc<str>,
    action: &'static str,
    created: UnixMillis,
    total: usize,
    cancel: AtomicBool,
    progress: Mutex<Progress>,
}

/// A job's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct JobId(uuid::Uuid);

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl std::str::FromStr for JobId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<JobId, BadId> {
        uuid::Uuid::try_parse(text).map(JobId).map_err(|_| BadId)
    }
}

/// Where it stands.
struct Progress {
    state: Stage,
    finished: Option<UnixMillis>,
    /// Why it failed.
    error: Option<String>,
    /// One for each item, in order; short while it is under way.
    outcomes: Vec<(SensorId, Outcome)>,
}

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    Running,
    /// Everything that could be done is.
    Done,
    /// Ended by its caller; what was done stays.
    Cancelled,
    /// The store failed, or all-or-nothing was asked for and something was refused.
    Failed,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Stage::Waiting => "waiting",
            Stage::Running => "running",
            Stage::Done => "done",
            Stage::Cancelled => "cancelled",
            Stage::Failed => "failed",
        }
    }

    fn is_over(self) -> bool {
        !matches!(self, Stage::Waiting | Stage::Running)
    }
}

/// What became of an item.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// It is as asked.
    Done,
    /// It was not come to, or nothing was done at all.
    NotDone,
    /// It was refused.
    Refused(Box<Told>),
}

impl Outcome {
    fn as_str(&self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::NotDone => "not-done",
            Outcome::Refused(_) => "refused",
        }
    }
}

/// Why an item is left out.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) code: &'static str,
    pub(super) field: String,
    pub(super) detail: String,
    pub(super) valid: String,
}

impl From<Refusal> for Told {
    fn from(refusal: Refusal) -> Told {
        let Refusal { code, field, value, right, .. } = refusal;
        let detail = format!("`{field}` is {value}; give {right}");
        Told { code: code.as_str(), field: field.to_owned(), detail, valid: right }
    }
}

/// A bulk change, and how far it is.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(super) struct JobDocument {
    #[schema(format = Uuid)]
    id: String,
    action: &'static str,
    /// `waiting`, `running`, `done`, `cancelled` (what was done stays) or `failed` (see `error`).
    state: &'static str,
    created_at: String,
    finished_at: Option<String>,
    /// Items in all.
    total: usize,
    done: usize,
    refused: usize,
    error: Option<String>,
}

impl JobDocument {
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

/// What became of one item.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobItem)]
pub(super) struct ItemDocument {
    #[schema(format = Uuid)]
    id: String,
    /// What people call it; none when it is not there for the caller.
    name: Option<String>,
    /// `done`, `refused`, or `not-done` when it was not come to.
    outcome: &'static str,
    /// Stable code of the refusal.
    code: Option<&'static str>,
    field: Option<String>,
    detail: Option<String>,
    /// What would be right.
    valid: Option<String>,
}

impl ItemDocument {
    fn of(register: &Register, caller: &Caller, id: SensorId, outcome: &Outcome) -> ItemDocument {
        match outcome {
            Outcome::Refused(told) => ItemDocument::refused(register, caller, id, told),
            _ => ItemDocument {
                id: id.to_string(),
                name: name_of(register, caller, id),
                outcome: outcome.as_str(),
                code: None,
                field: None,
                detail: None,
                valid: None,
            },
        }
    }

    pub(super) fn refused(register: &Register, caller: &Caller, id: SensorId, told: &Told) -> ItemDocument {
        ItemDocument {
            id: id.to_string(),
            name: name_of(register, caller, id),
            outcome: "refused",
            code: Some(told.code),
            field: Some(told.field.clone()),
            detail: Some(told.detail.clone()),
            valid: Some(told.valid.clone()),
        }
    }
}

fn name_of(register: &Register, caller: &Caller, id: SensorId) -> Option<String> {
    let found = register.sensor(id).or_else(|| register.deleted_sensor(id))?;
    let seen = caller.may(register, Permission::View, Target::Sensor(id));
    seen.then(|| found.name.to_string())
}

/// The caller's bulk changes.
#[derive(Serialize, ToSchema)]
#[schema(as = JobPage)]
struct JobPage {
    /// Newest first.
    items: Vec<JobDocument>,
    /// Always none: few are kept.
    next: Option<String>,
}

/// What became of the items of a bulk change.
#[derive(Serialize, ToSchema)]
#[schema(as = JobItemPage)]
struct ItemPage {
    /// In the order of the request.
    items: Vec<ItemDocument>,
    /// Cursor of the page after this one.
    next: Option<String>,
}

impl Job {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn document(&self) -> JobDocument {
        let progress = self.lock();
        let count = |wanted: fn(&Outcome) -> bool| {
            progress.outcomes.iter().filter(|(_, outcome)| wanted(outcome)).count()
        };
        JobDocument {
            id: self.id.to_string(),
            action: self.action,
            state: progress.state.as_str(),
            created_at: rfc3339(self.created),
            finished_at: progress.finished.map(rfc3339),
            total: self.total,
            done: count(|outcome| matches!(outcome, Outcome::Done)),
            refused: count(|outcome| matches!(outcome, Outcome::Refused(_))),
            error: progress.error.clone(),
        }
    }

    /// Its turn has come; false when it was cancelled before.
    pub(super) fn begin(&self) -> bool {
        let mut progress = self.lock();
        if !progress.state.is_over() && !self.is_cancelled() {
            progress.state = Stage::Running;
            return true;
        }
        false
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// What became of the next items.
    pub(super) fn note(&self, outcomes: Vec<(SensorId, Outcome)>) {
        self.lock().outcomes.extend(outcomes);
    }

    /// It is over. Items that were not come to are told as such.
    pub(super) fn end(&self, state: Stage, error: Option<String>, rest: &[SensorId], at: UnixMillis) {
        let mut progress = self.lock();
        progress.outcomes.extend(rest.iter().map(|&id| (id, Outcome::NotDone)));
        progress.state = state;
        progress.error = error;
        progress.finished = Some(at);
    }

    fn is_over(&self) -> bool {
        self.lock().state.is_over()
    }
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Job>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new job. When there are too many, the oldest finished one is forgotten; when none is finished, it is refused.
    pub(super) fn begin(
        &self,
        app: &App,
        caller: &Caller,
        action: &'static str,
        total: usize,
    ) -> Result<Arc<Job>, Problem> {
        let mut known = self.lock();
        let own = known.iter().filter(|job| job.caller == caller.key).count();
        if own >= JOBS_PER_CALLER_MAX {
            make_room(&mut known, |job| job.caller == caller.key)?;
        }
        if known.len() >= JOBS_MAX {
            make_room(&mut known, |_| true)?;
        }
        while known.iter().map(|job| job.total).sum::<usize>() + total > JOB_ITEMS_MAX {
            make_room(&mut known, |_| true)?;
        }
        let job = Arc::new(Job {
            id: JobId(uuid::Uuid::now_v7()),
            caller: Arc::clone(&caller.key),
            action,
            created: app.clock.unix(),
            total,
            cancel: AtomicBool::new(false),
            progress: Mutex::new(Progress {
                state: Stage::Waiting,
                finished: None,
                error: None,
                outcomes: Vec::new(),
            }),
        });
        known.push_back(Arc::clone(&job));
        Ok(job)
    }

    fn find(&self, caller: &Caller, id: JobId) -> Result<Arc<Job>, Problem> {
        let known = self.lock();
        let found = known.iter().find(|job| job.id == id && job.caller == caller.key);
        found.cloned().ok_or_else(|| {
            let more = " of yours; only the last few are kept, and a restart forgets them";
            Problem::not_found("job", &id.to_string(), more)
        })
    }
}

fn make_room(known: &mut VecDeque<Arc<Job>>, among: impl Fn(&Job) -> bool) -> Result<(), Problem> {
    let oldest = known.iter().position(|job| among(job) && job.is_over());
    oldest.and_then(|place| known.remove(place)).map(drop).ok_or_else(Problem::busy)
}

#[utoipa::path(get, path = "/api/v1/jobs", operation_id = "list-jobs", tag = "Bulk changes",
    summary = "Your bulk changes, newest first",
    responses((status = 200, description = "Those that are kept", body = JobPage)))]
pub(in crate::http) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    _: NoQuery,
) -> Result<Response, Problem> {
    let known = app.jobs.lock();
    let own = known.iter().rev().filter(|job| job.caller == caller.key);
    Ok(Json(JobPage { items: own.map(|job| job.document()).collect(), next: None }).into_response())
}

#[utoipa::path(get, path = "/api/v1/jobs/{id}", operation_id = "get-job", tag = "Bulk changes",
    summary = "One of your bulk changes: how far it is",
    params(("id" = String, Path, format = Uuid, description = "Id of the job")),
    responses((status = 200, description = "The job", body = JobDocument)))]
pub(in crate::http) async fn one(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<JobId>,
    _: NoQuery,
) -> Result<Response, Problem> {
    Ok(Json(app.jobs.find(&caller, id)?.document()).into_response())
}

#[utoipa::path(delete, path = "/api/v1/jobs/{id}", operation_id = "cancel-job", tag = "Bulk changes",
    summary = "Ends a bulk change that is under way (what was done stays), or forgets a finished one",
    params(("id" = String, Path, format = Uuid, description = "Id of the job")),
    responses((status = 204, description = "It ends after the batch that is under way, or is forgotten")))]
pub(in crate::http) async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<JobId>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    let job = app.jobs.find(&caller, id)?;
    if job.is_over() {
        app.jobs.lock().retain(|known| known.id != id);
    } else {
        job.cancel.store(true, Ordering::Relaxed);
    }
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(get, path = "/api/v1/jobs/{id}/items", operation_id = "list-job-items", tag = "Bulk changes",
    summary = "What became of each item of one of your bulk changes, as far as it is",
    params(("id" = String, Path, format = Uuid, description = "Id of the job"),
        ("outcome" = Option<String>, Query, description = "Only `done`, `refused` or `not-done` ones"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "Items on the page; 100 when not given"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page of items", body = ItemPage)))]
pub(in crate::http) async fn items(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<JobId>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let names = ["done", "refused", "not-done"];
    let wanted =
        params.choice("outcome", |name| names.into_iter().find(|n| *n == name), || names.to_vec())?;
    let limit = params.page_limit()?;
    let cursor = params.take("cursor")?;
    params.finish(&["outcome", "limit", "cursor"])?;
    let cursors = Cursors::of("job-items", (id.0, wanted));
    let from: usize = cursor.as_deref().map_or(Ok(0), |text| cursors.read(text))?;
    let job = app.jobs.find(&caller, id)?;
    let page = work(&app, Places::Api, move |app| {
        let register = app.backend.register();
        let progress = job.lock();
        let mut page = ItemPage { items: Vec::new(), next: None };
        for (index, (id, outcome)) in progress.outcomes.iter().enumerate().skip(from) {
            if wanted.is_some_and(|wanted| wanted != outcome.as_str()) {
                continue;
            }
            if page.items.len() == limit {
                page.next = Some(cursors.show(&index));
                break;
            }
            page.items.push(ItemDocument::of(&register, &caller, *id, outcome));
        }
        page
    });
    Ok(Json(page.await?).into_response())
}
