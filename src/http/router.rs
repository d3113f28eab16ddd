//! From the table of routes to answers: each request is counted, its caller found, let in or refused by what the route
//! needs, and only then answered.
//!
//! What a route needs is looked at before the body is read. It is the coarse half (has the caller this permission
//! anywhere?); which site or sensor it is about is the handler's to check ([`Caller::check`]).

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::handler::Handler;
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use tokio::sync::OwnedSemaphorePermit;

use super::app::App;
use super::body::{BodyMax, declared};
use super::caller::{Caller, Who};
use super::idempotency;
use super::problem::Problem;
use super::routes::table;
use super::sign_in::asked::Asked;
use super::sign_in::{self, within_rate};
use super::workers::{Places, work};
use crate::fleet::Permission;
use crate::limits::HTTP_BODY_BYTES_MAX;

/// Who may use an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody, as often as they like.
    Probe,
    /// Anybody.
    Public,
    /// Who is signed in, whatever they may do.
    SignedIn,
    /// Who may view everything, and whom `http.metrics_without_sign_in` lets in.
    Metrics,
    /// Who has this permission, at least somewhere.
    Needs(Permission),
    /// Who has this permission over everything: what is told can't be told of a part.
    NeedsAll(Permission),
}

/// One method of a route.
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) access: Access,
    /// Largest body that it takes; zero when it takes none.
    pub(super) body_max: usize,
    /// Its answer holds something that is shown this once.
    secret: bool,
    answer: MethodRouter<Arc<App>>,
}

/// One path.
pub(super) struct Route {
    pub(super) path: &'static str,
    /// One of [`crate::export::table::ROUTES`]; what belongs together may be counted together.
    pub(super) name: &'static str,
    pub(super) operations: Vec<Operation>,
}

/// A row of the table.
pub(super) fn route<const N: usize>(
    path: &'static str,
    name: &'static str,
    operations: [Operation; N],
) -> Route {
    Route { path, name, operations: operations.into() }
}

/// Reads; HEAD is answered by it too.
pub(super) fn get<T: 'static>(access: Access, handler: impl Handler<T, Arc<App>>) -> Operation {
    let answer = axum::routing::get(handler);
    Operation { method: Method::GET, access, body_max: 0, secret: false, answer }
}

macro_rules! writing {
    ($($(#[$meta:meta])* $name:ident, $method:ident;)+) => {$(
        $(#[$meta])*
        pub(super) fn $name<T: 'static>(access: Access, handler: impl Handler<T, Arc<App>>) -> Operation {
            let answer = on(MethodFilter::$method, handler);
            Operation { method: Method::$method, access, body_max: HTTP_BODY_BYTES_MAX, secret: false, answer }
        }
    )+};
}

writing! {
    /// Creates something, or starts something. Takes an `Idempotency-Key`.
    post, POST;
    /// Sets something whole.
    put, PUT;
    /// Changes the fields that are given.
    patch, PATCH;
    /// Removes something.
    delete, DELETE;
}

impl Operation {
    /// Takes a body of many items.
    pub(super) fn large(mut self, body_max: usize) -> Operation {
        self.body_max = body_max;
        self
    }

    /// Its answer holds something that is shown this once: it is not kept for who asks again.
    pub(super) fn secret(mut self) -> Operation {
        self.secret = true;
        self
    }
}

/// What is known of a path without building its routes anew.
struct Known {
    name: &'static str,
    /// For the `Allow` header.
    methods: String,
}

static KNOWN: LazyLock<HashMap<&'static str, Known>> = LazyLock::new(|| {
    let known = |route: Route| {
        let mut methods: Vec<&str> =
            route.operations.iter().map(|operation| operation.method.as_str()).collect();
        if let Some(place) = methods.iter().position(|method| *method == "GET") {
            methods.insert(place + 1, "HEAD");
        }
        (route.path, Known { name: route.name, methods: methods.join(", ") })
    };
    table().into_iter().map(known).collect()
});

