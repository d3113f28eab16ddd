//! Configuration: settings as written, then the configuration as used.
//!
//! Four sources, each stronger than the one before: built-in default < file (TOML) < environment
//! (`FLEETPULSE_INGEST__LISTEN`) < flag (`--set ingest.listen=...`). All of them pass through ONE table,
//! `keys::KEYS`: a key that is not in it is refused, and its doc says default, range and cost. So the
//! file, the environment, the flags, `--help` and the reference page cannot disagree.

pub mod duration;
#[cfg(feature = "server")]
mod keys;
#[cfg(feature = "server")]
mod load;

#[cfg(feature = "server")]
pub use keys::{KEYS, Key};
#[cfg(feature = "server")]
pub use load::{Source, from_sources, from_toml, render};

#[cfg(feature = "server")]
mod used {
    use std::net::SocketAddr;
    use std::path::PathBuf;
    use std::time::Duration;

    use crate::limits;

    /// The configuration as used: every value checked, nothing optional left open.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Config {
        /// Where everything durable lives.
        pub data_dir: PathBuf,
        /// The QUIC side.
        pub ingest: Ingest,
        /// The HTTP side.
        pub http: Http,
        /// Rules and sweep.
        pub health: Health,
        /// Journal, checkpoint, history.
        pub store: Store,
        /// Backups that the server makes of itself.
        pub backup: Backup,
        /// Certificates of sensors and gateways.
        pub identity: Identity,
        /// What is logged and how.
        pub log: Log,
    }

    /// Certificates of sensors and gateways.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Identity {
        /// How long one is good.
        pub certificate_life: Duration,
        /// For how long one that ran out may be renewed.
        pub renewal_grace: Duration,
        /// How far a sensor's clock may be from ours when it enrols.
        pub clock_drift_max: Duration,
    }

    /// The QUIC side.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Ingest {
        /// Main port: sensors and gateways.
        pub listen: SocketAddr,
        /// Enrolment port.
        pub enrol_listen: SocketAddr,
        /// Ingest threads, one socket each.
        pub shards: usize,
        /// Connections that one shard holds.
        pub connections_per_shard: usize,
        /// Names and addresses that the server's certificate is good for.
        pub server_names: Vec<String>,
        /// Receive buffer asked of the kernel, in bytes.
        pub receive_buffer_bytes: usize,
        /// Heartbeat interval that sensors are told to keep.
        pub interval: Duration,
        /// Time over which a planned stop spreads the sensors' return.
        pub drain_spread: Duration,
    }

    /// The HTTP side.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Http {
        /// Address of API, metrics and console.
        pub listen: SocketAddr,
        /// Plain HTTP on an address that others can reach.
        pub plain_beyond_loopback: bool,
        /// Proxies that are believed when they say where a request comes from.
        pub trusted_proxies: Vec<ipnet::IpNet>,
        /// Where the certificate of HTTPS comes from.
        pub tls: TlsMode,
        /// PEM file with the certificate chain, leaf first.
        pub tls_certificate: Option<PathBuf>,
        /// PEM file with its private key.
        pub tls_key: Option<PathBuf>,
        /// Who may read metrics without signing in.
        pub metrics_without_sign_in: MetricsAccess,
        /// A browser session ends when it is not used for so long.
        pub session_idle: Duration,
        /// A browser session ends after so long in any case.
        pub session_longest: Duration,
        /// Requests that one caller may send in a second.
        pub requests_per_second: u32,
        /// Where browsers reach the server; none = at `listen`.
        pub public_url: Option<String>,
        /// Issuer URL of the identity provider; none = local accounts only.
        pub oidc_issuer: Option<String>,
        /// What the server is called there.
        pub oidc_client_id: String,
        /// File with the server's secret there.
        pub oidc_client_secret_file: Option<PathBuf>,
        /// Claim of the id token with the groups of a user.
        pub oidc_groups_claim: String,
        /// What the members of groups may do: `group=role`, `group=role:site:ID`.
        pub oidc_grants: Vec<String>,
        /// PEM file with the roots that the provider's certificate is checked against.
        pub oidc_ca_file: Option<PathBuf>,
    }

    /// Where the certificate of HTTPS comes from.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum TlsMode {
        /// Plain HTTP.
        Off,
        /// The server's own authority.
        Own,
        /// Files.
        Files,
    }

    impl TlsMode {
        /// All of them.
        pub const ALL: [TlsMode; 3] = [TlsMode::Off, TlsMode::Own, TlsMode::Files];

        /// Its name.
        pub const fn as_str(self) -> &'static str {
            match self {
                TlsMode::Off => "off",
                TlsMode::Own => "own",
                TlsMode::Files => "files",
            }
        }
    }

    /// Who may read metrics without signing in.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum MetricsAccess {
        /// Who asks from this machine, and not through a proxy.
        Loopback,
        /// Anybody who reaches the server.
        Everywhere,
        /// Nobody.
        Nowhere,
    }

    impl MetricsAccess {
        /// All of them.
        pub const ALL: [MetricsAccess; 3] =
            [MetricsAccess::Loopback, MetricsAccess::Everywhere, MetricsAccess::Nowhere];

        /// Its name.
        pub const fn as_str(self) -> &'static str {
            match self {
                MetricsAccess::Loopback => "loopback",
                MetricsAccess::Everywhere => "everywhere",
                MetricsAccess::Nowhere => "nowhere",
            }
        }
    }

    /// Rules and sweep.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Health {
        /// Time between two sweeps.
        pub cadence: Duration,
        /// Name of the built-in policy that everything else is layered on.
        pub policy: String,
        /// File with the version support table (TOML); none = the built-in one.
        pub versions_file: Option<PathBuf>,
        /// Settings generation that sensors should run with; zero = nothing is asked for.
        pub settings_generation: u64,
        /// Day of the newest threat-intelligence package; none = unknown.
        pub threat_intel_newest: Option<String>,
    }

    /// Journal, checkpoint, history.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Store {
        /// Time between two checkpoints.
        pub checkpoint_every: Duration,
        /// How long the journal keeps cleared messages.
        pub journal_keep: Duration,
        /// Sensors that live state has room for.
        pub sensors_max: u32,
    }

    /// Backups that the server makes of itself.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Backup {
        /// Folder that they are written to; none = `backups` in the data directory.
        pub dir: Option<PathBuf>,
        /// Backups that are kept.
        pub keep: usize,
    }

    /// Form of a log line.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum LogFormat {
        /// For people.
        Text,
        /// One JSON object a line.
        Json,
    }

    /// What is logged and how.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Log {
        /// `error`, `warn`, `info`, `debug`, or a filter such as `info,fleetpulse::ingest=debug`.
        pub level: String,
        /// Form of a line.
        pub format: LogFormat,
    }

    impl Default for Config {
        fn default() -> Config {
            Config {
                data_dir: PathBuf::from("fleetpulse-data"),
                ingest: Ingest {
                    listen: SocketAddr::from(([0, 0, 0, 0], 4433)),
                    enrol_listen: SocketAddr::from(([0, 0, 0, 0], 4434)),
                    shards: 0,
                    connections_per_shard: limits::CONNECTIONS_PER_SHARD_DEFAULT,
                    server_names: vec!["localhost".into(), "127.0.0.1".into()],
                    receive_buffer_bytes: limits::SOCKET_BUFFER_BYTES,
                    interval: limits::INTERVAL_DEFAULT,
                    drain_spread: Duration::from_secs(30),
                },
                http: Http {
                    listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
                    plain_beyond_loopback: false,
                    trusted_proxies: Vec::new(),
                    tls: TlsMode::Off,
                    tls_certificate: None,
                    tls_key: None,
                    metrics_without_sign_in: MetricsAccess::Loopback,
                    session_idle: Duration::from_secs(30 * 60),
                    session_longest: Duration::from_secs(12 * 3_600),
                    requests_per_second: 100,
                    public_url: None,
                    oidc_issuer: None,
                    oidc_client_id: "fleetpulse".into(),
                    oidc_client_secret_file: None,
                    oidc_groups_claim: "groups".into(),
                    oidc_grants: Vec::new(),
                    oidc_ca_file: None,
                },
                health: Health {
                    cadence: limits::CADENCE_DEFAULT,
                    policy: "default".into(),
                    versions_file: None,
                    settings_generation: 0,
                    threat_intel_newest: None,
                },
                store: Store {
                    checkpoint_every: limits::CHECKPOINT_EVERY,
                    journal_keep: Duration::from_secs(90 * 86_400),
                    sensors_max: 1 << 20,
                },
                backup: Backup { dir: None, keep: limits::BACKUPS_KEEP_DEFAULT },
                identity: Identity {
                    certificate_life: limits::PEER_CERTIFICATE_LIFE,
                    renewal_grace: limits::RENEWAL_GRACE,
                    clock_drift_max: limits::CLOCK_DRIFT_MAX,
                },
                log: Log { level: "info".into(), format: LogFormat::Text },
            }
        }
    }
}

