//! One value of a document as a cell: found by its place, harmless in a terminal and in a spreadsheet.

use serde_json::Value;

use crate::cli::paint::{Paint, clean};
use crate::health::Severity;
use crate::http::csv_text;
use crate::time::UnixMillis;

/// A column of a table and of CSV, a line of one thing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// Over the column.
    pub(super) head: &'static str,
    /// Where it lies in the document: names with dots between.
    pub(super) at: &'static str,
    pub(super) show: Show,
    /// Only in wide tables and for programs.
    pub(super) wide: bool,
    /// Shown of one thing even when there is nothing.
    pub(super) always: bool,
}

/// How a value is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    Text,
    /// A time, to the second.
    Time,
    /// A time, as how long ago.
    Ago,
    /// A word that is good or bad.
    State,
}

/// A column of every table.
pub(super) const fn text(head: &'static str, at: &'static str) -> Column {
    Column { head, at, show: Show::Text, wide: false, always: true }
}

impl Column {
    pub(super) const fn wide(self) -> Column {
        Column { wide: true, always: false, ..self }
    }

    /// Whether it is of this field of a document.
    pub(super) fn is_of(&self, field: &str) -> bool {
        self.at.split('.').next() == Some(field)
    }

    /// The same in every table.
    pub(super) fn narrow(&self) -> Column {
        Column { wide: false, ..*self }
    }

    pub(super) const fn show(self, show: Show) -> Column {
        Column { show, ..self }
    }
}

/// The value at a place: names with dots between.
pub(super) fn find<'v>(document: &'v Value, at: &str) -> &'v Value {
    at.split('.').fold(document, |value, name| value.get(name).unwrap_or(&Value::Null))
}

/// As a person reads it; `-` when there is nothing.
pub(super) fn cell(document: &Value, column: &Column, now: UnixMillis) -> String {
    let value = find(document, column.at);
    let text = match (column.show, value.as_str()) {
        (Show::Time, Some(time)) => to_the_second(time),
        (Show::Ago, Some(time)) => ago(time, now),
        _ => plain(value),
    };
    if text.is_empty() { "-".to_owned() } else { clean(&text) }
}

/// As a cell of CSV: in quotes where needed, and never a formula; numbers are none.
pub(super) fn csv_cell(document: &Value, column: &Column) -> String {
    let value = find(document, column.at);
    if value.is_number() {
        return plain(value);
    }
    let mut cell = Vec::new();
    csv_text(&mut cell, &plain(value));
    String::from_utf8_lossy(&cell).into_owned()
}

/// Colours of words that are good or bad; `padded` is the text with its spaces.
pub(super) fn style(paint: Paint, column: &Column, document: &Value, padded: &str) -> String {
    if column.show != Show::State {
        return padded.to_owned();
    }
    match find(document, column.at).as_str().unwrap_or_default() {
        "healthy" | "active" | "waiting" | "done" | "finished" => paint.right(padded),
        "critical" | "failed" | "revoked" => paint.severity(Severity::Critical, padded),
        "warning" | "pending-activation" | "pending-reactivation" | "expired" => {
            paint.severity(Severity::Warning, padded)
        }
        "lifecycle" | "info" => paint.severity(Severity::Lifecycle, padded),
        _ => padded.to_owned(),
    }
}

/// A value as one line of text.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => object(fields),
    }
}

