//! What all resources share.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::backend::Backend;
use super::bulk::Jobs;
use super::connections::Connections;
use super::counters::Counters;
use super::events::Hub;
use super::idempotency::Answers;
use super::sensor_metrics::Pages;
use super::sign_in::oidc::Oidc;
use super::sign_in::{SignIn, SignInConfig};
use super::signatures::Signatures;
use super::tls::Tls;
use super::workers::Workers;
use crate::export::{Exposition, Figures, Source};
use crate::limits::{BACKUP_DOWNLOADS_MAX, EXPORTS_MAX, HTTP_LARGE_BODIES_MAX};
use crate::time::Clock;

/// Shared by all connections.
pub(super) struct App {
    /// Where it listens.
    pub(super) listening: SocketAddr,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Arc<Counters>,
    pub(super) connections: Arc<Connections>,
    pub(super) workers: Workers,
    pub(super) exposition: Exposition,
    pub(super) pages: Pages,
    /// Sessions, rates, failed sign-ins.
    pub(super) sign_in: SignIn,
    /// The identity provider.
    pub(super) oidc: Option<Arc<Oidc>>,
    /// The certificate of HTTPS; none = plain HTTP.
    pub(super) tls: Option<Arc<Tls>>,
    /// Answers to requests that may be sent again.
    pub(super) answers: Arc<Answers>,
    /// Bulk changes, under way and finished.
    pub(super) jobs: Jobs,
    /// Places for requests with large bodies.
    pub(super) large_bodies: Arc<Semaphore>,
    /// Events for those who follow them.
    pub(super) events: Arc<Hub>,
    /// The HTTP side ends.
    pub(super) stop: CancellationToken,
    /// Places for files.
    pub(super) exports: Arc<Semaphore>,
    /// Signatures of files.
    pub(super) signatures: Signatures,
    /// Places for downloads of backups.
    pub(super) backup_downloads: Arc<Semaphore>,
    /// Tells this run of the server from others, in cursors that name slots.
    pub(super) run: u32,
}

impl App {
    pub(super) fn new(
        listening: SocketAddr,
        config: SignInConfig,
        oidc: Option<Arc<Oidc>>,
        tls: Option<Arc<Tls>>,
        backend: Arc<dyn Backend>,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> App {
        let (counters, connections) = (Arc::<Counters>::default(), Arc::<Connections>::default());
        let figures = AllFigures {
            backend: Arc::clone(&backend),
            counters: Arc::clone(&counters),
            connections: Arc::clone(&connections),
        };
        App {
            listening,
            exposition: Exposition::new(Arc::new(figures)),
            backend,
            // Milliseconds: two starts within one are not possible.
            run: clock.unix().0 as u32,
            clock,
            counters,
            connections,
            workers: Workers::default(),
            pages: Pages::default(),
            answers: Arc::default(),
            sign_in: SignIn::new(config),
            oidc,
            tls,
            jobs: Jobs::default(),
            large_bodies: Arc::new(Semaphore::new(HTTP_LARGE_BODIES_MAX)),
            events: Arc::default(),
            stop,
            exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
            signatures: Signatures::default(),
            backup_downloads: Arc::new(Semaphore::new(BACKUP_DOWNLOADS_MAX)),
        }
    }
}

impl App {
    /// A number that is another one whenever somebody may do more or less than before, by a change of the register or
    /// because a session was ended. Two loads; what only time ends is not in it.
    pub(super) fn access_changes(&self) -> u64 {
        self.backend.access_changes().wrapping_add(self.sign_in.sessions.ended())
    }
}

/// The server's figures and our own.
struct AllFigures {
    backend: Arc<dyn Backend>,
    counters: Arc<Counters>,
    connections: Arc<Connections>,
}

impl Source for AllFigures {
    fn figures(&self) -> Figures {
        let mut figures = self.backend.figures();
        figures.http = self.counters.figures(self.connections.len());
        figures
    }
}
