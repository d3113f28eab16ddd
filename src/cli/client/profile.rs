//! Which server a command speaks to, and as whom.
//!
//! Strongest first: flag, environment, profile, default. A token goes only where it was given for: that of a profile is
//! not sent to another address than the profile's, and none is sent readable over a network.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use ureq::http::Uri;

use super::Remote;
use crate::cli::Failure;
use crate::cli::paint::clean;
use crate::limits::{PROFILE_FILE_BYTES_MAX, TOKEN_FILE_BYTES_MAX};

/// The server on this machine.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// A secret that is never shown.
#[derive(Clone, Deserialize, Serialize, PartialEq, Eq)]
#[serde(transparent)]
pub(in crate::cli) struct Secret(pub(in crate::cli) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }
}

/// The profile file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profiles {
    /// The profile that is used when none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) default: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) profiles: BTreeMap<String, Profile>,
}

/// One server, and who we are there.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    pub(super) url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<Secret>,
    /// Of the token, when `fleetpulse login` made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<PathBuf>,
}

/// Where to, and as whom.
#[derive(Debug)]
pub(super) struct Target {
    /// Without a slash at its end.
    pub(super) url: String,
    pub(super) token: Option<Secret>,
    pub(super) ca: Option<PathBuf>,
}

/// Where the profile file lies.
pub(super) fn path() -> Result<PathBuf, Failure> {
    let of = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = of("XDG_CONFIG_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| of("HOME").map(|home| home.join(".config")));
    let wrong = "there is no place for profiles; set HOME, or give --url and --token-file";
    Ok(folder.ok_or_else(|| Failure::config(wrong))?.join("fleetpulse").join("profiles.toml"))
}

impl Profiles {
    /// Reads the file; none is an empty one.
    pub(super) fn read(path: &Path) -> Result<Profiles, Failure> {
        let wrong = |problem: &dyn fmt::Display| Failure::config(format!("{}: {problem}", path.display()));
        let mut file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Profiles::default()),
            Err(error) => return Err(wrong(&error)),
        };
        let mode = file.metadata().map_err(|error| wrong(&error))?.permissions().mode();
        let mut text = String::new();
        let read = (&mut file).take(PROFILE_FILE_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| wrong(&error))?;
        let profiles: Profiles = toml::from_str(&text)
            .map_err(|error| wrong(&format!("not a profile file: {}", clean(error.message()))))?;
        let secret = profiles.profiles.values().any(|profile| profile.token.is_some());
        if secret && mode & 0o077 != 0 {
            let advice = format!("others may read the tokens in it; chmod 600 {}", path.display());
            return Err(wrong(&advice));
        }
        Ok(profiles)
    }

    /// Reads the file, changes this and writes it, one program after the other: what others wrote meanwhile stays.
    pub(super) fn change(path: &Path, change: impl FnOnce(&mut Profiles)) -> Result<(), Failure> {
        let wrong = |error: io::Error| Failure::failed(format!("{}: {error}", path.display()));
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(wrong)?;
        // Beside the file, since the file itself is replaced.
        let lock = path.with_extension("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock);
        let lock = lock.map_err(wrong)?;
        lock.lock().map_err(wrong)?;
        let mut profiles = Profiles::read(path)?;
        change(&mut profiles);
        let text = toml::to_string(&profiles).map_err(Failure::failed)?;
        replace(path, folder, text.as_bytes()).map_err(wrong)
    }

    /// The profile of this name, or the default one.
    pub(super) fn find(&self, name: Option<&str>) -> Result<Option<(&str, &Profile)>, Failure> {
        let Some(wanted) = name.or(self.default.as_deref()) else { return Ok(None) };
        match self.profiles.get_key_value(wanted) {
            Some((name, profile)) => Ok(Some((name, profile))),
            None => {
                let there: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
                let right = match there.as_slice() {
                    [] => "there is none yet; `fleetpulse login` makes one".to_owned(),
                    names => format!("there are {}", names.join(", ")),
                };
                Err(Failure::config(format!("no profile is called `{}`; {right}", clean(wanted))))
            }
        }
    }
}

