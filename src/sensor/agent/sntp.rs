//! Is a time server there and fit to be followed: one SNTP question (RFC 4330), one answer. The host's own
//! service keeps the clock; this only tells whether it can.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;

use super::probe::resolve;

const PACKET_BYTES: usize = 48;

/// Asks one server; `Err` says why it can't be followed. The caller bounds the time.
pub(super) async fn ask(host: &str, port: u16) -> Result<(), String> {
    let mut last = "it has no address".to_owned();
    for address in resolve(host, port).await? {
        match ask_address(address).await {
            Ok(()) => return Ok(()),
            Err(why) => last = why,
        }
    }
    Err(last)
}

async fn ask_address(server: SocketAddr) -> Result<(), String> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.map_err(|error| error.to_string())?;
    socket.connect(server).await.map_err(|error| error.to_string())?;
    // A random time instead of ours: the answer must repeat it, and the server learns nothing.
    let cookie = rand::random::<u64>().to_be_bytes();
    let mut question = [0; PACKET_BYTES];
    question[0] = 4 << 3 | 3;
    question[40..].copy_from_slice(&cookie);
    socket.send(&question).await.map_err(|error| error.to_string())?;
    let mut answer = [0; 512];
    loop {
        let length = socket.recv(&mut answer).await.map_err(|error| error.to_string())?;
        // Anything that is not the answer to this question is left unheard.
        if let Some(verdict) = read(&answer[..length], &cookie) {
            return verdict;
        }
    }
}

/// `None` = not an answer to this question.
fn read(answer: &[u8], cookie: &[u8; 8]) -> Option<Result<(), String>> {
    if answer.len() < PACKET_BYTES || answer[24..32] != cookie[..] || answer[0] & 7 != 4 {
        return None;
    }
    let (leap, stratum) = (answer[0] >> 6, answer[1]);
    let transmitted = &answer[40..48];
    Some(match (leap, stratum) {
        (_, 0) => Err("the server asks to be left alone".to_owned()),
        (3, _) | (_, 16..) => Err("the server is not synchronised itself".to_owned()),
        _ if transmitted == [0; 8] => Err("the server does not tell the time".to_owned()),
        _ => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(first: u8, stratum: u8, cookie: [u8; 8]) -> [u8; PACKET_BYTES] {
        let mut packet = [0; PACKET_BYTES];
        packet[0] = first;
        packet[1] = stratum;
        packet[24..32].copy_from_slice(&cookie);
        packet[40..].copy_from_slice(&[1; 8]);
        packet
    }

    #[test]
    fn only_a_synchronised_servers_answer_to_our_question_is_good() {
        let cookie = [7; 8];
        assert_eq!(read(&answer(0x24, 2, cookie), &cookie), Some(Ok(())));
        assert_eq!(read(&answer(0x24, 2, [8; 8]), &cookie), None);
        assert_eq!(read(&answer(0x23, 2, cookie), &cookie), None);
        assert_eq!(read(&answer(0x24, 2, cookie)[..47], &cookie), None);
        assert_eq!(read(&[], &cookie), None);
        for (first, stratum) in [(0x24, 0), (0xe4, 2), (0x24, 16)] {
            assert!(matches!(read(&answer(first, stratum, cookie), &cookie), Some(Err(_))));
        }
    }

    #[tokio::test]
    async fn a_server_on_the_network_is_asked() {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("socket");
        let port = server.local_addr().expect("address").port();
        tokio::spawn(async move {
            let mut question = [0; 64];
            let (_, from) = server.recv_from(&mut question).await.expect("question");
            let cookie = question[40..48].try_into().expect("eight");
            server.send_to(&answer(0x24, 1, [0; 8]), from).await.expect("a stray");
            server.send_to(&answer(0x24, 1, cookie), from).await.expect("the answer");
        });
        assert_eq!(ask("127.0.0.1", port).await, Ok(()));
    }
}
