//! Checks against a TLS server and an HTTP proxy on loopback.

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;

use super::*;
use crate::time::SystemClock;

const PATIENCE: Duration = Duration::from_secs(5);

struct Roots {
    folder: tempfile::TempDir,
    server: Arc<rustls::ServerConfig>,
}

/// A self-signed certificate for `localhost`, and the server that shows it.
fn roots() -> Roots {
    let key = KeyPair::generate().expect("key");
    let certificate =
        CertificateParams::new(["localhost".to_owned()]).expect("name").self_signed(&key).expect("signed");
    let folder = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("ca.pem"), certificate.pem()).expect("file");
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS#8"),
        )
        .expect("configuration");
    Roots { folder, server: Arc::new(server) }
}

fn prober(roots: &Roots, patience: Duration) -> Prober {
    let trust = Trust::from_file(&roots.folder.path().join("ca.pem"), Arc::new(SystemClock::start()));
    Prober::new(trust.expect("roots"), patience)
}

async fn serve_tls(config: Arc<rustls::ServerConfig>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("socket");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut tls = rustls::ServerConnection::new(config.clone()).expect("connection");
            tokio::spawn(async move {
                let mut incoming = [0; 4_096];
                loop {
                    let mut outgoing = Vec::new();
                    while tls.wants_write() {
                        tls.write_tls(&mut outgoing).expect("into memory");
                    }
                    if stream.write_all(&outgoing).await.is_err() {
                        return;
                    }
                    let Ok(length @ 1..) = stream.read(&mut incoming).await else { return };
                    let mut rest = &incoming[..length];
                    while !rest.is_empty() {
                        tls.read_tls(&mut rest).expect("from memory");
                        if tls.process_new_packets().is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    port
}

/// A proxy that wants this login, or none; it answers 502 when it can't reach the target.
async fn serve_proxy(login: Option<&'static str>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("socket");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 2_048];
                let length = stream.read(&mut request).await.expect("request");
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let allowed = login.is_none_or(|login| request.contains(&format!("Basic {login}\r\n")));
                if !allowed {
                    stream.write_all(b"HTTP/1.1 407 Who are you\r\n\r\n").await.expect("answer");
                    return;
                }
                let target = request.split(' ').nth(1).expect("target").to_owned();
                let Ok(mut other) = TcpStream::connect(&target).await else {
                    stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await.expect("answer");
                    return;
                };
                stream.write_all(b"HTTP/1.1 200 Go on\r\n\r\n").await.expect("answer");
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut other).await;
            });
        }
    });
    port
}

fn endpoint(host: &str, port: u16, tls: bool) -> Endpoint {
    Endpoint { host: host.to_owned(), port, tls, proxy: None }
}

fn behind(port: u16, login: Option<(&str, &str)>, target: Endpoint) -> Endpoint {
    let credentials = login.map(|(user, password)| Credentials {
        user: user.to_owned(),
        password: password.to_owned(),
        password_file: "/never/read".into(),
    });
    Endpoint { proxy: Some(Proxy { host: "127.0.0.1".to_owned(), port, credentials }), ..target }
}

async fn state(prober: &Prober, endpoint: &Endpoint) -> EndpointState {
    prober.check(endpoint).await.map_or_else(|failure| failure.state, |()| EndpointState::Ok)
}

#[tokio::test]
async fn a_trusted_server_is_ok_and_a_stranger_is_not() {
    let (ours, strange) = (roots(), roots());
    let prober = prober(&ours, PATIENCE);
    let good = serve_tls(ours.server.clone()).await;
    let other = serve_tls(strange.server.clone()).await;
    assert_eq!(prober.check(&endpoint("localhost", good, true)).await, Ok(()));
    assert_eq!(state(&prober, &endpoint("localhost", other, true)).await, EndpointState::Tls);
    // The certificate is for a name, not for this address.
    assert_eq!(state(&prober, &endpoint("127.0.0.1", good, true)).await, EndpointState::Tls);
    assert_eq!(state(&prober, &endpoint("localhost", other, false)).await, EndpointState::Ok);
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let ours = roots();
    let prober = prober(&ours, Duration::from_millis(700));
    let unused =
        TcpListener::bind("127.0.0.1:0").await.expect("socket").local_addr().expect("address").port();
    assert_eq!(state(&prober, &endpoint("127.0.0.1", unused, false)).await, EndpointState::General);
    assert_eq!(state(&prober, &endpoint("no-such-host.invalid", 443, true)).await, EndpointState::Dns);
    // A server that takes the connection and never speaks.
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("socket");
    let port = mute.local_addr().expect("address").port();
    assert_eq!(state(&prober, &endpoint("127.0.0.1", port, true)).await, EndpointState::General);
}

