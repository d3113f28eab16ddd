//! Is an endpoint reachable, and if not, why: name, TCP, proxy, TLS, in this order, the first failure names the
//! state that the heartbeat carries.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::config::{AgentConfig, AgentConfigError, Credentials, Endpoint, Proxy};
use crate::identity::ClockTime;
use crate::limits::{CA_FILE_BYTES_MAX, PROXY_ANSWER_BYTES_MAX, RESOLVED_ADDRESSES_MAX};
use crate::time::Clock;
use crate::wire::heartbeat::EndpointState;

/// Time between the tries of two addresses of one name.
const CONNECT_STAGGER: Duration = Duration::from_millis(250);

/// Why an endpoint is not reachable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", state.as_str())]
pub struct Failure {
    /// What the heartbeat says.
    pub state: EndpointState,
    /// What the log says.
    pub reason: String,
}

impl Failure {
    fn new(state: EndpointState, reason: impl ToString) -> Failure {
        Failure { state, reason: reason.to_string() }
    }

    fn general(reason: impl ToString) -> Failure {
        Failure::new(EndpointState::General, reason)
    }
}

/// The roots that endpoints are checked with; `None` when no endpoint speaks TLS.
#[derive(Clone, Debug)]
pub struct Trust(Option<Arc<rustls::ClientConfig>>);

impl Trust {
    /// Reads the configured roots if an endpoint needs them.
    pub fn for_endpoints(config: &AgentConfig, clock: Arc<dyn Clock>) -> Result<Trust, AgentConfigError> {
        if !config.endpoints.iter().any(|endpoint| endpoint.tls) {
            return Ok(Trust(None));
        }
        Trust::from_file(&config.ca_file, clock).map_err(|why| {
            let right = format!("a file of PEM certificates that can be read ({why})");
            AgentConfigError::new("ca_file", config.ca_file.display(), &right)
        })
    }

    fn from_file(path: &Path, clock: Arc<dyn Clock>) -> Result<Trust, String> {
        let text = super::host::read_bounded(path, CA_FILE_BYTES_MAX).map_err(|error| error.to_string())?;
        let mut roots = rustls::RootCertStore::empty();
        // One root that this library can't use must not spoil the others: system bundles have such.
        roots.add_parsable_certificates(
            CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok),
        );
        if roots.is_empty() {
            return Err("no usable certificate in it".to_owned());
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_details(provider, Arc::new(ClockTime(clock)))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Trust(Some(Arc::new(config))))
    }
}

/// Checks endpoints.
#[derive(Clone, Debug)]
pub struct Prober {
    trust: Trust,
    patience: Duration,
}

impl Prober {
    /// Each check ends within `patience`.
    pub fn new(trust: Trust, patience: Duration) -> Prober {
        Prober { trust, patience }
    }

    /// Checks one endpoint.
    pub async fn check(&self, endpoint: &Endpoint) -> Result<(), Failure> {
        let (host, port) = endpoint
            .proxy
            .as_ref()
            .map_or((endpoint.host.as_str(), endpoint.port), |proxy| (proxy.host.as_str(), proxy.port));
        // The resolver has a patience of its own, which may be longer.
        let addresses = match timeout(self.patience, resolve(host, port)).await {
            Ok(found) => found.map_err(|why| Failure::new(EndpointState::Dns, why))?,
            Err(_) => {
                return Err(Failure::new(EndpointState::Dns, format!("'{host}' does not resolve in time")));
            }
        };
        timeout(self.patience, self.talk(endpoint, &addresses))
            .await
            .unwrap_or_else(|_| Err(Failure::general("no answer in time")))
    }

    async fn talk(&self, endpoint: &Endpoint, addresses: &[SocketAddr]) -> Result<(), Failure> {
        let mut needless = false;
        let mut stream = match &endpoint.proxy {
            None => connect(addresses).await?,
            Some(proxy) => {
                let (stream, unasked) = through(proxy, endpoint, addresses).await?;
                needless = unasked;
                stream
            }
        };
        if endpoint.tls {
            let Some(config) = self.trust.0.clone() else {
                return Err(Failure::general("no roots are loaded"));
            };
            let name = ServerName::try_from(endpoint.host.clone()).map_err(Failure::general)?;
            let tls = rustls::ClientConnection::new(config, name).map_err(Failure::general)?;
            handshake(&mut stream, tls).await?;
        }
        if needless {
            let reason = "the proxy lets us through without the credentials that are configured";
            return Err(Failure::new(EndpointState::ProxyNeedless, reason));
        }
        Ok(())
    }
}

