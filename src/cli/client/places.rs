//! `fleetpulse zones`, `subscriptions` and `gateways`: what else sensors stand in and speak through.

use clap::{Args, Subcommand};
use serde_json::json;

use super::cell::{Column, Show, text};
use super::download::Keep;
use super::find::{Found, GATEWAY, SITE, SUBSCRIPTION, ZONE};
use super::http::{Call, Method};
use super::{Client, EXIT_CODES, Most, Remote, run};
use crate::cli::Failure;

/// Flags of `zones`.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub(in crate::cli) struct Zones {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: ZoneAction,
}

#[derive(Subcommand)]
enum ZoneAction {
    /// Zones of all sites, or of one
    List {
        /// Only of this site, by name or id
        #[arg(long)]
        site: Option<String>,
        #[command(flatten)]
        most: Most,
        #[command(flatten)]
        keep: Keep,
    },
    /// One zone
    Get(ZoneOf),
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
        zone: ZoneOf,
        /// The new name
        #[arg(value_name = "NEW-NAME")]
        name: String,
    },
    /// Delete a zone without sensors
    Delete {
        #[command(flatten)]
        zone: ZoneOf,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args)]
struct ZoneOf {
    /// Name or id
    zone: String,
    /// The site that it is in, when the name alone does not say which
    #[arg(long)]
    site: Option<String>,
}

impl ZoneOf {
    fn find(&self, client: &Client) -> Result<Found, Failure> {
        let site = self.site.as_deref().map(|site| client.find(SITE, site, &[])).transpose()?;
        let narrow: Vec<_> = site.map(|site| ("site", site.id)).into_iter().collect();
        client.find(ZONE, &self.zone, &narrow)
    }
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
    pub(in crate::cli) fn run(self) -> Result<(), Failure> {
        let what = match &self.action {
            ZoneAction::List { .. } => "zones list",
            ZoneAction::Get(_) => "zones get",
            ZoneAction::Create { .. } => "zones create",
            ZoneAction::Rename { .. } => "zones rename",
            ZoneAction::Delete { .. } => "zones delete",
        };
        run(&self.remote, what, |client| match self.action {
            ZoneAction::List { site, most, keep } => {
                let site = site.map(|site| client.find(SITE, &site, &[])).transpose()?;
                let call = Call::get(ZONE.path).query("site", site.map(|site| site.id));
                client.list_or_keep(&call, ZONES, &most, &keep)
            }
            ZoneAction::Get(zone) => {
                let path = zone.find(client)?.path(ZONE);
                client.show(&Call::get(path), ZONE_CARD)
            }
            ZoneAction::Create { name, site } => {
                let site = client.find(SITE, &site, &[])?;
                let call = Call::new(Method::Post, site.path(SITE) + "/zones").json(json!({ "name": name }));
                let document = client.http.call(&call)?.body;
                client.done(&format!("zone `{name}` is there"), &document)
            }
            ZoneAction::Rename { zone, name } => {
                let found = zone.find(client)?;
                client.rename(ZONE, &found, &name)
            }
            ZoneAction::Delete { zone, yes } => {
                let found = zone.find(client)?;
                client.delete_found(ZONE, &found, yes)
            }
        })
    }
}

/// Flags of `subscriptions`.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub(in crate::cli) struct Subscriptions {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: SubscriptionAction,
}

#[derive(Subcommand)]
enum SubscriptionAction {
    /// All subscriptions
    List {
        #[command(flatten)]
        most: Most,
        #[command(flatten)]
        keep: Keep,
    },
    /// One subscription
    Get {
        /// Name or id
        subscription: String,
    },
    /// Make a subscription, with its built-in site for enterprise-IoT sensors
    Create {
        /// What people call it
        name: String,
    },
    /// Give a subscription another name
    Rename {
        /// Name or id
        subscription: String,
        /// The new name
        #[arg(value_name = "NEW-NAME")]
        name: String,
    },
    /// Delete a subscription that holds nothing but its empty built-in site
    Delete {
        /// Name or id
        subscription: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
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
    pub(in crate::cli) fn run(self) -> Result<(), Failure> {
        let what = match &self.action {
            SubscriptionAction::List { .. } => "subscriptions list",
            SubscriptionAction::Get { .. } => "subscriptions get",
            SubscriptionAction::Create { .. } => "subscriptions create",
            SubscriptionAction::Rename { .. } => "subscriptions rename",
            SubscriptionAction::Delete { .. } => "subscriptions delete",
        };
        run(&self.remote, what, |client| match self.action {
            SubscriptionAction::List { most, keep } => {
                client.list_or_keep(&Call::get(SUBSCRIPTION.path), SUBSCRIPTIONS, &most, &keep)
            }
            SubscriptionAction::Get { subscription } => {
                let path = client.find(SUBSCRIPTION, &subscription, &[])?.path(SUBSCRIPTION);
                client.show(&Call::get(path), SUBSCRIPTIONS)
            }
            SubscriptionAction::Create { name } => {
                let call = Call::new(Method::Post, SUBSCRIPTION.path).json(json!({ "name": name }));
                let document = client.http.call(&call)?.body;
                client.done(&format!("subscription `{name}` is there"), &document)
            }
            SubscriptionAction::Rename { subscription, name } => {
                let found = client.find(SUBSCRIPTION, &subscription, &[])?;
                client.rename(SUBSCRIPTION, &found, &name)
            }
            SubscriptionAction::Delete { subscription, yes } => {
                client.delete(SUBSCRIPTION, &subscription, yes)
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
    /// All gateways
    List {
        #[command(flatten)]
        most: Most,
        #[command(flatten)]
        keep: Keep,
    },
    /// One gateway
    Get {
        /// Name or id
        gateway: String,
    },
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
    /// Delete a gateway; its connection ends
    Delete {
        /// Name or id
        gateway: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
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
    pub(in crate::cli) fn run(self) -> Result<(), Failure> {
        let what = match &self.action {
            GatewayAction::List { .. } => "gateways list",
            GatewayAction::Get { .. } => "gateways get",
            GatewayAction::Create { .. } => "gateways create",
            GatewayAction::Edit { .. } => "gateways edit",
            GatewayAction::Delete { .. } => "gateways delete",
        };
        run(&self.remote, what, |client| match self.action {
            GatewayAction::List { most, keep } => {
                client.list_or_keep(&Call::get(GATEWAY.path), GATEWAYS, &most, &keep)
            }
            GatewayAction::Get { gateway } => {
                let path = client.find(GATEWAY, &gateway, &[])?.path(GATEWAY);
                client.show(&Call::get(path), GATEWAYS)
            }
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
            GatewayAction::Delete { gateway, yes } => client.delete(GATEWAY, &gateway, yes),
        })
    }
}

fn ids(client: &Client, sites: &[String]) -> Result<Vec<String>, Failure> {
    sites.iter().map(|site| client.find(SITE, site, &[]).map(|found| found.id)).collect()
}
