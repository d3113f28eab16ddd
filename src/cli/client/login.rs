//! `fleetpulse login` and `logout`: from name and password to a token in a profile, and back.
//!
//! The password is used once and kept nowhere. The session that it opens makes a token and is closed again. A profile
//! has one token: the one before is made void when there is another, and when nobody needs it any more.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::http::{Call, Http, Method};
use super::password::Password;
use super::profile::{DEFAULT_URL, Profile, Profiles, Secret, Target, checked_url, path};
use super::quiet::after;
use super::session::Session;
use super::{EXIT_CODES, Out, Remote, problem};
use crate::cli::Failure;
use crate::cli::paint::clean;
use crate::config::duration;
use crate::time::{Clock, SystemClock};

/// Profile of those who name none.
const USUAL: &str = "default";
/// How long a token of `login` is good when nobody says.
pub(super) const USUAL_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// Flags of `login`.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fleetpulse login ann
  fleetpulse login ann --profile plant --url https://fleet.example.com --ca fleet-ca.pem
  fleetpulse login ci --password-stdin --for 1d < password.txt

The profile becomes the default one if it is the first. It lies in ~/.config/fleetpulse/profiles.toml, for you alone. \
A profile is of one server; signing in again makes its former token void.

{EXIT_CODES}"))]
pub(in crate::cli) struct Login {
    /// Your name
    name: String,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    password: Password,
    /// How long the token is good [default: 30d]
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    length: Option<Duration>,
}

impl Login {
    pub(in crate::cli) fn run(self) -> Result<(), Failure> {
        self.remote.told(self.sign_in())
    }

    fn sign_in(&self) -> Result<(), Failure> {
        let account = Account::find(&self.remote, self.remote.url.as_deref())?;
        let password = self.password.known(&self.name)?;
        account.sign_in(&self.remote, &self.name, &password, self.length.unwrap_or(USUAL_LIFE))
    }
}

/// A profile to be, or to be changed.
pub(super) struct Account {
    file: PathBuf,
    profile: String,
    url: String,
    ca: Option<PathBuf>,
    /// As it is so far.
    known: Option<Profile>,
}

impl Account {
    /// The profile that a sign-in at this address is for.
    pub(super) fn find(remote: &Remote, url: Option<&str>) -> Result<Account, Failure> {
        let file = path()?;
        let profiles = Profiles::read(&file)?;
        let named = remote.profile.clone();
        let profile = named.or_else(|| profiles.default.clone()).unwrap_or_else(|| USUAL.to_owned());
        let known = profiles.profiles.get(&profile).cloned();
        let old = known.as_ref().map(|known| checked_url(&known.url)).transpose()?;
        let given = url.map(checked_url).transpose()?;
        let url = given.or_else(|| old.clone()).unwrap_or_else(|| DEFAULT_URL.to_owned());
        let same = old.as_ref() == Some(&url);
        if let Some(old) = old.filter(|_| !same && remote.profile.is_none()) {
            return Err(Failure::usage(format!(
                "profile `{}` is of {old}; name the one that {url} is to have with --profile",
                clean(&profile)
            )));
        }
        // Where a profile's address changes, its authority does not go with it.
        let kept = known.as_ref().and_then(|known| known.ca.clone()).filter(|_| same);
        let ca = remote.ca.clone().or(kept).map(std::path::absolute).transpose().map_err(Failure::failed)?;
        Ok(Account { file, profile, url, ca, known })
    }

    /// A connection without a token.
    pub(super) fn connect(&self, remote: &Remote, what: &str) -> Result<Http, Failure> {
        remote.check_way(&self.url, "the password")?;
        Http::new(Target { url: self.url.clone(), token: None, ca: self.ca.clone() }, what)
    }

