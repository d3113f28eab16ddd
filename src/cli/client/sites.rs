//! `fleetpulse sites`: places, who owns them, and when they are quiet.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::cell::{Column, Show, text};
use super::download::Keep;
use super::find::{SITE, SUBSCRIPTION};
use super::http::{Call, Method};
use super::quiet::{MuteFor, Windows};
use super::thing::{Anywhere, Common};
use super::{Client, EXIT_CODES, Remote, run};
use crate::cli::Failure;

/// Flags of `sites`.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fleetpulse sites create Lyon --owner ann@example.com --tag country=fr
  fleetpulse sites edit Lyon --name \"Lyon south\" --tag line=3 --remove-tag country
  fleetpulse sites mute Lyon --for 2h --reason \"power is off\"
  fleetpulse sites windows Lyon add --from 2026-12-01T20:00:00Z --for 4h --reason \"new switches\"

A site is deleted when it has no zones.

{EXIT_CODES}"))]
pub(in crate::cli) struct Sites {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    #[command(flatten)]
    Common(Common<Anywhere, Keep>),
    /// Make a site
    Create {
        /// What people call it
        name: String,
        /// Subscription, by name or id; needed where there are several
        #[arg(long)]
        subscription: Option<String>,
        /// A tag; may be repeated
        #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
        tag: Vec<(String, String)>,
        /// E-mail address of an owner; may be repeated
        #[arg(long, value_name = "EMAIL")]
        owner: Vec<String>,
    },
    /// Change name, tags and owners together; what is not named stays
    Edit(Edit),
    /// Notify nobody about this site and its sensors; verdicts go on
    Mute {
        /// Name or id
        site: String,
        #[command(flatten)]
        mute: MuteFor,
    },
    /// End the mute
    Unmute {
        /// Name or id
        site: String,
    },
    /// Maintenance windows: it is quiet meanwhile
    Windows {
        /// Name or id
        site: String,
        #[command(subcommand)]
        action: Windows,
    },
}

#[derive(Args)]
struct Edit {
    /// Name or id
    site: String,
    /// The new name
    #[arg(long)]
    name: Option<String>,
    /// Add a tag or change it; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    tag: Vec<(String, String)>,
    /// Remove a tag; may be repeated
    #[arg(long, value_name = "KEY")]
    remove_tag: Vec<String>,
    /// Add an owner; may be repeated
    #[arg(long, value_name = "EMAIL")]
    owner: Vec<String>,
    /// Remove an owner; may be repeated
    #[arg(long, value_name = "EMAIL")]
    remove_owner: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

const LIST: &[Column] = &[
    text("NAME", "name"),
    text("SUBSCRIPTION", "subscription.name"),
    text("SENSORS", "sensors.total"),
    text("UNHEALTHY", "sensors.unhealthy"),
    text("ZONES", "zones"),
    text("OWNERS", "owners"),
    text("TAGS", "tags"),
    text("MESSAGES", "messages"),
    text("KIND", "kind").wide(),
    text("MUTED", "muted").wide(),
    text("CONNECTED", "sensors.connected").wide(),
    text("ID", "id").wide(),
];

const CARD: &[Column] = &[
    text("NAME", "name"),
    text("ID", "id"),
    text("KIND", "kind"),
    text("SUBSCRIPTION", "subscription.name"),
    text("SENSORS", "sensors"),
    text("ZONES", "zones"),
    text("OWNERS", "owners"),
    text("TAGS", "tags"),
    text("QUIET NOW", "quiet.now"),
    text("MUTED UNTIL", "quiet.mute.until").show(Show::Time).wide(),
    text("MUTED BECAUSE", "quiet.mute.reason").wide(),
    text("WINDOWS", "quiet.windows").wide(),
];

impl Sites {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        let Sites { remote, action } = self;
        run(&remote, what, |client| action.run(client))
    }
}

impl Action {
    fn run(self, client: &mut Client) -> Result<(), Failure> {
        match self {
            Action::Common(common) => common.run(client, SITE, LIST, CARD),
            Action::Create { name, subscription, tag, owner } => {
                let subscription = client.find_or_only(SUBSCRIPTION, subscription.as_deref())?;
                let tags: serde_json::Map<String, Value> =
                    tag.into_iter().map(|(key, value)| (key, json!(value))).collect();
                let body =
                    json!({ "name": name, "subscription": subscription.id, "tags": tags, "owners": owner });
                let document = client.http.call(&Call::new(Method::Post, SITE.path).json(body))?.body;
                client.done(&format!("site `{name}` is there"), &document)
            }
            Action::Edit(edit) => edit.run(client),
            Action::Mute { site, mute } => {
                let found = client.find(SITE, &site, &[])?;
                let call = Call::new(Method::Put, found.path(SITE) + "/mute").json(mute.body()?);
                let document = client.http.call(&call)?.body;
                client.done(&format!("site `{}` is muted", found.name), &document)
            }
            Action::Unmute { site } => {
                let found = client.find(SITE, &site, &[])?;
                client.http.call(&Call::new(Method::Delete, found.path(SITE) + "/mute"))?;
                client
                    .done(&format!("site `{}` is not muted any more", found.name), &json!({ "id": found.id }))
            }
            Action::Windows { site, action } => {
                let path = client.find(SITE, &site, &[])?.path(SITE);
                action.run(client, &path)
            }
        }
    }
}

impl Edit {
    /// Tags and owners are sent whole, so what is there is read first; if somebody else is faster, nothing happens.
    fn run(self, client: &mut Client) -> Result<(), Failure> {
        let found = client.find(SITE, &self.site, &[])?;
        let mut patch = json!({});
        if let Some(name) = &self.name {
            patch["name"] = json!(name);
        }
        let mut call = Call::new(Method::Patch, found.path(SITE));
        let tags = !self.tag.is_empty() || !self.remove_tag.is_empty();
        let owners = !self.owner.is_empty() || !self.remove_owner.is_empty();
        if tags || owners {
            let now = client.http.call(&Call::get(found.path(SITE)))?;
            if let Some(tag) = now.header("etag") {
                call = call.header("If-Match", tag);
            }
            if tags {
                let mut all = now.body["tags"].as_object().cloned().unwrap_or_default();
                all.retain(|key, _| !self.remove_tag.contains(key));
                all.extend(self.tag.into_iter().map(|(key, value)| (key, json!(value))));
                patch["tags"] = Value::Object(all);
            }
            if owners {
                let mut all = now.body["owners"].as_array().cloned().unwrap_or_default();
                all.retain(|owner| !self.remove_owner.iter().any(|gone| owner == gone));
                for owner in self.owner {
                    if !all.iter().any(|known| *known == owner) {
                        all.push(json!(owner));
                    }
                }
                patch["owners"] = Value::Array(all);
            }
        }
        if patch == json!({}) {
            return Err(Failure::usage(
                "name what changes: --name, --tag, --remove-tag, --owner, --remove-owner",
            ));
        }
        let document = client.http.call(&call.json(patch))?.body;
        let name = document["name"].as_str().unwrap_or(&found.name).to_owned();
        client.done(&format!("site `{name}` is changed"), &document)
    }
}
