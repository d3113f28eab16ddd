//! A client that follows events.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use fleetpulse::fleet::Role;
use fleetpulse::server::Server;
use serde_json::Value;

use super::world::text;
use crate::export::rig::{Rig, connect, until};

/// Signs of life, one each 15 s, after which what a test waits for will not come any more.
const BEATS_MAX: usize = 8;

/// An event as a client sees it.
#[derive(Clone, Debug)]
pub struct Event {
    pub name: String,
    pub id: Option<String>,
    pub data: Value,
}

/// Who is asked, and in whose name.
pub struct Asked {
    pub address: SocketAddr,
    /// The header that says so.
    pub by: String,
}

impl Asked {
    pub fn of(rig: &Rig) -> Asked {
        let of = Asked::token(rig.server.http_addr(), &rig.token).known();
        // The first use of a token is noted in the log.
        until(&true, || rig.server.fleet().register().tokens().all(|token| token.last_used.is_some()));
        of
    }

    pub fn token(address: SocketAddr, token: &str) -> Asked {
        Asked { address, by: format!("Authorization: Bearer {token}") }
    }

    pub fn session(address: SocketAddr, cookie: &str) -> Asked {
        Asked { address, by: format!("Cookie: {cookie}") }
    }

    fn known(self) -> Asked {
        let _ = Follow::open(&self, "messages", None);
        self
    }

    pub fn server(server: &Server) -> Asked {
        let token = server.token_for("events", Role::Administrator, Duration::from_secs(3_600)).unwrap();
        Asked::token(server.http_addr(), &token).known()
    }
}

/// A client that follows.
pub struct Follow {
    pub stream: BufReader<TcpStream>,
    text: Vec<u8>,
    pub last_id: Option<String>,
    /// Signs of life that were no events.
    pub beats: usize,
}

impl Follow {
    pub fn open(of: &Asked, topic: &str, last: Option<&str>) -> Follow {
        let mut follow = Follow::sent(of, topic, last);
        let head = follow.head();
        assert!(
            head.starts_with("HTTP/1.1 200") && head.contains("content-type: text/event-stream"),
            "{head}"
        );
        follow
    }

    pub fn sent(of: &Asked, topic: &str, last: Option<&str>) -> Follow {
        let mut stream = connect(of.address);
        let last_line = last.map_or_else(String::new, |last| format!("Last-Event-ID: {last}\r\n"));
        let path = format!("/api/v1/events/{topic}");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{}\r\n{last_line}\r\n", of.by).unwrap();
        let last_id = last.map(str::to_owned);
        Follow { stream: BufReader::new(stream), text: Vec::new(), last_id, beats: 0 }
    }

    pub fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.stream.read_line(&mut head).unwrap() > 0, "it ended: {head}");
        }
        head.to_ascii_lowercase().replacen("http", "HTTP", 1)
    }

    /// The next event; `None` when the server ended the stream.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                let block = String::from_utf8(block).unwrap();
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).map(str::to_owned)
                };
                let id = field("id");
                self.last_id = id.clone().or(self.last_id.take());
                let Some(data) = field("data") else {
                    self.beats += usize::from(block.starts_with(':'));
                    assert!(self.beats < BEATS_MAX, "nothing comes");
                    continue;
                };
                let name = field("event").unwrap();
                return Some(Event { name, id, data: serde_json::from_str(&data).unwrap() });
            }
            let mut size = String::new();
            if self.stream.read_line(&mut size).ok()? == 0 {
                return None;
            }
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            self.stream.read_exact(&mut chunk).ok()?;
            if size == 0 {
                return None;
            }
            self.text.extend_from_slice(&chunk[..size]);
        }
    }

    /// The next one that is no live value.
    pub fn next_of_log(&mut self) -> Event {
        loop {
            let event = self.next().expect("the stream goes on");
            if event.name != "live" {
                return event;
            }
        }
    }

    pub fn begins_anew(&mut self, reason: &str) -> String {
        let event = self.next_of_log();
        assert_eq!((event.name.as_str(), text(&event.data, "/reason")), ("snapshot", reason));
        event.id.expect("a place to go on from")
    }
}
