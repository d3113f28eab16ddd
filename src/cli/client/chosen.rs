//! The sensors that a command is about: some by name, or all that a filter finds; asked about before they change.
//!
//! A filter is the server's to look up, once, when the change begins. How many it finds is asked first, and the change
//! is made of at most as many, so that nobody says yes to ten sensors and changes a thousand.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::find::{Found, SENSOR};
use super::http::{Call, Method};
use super::progress::Progress;
use super::thing::{Where, Within};
use super::{Client, problem};
use crate::cli::paint::clean;
use crate::cli::{Failure, exit};
use crate::limits::CLIENT_LEFT_OUT_SHOWN;

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
    /// A tag of the site: KEY or KEY=VALUE; may be repeated, and all are there then
    #[arg(long)]
    tag: Vec<String>,
    /// An owner of the site, by e-mail address
    #[arg(long)]
    owner: Option<String>,
    /// With an active message of this rule, such as disconnected
    #[arg(long)]
    code: Option<String>,
    /// Threat-intelligence updates: automatic, manual
    #[arg(long, value_name = "MODE")]
    ti_mode: Option<String>,
    /// Threat intelligence: unknown, ok, update-available, in-progress, failed
    #[arg(long, value_name = "STATUS")]
    ti_status: Option<String>,
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
            ("owner", &self.owner),
            ("code", &self.code),
            ("ti_mode", &self.ti_mode),
            ("ti_status", &self.ti_status),
        ];
        let call = given.into_iter().fold(call, |call, (name, value)| call.query(name, value.as_ref()));
        let call = self.tag.iter().fold(call, |call, tag| call.query("tag", Some(tag)));
        call.query("connected", self.connected)
    }
}

/// The sensors of a command.
#[derive(Args)]
pub(super) struct Chosen {
    /// Names or ids
    #[arg(value_name = "SENSOR", required_unless_present_any = ["filter", "all"])]
    sensors: Vec<String>,
    #[command(flatten)]
    within: Within,
    /// All that this finds: parameters of `sensors list` as NAME=VALUE with commas between, such as
    /// site=Lyon,health=unhealthy
    #[arg(long, value_name = "FILTER", conflicts_with_all = ["sensors", "within"], value_delimiter = ',', value_parser = condition)]
    filter: Vec<(String, String)>,
    /// Every sensor that you may see
    #[arg(long, conflicts_with_all = ["sensors", "filter", "within"])]
    all: bool,
}

/// Parameters of the list that choose.
const CONDITIONS: [&str; 14] = [
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
    "ti_mode",
    "ti_status",
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

/// What else there is to do than to say yes.
const DRY_RUN: &str = "; --dry-run shows what would happen";

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
    /// Who they are, by name or by what a filter finds; at most so many.
    pub(super) fn all(&self, client: &Client, most: usize) -> Result<Vec<Found>, Failure> {
        if !self.all && self.filter.is_empty() {
            return self.find(client);
        }
        let condition = |call: Call, (name, value): &(String, String)| {
            let known = CONDITIONS.iter().find(|known| *known == name);
            known.map_or(call.clone(), |known| call.query(known, Some(value)))
        };
        let call = self.filter.iter().fold(Call::get(SENSOR.path), condition).query("sort", Some("name"));
        let mut found = Vec::new();
        let more = client.http.each(&call, most, |item| {
            found.push(Found::of(&item));
            Ok(())
        })?;
        match (more, found.is_empty()) {
            (true, _) => {
                Err(Failure::failed(format!("the filter finds more than {most} sensors; choose fewer")))
            }
            (false, true) => Err(nothing_found()),
            (false, false) => Ok(found),
        }
    }

    /// Those that are named. Everybody is found before anything changes.
    fn find(&self, client: &Client) -> Result<Vec<Found>, Failure> {
        let narrow = self.within.narrow(client)?;
        let mut found: Vec<Found> = Vec::new();
        for name in &self.sensors {
            let one = client.find(SENSOR, name, &narrow)?;
            if found.iter().all(|known| known.id != one.id) {
                found.push(one);
            }
        }
        Ok(found)
    }

    /// The filter as `POST /api/v1/bulk` has it: a name that comes twice means any of its values.
    fn filter(&self) -> Value {
        let mut filter = serde_json::Map::new();
        for (name, value) in &self.filter {
            let values = filter.entry(name).or_insert_with(|| json!([]));
            values.as_array_mut().into_iter().for_each(|values| values.push(json!(value)));
        }
        Value::Object(filter)
    }

    /// Changes them: one that is named by a request of its own, others by a job of the server. Those that are refused
    /// do not keep the others from it, and are told.
    pub(super) fn change(
        &self,
        client: &mut Client,
        changing: &Changing,
        change: &Change<'_>,
    ) -> Result<(), Failure> {
        let mut body = json!({
            "action": change.action, "arguments": change.arguments, "all_or_nothing": changing.all_or_nothing,
        });
        if self.all || !self.filter.is_empty() {
            body["filter"] = self.filter();
            body["all"] = json!(self.all);
            return change_found(client, changing, change, body);
        }
        let found = self.find(client)?;
        if (found.len() > 1 || change.grave) && !changing.dry_run {
            let who = match found.as_slice() {
                [one] => format!("`{}`", one.name),
                many => counted(many.len() as u64),
            };
            client.confirm(&format!("{who} will be {}. Go on?", change.done), changing.yes, DRY_RUN)?;
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
            _ => {
                body["items"] = found.iter().map(|one| one.id.as_str()).collect();
                match changing.dry_run {
                    true => try_out(client, change, &ask(client, body, true)?),
                    false => carry_out(client, change, &ask(client, body, false)?),
                }
            }
        }
    }
}

