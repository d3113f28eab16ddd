//! The API's ground: signing in, roles, what all resources share.

mod browser;

mod roles;
mod sign_in;
mod users;
