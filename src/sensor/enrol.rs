//! Getting a certificate from the enrolment port: a first one with an activation file, or a new one in place of one
//! that ran out. The key is made here and stays in its folder.

use std::time::Duration;

use super::back_off::Loss;
use super::client::ClientError;
use super::link::connect;
use super::socket::Socket;
use super::transport;
use crate::identity::{
    ActivationFile, ActivationResponse, ClientIdentity, IdentityFolder, PeerIdentity, TrustBundle, TrustError,
};
use crate::limits::{CONNECT_TIMEOUT, ENROL_MESSAGE_BYTES_MAX, ENROL_TIMEOUT};
use crate::time::{Clock, SystemClock, UnixMillis};
use crate::wire::close::CloseCode;
use crate::wire::enrol::{
    EnrolAnswer, EnrolRefusal, EnrolRequest, announced_length, decode, encode, renewal_statement,
};

/// Tries of all servers while the answers are "later", or none.
const TRIES: u32 = 4;
/// Wait between two tries.
const BETWEEN: Duration = Duration::from_secs(3);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolFailure {
    /// The server says no.
    #[error("{}: {}{}", label(*.code), text(*.code), if .detail.is_empty() { String::new() } else { format!(" ({})", .detail) })]
    Refused {
        /// Its code ([`EnrolRefusal`]).
        code: u32,
        /// More about it.
        detail: String,
    },
    /// No server answers.
    #[error("{server}: {loss}; {}", advice(.loss))]
    Unreachable {
        /// The last that was tried.
        server: String,
        /// How it failed.
        loss: Loss,
    },
    /// The answer is none.
    #[error("the server's answer can't be used: {0}; are the two programs of the same version?")]
    Answer(String),
    /// No addresses to ask.
    #[error(
        "no enrolment server is known; the activation file, or `enrol_servers` in the configuration, names them"
    )]
    NoServer,
    /// Key, certificate or folder.
    #[error(transparent)]
    Identity(#[from] TrustError),
    /// The transport can't be set up.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl EnrolFailure {
    /// The server's reason, when it gave one that this version knows.
    pub fn refusal(&self) -> Option<EnrolRefusal> {
        match self {
            EnrolFailure::Refused { code, .. } => EnrolRefusal::from_code(*code),
            _ => None,
        }
    }

    /// True when the same may succeed a little later without anybody doing something.
    pub fn is_passing(&self) -> bool {
        match self {
            EnrolFailure::Unreachable { .. } => true,
            _ => self.refusal().is_some_and(EnrolRefusal::is_passing),
        }
    }
}

fn label(code: u32) -> &'static str {
    EnrolRefusal::from_code(code).map_or("refused", EnrolRefusal::label)
}

fn text(code: u32) -> &'static str {
    EnrolRefusal::from_code(code)
        .map_or("the server refused for a reason that this version does not know", EnrolRefusal::text)
}

fn advice(loss: &Loss) -> &'static str {
    let text = match loss {
        Loss::UnknownServer => {
            return "this is not the server that made the activation file: check the address, or download another file";
        }
        Loss::Transport(text) => text.to_ascii_lowercase(),
        _ => String::new(),
    };
    if text.contains("expired") || text.contains("not valid yet") || text.contains("notvalidyet") {
        "by this host's clock the server's certificate is out of date: set the clock (NTP) and try again"
    } else if text.contains("name") {
        "the server has another name: check `server_name`"
    } else {
        "check the address, and that UDP to that port is let through"
    }
}

/// Whom to ask.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// Servers as host:port, tried in turn.
    pub servers: Vec<String>,
    /// The name in their certificates.
    pub server_name: String,
    /// The roots that prove them.
    pub trust: TrustBundle,
}

struct Granted {
    chain_pem: String,
    trust_pem: String,
}

impl Enrolment {
    /// As an activation file says.
    pub fn of_file(file: &ActivationFile) -> Result<Enrolment, EnrolFailure> {
        Ok(Enrolment {
            servers: file.enrol.clone(),
            server_name: file.server_name.clone(),
            trust: TrustBundle::from_pem(&file.trust)?,
        })
    }

