//! Where answers are worked out: a few threads beside the one that drives the sockets.
//!
//! Locks, the store and long lists are waited for here only. There is a bound on what is worked out at once, and
//! on the wait for a place; metrics and readiness have places of their own, so that they are there when the API
//! is busy.

use std::sync::Arc;

use tokio::sync::Semaphore;

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

/// Works something out on a thread that may wait. A job that takes longer than an answer may keeps its place
/// until it is done; the client is told at once.
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
    match tokio::time::timeout(HTTP_ANSWER_TIMEOUT, working).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            tracing::error!(%error, "an HTTP answer could not be worked out");
            Err(Problem::internal("the answer could not be worked out; the log says why"))
        }
        Err(_) => Err(Problem::busy()),
    }
}
