//! Users, their grants and tokens.

use std::sync::Arc;

use super::{Fault, fault, new_name, rename, site, subscription, within};
use crate::fleet::access::{Grant, Scope as GrantScope, Token, User};
use crate::fleet::command::{Command, UserEdit};
use crate::fleet::draft::{Draft, Scope};
use crate::fleet::name::check_name;
use crate::fleet::refusal::{RefusalCode, shown};
use crate::limits::{GRANTS_MAX, PASSWORD_HASH_BYTES_MAX, TOKENS_PER_USER_MAX, USERS_MAX};
use crate::wire::id::{TokenId, UserId};

pub(super) fn plan(draft: &mut Draft<'_>, command: &Command) -> Result<(), Fault> {
    match command {
        Command::AddUser { user } => add_user(draft, user),
        Command::EditUser { id, edit } => edit_user(draft, *id, edit),
        Command::DeleteUser { id } => {
            let before = user(draft, *id)?;
            others_decide(draft, &before, None)?;
            for token in draft.tokens_of(*id) {
                draft.put_token(draft.token(token).cloned(), None);
            }
            draft.put_user(Some(before), None);
            Ok(())
        }
        Command::AddToken { token } => add_token(draft, token),
        Command::DeleteToken { id } => {
            let before = token(draft, *id)?;
            draft.put_token(Some(before), None);
            Ok(())
        }
        Command::TouchToken { id, at } => {
            let before = token(draft, *id)?;
            let last_used = before.last_used.max(Some(*at));
            draft.put_token(Some(before.clone()), Some(Token { last_used, ..before }));
            Ok(())
        }
        _ => Ok(()),
    }
}

fn add_user(draft: &mut Draft<'_>, user: &User) -> Result<(), Fault> {
    if draft.user(user.id).is_some() {
        return fault(RefusalCode::IdTaken, "id", user.id, "a fresh id");
    }
    within(USERS_MAX, draft.users().len(), "users")?;
    let name = new_name(draft, Scope::Users, &user.name.to_lowercase())?;
    let full_name = full_name(&user.full_name)?;
    check_password(user.password.as_deref())?;
    let grants = check_grants(draft, &user.grants)?;
    draft.put_user(None, Some(User { name, full_name, grants, ..user.clone() }));
    Ok(())
}

fn edit_user(draft: &mut Draft<'_>, id: UserId, edit: &UserEdit) -> Result<(), Fault> {
    let before = user(draft, id)?;
    let mut after = before.clone();
    if let Some(name) = &edit.name {
        after.name = rename(draft, Scope::Users, &before.name, &name.to_lowercase())?;
    }
    if let Some(text) = &edit.full_name {
        after.full_name = full_name(text)?;
    }
    if let Some(password) = &edit.password {
        check_password(password.as_deref())?;
        after.password = password.as_deref().map(Arc::from);
    }
    if let Some(grants) = &edit.grants {
        after.grants = check_grants(draft, grants)?;
    }
    after.disabled = edit.disabled.unwrap_or(after.disabled);
    others_decide(draft, &before, Some(&after))?;
    draft.put_user(Some(before), Some(after));
    Ok(())
}

/// Somebody is left who can decide everything.
fn others_decide(draft: &Draft<'_>, before: &User, after: Option<&User>) -> Result<(), Fault> {
    if !before.is_full_administrator() || after.is_some_and(User::is_full_administrator) {
        return Ok(());
    }
    if draft.users().iter().any(|user| user.id != before.id && user.is_full_administrator()) {
        return Ok(());
    }
    let right = "another administrator of everything first";
    fault(RefusalCode::LastAdministrator, "grants", &before.name, right)
}

