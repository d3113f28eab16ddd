//! Which shard a packet belongs to: sockets that share a port, a kernel filter that picks among them by
//! connection id, and the connection ids that carry the shard.
//!
//! Without it the kernel spreads by address and port, and a sensor whose NAT gives it a new port would
//! land on a shard that never heard of it. With it the packet follows its connection id, wherever it
//! comes from. What it costs: a few instructions of classic BPF per packet, no privilege, no toolchain.
//!
//! Three things make the group exact:
//! - The steering filter is attached to the first socket **before** it is bound. A socket that already
//!   has a group cannot join another one, so if anyone else holds the port the bind fails; and there is
//!   no moment at which the kernel spreads by address.
//! - The kernel picks by position, so sockets are bound in the order of the shards. Until the last one is
//!   bound, every socket drops what arrives (a filter of one instruction).
//! - No socket is closed before the whole group is: the last would move into its place.
//!   [`Group`] keeps all of them.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn_proto::crypto::HmacKey;
use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::sockopt;
use crate::limits::{SHARDS_MAX, SOCKET_BUFFER_BYTES};

/// Sockets of one port, one for each shard, in order.
#[derive(Debug)]
pub struct Group {
    sockets: Vec<UdpSocket>,
    address: SocketAddr,
}

impl Group {
    /// Binds `shards` sockets to one address, steered; port 0 takes a free one.
    pub fn bind(address: SocketAddr, shards: usize, buffer: usize) -> io::Result<Group> {
        if shards == 0 || shards > SHARDS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("1 to {SHARDS_MAX} shards")));
        }
        let first = prepare(address, buffer)?;
        sockopt::attach_reuseport_filter(&first, &steering(shards))?;
        first.bind(&address.into())?;
        let bound = first.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut sockets = vec![first];
        for _ in 1..shards {
            let socket = prepare(bound, buffer)?;
            socket.bind(&bound.into())?;
            sockets.push(socket);
        }
        // From here on the group is complete; let packets in.
        for socket in &sockets {
            socket.detach_filter()?;
        }
        Ok(Group { sockets: sockets.into_iter().map(UdpSocket::from).collect(), address: bound })
    }

    /// The address that all of them share.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A second handle of each socket, in order of the shards. The group keeps the first.
    pub fn handles(&self) -> io::Result<Vec<UdpSocket>> {
        self.sockets.iter().map(UdpSocket::try_clone).collect()
    }
}

/// One plain socket for a port that has a single listener.
pub fn bind_single(address: SocketAddr, buffer: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    buffers(&socket, buffer)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn prepare(address: SocketAddr, buffer: usize) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    buffers(&socket, buffer)?;
    socket.set_nonblocking(true)?;
    socket.attach_filter(&[SockFilter::new(RETURN_CONSTANT, 0, 0, 0)])?;
    Ok(socket)
}

/// Asks for what we want; the kernel grants what `net.core.rmem_max` allows, and the counters say what we got.
fn buffers(socket: &Socket, receive: usize) -> io::Result<()> {
    socket.set_recv_buffer_size(receive)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)
}

const LOAD_BYTE_ABSOLUTE: u16 = 0x30;
const JUMP_IF_SET: u16 = 0x45;
const JUMP: u16 = 0x05;
const MODULO_CONSTANT: u16 = 0x94;
const RETURN_CONSTANT: u16 = 0x06;
const RETURN_ACCUMULATOR: u16 = 0x16;

/// The first byte of the destination connection id, modulo the number of shards. The kernel hands the
/// filter the UDP payload. A packet too short to be read is given to shard 0, which drops it.
fn steering(shards: usize) -> [SockFilter; 7] {
    [
        SockFilter::new(LOAD_BYTE_ABSOLUTE, 0, 0, 0),
        SockFilter::new(JUMP_IF_SET, 0, 2, 0x80),
        // Long header: flags, version (4), length of the id, the id.
        SockFilter::new(LOAD_BYTE_ABSOLUTE, 0, 0, 6),
        SockFilter::new(JUMP, 0, 0, 1),
        // Short header: flags, the id.
        SockFilter::new(LOAD_BYTE_ABSOLUTE, 0, 0, 1),
        SockFilter::new(MODULO_CONSTANT, 0, 0, shards as u32),
        SockFilter::new(RETURN_ACCUMULATOR, 0, 0, 0),
    ]
}

