//! HTTP, metrics and the API of a running server.

mod rig;

mod probes;
