//! HTTPS with a real client: both versions, certificates that change while connections are open, and clients that
//! leave their request in the middle.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fleetpulse::config::TlsMode;
use fleetpulse::limits::{HTTP_BODY_STALL_TIMEOUT, HTTP_LARGE_BODIES_MAX};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::export::rig::{Rig, connect, until};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A connection to `localhost` there, trusting this certificate alone.
fn client(
    address: SocketAddr,
    root: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
) -> Stream {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), connect(address))
}

/// A GET on a connection that stays; the head of the answer.
fn get(stream: &mut Stream, path: &str) -> std::io::Result<String> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    std::io::copy(&mut stream.take(length.parse().unwrap()), &mut std::io::sink())?;
    Ok(head)
}

/// Writes a new certificate and its key.
fn certificate(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("chain.pem"), made.cert.pem()).unwrap();
    made.cert.der().clone()
}

fn with_files(folder: &Path) -> Rig {
    let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
    Rig::start_with(move |config| {
        config.http.tls = TlsMode::Files;
        config.http.tls_certificate = Some(chain);
        config.http.tls_key = Some(key);
        // Others may reach it then.
        config.http.listen = ([0, 0, 0, 0], 0).into();
    })
}

#[test]
fn a_new_certificate_serves_new_connections_and_leaves_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let first = certificate(folder.path());
    let rig = with_files(folder.path());
    let address: SocketAddr = ([127, 0, 0, 1], rig.server.http_addr().port()).into();
    let mut open = client(address, &first, &rustls::version::TLS13);
    let head = get(&mut open, "/livez").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("strict-transport-security: max-age="), "{head}");
    assert!(get(&mut client(address, &first, &rustls::version::TLS12), "/livez").is_ok());

    let second = certificate(folder.path());
    rig.server.reload().unwrap();
    assert!(get(&mut open, "/livez").is_ok(), "the connection stays");
    assert!(
        get(&mut client(address, &first, &rustls::version::TLS13), "/livez").is_err(),
        "it is the old one"
    );
    assert!(get(&mut client(address, &second, &rustls::version::TLS13), "/livez").is_ok());

    // Rubbish is said, and changes nothing.
    std::fs::write(folder.path().join("chain.pem"), "rubbish").unwrap();
    let refused = rig.server.reload().unwrap_err().to_string();
    assert!(refused.contains("certificate"), "{refused}");
    assert!(get(&mut client(address, &second, &rustls::version::TLS13), "/livez").is_ok());

    // A change of the files is seen without being told.
    let third = certificate(folder.path());
    until(&true, || get(&mut client(address, &third, &rustls::version::TLS13), "/livez").is_ok());
    assert!(get(&mut open, "/livez").is_ok(), "and still it stays");
    assert!(rig.server.setup_link().is_none());
}

#[test]
fn the_servers_own_authority_serves_too_and_plain_requests_are_refused() {
    let rig = Rig::start_with(|config| config.http.tls = TlsMode::Own);
    let address = rig.server.http_addr();
    let authority = rig.server.authority();
    let pem = authority.trust_pem();
    let root = rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).unwrap();
    assert!(get(&mut client(address, &root, &rustls::version::TLS13), "/livez").is_ok());
    let mut plain = connect(address);
    plain.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
}

#[test]
fn a_key_of_another_certificate_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let key = std::fs::read(folder.path().join("key.pem")).unwrap();
    certificate(folder.path());
    std::fs::write(folder.path().join("key.pem"), key).unwrap();
    let mut config = crate::export::rig::config(folder.path());
    config.http.tls = TlsMode::Files;
    config.http.tls_certificate = Some(folder.path().join("chain.pem"));
    config.http.tls_key = Some(folder.path().join("key.pem"));
    let error = fleetpulse::server::Server::start(config).map(|_| ()).unwrap_err();
    assert!(error.is_configuration() && error.to_string().contains("http.tls_key"), "{error}");
}

#[test]
fn a_body_that_stops_in_the_middle_is_given_up() {
    let rig = Rig::start();
    let mut slow = connect(rig.server.http_addr());
    let head = format!(
        "POST /api/v1/users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{\"name\":",
        rig.token
    );
    slow.write_all(head.as_bytes()).unwrap();
    slow.set_read_timeout(Some(HTTP_BODY_STALL_TIMEOUT + Duration::from_secs(50))).unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body-too-slow"), "{answer}");
    // One that goes away leaves nothing behind.
    let mut gone = connect(rig.server.http_addr());
    gone.write_all(head.as_bytes()).unwrap();
    drop(gone);
    assert_eq!(rig.get("/api/v1/users").json()["items"].as_array().unwrap().len(), 1);
}

/// Large bodies have places; who holds one and sends nothing gives it back in time.
#[test]
fn large_bodies_left_hanging_do_not_keep_out_small_ones() {
    let rig = Rig::start();
    let head = format!(
        "POST /api/v1/bulk HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 10000000\r\n\r\n{{",
        rig.token
    );
    let hanging: Vec<TcpStream> = (0..HTTP_LARGE_BODIES_MAX)
        .map(|_| {
            let mut stream = connect(rig.server.http_addr());
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let large = || {
        let mut stream = connect(rig.server.http_addr());
        stream.write_all(head.as_bytes()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut text = [0; 12];
        stream.read_exact(&mut text).map(|()| String::from_utf8_lossy(&text).into_owned()).ok()
    };
    until(&Some("HTTP/1.1 503".to_owned()), large);
    let body = serde_json::json!({"name": "bob"});
    assert_eq!(rig.send("POST", "/api/v1/users", Some(&body)).status, 201, "small ones are taken");
    drop(hanging);
    until(&None, large);
}