/// All that a filter finds.
fn change_found(
    client: &mut Client,
    changing: &Changing,
    change: &Change<'_>,
    mut body: Value,
) -> Result<(), Failure> {
    if changing.dry_run || !changing.yes {
        let tried = ask(client, body.clone(), true)?;
        let total = tried["total"].as_u64().unwrap_or(0);
        if total == 0 {
            return Err(nothing_found());
        }
        if changing.dry_run {
            return try_out(client, change, &tried);
        }
        client.confirm(&format!("{} will be {}. Go on?", counted(total), change.done), false, DRY_RUN)?;
        body["at_most"] = json!(total);
    }
    let begun = ask(client, body, false)?;
    if begun["total"] == 0 {
        return Err(nothing_found());
    }
    carry_out(client, change, &begun)
}

fn counted(sensors: u64) -> String {
    format!("{sensors} sensor{}", if sensors == 1 { "" } else { "s" })
}

fn nothing_found() -> Failure {
    let detail = "the filter finds no sensor";
    let document = json!({ "code": "nothing-found", "detail": detail });
    Failure::told(exit::REFUSED, format!("{detail}; nothing was changed"), document)
}

/// Begins a bulk change, or tries it out.
fn ask(client: &Client, mut body: Value, dry_run: bool) -> Result<Value, Failure> {
    body["dry_run"] = json!(dry_run);
    Ok(client.http.call(&Call::new(Method::Post, "/api/v1/bulk").json(body))?.body)
}

/// Says what a dry run found.
fn try_out(client: &mut Client, change: &Change<'_>, tried: &Value) -> Result<(), Failure> {
    let left_out = tried["left_out"].as_array().map_or(&[][..], Vec::as_slice);
    left_out.iter().for_each(|item| refused(client, item));
    let more = tried["refused"].as_u64().unwrap_or(0).saturating_sub(left_out.len() as u64);
    if more > 0 {
        client.note(&format!("and {more} more are left out"));
    }
    let text = format!("{} of {} sensors would be {}", tried["would_do"], tried["total"], change.done);
    client.done(&text, tried)
}

/// Waits for a job, and says what became of it.
fn carry_out(client: &mut Client, change: &Change<'_>, begun: &Value) -> Result<(), Failure> {
    let job = wait(client, begun)?;
    let path = format!("{JOBS}/{}/items", job["id"].as_str().unwrap_or_default());
    let left_out = job["refused"].as_u64().unwrap_or(0);
    let mut told = Vec::new();
    if left_out > 0 {
        let call = Call::get(path).query("outcome", Some("refused"));
        client.http.each(&call, CLIENT_LEFT_OUT_SHOWN, |item| {
            told.push(item);
            Ok(())
        })?;
    }
    told.iter().for_each(|item| refused(client, item));
    let text = format!("{} of {} sensors are {}", job["done"], job["total"], change.done);
    let mut document = job.clone();
    // For programs one document says it all, as in a dry run.
    document["left_out"] = json!(told);
    client.done(&text, &document)?;
    match job["state"].as_str() {
        Some("done") if left_out == 0 => Ok(()),
        Some("done") => Err(Failure::told(
            exit::REFUSED,
            format!("{left_out} sensors were left as they are"),
            json!({ "code": "some-refused", "refused": left_out }),
        )),
        state => {
            let why =
                job["error"].as_str().map(|why| format!(": {}", problem::shown(why))).unwrap_or_default();
            let code = if left_out == 0 { exit::FAILED } else { exit::REFUSED };
            let state = state.unwrap_or("unknown");
            let message = format!("the change is {state}{why}");
            Err(Failure::told(code, message, json!({ "code": format!("job-{state}"), "job": job["id"] })))
        }
    }
}

/// The name that people know it by.
fn refused(client: &Client, item: &Value) {
    let name = item["name"].as_str().or(item["id"].as_str()).unwrap_or_default();
    let text = |field: &str| problem::shown(item[field].as_str().unwrap_or_default());
    let message = format!("`{}` is left out: {} [{}]", clean(name), text("detail"), text("code"));
    client.note(&message);
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
