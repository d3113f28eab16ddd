//! One UDP socket of one shard: batches in (recvmmsg, GRO), batches out (sendmmsg), and what waits when the
//! socket is full.
//!
//! A received message is handed on as one buffer of exactly its size, because QUIC keeps what comes out of
//! order: a slice of a big shared buffer would pin all of it, and a hostile peer could make small pieces pin
//! a hundred times their size. That is the one allocation per message on this side.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};

use bytes::BytesMut;
use quinn_proto::Transmit;
use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, UdpSockRef, UdpSocketState};

use super::counters::ShardCounters;
use super::drops::Drops;
use super::sendmmsg::{DATAGRAMS_MAX, Datagram, send_many};
use crate::limits::{ANSWERS_WAITING_MAX, UDP_PAYLOAD_BYTES_MAX};

/// Socket, receive buffers, and the datagrams that wait for room.
pub(super) struct Socket {
    socket: mio::net::UdpSocket,
    state: UdpSocketState,
    buffer: Vec<u8>,
    stride: usize,
    metas: [RecvMeta; BATCH_SIZE],
    /// Datagrams that go out with the next flush, and their payloads one after the other.
    outgoing: Vec<(Transmit, std::ops::Range<usize>)>,
    payloads: Vec<u8>,
    waiting: VecDeque<(Transmit, Vec<u8>)>,
    blocked: bool,
    drops: Drops,
}

/// Messages of one batch at most.
pub(super) const BATCH: usize = BATCH_SIZE;

/// One UDP datagram.
pub(super) struct Packet {
    pub from: SocketAddr,
    pub to: Option<std::net::IpAddr>,
    pub ecn: Option<quinn_proto::EcnCodepoint>,
    pub data: BytesMut,
}

impl Socket {
    pub(super) fn new(socket: UdpSocket, counters: &ShardCounters) -> io::Result<Socket> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let granted = state.recv_buffer_size(UdpSockRef::from(&socket))?;
        counters.receive_buffer_bytes.set(granted as u64);
        let drops = Drops::new(&socket);
        let stride = usize::from(UDP_PAYLOAD_BYTES_MAX) * state.gro_segments();
        Ok(Socket {
            socket: mio::net::UdpSocket::from_std(socket),
            state,
            // Zeroed pages cost nothing until a packet lands in them.
            buffer: vec![0; stride * BATCH_SIZE],
            stride,
            metas: [RecvMeta::default(); BATCH_SIZE],
            outgoing: Vec::with_capacity(DATAGRAMS_MAX),
            payloads: Vec::with_capacity(DATAGRAMS_MAX * usize::from(UDP_PAYLOAD_BYTES_MAX)),
            waiting: VecDeque::new(),
            blocked: false,
            drops,
        })
    }

    /// For registering with the poll.
    pub(super) fn source(&mut self) -> &mut mio::net::UdpSocket {
        &mut self.socket
    }

    /// Receives one batch of so many messages. Fewer than [`BATCH`]: these were all.
    pub(super) fn receive(&mut self, counters: &ShardCounters) -> usize {
        let mut chunks = self.buffer.chunks_mut(self.stride);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        // A pending error of the socket (ICMP) is cleared by being read; packets may wait behind it.
        for _ in 0..8 {
            match self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut self.metas) {
                Ok(messages) => {
                    counters.batches.add(1);
                    return messages;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => counters.receive_errors.add(1),
            }
        }
        0
    }

    /// One datagram of one message of the last batch; `None` after the last. Each is a buffer of its own, also of
    /// those that came together (GRO).
    pub(super) fn packet(&self, message: usize, number: usize) -> Option<Packet> {
        let meta = self.metas[message];
        let start = message * self.stride;
        let all = &self.buffer[start..start + meta.len.min(self.stride)];
        let data = all.chunks(meta.stride.max(1)).nth(number)?;
        let ecn = meta.ecn.and_then(|ecn| quinn_proto::EcnCodepoint::from_bits(ecn as u8));
        Some(Packet { from: meta.addr, to: meta.dst_ip, ecn, data: BytesMut::from(data) })
    }

    /// True while sending makes no sense: connections keep what they have to say.
    pub(super) fn blocked(&self) -> bool {
        self.blocked
    }

    /// Sends with the next flush, or keeps for later. What a connection made must be kept: it is in its books as sent.
    pub(super) fn send(&mut self, transmit: Transmit, bytes: &[u8], counters: &ShardCounters) {
        let bytes = &bytes[..transmit.size.min(bytes.len())];
        if self.blocked {
            self.keep(transmit, bytes.to_vec(), counters);
            return;
        }
        let start = self.payloads.len();
        self.payloads.extend_from_slice(bytes);
        self.outgoing.push((transmit, start..self.payloads.len()));
        if self.outgoing.len() == DATAGRAMS_MAX {
            self.flush(counters);
        }
    }

    /// Sends what was handed in since the last flush.
    pub(super) fn flush(&mut self, counters: &ShardCounters) {
        if self.outgoing.is_empty() {
            return;
        }
        let mut outgoing = std::mem::take(&mut self.outgoing);
        let payloads = std::mem::take(&mut self.payloads);
        let mut sent = 0;
        while sent < outgoing.len() && !self.blocked {
            sent += self.send_some(&outgoing[sent..], &payloads, counters);
        }
        for (transmit, piece) in outgoing.drain(..).skip(sent) {
            self.keep(transmit, payloads[piece].to_vec(), counters);
        }
        (self.outgoing, self.payloads) = (outgoing, payloads);
        self.payloads.clear();
    }

    /// Sends some of them, at least one unless the socket's buffer is full; says how many it is done with.
    fn send_some(
        &mut self,
        outgoing: &[(Transmit, std::ops::Range<usize>)],
        payloads: &[u8],
        counters: &ShardCounters,
    ) -> usize {
        let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut datagrams = [Datagram { to: nobody, from: None, ecn: 0, bytes: &[] }; DATAGRAMS_MAX];
        for (datagram, (transmit, piece)) in datagrams.iter_mut().zip(outgoing) {
            *datagram = Datagram {
                to: transmit.destination,
                from: transmit.src_ip,
                ecn: transmit.ecn.map_or(0, |ecn| ecn as u8),
                bytes: &payloads[piece.clone()],
            };
        }
        let count = outgoing.len().min(DATAGRAMS_MAX);
        match send_many(&self.socket, &datagrams[..count]) {
            Ok(sent) => {
                counters.sent.add(sent as u64);
                sent
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.block(counters);
                0
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            // Alone, in the way that knows what older kernels refuse.
            Err(_) => usize::from(self.try_send(&outgoing[0].0, datagrams[0].bytes, counters)),
        }
    }

    fn block(&mut self, counters: &ShardCounters) {
        counters.send_blocked.add(1);
        self.blocked = true;
    }

    fn keep(&mut self, transmit: Transmit, bytes: Vec<u8>, counters: &ShardCounters) {
        if self.waiting.len() < ANSWERS_WAITING_MAX {
            self.waiting.push_back((transmit, bytes));
        } else {
            counters.send_dropped.add(1);
        }
    }

    /// `false`: the socket's buffer is full.
    fn try_send(&mut self, transmit: &Transmit, bytes: &[u8], counters: &ShardCounters) -> bool {
        let outgoing = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8)),
            contents: bytes,
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        match self.state.try_send(UdpSockRef::from(&self.socket), &outgoing) {
            Ok(()) => counters.sent.add(1),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.block(counters);
                return false;
            }
            // No route, too big, forbidden by a firewall: to QUIC it is a lost packet.
            Err(_) => counters.send_dropped.add(1),
        }
        true
    }

    /// The socket has room again: sends what waited.
    pub(super) fn writable(&mut self, counters: &ShardCounters) {
        self.blocked = false;
        while let Some((transmit, bytes)) = self.waiting.pop_front() {
            if !self.try_send(&transmit, &bytes, counters) {
                self.waiting.push_front((transmit, bytes));
                return;
            }
        }
    }

    /// Counts the packets that the kernel dropped for want of room; true when there are new ones. What came before we
    /// listened is not counted.
    pub(super) fn count_drops(&mut self, counters: &ShardCounters) -> bool {
        let new = self.drops.look(&self.socket);
        counters.kernel_drops.add(new);
        new > 0
    }
}

