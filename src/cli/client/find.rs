//! Names and ids: what people call things, as the ids that the API takes.

use serde_json::Value;

use super::Client;
use super::cell::find;
use super::http::{Call, Method};
use crate::cli::paint::clean;
use crate::cli::{Failure, exit};
use crate::limits::{CLIENT_CANDIDATES_SHOWN, CLIENT_LOOKED_THROUGH_MAX};

/// A kind of thing that has names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// In a sentence.
    pub(super) one: &'static str,
    /// The command that lists them.
    pub(super) list: &'static str,
    pub(super) path: &'static str,
    /// The parameter that looks for a name, where the list has one.
    pub(super) search: Option<&'static str>,
    /// What tells things of one name apart.
    pub(super) within: &'static str,
}

pub(super) const SENSOR: Kind = Kind {
    one: "sensor",
    list: "sensors list",
    path: "/api/v1/sensors",
    search: Some("q"),
    within: "site.name",
};

pub(super) const SITE: Kind = Kind {
    one: "site",
    list: "sites list",
    path: "/api/v1/sites",
    search: Some("q"),
    within: "subscription.name",
};

pub(super) const GATEWAY: Kind =
    Kind { one: "gateway", list: "gateways list", path: "/api/v1/gateways", search: Some("q"), within: "" };

pub(super) const SUBSCRIPTION: Kind = Kind {
    one: "subscription",
    list: "subscriptions list",
    path: "/api/v1/subscriptions",
    search: Some("q"),
    within: "",
};

pub(super) const ZONE: Kind =
    Kind { one: "zone", list: "zones list", path: "/api/v1/zones", search: Some("q"), within: "site.name" };

pub(super) const USER: Kind =
    Kind { one: "user", list: "users list", path: "/api/v1/users", search: None, within: "full_name" };

pub(super) const TOKEN: Kind =
    Kind { one: "token", list: "tokens list", path: "/api/v1/tokens", search: None, within: "owner.name" };

/// Something found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: String,
    pub(super) name: String,
}

impl Found {
    /// From its document.
    pub(super) fn of(item: &Value) -> Found {
        let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        Found { id: text("id"), name: text("name") }
    }

    /// Where the API has it.
    pub(super) fn path(&self, kind: Kind) -> String {
        format!("{}/{}", kind.path, self.id)
    }
}

