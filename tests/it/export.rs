//! HTTP, metrics and the API of a running server; dashboards and alert rules; a real Prometheus.

pub mod fleet;
pub mod rig;

mod api;
mod bad_input;
mod dashboards;
mod probes;
mod prometheus;
mod rules;
