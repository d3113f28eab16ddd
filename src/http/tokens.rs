//! `/api/v1/tokens`: secrets with which programs act in somebody's name.
//!
//! The secret is in the answer that makes it and nowhere else. Everybody has their own tokens; those of others are for
//! administrators of everything. A token may at most what its owner may, when it is made and whenever it is used; one
//! made with a token ends no later than that one, so that a leaked token can't prolong itself; and it neither sees nor
//! deletes its owner's stronger ones.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::app::App;
use super::body::Given;
use super::caller::{Caller, Who};
use super::change::change;
use super::cursor::Cursors;
use super::etag::{ETag, IfMatch};
use super::grants::{self, GrantDocument};
use super::params::{Id, Params};
use super::problem::{Problem, shown};
use super::sign_in::asked::not_signed_in;
use super::sign_in::secrets::new_token;
use super::times::rfc3339;
use super::workers::{Places, work};
use crate::fleet::{Change, Command, Grant, Permission, RefusalCode, Register, Target, Token};
use crate::limits::{TOKEN_LIFE_DEFAULT, TOKEN_LIFE_MAX};
use crate::time::UnixMillis;
use crate::wire::id::{TokenId, UserId};

/// A token, without its secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Token)]
pub(super) struct TokenDocument {
    #[schema(format = Uuid)]
    id: String,
    /// What it is for.
    name: String,
    owner: TokenOwner,
    /// What it may do, as far as its owner may.
    grants: Vec<GrantDocument>,
    #[schema(format = DateTime)]
    created: String,
    /// First instant at which it is void.
    #[schema(format = DateTime)]
    expires: String,
    /// When it was last used, to within an hour.
    #[schema(format = DateTime)]
    last_used: Option<String>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
struct TokenOwner {
    #[schema(format = Uuid)]
    id: String,
    name: Option<String>,
}

/// A token with its secret: this once.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeToken {
    /// For the header `Authorization: Bearer`. It is not kept, and can't be shown again.
    secret: String,
    #[serde(flatten)]
    token: TokenDocument,
}

/// A page of tokens.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenPage {
    items: Vec<TokenDocument>,
    /// Cursor of the page after this one.
    next: Option<String>,
}

/// A token to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// What it is for; one of a kind among its owner's.
    name: String,
    /// Whose it is; the caller's when not given.
    #[schema(format = Uuid)]
    owner: Option<String>,
    /// What it may do; all that the owner may when not given.
    grants: Option<Vec<GrantDocument>>,
    /// When it ends, at most 366 days from now; in 90 days when not given.
    #[schema(format = DateTime)]
    expires: Option<String>,
}

impl TokenDocument {
    fn of(register: &Register, token: &Token) -> TokenDocument {
        TokenDocument {
            id: token.id.to_string(),
            name: token.name.to_string(),
            owner: TokenOwner {
                id: token.owner.to_string(),
                name: register.user(token.owner).map(|owner| owner.name.to_string()),
            },
            grants: grants::documents(&token.grants),
            created: rfc3339(token.created),
            expires: rfc3339(token.expires),
            last_used: token.last_used.map(rfc3339),
        }
    }

    /// Its use is no new version.
    fn etag(&self) -> ETag {
        ETag::of(&TokenDocument { last_used: None, ..self.clone() })
    }
}

fn missing(id: TokenId) -> Problem {
    Problem::not_found("token", &id.to_string(), "")
}

/// One's own, or those of all. A token does nothing with those of its owner's that may more than it, so that one for a
/// part can't be used to look at, or to cut off, what works elsewhere.
fn may_see(caller: &Caller, register: &Register, token: &Token) -> bool {
    let own = caller.user() == Some(token.owner);
    let within = match &caller.who {
        Who::Token { id, .. } => *id == token.id || grants::beyond(caller, register, &token.grants).is_none(),
        _ => true,
    };
    own && within || caller.may(register, Permission::ManageAccess, Target::Everything)
}

const IN_PATH: &[RefusalCode] = &[RefusalCode::UnknownToken];

#[utoipa::path(get, path = "/api/v1/tokens", operation_id = "list-tokens", tag = "Tokens",
    summary = "One's own tokens, or all for administrators",
    description = "Asked with a token: itself, and those of its owner that may no more than it may.",
    params(
        ("owner" = Option<String>, Query, format = Uuid, description = "Only of this user"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "Items on the page; 100 when not given"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page of tokens, oldest first", body = TokenPage)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let owner = params.read::<UserId>("owner")?;
    let (limit, cursor) = (params.page_limit()?, params.take("cursor")?);
    params.finish(&["owner", "limit", "cursor"])?;
    let cursors = Cursors::of("tokens", owner);
    let after = cursor.map(|text| cursors.read::<(i64, [u8; 16])>(&text)).transpose()?;
    let place = |token: &Token| (token.created.0, token.id.0);
    let page = work(&app, Places::Api, move |app| {
        let register = app.backend.register();
        let mut tokens: Vec<&Token> = register
            .tokens()
            .filter(|token| {
                owner.is_none_or(|owner| token.owner == owner) && may_see(&caller, &register, token)
            })
            .filter(|token| after.is_none_or(|after| place(token) > after))
            .collect();
        tokens.sort_unstable_by_key(|token| place(token));
        let next = tokens.get(limit).and(tokens.get(limit - 1)).map(|last| cursors.show(&place(last)));
        let items = tokens.into_iter().take(limit).map(|token| TokenDocument::of(&register, token));
        TokenPage { items: items.collect(), next }
    });
    Ok(Json(page.await?).into_response())
}

#[utoipa::path(post, path = "/api/v1/tokens", operation_id = "add-token", tag = "Tokens",
    summary = "Make a token; its secret is shown this once",
    request_body = NewToken,
    responses((status = 201, description = "Made", body = MadeToken, headers(
        ("Location" = String, description = "The token"), ("ETag" = String, description = "Version of the token")))))]
