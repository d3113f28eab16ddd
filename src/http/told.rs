//! What the HTTP library answers by itself is told like every other refusal.
//!
//! A request whose head can't be read never reaches the routes: the library answers it with a bare status and closes.
//! Those answers are recognised on their way out by what no answer of ours has, a refusal without a body, and a problem
//! of the same status goes in their place; they are counted with the others. Everything else passes through untouched.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::app::App;
use super::problem::Problem;
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX};

/// The stream of one connection.
pub(super) struct Told<S> {
    stream: S,
    app: Arc<App>,
    /// What goes in the place of a bare answer, and how much of it is written.
    instead: Option<(Vec<u8>, usize)>,
}

impl<S> Told<S> {
    pub(super) fn new(stream: S, app: Arc<App>) -> Told<S> {
        Told { stream, app, instead: None }
    }
}

/// The status of a bare refusal; `None` for every answer of ours.
fn bare(head: &[u8]) -> Option<StatusCode> {
    let rest = head.strip_prefix(b"HTTP/1.1 4").or_else(|| head.strip_prefix(b"HTTP/1.0 4"))?;
    let text = std::str::from_utf8(rest).ok()?.to_ascii_lowercase();
    let status = StatusCode::from_bytes(format!("4{}", text.get(..2)?).as_bytes()).ok()?;
    let ends = text.ends_with("\r\n\r\n");
    (ends && text.contains("\r\ncontent-length: 0\r\n") && !text.contains("\r\ncontent-type:"))
        .then_some(status)
}

fn problem(status: StatusCode) -> Problem {
    let detail = match status {
        StatusCode::URI_TOO_LONG => {
            format!("the request's address is too long; the whole head may have {HTTP_HEAD_BYTES_MAX} bytes")
        }
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => format!(
            "the request's head is too large; it may have {HTTP_HEADERS_MAX} headers and {HTTP_HEAD_BYTES_MAX} bytes"
        ),
        _ => {
            "this is no HTTP/1.1 request that can be read; check the request line and the headers".to_owned()
        }
    };
    let code = match status {
        StatusCode::URI_TOO_LONG => "address-too-long",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "head-too-large",
        _ => "unreadable-request",
    };
    Problem::new(status, code, detail)
}

fn written(status: StatusCode) -> Vec<u8> {
    let body = serde_json::to_string(&problem(status)).unwrap_or_default();
    let reason = status.canonical_reason().unwrap_or_default();
    format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n{body}",
        status.as_u16(),
        body.len()
    )
    .into_bytes()
}

impl<S: AsyncWrite + Unpin> Told<S> {
    /// Writes what stands in the place of a bare answer to its end.
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((bytes, done)) = &mut self.instead {
            let Some(rest) = bytes.get(*done..).filter(|rest| !rest.is_empty()) else { break };
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                wrote => *done += wrote,
            }
        }
        self.instead = None;
        Poll::Ready(Ok(()))
    }

    /// `None`: the bytes are to be written as they are.
    fn poll_told(&mut self, cx: &mut Context<'_>, head: &[u8]) -> Poll<Option<io::Result<()>>> {
        if self.instead.is_none() {
            let Some(status) = bare(head) else { return Poll::Ready(None) };
            self.app.counters.answered("other", status.as_u16());
            self.instead = Some((written(status), 0));
        }
        self.poll_instead(cx).map(Some)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Told<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Told<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(self.poll_told(cx, bytes)) {
            Some(told) => Poll::Ready(told.map(|()| bytes.len())),
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A bare answer is one piece.
        let told = match pieces {
            [only] => ready!(self.poll_told(cx, only)),
            _ => None,
        };
        match told {
            Some(told) => Poll::Ready(told.map(|()| pieces.iter().map(|piece| piece.len()).sum())),
            None => Pin::new(&mut self.stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_refusals_are_told_from_answers() {
        let is = |text: &str| bare(text.as_bytes()).map(|status| status.as_u16());
        assert_eq!(is("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: x\r\n\r\n"), Some(400));
        assert_eq!(is("HTTP/1.1 431 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"), Some(431));
        for other in [
            "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 12\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\nmore",
            "HTTP/1.1 4",
            "",
        ] {
            assert_eq!(is(other), None, "{other}");
        }
    }
}
