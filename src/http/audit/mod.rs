//! `GET /api/v1/audit`: who did what, when and from where, with what it changed: the register's log, a page at a time or
//! all that a filter finds as CSV or NDJSON.
//!
//! An entry of the log is a command with all that it changed; here each of its changes is an item of its own, so that a
//! change of ten thousand sensors fits pages, and a reader with a part of the fleet sees the items that touch it and no
//! others. The log has no index but that of time: a page looks at so much of it and then says where to go on, and no lock
//! is held meanwhile. Memory: a page of the log, whatever its length.

mod fields;
mod item;
mod part;

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::app::App;
use super::caller::Caller;
use super::connections::Connection;
use super::cursor::Cursors;
use super::download;
use super::file::{Format, format_of};
use super::params::Params;
use super::problem::Problem;
use super::workers::{Places, work};
use crate::fleet::{ActorKind, Batch, Change, Grant, Register};
use crate::limits::AUDIT_EXPORT_ITEMS;
use crate::store::AuditQuery;
use crate::time::UnixMillis;

use fields::Names;
use item::{AuditItem, KINDS};
use part::{Part, Thing};

/// One page.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditPage)]
struct Page {
    items: Vec<AuditItem>,
    /// Cursor of the page after this one. A page can be short, even empty, and still have one.
    next: Option<String>,
}

/// The filter, then where a page is.
const PARAMS: [&str; 15] = [
    "actor",
    "actor_kind",
    "action",
    "subscription",
    "site",
    "zone",
    "sensor",
    "gateway",
    "user",
    "token",
    "from",
    "until",
    "order",
    "limit",
    "cursor",
];
const FILTERS: usize = 13;

/// What to look for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    actor: Option<String>,
    actor_kind: Option<ActorKind>,
    action: Option<String>,
    thing: Option<Thing>,
    from: Option<UnixMillis>,
    until: Option<UnixMillis>,
    oldest_first: bool,
}

/// Where a page ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// The entry to look at next.
    sequence: u64,
    /// So many of its changes were looked at.
    done: usize,
}

#[utoipa::path(get, path = "/api/v1/audit", operation_id = "list-audit", tag = "Audit",
    summary = "Who did what, when and from where, with what it changed",
    description = "Every change of the register, sign-ins, refused sign-ins, files with secrets that were handed out, \
        backups; newest first. Who may read it in some sites or subscriptions only sees there what touches those: \
        sign-ins, users and tokens are for who may read it over everything. With `Accept: text/csv` or \
        `application/x-ndjson` all that the filter finds comes as one file, without `limit` and `cursor`; in CSV, a text \
        that a spreadsheet could take for a formula has an apostrophe in front. At most one of `subscription`, `site`, \
        `zone`, `sensor`, `gateway`, `user` and `token` can be given.",
    params(
        ("actor" = Option<String>, Query, max_length = 200, description = "By somebody of this name, or with a token of theirs"),
        ("actor_kind" = Option<String>, Query, description = "system, command-line, user, token, peer"),
        ("action" = Option<String>, Query, max_length = 200, description = "Only of this action, such as edit-sensor or sign-in-refused"),
        ("subscription" = Option<String>, Query, format = Uuid, description = "About this subscription, its sites, and what stood in them"),
        ("site" = Option<String>, Query, format = Uuid, description = "About this site and what stood in it"),
        ("zone" = Option<String>, Query, format = Uuid, description = "About this zone and the sensors that stood in it"),
        ("sensor" = Option<String>, Query, format = Uuid, description = "About this sensor, also a deleted one"),
        ("gateway" = Option<String>, Query, format = Uuid, description = "About this gateway"),
        ("user" = Option<String>, Query, format = Uuid, description = "About this user: what was changed of them and their tokens, and their sign-ins"),
        ("token" = Option<String>, Query, format = Uuid, description = "About this token"),
        ("from" = Option<String>, Query, format = DateTime, description = "Not before this time"),
        ("until" = Option<String>, Query, format = DateTime, description = "Before this time"),
        ("order" = Option<String>, Query, description = "`newest` first, or `oldest` first"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "Items on the page; 100 when not given"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before, with the same filter and order")),
    responses((status = 200, description = "A page of the audit log, or a file", content(
        (Page = "application/json"), (String = "text/csv"), (String = "application/x-ndjson")))))]
