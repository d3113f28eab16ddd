//! `fleetpulse sensors`: the grid, one sensor, and everything that can be done to some of them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::cell::{Column, Show, text};
use super::chosen::{Change, Changing, Chosen, Filter};
use super::download::Keep;
use super::files::{Activation, Import, respond};
use super::find::{Found, SENSOR, SITE, ZONE};
use super::http::{Call, Method};
use super::many::Activations;
use super::onboard::Onboard;
use super::policy::Said;
use super::quiet::{MuteFor, NewWindow, Windows};
use super::thing::{One, Within};
use super::{Client, EXIT_CODES, Most, Remote, run};
use crate::cli::Failure;
use crate::cli::when::{rfc3339, time};
use crate::time::UnixMillis;

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
        filter: Box<Filter>,
        /// health (worst first), name, type, zone, site, subscription, version, last_connected, ti_version, lifecycle;
        /// with - in front the other way round
        #[arg(long, value_name = "ORDER", allow_hyphen_values = true)]
        sort: Option<String>,
        /// Only these fields of each, such as name,health; the server sends no others
        #[arg(long, value_name = "FIELD", value_delimiter = ',')]
        fields: Vec<String>,
        #[command(flatten)]
        most: Most,
        #[command(flatten)]
        keep: Keep,
    },
    /// One sensor: what was declared, and how it is
    Get(OneSensor),
    /// Why a sensor is as it is: every rule, and what it saw
    Why(OneSensor),
    /// One charted value of a sensor over time
    Series {
        #[command(flatten)]
        one: OneSensor,
        /// cpu-ratio, memory-ratio, delivery-ratio ...; a wrong one is answered with all there are
        #[arg(long)]
        metric: String,
        /// From this time on (RFC 3339) [default: a day before the end]
        #[arg(long, value_name = "TIME", value_parser = time)]
        from: Option<UnixMillis>,
        /// Until this time (RFC 3339) [default: now]
        #[arg(long, value_name = "TIME", value_parser = time)]
        until: Option<UnixMillis>,
    },
    /// Register a sensor, and get the activation file that makes a host this sensor
    Onboard(Onboard),
    /// Register many sensors from a CSV or JSON file
    Import(Import),
    /// Make the activation file of a sensor that waits for activation; files made before are void
    Activation(Activation),
    /// Make the activation files of some sensors
    Activations(Activations),
    /// Take the response file that a locally managed sensor made; it is active by it
    Response {
        #[command(flatten)]
        one: OneSensor,
        /// The file that `fleetpulse agent activate --offline` made
        file: PathBuf,
    },
    /// Who was refused at enrolment since the server started, sensors and strangers, and why
    Attempts,
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
        one: OneSensor,
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
    MarkActive(OneSensor),
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
    /// Plan a maintenance window of some sensors
    AddWindow {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        window: NewWindow,
        #[command(flatten)]
        changing: Changing,
    },
    /// Say thresholds and interval of some sensors; what was said at them before is said no more
    SetPolicy {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        said: Said,
        #[command(flatten)]
        changing: Changing,
    },
    /// Maintenance windows of a sensor: it is quiet meanwhile
    Windows {
        #[command(flatten)]
        one: OneSensor,
        #[command(subcommand)]
        action: Windows,
    },
}

