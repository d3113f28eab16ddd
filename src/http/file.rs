//! Answers that are files: made piece by piece as the client reads.
//!
//! A piece is made when the one before is on its way, by a worker that then goes: a client that reads slowly holds memory
//! of one piece and one of a few places, and never a worker.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::app::App;
use super::connections::Connection;
use super::counters::count;
use super::problem::Problem;
use super::times::rfc3339;
use super::workers::{Places, work};
use crate::time::UnixMillis;

/// Form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Lines,
    Json,
}

impl Format {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Lines => "application/x-ndjson",
            Format::Json => "application/json",
        }
    }

    /// The name of a file of a list, made now.
    pub(super) fn file_name(self, list: &str, now: UnixMillis) -> String {
        let ending = match self {
            Format::Csv => "csv",
            Format::Lines => "ndjson",
            Format::Json => "json",
        };
        format!("fleetpulse-{list}-{}.{ending}", stamp(now))
    }
}

/// The file that `Accept` asks for; `None` = a page, or the one JSON document.
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

/// A time as file names have it: `20261124T160000Z`.
fn stamp(at: UnixMillis) -> String {
    let text = rfc3339(at);
    let seconds = text.split('.').next().unwrap_or_default();
    let mut stamp: String = seconds.chars().filter(char::is_ascii_alphanumeric).collect();
    stamp.push('Z');
    stamp
}

/// Makes the next piece; `None` at the end. An empty piece says that the worker gives way to others and will go on.
type Maker = Box<dyn FnMut(&App) -> Result<Option<Vec<u8>>, Problem> + Send>;

type Making = Pin<Box<dyn Future<Output = Result<Option<Vec<u8>>, Problem>> + Send>>;

/// The body: pieces, each made when the one before was taken.
pub(super) struct Pieces {
    app: Arc<App>,
    maker: Arc<Mutex<Maker>>,
    making: Option<Making>,
    /// Bytes that are still to come, when that is known.
    left: Option<u64>,
    /// Gets the time of an answer anew with each piece.
    renewed: Option<Arc<Connection>>,
    _place: OwnedSemaphorePermit,
}

/// A place among those who get files; there are a few.
pub(super) fn place(app: &App, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(places).try_acquire_owned().map_err(|_| {
        count(&app.counters.busy);
        Problem::busy()
    })
}

impl Pieces {
    pub(super) fn new(
        app: &Arc<App>,
        place: OwnedSemaphorePermit,
        maker: impl FnMut(&App) -> Result<Option<Vec<u8>>, Problem> + Send + 'static,
    ) -> Pieces {
        let maker: Maker = Box::new(maker);
        let maker = Arc::new(Mutex::new(maker));
        Pieces { app: Arc::clone(app), maker, making: None, left: None, renewed: None, _place: place }
    }

    /// It has this length.
    pub(super) fn of_length(self, bytes: u64) -> Pieces {
        Pieces { left: Some(bytes), ..self }
    }

    /// It may take longer than other answers, as long as the client takes a piece in the time that those have.
    pub(super) fn renewing(self, connection: Arc<Connection>) -> Pieces {
        Pieces { renewed: Some(connection), ..self }
    }

    /// As a file that browsers keep under this name.
    pub(super) fn into_file(self, media_type: &'static str, name: &str) -> Response {
        let mut response = ([(header::CONTENT_TYPE, media_type)], Body::new(self)).into_response();
        if let Ok(name) = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")) {
            response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
        }
        response
    }
}

/// A file was cut short: no worker was to be had for the next piece, or it could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the file was cut short")]
pub(super) struct CutShort;

/// Tries to get a worker for one piece, each as long as an answer may wait for one.
const TRIES: usize = 5;

async fn make(app: Arc<App>, maker: Arc<Mutex<Maker>>) -> Result<Option<Vec<u8>>, Problem> {
    let mut tried = 0;
    loop {
        let maker = Arc::clone(&maker);
        let piece = work(&app, Places::Api, move |app| {
            let mut maker = maker.lock().unwrap_or_else(PoisonError::into_inner);
            (*maker)(app)
        });
        tried += 1;
        match piece.await {
            Err(_) if tried < TRIES => {}
            made => return made?,
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
        loop {
            let making = this
                .making
                .get_or_insert_with(|| Box::pin(make(Arc::clone(&this.app), Arc::clone(&this.maker))));
            let made = ready!(making.as_mut().poll(cx));
            this.making = None;
            if let Some(connection) = &this.renewed {
                connection.request_begins(this.app.clock.mono());
            }
            match made {
                Ok(Some(piece)) if piece.is_empty() => {}
                Ok(Some(piece)) => {
                    this.left = this.left.map(|left| left.saturating_sub(piece.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(Bytes::from(piece)))));
                }
                Ok(None) => return Poll::Ready(None),
                Err(_) => return Poll::Ready(Some(Err(CutShort))),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
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
