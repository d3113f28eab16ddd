//! The agent's configuration: as written (TOML, unknown keys refused), then as used.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::host::HostPaths;
use super::written::{self, Written};
use crate::config::duration;
use crate::limits::{
    AGENT_COMMAND_WORDS_MAX, AGENT_CONFIG_BYTES_MAX, AGENT_INTERFACES_MAX, AGENT_SERVERS_MAX,
    CHECK_EVERY_DEFAULT, CHECK_EVERY_MAX, CHECK_EVERY_MIN, CHECK_TIMEOUT_DEFAULT, CHECK_TIMEOUT_MAX,
    CHECK_TIMEOUT_MIN, INTERVAL_DEFAULT, INTERVAL_MAX, INTERVAL_MIN, JOB_EVERY_DEFAULT, JOB_EVERY_MAX,
    JOB_EVERY_MIN, JOB_TIMEOUT_DEFAULT, SELF_TESTS_MAX,
};
use crate::wire::heartbeat::{DISKS_MAX, ENDPOINTS_MAX, Profile, VERSION_BYTES};

/// A configuration that can't be used: one line that names key, value and what would be right.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct AgentConfigError(String);

impl AgentConfigError {
    pub(super) fn new(key: &str, value: impl fmt::Display, right: &str) -> AgentConfigError {
        AgentConfigError(format!("{key}: '{value}' is not valid; give {right}"))
    }
}

/// What the agent watches and whom it tells; every value checked.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentConfig {
    /// Servers as host:port, tried in turn.
    pub servers: Vec<String>,
    /// The name in the server's certificate.
    pub server_name: String,
    /// Servers' enrolment addresses as host:port; a certificate that ran out is renewed there. May be empty.
    pub enrol_servers: Vec<String>,
    /// Folder with `certificate.pem`, `key.pem` and `trust.pem`.
    pub identity_dir: PathBuf,
    /// Heartbeat interval until the server sets another. Default 10s.
    pub interval: Duration,
    /// Version of the sensor's software. Default: this program's.
    pub version: String,
    /// Hardware profile.
    pub profile: Profile,
    /// Monitored interfaces, by name.
    pub interfaces: Vec<String>,
    /// Where each partition is mounted, in the order of the heartbeat's table. Default: root only.
    pub disks: [Option<PathBuf>; DISKS_MAX],
    /// Time between two checks of endpoints, time and directory servers. Default 60s.
    pub check_every: Duration,
    /// Time that one check may take. Default 5s.
    pub check_timeout: Duration,
    /// Roots that endpoints' certificates are checked with. Default: Debian's.
    pub ca_file: PathBuf,
    /// Time servers as host or host:port.
    pub ntp_servers: Vec<String>,
    /// Directory servers as host:port.
    pub directory_servers: Vec<String>,
    /// Cloud endpoints, in the order of the heartbeat's table.
    pub endpoints: Vec<Endpoint>,
    /// Self-tests, one bit each in this order. Exit code 0 = passed.
    pub self_tests: Vec<Job>,
    /// Backup. Exit code 0 = good, 3 not found, 4 unreadable, 5 network, 6 no room, else failed.
    pub backup: Option<Job>,
    /// This sensor does no backups.
    pub backup_disabled: bool,
    /// JSON that the sensor's other software keeps: update, threat intelligence, devices, alerts.
    pub status_file: Option<PathBuf>,
    /// Where `/proc` and `/sys` are; another place in tests.
    pub host: HostPaths,
}

/// One cloud endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// A TLS handshake is part of the check.
    pub tls: bool,
    /// The way there.
    pub proxy: Option<Proxy>,
}

/// An HTTP proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Who we are there.
    pub credentials: Option<Credentials>,
}

/// User and password for a proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User.
    pub user: String,
    /// Password, as it was read from the file.
    pub password: String,
    /// The file that it is read from.
    pub password_file: PathBuf,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A command that runs now and then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What people call it.
    pub name: String,
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// Time between two starts.
    pub every: Duration,
    /// It is killed after this.
    pub timeout: Duration,
}

/// What a command line says; each is stronger than the file, lists as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentFlags {
    /// `servers`; empty = as in the file.
    pub servers: Vec<String>,
    /// `server_name`.
    pub server_name: Option<String>,
    /// `identity_dir`.
    pub identity_dir: Option<PathBuf>,
    /// `interfaces`; empty = as in the file.
    pub interfaces: Vec<String>,
}

impl AgentConfig {
    /// Every key with its meaning, range and default, as a file that can be filled in.
    pub const KEYS: &str = include_str!("agent.toml");

