//! `fleetpulse policy`: health thresholds and heartbeat intervals said at one level.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Map, Value, json};

use super::cell::{Column, text};
use super::find::{SENSOR, SITE, SUBSCRIPTION, ZONE};
use super::http::{Call, Method};
use super::thing::{Where, Within};
use super::{Client, EXIT_CODES, Remote, run};
use crate::cli::Failure;
use crate::config::duration;

/// Flags of `policy`.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fleetpulse policy get --site Lyon
  fleetpulse policy set --site Lyon --number disk-almost-full.percent=95 --interval 30s
  fleetpulse policy set --sensor \"pump station\" --clear disk-almost-full.percent

The nearest level that says a number wins: sensor, zone, site, subscription, the server's own policy.

{EXIT_CODES}"))]
pub(in crate::cli) struct Policy {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// What is said at a level
    Get {
        #[command(flatten)]
        level: Level,
    },
    /// Say numbers at a level, or no more; what is not named stays
    Set {
        #[command(flatten)]
        level: Level,
        /// A number of a rule; may be repeated
        #[arg(long, value_name = "RULE.NUMBER=VALUE", value_parser = number)]
        number: Vec<(String, String, f64)>,
        /// Say this number no more; may be repeated
        #[arg(long, value_name = "RULE.NUMBER")]
        clear: Vec<String>,
        /// Time between two heartbeats
        #[arg(long, value_name = "TIME", value_parser = duration::parse)]
        interval: Option<Duration>,
        /// Say no interval any more
        #[arg(long, conflicts_with = "interval")]
        clear_interval: bool,
    },
}

/// At what.
#[derive(Args)]
#[command(group = ArgGroup::new("level").required(true).multiple(false).args(["subscription", "site", "zone", "sensor"]))]
struct Level {
    /// Subscription, by name or id
    #[arg(long)]
    subscription: Option<String>,
    /// Site, by name or id
    #[arg(long)]
    site: Option<String>,
    /// Zone, by name or id
    #[arg(long)]
    zone: Option<String>,
    /// Sensor, by name or id
    #[arg(long)]
    sensor: Option<String>,
    #[command(flatten)]
    within: Within,
}

impl Level {
    fn path(&self, client: &Client) -> Result<String, Failure> {
        let levels = [
            (&self.subscription, SUBSCRIPTION),
            (&self.site, SITE),
            (&self.zone, ZONE),
            (&self.sensor, SENSOR),
        ];
        let found = levels.into_iter().find_map(|(name, kind)| Some((name.as_deref()?, kind)));
        let Some((name, kind)) = found else { return Err(Failure::usage("say at which level")) };
        Ok(client.find(kind, name, &self.within.narrow(client)?)?.path(kind) + "/policy")
    }
}

/// All that is said at a level, at once.
#[derive(Args)]
#[group(required = true, multiple = true)]
pub(super) struct Said {
    /// A number of a rule; may be repeated
    #[arg(long, value_name = "RULE.NUMBER=VALUE", value_parser = number)]
    number: Vec<(String, String, f64)>,
    /// Time between two heartbeats
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    interval: Option<Duration>,
}

impl Said {
    pub(super) fn document(&self) -> Value {
        let mut rules: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
        for (rule, key, value) in &self.number {
            rules.entry(rule).or_default().insert(key.clone(), json!(value));
        }
        let seconds = self.interval.map(|interval| interval.as_secs_f64());
        json!({ "interval_seconds": seconds, "numbers": rules })
    }
}

fn number(text: &str) -> Result<(String, String, f64), String> {
    let wrong = || "write it as RULE.NUMBER=VALUE, e.g. disk-almost-full.percent=95".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let (rule, key) = name.split_once('.').ok_or_else(wrong)?;
    let value: f64 = value.parse().map_err(|_| wrong())?;
    if value.is_finite() { Ok((rule.to_owned(), key.to_owned(), value)) } else { Err(wrong()) }
}

const NUMBERS: &[Column] = &[
    text("RULE", "rule"),
    text("NUMBER", "number"),
    text("APPLIES", "value"),
    text("UNIT", "unit"),
    text("FROM", "from"),
    text("SAID HERE", "said"),
    text("DEFAULT", "default"),
    text("MIN", "min").wide(),
    text("MAX", "max").wide(),
];

impl Policy {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        run(&self.remote, what, |client| match self.action {
            Action::Get { level } => {
                let path = level.path(client)?;
                let document = client.http.call(&Call::get(path))?.body;
                show(client, &document)
            }
            Action::Set { level, number, clear, interval, clear_interval } => {
                let path = level.path(client)?;
                let now = client.http.call(&Call::get(path.clone()))?;
                let said = &now.body["said"];
                let (before, mut rules) = (numbers_of(said), numbers_of(said));
                for (rule, key, value) in number {
                    rules.entry(rule).or_default().insert(key, json!(value));
                }
                for name in &clear {
                    let place = name.split_once('.').and_then(|(rule, key)| rules.get_mut(rule)?.remove(key));
                    place.ok_or_else(|| Failure::usage(format!("`{name}` is not said at this level")))?;
                }
                rules.retain(|_, numbers| !numbers.is_empty());
                let known = said["interval_seconds"].as_f64().filter(|_| !clear_interval);
                let seconds = interval.map(|interval| interval.as_secs_f64()).or(known);
                if rules == before && seconds == said["interval_seconds"].as_f64() {
                    return Err(Failure::usage("name what changes: --number, --clear, --interval"));
                }
                let document = json!({ "interval_seconds": seconds, "numbers": rules });
                let mut call = Call::new(Method::Put, path).json(document);
                if let Some(tag) = now.header("etag") {
                    call = call.header("If-Match", tag);
                }
                let document = client.http.call(&call)?.body;
                show(client, &document)
            }
        })
    }
}

/// What is said of the numbers of each rule.
fn numbers_of(said: &Value) -> BTreeMap<String, Map<String, Value>> {
    let rules = said["numbers"].as_object().into_iter().flatten();
    rules.filter_map(|(rule, numbers)| Some((rule.clone(), numbers.as_object()?.clone()))).collect()
}

/// Numbers that were said somewhere; of the others there are too many, and JSON has them.
fn show(client: &mut Client, document: &Value) -> Result<(), Failure> {
    if client.out.format().is_json() {
        return client.out.one(document, &[]);
    }
    let mut rows = Vec::new();
    let mut row = |rule: &str, number: &str, applies: &Value, said: &Value| {
        if applies["from"] != "default" || !said.is_null() {
            let mut row = applies.as_object().cloned().unwrap_or_default();
            let more = [("rule", json!(rule)), ("number", json!(number)), ("said", said.clone())];
            row.extend(more.map(|(name, value)| (name.to_owned(), value)));
            rows.push(Value::Object(row));
        }
    };
    let said = &document["said"];
    row("heartbeats", "interval_seconds", &document["interval_seconds"], &said["interval_seconds"]);
    for (rule, numbers) in document["applies"].as_object().into_iter().flatten() {
        for (number, applies) in numbers.as_object().into_iter().flatten() {
            row(rule, number, applies, &said["numbers"][rule][number]);
        }
    }
    client.rows(&rows, NUMBERS)
}
