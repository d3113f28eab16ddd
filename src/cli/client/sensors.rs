//! `fleetpulse sensors`: the grid, one sensor, and everything that can be done to some of them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::cell::{Column, Show, text};
use super::chosen::{Change, Changing, Chosen, Filter};
use super::download::Keep;
use super::files::{Activation, Import, NewFile, activate, respond};
use super::find::{Found, SENSOR, SITE, SUBSCRIPTION, ZONE};
use super::http::{Call, Method};
use super::quiet::{MuteFor, Windows};
use super::{Client, EXIT_CODES, Most, Remote, run};
use crate::cli::Failure;
use crate::cli::paint::clean;

/// Flags of `sensors`.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fleetpulse sensors list --health unhealthy --site Lyon -o wide
  fleetpulse sensors list --version '<26.1' --out outdated.csv      (signed: outdated.csv.jws)
  fleetpulse sensors onboard \"pump station\" --site Lyon --create --out pump.activation
  fleetpulse sensors why \"pump station\"
  fleetpulse sensors move pump-1 pump-2 --site Lyon --zone \"Line 3\"
  fleetpulse sensors delete \"old pump\"

Sensors are named by name or id; where one name stands in several sites, --in SITE says which.

{EXIT_CODES}"))]
pub(in crate::cli) struct Sensors {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Sensors with their health: filtered, in order
    List {
        #[command(flatten)]
        filter: Filter,
        /// health (worst first), name, type, zone, site, subscription, version, last_connected, ti_version, lifecycle;
        /// with - in front the other way round
        #[arg(long, value_name = "ORDER", allow_hyphen_values = true)]
        sort: Option<String>,
        #[command(flatten)]
        most: Most,
        #[command(flatten)]
        keep: Keep,
    },
    /// One sensor: what was declared, and how it is
    Get(One),
    /// Why a sensor is as it is: every rule, and what it saw
    Why(One),
    /// Register a sensor, and get the activation file that makes a host this sensor
    Onboard(Onboard),
    /// Register many sensors from a CSV or JSON file
    Import(Import),
    /// Make the activation file of a sensor that waits for activation; files made before are void
    Activation(Activation),
    /// Take the response file that a locally managed sensor made; it is active by it
    Response {
        #[command(flatten)]
        one: One,
        /// The file that `fleetpulse agent activate --offline` made
        file: PathBuf,
    },
    /// Change notes or the mode of threat-intelligence updates
    Edit {
        #[command(flatten)]
        chosen: Chosen,
        /// Notes; empty for none
        #[arg(long, value_name = "TEXT", required_unless_present = "ti_mode")]
        notes: Option<String>,
        /// Threat-intelligence updates
        #[arg(long, value_enum)]
        ti_mode: Option<TiMode>,
        #[command(flatten)]
        changing: Changing,
    },
    /// Give a sensor another name
    Rename {
        #[command(flatten)]
        one: One,
        /// The new name
        #[arg(value_name = "NEW-NAME")]
        name: String,
    },
    /// Move sensors to another zone or site; identity and history stay
    Move {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        to: Place,
        #[command(flatten)]
        changing: Changing,
    },
    /// Make sensors cloud-connected or locally managed
    SetMode {
        #[command(flatten)]
        chosen: Chosen,
        /// The mode
        #[arg(long, value_enum)]
        mode: Mode,
        #[command(flatten)]
        changing: Changing,
    },
    /// Send sensors to reactivation: same row, same history, a new activation file
    Reactivate {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        changing: Changing,
    },
    /// Make all certificates of sensors void at once; they wait for reactivation
    Revoke {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        changing: Changing,
    },
    /// Mark a locally managed sensor as active: it never connects by itself
    MarkActive(One),
    /// Delete sensors for ever; their certificates are void at once, their history stays
    Delete {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        changing: Changing,
    },
    /// Notify nobody; verdicts go on
    Mute {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        mute: MuteFor,
        #[command(flatten)]
        changing: Changing,
    },
    /// End mutes
    Unmute {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        changing: Changing,
    },
    /// Maintenance windows of a sensor: it is quiet meanwhile
    Windows {
        #[command(flatten)]
        one: One,
        #[command(subcommand)]
        action: Windows,
    },
}

