//! The API's ground: signing in, roles, what all resources share.

pub mod browser;

mod audited;
mod endpoints;
mod expiry;
mod oidc;
mod provider;
mod recorded;
mod rights;
mod roles;
mod scope_table;
mod scopes;
mod sign_in;
mod slow;
mod tls;
mod users;
