//! Where answers are worked out: a few threads beside the one that drives the sockets.
//!
//! Locks, the store and long lists are waited for here only. There is a bound on what is worked out at once, and
//! on the wait for a place; metrics and readiness have places of their own, so that they are there when the API
//! is busy.
//!
//! What has begun can't be taken back: a change that waits for a slow disk is made, whoever stopped waiting for it. So
//! a client that is sent away after the longest time of an answer is told that the outcome is not known yet, which is
//! not the same as busy: busy means that nothing was begun. Where somebody keeps the answer for who asks again
//! ([`super::idempotency`]), it is waited for to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::app::App;
use super::counters::count;
use super::problem::Problem;
use crate::limits::{
    HTTP_ANSWER_TIMEOUT, HTTP_WORKER_WAIT, HTTP_WORKERS, HTTP_WORKERS_PROVIDER, HTTP_WORKERS_RESERVED,
};

/// Places.
pub(super) struct Workers {
    api: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    provider: Arc<Semaphore>,
}

/// Whose places to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Places {
    /// The API's.
    Api,
    /// Those of metrics and readiness.
    Reserved,
    /// Those that wait for the identity provider, which may take its time and may be asked by strangers.
    Provider,
}

impl Default for Workers {
    fn default() -> Workers {
        Workers {
            api: Arc::new(Semaphore::new(HTTP_WORKERS)),
            reserved: Arc::new(Semaphore::new(HTTP_WORKERS_RESERVED)),
            provider: Arc::new(Semaphore::new(HTTP_WORKERS_PROVIDER)),
        }
    }
}

tokio::task_local! {
    /// Set where the answer is wanted whenever it comes.
    static TO_THE_END: ();
}

/// Within this, work is waited for however long it takes.
pub(super) async fn to_the_end<F: Future>(answering: F) -> F::Output {
    TO_THE_END.scope((), answering).await
}

/// Works something out on a thread that may wait. A job that takes longer than an answer may keeps its place
/// until it is done; the client is told at once, unless [`to_the_end`] is asked for.
pub(super) async fn work<T: Send + 'static>(
    app: &Arc<App>,
    places: Places,
    job: impl FnOnce(&App) -> T + Send + 'static,
) -> Result<T, Problem> {
    let places = match places {
        Places::Api => &app.workers.api,
        Places::Reserved => &app.workers.reserved,
        Places::Provider => &app.workers.provider,
    };
    let Ok(Ok(place)) = tokio::time::timeout(HTTP_WORKER_WAIT, Arc::clone(places).acquire_owned()).await
    else {
        count(&app.counters.busy);
        return Err(Problem::busy());
    };
    let app = Arc::clone(app);
    let working = tokio::task::spawn_blocking(move || {
        let _place = place;
        job(&app)
    });
    worked_out(working, HTTP_ANSWER_TIMEOUT).await
}

/// What comes of work, within `patience`.
pub(super) async fn worked_out<T>(working: JoinHandle<T>, patience: Duration) -> Result<T, Problem> {
    let done = if TO_THE_END.try_with(|()| ()).is_ok() {
        working.await
    } else {
        tokio::time::timeout(patience, working).await.map_err(|_| Problem::outcome_unknown())?
    };
    done.map_err(|error| {
        tracing::error!(%error, "an HTTP answer could not be worked out");
        Problem::internal("the answer could not be worked out; the log says why")
    })
}
