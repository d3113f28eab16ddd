//! What strangers send to the HTTP side: refused with a reason or closed, counted, and never in the way of
//! `/livez`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use fleetpulse::fleet::{Actor, Command};
use fleetpulse::limits::{HTTP_CONNECTIONS_MAX, HTTP_HEAD_BYTES_MAX, HTTP_WORKERS, SENSOR_PAGES_MAX};
use fleetpulse::live::SensorType;
use fleetpulse::server::enlist::Enlistment;
use fleetpulse::server::{Server, StartError};
use fleetpulse::wire::id::SensorId;

use super::rig::{Rig, answer, config, connect, get, raw, until};

/// The status of the first answer; zero when the server closed without one.
fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

#[test]
fn rubbish_is_refused_and_nobody_else_notices() {
    let rig = Rig::start();
    let address = rig.server.http_addr();
    let head =
        |rest: &str| format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{rest}\r\n");
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("zeros", vec![0; 4_096], &[400]),
        ("ones", vec![0xff; 4_096], &[400]),
        ("a TLS hello", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 13, 10, 13, 10], &[400]),
        ("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[0, 400, 505]),
        ("HTTP/0.9", b"GET /livez\r\n\r\n".to_vec(), &[400]),
        ("HTTP/9.9", b"GET /livez HTTP/9.9\r\n\r\n".to_vec(), &[400, 505]),
        ("no method", b" /livez HTTP/1.1\r\n\r\n".to_vec(), &[400]),
        ("a header without a colon", head("nonsense\r\n").into_bytes(), &[400]),
        ("a header with NUL", head("x: a\0b\r\n").into_bytes(), &[400]),
        ("a folded header", head("x: a\r\n b\r\n").into_bytes(), &[200, 400]),
        ("a length that is none", head("Content-Length: -5\r\n").into_bytes(), &[400]),
        ("two lengths", head("Content-Length: 1\r\nContent-Length: 2\r\n").into_bytes(), &[400]),
        ("a path with NUL", b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), &[400]),
        (
            "a path that is no UTF-8",
            b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec(),
            &[400, 404],
        ),
        (
            "a huge header",
            head(&format!("x: {}\r\n", "y".repeat(4 * HTTP_HEAD_BYTES_MAX))).into_bytes(),
            &[431],
        ),
        ("many headers", head(&"x: y\r\n".repeat(200)).into_bytes(), &[431]),
        (
            "a huge path",
            format!("GET /{} HTTP/1.1\r\n\r\n", "a/".repeat(HTTP_HEAD_BYTES_MAX)).into_bytes(),
            &[414, 431],
        ),
    ];
    for (what, request, valid) in cases {
        let answered = raw(address, &request);
        assert!(valid.contains(&status(&answered)), "{what}: {answered}");
        if (400..500).contains(&status(&answered)) {
            let told = answered.contains("application/problem+json") && answered.contains("\"code\":");
            assert!(told, "{what}: {answered}");
        }
        assert_eq!(rig.get("/livez").status, 200, "after {what}");
    }
}

