//! The TLS configurations of the two ports.
//!
//! Main port: client certificate mandatory, stateless tickets by our own keys, a few tickets per connection, no
//! early data. Enrolment port: no client certificate (who enrols has none yet), no tickets.

use std::sync::Arc;

use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ServerConfig, version};

use super::authority::{Authority, AuthorityError};
use super::keys::Keys;
use super::trust::{ALPN_ENROL, ALPN_MAIN, ClockTime, TrustError, provider};
use crate::limits::TICKETS_PER_HANDSHAKE;
use crate::time::Clock;

/// TLS of the server could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// No server certificate.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// No usable roots.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The TLS library refused.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}

/// The configurations of both ports, to be swapped together.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Main port.
    pub main: Arc<ServerConfig>,
    /// Enrolment port.
    pub enrol: Arc<ServerConfig>,
}

impl ServerTls {
    /// Builds both for a server with these names (host names and IP addresses). Build again and hand the
    /// result to ingest to reload; existing connections are not touched.
    pub fn build(
        authority: &Authority,
        keys: &Arc<Keys>,
        names: &[String],
        clock: Arc<dyn Clock>,
    ) -> Result<ServerTls, ServerTlsError> {
        let tls = |error: rustls::Error| ServerTlsError::Tls(error.to_string());
        let provider = provider();
        let time: Arc<ClockTime> = Arc::new(ClockTime(clock.clone()));
        let certificate = authority.server_certificate(names, clock.unix())?;
        let roots = authority.trust().root_store()?;
        // Naming our roots in every handshake would cost bytes and tell strangers whose server this is.
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .clear_root_hint_subjects()
            .build()
            .map_err(|error| ServerTlsError::Tls(error.to_string()))?;

        let mut main = ServerConfig::builder_with_details(provider.clone(), time.clone())
            .with_protocol_versions(&[&version::TLS13])
            .map_err(tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificate.chain.clone(), certificate.key.clone_key())
            .map_err(tls)?;
        main.alpn_protocols = vec![ALPN_MAIN.to_vec()];
        main.ignore_client_order = true;
        main.max_early_data_size = 0;
        main.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
        main.session_storage = Arc::new(NoServerSessionStorage {});
        main.ticketer = keys.ticketer(authority.trust());

        let mut enrol = ServerConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(tls)?
            .with_no_client_auth()
            .with_single_cert(certificate.chain, certificate.key)
            .map_err(tls)?;
        enrol.alpn_protocols = vec![ALPN_ENROL.to_vec()];
        enrol.ignore_client_order = true;
        enrol.max_early_data_size = 0;
        enrol.send_tls13_tickets = 0;
        enrol.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(ServerTls { main: Arc::new(main), enrol: Arc::new(enrol) })
    }
}
