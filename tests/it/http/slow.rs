//! Clients that send slowly, stop in the middle, or just stay: they are closed in their time, and nobody waits for them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use fleetpulse::limits::HTTP_LARGE_BODIES_MAX;

use crate::export::rig::{Rig, connect, raw};

/// What a client does after its first bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// Sends these again and again, a few times a second.
    Drips(&'static str),
    Nothing,
    /// Says that it has said everything, and reads on.
    HalfCloses,
}

struct Slow {
    what: &'static str,
    then: Then,
    stream: TcpStream,
    answer: Vec<u8>,
    closed: bool,
}

impl Slow {
    fn new(address: SocketAddr, what: &'static str, begin: &str, then: Then) -> Slow {
        let mut stream = connect(address);
        stream.write_all(begin.as_bytes()).unwrap();
        if then == Then::HalfCloses {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        stream.set_nonblocking(true).unwrap();
        Slow { what, then, stream, answer: Vec::new(), closed: false }
    }

    fn turn(&mut self) {
        if self.closed {
            return;
        }
        if let Then::Drips(bytes) = self.then {
            // A server that has closed is heard of by the read.
            let _ = self.stream.write(bytes.as_bytes());
        }
        let mut piece = [0; 4_096];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => self.closed = true,
                Ok(read) => {
                    self.answer.extend_from_slice(&piece[..read]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.closed = true,
            }
            return;
        }
    }
}

/// So few of each that the places of the connections are not used up: nobody is closed to make room.
const OF_EACH: usize = 25;

#[test]
fn slow_and_half_open_clients_are_closed_and_others_are_served_all_the_time() {
    let rig = Rig::start_with(|config| config.http.requests_per_second = 100_000);
    let address = rig.server.http_addr();
    let session = "POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let bulk = format!("POST /api/v1/bulk HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n", rig.token);
    let of_length = format!("{session}Content-Length: 60000\r\n\r\n{{");
    let chunked = format!("{session}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n");
    let large = format!("{bulk}Content-Type: application/json\r\nContent-Length: 10000000\r\n\r\n{{");
    let head = "GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ";
    let kinds: [(&str, &str, Then); 7] = [
        ("a head that drips", head, Then::Drips("a")),
        ("a head that stops", head, Then::Nothing),
        ("a head that is half closed", head, Then::HalfCloses),
        ("a body that drips", &of_length, Then::Drips(" ")),
        ("a body in chunks that drips", &chunked, Then::Drips("1\r\n \r\n")),
        ("a body that stops", &of_length, Then::Nothing),
        ("a body that is half closed", &of_length, Then::HalfCloses),
    ];
    let mut slow = Vec::new();
    for (what, begin, then) in kinds {
        slow.extend((0..OF_EACH).map(|_| Slow::new(address, what, begin, then)));
    }
    let places =
        (0..HTTP_LARGE_BODIES_MAX).map(|_| Slow::new(address, "a large body", &large, Then::Nothing));
    slow.extend(places);
    let idle: Vec<TcpStream> = (0..OF_EACH).map(|_| connect(address)).collect();

    let made = rig.send("POST", "/api/v1/subscriptions", Some(&serde_json::json!({"name": "Contoso"})));
    let path = made.header("location").unwrap().to_owned();
    let mut rounds = 0;
    while slow.iter().any(|one| !one.closed) {
        slow.iter_mut().for_each(Slow::turn);
        for read in ["/livez", "/metrics", "/api/v1/sensors", "/api/v1/openapi.json"] {
            assert_eq!(rig.get(read).status, 200, "{read} in round {rounds}");
        }
        let body = serde_json::json!({"name": format!("round {rounds}")});
        let changed = rig.send("PATCH", &path, Some(&body));
        assert_eq!(changed.status, 200, "{changed:?}");
        rounds += 1;
        // The pace of those who drip.
        std::thread::sleep(Duration::from_millis(200));
        assert!(
            rounds < 1_000,
            "{:?} are open",
            slow.iter().filter(|one| !one.closed).map(|one| one.what).collect::<Vec<_>>()
        );
    }
    assert!(rounds > 10, "they were there for a while");
    for one in &slow {
        let answer = String::from_utf8_lossy(&one.answer);
        assert!(!answer.starts_with("HTTP/1.1 2"), "{}: {answer}", one.what);
        let told = one.what.contains("body") && one.then != Then::HalfCloses;
        assert!(
            !told || answer.starts_with("HTTP/1.1 408") && answer.contains("body-too-slow"),
            "{}: {answer}",
            one.what
        );
    }
    let figures = rig.get("/api/v1/engine").json();
    assert_eq!(figures["http"]["evicted"], 0, "nobody had to make room: {figures}");
    // The places for large bodies are free again, and who has done nothing wrong may still ask.
    let body = format!("{{\"action\": \"unmute\", \"items\": [], \"dry_run\": true{}}}", " ".repeat(100_000));
    let whole = format!(
        "{bulk}Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert!(raw(address, whole.as_bytes()).starts_with("HTTP/1.1 200"));
    drop(idle);
}
