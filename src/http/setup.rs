//! `POST /api/v1/setup` and the page `/setup`: the first administrator, with the link that the server printed.
//!
//! The page is one form that works without a script, so that a browser is enough to begin. The token stands in the
//! link, which is good once; nothing of it is logged or sent on (no referrer, no foreign content).

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::app::App;
use super::body::{Given, read};
use super::caller::Caller;
use super::change::change;
use super::docs::escaped;
use super::problem::Problem;
use super::sign_in::{passwords, record_refusal, slowed};
use super::users::UserDocument;
use crate::fleet::{Command, Grant, Register, Role, Scope, User};
use crate::wire::id::UserId;

/// Who becomes the first administrator.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FirstAdministrator {
    /// From the link that the server printed when it started.
    token: String,
    /// To sign in with.
    name: String,
    /// At least 12 characters, without the name.
    #[schema(format = Password)]
    password: String,
    /// What people call them.
    #[serde(default)]
    full_name: String,
}

#[utoipa::path(post, path = "/api/v1/setup", operation_id = "set-up", tag = "Sign-in",
    summary = "Make the first administrator",
    description = "With the one-time token of the link that the server prints while nobody is registered. The token is void \
        after its use, after an hour, and when the server starts again.",
    request_body = FirstAdministrator,
    responses(
        (status = 201, description = "Made; now sign in", body = UserDocument),
        (status = 401, description = "The token is wrong, used or too old", body = super::problem::Document,
            content_type = "application/problem+json"),
        (status = 409, description = "There are users already", body = super::problem::Document,
            content_type = "application/problem+json")))]
pub(super) async fn setup(
    State(app): State<Arc<App>>,
    caller: Caller,
    Given(given): Given<FirstAdministrator>,
) -> Result<Response, Problem> {
    let user = first(&app, &caller, given).await?;
    let location = format!("/api/v1/users/{}", user.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(UserDocument::of(&user))).into_response())
}

async fn first(app: &Arc<App>, caller: &Caller, given: FirstAdministrator) -> Result<User, Problem> {
    let this = app.sign_in.slowing.begin_nameless(caller.address, app.clock.mono()).map_err(slowed)?;
    if !app.sign_in.setup.is_good(&given.token, app.clock.mono()) {
        record_refusal(app, caller.actor.clone(), "", "a set-up link that is wrong, used or too old").await;
        let detail =
            "the set-up link is wrong, used or too old; while nobody is registered, a restart prints another";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "setup-token", detail)
            .field("token", "that of the link that the server printed last"));
    }
    app.sign_in.slowing.succeeded(this);
    passwords::check_new("password", &given.password, given.name.trim())?;
    let user = User {
        id: UserId::fresh(),
        name: given.name.as_str().into(),
        full_name: given.full_name.as_str().into(),
        password: Some(passwords::hash(app, given.password).await?.into()),
        external: None,
        grants: vec![Grant { role: Role::Administrator, scope: Scope::All }],
        disabled: false,
    };
    let id = user.id;
    let nobody = |register: &Register, _: &Caller| match register.users().next() {
        None => Ok(()),
        Some(_) => {
            let detail = "there are users already; an administrator adds others";
            Err(Problem::new(StatusCode::CONFLICT, "already-set-up", detail))
        }
    };
    let mut caller = caller.clone();
    caller.actor.name = "set-up link".to_owned();
    let batch = change(app, &caller, vec![Command::AddUser { user }], &[], nobody).await?;
    app.sign_in.setup.end();
    super::users::after(&batch, id).ok_or_else(|| Problem::internal("the user is not there"))
}

#[utoipa::path(get, path = "/setup", operation_id = "get-setup-page", tag = "Sign-in",
    summary = "The page that the set-up link opens",
    params(("token" = Option<String>, Query, description = "The one-time token")),
    responses((status = 200, description = "A form", body = String, content_type = "text/html")))]
pub(super) async fn page(RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let token = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token");
    let token = token.map(|(_, value)| value.into_owned()).unwrap_or_default();
    html(StatusCode::OK, &form(&token, "", None))
}

#[utoipa::path(post, path = "/setup", operation_id = "submit-setup-page", tag = "Sign-in",
    summary = "What the form of the set-up page sends",
    request_body(content = FirstAdministrator, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 201, description = "Made", body = String, content_type = "text/html"),
        (status = 401, description = "The token is wrong, used or too old", body = String, content_type = "text/html"),
        (status = 409, description = "There are users already", body = String, content_type = "text/html"),
        (status = 422, description = "The form again, with what is wrong", body = String, content_type = "text/html")))]
pub(super) async fn by_form(
    State(app): State<Arc<App>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let bytes = read(request).await?;
    let mut given = FirstAdministrator {
        token: String::new(),
        name: String::new(),
        password: String::new(),
        full_name: String::new(),
    };
    for (name, value) in form_urlencoded::parse(&bytes) {
        match &*name {
            "token" => given.token = value.into_owned(),
            "name" => given.name = value.into_owned(),
            "password" => given.password = value.into_owned(),
            "full_name" => given.full_name = value.into_owned(),
            _ => {}
        }
    }
    let (token, name) = (given.token.clone(), given.name.clone());
    match first(&app, &caller, given).await {
        Ok(user) => {
            let done = format!(
                "<p>{name} is the first administrator. This link is void now.</p>\
                 <p>Next, in a terminal on this machine:</p>\
                 <pre>fleetpulse login {name}\nfleetpulse sensors onboard --help</pre>\
                 <p>Programs use <a href=\"/api/v1/docs\">the API</a>.</p>",
                name = escaped(&user.name)
            );
            Ok(html(StatusCode::CREATED, &done))
        }
        Err(problem) if problem.status() < 500 && problem.status() != 429 => {
            let status = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::BAD_REQUEST);
            Ok(html(status, &form(&token, &name, Some(problem.detail()))))
        }
        Err(problem) => Err(problem),
    }
}

fn form(token: &str, name: &str, wrong: Option<&str>) -> String {
    let wrong = wrong.map_or_else(String::new, |wrong| format!("<p role=\"alert\">{}</p>", escaped(wrong)));
    format!(
        "<p>Fleetpulse watches a fleet of network sensors. Nobody is registered on this server yet: whom you name \
         here becomes its first administrator, and adds the others.</p>\
         {wrong}<form method=\"post\" action=\"/setup\">\
         <input type=\"hidden\" name=\"token\" value=\"{}\">\
         <p><label>Name, to sign in with<br><input name=\"name\" required maxlength=\"128\" autocomplete=\"username\" value=\"{}\"></label></p>\
         <p><label>Password, at least 12 characters<br>\
         <input name=\"password\" type=\"password\" required minlength=\"12\" autocomplete=\"new-password\"></label></p>\
         <p><button>Make the first administrator</button></p></form>",
        escaped(token),
        escaped(name)
    )
}

const STYLE: &str = ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:30rem;\
margin:2rem auto;padding:0 1rem}input{font:inherit;width:100%;box-sizing:border-box}button{font:inherit}pre{overflow-x:auto}";

fn html(status: StatusCode, inside: &str) -> Response {
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Fleetpulse set-up</title><style>{STYLE}</style></head>\
         <body><main><h1>Fleetpulse</h1>{inside}</main></body></html>"
    );
    let mut response = (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response();
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&super::docs::policy(STYLE, "'self'")) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
