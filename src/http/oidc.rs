//! `/api/v1/sign-in/oidc`: to the identity provider, and back.
//!
//! The user is found by issuer and subject, never by name or e-mail, which others may get. Who comes for the first time
//! is added; what they may do follows their groups at every sign-in. Back from the provider a page of ours is shown that
//! goes on by itself: the session's cookie is not sent along a chain of redirects that began at another site.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::app::App;
use super::caller::Caller;
use super::change::change;
use super::docs::{escaped, policy};
use super::params::Params;
use super::problem::Problem;
use super::session::open_session;
use super::sign_in::asked::cookie;
use super::sign_in::oidc::{Identity, Oidc, OidcError, is_own_path};
use super::sign_in::{record_refusal, slowed};
use super::users::after;
use super::workers::{Places, work};
use crate::fleet::{Command, RefusalCode, User, UserEdit};
use crate::wire::id::UserId;

/// Where who signed in goes when they did not say.
const START: &str = "/api/v1/docs";

fn cookie_name(app: &App) -> &'static str {
    if app.sign_in.config.secure { "__Host-fleetpulse-oidc" } else { "fleetpulse-oidc" }
}

/// Sent along when the provider sends the browser back, which is a navigation from another site: so not `Strict`.
fn flow_cookie(app: &App, value: &str, age: u64) -> HeaderValue {
    let flag = if app.sign_in.config.secure { "; Secure" } else { "" };
    let name = cookie_name(app);
    let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}{flag}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

fn provider(app: &App) -> Result<Arc<Oidc>, Problem> {
    app.oidc.clone().ok_or_else(|| {
        let detail =
            "no identity provider is configured (`http.oidc_issuer`); sign in with name and password";
        Problem::new(StatusCode::NOT_FOUND, "no-identity-provider", detail)
    })
}

fn problem(error: &OidcError) -> Problem {
    match error {
        OidcError::Provider(_) => {
            tracing::warn!(%error, "a sign-in at the identity provider failed");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "identity-provider", error.to_string())
                .retry_after(10)
        }
        OidcError::Refused(_) => Problem::new(StatusCode::UNAUTHORIZED, "oidc-refused", error.to_string()),
    }
}

#[utoipa::path(get, path = "/api/v1/sign-in/oidc", operation_id = "begin-oidc", tag = "Sign-in",
    summary = "Sign in at the identity provider",
    description = "For browsers: sends them to the provider, which sends them back.",
    params(("to" = Option<String>, Query, description = "Own path to go to afterwards; /api/v1/docs when not given")),
    responses((status = 303, description = "To the provider", headers(
        ("Location" = String, description = "The provider"), ("Set-Cookie" = String, description = "The sign-in under way"))),
        (status = 404, description = "No identity provider is configured", body = super::problem::Document,
            content_type = "application/problem+json")))]
pub(super) async fn begin(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let to = params.take("to")?.unwrap_or_else(|| START.to_owned());
    params.finish(&["to"])?;
    if !is_own_path(&to) {
        return Err(Problem::bad_value("to", &to, "a path of this server, such as /api/v1/docs"));
    }
    let provider = provider(&app)?;
    let begun = work(&app, Places::Provider, move |app| provider.begin(&to, app.clock.mono())).await?;
    let (url, sealed) = begun.map_err(|error| problem(&error))?;
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, url)]).into_response();
    let life = crate::limits::OIDC_FLOW_LIFE.as_secs();
    response.headers_mut().append(header::SET_COOKIE, flow_cookie(&app, &sealed, life));
    Ok(response)
}

#[utoipa::path(get, path = "/api/v1/sign-in/oidc/callback", operation_id = "finish-oidc", tag = "Sign-in",
    summary = "Where the identity provider sends the browser back to",
    params(
        ("code" = Option<String>, Query, description = "What the provider gives"),
        ("state" = Option<String>, Query, description = "What the sign-in began with"),
        ("error" = Option<String>, Query, description = "Why the provider refuses")),
    responses(
        (status = 200, description = "Signed in; a page that goes on", body = String, content_type = "text/html",
            headers(("Set-Cookie" = String, description = "The session"))),
        (status = 401, description = "Not signed in, and why", body = super::problem::Document,
            content_type = "application/problem+json"),
        (status = 403, description = "No group of theirs may do anything here, or the user is disabled",
            body = super::problem::Document, content_type = "application/problem+json"),
        (status = 404, description = "No identity provider is configured", body = super::problem::Document,
            content_type = "application/problem+json"),
        (status = 409, description = "The user can't be added or changed", body = super::problem::Document,
            content_type = "application/problem+json"),
        (status = 422, description = "The user can't be added or changed", body = super::problem::Document,
            content_type = "application/problem+json")))]
