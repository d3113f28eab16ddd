//! The table of keys: name, what it does with range and cost, how it is read, how it is shown.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Config, LogFormat, MetricsAccess, TlsMode, duration};
use crate::limits;

/// One key of the configuration.
pub struct Key {
    /// Dotted name, as in the file.
    pub name: &'static str,
    /// What it does, its range, what it costs.
    pub doc: &'static str,
    /// Reads a value; `Err` says what would be right.
    pub(super) set: fn(&mut Config, &[String]) -> Result<(), String>,
    /// Shows the value so that `set` reads it back.
    pub(super) show: fn(&Config) -> String,
}

macro_rules! keys {
    ($($name:literal, $doc:literal, $reader:expr, $($field:ident).+, $writer:expr;)+) => {
        /// Every key there is.
        pub const KEYS: &[Key] = &[$(Key {
            name: $name,
            doc: $doc,
            set: |config, written| { config.$($field).+ = $reader(written)?; Ok(()) },
            show: |config| $writer(&config.$($field).+),
        }),+];
    };
}

keys! {
    "data_dir", "Where everything durable lives: certificates, register, journal, checkpoints. Made on first start, readable by its owner only.",
        path, data_dir, show_path;
    "ingest.listen", "UDP address of the main port: sensors and gateways. Port 0 = a free one.",
        address, ingest.listen, show_quoted;
    "ingest.enrol_listen", "UDP address of the enrolment port. Port 0 = a free one.",
        address, ingest.enrol_listen, show_quoted;
    "ingest.shards", "Ingest threads with one socket each, 1 to 255; 0 = one for each core. More than there are cores only costs memory.",
        |w: &[String]| number(w, 0, limits::SHARDS_MAX as u64).map(|n| n as usize), ingest.shards, show_plain;
    "ingest.connections_per_shard", "Connections that one shard holds, 1 to 1000000; about 19 KB each. Beyond it new ones are refused.",
        |w: &[String]| number(w, 1, limits::CONNECTIONS_PER_SHARD_MAX as u64).map(|n| n as usize), ingest.connections_per_shard, show_plain;
    "ingest.server_names", "Names and IP addresses that the server's certificate is good for; sensors check them.",
        names, ingest.server_names, show_list;
    "ingest.receive_buffer_bytes", "Receive buffer asked of the kernel for each socket, 65536 to 67108864; `net.core.rmem_max` caps it. Too small loses datagrams in bursts.",
        |w: &[String]| number(w, 65_536, 67_108_864).map(|n| n as usize), ingest.receive_buffer_bytes, show_plain;
    "ingest.interval", "Heartbeat interval that sensors are told to keep, 100ms to 5m. Halving it doubles the CPU for heartbeats.",
        |w: &[String]| period(w, limits::INTERVAL_MIN, limits::INTERVAL_MAX), ingest.interval, show_duration;
    "ingest.drain_spread", "At a planned stop sensors are told to come back spread over this time, 0s to 10m.",
        |w: &[String]| period(w, Duration::ZERO, Duration::from_secs(600)), ingest.drain_spread, show_duration;
    "http.listen", "TCP address of API and metrics. Port 0 = a free one.",
        address, http.listen, show_quoted;
    "http.plain_beyond_loopback", "true = plain HTTP may be served on an address that other hosts reach. Only behind a proxy that adds TLS.",
        boolean, http.plain_beyond_loopback, show_plain;
    "http.trusted_proxies", "Addresses or networks of proxies whose X-Forwarded-For is believed, such as 127.0.0.1, 10.0.0.0/8; empty = none. Rates, slowed sign-ins and the audit log go by it.",
        networks, http.trusted_proxies, show_networks;
    "http.tls", "HTTPS: `off`, `own` (a certificate of the server's own authority, for ingest.server_names) or `files`. A certificate that changes is taken over without a restart.",
        tls_mode, http.tls, show_tls_mode;
    "http.tls_certificate", "With http.tls = `files`: PEM file with the certificate chain, leaf first.",
        optional_path, http.tls_certificate, show_optional_path;
    "http.tls_key", "With http.tls = `files`: PEM file with the private key.",
        optional_path, http.tls_key, show_optional_path;
    "http.metrics_without_sign_in", "Who may read /metrics, /metrics/sensors and /api/v1/engine without signing in: \
        `loopback` (this machine; nobody when a proxy is before the server: http.plain_beyond_loopback, \
        http.trusted_proxies, or an https http.public_url without http.tls), `everywhere` or `nowhere`.",
        metrics_access, http.metrics_without_sign_in, show_metrics_access;
    "http.session_idle", "A browser session ends when it is not used for so long, 1m to 24h.",
        |w: &[String]| period(w, Duration::from_secs(60), Duration::from_secs(86_400)), http.session_idle, show_duration;
    "http.session_longest", "A browser session ends after so long in any case, 1m to 30d.",
        |w: &[String]| period(w, Duration::from_secs(60), Duration::from_secs(30 * 86_400)), http.session_longest, show_duration;
    "http.requests_per_second", "Requests that one user, token or (without one) source address may send in a second, 1 to 100000; three seconds' worth at once.",
        |w: &[String]| number(w, 1, 100_000).map(|n| n as u32), http.requests_per_second, show_plain;
    "http.public_url", "Where browsers reach the server, such as https://fleet.example: for links and for the identity provider; empty = http.listen.",
        optional_url, http.public_url, show_optional_text;
    "http.oidc_issuer", "Issuer URL of an identity provider (OpenID Connect), https unless on this machine; empty = local accounts only.",
        optional_url, http.oidc_issuer, show_optional_text;
    "http.oidc_client_id", "What the server is called at the identity provider.",
        text, http.oidc_client_id, show_quoted;
    "http.oidc_client_secret_file", "File with the server's secret at the identity provider; empty = it has none (PKCE protects the sign-in in any case).",
        optional_path, http.oidc_client_secret_file, show_optional_path;
    "http.oidc_groups_claim", "Claim of the id token with the groups of a user.",
        text, http.oidc_groups_claim, show_quoted;
    "http.oidc_grants", "What the members of groups may do: `group=reader`, `=operator` or `=administrator`; `group=operator:site:ID` or `:subscription:ID` for a part.",
        texts, http.oidc_grants, show_list;
    "http.oidc_ca_file", "PEM file with the roots that the identity provider's certificate is checked against; empty = those of the system.",
        optional_path, http.oidc_ca_file, show_optional_path;
    "health.cadence", "Time between two sweeps, 100ms to 10s: also the most that a verdict comes late.",
        |w: &[String]| period(w, limits::CADENCE_MIN, limits::CADENCE_MAX), health.cadence, show_duration;
    "health.policy", "Built-in policy that everything is layered on: `default`, or `demo` with deadlines of seconds.",
        |w: &[String]| choice(w, &["default", "demo"]), health.policy, show_quoted;
    "health.versions_file", "TOML file with the version support table; empty = the built-in table.",
        optional_path, health.versions_file, show_optional_path;
    "health.settings_generation", "Settings generation that sensors should run with, 0 to 9223372036854775807; 0 = nothing is asked for and *settings out of sync* stays silent.",
        |w: &[String]| number(w, 0, i64::MAX as u64), health.settings_generation, show_plain;
    "health.threat_intel_newest", "Day of the newest threat-intelligence package, such as 2026-11-24; empty = unknown, and only what sensors say of themselves counts.",
        optional_day, health.threat_intel_newest, show_optional_day;
    "store.checkpoint_every", "Time between two checkpoints of live state, 1s to 10m. After a crash, last-seen is right to within one.",
        |w: &[String]| period(w, Duration::from_secs(1), Duration::from_secs(600)), store.checkpoint_every, show_duration;
    "store.journal_keep", "How long cleared health messages are kept, 1d to 3650d.",
        |w: &[String]| period(w, Duration::from_secs(86_400), Duration::from_secs(3_650 * 86_400)), store.journal_keep, show_duration;
    "store.sensors_max", "Sensors that live state has room for, 1 to 16777216. Memory is taken as sensors are added.",
        |w: &[String]| number(w, 1, 1 << 24).map(|n| n as u32), store.sensors_max, show_plain;
    "backup.dir", "Folder for the backups that are made through the API, best on another disk; empty = `backups` in data_dir. They hold the keys of the certificate authority.",
        optional_path, backup.dir, show_optional_path;
    "backup.keep", "Backups kept in backup.dir, 1 to 1000; when a new one is complete, the oldest beyond are removed.",
        |w: &[String]| number(w, 1, limits::BACKUPS_KEEP_MAX as u64).map(|n| n as usize), backup.keep, show_plain;
    "identity.certificate_life", "How long a sensor's or gateway's certificate is good, 10s to 366d. It renews itself when a third is left.",
        |w: &[String]| period(w, limits::PEER_CERTIFICATE_LIFE_MIN, limits::PEER_CERTIFICATE_LIFE_MAX), identity.certificate_life, show_duration;
    "identity.renewal_grace", "For how long a certificate that ran out may still be renewed, 0s to 3660d; after that the sensor is activated again.",
        |w: &[String]| period(w, Duration::ZERO, limits::RENEWAL_GRACE_MAX), identity.renewal_grace, show_duration;
    "identity.clock_drift_max", "How far a sensor's clock may be from the server's when it enrols, 1s to 1d.",
        |w: &[String]| period(w, Duration::from_secs(1), Duration::from_secs(86_400)), identity.clock_drift_max, show_duration;
    "log.level", "error, warn, info or debug, or a filter such as `info,fleetpulse::ingest=debug`.",
        level, log.level, show_quoted;
    "log.format", "`text` for people, `json` for machines.",
        |w: &[String]| choice(w, &["text", "json"]).map(|c| if c == "json" { LogFormat::Json } else { LogFormat::Text }), log.format, show_format;
}