/// One sensor.
pub(super) type OneSensor = One<Within>;

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
pub(super) const USUAL_ZONE: &str = "Default";
impl Place {
    fn find(&self, client: &Client) -> Result<Found, Failure> {
        let zone = self.zone.as_deref().unwrap_or(USUAL_ZONE);
        let site = self.site.as_deref().map(|site| client.find(SITE, site, &[])).transpose()?;
        let narrow: Vec<_> = site.map(|site| ("site", site.id)).into_iter().collect();
        client.find(ZONE, zone, &narrow)
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    OtCloud,
    OtLocal,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum TiMode {
    Automatic,
    Manual,
}

/// The word that the API has for it.
pub(super) fn word(value: impl ValueEnum) -> String {
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

const ATTEMPTS: &[Column] = &[
    text("LAST", "last").show(Show::Ago),
    text("FROM", "from"),
    text("SENSOR", "sensor.name"),
    text("CODE", "code"),
    text("TIMES", "count"),
    text("VERSION", "version"),
    text("FIRST", "first").show(Show::Time).wide(),
    text("ID", "sensor.id").wide(),
    text("REASON", "reason").wide(),
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

const SERIES: &[Column] = &[
    text("AT", "at").show(Show::Time),
    text("SECONDS", "seconds"),
    text("MIN", "min"),
    text("MAX", "max"),
    text("LAST", "last"),
];

impl Sensors {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        let Sensors { remote, action } = self;
        run(&remote, what, |client| action.run(client))
    }
}

impl Action {
    fn run(self, client: &mut Client) -> Result<(), Failure> {
        match self {
            Action::List { filter, sort, fields, most, keep } => {
                let call = filter.narrow(Call::get(SENSOR.path)).query("sort", sort);
                if fields.is_empty() {
                    return client.list_or_keep(&call, GRID, &most, &keep);
                }
                let asked = |column: &&Column| fields.iter().any(|field| column.is_of(field));
                let columns: Vec<Column> = GRID.iter().filter(asked).map(Column::narrow).collect();
                let call = call.query("fields", Some(fields.join(",")));
                client.list_or_keep(&call, &columns, &most, &keep)
            }
            Action::Get(one) => {
                let path = one.find(client, SENSOR)?.path(SENSOR);
                client.show(&Call::get(path), CARD)
            }
            Action::Why(one) => why(client, &one),
            Action::Onboard(onboard) => onboard.run(client),
            Action::Import(import) => import.run(client),
            Action::Series { one, metric, from, until } => {
                let call = Call::get(one.find(client, SENSOR)?.path(SENSOR) + "/series");
                let call = call.query("metric", Some(metric)).query("from", from.map(rfc3339));
                let document = client.http.call(&call.query("until", until.map(rfc3339)))?.body;
                client.rows(document["points"].as_array().map_or(&[], Vec::as_slice), SERIES)
            }
            Action::Activations(activations) => activations.run(client),
            Action::Activation(activation) => activation.run(client),
            Action::Response { one, file } => respond(client, &one, &file),
            Action::Attempts => {
                let body = client.http.call(&Call::get("/api/v1/enrolment-attempts"))?.body;
                client.rows(body["items"].as_array().map_or(&[], Vec::as_slice), ATTEMPTS)
            }
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
                let found = one.find(client, SENSOR)?;
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
                let found = one.find(client, SENSOR)?;
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
            Action::AddWindow { chosen, window, changing } => {
                let one = |path: String, body: &Value| {
                    Call::new(Method::Post, path + "/windows").json(body.clone())
                };
                let (arguments, done) = (window.body()?, "given a window");
                let change = Change { action: "add-window", arguments, done, one, grave: false };
                chosen.change(client, &changing, &change)
            }
            Action::SetPolicy { chosen, said, changing } => {
                let one = |path: String, arguments: &Value| {
                    Call::new(Method::Put, path + "/policy").json(arguments["policy"].clone())
                };
                let (arguments, done) = (json!({ "policy": said.document() }), "given this policy");
                let change = Change { action: "set-policy", arguments, done, one, grave: false };
                chosen.change(client, &changing, &change)
            }
            Action::Windows { one, action } => {
                let found = one.find(client, SENSOR)?;
                action.run(client, &found.path(SENSOR))
            }
        }
    }
}

fn patch(path: String, arguments: &Value) -> Call {
    Call::new(Method::Patch, path).json(arguments.clone())
}

/// Rules that say something come first.
fn why(client: &mut Client, one: &OneSensor) -> Result<(), Failure> {
    let mut document = client.http.call(&Call::get(one.find(client, SENSOR)?.path(SENSOR)))?.body;
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
