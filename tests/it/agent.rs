//! The real agent as a process, reporting to a real server: monitored traffic, silence, goodbye, endpoints.

#[path = "agent/host.rs"]
mod host;

#[path = "agent/command.rs"]
mod command;
#[path = "agent/endpoints.rs"]
mod endpoints;
#[path = "agent/traffic.rs"]
mod traffic;

#[path = "agent/wire.rs"]
mod wire;
