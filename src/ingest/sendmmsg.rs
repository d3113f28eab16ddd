//! Several datagrams to several peers in one system call, each with its ECN bits and its source address.
//!
//! No safe crate offers that: quinn-udp sends one datagram a call, and the others that wrap `sendmmsg` give all
//! datagrams of a call the same control messages, or none. Answers to 10,000 lone heartbeats are 10,000 peers.
//! Unsafe is one call with the structs that it reads, all of them on this function's stack.

#![expect(unsafe_code, reason = "sendmmsg by hand; see SAFETY")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use socket2::SockAddr;

/// Datagrams of one call at most.
pub const DATAGRAMS_MAX: usize = 32;

/// One datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its peer.
    pub to: SocketAddr,
    /// The address of ours that the peer speaks to, when the socket has several.
    pub from: Option<IpAddr>,
    /// The two ECN bits.
    pub ecn: u8,
    /// Its payload.
    pub bytes: &'a [u8],
}

/// Room for the control messages of one datagram: ECN and an IPv6 source address.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control {
    bytes: [u8; 80],
    length: usize,
}

impl Control {
    const EMPTY: Control = Control { bytes: [0; 80], length: 0 };

    fn of(datagram: &Datagram<'_>) -> Control {
        let mut control = Control::EMPTY;
        let ecn = i32::from(datagram.ecn).to_ne_bytes();
        let is_ipv4 = match datagram.to.ip() {
            IpAddr::V4(_) => true,
            IpAddr::V6(ip) => ip.to_ipv4_mapped().is_some(),
        };
        if is_ipv4 {
            control.push(libc::IPPROTO_IP, libc::IP_TOS, &ecn);
        } else {
            control.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &ecn);
        }
        match datagram.from {
            None => {}
            Some(IpAddr::V4(ip)) => {
                // struct in_pktinfo: interface (any), our address, the header's address (not read).
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&ip.octets());
                control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            Some(IpAddr::V6(ip)) => {
                // struct in6_pktinfo: our address, interface (any).
                let mut info = [0; 20];
                info[..16].copy_from_slice(&ip.octets());
                control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
        }
        control
    }

    /// Appends one control message: its length, its level and type, and its data, filled up to a word.
    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        const HEADER: usize = size_of::<libc::cmsghdr>();
        let start = self.length;
        self.bytes[start..start + size_of::<usize>()].copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
        self.bytes[start + HEADER - 8..start + HEADER - 4].copy_from_slice(&level.to_ne_bytes());
        self.bytes[start + HEADER - 4..start + HEADER].copy_from_slice(&kind.to_ne_bytes());
        self.bytes[start + HEADER..start + HEADER + data.len()].copy_from_slice(data);
        self.length += HEADER + data.len().next_multiple_of(size_of::<usize>());
    }
}

