//! `fleetpulse sensors onboard`: a sensor in the register, its places made on the way, and its activation file.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Client;
use super::files::{NewFile, activate};
use super::find::{Found, SENSOR, SITE, SUBSCRIPTION, ZONE};
use super::http::{Call, Method};
use super::sensors::{TiMode, USUAL_ZONE, word};
use crate::cli::Failure;
use crate::cli::paint::clean;
use crate::cli::sensor_kind::SensorKind;

/// Subscription that is made when there is none and nobody names one.
const USUAL_SUBSCRIPTION: &str = "Default";

/// Flags of `sensors onboard`.
#[derive(Args)]
pub(super) struct Onboard {
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
    kind: SensorKind,
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

impl Onboard {
    pub(super) fn run(self, client: &mut Client) -> Result<(), Failure> {
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
            (SensorKind::EnterpriseIot, None) if self.zone.is_none() => Ok(()),
            (SensorKind::EnterpriseIot, _) => Err(Failure::usage(
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
