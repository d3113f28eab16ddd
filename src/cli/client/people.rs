//! `fleetpulse users` and `fleetpulse tokens`: who may do what, and programs that act for them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::cell::{Column, Show, text};
use super::files::NewFile;
use super::find::{TOKEN, USER};
use super::grants::{self, Grant, grant};
use super::http::{Call, Method};
use super::password::Password;
use super::quiet::after;
use super::thing::{Anywhere, Common, NoFile};
use super::{Client, EXIT_CODES, Remote, problem, run};
use crate::cli::Failure;
use crate::config::duration;
use crate::time::{Clock, SystemClock};

/// Flags of `users`.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fleetpulse users create ann --full-name \"Ann Example\" --grant administrator
  fleetpulse users create bob --grant operator:site=Lyon --password-stdin < password.txt
  fleetpulse users edit bob --grant reader --grant operator:site=Lyon

Who is deleted has no tokens any more either.

{EXIT_CODES}"))]
pub(in crate::cli) struct Users {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: UserAction,
}

#[derive(Subcommand)]
enum UserAction {
    #[command(flatten)]
    Common(Common<Anywhere, NoFile>),
    /// Add a user; asks for the password
    Create {
        /// The name to sign in with
        name: String,
        /// The name that people have
        #[arg(long, default_value = "")]
        full_name: String,
        #[arg(long, value_parser = grant, help = grants::HELP)]
        grant: Vec<Grant>,
        #[command(flatten)]
        password: Password,
        /// Without a password: only tokens and the identity provider act for them
        #[arg(long, conflicts_with = "password_stdin")]
        no_password: bool,
    },
    /// Change a user; what is not named stays
    Edit(EditUser),
}

#[derive(Args)]
struct EditUser {
    /// Name or id
    user: String,
    /// Another name to sign in with
    #[arg(long)]
    name: Option<String>,
    /// Another name that people have
    #[arg(long)]
    full_name: Option<String>,
    #[arg(long, value_parser = grant, help = format!("{}; these are all then", grants::HELP))]
    grant: Vec<Grant>,
    /// Take all roles away
    #[arg(long, conflicts_with = "grant")]
    no_grants: bool,
    /// Another password; asks for it
    #[arg(long)]
    set_password: bool,
    #[command(flatten)]
    password: Password,
    /// May not sign in any more
    #[arg(long, conflicts_with = "enable")]
    disable: bool,
    /// May sign in again
    #[arg(long)]
    enable: bool,
}

const USERS: &[Column] = &[
    text("NAME", "name"),
    text("FULL NAME", "full_name"),
    text("GRANTS", "grants"),
    text("DISABLED", "disabled"),
    text("PASSWORD", "has_password").wide(),
    text("IDENTITY PROVIDER", "external.issuer").wide(),
    text("ID", "id").wide(),
];

impl Users {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        run(&self.remote, what, |client| match self.action {
            UserAction::Common(common) => common.run(client, USER, USERS, USERS),
            UserAction::Create { name, full_name, grant, password, no_password } => {
                let grants = grants::documents(client, &grant)?;
                let password = if no_password { None } else { Some(password.new_one(&name)?) };
                let password = password.map(|password| password.0);
                let body =
                    json!({ "name": name, "full_name": full_name, "grants": grants, "password": password });
                let document = client.http.call(&Call::new(Method::Post, USER.path).json(body))?.body;
                client.done(&format!("user `{name}` is there"), &document)
            }
            UserAction::Edit(edit) => edit.run(client),
        })
    }
}

