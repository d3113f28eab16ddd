//! A socket that gives up on a client who does not read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::connections::Connection;
use crate::limits::{HTTP_ANSWER_TIMEOUT, HTTP_SEND_BYTES_PER_SECOND_MIN, HTTP_SEND_TIMEOUT};
use crate::time::{Clock, MonoNanos};

/// Fails a write that stands still for [`HTTP_SEND_TIMEOUT`], and every write once the answer has taken
/// [`HTTP_ANSWER_TIMEOUT`] and the time that what was taken of it needs at [`HTTP_SEND_BYTES_PER_SECOND_MIN`]: a client
/// that reads a byte now and then does not get more time by that, and a long file gets through a slow line.
pub(super) struct Watched {
    stream: TcpStream,
    connection: Arc<Connection>,
    clock: Arc<dyn Clock>,
    stuck: Option<Pin<Box<Sleep>>>,
    /// Begin of the request that is answered, and what was taken of the answer.
    answering: MonoNanos,
    taken_bytes: u64,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, connection: Arc<Connection>, clock: Arc<dyn Clock>) -> Watched {
        let answering = connection.began();
        Watched { stream, connection, clock, stuck: None, answering, taken_bytes: 0 }
    }

    fn watch(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(wrote) = wrote {
            self.stuck = None;
            return Poll::Ready(self.in_time(wrote));
        }
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(HTTP_SEND_TIMEOUT)));
        ready!(stuck.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Watched {
    fn in_time(&mut self, wrote: io::Result<usize>) -> io::Result<usize> {
        let began = self.connection.began();
        if began != self.answering {
            (self.answering, self.taken_bytes) = (began, 0);
        }
        self.taken_bytes += wrote.as_ref().map_or(0, |bytes| *bytes as u64);
        let longer = Duration::from_secs(self.taken_bytes / HTTP_SEND_BYTES_PER_SECOND_MIN);
        if self.clock.mono().since(began) > HTTP_ANSWER_TIMEOUT + longer {
            return Err(io::ErrorKind::TimedOut.into());
        }
        wrote
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.watch(cx, wrote)
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