pub(super) async fn audit(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(connection): Extension<Arc<Connection>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let asked = Asked::read(&mut params)?;
    if let Some(format) = format_of(&headers) {
        params.finish(&PARAMS[..FILTERS])?;
        return file(&app, caller, asked, format, connection).await;
    }
    let (limit, cursor) = (params.page_limit()?, params.take("cursor")?);
    params.finish(&PARAMS)?;
    let page = work(&app, Places::Api, move |app| {
        let log = app.backend.store().register.position().log;
        let cursors = Cursors::of("audit", (&asked, log));
        let at = cursor.map(|text| cursors.read::<Place>(&text)).transpose()?;
        let mut items = Vec::new();
        let next = asked.look(app, &caller.grants, at, limit, &mut |item| items.push(item))?;
        Ok(Page { items, next: next.map(|place| cursors.show(&place)) })
    });
    Ok(Json(page.await??).into_response())
}

/// All that is found, as a file.
async fn file(
    app: &Arc<App>,
    caller: Caller,
    asked: Asked,
    format: Format,
    connection: Arc<Connection>,
) -> Result<Response, Problem> {
    let download = download::begin(app, &caller, "audit", format).await?.renewing(connection);
    let (mut begun, mut at, mut ended) = (false, None, false);
    let piece = move |app: &App| {
        let mut out = Vec::new();
        if !std::mem::replace(&mut begun, true) && format == Format::Csv {
            AuditItem::csv_head(&mut out);
        }
        if ended {
            return Ok(None);
        }
        let next = asked.look(app, &caller.grants, at, AUDIT_EXPORT_ITEMS, &mut |item| match format {
            Format::Csv => item.csv(&mut out),
            Format::Lines | Format::Json => {
                // Made of texts and numbers: it does not fail.
                let _ = serde_json::to_writer(&mut out, &item);
                out.push(b'\n');
            }
        })?;
        (at, ended) = (next, next.is_none());
        Ok(Some(out))
    };
    Ok(download.answer(app, piece))
}