pub(super) async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    Given(given): Given<NewToken>,
) -> Result<Response, Problem> {
    let own = caller.user().ok_or_else(|| not_signed_in("sign in first"))?;
    let owner = match &given.owner {
        None => own,
        Some(text) => text.parse().map_err(|_| bad_field("owner", text, "the id of a user"))?,
    };
    let now = app.clock.unix();
    let expires = expiry(given.expires.as_deref(), &caller, now)?;
    let wanted = given.grants.as_deref().map(grants::read).transpose()?;
    let (secret, hash) = new_token().map_err(|error| Problem::internal(error.to_string()))?;
    let by = caller.clone();
    let wanted = work(&app, Places::Api, move |app| {
        let register = app.backend.register();
        owner_may(&by, &register, owner, wanted)
    });
    let grants = wanted.await??;
    let id = TokenId::fresh();
    let token = Token {
        id,
        name: given.name.into(),
        owner,
        hash,
        grants: grants.clone(),
        created: now,
        expires,
        last_used: None,
    };
    let expect = move |register: &Register, caller: &Caller| {
        owner_may(caller, register, owner, Some(grants.clone())).map(drop)
    };
    let batch = change(&app, &caller, vec![Command::AddToken { token }], &[], expect).await?;
    let made = batch.changes.into_iter().find_map(|change| match change {
        Change::Token(edit) => edit.after,
        _ => None,
    });
    let made = made.ok_or_else(|| Problem::internal("the token is not there"))?;
    let document =
        work(&app, Places::Api, move |app| TokenDocument::of(&app.backend.register(), &made)).await?;
    let (tag, location) = (document.etag(), format!("/api/v1/tokens/{id}"));
    let body = Json(MadeToken { secret, token: document });
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], [tag.header()], body).into_response())
}

/// The grants of a new token of this owner, when the caller may make it.
fn owner_may(
    caller: &Caller,
    register: &Register,
    owner: UserId,
    wanted: Option<Vec<Grant>>,
) -> Result<Vec<Grant>, Problem> {
    if caller.user() != Some(owner) {
        caller.check(register, Permission::ManageAccess, Target::Everything)?;
    }
    let user = register.user(owner);
    let user = user.ok_or_else(|| bad_field("owner", &owner.to_string(), "the id of a user"))?;
    let grants = wanted.unwrap_or_else(|| {
        // Of one's own: what the present session or token may, which is never more.
        if caller.user() == Some(owner) { caller.grants.to_vec() } else { user.grants.clone() }
    });
    grants::may_give(caller, register, &grants)?;
    Ok(grants)
}

fn expiry(written: Option<&str>, caller: &Caller, now: UnixMillis) -> Result<UnixMillis, Problem> {
    let longest = match caller.who {
        Who::Token { expires, .. } => expires.min(now.plus(TOKEN_LIFE_MAX)),
        _ => now.plus(TOKEN_LIFE_MAX),
    };
    let Some(text) = written else { return Ok(now.plus(TOKEN_LIFE_DEFAULT).min(longest)) };
    let valid = format!("a time such as 2026-11-24T16:00:00Z, after now and not after {}", rfc3339(longest));
    let at = text.parse::<jiff::Timestamp>().map(|at| UnixMillis(at.as_millisecond()));
    match at {
        Ok(at) if at > now && at <= longest => Ok(at),
        _ => Err(bad_field("expires", text, &valid)),
    }
}

fn bad_field(field: &str, value: &str, valid: &str) -> Problem {
    let detail = format!("`{field}` can't be used: it is {}; give {valid}", shown(value));
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-field", detail).field(field, valid)
}

#[utoipa::path(get, path = "/api/v1/tokens/{id}", operation_id = "get-token", tag = "Tokens",
    summary = "One token, without its secret",
    params(("id" = String, Path, format = Uuid, description = "Id of the token")),
    responses((status = 200, description = "The token", body = TokenDocument,
        headers(("ETag" = String, description = "Version of the token")))))]
pub(super) async fn token(
    State(app): State<Arc<App>>,
    caller: Caller,
    Id(id): Id<TokenId>,
) -> Result<Response, Problem> {
    let document = work(&app, Places::Api, move |app| {
        let register = app.backend.register();
        let token = register.token(id).filter(|token| may_see(&caller, &register, token));
        token.map(|token| TokenDocument::of(&register, token)).ok_or_else(|| missing(id))
    });
    let document = document.await??;
    Ok(([document.etag().header()], Json(document)).into_response())
}

#[utoipa::path(delete, path = "/api/v1/tokens/{id}", operation_id = "delete-token", tag = "Tokens",
    summary = "Delete a token; it is void at once",
    params(("id" = String, Path, format = Uuid, description = "Id of the token")),
    responses((status = 204, description = "Deleted"),
        (status = 412, description = "It is another version by now", body = super::problem::Document,
            content_type = "application/problem+json")))]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    caller: Caller,
    Id(id): Id<TokenId>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let expect = move |register: &Register, caller: &Caller| {
        let token = register.token(id).filter(|token| may_see(caller, register, token));
        let token = token.ok_or_else(|| missing(id))?;
        if_match.check(&TokenDocument::of(register, token).etag())
    };
    change(&app, &caller, vec![Command::DeleteToken { id }], IN_PATH, expect).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