#[tokio::test]
async fn a_proxy_may_want_credentials_or_not() {
    let ours = roots();
    let prober = prober(&ours, PATIENCE);
    let target = endpoint("localhost", serve_tls(ours.server.clone()).await, true);
    let open = serve_proxy(None).await;
    let closed = serve_proxy(Some("dXNlcjpwYXNz")).await;
    let login = Some(("user", "pass"));
    let check =
        async |port, login, target: &Endpoint| state(&prober, &behind(port, login, target.clone())).await;

    assert_eq!(check(open, None, &target).await, EndpointState::Ok);
    assert_eq!(check(open, login, &target).await, EndpointState::ProxyNeedless);
    assert_eq!(check(closed, None, &target).await, EndpointState::ProxyAuth);
    assert_eq!(check(closed, Some(("user", "wrong")), &target).await, EndpointState::ProxyAuth);
    assert_eq!(check(closed, login, &target).await, EndpointState::Ok);
    let strange = endpoint("localhost", serve_tls(roots().server.clone()).await, true);
    assert_eq!(check(open, login, &strange).await, EndpointState::Tls);
    assert_eq!(check(open, None, &endpoint("localhost", 1, true)).await, EndpointState::General);
}

#[tokio::test]
async fn an_address_that_swallows_packets_does_not_use_up_the_time_of_one_that_answers() {
    // Nobody accepts here: two connections fill the queue, and the kernel drops whoever comes then.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
    full.listen(0).expect("listens");
    let swallows = full.local_addr().expect("address").as_socket().expect("IPv4");
    let mut queue = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(300), TcpStream::connect(swallows)).await {
        queue.push(stream);
    }
    let answers = TcpListener::bind("127.0.0.1:0").await.expect("socket");
    let addresses = [swallows, answers.local_addr().expect("address")];
    let connected = timeout(PATIENCE, connect(&addresses)).await.expect("in time").expect("the second one");
    assert_eq!(connected.peer_addr().expect("address"), addresses[1]);
}

#[test]
fn a_proxys_answer_is_read_with_care() {
    assert_eq!(status_of(b"HTTP/1.1 200 OK\r\n\r\n"), Some(200));
    assert_eq!(status_of(b"HTTP/1.0 407\r\n\r\n"), Some(407));
    for bad in [
        &b""[..],
        b"\r\n\r\n",
        b"SSH-2.0\r\n",
        b"HTTP/1.1 2\r\n",
        b"HTTP/1.1 999 x\r\n",
        b"HTTP/1.1 \xff\xff\xff",
    ] {
        assert_eq!(status_of(bad), None, "{bad:?}");
    }
}

#[test]
fn base64_pads() {
    for (plain, coded) in
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("user:pass", "dXNlcjpwYXNz")]
    {
        assert_eq!(base64(plain.as_bytes()), coded);
    }
}

#[test]
fn roots_must_be_there_when_they_are_needed() {
    let least = "servers = ['a:1']\nserver_name = 'a'\nidentity_dir = '/x'\nca_file = '/no/such/file'\n";
    let clock = || Arc::new(SystemClock::start());
    let config = AgentConfig::from_toml(least).expect("valid");
    assert!(Trust::for_endpoints(&config, clock()).is_ok());
    let config = AgentConfig::from_toml(&format!("{least}[[endpoints]]\naddress = 'b:2'\n")).expect("valid");
    let problem = Trust::for_endpoints(&config, clock()).expect_err("missing").to_string();
    assert!(problem.starts_with("ca_file: '/no/such/file'"), "{problem}");
}