/// One sensor.
#[derive(Args)]
pub(super) struct One {
    /// Name or id
    sensor: String,
    /// The site that it stands in, when the name alone does not say which
    #[arg(long = "in", value_name = "SITE")]
    within: Option<String>,
}

impl One {
    pub(super) fn find(&self, client: &Client) -> Result<Found, Failure> {
        let narrow: Vec<_> = self.within.iter().map(|site| ("site", site.clone())).collect();
        client.find(SENSOR, &self.sensor, &narrow)
    }
}

/// Where sensors go.
#[derive(Args)]
struct Place {
    /// Site, by name or id
    #[arg(long)]
    site: Option<String>,
    /// Zone in the site, by name or id
    #[arg(long, required_unless_present = "site")]
    zone: Option<String>,
}

/// Zone of a sensor for which nobody names one.
const USUAL_ZONE: &str = "Default";
/// Subscription that is made when there is none and nobody names one.
const USUAL_SUBSCRIPTION: &str = "Default";

impl Place {
    fn find(&self, client: &Client) -> Result<Found, Failure> {
        let zone = self.zone.as_deref().unwrap_or(USUAL_ZONE);
        let site = self.site.as_deref().map(|site| client.find(SITE, site, &[])).transpose()?;
        let narrow: Vec<_> = site.map(|site| ("site", site.id)).into_iter().collect();
        client.find(ZONE, zone, &narrow)
    }
}

#[derive(Args)]
struct Onboard {
    /// What people call it; one of a kind in its site
    name: String,
    /// Site, by name or id; enterprise-iot sensors stand in the built-in one of their subscription
    #[arg(long)]
    site: Option<String>,
    /// Zone in the site, by name or id [default: Default]
    #[arg(long)]
    zone: Option<String>,
    /// Subscription that the site is of, by name or id; needed where there are several
    #[arg(long)]
    subscription: Option<String>,
    /// Make subscription, site and zone where they are not there
    #[arg(long)]
    create: bool,
    /// Type
    #[arg(long = "type", value_enum, default_value = "ot-cloud")]
    kind: Kind,
    /// Notes
    #[arg(long, value_name = "TEXT")]
    notes: Option<String>,
    /// Threat-intelligence updates
    #[arg(long, value_enum)]
    ti_mode: Option<TiMode>,
    /// Make the activation file too, and write it here, for you alone; - for standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    OtCloud,
    OtLocal,
    EnterpriseIot,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    OtCloud,
    OtLocal,
}

#[derive(Clone, Copy, ValueEnum)]
enum TiMode {
    Automatic,
    Manual,
}

/// The word that the API has for it.
fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

const GRID: &[Column] = &[
    text("NAME", "name"),
    text("HEALTH", "health.state").show(Show::State),
    text("SITE", "site.name"),
    text("ZONE", "zone.name"),
    text("TYPE", "type"),
    text("VERSION", "version.reported"),
    text("LAST CONNECTED", "last_connected").show(Show::Ago),
    text("MESSAGES", "health.messages"),
    text("LIFECYCLE", "lifecycle").show(Show::State).wide(),
    text("STATUS", "status").wide(),
    text("MUTED", "muted").wide(),
    text("TI VERSION", "ti.version").wide(),
    text("TI MODE", "ti.mode").wide(),
    text("TI STATUS", "ti.status").wide(),
    text("SUBSCRIPTION", "subscription.name").wide(),
    text("OWNERS", "site.owners").wide(),
    text("TAGS", "site.tags").wide(),
    text("NOTES", "notes").wide(),
    text("ID", "id").wide(),
];