    /// Default < file < flags.
    pub fn load(file: Option<&Path>, flags: &AgentFlags) -> Result<AgentConfig, AgentConfigError> {
        let mut written = match file {
            None => Written::default(),
            Some(path) => {
                let shown = path.display();
                let text = super::host::read_bounded(path, AGENT_CONFIG_BYTES_MAX).map_err(|error| {
                    AgentConfigError(format!("{shown}: {error}; give the path of a readable TOML file"))
                })?;
                parse(&text).map_err(|problem| AgentConfigError(format!("{shown}: {problem}")))?
            }
        };
        if !flags.servers.is_empty() {
            written.servers.clone_from(&flags.servers);
        }
        if !flags.interfaces.is_empty() {
            written.interfaces.clone_from(&flags.interfaces);
        }
        written.server_name = flags.server_name.clone().or(written.server_name);
        written.identity_dir = flags.identity_dir.clone().or(written.identity_dir);
        AgentConfig::from_written(written)
    }

    /// Reads a configuration.
    pub fn from_toml(text: &str) -> Result<AgentConfig, AgentConfigError> {
        AgentConfig::from_written(parse(text).map_err(AgentConfigError)?)
    }

    /// The configuration in use as TOML, which [`AgentConfig::from_toml`] reads back. No password is in it.
    pub fn to_toml(&self) -> String {
        toml::to_string(&Written::from(self)).expect("texts, numbers and tables of them")
    }

    fn from_written(written: Written) -> Result<AgentConfig, AgentConfigError> {
        let interval = period("interval", written.interval, INTERVAL_DEFAULT, INTERVAL_MIN, INTERVAL_MAX)?;
        let check_every = period(
            "check_every",
            written.check_every,
            CHECK_EVERY_DEFAULT,
            CHECK_EVERY_MIN,
            CHECK_EVERY_MAX,
        )?;
        let check_timeout = period(
            "check_timeout",
            written.check_timeout,
            CHECK_TIMEOUT_DEFAULT,
            CHECK_TIMEOUT_MIN,
            CHECK_TIMEOUT_MAX,
        )?;
        if written.servers.is_empty() {
            return Err(AgentConfigError::new("servers", "", "host:port of a server (--server HOST:PORT)"));
        }
        let servers = some("servers", written.servers, 1, AGENT_SERVERS_MAX)?;
        let server_name = server_name(&servers, written.server_name)?;
        let enrol_servers = some("enrol_servers", written.enrol_servers, 0, AGENT_SERVERS_MAX)?;
        for server in &enrol_servers {
            host_and_port("enrol_servers", server, None)?;
        }
        let identity_dir = written.identity_dir.ok_or_else(|| {
            AgentConfigError::new(
                "identity_dir",
                "",
                "the folder that `fleetpulse agent activate` made (--identity DIR)",
            )
        })?;
        let interfaces = some("interfaces", written.interfaces, 0, AGENT_INTERFACES_MAX)?;
        for name in &interfaces {
            if name.is_empty() || name.len() > 15 || name.contains(['/', ' ', ':']) || name.starts_with('.') {
                return Err(AgentConfigError::new(
                    "interfaces",
                    name,
                    "a network interface's name such as eth1",
                ));
            }
        }
        let version = written.version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned());
        if version.is_empty() || version.len() > VERSION_BYTES || version.contains('\0') {
            return Err(AgentConfigError::new("version", version, "1 to 32 bytes of text such as 22.3.7"));
        }
        let ntp_servers = some("ntp_servers", written.ntp_servers, 0, AGENT_SERVERS_MAX)?;
        for server in &ntp_servers {
            host_and_port("ntp_servers", server, Some(123))?;
        }
        let directory_servers = some("directory_servers", written.directory_servers, 0, AGENT_SERVERS_MAX)?;
        for server in &directory_servers {
            host_and_port("directory_servers", server, None)?;
        }
        let self_tests = some("self_tests", written.self_tests, 0, SELF_TESTS_MAX)?;
        let disks = written.disks;
        Ok(AgentConfig {
            server_name,
            enrol_servers,
            identity_dir,
            profile: profile(written.profile)?,
            disks: [
                Some(disks.root.unwrap_or_else(|| PathBuf::from("/"))),
                disks.data,
                disks.boot,
                disks.log,
            ],
            ca_file: written.ca_file.unwrap_or_else(|| PathBuf::from("/etc/ssl/certs/ca-certificates.crt")),
            endpoints: some("endpoints", written.endpoints, 0, ENDPOINTS_MAX)?
                .into_iter()
                .map(endpoint)
                .collect::<Result<_, _>>()?,
            self_tests: self_tests
                .into_iter()
                .enumerate()
                .map(|(number, written)| job("self_tests", format!("self-test {}", number + 1), written))
                .collect::<Result<_, _>>()?,
            backup: written.backup.map(|written| job("backup", "backup".to_owned(), written)).transpose()?,
            backup_disabled: written.backup_disabled,
            status_file: written.status_file,
            host: written.host_root.map_or_else(HostPaths::default, |root| HostPaths::under(&root)),
            servers,
            interval,
            version,
            interfaces,
            check_every,
            check_timeout,
            ntp_servers,
            directory_servers,
        })
    }
}

