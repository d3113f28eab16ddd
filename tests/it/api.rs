//! The API that changes the register, over real HTTP against a real server.

mod activation;
mod audit;
pub mod backups;
mod bad_input;
mod bulk;
mod import;
mod life;
mod rig;
mod schemathesis;
