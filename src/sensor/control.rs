//! The server's control streams, one at a time: read a message, let the link act on it, answer.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};

use crate::limits::CONTROL_STREAM_TIMEOUT;
use crate::wire::control::{self, FromSensor, OperationRef, ToSensor};

/// What the link is asked to decide.
pub(super) struct Request {
    send: SendStream,
    /// `None` when it was no message that we know.
    pub(super) message: Option<ToSensor>,
}

type Work = Pin<Box<dyn Future<Output = Option<Request>> + Send>>;

/// The exchange in progress, if any. Costs nothing while there is none.
#[derive(Default)]
pub(super) struct Control {
    work: Option<Work>,
}

impl Control {
    /// Waits for the next request. Cancel-safe: progress is kept in `self`.
    pub(super) async fn next(&mut self, connection: &Connection) -> Request {
        loop {
            if let Some(work) = &mut self.work {
                let done = work.await;
                self.work = None;
                if let Some(request) = done {
                    return request;
                }
            }
            match connection.accept_bi().await {
                Ok((send, receive)) => {
                    self.work = Some(Box::pin(async move {
                        tokio::time::timeout(CONTROL_STREAM_TIMEOUT, read(send, receive)).await.ok().flatten()
                    }));
                }
                // The session sees the loss of the connection itself.
                Err(_) => std::future::pending::<()>().await,
            }
        }
    }

    /// Answers a request in the background.
    pub(super) fn answer(&mut self, request: Request, answer: FromSensor) {
        let mut send = request.send;
        self.work = Some(Box::pin(async move {
            let _ = tokio::time::timeout(CONTROL_STREAM_TIMEOUT, async {
                send.write_all(&control::encode(&answer)).await.ok()?;
                send.finish().ok()
            })
            .await;
            None
        }));
    }
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