fn one(written: &[String]) -> Result<&str, String> {
    match written {
        [value] => Ok(value.trim()),
        _ => Err("one value".into()),
    }
}

fn path(written: &[String]) -> Result<PathBuf, String> {
    match one(written)? {
        "" => Err("a path".into()),
        text if text.contains('\0') => Err("a path without NUL bytes".into()),
        text => Ok(PathBuf::from(text)),
    }
}

fn optional_path(written: &[String]) -> Result<Option<PathBuf>, String> {
    if one(written)?.is_empty() { Ok(None) } else { path(written).map(Some) }
}

/// A day of the calendar, told by its parts: text that sorts as days do.
fn optional_day(written: &[String]) -> Result<Option<String>, String> {
    let text = one(written)?;
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<jiff::civil::Date>() {
        Ok(day) if day.to_string() == text => Ok(Some(text.to_owned())),
        _ => Err("a day such as 2026-11-24, or nothing".into()),
    }
}

fn address(written: &[String]) -> Result<SocketAddr, String> {
    one(written)?.parse().map_err(|_| "an address and port such as 0.0.0.0:4433 or [::]:4433".into())
}

fn number(written: &[String], least: u64, most: u64) -> Result<u64, String> {
    let valid = || format!("a whole number from {least} to {most}");
    let value: u64 = one(written)?.parse().map_err(|_| valid())?;
    if (least..=most).contains(&value) { Ok(value) } else { Err(valid()) }
}