pub(super) async fn callback(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    // Providers add parameters of their own; those are passed over.
    let mut params = Params::parse(request.uri().query())?;
    let (code, state, error) = (params.take("code")?, params.take("state")?, params.take("error")?);
    let provider = provider(&app)?;
    let sealed = cookie(request.headers(), cookie_name(&app)).unwrap_or_default();
    let this = app.sign_in.slowing.begin_nameless(caller.address, app.clock.mono()).map_err(slowed)?;
    let found = match (code, state, error) {
        (Some(code), Some(state), None) => {
            let job = move |app: &App| provider.finish(&sealed, &state, &code, app.clock.mono());
            let worked = work(&app, Places::Provider, job).await;
            if worked.is_err() {
                app.sign_in.slowing.undecided(this);
            }
            worked?
        }
        (_, _, Some(error)) => {
            Err(OidcError::Refused(format!("the provider says {}", super::problem::shown(&error))))
        }
        _ => Err(OidcError::Refused("`code` and `state` are missing; begin again".to_owned())),
    };
    let (identity, to) = match found {
        Ok(found) => found,
        Err(error) => {
            if matches!(error, OidcError::Provider(_)) {
                app.sign_in.slowing.undecided(this);
            }
            record_refusal(&app, caller.actor.clone(), "", &error.to_string()).await;
            return Err(problem(&error));
        }
    };
    app.sign_in.slowing.succeeded(this);
    let user = user_of(&app, &caller, identity).await?;
    let (_, session) = open_session(&app, &caller, &user, "identity provider").await?;
    let mut response = go_on(&to);
    response.headers_mut().append(header::SET_COOKIE, session);
    response.headers_mut().append(header::SET_COOKIE, flow_cookie(&app, "", 0));
    Ok(response)
}

/// The user of an identity as their groups have it now; added when they come for the first time.
async fn user_of(app: &Arc<App>, caller: &Caller, identity: Identity) -> Result<User, Problem> {
    let who = identity.names.first().cloned().unwrap_or_default();
    let wanted = (identity.issuer.clone(), identity.subject.clone());
    let names = identity.names.clone();
    let found = work(app, Places::Api, move |app| {
        let register = app.backend.register();
        let found = register.user_external(&wanted.0, &wanted.1).cloned();
        // The first name that nobody has, of those that can be one.
        let free = names.into_iter().find(|name| {
            let name = name.to_lowercase();
            crate::fleet::check_name(&name).is_ok() && register.user_named(&name).is_none()
        });
        (found, free)
    });
    let (found, free) = found.await?;
    // The audit log knows somebody by one name.
    let who = found.as_ref().map_or(who, |user| user.name.to_string());
    let refuse = async |why: &str, code, detail: &str| {
        record_refusal(app, caller.actor.clone(), &who, why).await;
        Problem::new(StatusCode::FORBIDDEN, code, detail)
    };
    if found.as_ref().is_some_and(|user| user.disabled) {
        return Err(refuse("the user is disabled", "user-disabled", "the user may not sign in").await);
    }
    let mut actor = caller.actor.clone();
    actor.name = format!("identity provider: {who}").chars().filter(|c| !c.is_control()).take(128).collect();
    let by = Caller { actor, ..caller.clone() };
    if identity.grants.is_empty() {
        if let Some(user) = found.filter(|user| !user.grants.is_empty()) {
            take_grants(app, &by, user.id).await;
        }
        let detail = "none of your groups may do anything here; ask an administrator (`http.oidc_grants`)";
        return Err(refuse("no group with a role", "no-grants", detail).await);
    }
    let id = found.as_ref().map_or_else(UserId::fresh, |user| user.id);
    let command = match &found {
        Some(user) if user.grants == identity.grants => return Ok(user.clone()),
        Some(_) => {
            let edit = UserEdit { grants: Some(identity.grants), ..UserEdit::default() };
            Command::EditUser { id, edit }
        }
        None => {
            let external = Some((identity.issuer.as_str().into(), identity.subject.as_str().into()));
            let name = free.unwrap_or_else(|| identity.subject.clone());
            let full_name = identity.full_name.as_str();
            let full_name = if crate::fleet::check_name(full_name).is_ok() { full_name } else { "" };
            Command::AddUser {
                user: User {
                    id,
                    name: name.into(),
                    full_name: full_name.into(),
                    password: None,
                    external,
                    grants: identity.grants,
                    disabled: false,
                },
            }
        }
    };
    let batch = change(app, &by, vec![command], &[RefusalCode::UnknownUser], |_, _| Ok(())).await?;
    after(&batch, id).or(found).ok_or_else(|| Problem::internal("the user is not there"))
}

/// Who lost all their groups loses what these gave: their tokens and other sessions may nothing from now on.
async fn take_grants(app: &Arc<App>, by: &Caller, id: UserId) {
    let edit = UserEdit { grants: Some(Vec::new()), ..UserEdit::default() };
    let taken = change(app, by, vec![Command::EditUser { id, edit }], &[], |_, _| Ok(())).await;
    if let Err(problem) = taken {
        // The last administrator of everything, for one, stays one. They are not let in all the same.
        tracing::error!(user = %id, why = problem.detail(), "who lost all groups keeps their grants");
    }
}

fn go_on(to: &str) -> Response {
    let to = escaped(to);
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Signed in</title>\
         <meta http-equiv=\"refresh\" content=\"0;url={to}\"></head>\
         <body><p>Signed in. <a href=\"{to}\">Go on</a></p></body></html>"
    );
    let mut response = ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response();
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy("", "'none'")) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
