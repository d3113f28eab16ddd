//! What somebody may do now. Asked for each request, and again and again for an answer that goes on for an hour.
//!
//! A stream of events must not outlive the right to see them. It keeps a [`Standing`], which compares one number before
//! each piece of the answer ([`App::access_changes`], two loads) and looks at the register only when that moved. What time
//! ends (a token, a session) it knows beforehand.

use std::sync::Arc;
use std::time::Duration;

use super::sessions::{Fingerprint, Session, Sessions};
use crate::fleet::{Grant, Permission, Register, Role, Scope, Token, User};
use crate::http::app::App;
use crate::http::caller::{Caller, Who};
use crate::http::workers::{Places, work};
use crate::time::{MonoNanos, Now, UnixMillis};
use crate::wire::id::UserId;

/// Why somebody may do nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Over {
    TokenDeleted,
    TokenExpired,
    UserDeleted,
    UserDisabled,
    /// Signed out, or ended with all sessions of the user.
    SessionEnded,
    SessionExpired,
    /// There is nothing left that they may see.
    NoGrants,
    /// The register could not be asked in time.
    Busy,
}

/// What a token may do now, and whose it is.
pub(super) fn of_token<'r>(
    register: &'r Register,
    token: &Token,
    now: UnixMillis,
) -> Result<(&'r User, Vec<Grant>), Over> {
    if token.expires <= now {
        return Err(Over::TokenExpired);
    }
    let owner = of_id(register, token.owner)?;
    Ok((owner, both(register, &token.grants, &owner.grants)))
}

/// A user who is let in.
pub(super) fn of_id(register: &Register, id: UserId) -> Result<&User, Over> {
    match register.user(id) {
        None => Err(Over::UserDeleted),
        Some(user) if user.disabled => Err(Over::UserDisabled),
        Some(user) => Ok(user),
    }
}

/// The user of a session, who is let in and has the password that it began with.
pub(super) fn of_begun<'r>(register: &'r Register, session: &Session) -> Result<&'r User, Over> {
    let user = of_id(register, session.user)?;
    let same = session.password == Fingerprint::of(user.password.as_deref());
    if same { Ok(user) } else { Err(Over::SessionEnded) }
}

fn of_session<'r>(
    register: &'r Register,
    sessions: &Sessions,
    session: &Session,
    now: MonoNanos,
) -> Result<&'r User, Over> {
    let user = of_begun(register, session)?;
    if sessions.left(session, now).is_zero() {
        return Err(Over::SessionExpired);
    }
    if sessions.is_open(session) { Ok(user) } else { Err(Over::SessionEnded) }
}

/// What somebody may do, kept up with what becomes of them.
pub(in crate::http) struct Standing {
    who: Who,
    grants: Arc<[Grant]>,
    /// [`App::access_changes`] of when that was found; none at first, since things may have changed since the gate.
    seen: Option<u64>,
}

impl Standing {
    /// Of somebody who was let in.
    pub(in crate::http) fn new(caller: &Caller) -> Standing {
        Standing { who: caller.who.clone(), grants: Arc::clone(&caller.grants), seen: None }
    }

    /// What they may do, as of the last [`Standing::keep_up`].
    pub(in crate::http) fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Goes by what is true now; `true` when they may do more or less than before. When this returns, nothing has changed
    /// since it was looked at: there is no wait between.
    pub(in crate::http) async fn keep_up(&mut self, app: &Arc<App>) -> Result<bool, Over> {
        let mut other = false;
        loop {
            let (now, changes) = (app.clock.now(), app.access_changes());
            if self.seen == Some(changes) && !self.left(app, now).is_zero() {
                return Ok(other);
            }
            let at_once =
                app.backend.try_register().map(|register| grants_now(app, &register, &self.who, now));
            let found = match at_once {
                Some(found) => found?,
                None => {
                    let who = self.who.clone();
                    let job = move |app: &App| grants_now(app, &app.backend.register(), &who, now);
                    work(app, Places::Reserved, job).await.map_err(|_| Over::Busy)??
                }
            };
            if *found != *self.grants {
                self.grants = found.into();
                other = true;
            }
            self.seen = Some(changes);
        }
    }

    /// How long that lasts at most, if nobody changes it.
    pub(in crate::http) fn left(&self, app: &App, now: Now) -> Duration {
        match &self.who {
            Who::Nobody => Duration::MAX,
            Who::User { session, .. } => app.sign_in.sessions.left(session, now.mono),
            Who::Token { expires, .. } => {
                Duration::from_millis(u64::try_from(expires.0 - now.unix.0).unwrap_or(0))
            }
        }
    }
}

/// What somebody who was let in may do as the register has it.
pub(in crate::http) fn grants_of(
    app: &App,
    register: &Register,
    who: &Who,
    now: Now,
) -> Result<Vec<Grant>, Over> {
    Ok(match who {
        Who::Nobody => Vec::new(),
        Who::User { session, .. } => {
            of_session(register, &app.sign_in.sessions, session, now.mono)?.grants.clone()
        }
        Who::Token { id, owner, .. } => {
            // With its user all of a user's tokens are deleted.
            of_id(register, *owner)?;
            of_token(register, register.token(*id).ok_or(Over::TokenDeleted)?, now.unix)?.1
        }
    })
}

fn grants_now(app: &App, register: &Register, who: &Who, now: Now) -> Result<Vec<Grant>, Over> {
    let grants = grants_of(app, register, who, now)?;
    let sees = grants.iter().any(|grant| grant.role.may(Permission::View));
    if sees { Ok(grants) } else { Err(Over::NoGrants) }
}

/// What a token may do: what was given to it, as far as its owner may it now.
fn both(register: &Register, token: &[Grant], owner: &[Grant]) -> Vec<Grant> {
    let mut common = Vec::new();
    for one in token {
        for other in owner {
            if let Some(scope) = narrower(register, one.scope, other.scope) {
                common.push(Grant { role: weaker(one.role, other.role), scope });
            }
        }
    }
    common.sort_unstable();
    common.dedup();
    common
}

fn weaker(one: Role, other: Role) -> Role {
    one.min(other)
}

/// What two scopes have in common: always all of one of them, or nothing.
fn narrower(register: &Register, one: Scope, other: Scope) -> Option<Scope> {
    let of = |site| register.site(site).map(|site| site.subscription);
    match (one, other) {
        (Scope::All, scope) | (scope, Scope::All) => Some(scope),
        (Scope::Site(site), Scope::Subscription(id)) | (Scope::Subscription(id), Scope::Site(site)) => {
            (of(site) == Some(id)).then_some(Scope::Site(site))
        }
        (one, other) => (one == other).then_some(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::id::SiteId;

    #[test]
    fn a_token_may_what_both_may() {
        let register = Register::new();
        let (all, site) = (Scope::All, Scope::Site(SiteId::from_number(1)));
        let grant = |role, scope| Grant { role, scope };
        let (reader, admin) = (grant(Role::Reader, all), grant(Role::Administrator, all));
        assert_eq!(both(&register, &[reader], &[admin]), [reader]);
        assert_eq!(both(&register, &[admin], &[reader]), [reader]);
        let there = grant(Role::Operator, site);
        assert_eq!(both(&register, &[admin], &[there]), [there]);
        assert_eq!(both(&register, &[there], &[reader]), [grant(Role::Reader, site)]);
        assert_eq!(both(&register, &[admin], &[]), []);
        let other = Scope::Site(SiteId::from_number(2));
        assert_eq!(both(&register, &[there], &[grant(Role::Operator, other)]), []);
    }
}