/// All resources.
pub(super) fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for Route { path, operations, .. } in table() {
        let mut methods = MethodRouter::new();
        for Operation { access, body_max, secret, answer, .. } in operations {
            let gate = Gate { app: Arc::clone(&app), access, body_max, secret };
            let answer = answer
                .route_layer(DefaultBodyLimit::max(body_max))
                .route_layer(middleware::from_fn_with_state(gate, through));
            methods = methods.merge(answer);
        }
        router = router.route(path, methods);
    }
    router
        .method_not_allowed_fallback(not_allowed)
        .fallback(async |uri: Uri| Problem::no_such_path(uri.path()))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), around))
        .with_state(app)
}

async fn not_allowed(path: Option<MatchedPath>, method: Method) -> Problem {
    let known = path.as_ref().and_then(|path| KNOWN.get(path.as_str()));
    Problem::method_not_allowed(method.as_str(), known.map_or("GET, HEAD", |known| &known.methods))
}

/// Counts each answer, and says on each what holds for all.
async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let name = path.and_then(|path| KNOWN.get(path.as_str())).map_or("other", |known| known.name);
    let mut response = next.run(request).await.into_response();
    app.counters.answered(name, response.status().as_u16());
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if app.tls.is_some() {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    response
}

/// Stands before one operation.
#[derive(Clone)]
struct Gate {
    app: Arc<App>,
    access: Access,
    body_max: usize,
    secret: bool,
}

async fn through(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let caller = match gate.admit(Asked::of(&request, &gate.app.sign_in.config)).await {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    // Held until the answer is there.
    let _place = match gate.place_for_body(&request) {
        Ok(place) => place,
        Err(problem) => return problem.into_response(),
    };
    if let Who::Token { id, touch: true, .. } = caller.who {
        sign_in::touch(&gate.app, &caller, id);
    }
    request.extensions_mut().insert(BodyMax(gate.body_max));
    let asking = idempotency::Asking::of(&caller, gate.secret);
    request.extensions_mut().insert(caller);
    // Answers to strangers may carry a session; none of them is kept.
    if request.method() == Method::POST && gate.access != Access::Public {
        idempotency::once(&gate.app, asking, request, next).await
    } else {
        next.run(request).await
    }
}

impl Gate {
    /// Finds out who asks, and lets in who may. The register is there at once but for the moments of a change.
    async fn admit(&self, asked: Asked) -> Result<Caller, Problem> {
        let (app, access) = (&self.app, self.access);
        let now = app.clock.now();
        let at_once = app.backend.try_register().map(|register| asked.admit(app, &register, access, now));
        let found = match at_once {
            Some(found) => found,
            None => {
                let asked = asked.clone();
                let job = move |app: &App| asked.admit(app, &app.backend.register(), access, now);
                work(app, Places::Reserved, job).await?
            }
        };
        if access != Access::Probe {
            let key = found.as_ref().map_or_else(|_| asked.source(), |caller| Arc::clone(&caller.key));
            within_rate(app, &key, now.mono)?;
        }
        found
    }

    /// A request with a large body needs one of a few places, so that memory for bodies has a bound.
    fn place_for_body(&self, request: &Request) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        let small = declared(request.headers()).is_some_and(|length| length <= HTTP_BODY_BYTES_MAX as u64);
        if self.body_max <= HTTP_BODY_BYTES_MAX || small {
            return Ok(None);
        }
        Arc::clone(&self.app.large_bodies).try_acquire_owned().map(Some).map_err(|_| Problem::busy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::table::ROUTES;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_has_a_name_that_is_counted() {
        let mut names = BTreeSet::new();
        for route in table() {
            assert!(ROUTES.contains(&route.name), "{}", route.name);
            names.insert(route.name);
            assert!(!route.operations.is_empty(), "{}", route.path);
        }
        names.insert("other");
        assert_eq!(names, ROUTES.iter().copied().collect::<BTreeSet<_>>());
    }
}
