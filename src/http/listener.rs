//! Accepts connections and serves HTTP/1.1 on each, within limits.
//!
//! One thread drives all sockets. Whatever takes longer than a few microseconds is worked out elsewhere
//! ([`super::workers`]), so that `/livez` answers whatever else goes on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::app::App;
use super::connections::{Connection, Entered, served_by};
use super::counters::count;
use super::tls::Tls;
use super::told::Told;
use super::watched::Watched;
use crate::limits::{
    HTTP_HEAD_BYTES_MAX, HTTP_HEAD_TIMEOUT, HTTP_HEADERS_MAX, HTTP_TLS_LOOK_EVERY, HTTP_TLS_TIMEOUT,
};

/// Who is at the other end of a connection; in the extensions of each request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Wait after an accept that failed: when file descriptors are used up, trying at once changes nothing.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long answers under way may go on after a stop.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Until `stop`; answers under way are finished then, within [`STOP_GRACE`].
pub(super) async fn run(listener: TcpListener, router: Router, app: Arc<App>, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    let watching = app.tls.clone().map(|tls| tokio::spawn(watch(tls)));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = tasks.join_next(), if !tasks.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                count(&app.counters.accepted);
                let (entered, evicted) = app.connections.enter(peer.ip(), app.clock.mono());
                if evicted {
                    count(&app.counters.evicted);
                }
                let connection = Arc::clone(entered.connection());
                let serving = serve(stream, peer, router.clone(), Arc::clone(&app), entered, stop.clone());
                served_by(&connection, tasks.spawn(serving));
            }
            Err(error) => {
                tracing::debug!(%error, "an HTTP connection was not accepted");
                if !of_the_peer(&error) {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    if let Some(watching) = watching {
        watching.abort();
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_GRACE, all).await.is_err() {
        tracing::debug!("HTTP answers under way were cut off");
    }
}

/// Takes over certificates that change.
async fn watch(tls: Arc<Tls>) {
    loop {
        tokio::time::sleep(HTTP_TLS_LOOK_EVERY).await;
        let tls = Arc::clone(&tls);
        // What is wrong is logged there.
        let _ = tokio::task::spawn_blocking(move || tls.look()).await;
    }
}

/// The peer went away before it was accepted; the next one may be there already.
fn of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    app: Arc<App>,
    entered: Entered,
    stop: CancellationToken,
) {
    let connection = Arc::clone(entered.connection());
    // Answers are written whole; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let watched = Watched::new(stream, Arc::clone(&connection), Arc::clone(&app.clock));
    let Some(tls) = app.tls.as_ref().map(|tls| tls.acceptor()) else {
        return drive(watched, peer, router, app, connection, stop).await;
    };
    match tokio::time::timeout(HTTP_TLS_TIMEOUT, tls.accept(watched)).await {
        Ok(Ok(stream)) => drive(stream, peer, router, app, connection, stop).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
    }
}

/// Serves requests on a connection that is set up.
async fn drive(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    peer: SocketAddr,
    router: Router,
    app: Arc<App>,
    connection: Arc<Connection>,
    stop: CancellationToken,
) {
    let io = TokioIo::new(Told::new(stream, Arc::clone(&app)));
    let clock = Arc::clone(&app.clock);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        connection.request_begins(clock.mono());
        request.extensions_mut().insert::<Arc<Connection>>(Arc::clone(&connection));
        request.extensions_mut().insert(Peer(peer));
        let mut router = router.clone();
        async move { router.call(request).await }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEAD_TIMEOUT)
        .max_buf_size(HTTP_HEAD_BYTES_MAX)
        .max_headers(HTTP_HEADERS_MAX);
    let mut serving = std::pin::pin!(http.serve_connection(io, service));
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "an HTTP connection ended early");
    }
}
