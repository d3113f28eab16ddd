//! Signing in, and finding out who sends a request.
//!
//! Three ways to be somebody: a browser session (cookie), an API token (`Authorization: Bearer`), an identity provider
//! that ends in a session. All three end in a user of the register, whose grants are read anew for each request and once
//! more for each change: who is disabled or loses a role is out at once. A token never does more than its owner may now.
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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// Somebody waits for the end of the minute to write how many were left out.
    counting: bool,
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

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// It is written, with how many before it were not.
    Written { left_out: u64 },
    /// It is only counted. The first of a minute sees to it that the count is written when the minute is over.
    Counted { first: bool },
}

impl Refusals {
    fn note(&mut self, at: UnixMillis) -> Refusal {
        let minute = at.0.div_euclid(MINUTE_MS);
        if self.minute != minute {
            *self = Refusals { minute, written: 0, counting: false, left_out: self.left_out };
        }
        if self.written >= SIGN_IN_REFUSALS_PER_MINUTE {
            self.left_out += 1;
            return Refusal::Counted { first: !std::mem::replace(&mut self.counting, true) };
        }
        self.written += 1;
        Refusal::Written { left_out: std::mem::take(&mut self.left_out) }
    }
}

const MINUTE_MS: i64 = 60_000;
/// Tries to get a worker for one event.
const RECORD_TRIES: usize = 3;

/// Writes an event to the audit log. What the disk does not take is logged, and does not undo what happened: somebody must
/// be able to sign in and see why. An error: no worker was to be had for it.
pub(super) async fn record(
    app: &Arc<App>,
    actor: Actor,
    code: EventCode,
    about: Option<About>,
    detail: String,
) -> Result<(), Problem> {
    let command = Command::Record(Event { code, about, detail });
    let mut tried = 0;
    loop {
        let (actor, command) = (actor.clone(), command.clone());
        let written = work(app, Places::Api, move |app| app.backend.apply(&[command], actor, &|_| Ok(())));
        tried += 1;
        match written.await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => {
                tracing::error!(?error, event = code.as_str(), "an event is not in the audit log");
                return Ok(());
            }
            Err(_) if tried < RECORD_TRIES => {}
            Err(problem) => {
                tracing::error!(
                    event = code.as_str(),
                    "an event is not in the audit log: no worker was free"
                );
                return Err(problem);
            }
        }
    }
}

/// Writes a refused sign-in to the audit log, within what a minute may have.
pub(super) async fn record_refusal(app: &Arc<App>, mut actor: Actor, name: &str, why: &str) {
    let at = app.clock.unix();
    let noted = app.sign_in.refusals().note(at);
    let left_out = match noted {
        Refusal::Written { left_out } => left_out,
        Refusal::Counted { first } => {
            if first {
                tokio::spawn(record_left_out(Arc::clone(app), at));
            }
            return;
        }
    };
    actor.name = name.chars().take(crate::limits::NAME_CHARS_MAX).filter(|c| !c.is_control()).collect();
    let more =
        if left_out > 0 { format!("; {left_out} more before were not written") } else { String::new() };
    // The client is told no in any case.
    let _ = record(app, actor, EventCode::SignInRefused, None, format!("{why}{more}")).await;
}

/// Writes how many refusals were only counted, when the minute of `at` is over: also when nobody tries again.
async fn record_left_out(app: Arc<App>, at: UnixMillis) {
    let left = MINUTE_MS - at.0.rem_euclid(MINUTE_MS);
    tokio::time::sleep(Duration::from_millis(left.unsigned_abs())).await;
    let left_out = std::mem::take(&mut app.sign_in.refusals().left_out);
    if left_out > 0 {
        let detail = format!("{left_out} more were refused, too many to write each");
        let _ = record(&app, Actor::system("sign-in"), EventCode::SignInRefused, None, detail).await;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_counted_and_not_written() {
        let mut refusals = Refusals::default();
        let at = |seconds: i64| UnixMillis(1_795_532_400_000 + seconds * 1_000);
        for _ in 0..SIGN_IN_REFUSALS_PER_MINUTE {
            assert_eq!(refusals.note(at(0)), Refusal::Written { left_out: 0 });
        }
        assert_eq!(refusals.note(at(1)), Refusal::Counted { first: true });
        for _ in 0..1_000 {
            assert_eq!(refusals.note(at(59)), Refusal::Counted { first: false });
        }
        assert_eq!(refusals.note(at(60)), Refusal::Written { left_out: 1_001 });
        assert_eq!(refusals.note(at(60)), Refusal::Written { left_out: 0 });
        // A clock that was set back begins another minute.
        assert_eq!(refusals.note(at(0)), Refusal::Written { left_out: 0 });
    }
}
