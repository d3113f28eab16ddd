//! `fleetpulse zones`, `subscriptions` and `gateways`: what else sensors stand in and speak through.

use clap::{Args, Subcommand};
use serde_json::json;

use super::cell::{Column, Show, text};
use super::download::Keep;
use super::find::{GATEWAY, SITE, SUBSCRIPTION, ZONE};
use super::http::{Call, Method};
use super::thing::{Anywhere, Common, One, Within};
use super::{Client, EXIT_CODES, Remote, run};
use crate::cli::Failure;

/// Flags of `zones`.
#[derive(Args)]
#[command(after_help = format!("A zone is deleted when no sensor is in it.\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Zones {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: ZoneAction,
}

#[derive(Subcommand)]
enum ZoneAction {
    #[command(flatten)]
    Common(Common<Within, Keep>),
    /// Make a zone
    Create {
        /// What people call it; one of a kind in its site
        name: String,
        /// The site, by name or id
        #[arg(long)]
        site: String,
    },
    /// Give a zone another name
    Rename {
        #[command(flatten)]
        zone: One<Within>,
        /// The new name
        #[arg(value_name = "NEW-NAME")]
        name: String,
    },
}

const ZONES: &[Column] = &[
    text("NAME", "name"),
    text("SITE", "site.name"),
    text("SENSORS", "sensors.total"),
    text("UNHEALTHY", "sensors.unhealthy"),
    text("CONNECTED", "sensors.connected").wide(),
    text("ID", "id").wide(),
];

const ZONE_CARD: &[Column] =
    &[text("NAME", "name"), text("ID", "id"), text("SITE", "site.name"), text("SENSORS", "sensors")];

impl Zones {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        run(&self.remote, what, |client| match self.action {
            ZoneAction::Common(common) => common.run(client, ZONE, ZONES, ZONE_CARD),
            ZoneAction::Create { name, site } => {
                let site = client.find(SITE, &site, &[])?;
                let call = Call::new(Method::Post, site.path(SITE) + "/zones").json(json!({ "name": name }));
                let document = client.http.call(&call)?.body;
                client.done(&format!("zone `{name}` is there"), &document)
            }
            ZoneAction::Rename { zone, name } => {
                let found = zone.find(client, ZONE)?;
                client.rename(ZONE, &found, &name)
            }
        })
    }
}

/// Flags of `subscriptions`.
#[derive(Args)]
#[command(after_help = format!("\
A subscription is deleted when it holds nothing but its empty built-in site.\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Subscriptions {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: SubscriptionAction,
}

#[derive(Subcommand)]
enum SubscriptionAction {
    #[command(flatten)]
    Common(Common<Anywhere, Keep>),
    /// Make a subscription, with its built-in site for enterprise-IoT sensors
    Create {
        /// What people call it
        name: String,
    },
    /// Give a subscription another name
    Rename {
        #[command(flatten)]
        subscription: One<Anywhere>,
        /// The new name
        #[arg(value_name = "NEW-NAME")]
        name: String,
    },
}

const SUBSCRIPTIONS: &[Column] = &[
    text("NAME", "name"),
    text("SITES", "sites"),
    text("SENSORS", "sensors").wide(),
    text("ENTERPRISE SITE", "enterprise_site.name").wide(),
    text("ID", "id").wide(),
];

impl Subscriptions {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        run(&self.remote, what, |client| match self.action {
            SubscriptionAction::Common(common) => {
                common.run(client, SUBSCRIPTION, SUBSCRIPTIONS, SUBSCRIPTIONS)
            }
            SubscriptionAction::Create { name } => {
                let call = Call::new(Method::Post, SUBSCRIPTION.path).json(json!({ "name": name }));
                let document = client.http.call(&call)?.body;
                client.done(&format!("subscription `{name}` is there"), &document)
            }
            SubscriptionAction::Rename { subscription, name } => {
                let found = subscription.find(client, SUBSCRIPTION)?;
                client.rename(SUBSCRIPTION, &found, &name)
            }
        })
    }
}

/// Flags of `gateways`.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub(in crate::cli) struct Gateways {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: GatewayAction,
}

#[derive(Subcommand)]
enum GatewayAction {
    #[command(flatten)]
    Common(Common<Anywhere, Keep>),
    /// Register a gateway
    Create {
        /// What people call it
        name: String,
        /// A site that it may speak for, by name or id; may be repeated
        #[arg(long, required = true)]
        site: Vec<String>,
    },
    /// Change its name or its sites
    Edit {
        /// Name or id
        gateway: String,
        /// The new name
        #[arg(long, required_unless_present = "site")]
        name: Option<String>,
        /// A site that it may speak for, by name or id; may be repeated, and these are all then
        #[arg(long)]
        site: Vec<String>,
    },
}

const GATEWAYS: &[Column] = &[
    text("NAME", "name"),
    text("SITES", "sites"),
    text("CONNECTED", "connected").wide(),
    text("LAST SEEN", "last_seen").show(Show::Ago).wide(),
    text("SENSORS", "sensors").wide(),
    text("MESSAGES", "messages").wide(),
    text("ID", "id").wide(),
];

impl Gateways {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        run(&self.remote, what, |client| match self.action {
            GatewayAction::Common(common) => common.run(client, GATEWAY, GATEWAYS, GATEWAYS),
            GatewayAction::Create { name, site } => {
                let body = json!({ "name": name, "sites": ids(client, &site)? });
                let document = client.http.call(&Call::new(Method::Post, GATEWAY.path).json(body))?.body;
                client.done(&format!("gateway `{name}` is there"), &document)
            }
            GatewayAction::Edit { gateway, name, site } => {
                let found = client.find(GATEWAY, &gateway, &[])?;
                let mut patch = json!({});
                if let Some(name) = name {
                    patch["name"] = json!(name);
                }
                if !site.is_empty() {
                    patch["sites"] = json!(ids(client, &site)?);
                }
                let document =
                    client.http.call(&Call::new(Method::Patch, found.path(GATEWAY)).json(patch))?.body;
                client.done(&format!("gateway `{}` is changed", found.name), &document)
            }
        })
    }
}

fn ids(client: &Client, sites: &[String]) -> Result<Vec<String>, Failure> {
    sites.iter().map(|site| client.find(SITE, site, &[]).map(|found| found.id)).collect()
}
