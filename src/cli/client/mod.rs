//! The API's own client: each command is one or a few requests of `/api/v1`, and nothing that the API does not give
//! to everybody.
//!
//! What is shared stands here: to which server and as whom ([`profile`]), requests with their retries ([`http`]),
//! refusals as people read them ([`problem`]), names for ids ([`find`]), answers as tables and as data ([`output`]).

mod account;
mod audit;
mod backup;
mod cell;
mod chosen;
mod download;
mod endpoints;
mod events;
mod files;
mod find;
mod fleet;
mod grants;
mod http;
mod jobs;
mod login;
mod many;
mod messages;
mod onboard;
mod output;
mod password;
mod people;
mod places;
mod policy;
mod problem;
mod profile;
mod progress;
mod quiet;
mod sensors;
mod session;
mod setup;
mod sites;
mod stdin;
mod thing;

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

pub(super) use account::{ChangePassword, Whoami};
pub(super) use audit::Audit;
pub(super) use backup::Backup;
pub(super) use download::signature_of;
pub(super) use endpoints::Endpoints;
pub(super) use events::Events;
pub(super) use fleet::Fleet;
pub(super) use jobs::Jobs;
pub(super) use login::{Login, Logout};
pub(super) use messages::Messages;
pub(super) use password::Password;
pub(super) use people::{Tokens, Users};
pub(super) use places::{Gateways, Subscriptions, Zones};
pub(super) use policy::Policy;
pub(super) use sensors::Sensors;
pub(super) use setup::Setup;
pub(super) use sites::Sites;

use self::cell::Column;
use self::http::{Call, Http};
use self::output::{Format, List, Out};
use self::profile::{Secret, Target, check_token, is_private, read_token};
use super::Failure;
use crate::limits::CLIENT_ITEMS_MAX;

/// Environment variables that are the client's and no key of the server's configuration.
pub(super) const VARIABLES: [&str; 5] =
    ["FLEETPULSE_URL", "FLEETPULSE_TOKEN", "FLEETPULSE_CA", "FLEETPULSE_PROFILE", "FLEETPULSE_PASSWORD"];

/// At the end of every command's help.
pub(super) const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 3 refused by the server or not found, 4 not signed in or not allowed, 5 the server can't be \
reached, 64 wrong usage, 78 wrong configuration.";

/// Which server, as whom, and how answers look.
#[derive(Args)]
pub(super) struct Remote {
    /// Profile in ~/.config/fleetpulse/profiles.toml
    #[arg(long, global = true, value_name = "NAME", env = "FLEETPULSE_PROFILE", help_heading = "Server")]
    profile: Option<String>,
    /// Address of the server [default: the profile's, or http://127.0.0.1:8080]
    #[arg(long, global = true, value_name = "URL", env = "FLEETPULSE_URL", help_heading = "Server")]
    url: Option<String>,
    /// File with an API token, or - for standard input [default: FLEETPULSE_TOKEN, then the profile's]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Server")]
    token_file: Option<PathBuf>,
    /// Certificates (PEM) of the authority that signed the server's [default: the profile's, then the system's]
    #[arg(long, global = true, value_name = "FILE", env = "FLEETPULSE_CA", help_heading = "Server")]
    ca: Option<PathBuf>,
    /// Send the token over plain HTTP to another host
    #[arg(long, global = true, help_heading = "Server")]
    plain_http: bool,
    /// How answers look
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", help_heading = "Output")]
    output: Option<Format>,
    /// Short for --output json
    #[arg(long, global = true, conflicts_with = "output", help_heading = "Output")]
    json: bool,
}

impl Remote {
    fn token(&self) -> Result<Option<Secret>, Failure> {
        token_given(self.token_file.as_deref())
    }

    fn format(&self) -> Format {
        self.output.unwrap_or(if self.json { Format::Json } else { Format::Table })
    }

    /// Errors are JSON when answers are.
    fn told(&self, done: Result<(), Failure>) -> Result<(), Failure> {
        done.map_err(|failure| if self.format().is_json() { failure.into_json() } else { failure })
    }
}

