//! The agent's configuration as it is written: TOML, unknown keys refused. [`super::AgentConfig`] is what
//! comes out of it, and goes back into it to be shown.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::config::{self, AgentConfig};
use crate::config::duration;

// Tables come last: TOML has no way back from them.
#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    #[serde(default)]
    pub(super) servers: Vec<String>,
    pub(super) server_name: Option<String>,
    #[serde(default)]
    pub(super) enrol_servers: Vec<String>,
    pub(super) identity_dir: Option<PathBuf>,
    #[serde(default)]
    pub(super) interfaces: Vec<String>,
    pub(super) interval: Option<String>,
    pub(super) version: Option<String>,
    pub(super) profile: Option<String>,
    pub(super) status_file: Option<PathBuf>,
    pub(super) check_every: Option<String>,
    pub(super) check_timeout: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) ntp_servers: Vec<String>,
    #[serde(default)]
    pub(super) directory_servers: Vec<String>,
    #[serde(default)]
    pub(super) backup_disabled: bool,
    pub(super) host_root: Option<PathBuf>,
    #[serde(default)]
    pub(super) disks: Disks,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) endpoints: Vec<Endpoint>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) self_tests: Vec<Job>,
    pub(super) backup: Option<Job>,
}

#[derive(Deserialize, Serialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Disks {
    pub(super) root: Option<PathBuf>,
    pub(super) data: Option<PathBuf>,
    pub(super) boot: Option<PathBuf>,
    pub(super) log: Option<PathBuf>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Endpoint {
    pub(super) address: String,
    #[serde(default = "yes")]
    pub(super) tls: bool,
    pub(super) proxy: Option<Proxy>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proxy {
    pub(super) address: String,
    pub(super) user: Option<String>,
    pub(super) password_file: Option<PathBuf>,
}

#[derive(Deserialize, Serialize)]
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

impl From<&AgentConfig> for Written {
    fn from(used: &AgentConfig) -> Written {
        let [root, data, boot, log] = used.disks.clone();
        Written {
            servers: used.servers.clone(),
            server_name: Some(used.server_name.clone()),
            enrol_servers: used.enrol_servers.clone(),
            identity_dir: Some(used.identity_dir.clone()),
            interfaces: used.interfaces.clone(),
            interval: Some(duration::format(used.interval)),
            version: Some(used.version.clone()),
            profile: Some(used.profile.as_str().to_owned()),
            status_file: used.status_file.clone(),
            check_every: Some(duration::format(used.check_every)),
            check_timeout: Some(duration::format(used.check_timeout)),
            ca_file: Some(used.ca_file.clone()),
            ntp_servers: used.ntp_servers.clone(),
            directory_servers: used.directory_servers.clone(),
            backup_disabled: used.backup_disabled,
            host_root: used.host.proc.parent().map(Path::to_owned),
            disks: Disks { root, data, boot, log },
            endpoints: used.endpoints.iter().map(Endpoint::from).collect(),
            self_tests: used.self_tests.iter().map(Job::from).collect(),
            backup: used.backup.as_ref().map(Job::from),
        }
    }
}

impl From<&config::Endpoint> for Endpoint {
    fn from(used: &config::Endpoint) -> Endpoint {
        let proxy = used.proxy.as_ref().map(|proxy| Proxy {
            address: address(&proxy.host, proxy.port),
            user: proxy.credentials.as_ref().map(|credentials| credentials.user.clone()),
            password_file: proxy.credentials.as_ref().map(|credentials| credentials.password_file.clone()),
        });
        Endpoint { address: address(&used.host, used.port), tls: used.tls, proxy }
    }
}

impl From<&config::Job> for Job {
    fn from(used: &config::Job) -> Job {
        Job {
            name: Some(used.name.clone()),
            command: used.command.clone(),
            every: Some(duration::format(used.every)),
            timeout: Some(duration::format(used.timeout)),
        }
    }
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
