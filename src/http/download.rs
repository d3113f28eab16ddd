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

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use tokio::sync::OwnedSemaphorePermit;

use super::app::App;
use super::caller::Caller;
use super::connections::Connection;
use super::file::{Format, Pieces, place};
use super::problem::Problem;
use super::signatures::Promised;
use super::workers::{Places, work};
use crate::identity::FileSigner;

/// Where the signature of a file will be.
pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("fleetpulse-signature");

/// A file that was begun: one of a few places, and its signature.
pub(super) struct Begun {
    name: String,
    format: Format,
    signer: FileSigner,
    promised: Promised,
    place: OwnedSemaphorePermit,
    renewed: Option<Arc<Connection>>,
}

/// Begins a file. What goes into it is to be looked up afterwards, so that it is not older than its signature says.
pub(super) async fn begin(
    app: &Arc<App>,
    caller: &Caller,
    what: &str,
    format: Format,
) -> Result<Begun, Problem> {
    let place = place(app, &app.exports)?;
    let name = format.file_name(what, app.clock.unix());
    let asked = name.clone();
    let signer = work(app, Places::Api, move |app| app.backend.begin_signature(&asked, format.media_type()));
    let signer = signer.await?.map_err(|error| {
        tracing::error!(error, "a file can't be signed");
        Problem::internal("the file can't be signed; the log says why")
    })?;
    let promised = Promised::new(app, caller, &name);
    Ok(Begun { name, format, signer, promised, place, renewed: None })
}

impl Begun {
    /// It may take longer than other answers: what is looked for may be rare.
    pub(super) fn renewing(self, connection: Arc<Connection>) -> Begun {
        Begun { renewed: Some(connection), ..self }
    }

    /// The answer: the file as `maker` makes it, piece by piece.
    pub(super) fn answer(
        self,
        app: &Arc<App>,
        mut maker: impl FnMut(&App) -> Result<Option<Vec<u8>>, Problem> + Send + 'static,
    ) -> Response {
        let Begun { name, format, signer, promised, place, renewed } = self;
        let signature = HeaderValue::try_from(promised.path());
        let mut signing = Some((signer, promised));
        let pieces = Pieces::new(app, place, move |app| {
            let piece = maker(app)?;
            match &piece {
                Some(piece) => {
                    if let Some((signer, _)) = &mut signing {
                        signer.update(piece);
                    }
                }
                None => {
                    if let Some((signer, promised)) = signing.take() {
                        keep(signer, promised);
                    }
                }
            }
            Ok(piece)
        });
        let pieces = match renewed {
            Some(connection) => pieces.renewing(connection),
            None => pieces,
        };
        let mut response = pieces.into_file(format.media_type(), &name);
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        // Letters, digits and slashes.
        headers.extend(signature.ok().map(|signature| (SIGNATURE, signature)));
        response
    }
}

fn keep(signer: FileSigner, promised: Promised) {
    match signer.finish() {
        Ok(signature) => promised.keep(signature),
        Err(error) => tracing::error!(%error, "a file could not be signed"),
    }
}
