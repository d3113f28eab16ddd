//! Endpoints that can't be reached, each for its own reason: the server is told the right one.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustix::process::Signal;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;

use super::host::{Probe, text, time_server};
use crate::process::{Server, run, until};

/// A TLS server on `localhost` whose certificate nobody else signed; gives its port and the certificate.
fn tls_server() -> (u16, String) {
    let key = KeyPair::generate().expect("a key");
    let names = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = names.self_signed(&key).expect("signed");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS#8"),
        );
    let config = Arc::new(config.expect("a configuration"));
    let port = serve(move |mut stream| {
        let mut tls = rustls::ServerConnection::new(config.clone()).expect("a connection");
        while tls.complete_io(&mut stream).is_ok_and(|done| done != (0, 0)) {}
    });
    (port, certificate.pem())
}

/// A proxy that nobody may use without credentials.
fn proxy() -> u16 {
    serve(|mut stream| {
        let _ = stream.read(&mut [0; 1_024]);
        let _ = stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    })
}

/// Serves each connection on a thread of its own; ends with the test's process.
fn serve(each: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let port = listener.local_addr().expect("an address").port();
    let each = Arc::new(each);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = Arc::clone(&each);
            std::thread::spawn(move || each(stream));
        }
    });
    port
}

#[test]
fn each_reason_is_told_and_a_renewed_certificate_is_taken() {
    let probe = Probe::register();
    let renewed = probe.folder.path().join("renewed");
    let arguments = [
        "ca",
        "issue",
        &probe.id,
        "--data-dir",
        &text(&probe.data),
        "--out",
        &text(&renewed),
        "--life",
        "300d",
    ];
    assert_eq!(run(&arguments).0, Some(0));
    let server = Server::start(&probe.data, &[]);

    let (ours, roots) = tls_server();
    let (strange, _) = tls_server();
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("a port").port();
    let ca_file = probe.folder.path().join("roots.pem");
    fs::write(&ca_file, roots).expect("written");
    let endpoints = [
        format!("address = 'localhost:{ours}'"),
        format!("address = 'localhost:{strange}'"),
        format!("address = '127.0.0.1:{closed}'"),
        "address = 'no-such-host.invalid:443'".to_owned(),
        format!("address = 'localhost:{ours}'\nproxy = {{ address = '127.0.0.1:{}' }}", proxy()),
    ];
    let endpoints: String = endpoints.iter().map(|each| format!("[[endpoints]]\n{each}\n")).collect();
    let more = format!("ca_file = '{}'\nntp_servers = ['{}']\n{endpoints}", text(&ca_file), time_server());
    let mut agent = probe.agent(&server, &more);

    let wanted = json!({ "0": "ok", "1": "tls", "2": "general", "3": "dns", "4": "proxy-auth" });
    until("every state is told", || (probe.seen(&server)["reported"]["endpoints"] == wanted).then_some(()));
    until("a message says it", || (probe.messages(&server) == ["partially-connected"]).then_some(()));
    // The log says more than a heartbeat has room for.
    let reason = |address: &str| {
        let said = agent.said();
        let line = said.iter().find(|line| line.contains("endpoint not reachable") && line.contains(address));
        line.unwrap_or_else(|| panic!("nothing about {address}: {said:#?}")).clone()
    };
    assert!(reason(&format!("\"port\":{strange}")).contains("invalid peer certificate"));
    assert!(reason(&format!("\"port\":{closed}")).contains("refused"));
    assert!(
        reason("no-such-host.invalid").contains("resolve")
            || reason("no-such-host.invalid").contains("lookup")
    );

    // A renewed certificate is taken while it runs: the same start, another connection, nothing to say about it.
    let before = probe.seen(&server);
    for file in ["certificate.pem", "key.pem", "trust.pem"] {
        fs::rename(renewed.join(file), probe.identity.join(file)).expect("replaced");
    }
    agent.signal(Signal::HUP);
    agent.until_said("that it was read", |line| line.contains("read again").then_some(()));
    until("the server has seen it", || {
        (probe.seen(&server)["connection"]["certificate_not_after"]
            != before["connection"]["certificate_not_after"])
            .then_some(())
    });
    let after = until("and heartbeats over it", || {
        let seen = probe.seen(&server);
        let number = |seen: &serde_json::Value| seen["reported"]["sequence"].as_u64();
        (number(&seen) > number(&before)).then_some(seen)
    });
    assert_eq!(after["reported"]["boot_id"], before["reported"]["boot_id"]);
    assert_eq!(after["connection"]["reconnects"], 1);
    assert_eq!(probe.messages(&server), ["partially-connected"]);

    // A certificate of somebody else is not.
    fs::write(probe.identity.join("key.pem"), "none").expect("written");
    agent.signal(Signal::HUP);
    agent.until_said("that it was refused", |line| {
        line.contains("the old certificate stays in use").then_some(())
    });
}