#[test]
fn methods_and_paths_that_are_not_there_are_refused_by_name() {
    let rig = Rig::start();
    let address = rig.server.http_addr();
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let request = format!("{method} /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let refused = answer(&raw(address, request.as_bytes()));
        assert_eq!(refused.status, 405, "{method}");
        assert_eq!(refused.header("allow"), Some("GET, HEAD"), "{method}");
        assert_eq!(refused.json()["code"], "method-not-allowed", "{method}");
    }
    let body = "x".repeat(1 << 20);
    let post = format!(
        "POST /api/v1/messages HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert!([0, 405].contains(&status(&raw(address, post.as_bytes()))), "a body that nobody asked for");
    let head =
        answer(&raw(address, b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    assert_eq!((head.status, head.body.as_str()), (200, ""));

    for path in [
        "/..",
        "/../livez",
        "/./livez",
        "//livez",
        "/livez/",
        "/livez%00",
        "/livez;a=b",
        "/LIVEZ",
        "/metrics/../livez",
        "/metrics/sensors/",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/api/v1/messages/history/1",
        "/console",
    ] {
        let refused = rig.get(path);
        assert_eq!(refused.status, 404, "{path}: {refused:?}");
        assert_eq!(refused.json()["code"], "no-such-path", "{path}");
    }
    let figures = rig.get("/metrics").body;
    assert!(
        figures.contains("\nfleetpulse_http_requests_total{route=\"other\",status=\"4xx\"} 14\n"),
        "{figures}"
    );
}

#[test]
fn requests_behind_each_other_on_one_connection_are_all_answered() {
    let rig = Rig::start();
    let requests = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /x HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answers = raw(rig.server.http_addr(), requests.as_bytes());
    let statuses: Vec<u16> =
        answers.split("HTTP/1.1 ").skip(1).map(|one| one[..3].parse().unwrap()).collect();
    assert_eq!(statuses, [200, 404, 200]);
}

#[test]
fn connections_left_hanging_make_room_for_others() {
    let rig = Rig::start();
    rig.until_ready();
    let address = rig.server.http_addr();
    let more = 40;
    let mut hanging: Vec<TcpStream> = (0..HTTP_CONNECTIONS_MAX + more)
        .map(|number| {
            let mut stream = connect(address);
            // Silent ones, and ones in the middle of a head.
            let begun: &[u8] =
                if number % 2 == 0 { b"" } else { b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: " };
            stream.write_all(begun).unwrap();
            stream
        })
        .collect();
    assert_eq!(rig.get("/livez").status, 200);
    assert_eq!(rig.get("/readyz").status, 200);
    let engine = rig.get("/api/v1/engine").json();
    let open = engine["http"]["connections"].as_u64().unwrap();
    assert!(open <= HTTP_CONNECTIONS_MAX as u64, "{open}");
    assert!(engine["http"]["evicted"].as_u64().unwrap() >= more as u64, "{engine}");
    // The first ones were closed; one of the last still gets its answer.
    let mut byte = [0];
    assert!(matches!(hanging[0].read(&mut byte), Ok(0) | Err(_)));
    assert_eq!(hanging.len() % 2, 0, "the last one is in the middle of a head");
    let mut last = hanging.pop().unwrap();
    last.write_all(b"no more\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    last.read_to_string(&mut text).unwrap();
    assert_eq!(status(&text), 200, "{text}");
}

/// Registers so many sensors that a page of them does not fit into socket buffers.
fn many_sensors(server: &Server) {
    for batch in 0..4 {
        let register = server.fleet().register();
        let mut enlistment = Enlistment::new(&register);
        for number in 0..5_000 {
            let name = format!("sensor {batch} {number}");
            enlistment.sensor(SensorId::fresh(), &name, SensorType::OtCloud, "north", "line 1");
        }
        let commands: Vec<Command> = enlistment.into_commands();
        drop(register);
        server.apply(&commands, Actor::command_line("test")).unwrap();
    }
}

#[test]
fn who_does_not_read_holds_a_page_for_a_moment_only() {
    let rig = Rig::start();
    many_sensors(&rig.server);
    let address: SocketAddr = rig.server.http_addr();
    let path = "/metrics/sensors?limit=20000";
    let unread: Vec<TcpStream> = (0..SENSOR_PAGES_MAX)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
            let mut first = [0; 12];
            stream.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"HTTP/1.1 200");
            stream
        })
        .collect();
    let refused = get(address, path, "*/*");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("busy")));
    assert_eq!(refused.header("retry-after"), Some("1"));
    for path in ["/livez", "/metrics", "/api/v1/fleet"] {
        assert_eq!(rig.get(path).status, 200, "{path}");
    }
    until(&200, || get(address, path, "*/*").status);
    drop(unread);
    let page = get(address, path, "*/*").body;
    assert!(page.contains("\nfleetpulse_sensor_page_sensors 20000\n"));
    assert_eq!(page.matches("\nfleetpulse_sensor_connected{").count(), 20_000);
}

#[test]
fn while_the_api_waits_probes_and_metrics_answer() {
    let rig = Rig::start();
    rig.until_ready();
    let address = rig.server.http_addr();
    // Whoever asks the engine waits for it, and so do those behind them.
    let engine = rig.server.judge().engine();
    let request = format!(
        "GET /api/v1/messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        rig.token
    );
    let mut waiting: Vec<TcpStream> = (0..HTTP_WORKERS)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    // They may come after the next request, but not after all of the next ones.
    until(&Some("busy".to_owned()), || {
        let refused = rig.get("/api/v1/fleet");
        (refused.status == 503).then(|| refused.json()["code"].as_str().unwrap().to_owned())
    });
    for path in ["/livez", "/metrics"] {
        assert_eq!(rig.get(path).status, 200, "{path}");
    }
    assert!(rig.get("/readyz").json()["checks"].is_array());
    drop(engine);
    for stream in &mut waiting {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(status(&text), 200, "{text}");
    }
    assert_eq!(rig.get("/api/v1/fleet").status, 200);
}

#[test]
fn an_address_that_can_not_be_served_stops_the_start_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let start = |change: &dyn Fn(&mut fleetpulse::config::Config)| -> StartError {
        let mut config = config(folder.path());
        change(&mut config);
        Server::start(config).err().expect("it can't start")
    };
    let open = start(&|config| config.http.listen = ([0, 0, 0, 0], 0).into());
    assert!(open.is_configuration() && open.to_string().contains("`http.plain_beyond_loopback`"), "{open}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let busy = start(&|config| config.http.listen = address);
    assert!(busy.is_configuration() && busy.to_string().contains(&address.to_string()), "{busy}");
    // What a failed start had opened is free again.
    drop(Server::start(config(folder.path())).unwrap());
    let mut beyond = config(folder.path());
    (beyond.http.listen, beyond.http.plain_beyond_loopback) = (([0, 0, 0, 0], 0).into(), true);
    let server = Server::start(beyond).unwrap();
    assert_eq!(get(([127, 0, 0, 1], server.http_addr().port()).into(), "/livez", "*/*").status, 200);
}
