//! The HTTP side: probes, metrics and the JSON API.
//!
//! One thread drives the sockets with a small runtime; answers are worked out on a few worker threads. It is the
//! side of the server that is allowed to be slow: nothing here is on the way of a heartbeat, and nothing that a
//! client does or leaves undone holds up the sweep. Bounds: connections, head, headers, body, time for a head,
//! time without progress, time for an answer, workers; each in [`crate::limits`], each counted.
//!
//! One file a resource: request in, plain types of the API out. The API has types of its own; those of the core
//! are not serializable, so that its format is nobody's accident. What is asked of the server is in [`Backend`].
//!
//! Plain HTTP is served on loopback only, unless the configuration says that a proxy adds TLS.

mod app;
mod attempts;
mod audit;
mod backend;
mod backups;
mod body;
mod bulk;
mod caller;
mod change;
mod connections;
mod counters;
mod csv;
mod cursor;
mod docs;
mod documents;
mod download;
mod edit;
mod endpoints;
mod engine;
mod etag;
mod events;
mod file;
mod fleet;
mod grants;
mod grid;
mod idempotency;
mod import;
mod listener;
mod message_history;
mod messages;
mod metrics;
mod oidc;
mod openapi;
mod params;
mod places;
mod probes;
mod problem;
mod reported;
mod router;
mod routes;
mod sensor;
mod sensor_metrics;
mod series;
mod session;
mod setup;
mod sight;
mod sign_in;
mod signatures;
mod times;
mod tls;
mod tokens;
mod told;
mod users;
mod watched;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub(crate) use csv::cell as csv_text;

pub use backend::{
    Applied, AppliedNumber, ApplyError, Backend, BackupFault, Expect, IssuedActivation, MadeBackup, Reached,
    RefusedEnrolment,
};
pub use problem::Problem;
pub use sign_in::SignInConfig;
pub use sign_in::oidc::OidcConfig;
pub use sign_in::passwords::new_password_hash;
pub use sign_in::secrets::{NoRandom, new_token};
pub use tls::{Certificate, CertificateSource};

pub use crate::config::MetricsAccess;

use app::App;
use sign_in::oidc::Oidc;
use tls::Tls;

use crate::limits::{HTTP_WORKERS, HTTP_WORKERS_RESERVED, JOB_WORKERS, PASSWORD_HASHES_MAX};
use crate::time::Clock;

/// Where to listen.
#[derive(Clone)]
pub struct HttpConfig {
    /// TCP address; port 0 = a free one.
    pub listen: SocketAddr,
    /// Plain HTTP may be served on an address that other hosts reach.
    pub plain_beyond_loopback: bool,
    /// Sessions, metrics, rates.
    pub sign_in: SignInConfig,
    /// The identity provider; none = local accounts only.
    pub oidc: Option<OidcConfig>,
    /// HTTPS with this certificate; none = plain HTTP.
    pub tls: Option<CertificateSource>,
}

/// Why HTTP can't be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address can't be had.
    #[error(
        "`http.listen` = `{address}` can't be listened on: {error}; give an address of this host and a free port"
    )]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// Others would reach plain HTTP.
    #[error(
        "`http.listen` = `{address}` would serve plain HTTP to other hosts; listen on 127.0.0.1 or [::1], or put a proxy with TLS in front and set `http.plain_beyond_loopback` = true"
    )]
    Plain {
        /// Which address.
        address: SocketAddr,
    },
    /// The certificate can't be used.
    #[error("the certificate of HTTPS can't be used: {0}; look at `http.tls_certificate` and `http.tls_key`")]
    Tls(String),
    /// The identity provider's settings can't be used.
    #[error("{0}")]
    Oidc(String),
    /// The runtime or its thread can't be started.
    #[error("the HTTP thread can't be started: {0}")]
    Thread(io::Error),
}

/// The running HTTP side. Dropping it stops it.
pub struct Http {
    address: SocketAddr,
    app: Arc<App>,
    stop: CancellationToken,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Longest wait for workers at a stop; a job that hangs in the disk is left behind.
const STOP_WAIT: Duration = Duration::from_secs(5);

impl Http {
    /// Listens and serves. When this returns, requests are answered.
    pub fn start(
        config: HttpConfig,
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
    ) -> Result<Http, HttpError> {
        let HttpConfig { listen, plain_beyond_loopback, sign_in, oidc, tls } = config;
        let tls = tls.map(Tls::new).transpose().map_err(HttpError::Tls)?.map(Arc::new);
        if !listen.ip().is_loopback() && tls.is_none() && !plain_beyond_loopback {
            return Err(HttpError::Plain { address: listen });
        }
        let oidc = oidc.map(Oidc::new).transpose().map_err(|error| HttpError::Oidc(error.to_string()))?;
        let bind = |error| HttpError::Bind { address: listen, error };
        let listener = std::net::TcpListener::bind(listen).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("http-worker")
            // One more is the event streams', and one the backup's.
            .max_blocking_threads(
                HTTP_WORKERS + HTTP_WORKERS_RESERVED + PASSWORD_HASHES_MAX + JOB_WORKERS + 2,
            )
            .build()
            .map_err(HttpError::Thread)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(bind)?
        };
        let stop = CancellationToken::new();
        let app = Arc::new(App::new(address, sign_in, oidc.map(Arc::new), tls, backend, clock, stop.clone()));
        events::begin(&app);
        let (router, stopped) = (router::router(Arc::clone(&app)), stop.clone());
        let served = Arc::clone(&app);
        let thread = std::thread::Builder::new()
            .name("http".into())
            .spawn(move || {
                runtime.spawn(events::follow(Arc::clone(&served), stopped.clone()));
                runtime.spawn(events::watch_access(Arc::clone(&served), stopped.clone()));
                runtime.block_on(listener::run(listener, router, served, stopped));
                runtime.shutdown_timeout(STOP_WAIT);
            })
            .map_err(HttpError::Thread)?;
        Ok(Http { address, app, stop, thread: Mutex::new(Some(thread)) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Looks at the certificate of HTTPS again: new connections get the one that is there now.
    pub fn reload(&self) -> Result<(), HttpError> {
        let looked = self.app.tls.as_ref().map(|tls| tls.look());
        looked.transpose().map(drop).map_err(HttpError::Tls)
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.app.tls.is_some() { "https" } else { "http" }
    }

    /// While nobody is registered: a one-time token that makes the first administrator (`/setup?token=...`). Each call
    /// makes another and voids the one before.
    pub fn setup_token(&self) -> Option<String> {
        if self.app.backend.register().users().next().is_some() {
            return None;
        }
        let token = self.app.sign_in.setup.begin(self.app.clock.mono());
        token
            .inspect_err(|error| tracing::error!(%error, "there is no link for the first administrator"))
            .ok()
    }

    /// Takes no more requests, finishes those under way, and waits for that (at most a few seconds).
    pub fn stop(&self) {
        self.stop.cancel();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the HTTP thread had panicked");
        }
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stop();
    }
}