const CARD: &[Column] = &[
    text("NAME", "name"),
    text("ID", "id"),
    text("TYPE", "type"),
    text("LIFECYCLE", "lifecycle").show(Show::State),
    text("SUBSCRIPTION", "subscription.name").wide(),
    text("SITE", "site.name"),
    text("ZONE", "zone.name"),
    text("NOTES", "notes").wide(),
    text("THREAT INTEL MODE", "threat_intel_mode").wide(),
    text("STATE", "state").show(Show::State).wide(),
    text("SUPPORT", "support").wide(),
    text("MUTED", "muted").wide(),
    text("MESSAGES", "active").wide(),
    text("IN DOUBT", "unknown").wide(),
    text("CONNECTED", "connection.connected").wide(),
    text("VIA GATEWAY", "connection.via_gateway").wide(),
    text("LAST HEARTBEAT", "heartbeats.last").show(Show::Ago).wide(),
    text("DELIVERY", "heartbeats.delivery_ratio").wide(),
    text("CERTIFICATE UNTIL", "connection.certificate_not_after").show(Show::Time).wide(),
    text("VERSION", "reported.version").wide(),
    text("ACTIVATION", "activation.state").show(Show::State).wide(),
    text("FILE GOOD UNTIL", "activation.expires_at").show(Show::Time).wide(),
    text("REFUSED ENROLMENTS", "attempts").wide(),
];

const RULES: &[Column] = &[
    text("RULE", "code"),
    text("SEVERITY", "severity").show(Show::State),
    text("OUTCOME", "outcome"),
    text("SINCE", "since").show(Show::Ago),
    text("SAW", "evidence"),
    text("HELD BACK BY", "suppressed_by"),
    text("FROZEN BY", "frozen_by").wide(),
    text("PENDING SECONDS", "pending_for_seconds").wide(),
    text("TITLE", "title").wide(),
];

impl Sensors {
    pub(in crate::cli) fn run(self) -> Result<(), Failure> {
        let Sensors { remote, action } = self;
        let what = action.name();
        run(&remote, what, |client| action.run(client))
    }
}