fn parse(text: &str) -> Result<Written, String> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        format!("line {line}: {}", error.message().replace('\n', " "))
    })
}

/// The name that the servers' certificates must have: as written, or the host that all of them share.
fn server_name(servers: &[String], written: Option<String>) -> Result<String, AgentConfigError> {
    let mut hosts = Vec::new();
    for server in servers {
        hosts.push(host_and_port("servers", server, None)?.0);
    }
    hosts.dedup();
    match (written, hosts.as_slice()) {
        (Some(name), _) => host_and_port("server_name", &name, Some(1)).map(|_| name),
        (None, [host]) => Ok(host.clone()),
        (None, hosts) => Err(AgentConfigError::new(
            "server_name",
            "",
            &format!("the one name in the certificates of {}", hosts.join(", ")),
        )),
    }
}

fn some<T>(key: &str, list: Vec<T>, least: usize, most: usize) -> Result<Vec<T>, AgentConfigError> {
    if (least..=most).contains(&list.len()) {
        return Ok(list);
    }
    Err(AgentConfigError::new(
        key,
        format_args!("{} entries", list.len()),
        &format!("{least} to {most} entries"),
    ))
}

fn period(
    key: &str,
    written: Option<String>,
    default: Duration,
    least: Duration,
    most: Duration,
) -> Result<Duration, AgentConfigError> {
    let Some(text) = written else { return Ok(default) };
    let parsed = duration::parse(&text).map_err(|right| AgentConfigError::new(key, &text, right))?;
    if (least..=most).contains(&parsed) {
        return Ok(parsed);
    }
    let right = format!("{} to {}", duration::format(least), duration::format(most));
    Err(AgentConfigError::new(key, &text, &right))
}

/// Splits `name:port`, `192.0.2.1:port` and `[2001:db8::1]:port`; the port may be left out when there is one
/// by default.
pub(super) fn host_and_port(
    key: &str,
    text: &str,
    default_port: Option<u16>,
) -> Result<(String, u16), AgentConfigError> {
    let bad = || {
        let right = if default_port.is_some() { "host or host:port" } else { "host:port" };
        AgentConfigError::new(key, text, right)
    };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || (host.starts_with('[') && host.ends_with(']')) => {
            (host, port.parse().map_err(|_| bad())?)
        }
        _ => (text, default_port.ok_or_else(bad)?),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || host.len() > 253 || port == 0 || !host.chars().all(usable) {
        return Err(bad());
    }
    Ok((host.to_owned(), port))
}

fn profile(written: Option<String>) -> Result<Profile, AgentConfigError> {
    let Some(text) = written else { return Ok(Profile::Unknown) };
    Profile::ALL.iter().copied().find(|profile| profile.as_str() == text).ok_or_else(|| {
        let names: Vec<_> = Profile::ALL.iter().map(|profile| profile.as_str()).collect();
        AgentConfigError::new("profile", text, &format!("one of {}", names.join(", ")))
    })
}

fn endpoint(written: written::Endpoint) -> Result<Endpoint, AgentConfigError> {
    let (host, port) = host_and_port("endpoints.address", &written.address, Some(443))?;
    Ok(Endpoint { host, port, tls: written.tls, proxy: written.proxy.map(proxy).transpose()? })
}

fn proxy(written: written::Proxy) -> Result<Proxy, AgentConfigError> {
    let (host, port) = host_and_port("endpoints.proxy.address", &written.address, None)?;
    let credentials = match (written.user, written.password_file) {
        (None, None) => None,
        (Some(user), Some(file)) => {
            let password = super::host::read_bounded(&file, 4_096).map_err(|error| {
                AgentConfigError(format!(
                    "endpoints.proxy.password_file: {} can't be read: {error}",
                    file.display()
                ))
            })?;
            let password = password.trim_end_matches(['\r', '\n']).to_owned();
            Some(Credentials { user, password, password_file: file })
        }
        (user, _) => {
            let right = "both user and password_file, or neither";
            return Err(AgentConfigError::new("endpoints.proxy.user", user.unwrap_or_default(), right));
        }
    };
    Ok(Proxy { host, port, credentials })
}

