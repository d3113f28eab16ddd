//! `/api/v1/session`: who am I, sign in, sign out; `/api/v1/session/password`: one's own password.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::app::App;
use super::body::Given;
use super::caller::{Caller, Who};
use super::change::change;
use super::grants::{self, GrantDocument};
use super::problem::Problem;
use super::sign_in::asked::{cookie_name, not_signed_in};
use super::sign_in::sessions::{Fingerprint, Session};
use super::sign_in::{passwords, record, record_refusal, slowed};
use super::times::rfc3339;
use super::workers::{Places, work};
use crate::fleet::{
    About, Actor, ActorKind, Command, EventCode, Permission, RefusalCode, Register, User, UserEdit,
};
use crate::wire::id::UserId;

/// Who asks, and what they may do.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub(super) struct SessionDocument {
    /// `user` in a browser, or a program with a `token`.
    kind: &'static str,
    /// The user, or the token's owner.
    user: SessionUser,
    /// What they may do, and where.
    grants: Vec<GrantDocument>,
    /// What they may do somewhere: view, edit-fleet, read-audit, manage-access, manage-server.
    permissions: Vec<&'static str>,
    /// For the header `X-Fleetpulse-CSRF` of requests that write; of a browser session only.
    csrf: Option<String>,
    /// When it ends if nobody uses it; of a token: when it is void.
    #[schema(format = DateTime)]
    ends: String,
}

#[derive(Serialize, ToSchema)]
struct SessionUser {
    #[schema(format = Uuid)]
    id: String,
    name: String,
    full_name: String,
}

/// Name and password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    /// The user's name; upper and lower case are the same.
    name: String,
    #[schema(format = Password)]
    password: String,
}

/// The present password and the new one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordChange {
    #[schema(format = Password)]
    current: String,
    /// At least 12 characters, without the name.
    #[schema(format = Password)]
    new: String,
}

#[utoipa::path(get, path = "/api/v1/session", operation_id = "get-session", tag = "Sign-in",
    summary = "Who am I, and what may I do",
    responses((status = 200, description = "The caller", body = SessionDocument)))]
pub(super) async fn session(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    let id = caller.user().ok_or_else(|| not_signed_in("sign in first"))?;
    let user = work(&app, Places::Api, move |app| app.backend.register().user(id).cloned()).await?;
    let user = user.ok_or_else(|| not_signed_in("the user was deleted"))?;
    Ok(Json(document(&app, &user, &caller.grants, &caller.who)).into_response())
}

fn document(app: &App, user: &User, grants: &[crate::fleet::Grant], who: &Who) -> SessionDocument {
    let now = app.clock.now();
    let has = |permission: &Permission| grants.iter().any(|grant| grant.role.may(*permission));
    let (kind, csrf, ends) = match who {
        Who::User { session, .. } => {
            ("user", Some(session.csrf.clone()), now.unix.plus(app.sign_in.sessions.left(session, now.mono)))
        }
        Who::Token { expires, .. } => ("token", None, *expires),
        Who::Nobody => ("user", None, now.unix),
    };
    SessionDocument {
        kind,
        user: SessionUser {
            id: user.id.to_string(),
            name: user.name.to_string(),
            full_name: user.full_name.to_string(),
        },
        grants: grants::documents(grants),
        permissions: Permission::ALL.iter().filter(|p| has(p)).map(|p| p.as_str()).collect(),
        csrf,
        ends: rfc3339(ends),
    }
}

#[utoipa::path(post, path = "/api/v1/session", operation_id = "sign-in", tag = "Sign-in",
    summary = "Sign in with name and password",
    description = "The answer sets the cookie of the session; a session that the browser had before ends.",
    request_body = SignIn,
    responses(
        (status = 201, description = "Signed in", body = SessionDocument,
            headers(("Set-Cookie" = String, description = "The session"))),
        (status = 401, description = "Name or password is wrong", body = super::problem::Document,
            content_type = "application/problem+json")))]
pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    caller: Caller,
    Given(given): Given<SignIn>,
) -> Result<Response, Problem> {
    let user = by_password(&app, &caller, &given.name, given.password).await?;
    begin_session(&app, &caller, &user).await
}

/// The user with this name and password; failures are slowed and written down.
pub(super) async fn by_password(
    app: &Arc<App>,
    caller: &Caller,
    name: &str,
    password: String,
) -> Result<User, Problem> {
    let this = app.sign_in.slowing.begin(name, caller.address, app.clock.mono()).map_err(slowed)?;
    let (user, right) = match look(app, name, password).await {
        Ok(found) => found,
        Err(problem) => {
            app.sign_in.slowing.undecided(this);
            return Err(problem);
        }
    };
    match user {
        Some(user) if right && !user.disabled => {
            app.sign_in.slowing.succeeded(this);
            Ok(user)
        }
        user => {
            // Which of these it was is for the audit log, not for the stranger.
            let why = match &user {
                None => "no such user",
                Some(user) if user.disabled => "the user is disabled",
                Some(user) if user.password.is_none() => "the user has no password",
                Some(_) => "wrong password",
            };
            record_refusal(app, caller.actor.clone(), name, why).await;
            let detail = "name or password is wrong, or the user may not sign in";
            Err(not_signed_in(detail).field("password", "the password of this name"))
        }
    }
}

/// The user of this name, and whether the password is theirs.
async fn look(app: &Arc<App>, name: &str, password: String) -> Result<(Option<User>, bool), Problem> {
    let name = name.to_owned();
    let user = work(app, Places::Api, move |app| app.backend.register().user_named(&name).cloned()).await?;
    let hash = user.as_ref().and_then(|user| user.password.clone());
    let right = passwords::is_right(app, password, hash).await?;
    Ok((user, right))
}

/// A new session for a user who proved to be one, with its cookie. The one before ends: its id is not carried on.
pub(super) async fn begin_session(app: &Arc<App>, caller: &Caller, user: &User) -> Result<Response, Problem> {
    let (document, cookie) = open_session(app, caller, user, "password").await?;
    let mut response = (StatusCode::CREATED, Json(document)).into_response();
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// A new session and its cookie.
pub(super) async fn open_session(
    app: &Arc<App>,
    caller: &Caller,
    user: &User,
    how: &str,
) -> Result<(SessionDocument, HeaderValue), Problem> {
    // Before there is a session: who is let in is in the audit log.
    let actor = Actor { kind: ActorKind::User, name: user.name.to_string(), ..caller.actor.clone() };
    record(app, actor, EventCode::SignIn, Some(About::User(user.id)), format!("by {how}")).await?;
    if let Some(before) = caller.cookie {
        app.sign_in.sessions.close(before);
    }
    let random = |_| Problem::internal("the system gives no random numbers");
    // Of the password that was proven: when it was changed since, this session never begins.
    let password = Fingerprint::of(user.password.as_deref());
    let (secret, session) = app.sign_in.sessions.open(user.id, password, app.clock.mono()).map_err(random)?;
    let who = Who::User { id: user.id, session };
    Ok((document(app, user, &user.grants, &who), set_cookie(app, &secret)))
}

fn set_cookie(app: &App, secret: &str) -> HeaderValue {
    cookie(app, secret, "")
}

/// The session's cookie; `more` ends in what takes it away.
fn cookie(app: &App, secret: &str, more: &str) -> HeaderValue {
    let secure = app.sign_in.config.secure;
    let flag = if secure { "; Secure" } else { "" };
    let text = format!("{}={secret}; Path=/; HttpOnly; SameSite=Strict{flag}{more}", cookie_name(secure));
    // Letters of base64 and our own words.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

#[utoipa::path(delete, path = "/api/v1/session", operation_id = "sign-out", tag = "Sign-in",
    summary = "Sign out",
    description = "Ends the browser session. A token is deleted where tokens are.",
    responses((status = 204, description = "The session has ended"),
        (status = 409, description = "The caller has a token, and no session", body = super::problem::Document,
            content_type = "application/problem+json")))]