impl Action {
    fn name(&self) -> &'static str {
        match self {
            Action::List { .. } => "sensors list",
            Action::Get(_) => "sensors get",
            Action::Why(_) => "sensors why",
            Action::Onboard(_) => "sensors onboard",
            Action::Import(_) => "sensors import",
            Action::Activation(_) => "sensors activation",
            Action::Response { .. } => "sensors response",
            Action::Edit { .. } => "sensors edit",
            Action::Rename { .. } => "sensors rename",
            Action::Move { .. } => "sensors move",
            Action::SetMode { .. } => "sensors set-mode",
            Action::Reactivate { .. } => "sensors reactivate",
            Action::Revoke { .. } => "sensors revoke",
            Action::MarkActive(_) => "sensors mark-active",
            Action::Delete { .. } => "sensors delete",
            Action::Mute { .. } => "sensors mute",
            Action::Unmute { .. } => "sensors unmute",
            Action::Windows { .. } => "sensors windows",
        }
    }

    fn run(self, client: &mut Client) -> Result<(), Failure> {
        match self {
            Action::List { filter, sort, most, keep } => {
                let call = filter.narrow(Call::get(SENSOR.path)).query("sort", sort);
                client.list_or_keep(&call, GRID, &most, &keep)
            }
            Action::Get(one) => {
                let path = one.find(client)?.path(SENSOR);
                client.show(&Call::get(path), CARD)
            }
            Action::Why(one) => why(client, &one),
            Action::Onboard(onboard) => onboard.run(client),
            Action::Import(import) => import.run(client),
            Action::Activation(activation) => activation.run(client),
            Action::Response { one, file } => respond(client, &one, &file),
            Action::Edit { chosen, notes, ti_mode, changing } => {
                let given = [("notes", notes), ("threat_intel_mode", ti_mode.map(word))];
                let edit =
                    given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
                let change = Change {
                    action: "edit",
                    arguments: Value::Object(edit.collect()),
                    done: "changed",
                    one: patch,
                    grave: false,
                };
                chosen.change(client, &changing, &change)
            }
            Action::Rename { one, name } => {
                let found = one.find(client)?;
                let call = Call::new(Method::Patch, found.path(SENSOR)).json(json!({ "name": name }));
                let document = client.http.call(&call)?.body;
                client.done(&format!("`{}` is now called `{name}`", found.name), &document)
            }
            Action::Move { chosen, to, changing } => {
                let zone = to.find(client)?;
                let (arguments, done) = (json!({ "zone": zone.id }), format!("moved to `{}`", zone.name));
                let change = Change { action: "move", arguments, done: &done, one: patch, grave: false };
                chosen.change(client, &changing, &change)
            }
            Action::SetMode { chosen, mode, changing } => {
                let (arguments, done) = (json!({ "type": word(mode) }), format!("made {}", word(mode)));
                let change = Change { action: "set-mode", arguments, done: &done, one: patch, grave: false };
                chosen.change(client, &changing, &change)
            }
            Action::Reactivate { chosen, changing } => {
                let one = |path: String, _: &Value| Call::new(Method::Post, path + "/reactivate");
                let done = "sent to reactivation";
                let change = Change { action: "reactivate", arguments: json!({}), done, one, grave: false };
                chosen.change(client, &changing, &change)
            }
            Action::Revoke { chosen, changing } => {
                let one = |path: String, _: &Value| Call::new(Method::Post, path + "/revoke");
                let done = "cut off, with all certificates void";
                let change = Change { action: "revoke", arguments: json!({}), done, one, grave: true };
                chosen.change(client, &changing, &change)
            }
            Action::MarkActive(one) => {
                let found = one.find(client)?;
                let call = Call::new(Method::Post, found.path(SENSOR) + "/mark-active");
                let document = client.http.call(&call)?.body;
                client.done(&format!("`{}` is active", found.name), &document)
            }
            Action::Delete { chosen, changing } => {
                let one = |path: String, _: &Value| Call::new(Method::Delete, path);
                let change =
                    Change { action: "delete", arguments: json!({}), done: "deleted", one, grave: true };
                chosen.change(client, &changing, &change)
            }
            Action::Mute { chosen, mute, changing } => {
                let one =
                    |path: String, body: &Value| Call::new(Method::Put, path + "/mute").json(body.clone());
                let arguments = mute.body()?;
                let change = Change { action: "mute", arguments, done: "muted", one, grave: false };
                chosen.change(client, &changing, &change)
            }
            Action::Unmute { chosen, changing } => {
                let one = |path: String, _: &Value| Call::new(Method::Delete, path + "/mute");
                let change =
                    Change { action: "unmute", arguments: json!({}), done: "unmuted", one, grave: false };
                chosen.change(client, &changing, &change)
            }
            Action::Windows { one, action } => {
                let found = one.find(client)?;
                action.run(client, &found.path(SENSOR))
            }
        }
    }
}

fn patch(path: String, arguments: &Value) -> Call {
    Call::new(Method::Patch, path).json(arguments.clone())
}

/// Rules that say something come first.
fn why(client: &mut Client, one: &One) -> Result<(), Failure> {
    let mut document = client.http.call(&Call::get(one.find(client)?.path(SENSOR)))?.body;
    if client.out.format().is_json() {
        return client.out.one(&document["rules"], &[]);
    }
    let rules = document.get_mut("rules").and_then(Value::as_array_mut);
    let mut rules = rules.map(std::mem::take).unwrap_or_default();
    let order = |rule: &Value| match rule["outcome"].as_str() {
        Some("holds") => 0,
        Some("unknown") => 1,
        _ => 2,
    };
    rules.sort_by_key(order);
    client.rows(&rules, RULES)
}