/// Writes a file whole and durably, for its owner only.
fn replace(path: &Path, folder: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(format!("{}.new", uuid::Uuid::new_v4()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&beside, path)) {
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    fs::File::open(folder)?.sync_all()
}

impl Target {
    /// From flags, environment and the profile file.
    pub(super) fn find(remote: &Remote) -> Result<Target, Failure> {
        let given = remote.url.as_deref().map(checked_url).transpose()?;
        let token = remote.token()?;
        // Where all is said, a broken file is nobody's concern.
        let needed = remote.profile.is_some() || given.is_none() || token.is_none();
        let profiles = match path().and_then(|path| Profiles::read(&path)) {
            Ok(profiles) => profiles,
            Err(_) if !needed => Profiles::default(),
            // Without a home there are no profiles, which matters to those who name one.
            Err(error) if remote.profile.is_some() || path().is_ok() => return Err(error),
            Err(_) => Profiles::default(),
        };
        let found = match profiles.find(remote.profile.as_deref()) {
            Err(error) if needed => return Err(error),
            found => found.ok().flatten(),
        };
        let of_profile = found.map(|(_, profile)| checked_url(&profile.url)).transpose()?;
        let same = given.is_none() || given == of_profile;
        let profile = found.map(|(_, profile)| profile).filter(|_| same);
        let token = match token {
            Some(token) => Some(token),
            None => profile.map(Profile::token).transpose()?.flatten(),
        };
        let url = given.or(of_profile).unwrap_or_else(|| DEFAULT_URL.to_owned());
        if token.is_some() {
            remote.check_way(&url, "the token")?;
        }
        let ca = remote.ca.clone().or_else(|| profile.and_then(|profile| profile.ca.clone()));
        Ok(Target { url, token, ca })
    }
}

impl Profile {
    fn token(&self) -> Result<Option<Secret>, Failure> {
        match (&self.token, &self.token_file) {
            (Some(token), _) => Ok(Some(token.clone())),
            (None, Some(path)) => read_token(path).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// The token in a file: its first line.
pub(super) fn read_token(path: &Path) -> Result<Secret, Failure> {
    let wrong = |problem: &dyn fmt::Display| {
        Failure::config(format!("{}: {problem}; give a file with the token and nothing else", path.display()))
    };
    let file = fs::File::open(path).map_err(|error| wrong(&error))?;
    let mut text = String::new();
    file.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    check_token(text.trim()).map_err(|problem| wrong(&problem))
}

/// What can stand in a header.
pub(super) fn check_token(text: &str) -> Result<Secret, &'static str> {
    if text.is_empty()
        || text.len() as u64 >= TOKEN_FILE_BYTES_MAX
        || !text.chars().all(|c| c.is_ascii_graphic())
    {
        return Err("not a token: a token is one word such as fp_...");
    }
    Ok(Secret(text.to_owned()))
}

/// An address as it is used: scheme and host, maybe a port, no slash at its end.
pub(super) fn checked_url(text: &str) -> Result<String, Failure> {
    let wrong = || {
        let shown = clean(text);
        Failure::config(format!(
            "`{shown}` is no address of a server; give one such as https://fleet.example.com"
        ))
    };
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme)).ok_or_else(wrong)?;
    let authority = uri.authority().filter(|found| !found.as_str().contains('@')).ok_or_else(wrong)?;
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong());
    }
    Ok(format!("{scheme}://{authority}"))
}

impl Remote {
    /// Refuses to send a secret where others can read along.
    pub(super) fn check_way(&self, url: &str, secret: &str) -> Result<(), Failure> {
        if self.plain_http || is_private(url) {
            return Ok(());
        }
        Err(Failure::config(format!(
            "{url} is plain HTTP to another host, so anybody between could read {secret}; \
             give an https:// address, or --plain-http if something else protects the way"
        )))
    }
}

/// Nobody between here and there can read along.
pub(super) fn is_private(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    uri.scheme_str() == Some("https") || uri.host().is_some_and(is_loopback)
}

/// This machine, by name or address.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_is_sent() {
        assert_eq!(checked_url("http://127.0.0.1:8080/").unwrap(), DEFAULT_URL);
        assert_eq!(checked_url("https://fleet.example.com").unwrap(), "https://fleet.example.com");
        for wrong in
            ["", "fleet", "ftp://x", "https://", "http://a/b", "http://a?b", "http://u:p@a", "\u{1b}"]
        {
            assert!(checked_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_goes_readable_only_where_nobody_reads_along() {
        for private in [DEFAULT_URL, "http://[::1]:1", "http://localhost", "https://fleet.example.com"] {
            assert!(is_private(private), "{private}");
        }
        for open in ["http://fleet.example.com", "http://10.0.0.1:8080", "http://localhost.example.com"] {
            assert!(!is_private(open), "{open}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let profile = Profile { token: Some(Secret("fp_secret".into())), ..Profile::default() };
        assert!(!format!("{profile:?}").contains("fp_secret"));
    }
}
