//! From the four sources to one [`Config`], or one clear line.

use std::fmt;
use std::path::Path;

use super::{Config, ConfigError, KEYS, TlsMode};

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, by its path.
    File(String),
    /// An environment variable, by its name.
    Environment(String),
    /// A flag of the command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => f.write_str(&cut(path, SHOWN_MESSAGE_CHARS)),
            Source::Environment(name) => write!(f, "environment variable {}", shorten(name)),
            Source::Flag => write!(f, "command line"),
        }
    }
}

/// Longest value that an error repeats.
const SHOWN_VALUE_CHARS: usize = 80;
/// Longest path, and longest message of the TOML library, that an error repeats.
const SHOWN_MESSAGE_CHARS: usize = 300;
/// Prefix of environment variables.
const ENVIRONMENT_PREFIX: &str = "FLEETPULSE_";

/// Default < file < environment < flags (`key=value`).
pub fn from_sources(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[(String, String)],
) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    if let Some(path) = file {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable { path: shown.clone(), error: error.to_string() })?;
        apply_toml(&mut config, &shown, &text)?;
    }
    let mut variables: Vec<_> =
        environment.filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
    variables.sort();
    for (name, value) in variables {
        let key = name[ENVIRONMENT_PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
        apply(&mut config, Source::Environment(name), &key, &split_list(&key, &value))?;
    }
    for (key, value) in flags {
        apply(&mut config, Source::Flag, key, &split_list(key, value))?;
    }
    check_together(config)
}

/// From the text of a file alone.
pub fn from_toml(path: &str, text: &str) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    apply_toml(&mut config, path, text)?;
    check_together(config)
}

/// The whole configuration as TOML, each key with its doc: `from_toml` reads it back unchanged.
pub fn render(config: &Config) -> String {
    let mut text = String::new();
    let mut section = "";
    for key in KEYS {
        let (key_section, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        if key_section != section {
            text.push_str(&format!("\n[{key_section}]\n"));
            section = key_section;
        }
        text.push_str(&format!("# {}\n{name} = {}\n", key.doc, (key.show)(config)));
    }
    text
}

fn apply_toml(config: &mut Config, path: &str, text: &str) -> Result<(), ConfigError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::NotToml {
        path: path.into(),
        error: one_line(&error, text),
    })?;
    let mut flat = Vec::new();
    flatten("", &table, &mut flat);
    for (key, values) in flat {
        apply(config, Source::File(path.into()), &key, &values)?;
    }
    Ok(())
}

/// The library's message shows the place as a picture of several lines; a log and a terminal want one.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let place =
        before.map_or_else(String::new, |before| format!("line {}: ", before.matches('\n').count() + 1));
    place + &cut(error.message(), SHOWN_MESSAGE_CHARS)
}

/// Nested tables become dotted keys; a value becomes the list of its texts.
fn flatten(prefix: &str, table: &toml::Table, flat: &mut Vec<(String, Vec<String>)>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, flat),
            toml::Value::Array(items) => flat.push((key, items.iter().map(scalar).collect())),
            other => flat.push((key, vec![scalar(other)])),
        }
    }
}