fn job(key: &str, name: String, written: written::Job) -> Result<Job, AgentConfigError> {
    let command = some(&format!("{key}.command"), written.command, 1, AGENT_COMMAND_WORDS_MAX)?;
    let every =
        period(&format!("{key}.every"), written.every, JOB_EVERY_DEFAULT, JOB_EVERY_MIN, JOB_EVERY_MAX)?;
    let timeout = period(
        &format!("{key}.timeout"),
        written.timeout,
        JOB_TIMEOUT_DEFAULT.min(every),
        Duration::from_millis(100),
        every,
    )?;
    Ok(Job { name: written.name.unwrap_or(name), command, every, timeout })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LEAST: &str =
        "servers = ['hub.example:7400']\nserver_name = 'hub.example'\nidentity_dir = '/etc/f'\n";

    fn with(more: &str) -> Result<AgentConfig, AgentConfigError> {
        AgentConfig::from_toml(&format!("{LEAST}{more}"))
    }

    #[test]
    fn the_least_configuration_has_the_documented_defaults() {
        let config = with("").expect("valid");
        assert_eq!(config.interval, Duration::from_secs(10));
        assert_eq!(config.check_every, Duration::from_secs(60));
        assert_eq!(config.disks[0], Some(PathBuf::from("/")));
        assert_eq!(config.disks[1], None);
    }

    #[test]
    fn everything_can_be_said() {
        let config = with(
            "interval = '2s'\nprofile = 'L500'\nversion = '22.3.7'\ninterfaces = ['eth1', 'eth2']\n\
             ntp_servers = ['time.example']\ndirectory_servers = ['[2001:db8::1]:389']\n\
             disks = { data = '/var' }\n\
             [[endpoints]]\naddress = 'cloud.example'\nproxy = { address = 'proxy.example:3128' }\n\
             [[self_tests]]\ncommand = ['/bin/true']\nevery = '5m'\n\
             [backup]\ncommand = ['/bin/backup', '--all']\nevery = '1d'\ntimeout = '1h'\n",
        )
        .expect("valid");
        assert_eq!(config.profile, Profile::L500);
        assert_eq!(config.endpoints[0].port, 443);
        assert_eq!(config.self_tests[0].timeout, Duration::from_secs(60));
        assert_eq!(config.backup.expect("one").timeout, Duration::from_secs(3_600));
    }

    #[test]
    fn each_mistake_is_one_line_that_names_key_and_value() {
        let cases = [
            ("intervall = '2s'", "intervall"),
            ("interval = 2", "line 4: invalid type: integer `2`"),
            ("interval = '2'", "interval: '2' is not valid; give a duration"),
            ("interval = '1h'", "interval: '1h' is not valid; give 100ms to 5m"),
            ("profile = 'X1'", "profile: 'X1' is not valid; give one of"),
            ("interfaces = ['../net']", "interfaces: '../net'"),
            ("directory_servers = ['ldap']", "directory_servers: 'ldap' is not valid; give host:port"),
            ("directory_servers = ['ldap:0']", "directory_servers: 'ldap:0'"),
            ("version = ''", "version: ''"),
            ("[[self_tests]]\ncommand = []", "self_tests.command: '0 entries'"),
            ("[[self_tests]]\ncommand = ['a']\nevery = '1m'\ntimeout = '2m'", "self_tests.timeout: '2m'"),
            (
                "[[endpoints]]\naddress = 'a:1'\nproxy = { address = 'b:2', user = 'u' }",
                "endpoints.proxy.user: 'u'",
            ),
            ("[[endpoints]]\naddress = 'a b:1'", "endpoints.address: 'a b:1'"),
            ("[[endpoints]]\naddress = 'a:1'\nverify = false", "verify"),
        ];
        for (more, said) in cases {
            let problem = with(more).expect_err(more).to_string();
            assert!(problem.contains(said), "{more}: {problem}");
            assert_eq!(problem.lines().count(), 1, "{problem}");
        }
        let many: String = (0..9).map(|n| format!("[[endpoints]]\naddress = 'h{n}:1'\n")).collect();
        assert!(with(&many).expect_err("nine").to_string().contains("0 to 8 entries"));
    }

    #[test]
    fn what_is_missing_is_said() {
        for (text, said) in [
            ("servers = []", "servers: '' is not valid; give host:port of a server (--server HOST:PORT)"),
            ("servers = ['a']", "servers: 'a' is not valid; give host:port"),
            (
                "servers = ['a:1']",
                "identity_dir: '' is not valid; give the folder that `fleetpulse agent activate`",
            ),
            (
                "servers = ['a:1', 'b:1']\nidentity_dir = 'x'",
                "server_name: '' is not valid; give the one name in the certificates of a, b",
            ),
            ("servers = ['a:1']\nserver_name = 'a b'\nidentity_dir = 'x'", "server_name: 'a b'"),
        ] {
            let problem = AgentConfig::from_toml(text).expect_err(text).to_string();
            assert!(problem.starts_with(said), "{problem}");
        }
        let one = "servers = ['[2001:db8::1]:1', '[2001:db8::1]:2']\nidentity_dir = 'x'";
        assert_eq!(AgentConfig::from_toml(one).expect("one host").server_name, "2001:db8::1");
    }

    #[test]
    fn flags_are_stronger_than_the_file() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("agent.toml");
        std::fs::write(&file, format!("{LEAST}interfaces = ['eth1']\ninterval = '2s'\n")).expect("file");
        let config = AgentConfig::load(Some(&file), &AgentFlags::default()).expect("valid");
        assert_eq!((&*config.servers[0], &*config.interfaces[0]), ("hub.example:7400", "eth1"));
        let flags = AgentFlags {
            servers: vec!["127.0.0.1:1".to_owned()],
            server_name: Some("b".to_owned()),
            identity_dir: Some("/i".into()),
            interfaces: vec!["lo".to_owned()],
        };
        for (file, interval) in [(Some(&*file), 2), (None, 10)] {
            let config = AgentConfig::load(file, &flags).expect("valid");
            assert_eq!((config.servers, config.server_name), (flags.servers.clone(), "b".to_owned()));
            assert_eq!((config.identity_dir, config.interfaces), ("/i".into(), flags.interfaces.clone()));
            assert_eq!(config.interval, Duration::from_secs(interval));
        }
        std::fs::write(&file, "servers = 1\n").expect("file");
        let problem = AgentConfig::load(Some(&file), &flags).expect_err("a number").to_string();
        assert!(problem.starts_with(&format!("{}: line 1: invalid type", file.display())), "{problem}");
        let problem = AgentConfig::load(Some(Path::new("/no/such")), &flags).expect_err("none").to_string();
        assert!(problem.starts_with("/no/such: No such file"), "{problem}");
    }

    #[test]
    fn the_list_of_keys_says_the_defaults_and_misses_none() {
        let config = AgentConfig::from_toml(&format!("{LEAST}{}", AgentConfig::KEYS)).expect("as printed");
        assert_eq!(config, with("").expect("valid"));
        // Examples too, once they are not comments any more; and a key that were missing would show.
        let lines = AgentConfig::KEYS.lines().map(|line| match line.strip_prefix('#') {
            Some(key) if !key.starts_with(' ') => key,
            _ => line,
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        let config = AgentConfig::from_toml(&text).expect("every example is valid");
        assert_eq!(AgentConfig::from_toml(&config.to_toml()).expect("reads back"), config);
        assert_eq!(keys_of(&text), keys_of(&config.to_toml()));
    }

    fn keys_of(text: &str) -> BTreeSet<String> {
        fn walk(prefix: &str, value: &toml::Value, keys: &mut BTreeSet<String>) {
            match value {
                toml::Value::Table(table) => {
                    table.iter().for_each(|(key, value)| walk(&format!("{prefix}.{key}"), value, keys));
                }
                toml::Value::Array(list) if list.iter().all(toml::Value::is_table) => {
                    list.iter().for_each(|value| walk(prefix, value, keys));
                }
                _ => drop(keys.insert(prefix.to_owned())),
            }
        }
        let mut keys = BTreeSet::new();
        walk("", &toml::Value::Table(text.parse().expect("TOML")), &mut keys);
        keys
    }

    #[test]
    fn passwords_are_never_shown() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("password");
        std::fs::write(&file, "secret\n").expect("file");
        let config = with(&format!(
            "[[endpoints]]\naddress = 'a:1'\nproxy = {{ address = 'b:2', user = 'u', password_file = '{}' }}\n",
            file.display()
        ))
        .expect("valid");
        let proxy = config.endpoints[0].proxy.clone().expect("one");
        assert_eq!(proxy.credentials.expect("both").password, "secret");
        assert!(!format!("{config:?}").contains("secret"));
        assert!(!config.to_toml().contains("secret"));
        assert_eq!(AgentConfig::from_toml(&config.to_toml()).expect("reads back"), config);
    }
}