fn period(written: &[String], least: Duration, most: Duration) -> Result<Duration, String> {
    let valid =
        || format!("a duration from {} to {}, such as 10s", duration::format(least), duration::format(most));
    let value = duration::parse(one(written)?).map_err(|_| valid())?;
    if (least..=most).contains(&value) { Ok(value) } else { Err(valid()) }
}

fn boolean(written: &[String]) -> Result<bool, String> {
    one(written)?.parse().map_err(|_| "true or false".into())
}

fn choice(written: &[String], valid: &[&str]) -> Result<String, String> {
    let value = one(written)?;
    if valid.contains(&value) { Ok(value.to_owned()) } else { Err(format!("one of {}", valid.join(", "))) }
}

fn text(written: &[String]) -> Result<String, String> {
    match one(written)? {
        text if (1..=256).contains(&text.len()) && !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err("a text of 1 to 256 characters".into()),
    }
}

fn texts(written: &[String]) -> Result<Vec<String>, String> {
    let given: Vec<String> = written.iter().filter(|text| !text.is_empty()).cloned().collect();
    let good = |text: &String| text.len() <= 256 && !text.chars().any(char::is_control);
    if given.len() <= 256 && given.iter().all(good) {
        Ok(given)
    } else {
        Err("at most 256 texts of at most 256 characters".into())
    }
}