/// References have a name, evidence a value, roles a place; everything else is its fields.
fn object(fields: &serde_json::Map<String, Value>) -> String {
    let known = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let named = ["name", "code", "id"].into_iter().find_map(known);
    if let (Some(name), Some(value)) = (named, known("value")) {
        return evidence(name, value, known("threshold"), known("unit"));
    }
    if let Some(role) = known("role") {
        let within = ["site", "subscription"].into_iter().find_map(|kind| Some((kind, known(kind)?)));
        return match within {
            Some((kind, place)) => format!("{}:{kind}={}", plain(role), plain(place)),
            None => plain(role),
        };
    }
    match named {
        Some(name) => plain(name),
        None => {
            let pairs = fields.iter().map(|(name, value)| format!("{name}={}", plain(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
    }
}

fn evidence(name: &Value, value: &Value, threshold: Option<&Value>, unit: Option<&Value>) -> String {
    let unit =
        unit.map(plain).filter(|unit| !unit.is_empty()).map(|unit| format!(" {unit}")).unwrap_or_default();
    let limit = threshold.map(|limit| format!(" (limit {}{unit})", plain(limit))).unwrap_or_default();
    format!("{} {}{unit}{limit}", plain(name), plain(value))
}

/// `2026-11-24 16:00:07`.
fn to_the_second(time: &str) -> String {
    let second = time.get(..19).filter(|_| time.parse::<jiff::Timestamp>().is_ok());
    second.map_or_else(|| time.to_owned(), |second| second.replacen('T', " ", 1))
}

/// `7 s ago`.
fn ago(time: &str, now: UnixMillis) -> String {
    let Ok(at) = time.parse::<jiff::Timestamp>() else { return time.to_owned() };
    let seconds = (now.0 - at.as_millisecond()) / 1_000;
    let (count, unit) = match seconds.unsigned_abs() {
        seconds @ 0..120 => (seconds, "s"),
        seconds @ 120..7_200 => (seconds / 60, "min"),
        seconds @ 7_200..172_800 => (seconds / 3_600, "h"),
        seconds => (seconds / 86_400, "d"),
    };
    if seconds < 0 { format!("in {count} {unit}") } else { format!("{count} {unit} ago") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: UnixMillis = UnixMillis(1_795_532_400_000); // 2026-11-24T15:00:00Z

    #[test]
    fn values_are_found_and_shown() {
        let document = json!({
            "name": "pump\u{1b}[2J\u{202e}", "site": { "id": "x", "name": "Lyon" }, "zone": null,
            "seen": "2026-11-24T14:59:53.000Z", "active": ["no-traffic", "cpu"], "tags": { "line": "3", "a": "b" },
            "grants": [{ "role": "reader" }, { "role": "operator", "site": "x" }],
            "evidence": [{ "name": "loss", "value": 7, "threshold": 5, "unit": "%" }],
        });
        let show = |column: Column| cell(&document, &column, NOW);
        assert_eq!(show(text("NAME", "name")), "pump\u{fffd}[2J\u{fffd}");
        assert_eq!(show(text("SITE", "site")), "Lyon");
        assert_eq!(show(text("SITE", "site.id")), "x");
        assert_eq!(show(text("ZONE", "zone.name")), "-");
        assert_eq!(show(text("SEEN", "seen").show(Show::Ago)), "7 s ago");
        assert_eq!(show(text("SEEN", "seen").show(Show::Time)), "2026-11-24 14:59:53");
        assert_eq!(show(text("ACTIVE", "active")), "no-traffic, cpu");
        assert_eq!(show(text("TAGS", "tags")), "a=b, line=3");
        assert_eq!(show(text("GRANTS", "grants")), "reader, operator:site=x");
        assert_eq!(show(text("EVIDENCE", "evidence")), "loss 7 % (limit 5 %)");
    }

    #[test]
    fn csv_is_quoted_and_never_a_formula() {
        let cell = |value: Value| csv_cell(&json!({ "v": value }), &text("V", "v"));
        assert_eq!(cell(json!("=1+1")), "'=1+1");
        assert_eq!(cell(json!("@SUM(A1)")), "'@SUM(A1)");
        assert_eq!(cell(json!(-5)), "-5");
        assert_eq!(cell(json!("a,\"b\"")), "\"a,\"\"b\"\"\"");
        assert_eq!(cell(Value::Null), "");
    }

    #[test]
    fn times_are_told_as_people_do() {
        assert_eq!(ago("2026-11-24T12:00:00Z", NOW), "3 h ago");
        assert_eq!(ago("2026-11-24T15:00:30Z", NOW), "in 30 s");
        assert_eq!(ago("soon", NOW), "soon");
        assert_eq!(to_the_second("é".repeat(20).as_str()), "é".repeat(20));
    }
}