impl Onboard {
    fn run(self, client: &mut Client) -> Result<(), Failure> {
        self.check()?;
        let mut body = json!({ "name": self.name, "type": word(self.kind) });
        let optional = [("notes", self.notes.clone()), ("threat_intel_mode", self.ti_mode.map(word))];
        for (name, value) in optional {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        // The place of the file is made first: a sensor is not registered for a file that can't be written.
        let out = self.out.as_deref().map(NewFile::create).transpose()?;
        match &self.site {
            Some(site) => body["zone"] = json!(self.place(client, site)?.id),
            None => body["subscription"] = json!(self.subscription(client)?.id),
        }
        let document = client.http.call(&Call::new(Method::Post, SENSOR.path).json(body))?.body;
        let found = Found::of(&document);
        let Some(out) = out else {
            let text = format!("`{}` waits for activation: {}", found.name, found.id);
            return client.done(&text, &document);
        };
        let registered = |failure: Failure| {
            let name = clean(&found.name);
            failure.before(&format!(
                "`{name}` is registered, but has no activation file yet; \
                 `fleetpulse sensors activation {}` makes it",
                found.id
            ))
        };
        activate(client, &found, out).map_err(registered)
    }

    /// Only some sensors stand in a site that people choose.
    fn check(&self) -> Result<(), Failure> {
        match (self.kind, &self.site) {
            (Kind::EnterpriseIot, None) if self.zone.is_none() => Ok(()),
            (Kind::EnterpriseIot, _) => Err(Failure::usage(
                "enterprise-iot sensors stand in the built-in site of their subscription; leave --site and --zone out",
            )),
            (_, None) => Err(Failure::usage("say in which site it stands, with --site")),
            (_, Some(_)) => Ok(()),
        }
    }

    /// The zone; made, with its site, when that was asked for.
    fn place(&self, client: &Client, site: &str) -> Result<Found, Failure> {
        let owner = self.subscription.as_ref().map(|_| self.subscription(client)).transpose()?;
        let narrow: Vec<_> = owner.iter().map(|owner| ("subscription", owner.id.clone())).collect();
        let site = match client.look_for(SITE, site, &narrow)? {
            Some(site) => site,
            None if self.create && !is_id(site) => {
                let owner = owner.map_or_else(|| self.subscription(client), Ok)?;
                client.make(SITE.path, json!({ "name": site, "subscription": owner.id }))?
            }
            None => return Err(client.none(SITE, site, CREATE)),
        };
        let zone = self.zone.as_deref().unwrap_or(USUAL_ZONE);
        match client.look_for(ZONE, zone, &[("site", site.id.clone())])? {
            Some(zone) => Ok(zone),
            None if self.create && !is_id(zone) => {
                client.make(&(site.path(SITE) + "/zones"), json!({ "name": zone }))
            }
            None => Err(client.none(ZONE, zone, CREATE)),
        }
    }

    /// The one that is named, or the only one.
    fn subscription(&self, client: &Client) -> Result<Found, Failure> {
        if let Some(name) = &self.subscription {
            return match client.look_for(SUBSCRIPTION, name, &[])? {
                Some(found) => Ok(found),
                None if self.create => client.make(SUBSCRIPTION.path, json!({ "name": name })),
                None => Err(client.none(SUBSCRIPTION, name, CREATE)),
            };
        }
        let mut there = Vec::new();
        client.http.each(&Call::get(SUBSCRIPTION.path), 2, |item| {
            there.push(Found::of(&item));
            Ok(())
        })?;
        if there.is_empty() && self.create {
            return client.make(SUBSCRIPTION.path, json!({ "name": USUAL_SUBSCRIPTION }));
        }
        client.find_or_only(SUBSCRIPTION, None)
    }
}

/// What to do about a place that is missing.
const CREATE: &str = "--create makes it, if it is a name";

/// An id is of something that is there; nothing is made that is called like one.
fn is_id(text: &str) -> bool {
    text.parse::<uuid::Uuid>().is_ok()
}
