//! The QUIC server against real clients (quinn), over loopback.

#[path = "ingest/rig.rs"]
mod rig;

#[path = "ingest/bad_input.rs"]
mod bad_input;
#[path = "ingest/control.rs"]
mod control;
#[path = "ingest/crowds.rs"]
mod crowds;
#[path = "ingest/enrol.rs"]
mod enrol;
#[path = "ingest/identity.rs"]
mod identity;
#[path = "ingest/path.rs"]
mod path;
#[path = "ingest/refusals.rs"]
mod refusals;
#[path = "ingest/standstill.rs"]
mod standstill;
