//! All sensors that a filter finds, as a file: CSV or NDJSON.
//!
//! Which sensors, and their order, is that of one moment; each line is of the moment in which it is written.

use std::sync::Arc;

use axum::response::Response;

use super::item::{Fields, SensorItem, csv_head, csv_line};
use super::params::Asked;
use crate::fleet::query::Hit;
use crate::http::app::App;
use crate::http::caller::Caller;
use crate::http::download;
use crate::http::file::Format;
use crate::http::problem::Problem;
use crate::http::workers::{Places, work};
use crate::limits::{EXPORT_PIECE_BYTES, SENSORS_BATCH};

/// A file under way.
struct Export {
    hits: Vec<Hit>,
    at: usize,
    begun: bool,
    format: Format,
    fields: Fields,
}

impl Export {
    fn piece(&mut self, app: &App) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(EXPORT_PIECE_BYTES + EXPORT_PIECE_BYTES / 4);
        let csv = self.format == Format::Csv;
        if !std::mem::replace(&mut self.begun, true) && csv {
            csv_head(self.fields, &mut out);
        }
        while self.at < self.hits.len() && out.len() < EXPORT_PIECE_BYTES {
            let end = (self.at + SENSORS_BATCH).min(self.hits.len());
            let fields = self.fields;
            super::each(app, &self.hits[self.at..end], &mut |seen| {
                if csv {
                    return csv_line(seen, fields, &mut out);
                }
                // Made of texts and numbers: it does not fail.
                let _ = serde_json::to_writer(&mut out, &SensorItem::of(seen, fields));
                out.push(b'\n');
            });
            self.at = end;
        }
        (!out.is_empty()).then_some(out)
    }
}

pub(super) async fn file(
    app: &Arc<App>,
    caller: Caller,
    asked: Asked,
    format: Format,
) -> Result<Response, Problem> {
    let fields = asked.fields;
    let begun = download::begin(app, &caller, "sensors", format).await?;
    let hits = work(app, Places::Api, move |app| {
        let query = asked.resolve(&app.backend.grid(), &caller.grants)?;
        Ok(super::found(app, &caller.grants, &query, None, usize::MAX, false).hits)
    });
    let mut export = Export { hits: hits.await??, at: 0, begun: false, format, fields };
    Ok(begun.answer(app, move |app| Ok(export.piece(app))))
}
