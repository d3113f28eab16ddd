//! `GET /api/v1/messages/history`: every transition of every health message, from the journal, newest first.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::caller::Caller;
use super::documents::{self, EvidenceDocument, Reference, SubjectDocument};
use super::params::Params;
use super::problem::Problem;
use super::sight::Sight;
use super::times::rfc3339;
use super::workers::{Places, work};
use crate::fleet::Register;
use crate::health::{RuleId, Subject};
use crate::store::{self, EntryKind, JournalEntry, JournalQuery, LogId, PageCursor, Position};
use crate::time::UnixMillis;
use crate::wire::id::{GatewayId, SensorId, SiteId};

#[derive(Serialize, ToSchema)]
#[schema(as = HistoryPage)]
struct Page {
    items: Vec<Item>,
    /// Cursor of the page after this one. A page can be short, even empty, and still have one.
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = HistoryItem)]
pub(super) struct Item {
    /// Its place in the journal.
    id: String,
    /// `raised` or `cleared`.
    kind: &'static str,
    at: String,
    since: String,
    subject: SubjectDocument,
    /// Where the subject stood then.
    site: Option<Reference>,
    code: String,
    /// Of codes that this version knows.
    severity: Option<&'static str>,
    title: Option<&'static str>,
    evidence: Vec<EvidenceDocument>,
    muted: bool,
    folded_into: Option<String>,
    /// For silences: how long after its deadline it was raised.
    detection_delay_ms: Option<u32>,
    /// Why it was cleared.
    reason: Option<String>,
}

const PARAMS: [&str; 8] = ["sensor", "gateway", "site", "code", "from", "until", "limit", "cursor"];

#[utoipa::path(get, path = "/api/v1/messages/history", operation_id = "list-message-history", tag = "Messages",
    summary = "Every transition of every health message, newest first",
    params(
        ("sensor" = Option<String>, Query, format = Uuid, description = "Only of this sensor"),
        ("gateway" = Option<String>, Query, format = Uuid, description = "Only of this gateway"),
        ("site" = Option<String>, Query, format = Uuid, description = "Only of what stood in this site then"),
        ("code" = Option<String>, Query, description = "Only of this rule; also one of another version"),
        ("from" = Option<String>, Query, format = DateTime, description = "Not before this time"),
        ("until" = Option<String>, Query, format = DateTime, description = "Before this time"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1_000, description = "Items on the page; 100 when not given"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, description = "A page of transitions", body = Page)))]
pub(super) async fn message_history(
    State(app): State<Arc<App>>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let (sensor, gateway) = (params.read::<SensorId>("sensor")?, params.read::<GatewayId>("gateway")?);
    if sensor.is_some() && gateway.is_some() {
        return Err(Problem::bad_parameter("gateway", "`sensor` is given too", "one of the two"));
    }
    let site = params.read::<SiteId>("site")?;
    // Any code: the journal may hold those of other versions.
    let rule = params.take("code")?;
    let (from, until) = params.range()?;
    let limit = params.page_limit()?;
    let cursor = params.take("cursor")?;
    params.finish(&PARAMS)?;
    let subject = sensor.map(store::Subject::Sensor).or(gateway.map(store::Subject::Gateway));
    let page = work(&app, Places::Api, move |app| {
        let journal = &app.backend.store().journal;
        let log = journal.position().log;
        let before = cursor.map(|text| parse(&text, log)).transpose()?;
        let query = JournalQuery { subject, site, rule, from, until, before, limit };
        let found = journal.query(&query).map_err(|error| Problem::store(&error))?;
        let register = app.backend.register();
        let sight = Sight::of(&register, &caller);
        // A sensor that went out of sight has its past here, and not the name that it has there.
        let named = |entry: &JournalEntry| match entry.subject {
            store::Subject::Sensor(id) => sight.sensor(&register, id),
            _ => true,
        };
        Ok(Page {
            items: found
                .entries
                .iter()
                .filter(|(_, entry)| seen(&sight, entry))
                .map(|(place, entry)| item(&register, *place, entry, named(entry)))
                .collect(),
            next: found.next.map(|cursor| show(cursor, log)),
        })
    });
    Ok(Json(page.await??).into_response())
}

/// By where the subject stood then.
pub(super) fn seen(sight: &Sight, entry: &JournalEntry) -> bool {
    match (entry.subject, entry.site) {
        (store::Subject::Gateway(id), _) => sight.gateway(id),
        (store::Subject::Site(id), _) | (_, Some(id)) => sight.site(id),
        (store::Subject::Sensor(_), None) => matches!(sight, Sight::Everything),
    }
}

/// `named`: who reads it sees the subject where it is now.
pub(super) fn item(register: &Register, place: Position, entry: &JournalEntry, named: bool) -> Item {
    let rule = RuleId::from_code(&entry.rule).map(RuleId::rule);
    let subject = match entry.subject {
        store::Subject::Sensor(id) => Subject::Sensor(id),
        store::Subject::Gateway(id) => Subject::Gateway(id),
        store::Subject::Site(id) => Subject::Site(id),
    };
    Item {
        id: place.to_string(),
        kind: match entry.kind {
            EntryKind::Raised => "raised",
            EntryKind::Cleared => "cleared",
        },
        at: rfc3339(entry.at),
        since: rfc3339(entry.since),
        subject: if named { documents::subject(register, subject) } else { documents::nameless(subject) },
        site: entry.site.map(|id| documents::site(register, id)),
        code: entry.rule.clone(),
        severity: rule.map(|rule| rule.severity.as_str()),
        title: rule.map(|rule| rule.title),
        evidence: documents::stored_evidence(&entry.evidence),
        muted: entry.muted,
        folded_into: entry.folded_into.map(|id| id.to_string()),
        detection_delay_ms: entry.detection_delay_ms,
        reason: entry.reason.clone(),
    }
}

/// A cursor names its log, so that one of a journal that was begun anew is refused.
fn show(cursor: PageCursor, log: LogId) -> String {
    format!("{}.{:x}", Position { log, sequence: cursor.sequence }, cursor.at.0 as u64)
}

fn parse(text: &str, log: LogId) -> Result<PageCursor, Problem> {
    let bad = || Problem::bad_cursor(text);
    let (place, at) = text.rsplit_once('.').ok_or_else(bad)?;
    let place: Position = place.parse().map_err(|_| bad())?;
    let at = u64::from_str_radix(at, 16).map_err(|_| bad())?;
    if place.log != log {
        return Err(bad());
    }
    Ok(PageCursor { at: UnixMillis(at as i64), sequence: place.sequence })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_for_its_own_journal_only() {
        let log = LogId([9; 16]);
        let cursor = PageCursor { at: UnixMillis(-5), sequence: u64::MAX };
        assert_eq!(parse(&show(cursor, log), log).unwrap(), cursor);
        assert!(parse(&show(cursor, log), LogId([8; 16])).is_err());
        for text in ["", ".", "..", "a.b.c", &format!("{}.zz", Position::start(log)), "\u{0}.é."] {
            assert!(parse(text, log).is_err(), "{text}");
        }
    }
}