    /// Gets a first certificate for a key that is made in `folder`, and keeps it there. Asked again after an answer
    /// that was lost, it asks for the same key, and the server answers as before.
    pub async fn activate(
        &self,
        file: &ActivationFile,
        folder: &IdentityFolder,
        socket: &Socket,
        clock: SystemClock,
    ) -> Result<ClientIdentity, EnrolFailure> {
        let csr = folder.next_key(true)?.request()?;
        let request = |clock: UnixMillis| EnrolRequest::Activate {
            token: file.token,
            csr: csr.clone(),
            clock_unix_ms: clock.0,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let granted = self.ask_patiently(socket, clock, |now| Ok(request(now))).await?;
        keep(folder, &granted, PeerIdentity::Sensor(file.sensor))
    }

    /// Gets a new certificate in place of the one in `folder`, which ran out, for a new key.
    pub async fn renew(
        &self,
        folder: &IdentityFolder,
        socket: &Socket,
        clock: SystemClock,
    ) -> Result<ClientIdentity, EnrolFailure> {
        let old = ClientIdentity::read(folder.path())?;
        let (chain, old_key) = (old.chain_der()?, old.client_key()?);
        let csr = folder.next_key(true)?.request()?;
        let request = |clock: UnixMillis| {
            Ok(EnrolRequest::Renew {
                chain: chain.iter().map(|certificate| certificate.to_vec().into()).collect(),
                csr: csr.clone(),
                clock_unix_ms: clock.0,
                signature: old_key.sign(&renewal_statement(&csr, clock.0))?,
                agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            })
        };
        let granted = self.ask_patiently(socket, clock, request).await?;
        keep(folder, &granted, old.leaf()?.identity)
    }

    async fn ask_patiently(
        &self,
        socket: &Socket,
        clock: SystemClock,
        request: impl Fn(UnixMillis) -> Result<EnrolRequest, EnrolFailure>,
    ) -> Result<Granted, EnrolFailure> {
        let mut last = EnrolFailure::NoServer;
        for round in 0..TRIES {
            if round > 0 {
                tokio::time::sleep(BETWEEN.mul_f64(0.5 + rand::random::<f64>())).await;
            }
            for server in &self.servers {
                match self.ask(server, socket, clock, &request(clock.unix())?).await {
                    Ok(granted) => return Ok(granted),
                    Err(error) if error.is_passing() => {
                        tracing::debug!(%server, %error, "enrolment: tried again");
                        last = error;
                    }
                    Err(error) => return Err(error),
                }
            }
            if self.servers.is_empty() {
                break;
            }
        }
        Err(last)
    }

    async fn ask(
        &self,
        server: &str,
        socket: &Socket,
        clock: SystemClock,
        request: &EnrolRequest,
    ) -> Result<Granted, EnrolFailure> {
        let unreachable = |loss: Loss| EnrolFailure::Unreachable { server: server.to_owned(), loss };
        let quic = transport::enrol_config(&self.trust, clock)?;
        let connecting = connect(socket.clone(), quic, Some(server.to_owned()), self.server_name.clone());
        let connection = connecting.await.map_err(unreachable)?;
        let exchange = async {
            let (mut send, mut receive) = connection.open_bi().await.map_err(Loss::from)?;
            // A server that heard enough stops the stream and answers; what it says is in the answer.
            let _ = send.write_all(&encode(request)).await;
            let _ = send.finish();
            receive.read_to_end(ENROL_MESSAGE_BYTES_MAX + 4).await.map_err(|error| match error {
                quinn::ReadToEndError::Read(quinn::ReadError::ConnectionLost(error)) => Loss::from(error),
                other => Loss::Transport(other.to_string()),
            })
        };
        let answer = tokio::time::timeout(ENROL_TIMEOUT + CONNECT_TIMEOUT, exchange).await;
        connection.close(quinn::VarInt::from_u32(CloseCode::Goodbye.code()), b"");
        let bytes = answer.unwrap_or(Err(Loss::TimedOut)).map_err(unreachable)?;
        let bad = |error: crate::wire::enrol::EnrolError| EnrolFailure::Answer(error.to_string());
        match announced_length(&bytes).map_err(bad)? {
            Some(length) if bytes.len() == length + 4 => {}
            _ => return Err(EnrolFailure::Answer("it is not complete".to_owned())),
        }
        match decode(&bytes[4..]).map_err(bad)? {
            EnrolAnswer::Enrolled { chain_pem, trust_pem, .. } => Ok(Granted { chain_pem, trust_pem }),
            EnrolAnswer::Refused { code, detail } => {
                // It is shown to a person.
                let detail = detail.chars().filter(|c| !c.is_control()).take(500).collect();
                Err(EnrolFailure::Refused { code, detail })
            }
        }
    }
}

fn keep(
    folder: &IdentityFolder,
    granted: &Granted,
    wanted: PeerIdentity,
) -> Result<ClientIdentity, EnrolFailure> {
    let read = ClientIdentity {
        cert_chain_pem: granted.chain_pem.clone(),
        key_pem: String::new(),
        trust_bundle_pem: granted.trust_pem.clone(),
    };
    let named = read.leaf().map_err(|error| EnrolFailure::Answer(error.to_string()))?.identity;
    if named != wanted {
        return Err(EnrolFailure::Answer(format!("the certificate is {named}'s, and {wanted} asked")));
    }
    Ok(folder.take(&granted.chain_pem, Some(&granted.trust_pem))?)
}

/// For a sensor that never connects: makes its key, and the file by which an operator tells the server so.
pub fn respond_offline(
    file: &ActivationFile,
    folder: &IdentityFolder,
    now: UnixMillis,
) -> Result<Vec<u8>, TrustError> {
    let key = folder.next_key(true)?;
    let payload = ActivationResponse::payload(file, now);
    key.sign_file("activation-response.json", ActivationResponse::MEDIA_TYPE, &payload, now)
}
