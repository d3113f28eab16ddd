//! Configuration, any text: refused in one clear line, or used; and what is used can be written down and read
//! back.
//!
//! Input: the file; then, after a NUL each, settings `key=value`, by turns a flag and an environment variable.

use fleetpulse::config::{Config, ConfigError, from_sources, from_toml, render};

/// Longest line that a person should have to read.
const LINE_CHARS_MAX: usize = 1_000;

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.split('\0');
    check(from_toml("fleetpulse.toml", parts.next().unwrap_or_default()));
    let (mut flags, mut environment) = (Vec::new(), Vec::new());
    for (number, part) in parts.enumerate() {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        if number % 2 == 0 {
            flags.push((key.to_owned(), value.to_owned()));
        } else {
            let name = key.to_ascii_uppercase().replace('.', "__");
            environment.push((format!("FLEETPULSE_{name}"), value.to_owned()));
        }
    }
    check(from_sources(None, environment.into_iter(), &flags));
}

fn check(read: Result<Config, ConfigError>) {
    match read {
        Ok(config) => {
            let rendered = render(&config);
            assert_eq!(from_toml("rendered", &rendered), Ok(config), "{rendered}");
        }
        Err(error) => {
            let line = error.to_string();
            assert!(!line.chars().any(char::is_control), "one line: {line:?}");
            assert!(line.chars().count() <= LINE_CHARS_MAX, "a short one: {line:?}");
        }
    }
}