#[cfg(feature = "server")]
pub use used::{
    Backup, Config, Health, Http, Identity, Ingest, Log, LogFormat, MetricsAccess, Store, TlsMode,
};

/// A setting that can't be used: names the key, the value, where it was written, and what would be right.
#[cfg(feature = "server")]
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path}: {error}; give the path of a readable TOML file")]
    Unreadable {
        /// Path as given.
        path: String,
        /// What the system said.
        error: String,
    },
    /// The file is not TOML.
    #[error("{path}: not TOML: {error}")]
    NotToml {
        /// Path as given.
        path: String,
        /// Where and what.
        error: String,
    },
    /// A key that does not exist.
    #[error("{origin}: there is no key `{key}`{hint}; `fleetpulse serve --list-config` shows all keys")]
    UnknownKey {
        /// Where it was written.
        origin: Source,
        /// The key.
        key: String,
        /// The nearest key that exists.
        hint: String,
    },
    /// A value that the key does not take.
    #[error("{origin}: `{key}` = `{value}` can't be used; give {valid}")]
    BadValue {
        /// Where it was written.
        origin: Source,
        /// The key.
        key: String,
        /// The value, cut to a sensible length.
        value: String,
        /// What would be right.
        valid: String,
    },
    /// Values that are right alone and wrong together.
    #[error("{what}; {valid}")]
    Conflict {
        /// Which values.
        what: String,
        /// What would be right.
        valid: String,
    },
}
