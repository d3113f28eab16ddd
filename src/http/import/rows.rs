//! Files of an import taken apart: each row read or told by line and column.

use std::str::FromStr;

use axum::http::{HeaderMap, StatusCode, header};
use csv::{ReaderBuilder, StringRecord};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::http::body::{AtMost, parse};
use crate::http::problem::{Problem, RowFault, shown};
use crate::limits::IMPORT_ROWS_MAX;

/// One sensor of an import. Empty is the same as left out.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = ImportRow)]
pub(super) struct Row {
    pub(super) name: String,
    /// `ot-cloud` (when left out), `ot-local` or `enterprise-iot`.
    pub(super) r#type: String,
    /// Name or id; may be left out where there is only one.
    pub(super) subscription: String,
    /// Name or id.
    pub(super) site: String,
    /// Name or id.
    pub(super) zone: String,
    pub(super) notes: String,
    /// `automatic` or `manual`.
    pub(super) threat_intel_mode: String,
    /// `key=value;key=value`, of a site that is made.
    pub(super) tags: String,
    /// E-mail addresses with `;` between, of a site that is made.
    pub(super) owners: String,
}

const COLUMNS: [&str; 9] =
    ["name", "type", "subscription", "site", "zone", "notes", "threat_intel_mode", "tags", "owners"];

impl Row {
    fn set(&mut self, column: &str, value: &str) {
        let field = match column {
            "name" => &mut self.name,
            "type" => &mut self.r#type,
            "subscription" => &mut self.subscription,
            "site" => &mut self.site,
            "zone" => &mut self.zone,
            "notes" => &mut self.notes,
            "threat_intel_mode" => &mut self.threat_intel_mode,
            "tags" => &mut self.tags,
            _ => &mut self.owners,
        };
        value.clone_into(field);
    }
}

/// A row that can't be taken.
pub(super) fn fault(
    line: u64,
    column: impl Into<String>,
    code: &'static str,
    detail: impl Into<String>,
    valid: impl Into<String>,
) -> RowFault {
    RowFault { line, column: column.into(), code, detail: detail.into(), valid: valid.into() }
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Json,
}

type Rows = (Vec<(u64, Row)>, Vec<RowFault>);

impl Format {
    pub(super) fn of(headers: &HeaderMap) -> Result<Format, Problem> {
        let written = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        let essence = written.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "text/csv" => Ok(Format::Csv),
            "application/json" => Ok(Format::Json),
            _ => {
                let what = written.map_or_else(|| "missing".to_owned(), shown);
                let detail = format!("`Content-Type` is {what}; send text/csv or application/json");
                Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail)
                    .field("Content-Type", "text/csv or application/json"))
            }
        }
    }

    /// The rows of a file, and those that can't be read. A file that is none is refused whole.
    pub(super) fn rows(self, bytes: &[u8]) -> Result<Rows, Problem> {
        match self {
            Format::Csv => of_csv(bytes),
            Format::Json => of_json(bytes),
        }
    }
}

fn too_many() -> Problem {
    let detail = format!("there are more than {IMPORT_ROWS_MAX} rows; send them in several files");
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "too-many", detail)
        .field("body", format!("at most {IMPORT_ROWS_MAX} rows"))
}

fn of_json(bytes: &[u8]) -> Result<Rows, Problem> {
    // Not taken apart yet: what is wrong in one does not end the others.
    let AtMost(items) = parse::<AtMost<IMPORT_ROWS_MAX, &RawValue>>(bytes)?;
    let (mut rows, mut faults) = (Vec::with_capacity(items.len()), Vec::new());
    for (item, line) in items.into_iter().zip(1..) {
        match parse::<Row>(item.get().as_bytes()) {
            Ok(row) => rows.push((line, row)),
            Err(problem) => {
                faults.push(fault(line, problem.named(), problem.code(), problem.detail(), problem.valid()));
            }
        }
    }
    Ok((rows, faults))
}

fn header_fault(code: &'static str, detail: String, valid: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail).field("header line", valid)
}

/// Where each column of the file goes.
fn columns(header: &StringRecord) -> Result<Vec<&'static str>, Problem> {
    let valid = || format!("each once: {}", COLUMNS.join(", "));
    let mut columns = Vec::new();
    for written in header {
        let name = written.trim().to_ascii_lowercase();
        let Some(known) = COLUMNS.into_iter().find(|known| *known == name) else {
            let detail = format!("the file has a column {}, which is not known", shown(written));
            return Err(header_fault("unknown-column", detail, valid()));
        };
        if columns.contains(&known) {
            return Err(header_fault(
                "column-twice",
                format!("the column `{known}` is there twice"),
                valid(),
            ));
        }
        columns.push(known);
    }
    if columns.contains(&"name") {
        return Ok(columns);
    }
    let detail = "the first line names the columns, and `name` is not among them".to_owned();
    Err(header_fault("missing-column", detail, valid()))
}

