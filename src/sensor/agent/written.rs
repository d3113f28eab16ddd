//! The agent's configuration as it is written: TOML, unknown keys refused. [`super::AgentConfig`] is what
//! comes out of it.

use std::path::PathBuf;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) servers: Vec<String>,
    pub(super) server_name: String,
    pub(super) identity_dir: PathBuf,
    pub(super) interval: Option<String>,
    pub(super) version: Option<String>,
    pub(super) profile: Option<String>,
    #[serde(default)]
    pub(super) interfaces: Vec<String>,
    #[serde(default)]
    pub(super) disks: Disks,
    pub(super) check_every: Option<String>,
    pub(super) check_timeout: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) ntp_servers: Vec<String>,
    #[serde(default)]
    pub(super) directory_servers: Vec<String>,
    #[serde(default)]
    pub(super) endpoints: Vec<Endpoint>,
    #[serde(default)]
    pub(super) self_tests: Vec<Job>,
    pub(super) backup: Option<Job>,
    #[serde(default)]
    pub(super) backup_disabled: bool,
    pub(super) status_file: Option<PathBuf>,
    pub(super) host_root: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Disks {
    pub(super) root: Option<PathBuf>,
    pub(super) data: Option<PathBuf>,
    pub(super) boot: Option<PathBuf>,
    pub(super) log: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Endpoint {
    pub(super) address: String,
    #[serde(default = "yes")]
    pub(super) tls: bool,
    pub(super) proxy: Option<Proxy>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proxy {
    pub(super) address: String,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Job {
    pub(super) name: Option<String>,
    pub(super) command: Vec<String>,
    pub(super) every: Option<String>,
    pub(super) timeout: Option<String>,
}

fn yes() -> bool {
    true
}