fn scalar(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Environment and flags write a list with commas, where a key takes one.
fn split_list(key: &str, value: &str) -> Vec<String> {
    if matches!(key, "ingest.server_names" | "http.oidc_grants" | "http.trusted_proxies") {
        value.split(',').map(|item| item.trim().to_owned()).collect()
    } else {
        vec![value.to_owned()]
    }
}

fn apply(config: &mut Config, origin: Source, key: &str, written: &[String]) -> Result<(), ConfigError> {
    let Some(known) = KEYS.iter().find(|known| known.name == key) else {
        let hint = nearest(key).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
        return Err(ConfigError::UnknownKey { origin, key: shorten(key), hint });
    };
    (known.set)(config, written).map_err(|valid| ConfigError::BadValue {
        origin,
        key: key.to_owned(),
        value: shorten(&written.join(", ")),
        valid,
    })
}

fn check_together(config: Config) -> Result<Config, ConfigError> {
    let beyond = !config.http.listen.ip().is_loopback();
    let http = &config.http;
    if http.tls == TlsMode::Files && (http.tls_certificate.is_none() || http.tls_key.is_none()) {
        return Err(ConfigError::Conflict {
            what: "`http.tls` = `files` without both files".into(),
            valid: "set `http.tls_certificate` and `http.tls_key` to PEM files".into(),
        });
    }
    if beyond && http.tls == TlsMode::Off && !http.plain_beyond_loopback {
        return Err(ConfigError::Conflict {
            what: format!("`http.listen` = `{}` would serve plain HTTP to other hosts", config.http.listen),
            valid: "listen on 127.0.0.1 or [::1], set `http.tls`, or put a proxy with TLS in front and set `http.plain_beyond_loopback` = true"
                .into(),
        });
    }
    let ingest = &config.ingest;
    if ingest.listen == ingest.enrol_listen && ingest.listen.port() != 0 {
        return Err(ConfigError::Conflict {
            what: format!("`ingest.listen` and `ingest.enrol_listen` are both `{}`", ingest.listen),
            valid: "give enrolment a port of its own".into(),
        });
    }
    Ok(config)
}

fn shorten(text: &str) -> String {
    cut(text, SHOWN_VALUE_CHARS)
}

/// At most so many characters, none of which moves a terminal's cursor.
fn cut(text: &str, chars_max: usize) -> String {
    let clean: String =
        text.chars().take(chars_max).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(chars_max).is_some() { format!("{clean}...") } else { clean }
}

/// The key that differs least, if it is near enough to be a slip of the hand.
fn nearest(key: &str) -> Option<&'static str> {
    if key.len() > 64 {
        return None;
    }
    let tail = |name: &'static str| name.rsplit_once('.').map_or(name, |(_, tail)| tail);
    KEYS.iter()
        .map(|known| (distance(key, known.name).min(distance(key, tail(known.name))), known.name))
        .min()
        .filter(|&(edits, _)| edits <= 3)
        .map(|(_, name)| name)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        from_sources(None, std::iter::empty(), &pairs)
    }

    #[test]
    fn what_is_rendered_is_read_back() {
        let config =
            flags(&[("ingest.shards", "3"), ("ingest.server_names", "a.example, 10.0.0.1")]).unwrap();
        assert_eq!(from_toml("rendered", &render(&config)), Ok(config));
    }

    #[test]
    fn a_flag_beats_the_environment_and_that_beats_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[health]\ncadence = \"2s\"\n[ingest]\nshards = 2\n").unwrap();
        let environment = [
            ("FLEETPULSE_HEALTH__CADENCE".to_string(), "3s".to_string()),
            ("FLEETPULSE_INGEST__SHARDS".to_string(), "3".to_string()),
            ("PATH".to_string(), "/bin".to_string()),
        ];
        let flags = [("ingest.shards".to_string(), "4".to_string())];
        let config = from_sources(Some(file.path()), environment.into_iter(), &flags).unwrap();
        assert_eq!(config.health.cadence.as_secs(), 3);
        assert_eq!(config.ingest.shards, 4);
    }

    #[test]
    fn an_error_names_key_value_and_what_is_valid() {
        let check = |pairs: &[(&str, &str)], expected: &str| {
            let error = flags(pairs).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains('\n'), "one line: {error}");
        };
        check(
            &[("ingest.shards", "999")],
            "`ingest.shards` = `999` can't be used; give a whole number from 0 to 255",
        );
        check(&[("ingest.lisen", "x")], "did you mean `ingest.listen`?");
        check(&[("cadence", "1s")], "did you mean `health.cadence`?");
        check(&[("health.cadence", "1h")], "a duration from 100ms to 10s");
        check(&[("health.policy", "wild")], "one of default, demo");
        check(&[("http.listen", "0.0.0.0:80")], "plain HTTP to other hosts");
        check(&[("log.level", "a=b=c")], "error, warn, info, debug");
        check(&[("data_dir", "")], "give a path");
        check(&[("x\n\u{7}", "1")], "there is no key");
        let variable = ("FLEETPULSE_X\nY".to_owned(), "1".to_owned());
        let error = from_sources(None, [variable].into_iter(), &[]).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn a_file_with_unknown_sections_or_wrong_types_is_refused() {
        for text in ["x = 1", "[ingest]\nshards = \"many\"", "[ingest.deep]\nkey = 1", "ingest = 3", "[["] {
            let error = from_toml("test.toml", text).unwrap_err().to_string();
            assert!(error.starts_with("test.toml: ") && !error.contains('\n'), "{error}");
        }
        let error = from_toml("test.toml", "\n\n[[").unwrap_err().to_string();
        assert!(error.starts_with("test.toml: not TOML: line 3: "), "{error}");
        assert!(from_toml("test.toml", "").is_ok());
    }
}
