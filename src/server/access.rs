//! Users and tokens that commands at the machine make: who can write the data directory may let anybody in anyway.

use std::time::Duration;

use crate::fleet::{Command, Grant, Register, Role, Scope, Token, User, UserEdit};
use crate::http::{NoRandom, new_token};
use crate::time::UnixMillis;
use crate::wire::id::{TokenId, UserId};

/// The commands that make an API token of the user `name`, and its secret. A user that is not there yet is made, with
/// this role over everything and without a password.
pub fn token_commands(
    register: &Register,
    name: &str,
    role: Role,
    life: Duration,
    now: UnixMillis,
) -> Result<(Vec<Command>, String), NoRandom> {
    let (secret, hash) = new_token()?;
    let grants = vec![Grant { role, scope: Scope::All }];
    let mut commands = Vec::new();
    let owner = match register.user_named(name) {
        Some(user) => user.id,
        None => {
            let user = User {
                id: UserId::fresh(),
                name: name.into(),
                full_name: "".into(),
                password: None,
                external: None,
                grants: grants.clone(),
                disabled: false,
            };
            let id = user.id;
            commands.push(Command::AddUser { user });
            id
        }
    };
    let id = TokenId::fresh();
    let token = Token {
        id,
        name: format!("command line {id}").into(),
        owner,
        hash,
        grants,
        created: now,
        expires: now.plus(life),
        last_used: None,
    };
    commands.push(Command::AddToken { token });
    Ok((commands, secret))
}

/// The command that lets the user `name` in again, with the password of this hash; as administrator of everything too, if
/// so wanted. `None`: there is no such user.
pub fn recovery_command(
    register: &Register,
    name: &str,
    hash: String,
    administrator: bool,
) -> Option<Command> {
    let user = register.user_named(name)?;
    let all = Grant { role: Role::Administrator, scope: Scope::All };
    let grants = administrator.then(|| user.grants.iter().copied().chain([all]).collect());
    let edit = UserEdit { password: Some(Some(hash)), grants, disabled: Some(false), ..UserEdit::default() };
    Some(Command::EditUser { id: user.id, edit })
}
