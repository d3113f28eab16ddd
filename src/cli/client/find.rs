//! Names and ids: what people call things, as the ids that the API takes.

use serde_json::Value;

use super::Client;
use super::cell::find;
use super::http::Call;
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
    search: Some("search"),
    within: "site.name",
};

pub(super) const SITE: Kind = Kind {
    one: "site",
    list: "sites list",
    path: "/api/v1/sites",
    search: None,
    within: "subscription.name",
};

pub(super) const GATEWAY: Kind =
    Kind { one: "gateway", list: "gateways list", path: "/api/v1/gateways", search: None, within: "" };

/// Something found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: String,
    pub(super) name: String,
}

impl Client {
    /// The thing of this name or id. `narrow` is where to look, such as a site.
    pub(super) fn find(
        &self,
        kind: Kind,
        text: &str,
        narrow: &[(&'static str, String)],
    ) -> Result<Found, Failure> {
        if let Ok(id) = text.parse::<uuid::Uuid>() {
            let id = id.hyphenated().to_string();
            return Ok(Found { name: id.clone(), id });
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
        let candidates = if exact.is_empty() { folded } else { exact };
        match candidates.as_slice() {
            [one] if !more || kind.search.is_some() => Ok(found(one)),
            [] => Err(self.none(kind, text)),
            many => Err(ambiguous(kind, text, many)),
        }
    }

    fn none(&self, kind: Kind, text: &str) -> Failure {
        let (one, list, text) = (kind.one, kind.list, clean(text));
        let message =
            format!("no {one} is called `{text}`\n  next   `fleetpulse {list}` shows what there is");
        let detail = format!("no {one} is called {text}");
        Failure::told(exit::REFUSED, message, serde_json::json!({ "code": "no-such-name", "detail": detail }))
    }
}

fn found(item: &Value) -> Found {
    let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
    Found { id: text("id"), name: text("name") }
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