impl Asked {
    fn read(params: &mut Params) -> Result<Asked, Problem> {
        let actor_kind = params.choice(
            "actor_kind",
            |name| KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind),
            || KINDS.iter().map(|(name, _)| *name).collect(),
        )?;
        let oldest_first = params.choice(
            "order",
            |name| ["newest", "oldest"].iter().position(|known| *known == name),
            || vec!["newest", "oldest"],
        )?;
        let (from, until) = params.range()?;
        Ok(Asked {
            actor: params.take("actor")?,
            actor_kind,
            // Any text: the log may hold actions of other versions.
            action: params.take("action")?,
            thing: thing(params)?,
            from,
            until,
            oldest_first: oldest_first == Some(1),
        })
    }

    /// Hands out at most `limit` items from a place on, and says where to go on; `None` at the end.
    fn look(
        &self,
        app: &App,
        grants: &[Grant],
        at: Option<Place>,
        limit: usize,
        each: &mut dyn FnMut(AuditItem),
    ) -> Result<Option<Place>, Problem> {
        let (sight, part) = {
            let register = app.backend.register();
            (Part::of_grants(&register, grants), self.thing.map(|thing| Part::of(&register, thing)))
        };
        let wanted = |change: &Change, register: Option<&Register>| {
            [&sight, &part].into_iter().flatten().all(|part| part.holds(change, register))
        };
        let log = &app.backend.store().register;
        let query = self.query(at, limit, log.position());
        let found = log.audit_where(&query, &|batch| batch.changes.iter().any(|it| wanted(it, None)));
        let found = found.map_err(|error| Problem::store(&error))?;
        let register = app.backend.register();
        let names = Names { register: &register, sight: sight.as_ref() };
        let mut given = 0;
        for (place, batch) in &found.entries {
            let done = at.filter(|at| at.sequence == place.sequence).map_or(0, |at| at.done);
            for (looked_at, number) in self.numbers(batch).enumerate().skip(done) {
                let change = &batch.changes[number];
                if !wanted(change, Some(&register)) {
                    continue;
                }
                if given == limit {
                    return Ok(Some(Place { sequence: place.sequence, done: looked_at }));
                }
                each(AuditItem::of(*place, number, batch, change, &names));
                given += 1;
            }
        }
        Ok(found.next.map(|edge| {
            let sequence = if self.oldest_first { edge.sequence } else { edge.sequence.saturating_sub(1) };
            Place { sequence, done: 0 }
        }))
    }

    /// The changes of a batch by number, in the order that was asked for.
    fn numbers(&self, batch: &Batch) -> impl Iterator<Item = usize> + use<> {
        let (count, oldest_first) = (batch.changes.len(), self.oldest_first);
        (0..count).map(move |place| if oldest_first { place } else { count - 1 - place })
    }

    fn query(&self, at: Option<Place>, limit: usize, end: crate::store::Position) -> AuditQuery {
        let edge = at.map(|at| {
            let before = at.sequence.saturating_add(1);
            end.at(if self.oldest_first { at.sequence } else { before })
        });
        AuditQuery {
            actor_kind: self.actor_kind,
            actor: self.actor.clone(),
            action: self.action.clone(),
            subject: match self.thing {
                Some(Thing::Sensor(id)) => Some(id.0),
                _ => None,
            },
            from: self.from,
            until: self.until,
            oldest_first: self.oldest_first,
            edge,
            limit,
        }
    }
}

/// The one thing that it has to be about.
fn thing(params: &mut Params) -> Result<Option<Thing>, Problem> {
    let given = [
        ("subscription", params.read("subscription")?.map(Thing::Subscription)),
        ("site", params.read("site")?.map(Thing::Site)),
        ("zone", params.read("zone")?.map(Thing::Zone)),
        ("sensor", params.read("sensor")?.map(Thing::Sensor)),
        ("gateway", params.read("gateway")?.map(Thing::Gateway)),
        ("user", params.read("user")?.map(Thing::User)),
        ("token", params.read("token")?.map(Thing::Token)),
    ];
    let mut given = given.into_iter().filter_map(|(name, thing)| Some((name, thing?)));
    let first = given.next();
    match (first, given.next()) {
        (Some((one, _)), Some((other, _))) => {
            Err(Problem::bad_parameter(other, &format!("`{one}` is given too"), "one of the two"))
        }
        (first, _) => Ok(first.map(|(_, thing)| thing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_look_for_is_read_or_refused_by_name() {
        let read = |query: &str| Asked::read(&mut Params::parse(Some(query)).unwrap());
        let field = |query: &str| serde_json::to_value(read(query).unwrap_err()).unwrap()["field"].clone();
        let id = "00000000-0000-4000-8000-000000000001";
        assert_eq!(field("actor_kind=robot"), "actor_kind");
        assert_eq!(field("order=up"), "order");
        assert_eq!(field("sensor=1"), "sensor");
        assert_eq!(field(&format!("site={id}&sensor={id}")), "sensor");
        assert_eq!(field("from=2026-11-25T00:00:00Z&until=2026-11-24T00:00:00Z"), "until");
        let asked = read(&format!("token={id}&actor_kind=peer&order=oldest")).unwrap();
        assert_eq!(asked.thing, Some(Thing::Token(id.parse().unwrap())));
        assert_eq!((asked.actor_kind, asked.oldest_first), (Some(ActorKind::Peer), true));
        assert!(!read("order=newest").unwrap().oldest_first && !read("").unwrap().oldest_first);
    }
}
