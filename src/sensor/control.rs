//! The server's control streams, one at a time: read a message, let the link act on it, answer.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};

use crate::identity::{ClientIdentity, IdentityFolder, TrustError};
use crate::limits::CONTROL_STREAM_TIMEOUT;
use crate::wire::control::{self, FromSensor, OperationRef, ToSensor};

/// What the link is asked to decide.
pub(super) struct Request {
    send: SendStream,
    /// `None` when it was no message that we know.
    pub(super) message: Option<ToSensor>,
}

/// What came of it.
pub(super) enum Asked {
    /// Something to decide.
    Request(Request),
    /// The identity was replaced.
    Renewed(Box<ClientIdentity>),
}

type Work = Pin<Box<dyn Future<Output = Option<Asked>> + Send>>;

/// The exchange in progress, if any. Costs nothing while there is none.
#[derive(Default)]
pub(super) struct Control {
    work: Option<Work>,
}

impl Control {
    /// Waits for the next request. Cancel-safe: progress is kept in `self`.
    pub(super) async fn next(&mut self, connection: &Connection) -> Asked {
        loop {
            if let Some(work) = &mut self.work {
                let done = work.await;
                self.work = None;
                if let Some(asked) = done {
                    return asked;
                }
            }
            match connection.accept_bi().await {
                Ok((send, receive)) => {
                    self.work = Some(Box::pin(async move {
                        let request = tokio::time::timeout(CONTROL_STREAM_TIMEOUT, read(send, receive)).await;
                        request.ok().flatten().map(Asked::Request)
                    }));
                }
                // The session sees the loss of the connection itself.
                Err(_) => std::future::pending::<()>().await,
            }
        }
    }

    /// Answers a request in the background.
    pub(super) fn answer(&mut self, request: Request, answer: FromSensor) {
        self.work = Some(Box::pin(async move {
            write(request.send, &answer).await;
            None
        }));
    }

    /// Makes a key, or keeps a certificate, in the background, and answers.
    pub(super) fn keep(&mut self, request: Request, folder: IdentityFolder) {
        let Some(message) = request.message else { return };
        self.work = Some(Box::pin(async move {
            let of = of(&message);
            // Files are written and synced: not on the task that makes heartbeats.
            let kept = tokio::task::spawn_blocking(move || keep(&folder, &message)).await;
            let (answer, renewed) = match kept {
                Ok(Ok(kept)) => kept,
                Ok(Err(error)) => {
                    tracing::error!(%error, "the certificate could not be renewed; the old one stays in use");
                    (FromSensor::Refused { of, reason: error.to_string() }, None)
                }
                Err(_) => (FromSensor::Refused { of, reason: "the task was stopped".to_owned() }, None),
            };
            write(request.send, &answer).await;
            renewed.map(|identity| Asked::Renewed(Box::new(identity)))
        }));
    }
}

/// The work of [`Control::keep`].
fn keep(
    folder: &IdentityFolder,
    message: &ToSensor,
) -> Result<(FromSensor, Option<ClientIdentity>), TrustError> {
    let of = of(message);
    match message {
        ToSensor::Renew { .. } => {
            let csr = folder.next_key(false)?.request()?;
            Ok((FromSensor::Csr { of, csr }, None))
        }
        ToSensor::Certificate { chain_pem: Some(chain), trust_pem, .. } => {
            let identity = folder.take(chain, trust_pem.as_deref())?;
            let until = identity.leaf()?.not_after;
            tracing::info!(serial = %identity.leaf()?.serial, until_unix_ms = until.0, "certificate renewed");
            Ok((FromSensor::Done { of }, Some(identity)))
        }
        ToSensor::Certificate { trust_pem: Some(trust), .. } => {
            let identity = folder.take_trust(trust)?;
            tracing::info!(generation = identity.trust()?.generation, "trust bundle replaced");
            Ok((FromSensor::Done { of }, Some(identity)))
        }
        _ => Ok((FromSensor::NotUnderstood { of }, None)),
    }
}

async fn write(mut send: SendStream, answer: &FromSensor) {
    let _ = tokio::time::timeout(CONTROL_STREAM_TIMEOUT, async {
        send.write_all(&control::encode(answer)).await.ok()?;
        send.finish().ok()
    })
    .await;
}

async fn read(send: SendStream, mut receive: RecvStream) -> Option<Request> {
    let mut prefix = [0; 4];
    receive.read_exact(&mut prefix).await.ok()?;
    let length = control::announced_length(&prefix).ok()??;
    let mut bytes = vec![0; length];
    receive.read_exact(&mut bytes).await.ok()?;
    Some(Request { send, message: control::decode(&bytes).ok() })
}

/// Which operation a message belongs to.
pub(super) fn of(message: &ToSensor) -> OperationRef {
    match message {
        ToSensor::SetInterval { of, .. }
        | ToSensor::ComeBack { of, .. }
        | ToSensor::Ping { of }
        | ToSensor::Renew { of }
        | ToSensor::Certificate { of, .. } => *of,
    }
}

/// The time that a "come back" asks for, within our bound.
pub(super) fn come_back(after_ms: u32) -> Duration {
    Duration::from_millis(u64::from(after_ms)).min(crate::limits::COME_BACK_MAX)
}