impl EditUser {
    fn run(self, client: &mut Client) -> Result<(), Failure> {
        let found = client.find(USER, &self.user, &[])?;
        let mut patch = json!({});
        for (field, value) in [("name", &self.name), ("full_name", &self.full_name)] {
            if let Some(value) = value {
                patch[field] = json!(value);
            }
        }
        if !self.grant.is_empty() || self.no_grants {
            patch["grants"] = grants::documents(client, &self.grant)?;
        }
        if self.disable || self.enable {
            patch["disabled"] = json!(self.disable);
        }
        if self.set_password || self.password.password_stdin {
            patch["password"] = json!(self.password.new_one(&found.name)?.0);
        }
        if patch == json!({}) {
            return Err(Failure::usage("name what changes; --help shows what can"));
        }
        let document = client.http.call(&Call::new(Method::Patch, found.path(USER)).json(patch))?.body;
        client.done(&format!("user `{}` is changed", found.name), &document)
    }
}

/// Flags of `tokens`.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fleetpulse tokens create backup --grant administrator --for 7d --out backup.token
  fleetpulse tokens create grafana --grant reader --owner bob --out grafana.token
  fleetpulse tokens delete grafana

Everybody has their own tokens; administrators of everything see all. A token ends no later than the one that makes it: after `fleetpulse login --for 1d` it is good for a day at most.

{EXIT_CODES}"))]
pub(in crate::cli) struct Tokens {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: TokenAction,
}

#[derive(Subcommand)]
enum TokenAction {
    #[command(flatten)]
    Common(Common<Anywhere, NoFile>),
    /// Make a token; its secret is shown this once
    Create {
        /// What it is for; one of a kind among its owner's
        name: String,
        #[arg(long, value_parser = grant, help = format!("{} [default: all that its owner may]", grants::HELP))]
        grant: Vec<Grant>,
        /// Good for so long, such as 7d [default: 90d, or as long as the token that makes it]
        #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
        length: Option<Duration>,
        /// Whose it is, by name or id [default: one's own]
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
        /// Write the secret here, for you alone; - for standard output [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Shows a new token's secret, or writes it into the file; the secret alone, so that programs read nothing else.
fn keep(client: &mut Client, mut document: Value, out: Option<NewFile>) -> Result<(), Failure> {
    let secret = document["secret"].as_str().unwrap_or_default().to_owned();
    let until = problem::shown(document["expires"].as_str().unwrap_or_default());
    let Some(mut out) = out else {
        client.note(&format!(
            "good until {until}; this secret is shown once, keep it where only its user can read it"
        ));
        return client.done(&secret, &document);
    };
    out.fill(client, format!("{secret}\n").as_bytes())?;
    let file = out.path().map(Path::to_owned).unwrap_or_default();
    if let Some(fields) = document.as_object_mut() {
        fields.remove("secret");
        fields.insert("file".to_owned(), json!(file));
    }
    client.done(&format!("the token is in {}, good until {until}", file.display()), &document)
}

const TOKENS: &[Column] = &[
    text("NAME", "name"),
    text("OWNER", "owner.name"),
    text("GRANTS", "grants"),
    text("EXPIRES", "expires").show(Show::Ago),
    text("LAST USED", "last_used").show(Show::Ago),
    text("CREATED", "created").show(Show::Time).wide(),
    text("ID", "id").wide(),
];

impl Tokens {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        run(&self.remote, what, |client| match self.action {
            TokenAction::Common(common) => common.run(client, TOKEN, TOKENS, TOKENS),
            TokenAction::Create { name, grant, length, owner, out } => {
                let mut body = json!({ "name": name });
                if !grant.is_empty() {
                    body["grants"] = grants::documents(client, &grant)?;
                }
                if let Some(length) = length {
                    body["expires"] = json!(after(SystemClock::start().unix(), length)?);
                }
                if let Some(owner) = owner {
                    body["owner"] = json!(client.find(USER, &owner, &[])?.id);
                }
                let out = out.filter(|out| out.as_os_str() != "-");
                let out = out.as_deref().map(NewFile::create).transpose()?;
                let document = client.http.call(&Call::new(Method::Post, TOKEN.path).json(body))?.body;
                keep(client, document, out)
            }
        })
    }
}
