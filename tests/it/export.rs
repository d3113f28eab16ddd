//! HTTP, metrics and the API of a running server.

mod fleet;
mod rig;

mod api;
mod probes;
