//! The sensors that a command is about: some by name, or all that a filter finds; asked about before they change.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::find::{Found, SENSOR};
use super::http::{Call, Method};
use super::progress::Progress;
use super::{Client, problem};
use crate::cli::paint::clean;
use crate::cli::{Failure, exit};
use crate::limits::CLIENT_CHOSEN_MAX as BULK_ITEMS_MAX;

/// Which sensors a list shows, or a command changes.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Filter {
    /// healthy, unhealthy, unsupported, muted, in-doubt; or exactly warning, critical, unknown, pending, stopped, local
    #[arg(long, value_name = "HEALTH")]
    health: Option<String>,
    /// In this site, by name or id
    #[arg(long)]
    site: Option<String>,
    /// In this zone, by name or id
    #[arg(long)]
    zone: Option<String>,
    /// Of this subscription, by name or id
    #[arg(long)]
    subscription: Option<String>,
    /// ot-cloud, ot-local, enterprise-iot
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// 26.1.2, 26.1* or a bound such as '<26.1' or '>=26.1'
    #[arg(long)]
    version: Option<String>,
    /// pending-activation, active, pending-reactivation
    #[arg(long)]
    lifecycle: Option<String>,
    /// A tag of the site: KEY or KEY=VALUE
    #[arg(long)]
    tag: Option<String>,
    /// An owner of the site, by e-mail address
    #[arg(long)]
    owner: Option<String>,
    /// With an active message of this rule, such as disconnected
    #[arg(long)]
    code: Option<String>,
    /// Connected (true) or not (false)
    #[arg(long)]
    connected: Option<bool>,
    /// Words in name, notes, site, zone or version
    #[arg(long, value_name = "WORDS")]
    search: Option<String>,
}

impl Filter {
    /// As parameters of the list.
    pub(super) fn narrow(&self, call: Call) -> Call {
        let given = [
            ("q", &self.search),
            ("health", &self.health),
            ("site", &self.site),
            ("zone", &self.zone),
            ("subscription", &self.subscription),
            ("type", &self.kind),
            ("version", &self.version),
            ("lifecycle", &self.lifecycle),
            ("tag", &self.tag),
            ("owner", &self.owner),
            ("code", &self.code),
        ];
        let call = given.into_iter().fold(call, |call, (name, value)| call.query(name, value.as_ref()));
        call.query("connected", self.connected)
    }
}

/// The sensors of a command.
#[derive(Args)]
pub(super) struct Chosen {
    /// Names or ids
    #[arg(value_name = "SENSOR", required_unless_present = "filter")]
    sensors: Vec<String>,
    /// The site that they stand in, when a name alone does not say which
    #[arg(long = "in", value_name = "SITE")]
    within: Option<String>,
    /// All that this finds: parameters of `sensors list` as NAME=VALUE with commas between, such as
    /// site=Lyon,health=unhealthy
    #[arg(long, value_name = "FILTER", conflicts_with = "sensors", value_delimiter = ',', value_parser = condition)]
    filter: Vec<(String, String)>,
}

/// Parameters of the list that choose.
const CONDITIONS: [&str; 12] = [
    "q",
    "health",
    "site",
    "zone",
    "subscription",
    "type",
    "version",
    "lifecycle",
    "tag",
    "owner",
    "code",
    "connected",
];

