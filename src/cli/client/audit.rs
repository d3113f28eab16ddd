//! `fleetpulse audit`: who did what, when and from where, with what it changed.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::cell::{Column, Show, plain, text};
use super::find::{GATEWAY, Kind, SENSOR, SITE, SUBSCRIPTION, TOKEN, USER, ZONE};
use super::http::Call;
use super::quiet::before_now;
use super::{Client, EXIT_CODES, Most, Remote, run};
use crate::cli::Failure;
use crate::config::duration;

/// Flags of `audit`.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fleetpulse audit list --since 24h
  fleetpulse audit list --site Lyon --action move-sensor -o wide
  fleetpulse audit list --actor ann --since 2026-11-01T00:00:00Z -o csv > november.csv
  fleetpulse audit list --action sign-in-refused --max 20

{EXIT_CODES}"))]
pub(in crate::cli) struct Audit {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Every change, sign-in and refused sign-in, newest first
    List(Box<Listing>),
}

#[derive(Args)]
struct Listing {
    /// Only by this user, tokens of theirs included; of a refused sign-in, the name that was tried
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only by this kind: user, token, system, command-line, peer
    #[arg(long, value_name = "KIND")]
    actor_kind: Option<String>,
    /// Only of this action, such as edit-sensor, sign-in or sign-in-refused
    #[arg(long)]
    action: Option<String>,
    #[command(flatten)]
    about: About,
    /// Not before this time (RFC 3339), or so long ago, such as 24h
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<String>,
    /// Before this time (RFC 3339), or so long ago
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<String>,
    /// As it came about: oldest first
    #[arg(long)]
    oldest_first: bool,
    #[command(flatten)]
    most: Most,
}

#[derive(Args)]
#[group(multiple = false)]
struct About {
    /// Only about this subscription and what stood in it, by name or id
    #[arg(long)]
    subscription: Option<String>,
    /// Only about this site and what stood in it, by name or id
    #[arg(long)]
    site: Option<String>,
    /// Only about this zone and what stood in it, by name or id
    #[arg(long)]
    zone: Option<String>,
    /// Only about this sensor, by name or id; a deleted one by id
    #[arg(long)]
    sensor: Option<String>,
    /// Only about this gateway, by name or id
    #[arg(long)]
    gateway: Option<String>,
    /// Only about this user: changes of them and their tokens, and their sign-ins
    #[arg(long)]
    user: Option<String>,
    /// Only about this token, by name or id
    #[arg(long)]
    token: Option<String>,
}

const ITEMS: &[Column] = &[
    text("AT", "at").show(Show::Time),
    text("WHO", "actor.name"),
    text("FROM", "actor.from"),
    text("ACTION", "action"),
    text("ABOUT", "about"),
    text("WHAT", "change"),
    text("CHANGES", "changes"),
    text("KIND", "actor.kind").wide(),
    text("SUBJECT", "subject.kind").wide(),
    text("SUBJECT ID", "subject.id").wide(),
    text("ENTRY", "entry").wide(),
];

/// What programs read: before and after as JSON.
const CSV: &[Column] = &[
    text("AT", "at"),
    text("KIND", "actor.kind"),
    text("WHO", "actor.name"),
    text("FROM", "actor.from"),
    text("ACTION", "action"),
    text("WHAT", "change"),
    text("SUBJECT", "subject.kind"),
    text("SUBJECT ID", "subject.id"),
    text("ABOUT", "subject.name"),
    text("BEFORE", "before"),
    text("AFTER", "after"),
    text("DETAIL", "detail"),
    text("ENTRY", "entry"),
    text("ID", "id"),
];

impl Audit {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        let Audit { remote, action: Action::List(listing) } = self;
        run(&remote, what, |client| listing.run(client))
    }
}

impl Listing {
    fn run(self, client: &mut Client) -> Result<(), Failure> {
        let call = self.about.narrow(client, Call::get("/api/v1/audit"))?;
        let call = call
            .query("actor", self.actor)
            .query("actor_kind", self.actor_kind)
            .query("action", self.action)
            .query("from", self.since)
            .query("until", self.until)
            .query("order", self.oldest_first.then_some("oldest"));
        if client.out.format().is_csv() {
            return client.list_as(&call, CSV, &self.most, with_json);
        }
        client.list_as(&call, ITEMS, &self.most, if client.out.format().is_json() { as_it_is } else { told })
    }
}

