//! Users and API tokens in the state.

use super::{Register, empty, free, one_id, same};
use crate::fleet::access::{Token, User};
use crate::fleet::change::Edit;
use crate::fleet::details::TokenHash;
use crate::wire::id::{TokenId, UserId};

impl Register {
    pub(super) fn fold_user(&mut self, edit: &Edit<User>) -> Result<(), String> {
        let id = one_id(edit, |user| user.id)?;
        same(self.user(id), edit.before.as_ref(), id)?;
        if let Some(before) = &edit.before {
            self.user_names.remove(&before.name);
        }
        match &edit.after {
            Some(after) => {
                free(self.user_names.insert(after.name.clone(), id), &after.name)?;
                self.users.insert(id, after.clone());
            }
            None => {
                empty(self.tokens_of(id).next().is_none(), id)?;
                self.users.remove(&id);
            }
        }
        self.counts.users = self.users.len();
        Ok(())
    }

    pub(super) fn fold_token(&mut self, edit: &Edit<Token>) -> Result<(), String> {
        let id = one_id(edit, |token| token.id)?;
        same(self.token(id), edit.before.as_ref(), id)?;
        if let Some(before) = &edit.before {
            self.token_hashes.remove(&before.hash);
        }
        match &edit.after {
            Some(after) => {
                self.user(after.owner).ok_or_else(|| format!("no {:?}", after.owner))?;
                free(self.token_hashes.insert(after.hash, id), "a secret's hash")?;
                self.tokens.insert(id, after.clone());
            }
            None => drop(self.tokens.remove(&id)),
        }
        self.counts.tokens = self.tokens.len();
        Ok(())
    }

    /// One user.
    pub fn user(&self, id: UserId) -> Option<&User> {
        self.users.get(&id)
    }

    /// A user by name, whatever its case.
    pub fn user_named(&self, name: &str) -> Option<&User> {
        self.user_names.get(&*name.to_lowercase()).and_then(|&id| self.user(id))
    }

    /// A user by what an identity provider calls them.
    pub fn user_external(&self, issuer: &str, subject: &str) -> Option<&User> {
        let is =
            |user: &&User| user.external.as_ref().is_some_and(|(i, s)| **i == *issuer && **s == *subject);
        self.users.values().find(is)
    }

    /// All users, by id.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }

    /// One API token.
    pub fn token(&self, id: TokenId) -> Option<&Token> {
        self.tokens.get(&id)
    }

    /// The API token with a secret of this hash.
    pub fn token_of(&self, hash: TokenHash) -> Option<&Token> {
        self.token_hashes.get(&hash).and_then(|&id| self.token(id))
    }

    /// All API tokens, by id.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.values()
    }

    /// A user's API tokens, by id.
    pub fn tokens_of(&self, owner: UserId) -> impl Iterator<Item = &Token> {
        self.tokens.values().filter(move |token| token.owner == owner)
    }
}
