//! `fleetpulse login` and `logout`: from name and password to a token in a profile, and back.
//!
//! The password is used once and kept nowhere. The session that it opens makes a token and is closed again.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::http::{Call, Http, Method};
use super::password::Password;
use super::profile::{DEFAULT_URL, Profile, Profiles, Secret, Target, checked_url, path};
use super::quiet::after;
use super::{EXIT_CODES, Remote, run};
use crate::cli::{Failure, exit};
use crate::config::duration;
use crate::time::{Clock, SystemClock};

/// Profile of those who name none.
const USUAL: &str = "default";

/// Flags of `login`.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fleetpulse login ann
  fleetpulse login ann --profile plant --url https://fleet.example.com --ca fleet-ca.pem
  fleetpulse login ci --password-stdin --for 1d < password.txt

The profile becomes the default one if it is the first. It lies in ~/.config/fleetpulse/profiles.toml, for you alone.

{EXIT_CODES}"))]
pub(in crate::cli) struct Login {
    /// Your name
    name: String,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    password: Password,
    /// How long the token is good
    #[arg(long = "for", value_name = "TIME", default_value = "30d", value_parser = duration::parse)]
    length: Duration,
}

impl Login {
    pub(in crate::cli) fn run(self) -> Result<(), Failure> {
        let format = self.remote.format();
        self.sign_in().map_err(|failure| if format.is_json() { failure.into_json() } else { failure })
    }

    fn sign_in(&self) -> Result<(), Failure> {
        let file = path()?;
        let mut profiles = Profiles::read(&file)?;
        let name = self
            .remote
            .profile
            .clone()
            .or_else(|| profiles.default.clone())
            .unwrap_or_else(|| USUAL.to_owned());
        let known = profiles.profiles.get(&name).cloned().unwrap_or_default();
        let url = match (&self.remote.url, known.url.as_str()) {
            (Some(url), _) => checked_url(url)?,
            (None, "") => DEFAULT_URL.to_owned(),
            (None, url) => checked_url(url)?,
        };
        // Where a profile's address changes, its authority does not go with it.
        let ca = self.remote.ca.clone().or(known.ca.filter(|_| known.url == url));
        let ca = ca.map(std::path::absolute).transpose().map_err(Failure::failed)?;
        let password = self.password.known(&self.name)?;
        let token = self.token(&url, ca.clone(), &password, &name)?;
        let profile =
            Profile { url: url.clone(), token: Some(token.0), token_id: Some(token.1), token_file: None, ca };
        profiles.profiles.insert(name.clone(), profile);
        profiles.default.get_or_insert_with(|| name.clone());
        profiles.write(&file)?;
        let mut out = super::Out::new(self.remote.format());
        let document = json!({ "profile": name, "url": url, "file": file });
        out.done(
            &format!("signed in at {url} as {}; profile `{name}` in {}", self.name, file.display()),
            &document,
        )
    }

    /// A token and its id.
    fn token(
        &self,
        url: &str,
        ca: Option<PathBuf>,
        password: &Secret,
        profile: &str,
    ) -> Result<(Secret, String), Failure> {
        let target = Target { url: url.to_owned(), token: None, ca, profile: None };
        self.remote.check_way(&target.url, "the password")?;
        let http = Http::new(target, "login")?;
        let call = Call::new(Method::Post, "/api/v1/session").once();
        let opened = http.call(&call.json(json!({ "name": self.name, "password": password.0 })))?;
        let strange = || Failure::failed("login: the server opened no session; is it of another version?");
        let cookie =
            opened.header("set-cookie").and_then(|value| value.split(';').next()).ok_or_else(strange)?;
        let csrf = opened.body["csrf"].as_str().ok_or_else(strange)?;
        // A session is a browser's; what writes with one says that it comes from the server's own page.
        let origin = url.trim_end_matches('/');
        let signed = |call: Call| {
            call.header("Cookie", cookie).header("X-Fleetpulse-CSRF", csrf).header("Origin", origin)
        };
        let now = SystemClock::start().unix();
        // Names are one of a kind; the time tells several sign-ins apart.
        let label = format!("login {profile} {}", after(now, Duration::ZERO)?);
        let body = json!({ "name": label, "expires": after(now, self.length)? });
        let made = http.call(&signed(Call::new(Method::Post, "/api/v1/tokens")).json(body));
        // The session is of no more use, whether there is a token or not.
        let closed = http.call(&signed(Call::new(Method::Delete, "/api/v1/session")));
        let made = made?.body;
        closed?;
        let (Some(secret), Some(id)) = (made["secret"].as_str(), made["id"].as_str()) else {
            return Err(Failure::failed("login: the server gave no token; is it of another version?"));
        };
        Ok((Secret(secret.to_owned()), id.to_owned()))
    }
}

/// Flags of `logout`.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub(in crate::cli) struct Logout {
    #[command(flatten)]
    remote: Remote,
}

impl Logout {
    pub(in crate::cli) fn run(self) -> Result<(), Failure> {
        run(&self.remote, "logout", |client| {
            let file = path()?;
            let mut profiles = Profiles::read(&file)?;
            let name = client.http.target().profile.clone();
            let Some(profile) = name.as_ref().and_then(|name| profiles.profiles.get_mut(name)) else {
                return Err(Failure::usage("no profile is in use; name one with --profile"));
            };
            let Some(id) = profile.token_id.take() else {
                return Err(Failure::failed("the profile has no token of `fleetpulse login`"));
            };
            profile.token = None;
            let deleted = client.http.call(&Call::new(Method::Delete, format!("/api/v1/tokens/{id}")));
            match deleted {
                Ok(_) => {}
                // It is void or gone already.
                Err(failure) if matches!(failure.code, exit::NOT_ALLOWED | exit::REFUSED) => {}
                Err(failure) => return Err(failure),
            }
            profiles.write(&file)?;
            let document = json!({ "profile": name });
            client.done(
                &format!("signed out; profile `{}` has no token any more", name.unwrap_or_default()),
                &document,
            )
        })
    }
}