    /// Makes a token, keeps it in the profile, and makes the one before void.
    pub(super) fn sign_in(
        self,
        remote: &Remote,
        user: &str,
        password: &Secret,
        life: Duration,
    ) -> Result<(), Failure> {
        let made = self.token(&self.connect(remote, "login")?, user, password, life)?;
        let Account { file, profile, url, ca, known } = self;
        Profiles::change(&file, |profiles| {
            let (token, token_id) = (Some(made.secret), Some(made.id));
            let new = Profile { url: url.clone(), token, token_id, token_file: None, ca };
            profiles.profiles.insert(profile.clone(), new);
            profiles.default.get_or_insert_with(|| profile.clone());
        })?;
        if let Some(Err(failure)) = known.map(|known| void(remote, &known)) {
            // The new one is good all the same.
            eprintln!("fleetpulse: the profile's former token could not be made void: {}", failure.message);
        }
        let until = problem::shown(&made.expires);
        let document = json!({ "profile": profile, "url": url, "file": file, "expires": made.expires });
        let place = file.display();
        let text = format!("signed in at {url} as {user} until {until}; profile `{profile}` in {place}");
        Out::new(remote.format()).done(&text, &document)
    }

    fn token(&self, http: &Http, user: &str, password: &Secret, life: Duration) -> Result<Made, Failure> {
        let session = Session::open(http, user, password)?;
        let now = SystemClock::start().unix();
        // Names are one of a kind; the time tells several sign-ins apart.
        let label = format!("login {} {}", self.profile, after(now, Duration::ZERO)?);
        let body = json!({ "name": label, "expires": after(now, life)? });
        let made = session.call(Call::new(Method::Post, "/api/v1/tokens").json(body));
        // The session is of no more use, whether there is a token or not.
        let closed = session.close();
        let made = made?.body;
        closed?;
        Made::of(&made)
            .ok_or_else(|| Failure::failed("login: the server gave no token; is it of another version?"))
    }
}

/// A token that was made.
struct Made {
    secret: Secret,
    id: String,
    expires: String,
}

impl Made {
    fn of(document: &Value) -> Option<Made> {
        let text = |name: &str| document[name].as_str().map(str::to_owned);
        Some(Made { secret: Secret(text("secret")?), id: text("id")?, expires: text("expires")? })
    }
}

/// Makes the token of a profile void, where it is from; that it is so already is as good.
fn void(remote: &Remote, profile: &Profile) -> Result<(), Failure> {
    let (Some(token), Some(id)) = (profile.token.clone(), &profile.token_id) else { return Ok(()) };
    let url = checked_url(&profile.url)?;
    remote.check_way(&url, "the token")?;
    let http = Http::new(Target { url, token: Some(token), ca: profile.ca.clone() }, "logout")?;
    match http.call(&Call::new(Method::Delete, format!("/api/v1/tokens/{id}"))) {
        Err(failure) if !failure.is_problem(&["bad-token", "not-found"]) => Err(failure),
        _ => Ok(()),
    }
}

/// Flags of `logout`.
#[derive(Args)]
#[command(after_help = format!("\
The profile is that of --profile or the default one; its token is made void at the server that it is from, whatever \
--url says.

{EXIT_CODES}"))]
pub(in crate::cli) struct Logout {
    #[command(flatten)]
    remote: Remote,
}

impl Logout {
    pub(in crate::cli) fn run(self) -> Result<(), Failure> {
        self.remote.told(self.sign_out())
    }

    fn sign_out(&self) -> Result<(), Failure> {
        let file = path()?;
        let profiles = Profiles::read(&file)?;
        let Some((name, profile)) = profiles.find(self.remote.profile.as_deref())? else {
            return Err(Failure::usage("no profile is in use; name one with --profile"));
        };
        if profile.token_id.is_none() {
            return Err(Failure::failed("the profile has no token of `fleetpulse login`"));
        }
        void(&self.remote, profile)?;
        Profiles::change(&file, |profiles| {
            let now = profiles.profiles.get_mut(name).filter(|now| now.token_id == profile.token_id);
            if let Some(now) = now {
                (now.token, now.token_id) = (None, None);
            }
        })?;
        let document = json!({ "profile": name, "url": profile.url });
        let text = format!("signed out at {}; profile `{name}` has no token any more", profile.url);
        Out::new(self.remote.format()).done(&text, &document)
    }
}
