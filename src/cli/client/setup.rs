//! `fleetpulse setup`: the first administrator, with the link that the server printed, from a terminal.

use clap::Args;
use serde_json::json;

use super::http::{Call, Method};
use super::login::{Account, USUAL_LIFE};
use super::password::Password;
use super::profile::{Secret, check_token};
use super::{EXIT_CODES, Remote, stdin};
use crate::cli::Failure;

/// Flags of `setup`.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fleetpulse setup 'http://127.0.0.1:8080/setup?token=...' ann
  fleetpulse setup - ann

The second asks for the link. What stands in a command line, others on this machine can read while it runs; where there \
are others, use it. Afterwards you are signed in, as by `fleetpulse login`.

{EXIT_CODES}"))]
pub(in crate::cli) struct Setup {
    /// The link that `fleetpulse serve` printed; - for standard input
    link: String,
    /// The name to sign in with
    name: String,
    /// The name that people have
    #[arg(long, default_value = "")]
    full_name: String,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    password: Password,
}

impl Setup {
    pub(in crate::cli) fn run(self) -> Result<(), Failure> {
        self.remote.told(self.set_up())
    }

    fn set_up(&self) -> Result<(), Failure> {
        let link = if self.link == "-" { stdin::asked("the set-up link")? } else { self.link.clone() };
        let (url, token) = parts(&link)?;
        let account = Account::find(&self.remote, Some(&url))?;
        let http = account.connect(&self.remote, "setup")?;
        let password = self.password.new_one(&self.name)?;
        let body = json!({
            "token": token.0, "name": self.name, "password": password.0, "full_name": self.full_name,
        });
        http.call(&Call::new(Method::Post, "/api/v1/setup").json(body))?;
        account.sign_in(&self.remote, &self.name, &password, USUAL_LIFE)
    }
}

/// The server's address, and the token.
fn parts(link: &str) -> Result<(String, Secret), Failure> {
    let wrong = || Failure::usage("that is no set-up link; copy the one that `fleetpulse serve` printed");
    let (url, token) = link.trim().split_once("/setup?token=").ok_or_else(wrong)?;
    Ok((url.to_owned(), check_token(token).map_err(|_| wrong())?))
}
