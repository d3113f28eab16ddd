//! The API's client as a program: the real binary against a real server.

pub mod rig;

mod audit;
mod backup;
mod base;
mod files;
mod fleet;

mod hostile;
mod people;