/// Sends the first so many of the datagrams, at most [`DATAGRAMS_MAX`], and says how many went out: all before the
/// first that did not. An error is the first one's.
pub fn send_many(socket: &impl AsFd, datagrams: &[Datagram<'_>]) -> io::Result<usize> {
    let count = datagrams.len().min(DATAGRAMS_MAX);
    let none = SockAddr::from(SocketAddr::from(([0, 0, 0, 0], 0)));
    let mut names: [SockAddr; DATAGRAMS_MAX] = std::array::from_fn(|_| none.clone());
    let mut controls = [Control::EMPTY; DATAGRAMS_MAX];
    let mut pieces = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; DATAGRAMS_MAX];
    // SAFETY: mmsghdr is a plain C struct of integers and pointers, for which all zeros are a value.
    let mut headers: [libc::mmsghdr; DATAGRAMS_MAX] = unsafe { std::mem::zeroed() };
    for (place, datagram) in datagrams[..count].iter().enumerate() {
        names[place] = SockAddr::from(datagram.to);
        controls[place] = Control::of(datagram);
        pieces[place].iov_base = datagram.bytes.as_ptr().cast_mut().cast();
        pieces[place].iov_len = datagram.bytes.len();
        let header = &mut headers[place].msg_hdr;
        header.msg_name = names[place].as_ptr().cast_mut().cast();
        header.msg_namelen = names[place].len();
        header.msg_iov = &raw mut pieces[place];
        header.msg_iovlen = 1;
        header.msg_control = controls[place].bytes.as_mut_ptr().cast();
        header.msg_controllen = controls[place].length as _;
    }
    // SAFETY: the descriptor is open (borrowed through AsFd). The first `count` headers point at names, pieces and
    // control messages on this stack and at payloads borrowed by `datagrams`, each with its length; all outlive
    // the call. The kernel reads them, and writes only `msg_len` of the headers, which are ours and mutable.
    let sent =
        unsafe { libc::sendmmsg(socket.as_fd().as_raw_fd(), headers.as_mut_ptr(), count as libc::c_uint, 0) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};

    use super::*;

    /// What arrives, by the reader that ingest uses.
    fn receive(socket: &UdpSocket, state: &UdpSocketState) -> (Vec<u8>, RecvMeta) {
        let mut buffer = vec![0; 2_048 * state.gro_segments()];
        let mut meta = [RecvMeta::default()];
        for _ in 0..500 {
            match state.recv(UdpSockRef::from(socket), &mut [io::IoSliceMut::new(&mut buffer)], &mut meta) {
                Ok(_) => return (buffer[..meta[0].len].to_vec(), meta[0]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("nothing came");
    }

    fn every_datagram_says_what_it_was_told(ours: &str, theirs: &str, from: Option<&str>) {
        let sender = UdpSocket::bind(ours).expect("a socket");
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let socket = UdpSocket::bind(theirs).expect("a socket");
                let state = UdpSocketState::new(UdpSockRef::from(&socket)).expect("a socket");
                (socket, state)
            })
            .collect();
        let from = from.map(|ip| ip.parse().expect("an address"));
        let payloads = [&b"one"[..], b"", b"number three"];
        let datagrams: Vec<_> = (0..3)
            .map(|number| Datagram {
                to: readers[number].0.local_addr().expect("bound"),
                from,
                ecn: number as u8,
                bytes: payloads[number],
            })
            .collect();
        assert_eq!(send_many(&sender, &datagrams).expect("sent"), 3);
        for (number, (socket, state)) in readers.iter().enumerate() {
            let (bytes, meta) = receive(socket, state);
            assert_eq!(bytes, payloads[number]);
            assert_eq!(meta.ecn.map_or(0, |ecn| ecn as u8), number as u8);
            assert_eq!(meta.addr.port(), sender.local_addr().expect("bound").port());
            if let Some(from) = from {
                assert_eq!(meta.addr.ip().to_canonical(), from);
            }
        }
    }

    #[test]
    fn over_ipv4() {
        every_datagram_says_what_it_was_told("127.0.0.1:0", "127.0.0.1:0", None);
        every_datagram_says_what_it_was_told("0.0.0.0:0", "127.0.0.1:0", Some("127.3.2.1"));
    }

    #[test]
    fn over_ipv6() {
        let to = "[2001:db8::1]:1".parse().expect("an address");
        let from = Some("2001:db8::2".parse().expect("an address"));
        let control = Control::of(&Datagram { to, from, ecn: 2, bytes: b"" });
        let word = |at: usize| i32::from_ne_bytes(control.bytes[at..at + 4].try_into().expect("four"));
        assert_eq!((word(8), word(12), word(16)), (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, 2));
        assert_eq!((word(32), word(36)), (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO));
        assert_eq!((control.bytes[40], control.bytes[55], control.length), (0x20, 2, 64));
        // And on a real socket, where the kernel speaks IPv6.
        if UdpSocket::bind("[::1]:0").is_err() {
            return;
        }
        every_datagram_says_what_it_was_told("[::1]:0", "[::1]:0", None);
        every_datagram_says_what_it_was_told("[::]:0", "[::1]:0", Some("::1"));
    }

    #[test]
    fn what_can_not_go_out_is_told_of_the_first() {
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let to = sender.local_addr().expect("bound");
        let long = vec![0; 70_000];
        let good = Datagram { to, from: None, ecn: 0, bytes: b"good" };
        let bad = Datagram { bytes: &long, ..good };
        assert_eq!(send_many(&sender, &[good, bad, good]).expect("the first went out"), 1);
        let error = send_many(&sender, &[bad, good]).expect_err("too long");
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(send_many(&sender, &[]).expect("nothing to do"), 0);
        let many = vec![good; 2 * DATAGRAMS_MAX];
        assert_eq!(send_many(&sender, &many).expect("sent"), DATAGRAMS_MAX);
    }
}
