//! The API's client as a program: the real binary against a real server.

mod rig;

mod base;
mod fleet;

mod hostile;
mod people;
