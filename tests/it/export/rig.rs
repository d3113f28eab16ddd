//! A server on free ports, and plain HTTP against it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use fleetpulse::config::Config;
use fleetpulse::fleet::Role;
use fleetpulse::server::Server;
use serde_json::Value;

/// A server with a data directory of its own.
pub struct Rig {
    pub server: Arc<Server>,
    /// Of an administrator of everything.
    pub token: String,
    _folder: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// The configuration of a test server in `folder`.
pub fn config(folder: &std::path::Path) -> Config {
    let free: SocketAddr = ([127, 0, 0, 1], 0).into();
    let mut config = Config { data_dir: folder.join("data"), ..Config::default() };
    config.ingest.listen = free;
    config.ingest.enrol_listen = free;
    config.ingest.shards = 1;
    config.ingest.drain_spread = Duration::ZERO;
    config.ingest.interval = Duration::from_millis(500);
    config.http.listen = free;
    config.health.policy = "demo".into();
    config
}

impl Rig {
    /// Starts a server.
    pub fn start() -> Rig {
        Rig::start_with(|_| {})
    }

    /// Starts a server with another configuration.
    pub fn start_with(change: impl FnOnce(&mut Config)) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        change(&mut config);
        let server = Arc::new(Server::start(config).unwrap());
        let token = server.token_for("rig", Role::Administrator, Duration::from_secs(3_600)).unwrap();
        Rig { server, token, _folder: folder }
    }

    /// Starts a server in which nobody is registered.
    pub fn start_without_users(change: impl FnOnce(&mut Config)) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        change(&mut config);
        let server = Arc::new(Server::start(config).unwrap());
        Rig { server, token: String::new(), _folder: folder }
    }

    /// A request in the administrator's name, with a JSON body when there is one.
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.send_with(method, path, &[("Authorization", &format!("Bearer {}", self.token))], body)
    }

    /// A request with these headers.
    pub fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        send(self.server.http_addr(), method, path, headers, body)
    }

    /// A GET with an `Accept` header.
    pub fn get_as(&self, path: &str, accept: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        self.send_with("GET", path, &[("Accept", accept), ("Authorization", &bearer)], None)
    }

    /// A GET.
    pub fn get(&self, path: &str) -> Answer {
        self.get_as(path, "*/*")
    }

    /// Waits until the server is ready.
    pub fn until_ready(&self) {
        until(&200, || self.get("/readyz").status);
    }
}

/// Polls until `seen` is as expected, for at most a minute.
pub fn until<T: PartialEq + std::fmt::Debug>(expected: &T, mut seen: impl FnMut() -> T) {
    let mut last = seen();
    for _ in 0..600 {
        if last == *expected {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
        last = seen();
    }
    assert_eq!(last, *expected, "it never came");
}

/// A connection to the HTTP side.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Sends bytes as they are, and reads until the server closes.
pub fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(address);
    // A server that refuses early closes early.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A GET on a connection of its own.
pub fn get(address: SocketAddr, path: &str, accept: &str) -> Answer {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    answer(&raw(address, request.as_bytes()))
}

/// A request on a connection of its own.
pub fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = body.map(Value::to_string);
    if let Some(body) = &body {
        request.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    request.push_str(&body.unwrap_or_default());
    answer(&until_end_or_stream(address, request.as_bytes()))
}

/// As [`raw`]; of a stream of events, which has no end, only the head.
fn until_end_or_stream(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(address);
    // A server that refuses early closes early.
    let _ = stream.write_all(request);
    let (mut text, mut piece) = (Vec::new(), [0; 16_384]);
    while let Ok(read @ 1..) = stream.read(&mut piece) {
        text.extend_from_slice(&piece[..read]);
        let head = text.windows(4).position(|end| end == b"\r\n\r\n").map(|end| end + 4);
        let is_stream = |head: &[u8]| String::from_utf8_lossy(head).contains("text/event-stream");
        if let Some(end) = head
            && is_stream(&text[..end])
        {
            text.truncate(end);
            return String::from_utf8_lossy(&text).replace("transfer-encoding: chunked\r\n", "");
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// An answer taken apart; chunked bodies are joined.
pub fn answer(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let status =
        head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{head}"));
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { joined(body) } else { body.to_owned() };
    Answer { status, head: head.to_owned(), body }
}

fn joined(mut chunks: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = chunks.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&rest[..size]);
        chunks = rest[size..].strip_prefix("\r\n").unwrap();
    }
    body
}