/// `https://host`, or `http://` for this machine alone.
fn optional_url(written: &[String]) -> Result<Option<String>, String> {
    let text = one(written)?;
    if text.is_empty() {
        return Ok(None);
    }
    let clean = text.len() <= 512 && text.chars().all(|c| c.is_ascii_graphic());
    let plain_here = ["http://127.0.0.1", "http://[::1]", "http://localhost"].iter().any(|start| {
        text.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    });
    if clean && (text.strip_prefix("https://").is_some_and(|rest| !rest.is_empty()) || plain_here) {
        Ok(Some(text.to_owned()))
    } else {
        Err("a URL such as https://fleet.example, http only on this machine; or nothing".into())
    }
}

fn show_optional_text(value: &Option<String>) -> String {
    quoted(value.as_deref().unwrap_or_default())
}

fn metrics_access(written: &[String]) -> Result<MetricsAccess, String> {
    let name = choice(written, &MetricsAccess::ALL.map(MetricsAccess::as_str))?;
    let found = MetricsAccess::ALL.into_iter().find(|access| access.as_str() == name);
    found.ok_or_else(|| "one of these".into())
}

fn names(written: &[String]) -> Result<Vec<String>, String> {
    let good = |name: &String| {
        !name.is_empty()
            && name.len() <= 253
            && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-:*".contains(c))
    };
    if (1..=32).contains(&written.len()) && written.iter().all(good) {
        Ok(written.to_vec())
    } else {
        Err("1 to 32 DNS names or IP addresses".into())
    }
}

/// Addresses stand for networks of one.
fn networks(written: &[String]) -> Result<Vec<ipnet::IpNet>, String> {
    let network = |text: &String| {
        let text = text.trim();
        let one = || text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
        text.parse::<ipnet::IpNet>().or_else(|_| one()).ok()
    };
    let given: Vec<&String> = written.iter().filter(|text| !text.trim().is_empty()).collect();
    let read: Option<Vec<ipnet::IpNet>> = given.into_iter().map(network).collect();
    read.filter(|networks| networks.len() <= limits::TRUSTED_PROXIES_MAX)
        .ok_or_else(|| "up to 64 addresses or networks such as 127.0.0.1, 10.0.0.0/8, fd00::/8".into())
}

fn show_networks(value: &[ipnet::IpNet]) -> String {
    show_list(&value.iter().map(ToString::to_string).collect::<Vec<_>>())
}

fn level(written: &[String]) -> Result<String, String> {
    let text = one(written)?;
    match tracing_subscriber::EnvFilter::builder().parse(text) {
        Ok(_) if !text.is_empty() && text.len() <= 500 => Ok(text.to_owned()),
        _ => Err("error, warn, info, debug, or a filter such as info,fleetpulse::ingest=debug".into()),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn show_plain(value: &impl ToString) -> String {
    value.to_string()
}

fn show_quoted(value: &impl ToString) -> String {
    quoted(&value.to_string())
}

fn show_path(value: &std::path::Path) -> String {
    quoted(&value.to_string_lossy())
}

fn show_optional_path(value: &Option<PathBuf>) -> String {
    value.as_deref().map_or_else(|| quoted(""), show_path)
}

fn show_optional_day(value: &Option<String>) -> String {
    quoted(value.as_deref().unwrap_or_default())
}

fn show_duration(value: &Duration) -> String {
    quoted(&duration::format(*value))
}

fn show_list(value: &[String]) -> String {
    format!("[{}]", value.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
}

fn tls_mode(written: &[String]) -> Result<TlsMode, String> {
    let name = choice(written, &TlsMode::ALL.map(TlsMode::as_str))?;
    let found = TlsMode::ALL.into_iter().find(|mode| mode.as_str() == name);
    found.ok_or_else(|| "one of these".into())
}

fn show_tls_mode(value: &TlsMode) -> String {
    quoted(value.as_str())
}

fn show_metrics_access(value: &MetricsAccess) -> String {
    quoted(value.as_str())
}

fn show_format(value: &LogFormat) -> String {
    quoted(match value {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    })
}
