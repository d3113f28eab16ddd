//! `/api/v1/users`: who may sign in, and what they may do. For administrators of everything: whoever can change users
//! can become any of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::app::App;
use super::body::Given;
use super::caller::Caller;
use super::change::change;
use super::cursor::Cursors;
use super::etag::{ETag, IfMatch};
use super::grants::{self, GrantDocument};
use super::params::{Id, Params};
use super::problem::Problem;
use super::sign_in::passwords;
use super::workers::{Places, work};
use crate::fleet::{Batch, Change, Command, Permission, RefusalCode, Register, Target, User, UserEdit};
use crate::wire::id::UserId;

/// Somebody who may sign in.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub(super) struct UserDocument {
    #[schema(format = Uuid)]
    id: String,
    /// What they sign in with, in lower case.
    name: String,
    full_name: String,
    /// They can sign in with a password.
    has_password: bool,
    /// Who they are at an identity provider.
    external: Option<External>,
    grants: Vec<GrantDocument>,
    /// Kept, and not let in.
    disabled: bool,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ExternalIdentity)]
struct External {
    issuer: String,
    subject: String,
}

/// A page of users.
#[derive(Serialize, ToSchema)]
pub(super) struct UserPage {
    items: Vec<UserDocument>,
    /// Cursor of the page after this one.
    next: Option<String>,
}

/// A user to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewUser {
    name: String,
    #[serde(default)]
    full_name: String,
    /// Without one they can't sign in with a password, and only tokens act for them.
    #[schema(format = Password)]
    password: Option<String>,
    #[serde(default)]
    grants: Vec<GrantDocument>,
    #[serde(default)]
    disabled: bool,
}

/// What changes; the others stay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserPatch {
    name: Option<String>,
    full_name: Option<String>,
    /// `null`: no password any more. Another password ends all sessions of the user.
    #[serde(default, deserialize_with = "super::body::given_or_null")]
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<Option<String>>,
    grants: Option<Vec<GrantDocument>>,
    disabled: Option<bool>,
}

impl UserDocument {
    pub(super) fn of(user: &User) -> UserDocument {
        UserDocument {
            id: user.id.to_string(),
            name: user.name.to_string(),
            full_name: user.full_name.to_string(),
            has_password: user.password.is_some(),
            external: user.external.as_ref().map(|(issuer, subject)| External {
                issuer: issuer.to_string(),
                subject: subject.to_string(),
            }),
            grants: grants::documents(&user.grants),
            disabled: user.disabled,
        }
    }
}

/// Another password is another version; what is kept of it tells nobody which.
fn tag(user: &User) -> ETag {
    ETag::of(&(UserDocument::of(user), user.password.as_deref()))
}

/// The user after a change.
pub(super) fn after(batch: &Batch, id: UserId) -> Option<User> {
    batch.changes.iter().rev().find_map(|change| match change {
        Change::User(edit) => edit.after.clone().filter(|user| user.id == id),
        _ => None,
    })
}

fn missing(id: UserId) -> Problem {
    Problem::not_found("user", &id.to_string(), "")
}

/// Users are of everything: who manages only a part can't see them.
fn manages(caller: &Caller, register: &Register) -> Result<(), Problem> {
    caller.check(register, Permission::ManageAccess, Target::Everything)
}

const IN_PATH: &[RefusalCode] = &[RefusalCode::UnknownUser];

#[utoipa::path(get, path = "/api/v1/users", operation_id = "list-users", tag = "Users",
    summary = "Everybody who may sign in, by name",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "Items on the page; 100 when not given"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page of users", body = UserPage)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let (limit, cursor) = (params.page_limit()?, params.take("cursor")?);
    params.finish(&["limit", "cursor"])?;
    let cursors = Cursors::of("users", ());
    let after = cursor.map(|text| cursors.read::<String>(&text)).transpose()?;
    let page = work(&app, Places::Api, move |app| {
        let register = app.backend.register();
        manages(&caller, &register)?;
        let wanted = |user: &&User| after.as_deref().is_none_or(|after| &*user.name > after);
        let mut users: Vec<&User> = register.users().filter(wanted).collect();
        users.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let next = users.get(limit).and(users.get(limit - 1)).map(|last| cursors.show(&&*last.name));
        Ok(UserPage { items: users.into_iter().take(limit).map(UserDocument::of).collect(), next })
    });
    Ok(Json(page.await??).into_response())
}

#[utoipa::path(post, path = "/api/v1/users", operation_id = "add-user", tag = "Users",
    summary = "Add a user",
    request_body = NewUser,
    responses((status = 201, description = "Added", body = UserDocument, headers(
        ("Location" = String, description = "The user"), ("ETag" = String, description = "Version of the user")))))]
