//! UDP sockets that many clients share, and a switch that cuts one off like a pulled cable.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, EndpointConfig, Runtime, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, Type};

use crate::limits::SOCKET_BUFFER_BYTES;

/// A UDP socket with the QUIC endpoint on it; cheap to clone, shared by any number of clients.
#[derive(Clone, Debug)]
pub struct Socket {
    endpoint: quinn::Endpoint,
    switch: Switch,
}

/// Cuts a [`Socket`] off: nothing goes out, nothing comes in, and nobody is told. As a pulled cable does.
#[derive(Clone, Debug, Default)]
pub struct Switch(Arc<Cut>);

#[derive(Debug, Default)]
struct Cut {
    off: AtomicBool,
    dropped: AtomicU64,
}

impl Switch {
    /// Pulls the cable, or plugs it in again.
    pub fn set(&self, connected: bool) {
        self.0.off.store(!connected, Ordering::Relaxed);
    }

    /// Whether the cable is in.
    pub fn connected(&self) -> bool {
        !self.0.off.load(Ordering::Relaxed)
    }

    /// Datagrams that it swallowed, both ways.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Socket {
    /// Binds a free port, for IPv6 and IPv4 where the machine has both. Must be called inside a tokio runtime.
    pub fn bind() -> io::Result<Socket> {
        let socket = match bind_std(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))) {
            Ok(socket) => socket,
            Err(_) => bind_std(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?,
        };
        Socket::new(socket)
    }

    fn new(socket: UdpSocket) -> io::Result<Socket> {
        let switch = Switch::default();
        let runtime = Arc::new(TokioRuntime);
        let inner = runtime.wrap_udp_socket(socket)?;
        let cable = Arc::new(Cable { inner, cut: switch.0.clone() });
        let endpoint =
            quinn::Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, cable, runtime)?;
        Ok(Socket { endpoint, switch })
    }

    /// Moves to another port, as a router's new address mapping would; connections go on.
    pub fn rebind(&self) -> io::Result<()> {
        let local = self.endpoint.local_addr()?;
        let inner = TokioRuntime.wrap_udp_socket(bind_std(SocketAddr::new(local.ip(), 0))?)?;
        self.endpoint.rebind_abstract(Arc::new(Cable { inner, cut: self.switch.0.clone() }))
    }

    /// Its own address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Its cable.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// Connections on it.
    pub fn connections(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// Waits until closed connections have been told so. Bound it with a timeout.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }

    pub(super) fn endpoint(&self) -> &quinn::Endpoint {
        &self.endpoint
    }
}

fn bind_std(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Granted as far as the kernel allows; a small buffer loses acknowledgements of a big fleet only.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

struct Cable {
    inner: Arc<dyn AsyncUdpSocket>,
    cut: Arc<Cut>,
}

impl fmt::Debug for Cable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl AsyncUdpSocket for Cable {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        if self.cut.off.load(Ordering::Relaxed) {
            self.cut.dropped.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.inner.poll_recv(cx, bufs, meta) {
                Poll::Ready(Ok(received)) if self.cut.off.load(Ordering::Relaxed) => {
                    self.cut.dropped.fetch_add(received as u64, Ordering::Relaxed);
                }
                other => return other,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
