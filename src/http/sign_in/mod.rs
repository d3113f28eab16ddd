//! Signing in, and finding out who sends a request.
//!
//! Three ways to be somebody: a browser session (cookie), an API token (`Authorization: Bearer`), an identity provider
//! that ends in a session. All three end in a user of the register, whose grants are read anew for each request: who is
//! disabled or loses a role is out at once. A token never does more than its owner may now.
//!
//! What is kept of secrets are hashes. What strangers can fill (failures, rates, sessions) has a bound.

pub(super) mod asked;
mod forwarded;
pub(super) mod oidc;
pub(super) mod passwords;
pub(super) mod rates;
pub(super) mod secrets;
pub(super) mod sessions;
pub(super) mod setup;
pub(super) mod slowing;
pub(super) mod standing;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::MetricsAccess;
use super::app::App;
use super::caller::Caller;
use super::problem::Problem;
use super::workers::{Places, work};
use crate::fleet::{About, Actor, Command, Event, EventCode};
use crate::limits::{PASSWORD_HASHES_MAX, SIGN_IN_REFUSALS_PER_MINUTE};
use crate::time::{MonoNanos, UnixMillis};
use crate::wire::id::TokenId;

use rates::Rates;
use sessions::Sessions;
use setup::Setup;
use slowing::Slowing;

/// What is configured of it.
#[derive(Clone, Debug)]
pub struct SignInConfig {
    /// A session ends when it is not used for so long.
    pub session_idle: Duration,
    /// A session ends after so long in any case.
    pub session_longest: Duration,
    /// Who may read metrics without signing in.
    pub metrics: MetricsAccess,
    /// Requests that one caller may send in a second.
    pub requests_per_second: u32,
    /// Browsers reach the server by TLS, its own or a proxy's: cookies say so.
    pub secure: bool,
    /// A proxy stands before the server: who comes from this machine may be anybody.
    pub behind_proxy: bool,
    /// Proxies that are believed when they say where a request comes from.
    pub trusted_proxies: Vec<ipnet::IpNet>,
}

/// Everything that signing in keeps.
pub(super) struct SignIn {
    pub(super) config: SignInConfig,
    pub(super) sessions: Sessions,
    pub(super) slowing: Slowing,
    pub(super) rates: Rates,
    pub(super) setup: Setup,
    /// Places for password hashes.
    pub(super) hashing: Arc<Semaphore>,
    refusals: Mutex<Refusals>,
    /// Tokens whose use is being written down.
    touching: Mutex<HashSet<TokenId>>,
}

/// Refused sign-ins of the present minute.
#[derive(Default)]
struct Refusals {
    minute: i64,
    written: u32,
    left_out: u64,
}

impl SignIn {
    pub(super) fn new(config: SignInConfig) -> SignIn {
        SignIn {
            sessions: Sessions::new(config.session_idle, config.session_longest),
            slowing: Slowing::default(),
            rates: Rates::new(config.requests_per_second),
            config,
            setup: Setup::default(),
            hashing: Arc::new(Semaphore::new(PASSWORD_HASHES_MAX)),
            refusals: Mutex::default(),
            touching: Mutex::default(),
        }
    }

    /// Whether this refusal is written to the audit log, and how many before it were not.
    fn refusal(&self, at: UnixMillis) -> Option<u64> {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = at.0.div_euclid(60_000);
        if refusals.minute != minute {
            *refusals = Refusals { minute, written: 0, left_out: refusals.left_out };
        }
        if refusals.written >= SIGN_IN_REFUSALS_PER_MINUTE {
            refusals.left_out += 1;
            return None;
        }
        refusals.written += 1;
        Some(std::mem::take(&mut refusals.left_out))
    }
}

/// Writes an event to the audit log. What can't be written is logged: it does not undo what happened.
pub(super) async fn record(
    app: &Arc<App>,
    actor: Actor,
    code: EventCode,
    about: Option<About>,
    detail: String,
) {
    let command = Command::Record(Event { code, about, detail });
    let written = work(app, Places::Api, move |app| app.backend.apply(&[command], actor, &|_| Ok(())));
    match written.await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::error!(?error, event = code.as_str(), "an event is not in the audit log"),
        Err(_) => {
            tracing::error!(event = code.as_str(), "an event is not in the audit log: no worker was free")
        }
    }
}

/// Writes a refused sign-in to the audit log, within what a minute may have.
pub(super) async fn record_refusal(app: &Arc<App>, mut actor: Actor, name: &str, why: &str) {
    let Some(left_out) = app.sign_in.refusal(app.clock.unix()) else { return };
    actor.name = name.chars().take(crate::limits::NAME_CHARS_MAX).filter(|c| !c.is_control()).collect();
    let more =
        if left_out > 0 { format!("; {left_out} more before were not written") } else { String::new() };
    record(app, actor, EventCode::SignInRefused, None, format!("{why}{more}")).await;
}

/// Notes that a token was used, beside the request that used it.
pub(super) fn touch(app: &Arc<App>, caller: &Caller, id: TokenId) {
    let touching = || app.sign_in.touching.lock().unwrap_or_else(PoisonError::into_inner);
    if !touching().insert(id) {
        return;
    }
    let (app, actor) = (Arc::clone(app), caller.actor.clone());
    tokio::spawn(async move {
        let command = Command::TouchToken { id, at: app.clock.unix() };
        let written = work(&app, Places::Api, move |app| app.backend.apply(&[command], actor, &|_| Ok(())));
        if !matches!(written.await, Ok(Ok(_))) {
            tracing::debug!(%id, "the use of a token is not written down; the next one will be");
        }
        app.sign_in.touching.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    });
}

/// Too many tries.
pub(super) fn slowed(wait: Duration) -> Problem {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let detail = format!("too many failed sign-ins; try again in {seconds} s");
    Problem::new(axum::http::StatusCode::TOO_MANY_REQUESTS, "too-many-sign-ins", detail).retry_after(seconds)
}

/// Lets a request pass within the rate of a caller.
pub(super) fn within_rate(app: &App, caller: &str, now: MonoNanos) -> Result<(), Problem> {
    app.sign_in.rates.take(caller, now).map_err(|wait| {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let most = app.sign_in.config.requests_per_second;
        let detail = format!("more than {most} requests a second; go on in {seconds} s");
        Problem::new(axum::http::StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail)
            .retry_after(seconds)
    })
}
