//! Who sent a request, and what they may do.
//!
//! The gate of a route (`router`) finds out and lets in; handlers take a [`Caller`] and ask it about the very thing
//! that a request is about. What lies outside somebody's scope does not exist for them: lists leave it out, and by
//! its id it is 404, so that nobody learns from a refusal what there is elsewhere.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::app::App;
use super::problem::Problem;
use super::sign_in::asked::nobody_now;
use super::sign_in::sessions::Session;
use super::sign_in::standing::grants_of;
use crate::fleet::{Actor, Grant, Permission, Register, Target, TokenHash, allowed};
use crate::time::UnixMillis;
use crate::wire::id::{TokenId, UserId};

/// Who sent a request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// As the audit log has it: what kind of somebody, name, from where.
    pub(super) actor: Actor,
    /// What they may do, and where. Of a token: what its owner may as well. As it was when they were looked up.
    pub(super) grants: Arc<[Grant]>,
    /// Tells callers apart where something is kept for each: one account, token or network address.
    pub(super) key: Arc<str>,
    /// Which user or token.
    pub(super) who: Who,
    /// Where the request comes from.
    pub(super) address: IpAddr,
    /// The session that the request names, whether it is good or not: a sign-in ends it.
    pub(super) cookie: Option<TokenHash>,
}

/// Which user or token a caller is.
#[derive(Clone, Debug)]
pub(super) enum Who {
    /// Not signed in, where that is allowed.
    Nobody,
    /// A user in a browser.
    User {
        /// Which.
        id: UserId,
        /// The session.
        session: Arc<Session>,
    },
    /// A program with an API token.
    Token {
        /// Which.
        id: TokenId,
        /// Whose.
        owner: UserId,
        /// When it ends.
        expires: UnixMillis,
        /// Its use was not written down lately.
        touch: bool,
    },
}

impl Caller {
    /// The user, or the owner of the token; none when nobody is signed in.
    pub(super) fn user(&self) -> Option<UserId> {
        match &self.who {
            Who::Nobody => None,
            Who::User { id, .. } => Some(*id),
            Who::Token { owner, .. } => Some(*owner),
        }
    }

    /// The same caller as they stand in the register that is given, with what they may now; or why they are nobody any
    /// more. For whatever was begun by one look at them and is done by another: see [`super::change`].
    pub(super) fn anew(&self, app: &App, register: &Register) -> Result<Caller, Problem> {
        let grants = grants_of(app, register, &self.who, app.clock.now());
        let grants = grants.map_err(|why| nobody_now(&self.who, why))?.into();
        Ok(Caller { grants, ..self.clone() })
    }

    /// Whether they may.
    pub(super) fn may(&self, register: &Register, permission: Permission, target: Target) -> bool {
        allowed(register, &self.grants, permission, target)
    }

    /// Refuses what they may not.
    pub(super) fn check(
        &self,
        register: &Register,
        permission: Permission,
        target: Target,
    ) -> Result<(), Problem> {
        if self.may(register, permission, target) { Ok(()) } else { Err(not_allowed(permission)) }
    }
}

/// The least role that has a permission is named, so that people know what to ask for.
fn not_allowed(permission: Permission) -> Problem {
    let role = permission.least_role().as_str();
    let detail = format!("this needs the role {role} for what the request is about; ask an administrator");
    Problem::new(StatusCode::FORBIDDEN, "not-allowed", detail)
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Problem> {
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.ok_or_else(|| Problem::internal("this resource does not know who asks"))
    }
}