fn add_token(draft: &mut Draft<'_>, token: &Token) -> Result<(), Fault> {
    user(draft, token.owner)?;
    if draft.token(token.id).is_some() || draft.knows_secret(token.hash) {
        return fault(RefusalCode::IdTaken, "id", token.id, "a fresh id and secret");
    }
    // What is void anyway takes no room.
    for old in draft.tokens_of(token.owner) {
        let before = draft.token(old).filter(|old| old.expires <= token.created).cloned();
        if before.is_some() {
            draft.put_token(before, None);
        }
    }
    within(TOKENS_PER_USER_MAX, draft.tokens_of(token.owner).len(), "tokens")?;
    if token.expires <= token.created {
        return fault(RefusalCode::TimeOrder, "expires", token.expires.0, "a time in the future");
    }
    let name = new_name(draft, Scope::Tokens(token.owner), &token.name)?;
    let grants = check_grants(draft, &token.grants)?;
    draft.put_token(None, Some(Token { name, grants, ..token.clone() }));
    Ok(())
}

/// Grants as they are kept: sorted, each once, over what exists.
fn check_grants(draft: &Draft<'_>, grants: &[Grant]) -> Result<Vec<Grant>, Fault> {
    within(GRANTS_MAX, grants.len().saturating_sub(1), "grants")?;
    for grant in grants {
        match grant.scope {
            GrantScope::All => {}
            GrantScope::Subscription(id) => drop(subscription(draft, id, "grants")?),
            GrantScope::Site(id) => drop(site(draft, id, "grants")?),
        }
    }
    let mut grants = grants.to_vec();
    grants.sort_unstable();
    grants.dedup();
    Ok(grants)
}

fn check_password(hash: Option<&str>) -> Result<(), Fault> {
    match hash {
        Some(hash) if !hash.starts_with('$') || hash.len() > PASSWORD_HASH_BYTES_MAX => {
            // Never shown: it may be a password that somebody forgot to hash.
            fault(RefusalCode::PasswordInvalid, "password", "(not shown)", "the hash of a password")
        }
        _ => Ok(()),
    }
}

fn full_name(text: &str) -> Result<Arc<str>, Fault> {
    match check_name(text) {
        Ok(name) => Ok(name),
        Err((RefusalCode::NameEmpty, _)) if text.is_empty() => Ok(Arc::from("")),
        Err((code, right)) => fault(code, "full_name", shown(text), right),
    }
}

fn user(draft: &Draft<'_>, id: UserId) -> Result<User, Fault> {
    match draft.user(id) {
        Some(found) => Ok(found.clone()),
        None => fault(RefusalCode::UnknownUser, "id", id, "the id of a user"),
    }
}

fn token(draft: &Draft<'_>, id: TokenId) -> Result<Token, Fault> {
    match draft.token(id) {
        Some(found) => Ok(found.clone()),
        None => fault(RefusalCode::UnknownToken, "id", id, "the id of an API token"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::access::Role;
    use crate::fleet::change::Actor;
    use crate::fleet::details::TokenHash;
    use crate::fleet::register::Register;
    use crate::time::UnixMillis;

    #[test]
    fn a_token_that_ran_out_makes_room_for_another() {
        let mut register = Register::default();
        let owner = UserId::from_number(1);
        let grants = vec![Grant { role: Role::Reader, scope: GrantScope::All }];
        let ann = User {
            id: owner,
            name: "ann".into(),
            full_name: "".into(),
            password: None,
            external: None,
            grants: grants.clone(),
            disabled: false,
        };
        let mut apply = |command: Command, at: i64| {
            let batch = register.apply(&[command], Actor::system("test"), UnixMillis(at))?;
            register.fold(&batch).expect("it folds");
            Ok::<usize, crate::fleet::Refusal>(register.tokens_of(owner).count())
        };
        apply(Command::AddUser { user: ann }, 0).unwrap();
        let token = |number: u64, created: i64, expires: i64| Command::AddToken {
            token: Token {
                id: TokenId::from_number(number),
                name: format!("login {number}").into(),
                owner,
                hash: TokenHash([u8::try_from(number).unwrap(); 32]),
                grants: grants.clone(),
                created: UnixMillis(created),
                expires: UnixMillis(expires),
                last_used: None,
            },
        };
        let most = TOKENS_PER_USER_MAX as u64;
        for number in 0..most {
            apply(token(number, 0, 10), 0).unwrap();
        }
        let refused = apply(token(most, 9, 100), 9).unwrap_err();
        assert_eq!(refused.code, RefusalCode::TooMany);
        assert_eq!(apply(token(most, 10, 100), 10).unwrap(), 1, "the others ran out at this moment");
    }
}