impl About {
    fn narrow(&self, client: &Client, mut call: Call) -> Result<Call, Failure> {
        let kinds: [(&str, &Option<String>, Kind); 7] = [
            ("subscription", &self.subscription, SUBSCRIPTION),
            ("site", &self.site, SITE),
            ("zone", &self.zone, ZONE),
            ("sensor", &self.sensor, SENSOR),
            ("gateway", &self.gateway, GATEWAY),
            ("user", &self.user, USER),
            ("token", &self.token, TOKEN),
        ];
        for (name, wanted, kind) in kinds {
            let found = wanted.as_deref().map(|text| client.find(kind, text, &[])).transpose()?;
            call = call.query(name, found.map(|found| found.id));
        }
        Ok(call)
    }
}

fn as_it_is(item: Value) -> Value {
    item
}

fn with_json(mut item: Value) -> Value {
    for side in ["before", "after"] {
        if item[side].is_object() {
            item[side] = json!(item[side].to_string());
        }
    }
    item
}

/// With what a person reads of it: `name: old -> new`.
fn told(mut item: Value) -> Value {
    let name = plain(&item["subject"]["name"]);
    let about = if name.is_empty() { plain(&item["subject"]["id"]) } else { name };
    let (before, after) = (item["before"].as_object(), item["after"].as_object());
    let mut parts: Vec<String> = Vec::new();
    match (before, after) {
        (Some(before), Some(after)) => {
            for (field, new) in after {
                let old = before.get(field).unwrap_or(&Value::Null);
                parts.push(format!("{field}: {} -> {}", shown(old), shown(new)));
            }
        }
        (one, other) => {
            let fields = one.or(other).into_iter().flatten();
            parts.extend(fields.map(|(field, value)| format!("{field}: {}", shown(value))));
        }
    }
    parts.extend(item["detail"].as_str().map(str::to_owned));
    item["about"] = json!(about);
    item["changes"] = json!(parts.join("; "));
    item
}

fn shown(value: &Value) -> String {
    let text = plain(value);
    if text.is_empty() { "-".to_owned() } else { text }
}

/// A time, or how long ago.
fn time(text: &str) -> Result<String, String> {
    match duration::parse(text) {
        Ok(length) => before_now(length).map_err(|_| "that is too long ago".to_owned()),
        // Whether it is a time is the server's to say: it takes all that RFC 3339 has.
        Err(_) => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_field_by_field() {
        let item = json!({
            "subject": {"kind": "sensor", "id": "x", "name": "pump"},
            "before": {"name": "old", "zone": {"id": "1", "name": "Line 1"}, "notes": ""},
            "after": {"name": "pump", "zone": {"id": "2", "name": "Line 2"}, "notes": "wet"},
            "detail": null,
        });
        let item = told(item);
        assert_eq!(item["about"], "pump");
        assert_eq!(item["changes"], "name: old -> pump; notes: - -> wet; zone: Line 1 -> Line 2");
        let event = told(json!({"subject": null, "before": null, "after": null, "detail": "wrong password"}));
        assert_eq!((&event["about"], &event["changes"]), (&json!(""), &json!("wrong password")));
        let new = told(json!({"subject": {"id": "x", "name": null}, "before": null, "after": {"name": "a"}}));
        assert_eq!((&new["about"], &new["changes"]), (&json!("x"), &json!("name: a")));
        assert_eq!(with_json(json!({"before": null, "after": {"a": 1}}))["after"], "{\"a\":1}");
    }

    #[test]
    fn a_time_is_said_as_a_time_or_as_how_long_ago() {
        assert_eq!(time("2026-11-24T00:00:00Z").unwrap(), "2026-11-24T00:00:00Z");
        let ago: jiff::Timestamp = time("24h").unwrap().parse().unwrap();
        let away = jiff::Timestamp::now().duration_since(ago).as_secs();
        assert!((86_300..=86_500).contains(&away), "{away}");
    }
}