pub(super) async fn sign_out(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Problem> {
    let Who::User { id, session } = &caller.who else {
        let detail = "an API token has no session to end; `DELETE /api/v1/tokens/{id}` deletes a token";
        return Err(Problem::new(StatusCode::CONFLICT, "no-session", detail));
    };
    app.sign_in.sessions.close(session.key);
    // The session has ended, whatever becomes of the note.
    let _ =
        record(&app, caller.actor.clone(), EventCode::SignOut, Some(About::User(*id)), String::new()).await;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().append(header::SET_COOKIE, cookie(&app, "", "; Max-Age=0"));
    Ok(response)
}

#[utoipa::path(put, path = "/api/v1/session/password", operation_id = "change-password", tag = "Sign-in",
    summary = "Change one's own password",
    description = "All sessions of the user end but this one, which gets a new cookie and a new `csrf`. A token can't do this.",
    request_body = PasswordChange,
    responses((status = 200, description = "Changed", body = SessionDocument,
        headers(("Set-Cookie" = String, description = "The session"))),
        (status = 409, description = "The caller has a token, and no session", body = super::problem::Document,
            content_type = "application/problem+json")))]
pub(super) async fn change_password(
    State(app): State<Arc<App>>,
    caller: Caller,
    Given(given): Given<PasswordChange>,
) -> Result<Response, Problem> {
    let (id, _) = session_of(&caller)?;
    let user = work(&app, Places::Api, move |app| app.backend.register().user(id).cloned()).await?;
    let user = user.ok_or_else(|| not_signed_in("the user was deleted"))?;
    passwords::check_new("new", &given.new, &user.name)?;
    // The present password is guessed at as well as at the sign-in, from an open browser.
    let this = app.sign_in.slowing.begin(&user.name, caller.address, app.clock.mono()).map_err(slowed)?;
    let right = passwords::is_right(&app, given.current, user.password.clone()).await;
    if right.is_err() {
        app.sign_in.slowing.undecided(this);
    }
    if !right? {
        record_refusal(&app, caller.actor.clone(), &user.name, "wrong password at its change").await;
        let detail = "the present password is wrong";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "password-wrong", detail)
            .field("current", "your present password"));
    }
    app.sign_in.slowing.succeeded(this);
    let hash = passwords::hash(&app, given.new).await?;
    let password = Fingerprint::of(Some(&hash));
    let edit = UserEdit { password: Some(Some(hash)), ..UserEdit::default() };
    let unchanged = user.password.clone();
    let expect = move |register: &Register, _: &Caller| {
        // Changed by somebody else meanwhile: what was proven is no proof any more.
        let same = register.user(id).is_some_and(|user| user.password == unchanged);
        if same { Ok(()) } else { Err(not_signed_in("the password was changed meanwhile; sign in again")) }
    };
    let commands = vec![Command::EditUser { id, edit }];
    change(&app, &caller, commands, &[RefusalCode::UnknownUser], expect).await?;
    app.sign_in.sessions.close_of(id);
    let random = |_| Problem::internal("the system gives no random numbers");
    let (secret, session) = app.sign_in.sessions.open(id, password, app.clock.mono()).map_err(random)?;
    let document = document(&app, &user, &caller.grants, &Who::User { id, session });
    let mut response = Json(document).into_response();
    response.headers_mut().append(header::SET_COOKIE, set_cookie(&app, &secret));
    Ok(response)
}

fn session_of(caller: &Caller) -> Result<(UserId, &Arc<Session>), Problem> {
    match &caller.who {
        Who::User { id, session } => Ok((*id, session)),
        _ => {
            let detail = "this needs a browser session; an API token can't do it";
            Err(Problem::new(StatusCode::CONFLICT, "no-session", detail))
        }
    }
}
