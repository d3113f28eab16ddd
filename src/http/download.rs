//! Files to take away: lists as CSV or NDJSON, and endpoint details. Each is signed, all in one way.
//!
//! A file is made piece by piece as the client reads: a client that reads slowly holds memory of one piece and one of a
//! few places, and never a worker. So its signature is known when its last byte is, which is too late for a header, and
//! trailers are lost on the way by most proxies and programs. Writing each file to the disk first would have the
//! signature in the head; the price would be a disk that requests can fill, and a first byte that comes after the last
//! one is made. Therefore the head says where the signature will be (`Fleetpulse-Signature: /api/v1/signatures/...`);
//! what is sent is hashed on its way, and the signature ([`crate::identity::SignatureCheck`] reads it) is kept for a
//! quarter of an hour, for the same caller alone. It costs a second request; a restart between the two costs a third,
//! for the file again.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::OwnedSemaphorePermit;

use super::app::App;
use super::caller::Caller;
use super::counters::count;
use super::problem::Problem;
use super::signatures::Promised;
use super::workers::{Places, work};
use crate::identity::FileSigner;
use crate::time::UnixMillis;

/// Where the signature of a file will be.
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("fleetpulse-signature");

/// Form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Csv,
    Lines,
    Json,
}

impl Format {
    fn media_type(self) -> &'static str {
        match self {
            Format::Csv => "text/csv; charset=utf-8; header=present",
            Format::Lines => "application/x-ndjson",
            Format::Json => "application/json",
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Lines => "ndjson",
            Format::Json => "json",
        }
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

/// Makes a file, piece by piece.
pub(super) trait Maker: Send + 'static {
    /// The next piece; `None` at the end.
    fn piece(&mut self, app: &App) -> Option<Vec<u8>>;
}

/// A file that is there already.
pub(super) struct Whole(pub(super) Option<Vec<u8>>);

impl Maker for Whole {
    fn piece(&mut self, _: &App) -> Option<Vec<u8>> {
        self.0.take()
    }
}

/// A file that was begun: one of a few places, and its signature.
pub(super) struct Begun {
    name: String,
    format: Format,
    signer: FileSigner,
    promised: Promised,
    place: OwnedSemaphorePermit,
}

/// Begins a file. What goes into it is to be looked up afterwards, so that it is not older than its signature says.
pub(super) async fn begin(
    app: &Arc<App>,
    caller: &Caller,
    what: &str,
    format: Format,
) -> Result<Begun, Problem> {
    let Ok(place) = Arc::clone(&app.exports).try_acquire_owned() else {
        count(&app.counters.busy);
        return Err(Problem::busy());
    };
    let name = format!("fleetpulse-{what}-{}.{}", stamp(app.clock.unix()), format.ending());
    let asked = name.clone();
    let signer = work(app, Places::Api, move |app| app.backend.begin_signature(&asked, format.media_type()));
    let signer = signer.await?.map_err(|error| {
        tracing::error!(error, "a file can't be signed");
        Problem::internal("the file can't be signed; the log says why")
    })?;
    let promised = Promised::new(app, caller, &name);
    Ok(Begun { name, format, signer, promised, place })
}

impl Begun {
    /// The answer: the file as it is made.
    pub(super) fn answer(self, app: &Arc<App>, maker: impl Maker) -> Response {
        let Begun { name, format, signer, promised, place } = self;
        let signature = HeaderValue::try_from(promised.path());
        let attachment = HeaderValue::try_from(format!("attachment; filename=\"{name}\""));
        let source = Source { maker: Box::new(maker), signing: Some((signer, promised)) };
        let pieces = Pieces {
            app: Arc::clone(app),
            source: Arc::new(Mutex::new(source)),
            making: None,
            _place: place,
        };
        let kind = [(header::CONTENT_TYPE, format.media_type())];
        let mut response = (kind, Body::new(pieces)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        // Both are made of letters, digits and a few signs.
        let named = [(header::CONTENT_DISPOSITION, attachment), (SIGNATURE, signature)];
        headers.extend(named.into_iter().filter_map(|(name, value)| Some((name, value.ok()?))));
        response
    }
}

/// A time as file names have it: `20261124T160000Z`.
fn stamp(at: UnixMillis) -> String {
    let text = super::times::rfc3339(at);
    let seconds = text.split('.').next().unwrap_or_default();
    let mut stamp: String = seconds.chars().filter(char::is_ascii_alphanumeric).collect();
    stamp.push('Z');
    stamp
}

/// Pieces, and the signature over them.
struct Source {
    maker: Box<dyn Maker>,
    /// None after the end.
    signing: Option<(FileSigner, Promised)>,
}

impl Source {
    fn next(&mut self, app: &App) -> Option<Vec<u8>> {
        if let Some(piece) = self.maker.piece(app) {
            if let Some((signer, _)) = &mut self.signing {
                signer.update(&piece);
            }
            return Some(piece);
        }
        let (signer, promised) = self.signing.take()?;
        match signer.finish() {
            Ok(signature) => promised.keep(signature),
            Err(error) => tracing::error!(%error, "a file could not be signed"),
        }
        None
    }
}

type Making = Pin<Box<dyn Future<Output = Result<Option<Vec<u8>>, Problem>> + Send>>;

/// The body: pieces, each made when the one before was taken.
struct Pieces {
    app: Arc<App>,
    source: Arc<Mutex<Source>>,
    making: Option<Making>,
    _place: OwnedSemaphorePermit,
}

/// A file was cut short, because no worker was to be had for the next piece.
#[derive(Debug, thiserror::Error)]
#[error("the file was cut short: no worker for the next piece")]
struct CutShort;

/// Tries to get a worker for one piece, each as long as an answer may wait for one.
const TRIES: usize = 5;

async fn make(app: Arc<App>, source: Arc<Mutex<Source>>) -> Result<Option<Vec<u8>>, Problem> {
    let mut tried = 0;
    loop {
        let source = Arc::clone(&source);
        let piece = work(&app, Places::Api, move |app| {
            source.lock().unwrap_or_else(PoisonError::into_inner).next(app)
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
            .get_or_insert_with(|| Box::pin(make(Arc::clone(&this.app), Arc::clone(&this.source))));
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