pub(super) async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    Given(given): Given<NewUser>,
) -> Result<Response, Problem> {
    let grants = grants::read(&given.grants)?;
    let password = match given.password {
        None => None,
        Some(password) => {
            passwords::check_new("password", &password, &given.name)?;
            Some(passwords::hash(&app, password).await?.into())
        }
    };
    let user = User {
        id: UserId::fresh(),
        name: given.name.as_str().into(),
        full_name: given.full_name.as_str().into(),
        password,
        external: None,
        grants,
        disabled: given.disabled,
    };
    let id = user.id;
    let expect = |register: &Register, caller: &Caller| manages(caller, register);
    let batch = change(&app, &caller, vec![Command::AddUser { user }], &[], expect).await?;
    let user = after(&batch, id).ok_or_else(|| Problem::internal("the user is not there"))?;
    let (tag, document) = (tag(&user), UserDocument::of(&user));
    let location = format!("/api/v1/users/{id}");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], [tag.header()], Json(document)).into_response())
}

#[utoipa::path(get, path = "/api/v1/users/{id}", operation_id = "get-user", tag = "Users",
    summary = "One user",
    params(("id" = String, Path, format = Uuid, description = "Id of the user")),
    responses((status = 200, description = "The user", body = UserDocument,
        headers(("ETag" = String, description = "Version of the user"))),
        (status = 304, description = "It is still the version in `If-None-Match`")))]
pub(super) async fn user(
    State(app): State<Arc<App>>,
    caller: Caller,
    Id(id): Id<UserId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let shown = work(&app, Places::Api, move |app| {
        let register = app.backend.register();
        manages(&caller, &register)?;
        let user = register.user(id).ok_or_else(|| missing(id))?;
        Ok::<_, Problem>((tag(user), UserDocument::of(user)))
    });
    let (tag, document) = shown.await??;
    if tag.is_known(&headers) {
        return Ok((StatusCode::NOT_MODIFIED, [tag.header()]).into_response());
    }
    Ok(([tag.header()], Json(document)).into_response())
}

#[utoipa::path(patch, path = "/api/v1/users/{id}", operation_id = "edit-user", tag = "Users",
    summary = "Change a user",
    description = "Only the fields that are given change. The last administrator of everything can't be disabled or demoted.",
    params(("id" = String, Path, format = Uuid, description = "Id of the user")),
    request_body = UserPatch,
    responses((status = 200, description = "Changed", body = UserDocument,
        headers(("ETag" = String, description = "Version of the user"))),
        (status = 409, description = "The name is taken, or nobody would be left who can decide everything",
            body = super::problem::Document, content_type = "application/problem+json"),
        (status = 412, description = "It is another version by now", body = super::problem::Document,
            content_type = "application/problem+json")))]
pub(super) async fn edit(
    State(app): State<Arc<App>>,
    caller: Caller,
    Id(id): Id<UserId>,
    if_match: IfMatch,
    Given(given): Given<UserPatch>,
) -> Result<Response, Problem> {
    let grants = given.grants.as_deref().map(grants::read).transpose()?;
    let password = match given.password {
        None => None,
        Some(None) => Some(None),
        Some(Some(password)) => {
            let name = work(&app, Places::Api, move |app| {
                app.backend.register().user(id).map(|user| user.name.to_string())
            });
            let name = given.name.clone().or(name.await?).ok_or_else(|| missing(id))?;
            passwords::check_new("password", &password, &name)?;
            Some(Some(passwords::hash(&app, password).await?))
        }
    };
    let ends_sessions = password.is_some() || given.disabled == Some(true);
    let edit =
        UserEdit { name: given.name, full_name: given.full_name, password, grants, disabled: given.disabled };
    let expect = move |register: &Register, caller: &Caller| {
        manages(caller, register)?;
        if_match.check(&tag(register.user(id).ok_or_else(|| missing(id))?))
    };
    change(&app, &caller, vec![Command::EditUser { id, edit }], IN_PATH, expect).await?;
    if ends_sessions {
        app.sign_in.sessions.close_of(id);
    }
    let user = work(&app, Places::Api, move |app| app.backend.register().user(id).cloned()).await?;
    let user = user.ok_or_else(|| missing(id))?;
    Ok(([tag(&user).header()], Json(UserDocument::of(&user))).into_response())
}

#[utoipa::path(delete, path = "/api/v1/users/{id}", operation_id = "delete-user", tag = "Users",
    summary = "Delete a user with all their tokens and sessions",
    params(("id" = String, Path, format = Uuid, description = "Id of the user")),
    responses((status = 204, description = "Deleted"),
        (status = 409, description = "Nobody would be left who can decide everything",
            body = super::problem::Document, content_type = "application/problem+json"),
        (status = 412, description = "It is another version by now", body = super::problem::Document,
            content_type = "application/problem+json")))]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Id(id): Id<UserId>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let expect = move |register: &Register, caller: &Caller| {
        manages(caller, register)?;
        if_match.check(&tag(register.user(id).ok_or_else(|| missing(id))?))
    };
    change(&app, &caller, vec![Command::DeleteUser { id }], IN_PATH, expect).await?;
    app.sign_in.sessions.close_of(id);
    Ok(StatusCode::NO_CONTENT.into_response())
}
