//! The API that changes the register, over real HTTP against a real server.

mod bad_input;
mod bulk;
mod import;
mod life;
mod rig;