impl Client {
    /// The thing of this name or id. `narrow` is where to look, such as a site.
    pub(super) fn find(
        &self,
        kind: Kind,
        text: &str,
        narrow: &[(&'static str, String)],
    ) -> Result<Found, Failure> {
        let found = self.look_for(kind, text, narrow)?;
        found.ok_or_else(|| self.none(kind, text, &format!("`fleetpulse {}` shows what there is", kind.list)))
    }

    /// The thing that is named, or the only one.
    pub(super) fn find_or_only(&self, kind: Kind, text: Option<&str>) -> Result<Found, Failure> {
        if let Some(text) = text {
            return self.find(kind, text, &[]);
        }
        let mut there = Vec::new();
        self.http.each(&Call::get(kind.path), 2, |item| {
            there.push(Found::of(&item));
            Ok(())
        })?;
        match there.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(Failure::failed(format!(
                "there is no {0} yet; `fleetpulse {0}s create NAME` makes one",
                kind.one
            ))),
            _ => Err(Failure::usage(format!("there are several {0}s; say which with --{0}", kind.one))),
        }
    }

    /// The thing of this name or id, if there is one.
    pub(super) fn look_for(
        &self,
        kind: Kind,
        text: &str,
        narrow: &[(&'static str, String)],
    ) -> Result<Option<Found>, Failure> {
        if let Ok(id) = text.parse::<uuid::Uuid>() {
            let id = id.hyphenated().to_string();
            let found = Found { name: id.clone(), id };
            return self.is_there(kind, &found, narrow).map(|there| there.then_some(found));
        }
        let mut call = Call::get(kind.path);
        for (name, value) in narrow {
            call = call.query(name, Some(value));
        }
        if let Some(search) = kind.search {
            call = call.query(search, Some(text));
        }
        let (mut exact, mut folded) = (Vec::new(), Vec::new());
        let wanted = text.to_lowercase();
        let more = self.http.each(&call, CLIENT_LOOKED_THROUGH_MAX, |item| {
            match item["name"].as_str() {
                Some(name) if name == text => exact.push(item),
                Some(name) if name.to_lowercase() == wanted => folded.push(item),
                _ => {}
            }
            Ok(())
        })?;
        if more {
            let message = format!("too many {}s to look for a name; give the id", kind.one);
            return Err(Failure::failed(message));
        }
        let candidates = if exact.is_empty() { folded } else { exact };
        match candidates.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(Found::of(one))),
            many => Err(ambiguous(kind, text, many)),
        }
    }

    /// Whether what has this id stands where it is looked for. Without a place nobody needs to ask: what is done with it
    /// says so.
    fn is_there(
        &self,
        kind: Kind,
        found: &Found,
        narrow: &[(&'static str, String)],
    ) -> Result<bool, Failure> {
        if narrow.is_empty() {
            return Ok(true);
        }
        let document = self.http.call(&Call::get(found.path(kind)))?.body;
        Ok(narrow.iter().all(|(place, id)| document[*place]["id"] == id.as_str()))
    }

    /// That there is none, and what to do.
    pub(super) fn none(&self, kind: Kind, text: &str, next: &str) -> Failure {
        let (one, text) = (kind.one, clean(text));
        let message = format!("no {one} is called `{text}`\n  next   {next}");
        let detail = format!("no {one} is called {text}");
        Failure::told(exit::REFUSED, message, serde_json::json!({ "code": "no-such-name", "detail": detail }))
    }

    /// Makes something that others need.
    pub(super) fn make(&self, path: &str, body: Value) -> Result<Found, Failure> {
        let document = self.http.call(&Call::new(Method::Post, path).json(body))?.body;
        Ok(Found::of(&document))
    }

    /// Gives something another name.
    pub(super) fn rename(&mut self, kind: Kind, found: &Found, name: &str) -> Result<(), Failure> {
        let call = Call::new(Method::Patch, found.path(kind)).json(serde_json::json!({ "name": name }));
        let document = self.http.call(&call)?.body;
        self.done(&format!("{} `{}` is now called `{name}`", kind.one, found.name), &document)
    }

    /// Deletes something, after asking.
    pub(super) fn delete(&mut self, kind: Kind, found: &Found, yes: bool) -> Result<(), Failure> {
        self.confirm(&format!("Delete the {} `{}`?", kind.one, found.name), yes, "")?;
        self.http.call(&Call::new(Method::Delete, found.path(kind)))?;
        let document = serde_json::json!({ "id": found.id, "name": found.name });
        self.done(&format!("{} `{}` is deleted", kind.one, found.name), &document)
    }
}

/// Says which there are, so that the next try is right.
fn ambiguous(kind: Kind, text: &str, items: &[Value]) -> Failure {
    let shown: Vec<String> = items
        .iter()
        .take(CLIENT_CANDIDATES_SHOWN)
        .map(|item| {
            let (id, within) = (clean(item["id"].as_str().unwrap_or("?")), find(item, kind.within));
            let place = within.as_str().map(|place| format!("  {}", clean(place))).unwrap_or_default();
            format!("\n  {id}{place}")
        })
        .collect();
    let rest = items.len().saturating_sub(shown.len());
    let rest = if rest > 0 { format!("\n  and {rest} more") } else { String::new() };
    let message = format!(
        "`{}` is the name of {} {}s; give the id, or where it is:{}{rest}",
        clean(text),
        items.len(),
        kind.one,
        shown.concat()
    );
    let candidates: Vec<&Value> =
        items.iter().map(|item| &item["id"]).take(CLIENT_CANDIDATES_SHOWN).collect();
    Failure::told(
        exit::REFUSED,
        message,
        serde_json::json!({ "code": "ambiguous-name", "detail": format!("{} things have this name", items.len()), "candidates": candidates }),
    )
}
