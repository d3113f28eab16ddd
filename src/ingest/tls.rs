//! TLS of a connection, thrown away when it has done its work.
//!
//! After the handshake QUIC needs three things of TLS: the secrets that the next packet keys come from, the
//! peer's certificate, and the right refusal of whatever TLS message may still come. The library's session
//! keeps the whole TLS machine instead, with its buffers, its record keys (which QUIC never uses) and the
//! peer's chain: 6.5 KB of a connection's 21 (measured with a heap profiler, 2,000 idle connections). This
//! one keeps the secrets and the leaf.
//!
//! Nothing of cryptography is done here: every step is the TLS library's; this only decides when to let go.
//! That is when the handshake is complete and nothing is left to be written, the session ticket included.

use std::any::Any;
use std::mem;
use std::sync::Arc;

use quinn_proto::ConnectionId;
use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::crypto::{
    ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, Session, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{Side, TransportError, TransportErrorCode};
use rustls::quic::{KeyChange, Secrets, ServerConnection, Suite, Version};

use super::IngestError;

/// TLS alert `unexpected_message`.
const UNEXPECTED_MESSAGE: u8 = 10;

/// Makes sessions for one TLS configuration.
pub(super) struct LeanTls {
    config: Arc<rustls::ServerConfig>,
    /// Protects the first packets and Retry, the same for everybody.
    first: QuicServerConfig,
    suite: Suite,
}

impl LeanTls {
    pub(super) fn new(config: &Arc<rustls::ServerConfig>) -> Result<LeanTls, IngestError> {
        let first = QuicServerConfig::try_from(Arc::clone(config))
            .map_err(|error| IngestError::Tls(error.to_string()))?;
        let suites = &config.crypto_provider().cipher_suites;
        let suite = suites.iter().find_map(|suite| match suite.suite() {
            rustls::CipherSuite::TLS13_AES_128_GCM_SHA256 => suite.tls13()?.quic_suite(),
            _ => None,
        });
        let suite = suite.ok_or_else(|| IngestError::Tls("no AES-128-GCM for the first packets".into()))?;
        Ok(LeanTls { config: Arc::clone(config), first, suite })
    }
}

impl ServerConfig for LeanTls {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.first.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, original_id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.first.retry_tag(version, original_id, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn Session> {
        // The drafts that `initial_keys` lets pass besides version 1 (RFC 9000, 15).
        let version =
            if matches!(version, 0xff00_001d..=0xff00_0020) { Version::V1Draft } else { Version::V1 };
        let mut bytes = Vec::new();
        params.write(&mut bytes);
        let state = match ServerConnection::new(Arc::clone(&self.config), version, bytes) {
            Ok(tls) => State::Shaking(Box::new(tls), None),
            Err(error) => State::Failed(error.to_string()),
        };
        Box::new(LeanSession { state, said_ready: false, suite: self.suite, version })
    }
}

/// The peer's own certificate as it came (DER).
pub(super) struct PeerLeaf(pub Box<[u8]>);

enum State {
    /// The handshake goes on, or its last messages are not written yet.
    Shaking(Box<ServerConnection>, Option<Secrets>),
    /// It is complete.
    Done { secrets: Secrets, leaf: Option<Box<[u8]>> },
    /// TLS could not even begin; said with the first message.
    Failed(String),
}

struct LeanSession {
    state: State,
    said_ready: bool,
    suite: Suite,
    version: Version,
}

impl LeanSession {
    /// Lets the TLS machine go.
    fn finish(&mut self) {
        match mem::replace(&mut self.state, State::Failed(String::new())) {
            State::Shaking(tls, Some(secrets)) => {
                let leaf = tls.peer_certificates().and_then(|chain| chain.first());
                let leaf = leaf.map(|leaf| Box::from(leaf.as_ref()));
                self.state = State::Done { secrets, leaf };
            }
            other => self.state = other,
        }
    }
}

impl Session for LeanSession {
    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        let side = if side.is_client() { rustls::Side::Client } else { rustls::Side::Server };
        quic_keys(self.suite.keys(id, side, self.version))
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        None
    }

    /// A [`PeerLeaf`].
    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        let leaf = match &self.state {
            State::Done { leaf, .. } => leaf.clone()?,
            State::Shaking(tls, _) => Box::from(tls.peer_certificates()?.first()?.as_ref()),
            State::Failed(_) => return None,
        };
        Some(Box::new(PeerLeaf(leaf)))
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        match &self.state {
            State::Shaking(tls, _) => tls.is_handshaking(),
            State::Done { .. } => false,
            State::Failed(_) => true,
        }
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        let error = |code, reason| TransportError { code, frame: None, reason };
        let alert = |alert, reason| error(TransportErrorCode::crypto(alert), reason);
        let violation =
            |reason| error(TransportErrorCode::PROTOCOL_VIOLATION, format!("TLS error: {reason}"));
        let tls = match &mut self.state {
            State::Shaking(tls, _) => tls,
            // TLS 1.3 lets a client say nothing more over QUIC: no key update (RFC 9001, 6), and we ask for
            // no later authentication.
            State::Done { .. } => {
                return Err(alert(UNEXPECTED_MESSAGE, "TLS message after the handshake".into()));
            }
            State::Failed(reason) => {
                return Err(violation(reason.clone()));
            }
        };
        if let Err(problem) = tls.read_hs(bytes) {
            return Err(match tls.alert() {
                Some(code) => alert(code.into(), problem.to_string()),
                None => violation(problem.to_string()),
            });
        }
        let ready = tls.alpn_protocol().is_some() || tls.server_name().is_some() || !tls.is_handshaking();
        Ok(ready && !mem::replace(&mut self.said_ready, true))
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        // Asked for once, with the client's first flight.
        let State::Shaking(tls, _) = &self.state else { return Ok(None) };
        let Some(mut bytes) = tls.quic_transport_parameters() else { return Ok(None) };
        Ok(Some(TransportParameters::read(Side::Server, &mut bytes)?))
    }

    fn write_handshake(&mut self, bytes: &mut Vec<u8>) -> Option<Keys> {
        let State::Shaking(tls, secrets) = &mut self.state else { return None };
        let before = bytes.len();
        match tls.write_hs(bytes) {
            Some(KeyChange::Handshake { keys }) => Some(quic_keys(keys)),
            Some(KeyChange::OneRtt { keys, next }) => {
                *secrets = Some(next);
                Some(quic_keys(keys))
            }
            None => {
                if bytes.len() == before && !tls.is_handshaking() {
                    self.finish();
                }
                None
            }
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let secrets = match &mut self.state {
            State::Shaking(_, secrets) => secrets.as_mut()?,
            State::Done { secrets, .. } => secrets,
            State::Failed(_) => return None,
        };
        let keys = secrets.next_packet_keys();
        Some(KeyPair { local: Box::new(keys.local), remote: Box::new(keys.remote) })
    }

    /// Retry is the server's to send.
    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        false
    }

    /// Nobody here asks for it, and what it needs is not kept.
    fn export_keying_material(
        &self,
        _: &mut [u8],
        _: &[u8],
        _: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        Err(ExportKeyingMaterialError)
    }
}

fn quic_keys(keys: rustls::quic::Keys) -> Keys {
    Keys {
        header: KeyPair { local: Box::new(keys.local.header), remote: Box::new(keys.remote.header) },
        packet: KeyPair { local: Box::new(keys.local.packet), remote: Box::new(keys.remote.packet) },
    }
}