/// Can a TCP connection be made. The caller bounds the time.
pub(super) async fn reach(host: &str, port: u16) -> Result<(), String> {
    let addresses = resolve(host, port).await?;
    connect(&addresses).await.map(drop).map_err(|failure| failure.reason)
}

/// The first few addresses of a name.
pub(super) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| format!("'{host}': {error}"))?;
    let addresses: Vec<_> = found.take(RESOLVED_ADDRESSES_MAX).collect();
    if addresses.is_empty() { Err(format!("'{host}' has no address")) } else { Ok(addresses) }
}

/// Tries all addresses, each a moment after the one before (RFC 8305): one that swallows packets, as IPv6
/// without a way out does, must not use up the time of those that work.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
    let mut tries = JoinSet::new();
    let mut wait = Duration::ZERO;
    for address in addresses.iter().copied() {
        tries.spawn(async move {
            tokio::time::sleep(wait).await;
            TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))
        });
        wait += CONNECT_STAGGER;
    }
    let mut why = "it has no address".to_owned();
    while let Some(tried) = tries.join_next().await {
        match tried {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why = error,
            Err(error) => why = error.to_string(),
        }
    }
    Err(Failure::general(why))
}

/// Asks the proxy for a tunnel, first without credentials, so that needless ones are noticed. True = they are.
async fn through(
    proxy: &Proxy,
    endpoint: &Endpoint,
    addresses: &[SocketAddr],
) -> Result<(TcpStream, bool), Failure> {
    let mut stream = connect(addresses).await?;
    match (ask(&mut stream, endpoint, None).await?, &proxy.credentials) {
        (200..=299, credentials) => Ok((stream, credentials.is_some())),
        (407, None) => Err(Failure::new(EndpointState::ProxyAuth, "the proxy wants credentials")),
        (407, credentials) => {
            let mut stream = connect(addresses).await?;
            match ask(&mut stream, endpoint, credentials.as_ref()).await? {
                200..=299 => Ok((stream, false)),
                407 => Err(Failure::new(EndpointState::ProxyAuth, "the proxy refuses the credentials")),
                status => Err(Failure::general(format!("the proxy answers {status}"))),
            }
        }
        (status, _) => Err(Failure::general(format!("the proxy answers {status}"))),
    }
}

async fn ask(
    stream: &mut TcpStream,
    endpoint: &Endpoint,
    credentials: Option<&Credentials>,
) -> Result<u16, Failure> {
    let Endpoint { host, port, .. } = endpoint;
    let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let login = credentials.map_or_else(String::new, |Credentials { user, password, .. }| {
        format!("Proxy-Authorization: Basic {}\r\n", base64(format!("{user}:{password}").as_bytes()))
    });
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n");
    stream.write_all(request.as_bytes()).await.map_err(Failure::general)?;
    let mut answer = Vec::new();
    // Byte by byte would be a system call each; what follows the head is the tunnel's, and a TLS server
    // speaks only when spoken to.
    let mut part = [0; 512];
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let length = stream.read(&mut part).await.map_err(Failure::general)?;
        if length == 0 || answer.len() + length > PROXY_ANSWER_BYTES_MAX {
            return Err(Failure::general("the proxy's answer is cut short or too long"));
        }
        answer.extend_from_slice(&part[..length]);
    }
    status_of(&answer).ok_or_else(|| Failure::general("the proxy does not speak HTTP"))
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(answer.split(|&byte| byte == b'\r').next()?).ok()?;
    let (version, rest) = line.split_once(' ')?;
    let status: u16 = rest.get(..3)?.parse().ok()?;
    (version.starts_with("HTTP/1.") && (100..600).contains(&status)).then_some(status)
}

async fn handshake(stream: &mut TcpStream, mut tls: rustls::ClientConnection) -> Result<(), Failure> {
    let mut incoming = [0; 4_096];
    loop {
        let mut outgoing = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut outgoing).map_err(Failure::general)?;
        }
        stream.write_all(&outgoing).await.map_err(Failure::general)?;
        if !tls.is_handshaking() {
            return Ok(());
        }
        let length = stream.read(&mut incoming).await.map_err(Failure::general)?;
        if length == 0 {
            return Err(Failure::general("closed during the TLS handshake"));
        }
        let mut rest = &incoming[..length];
        while !rest.is_empty() {
            tls.read_tls(&mut rest).map_err(Failure::general)?;
            tls.process_new_packets().map_err(tls_failure)?;
        }
    }
}

fn tls_failure(error: rustls::Error) -> Failure {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            Failure::new(EndpointState::Tls, error)
        }
        other => Failure::general(other),
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

// The tests make certificates, which the server half can.
#[cfg(all(test, feature = "server"))]
#[path = "probe_tests.rs"]
mod tests;