/// Bytes of our connection ids: one that says the shard, four random, three of proof.
pub const CONNECTION_ID_BYTES: usize = 8;
const PROVED: usize = 5;

/// Makes connection ids that lead to one shard, and recognises them after a restart.
///
/// A packet whose id this shard did not make is dropped. Without that check a packet that went to the
/// wrong shard would be answered with a stateless reset, valid because the shards share the key, and a
/// healthy connection would die.
pub struct ShardIds {
    shard: u8,
    shards: u8,
    key: Arc<dyn HmacKey>,
}

impl ShardIds {
    /// `key` outlives restarts, so that resets reach the sensors of a server that was killed.
    pub fn new(shard: u8, shards: u8, key: Arc<dyn HmacKey>) -> ShardIds {
        ShardIds { shard, shards: shards.max(1), key }
    }

    fn proof(&self, id: &[u8]) -> [u8; CONNECTION_ID_BYTES - PROVED] {
        let mut input = *b"connection-id.....";
        input[13..].copy_from_slice(&id[..PROVED]);
        let mut whole = [0; 64];
        let length = self.key.signature_len().min(whole.len());
        self.key.sign(&input, &mut whole[..length]);
        [whole[0], whole[1], whole[2]]
    }
}

impl ConnectionIdGenerator for ShardIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id: [u8; CONNECTION_ID_BYTES] = rand::random();
        // One of the bytes that lead here, at random: the id shows as little as it can.
        let choices = (256 - usize::from(self.shard)).div_ceil(usize::from(self.shards));
        let choice = usize::from(id[0]) % choices;
        id[0] = (usize::from(self.shard) + choice * usize::from(self.shards)) as u8;
        let proof = self.proof(&id);
        id[PROVED..].copy_from_slice(&proof);
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let ours = id.len() == CONNECTION_ID_BYTES
            && id[0] % self.shards == self.shard
            && id[PROVED..] == self.proof(id);
        if ours { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::hmac_key;
    use super::*;

    #[test]
    fn an_id_is_accepted_by_its_shard_and_no_other() {
        let key = hmac_key(&[7; 64]);
        for shards in [1, 2, 3, 255] {
            for shard in (0..shards).step_by(usize::from(shards / 3).max(1)) {
                let mut ids = ShardIds::new(shard, shards, Arc::clone(&key));
                for _ in 0..8 {
                    let id = ids.generate_cid();
                    assert_eq!(id[0] % shards, shard);
                    assert!(ids.validate(&id).is_ok());
                    let again = ShardIds::new(shard, shards, hmac_key(&[7; 64]));
                    assert!(again.validate(&id).is_ok(), "the next process knows it");
                    let other = ShardIds::new((shard + 1) % shards, shards, Arc::clone(&key));
                    assert_eq!(other.validate(&id).is_ok(), shards == 1);
                    let stranger = ShardIds::new(shard, shards, hmac_key(&[8; 64]));
                    assert!(stranger.validate(&id).is_err());
                }
            }
        }
        assert!(ShardIds::new(0, 1, key).validate(&ConnectionId::new(&[0; 4])).is_err());
    }

    #[test]
    fn the_kernel_steers_by_connection_id_whatever_the_source() {
        let group = Group::bind(([127, 0, 0, 1], 0).into(), 3, 1 << 20).unwrap();
        let sockets = group.handles().unwrap();
        for first in 0..=255_u8 {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.send_to(&[0x40, first, 9, 9], group.address()).unwrap();
            client.send_to(&[0xc0, 0, 0, 0, 1, 8, first, 9], group.address()).unwrap();
            let mut buffer = [0; 64];
            for _ in 0..2 {
                let socket = &sockets[usize::from(first % 3)];
                let (length, _) = socket.recv_from(&mut buffer).expect("steered here");
                assert!(length == 4 || length == 8);
            }
        }
        let mut buffer = [0; 64];
        for socket in &sockets {
            assert_eq!(socket.recv_from(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn a_port_that_another_group_holds_is_refused() {
        let group = Group::bind(([127, 0, 0, 1], 0).into(), 2, 1 << 20).unwrap();
        let error = Group::bind(group.address(), 2, 1 << 20).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