/// The token in a file, on standard input (`-`), or in the environment.
fn token_given(file: Option<&Path>) -> Result<Option<Secret>, Failure> {
    match file {
        Some(path) if path.as_os_str() == "-" => check_token(stdin::line("the token")?.trim())
            .map(Some)
            .map_err(|wrong| Failure::config(format!("standard input: {wrong}"))),
        Some(path) => read_token(path).map(Some),
        None => {
            let Some(token) = std::env::var_os("FLEETPULSE_TOKEN").filter(|token| !token.is_empty()) else {
                return Ok(None);
            };
            let token = check_token(&token.to_string_lossy());
            token.map(Some).map_err(|wrong| Failure::config(format!("FLEETPULSE_TOKEN: {wrong}")))
        }
    }
}

/// The token that another program of ours sends to this address, under the client's rules for secrets.
pub(super) fn token_for(url: &str, file: Option<&Path>) -> Result<Option<String>, Failure> {
    let token = token_given(file)?;
    if token.is_some() && !is_private(url) {
        return Err(Failure::config(format!(
            "{url} is plain HTTP to another host, so anybody between could read the token; give an https:// address"
        )));
    }
    Ok(token.map(|Secret(token)| token))
}

/// How much of a list.
#[derive(Args)]
pub(super) struct Most {
    /// Items at most [default: all, up to 1,000,000]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    max: Option<u32>,
}

/// One command's connection and output.
pub(super) struct Client {
    http: Http,
    out: Out,
}

/// Does a command.
pub(super) fn run(
    remote: &Remote,
    what: &str,
    work: impl FnOnce(&mut Client) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let done = Target::find(remote)
        .and_then(|target| Http::new(target, what))
        .and_then(|http| work(&mut Client { http, out: Out::new(remote.format()) }));
    remote.told(done)
}

impl Client {
    /// Shows a list.
    fn list(&mut self, call: &Call, columns: &[Column], most: &Most) -> Result<(), Failure> {
        self.list_as(call, columns, most, |item| item)
    }

    /// Shows a list whose items are first made fit for its columns.
    fn list_as(
        &mut self,
        call: &Call,
        columns: &[Column],
        most: &Most,
        fit: impl Fn(Value) -> Value,
    ) -> Result<(), Failure> {
        let wanted = most.max.map_or(CLIENT_ITEMS_MAX, |max| max as usize);
        let mut list = List::new(&mut self.out, columns);
        let more = self.http.each(call, wanted, |item| list.item(&fit(item)))?;
        list.end()?;
        if more && most.max.is_none() {
            return Err(Failure::failed(format!(
                "cut after {wanted} items; filter, or ask for more with --max"
            )));
        }
        Ok(())
    }

    /// Shows one thing.
    fn show(&mut self, call: &Call, columns: &[Column]) -> Result<(), Failure> {
        let document = self.http.call(call)?.body;
        self.out.one(&document, columns)
    }

    /// Shows rows that are there already.
    fn rows(&mut self, rows: &[Value], columns: &[Column]) -> Result<(), Failure> {
        let mut list = List::new(&mut self.out, columns);
        rows.iter().try_for_each(|row| list.item(row))?;
        list.end().map(drop)
    }

    /// Says something to people that is no answer.
    fn note(&self, text: &str) {
        if !self.out.format().is_json() {
            eprintln!("fleetpulse: {text}");
        }
    }

    fn note_lines(&self, lines: &[String]) {
        lines.iter().for_each(|line| self.note(line));
    }

    /// Says what was done.
    fn done(&mut self, sentence: &str, document: &Value) -> Result<(), Failure> {
        self.out.done(sentence, document)
    }

    /// Asks before many things change or something is gone. Without a terminal nobody can be asked.
    /// `instead`: what else there is to do, such as a dry run.
    fn confirm(&self, question: &str, yes: bool, instead: &str) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(Failure::usage(format!("{question} Say so with --yes{instead}")));
        }
        eprint!("{} [y/N] ", super::paint::clean(question));
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.map_err(|error| Failure::failed(format!("standard input: {error}")))?;
        match answer.trim().to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::failed("nothing was changed")),
        }
    }
}
