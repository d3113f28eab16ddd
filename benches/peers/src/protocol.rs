//! As much of MQTT 3.1.1 and of the NATS client protocol as publishing takes.

use std::io;

use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Whom we speak to, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT, at most once.
    MqttQos0,
    /// MQTT, at least once: each message is acknowledged, as a heartbeat is by QUIC.
    MqttQos1,
    /// NATS core.
    Nats,
}

/// What was in the bytes that the broker sent.
#[derive(Debug, Default)]
pub struct Heard {
    pub acknowledgements: u64,
    pub answer: Option<&'static [u8]>,
}

impl Protocol {
    /// NATS greets in the clear before TLS begins.
    pub async fn before_tls(self, tcp: &mut TcpStream) -> io::Result<()> {
        if self == Protocol::Nats {
            let mut byte = [0];
            while byte[0] != b'\n' {
                tcp.read_exact(&mut byte).await?;
            }
        }
        Ok(())
    }

    /// The first message.
    pub fn connect(self, place: usize) -> Vec<u8> {
        match self {
            Protocol::Nats => {
                b"CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":true,\"lang\":\"rust\",\"version\":\"1\"}\r\nPING\r\n".to_vec()
            }
            Protocol::MqttQos0 | Protocol::MqttQos1 => {
                let id = format!("sensor-{place}");
                // Protocol name and level, clean session, keep alive of 120 s.
                let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 120];
                text(&id, &mut body);
                packet(0x10, &body)
            }
        }
    }

    /// Waits for the broker to take us.
    pub async fn connected(self, reader: &mut ReadHalf<TlsStream<TcpStream>>) -> io::Result<()> {
        match self {
            Protocol::Nats => {
                let mut seen = Vec::new();
                while !seen.ends_with(b"PONG\r\n") {
                    seen.push(reader.read_u8().await?);
                    if seen.starts_with(b"-ERR") && seen.ends_with(b"\r\n") {
                        return Err(io::Error::other(String::from_utf8_lossy(&seen).into_owned()));
                    }
                }
                Ok(())
            }
            Protocol::MqttQos0 | Protocol::MqttQos1 => {
                let mut answer = [0; 4];
                reader.read_exact(&mut answer).await?;
                if answer == [0x20, 2, 0, 0] { Ok(()) } else { Err(io::Error::other(format!("{answer:?}"))) }
            }
        }
    }

    /// One message.
    pub fn publish(self, place: usize, number: u64, payload: &[u8]) -> Vec<u8> {
        match self {
            Protocol::Nats => {
                let mut message = format!("PUB fleet.{place}.heartbeat {}\r\n", payload.len()).into_bytes();
                message.extend_from_slice(payload);
                message.extend_from_slice(b"\r\n");
                message
            }
            Protocol::MqttQos0 | Protocol::MqttQos1 => {
                let mut body = Vec::with_capacity(payload.len() + 40);
                text(&format!("fleet/{place}/heartbeat"), &mut body);
                if self == Protocol::MqttQos1 {
                    // 1 to 65535.
                    body.extend_from_slice(&((number % 65_535) as u16 + 1).to_be_bytes());
                }
                body.extend_from_slice(payload);
                packet(if self == Protocol::MqttQos1 { 0x32 } else { 0x30 }, &body)
            }
        }
    }

    /// Makes sense of what the broker sent after the start.
    pub fn heard(self, bytes: &[u8]) -> Heard {
        match self {
            Protocol::Nats => {
                let ping = bytes.windows(6).any(|window| window == b"PING\r\n");
                Heard { acknowledgements: 0, answer: ping.then_some(b"PONG\r\n") }
            }
            // All that comes is acknowledgements of four bytes.
            Protocol::MqttQos0 | Protocol::MqttQos1 => {
                Heard { acknowledgements: bytes.len() as u64 / 4, answer: None }
            }
        }
    }
}

fn text(value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// Type, remaining length in seven-bit groups, body.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 5);
    out.push(kind);
    let mut length = body.len();
    loop {
        let more = length >= 128;
        out.push((length % 128) as u8 | if more { 128 } else { 0 });
        length /= 128;
        if !more {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_the_standard_has_them() {
        assert_eq!(packet(0x30, &[7; 3]), [0x30, 3, 7, 7, 7]);
        assert_eq!(packet(0x30, &[0; 321])[..3], [0x30, 0xc1, 0x02]);
        assert_eq!(Protocol::MqttQos1.publish(5, 0, b"x")[..], *b"\x32\x16\0\x11fleet/5/heartbeat\0\x01x");
        assert_eq!(Protocol::Nats.publish(5, 0, b"xy")[..], *b"PUB fleet.5.heartbeat 2\r\nxy\r\n");
        assert_eq!(Protocol::Nats.heard(b"PING\r\n").answer, Some(&b"PONG\r\n"[..]));
        assert_eq!(Protocol::MqttQos1.heard(&[0x40, 2, 0, 1, 0x40, 2, 0, 2]).acknowledgements, 2);
    }
}
