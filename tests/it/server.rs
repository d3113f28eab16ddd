//! The server as a process: wrong configuration, signals, a planned stop, a full disk, and being killed at
//! random moments under load.

#[path = "server/fleet.rs"]
mod fleet;

#[path = "server/configuration.rs"]
mod configuration;
#[path = "server/disk.rs"]
mod disk;
#[path = "server/kill.rs"]
mod kill;
#[path = "server/kill_api.rs"]
mod kill_api;
#[path = "server/register.rs"]
mod register;
#[path = "server/stop.rs"]
mod stop;
