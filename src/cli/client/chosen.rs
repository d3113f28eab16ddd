//! The sensors that a command is about: some by name, or all that a filter finds; asked about before they change.

use clap::Args;
use serde_json::{Value, json};

use super::Client;
use super::find::{Found, SENSOR};
use super::http::{Call, Method};
use super::progress::Progress;
use crate::cli::{Failure, exit};
use crate::limits::CLIENT_CHOSEN_MAX;

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
    /// Change nothing; say what would change
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
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
        let more = client.http.each(&call.query("sort", Some("name")), CLIENT_CHOSEN_MAX, |item| {
            found.push(Found::of(&item));
            Ok(())
        })?;
        if more {
            return Err(Failure::failed(format!(
                "the filter finds more than {CLIENT_CHOSEN_MAX} sensors; change fewer at a time"
            )));
        }
        Ok(found)
    }

    /// Changes each of them. What is refused does not keep the others from it, and is told.
    pub(super) fn change(
        &self,
        client: &mut Client,
        changing: &Changing,
        done: &str,
        call: impl Fn(&str) -> Call,
    ) -> Result<(), Failure> {
        let found = self.find(client)?;
        let asks = found.len() > 1 || !self.filter.is_empty();
        each(client, &found, changing, asks, done, call)
    }

    /// Deletes each of them; asks about a single one too.
    pub(super) fn remove(&self, client: &mut Client, changing: &Changing) -> Result<(), Failure> {
        let found = self.find(client)?;
        each(client, &found, changing, true, "deleted", |id| {
            Call::new(Method::Delete, format!("{}/{id}", SENSOR.path))
        })
    }
}

fn each(
    client: &mut Client,
    found: &[Found],
    changing: &Changing,
    asks: bool,
    done: &str,
    call: impl Fn(&str) -> Call,
) -> Result<(), Failure> {
    if found.is_empty() {
        return Err(Failure::told(
            exit::REFUSED,
            "the filter finds no sensor; nothing was changed".to_owned(),
            json!({ "code": "nothing-found", "detail": "the filter finds no sensor" }),
        ));
    }
    if changing.dry_run {
        for one in found {
            let document = json!({ "id": one.id, "name": one.name, "dry_run": true });
            client.done(&format!("`{}` would be {done}", one.name), &document)?;
        }
        return Ok(());
    }
    if asks {
        let who = match found {
            [one] => format!("`{}`", one.name),
            many => format!("{} sensors", many.len()),
        };
        client.confirm(&format!("{who} will be {done}. Go on?"), changing.yes)?;
    }
    let mut progress = Progress::new("sensors done");
    let mut refused: Vec<Failure> = Vec::new();
    for (place, one) in found.iter().enumerate() {
        match client.http.call(&call(&one.id)) {
            Ok(answer) => {
                let document = match answer.body {
                    Value::Null => json!({ "id": one.id, "name": one.name }),
                    body => body,
                };
                client.done(&format!("`{}` is {done}", one.name), &document)?;
            }
            // Nothing else will go better.
            Err(failure) if failure.code == exit::UNREACHABLE || found.len() == 1 => return Err(failure),
            Err(failure) => {
                let document = failure.document.clone().unwrap_or_default();
                let failed = json!({ "id": one.id, "name": one.name, "problem": document });
                client.warn(&format!("`{}`: {}", one.name, failure.message), &failed)?;
                refused.push(failure);
            }
        }
        progress.at(place + 1);
    }
    match refused.first() {
        None => Ok(()),
        Some(first) => Err(Failure::told(
            first.code,
            format!("{} of {} sensors were left as they are", refused.len(), found.len()),
            json!({ "code": "some-refused", "refused": refused.len(), "of": found.len() }),
        )),
    }
}
