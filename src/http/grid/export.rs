//! All sensors that a filter finds, as a file: CSV or NDJSON.
//!
//! Which sensors, and their order, is that of one moment; each line is of the moment in which it is written. A piece
//! is made when the one before is on its way, by a worker that then goes: a client that reads slowly holds memory of
//! one piece and one of a few places, and never a worker.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::OwnedSemaphorePermit;

use super::item::{Fields, SensorItem, csv_head, csv_line};
use super::params::Asked;
use crate::fleet::Grant;
use crate::fleet::query::Hit;
use crate::http::app::App;
use crate::http::counters::count;
use crate::http::problem::Problem;
use crate::http::workers::{Places, work};
use crate::limits::{EXPORT_PIECE_BYTES, SENSORS_BATCH};
use crate::time::UnixMillis;

/// Form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Lines,
}

/// The file that `Accept` asks for; `None` = a page.
pub(super) fn format_of(headers: &HeaderMap) -> Option<Format> {
    let written = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let kinds =
        written.flat_map(|list| list.split(',')).map(|kind| kind.split(';').next().unwrap_or("").trim());
    for kind in kinds {
        match kind.to_ascii_lowercase().as_str() {
            "text/csv" => return Some(Format::Csv),
            "application/x-ndjson" => return Some(Format::Lines),
            "application/json" | "application/*" | "*/*" => return None,
            _ => {}
        }
    }
    None
}

/// A file under way.
struct Export {
    hits: Vec<Hit>,
    at: usize,
    begun: bool,
    format: Format,
    fields: Fields,
}

impl Export {
    /// The next piece; `None` at the end.
    fn piece(&mut self, app: &App) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(EXPORT_PIECE_BYTES + EXPORT_PIECE_BYTES / 4);
        if !std::mem::replace(&mut self.begun, true) && self.format == Format::Csv {
            csv_head(self.fields, &mut out);
        }
        while self.at < self.hits.len() && out.len() < EXPORT_PIECE_BYTES {
            let end = (self.at + SENSORS_BATCH).min(self.hits.len());
            let (format, fields) = (self.format, self.fields);
            super::each(app, &self.hits[self.at..end], &mut |seen| match format {
                Format::Csv => csv_line(seen, fields, &mut out),
                Format::Lines => {
                    // Made of texts and numbers: it does not fail.
                    let _ = serde_json::to_writer(&mut out, &SensorItem::of(seen, fields));
                    out.push(b'\n');
                }
            });
            self.at = end;
        }
        (!out.is_empty()).then_some(out)
    }
}

pub(super) async fn file(
    app: &Arc<App>,
    grants: Arc<[Grant]>,
    asked: Asked,
    format: Format,
) -> Result<Response, Problem> {
    let Ok(place) = Arc::clone(&app.exports).try_acquire_owned() else {
        count(&app.counters.busy);
        return Err(Problem::busy());
    };
    let fields = asked.fields;
    let hits = work(app, Places::Api, move |app| {
        let query = asked.resolve(&app.backend.register(), &grants)?;
        Ok(super::found(app, &grants, &query, None, usize::MAX, false).hits)
    });
    let export = Export { hits: hits.await??, at: 0, begun: false, format, fields };
    let (kind, ending) = match format {
        Format::Csv => ("text/csv; charset=utf-8; header=present", "csv"),
        Format::Lines => ("application/x-ndjson", "ndjson"),
    };
    let name = format!("attachment; filename=\"fleetpulse-sensors-{}.{ending}\"", stamp(app.clock.unix()));
    let pieces =
        Pieces { app: Arc::clone(app), export: Arc::new(Mutex::new(export)), making: None, _place: place };
    let mut response = ([(header::CONTENT_TYPE, kind)], Body::new(pieces)).into_response();
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(name) = HeaderValue::try_from(name) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// A time as file names have it: `20261124T160000Z`.
fn stamp(at: UnixMillis) -> String {
    let text = crate::http::times::rfc3339(at);
    let seconds = text.split('.').next().unwrap_or_default();
    let mut stamp: String = seconds.chars().filter(char::is_ascii_alphanumeric).collect();
    stamp.push('Z');
    stamp
}

type Making = Pin<Box<dyn Future<Output = Result<Option<Vec<u8>>, Problem>> + Send>>;

/// The body: pieces, each made when the one before was taken.
struct Pieces {
    app: Arc<App>,
    export: Arc<Mutex<Export>>,
    making: Option<Making>,
    _place: OwnedSemaphorePermit,
}

/// A file was cut short, because no worker was to be had for the next piece.
#[derive(Debug, thiserror::Error)]
#[error("the file was cut short: no worker for the next piece")]
struct CutShort;

/// Tries to get a worker for one piece, each as long as an answer may wait for one.
const TRIES: usize = 5;

async fn make(app: Arc<App>, export: Arc<Mutex<Export>>) -> Result<Option<Vec<u8>>, Problem> {
    let mut tried = 0;
    loop {
        let export = Arc::clone(&export);
        let piece = work(&app, Places::Api, move |app| {
            export.lock().unwrap_or_else(PoisonError::into_inner).piece(app)
        });
        tried += 1;
        match piece.await {
            Err(_) if tried < TRIES => {}
            made => return made,
        }
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        let this = &mut *self;
        let making = this
            .making
            .get_or_insert_with(|| Box::pin(make(Arc::clone(&this.app), Arc::clone(&this.export))));
        let made = ready!(making.as_mut().poll(cx));
        this.making = None;
        Poll::Ready(match made {
            Ok(piece) => piece.map(|piece| Ok(Frame::data(Bytes::from(piece)))),
            Err(_) => Some(Err(CutShort)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_chooses_the_form() {
        let form = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
            format_of(&headers)
        };
        assert_eq!(form("text/csv"), Some(Format::Csv));
        assert_eq!(form("text/html, TEXT/CSV;q=0.9, */*"), Some(Format::Csv));
        assert_eq!(form("application/x-ndjson"), Some(Format::Lines));
        for page in ["*/*", "application/json, text/csv", "text/html", "", ",;,"] {
            assert_eq!(form(page), None, "{page}");
        }
        assert_eq!(format_of(&HeaderMap::new()), None);
    }

    #[test]
    fn file_names_carry_the_time() {
        assert_eq!(stamp(UnixMillis(1_795_532_400_000)), "20261124T150000Z");
    }
}
