//! The API's ground: signing in, roles, what all resources share.

mod browser;

mod oidc;
mod provider;
mod roles;
mod sign_in;
mod tls;
mod users;