fn condition(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let name = if name == "search" { "q" } else { name };
    if value.is_empty() || !CONDITIONS.contains(&name) {
        return Err(format!("write it as NAME=VALUE; names are {}", CONDITIONS.join(", ")));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// How a change is made.
#[derive(Args)]
pub(super) struct Changing {
    /// Change nothing; say what would change, who is left out, and why
    #[arg(long)]
    dry_run: bool,
    /// Change nothing if anybody would be left out
    #[arg(long)]
    all_or_nothing: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What is done to sensors.
pub(super) struct Change<'c> {
    /// As `POST /api/v1/bulk` has it.
    pub(super) action: &'static str,
    pub(super) arguments: Value,
    /// After "is": `moved to ...`.
    pub(super) done: &'c str,
    /// The same for one sensor; `path` is the sensor's.
    pub(super) one: fn(path: String, arguments: &Value) -> Call,
    /// Asked about even when it is one sensor only.
    pub(super) grave: bool,
}

impl Chosen {
    /// Who they are. Everybody is found before anything changes.
    fn find(&self, client: &Client) -> Result<Vec<Found>, Failure> {
        if self.filter.is_empty() {
            let narrow: Vec<_> = self.within.iter().map(|site| ("site", site.clone())).collect();
            let mut found: Vec<Found> = Vec::new();
            for name in &self.sensors {
                let one = client.find(SENSOR, name, &narrow)?;
                if found.iter().all(|known| known.id != one.id) {
                    found.push(one);
                }
            }
            return Ok(found);
        }
        let condition = |call: Call, (name, value): &(String, String)| {
            let known = CONDITIONS.iter().find(|known| *known == name);
            known.map_or(call.clone(), |known| call.query(known, Some(value)))
        };
        let call = self.filter.iter().fold(Call::get(SENSOR.path), condition);
        let mut found = Vec::new();
        let more = client.http.each(&call.query("sort", Some("name")), BULK_ITEMS_MAX, |item| {
            found.push(Found::of(&item));
            Ok(())
        })?;
        if more {
            let message =
                format!("the filter finds more than {BULK_ITEMS_MAX} sensors; change fewer at a time");
            return Err(Failure::failed(message));
        }
        if found.is_empty() {
            return Err(Failure::told(
                exit::REFUSED,
                "the filter finds no sensor; nothing was changed".to_owned(),
                json!({ "code": "nothing-found", "detail": "the filter finds no sensor" }),
            ));
        }
        Ok(found)
    }

    /// Changes them: one by a request of its own, several by a job of the server. Those that are refused do not keep
    /// the others from it, and are told.
    pub(super) fn change(
        &self,
        client: &mut Client,
        changing: &Changing,
        change: &Change<'_>,
    ) -> Result<(), Failure> {
        let found = self.find(client)?;
        let several = found.len() > 1 || !self.filter.is_empty();
        if (several || change.grave) && !changing.dry_run {
            let who = match found.as_slice() {
                [one] => format!("`{}` will be", one.name),
                many => format!("{} sensors will be", many.len()),
            };
            client.confirm(&format!("{who} {}. Go on?", change.done), changing.yes)?;
        }
        match found.as_slice() {
            [one] if !changing.dry_run => {
                let call = (change.one)(one.path(SENSOR), &change.arguments);
                let document = match client.http.call(&call)?.body {
                    Value::Null => json!({ "id": one.id, "name": one.name }),
                    document => document,
                };
                client.done(&format!("`{}` is {}", one.name, change.done), &document)
            }
            _ => bulk(client, changing, change, &found),
        }
    }
}

fn bulk(
    client: &mut Client,
    changing: &Changing,
    change: &Change<'_>,
    found: &[Found],
) -> Result<(), Failure> {
    let ids: Vec<&str> = found.iter().map(|one| one.id.as_str()).collect();
    let body = json!({
        "action": change.action, "items": ids, "arguments": change.arguments,
        "dry_run": changing.dry_run, "all_or_nothing": changing.all_or_nothing,
    });
    let begun = client.http.call(&Call::new(Method::Post, "/api/v1/bulk").json(body))?.body;
    if changing.dry_run {
        let left_out = begun["left_out"].as_array().cloned().unwrap_or_default();
        left_out.iter().try_for_each(|item| refused(client, found, item))?;
        let text = format!("{} of {} sensors would be {}", begun["would_do"], begun["total"], change.done);
        return client.done(&text, &begun);
    }
    let job = wait(client, &begun)?;
    let path = format!("{JOBS}/{}/items", job["id"].as_str().unwrap_or_default());
    let mut left_out = Vec::new();
    if job["done"] != job["total"] {
        client.http.each(&Call::get(path), BULK_ITEMS_MAX, |item| {
            left_out.extend(Some(item).filter(|item| item["outcome"] == "refused"));
            Ok(())
        })?;
    }
    left_out.iter().try_for_each(|item| refused(client, found, item))?;
    let text = format!("{} of {} sensors are {}", job["done"], job["total"], change.done);
    client.done(&text, &job)?;
    match job["state"].as_str() {
        Some("done") if left_out.is_empty() => Ok(()),
        Some("done") => Err(Failure::told(
            exit::REFUSED,
            format!("{} sensors were left as they are", left_out.len()),
            json!({ "code": "some-refused", "refused": left_out.len() }),
        )),
        state => {
            let why =
                job["error"].as_str().map(|why| format!(": {}", problem::shown(why))).unwrap_or_default();
            let code = if left_out.is_empty() { exit::FAILED } else { exit::REFUSED };
            let state = state.unwrap_or("unknown");
            let message = format!("the change is {state}{why}");
            Err(Failure::told(code, message, json!({ "code": format!("job-{state}"), "job": job["id"] })))
        }
    }
}

/// The name that people know it by.
fn refused(client: &mut Client, found: &[Found], item: &Value) -> Result<(), Failure> {
    let id = item["id"].as_str().unwrap_or_default();
    let name = found.iter().find(|one| one.id == id).map_or(id, |one| &one.name);
    let text = |field: &str| problem::shown(item[field].as_str().unwrap_or_default());
    let message = format!("`{}` is left out: {} [{}]", clean(name), text("detail"), text("code"));
    client.warn(&message, item)
}

const JOBS: &str = "/api/v1/jobs";
/// Time between two looks at a job.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Looks at a job until it is over. The server goes on with it if nobody looks.
fn wait(client: &Client, begun: &Value) -> Result<Value, Failure> {
    let Some(id) = begun["id"].as_str().and_then(|id| id.parse::<uuid::Uuid>().ok()) else {
        return Err(Failure::failed("the server began no job; is it of another version?"));
    };
    let mut progress = Progress::new("sensors done");
    loop {
        let job = client.http.call(&Call::get(format!("{JOBS}/{id}")))?.body;
        if !matches!(job["state"].as_str(), Some("waiting" | "running")) {
            return Ok(job);
        }
        progress.at(job["done"].as_u64().and_then(|done| usize::try_from(done).ok()).unwrap_or(0));
        std::thread::sleep(LOOK_EVERY);
    }
}