#[cfg(test)]
mod tests {
    use quinn_proto::EcnCodepoint as Ecn;

    use super::*;

    fn socket(counters: &ShardCounters) -> Socket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        Socket::new(socket, counters).expect("a socket")
    }

    /// Everything that came in, once so many datagrams did.
    fn arrivals(reader: &mut Socket, counters: &ShardCounters, count: usize) -> Vec<(u8, Option<Ecn>)> {
        let mut all = Vec::new();
        for _ in 0..500 {
            for message in 0..reader.receive(counters) {
                let packets = (0..).map_while(|number| reader.packet(message, number));
                all.extend(packets.map(|packet| (packet.data[0], packet.ecn)));
            }
            if all.len() >= count {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        all
    }

    #[test]
    fn what_is_handed_in_goes_out_in_order_with_the_next_flush_and_as_it_was_said() {
        let counters = ShardCounters::default();
        let (mut writer, mut reader) = (socket(&counters), socket(&counters));
        let destination = reader.source().local_addr().expect("bound");
        let ecn = |number: usize| if number.is_multiple_of(3) { None } else { Some(Ecn::Ect0) };
        let count = DATAGRAMS_MAX + 8;
        for number in 0..count {
            let transmit =
                Transmit { destination, ecn: ecn(number), size: 1, segment_size: None, src_ip: None };
            writer.send(transmit, &[number as u8, 99], &counters);
        }
        assert_eq!(counters.sent.get(), DATAGRAMS_MAX as u64, "a full batch goes by itself");
        writer.flush(&counters);
        writer.flush(&counters);
        assert_eq!(counters.sent.get(), count as u64);
        let expected: Vec<_> = (0..count).map(|number| (number as u8, ecn(number))).collect();
        assert_eq!(arrivals(&mut reader, &counters, count), expected);
    }
}