/// Lines as people count them. (The library's own count is behind by one where lines end in CR LF, and does not count
/// empty ones.)
struct Lines<'b> {
    bytes: &'b [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line on which the record from this byte on begins.
    fn of(&mut self, byte: usize) -> u64 {
        let ends = |byte: &&u8| matches!(**byte, b'\n' | b'\r');
        let start = byte + self.bytes.iter().skip(byte).take_while(ends).count();
        let passed = self.bytes.get(self.at..start).unwrap_or_default();
        self.line += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.at = start;
        self.line
    }
}

fn of_csv(bytes: &[u8]) -> Result<Rows, Problem> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let delimiter = if first.contains(&b';') && !first.contains(&b',') { b';' } else { b',' };
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(bytes);
    let mut record = csv::ByteRecord::new();
    let unreadable = |error: csv::Error| {
        let detail = format!("the file is no CSV: {error}");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-csv", detail).field("body", "CSV in UTF-8")
    };
    if !reader.read_byte_record(&mut record).map_err(unreadable)? {
        return Err(header_fault("missing-column", "the file is empty".to_owned(), COLUMNS.join(", ")));
    }
    let no_utf8 = |line: u64| fault(line, "", "no-utf8", "the row is not UTF-8", "the file saved as UTF-8");
    let Ok(header) = StringRecord::from_byte_record(record.clone()) else {
        return Err(header_fault("no-utf8", "the first line is not UTF-8".to_owned(), "UTF-8".to_owned()));
    };
    let columns = columns(&header)?;
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    let mut lines = Lines { bytes, at: 0, line: 1 };
    while reader.read_byte_record(&mut record).map_err(unreadable)? {
        if rows.len() + faults.len() >= IMPORT_ROWS_MAX {
            return Err(too_many());
        }
        let line = lines.of(record.position().map_or(0, csv::Position::byte) as usize);
        let Ok(fields) = StringRecord::from_byte_record(record.clone()) else {
            faults.push(no_utf8(line));
            continue;
        };
        if fields.len() != columns.len() {
            let detail = format!("the row has {} fields and the header {}", fields.len(), columns.len());
            let valid = format!("{} fields; quotes around one that holds a comma or a quote", columns.len());
            faults.push(fault(line, "", "field-count", detail, valid));
            continue;
        }
        let mut row = Row::default();
        for (column, value) in columns.iter().zip(&fields) {
            row.set(column, value.trim());
        }
        rows.push((line, row));
    }
    Ok((rows, faults))
}

/// An id, when a text is one.
pub(super) fn as_id<T: FromStr>(text: &str) -> Option<T> {
    (text.len() == 36).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(text: &str) -> Result<Rows, String> {
        of_csv(text.as_bytes()).map_err(|problem| problem.code().to_owned())
    }

    #[test]
    fn rows_are_read_with_their_lines() {
        let (rows, faults) =
            csv("\u{feff}Name;zone\r\n\"a;b\"; Line 1\r\n\"two\nlines\";x\r\n\r\nc;y\r\n").unwrap();
        assert!(faults.is_empty());
        let read: Vec<_> = rows.iter().map(|(line, row)| (*line, &*row.name, &*row.zone)).collect();
        assert_eq!(read, [(2, "a;b", "Line 1"), (3, "two\nlines", "x"), (6, "c", "y")]);
    }

    #[test]
    fn broken_rows_are_told_and_broken_files_refused() {
        let (rows, faults) = csv("name,zone\na\nb,c,d\ne,f\n\"g,h\n").unwrap();
        assert_eq!(rows.len(), 1);
        let told: Vec<_> = faults.iter().map(|fault| (fault.line, fault.code)).collect();
        assert_eq!(told, [(2, "field-count"), (3, "field-count"), (5, "field-count")]);
        for (text, code) in [
            ("", "missing-column"),
            ("zone,site\n", "missing-column"),
            ("name,colour\n", "unknown-column"),
            ("name,Name\n", "column-twice"),
        ] {
            assert_eq!(csv(text).unwrap_err(), code, "{text}");
        }
        let many = format!("name\n{}", "a\n".repeat(IMPORT_ROWS_MAX + 1));
        assert_eq!(csv(&many).unwrap_err(), "too-many");
        let (rows, faults) = of_csv(b"name\na\n\xff\n").unwrap();
        assert_eq!((rows.len(), faults[0].line, faults[0].code), (1, 3, "no-utf8"));
        let (rows, faults) = of_json(br#"[{"name":"a"},{"nmae":"b"},7,{"name":null}]"#).unwrap();
        assert_eq!((rows.len(), faults.len()), (1, 3));
        assert_eq!((faults[0].line, &*faults[0].column, faults[0].code), (2, "nmae", "unknown-field"));
        assert!(of_json(b"{}").is_err());
        let fits = format!("[7{}]", ",7".repeat(IMPORT_ROWS_MAX - 1));
        assert_eq!(of_json(fits.as_bytes()).unwrap().1.len(), IMPORT_ROWS_MAX);
        // What follows the first one too many is not even looked at.
        let broken = format!("[7{}, no JSON", ",7".repeat(IMPORT_ROWS_MAX));
        let refused = of_json(broken.as_bytes()).unwrap_err();
        assert_eq!((refused.code(), refused.named()), ("too-many", "body"));
        assert_eq!(refused.valid(), format!("at most {IMPORT_ROWS_MAX} items"));
    }
}
