//! The QUIC settings of the server, each with its reason, and the memory they add up to.
//!
//! What a connection holds at most, by these settings (bytes, before it is known / sensor / gateway):
//!
//! | what | unknown | sensor | gateway |
//! |---|---|---|---|
//! | streams that the peer may open | 0 (enrolment port: 1) | 0 | 1 |
//! | stream data not read yet (connection window) | 16 Ki | 16 Ki | 2 Mi, within 512 Mi for each shard |
//! | datagrams not read yet | 32 Ki | 32 Ki | 32 Ki |
//! | handshake data out of order | 16 Ki | 16 Ki | 16 Ki |
//! | our stream data not acknowledged (control) | 64 Ki | 64 Ki | 64 Ki |
//!
//! These are ceilings that a hostile peer can reach; the loop reads everything at once, so an honest one
//! holds none of it. What an idle connection really takes is measured by `load` (`rss_kb_per_connection`).

use std::sync::Arc;
use std::time::Duration;

use quinn_proto::crypto::{HandshakeTokenKey, HmacKey};
use quinn_proto::{
    EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, ValidationTokenConfig, VarInt,
};

use super::steer::ShardIds;
use super::tls::LeanTls;
use super::{IngestError, Role};
use crate::limits::{
    CONNECTION_WINDOW_BYTES, CONTROL_SEND_WINDOW_BYTES, DATAGRAM_RECEIVE_BUFFER_BYTES,
    DATAGRAM_SEND_BUFFER_BYTES, ENROL_IDLE_TIMEOUT, HALF_OPEN_MAX, HANDSHAKE_BUFFER_BYTES, IDLE_TIMEOUT,
    INCOMING_BUFFER_BYTES, INCOMING_BUFFER_BYTES_TOTAL, RESET_EVERY, STREAM_WINDOW_BYTES,
    UDP_PAYLOAD_BYTES_MAX,
};

/// Settings of the endpoint of one shard.
pub(super) fn endpoint_config(
    shard: u8,
    shards: u8,
    reset_key: &Arc<dyn HmacKey>,
) -> Result<EndpointConfig, IngestError> {
    let mut config = EndpointConfig::new(Arc::clone(reset_key));
    let key = Arc::clone(reset_key);
    config.cid_generator(move || Box::new(ShardIds::new(shard, shards, Arc::clone(&key))));
    // The receive buffers scale with it; nobody sends us more than an Ethernet frame.
    config
        .max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX)
        .map_err(|error| IngestError::Quic(error.to_string()))?;
    // A killed server's sensors learn at once that their connection is gone, and a flood of made-up packets
    // can't make us spend more than a few percent of a core on answers.
    config.min_reset_interval(RESET_EVERY);
    Ok(config)
}

fn transport(role: Role) -> TransportConfig {
    let idle = match role {
        Role::Main => IDLE_TIMEOUT,
        Role::Enrolment => ENROL_IDLE_TIMEOUT,
    };
    let mut transport = TransportConfig::default();
    transport
        // No stream credit before the peer is known; each stream that might come costs memory now.
        .max_concurrent_bidi_streams(VarInt::from_u32(match role {
            Role::Main => 0,
            Role::Enrolment => 1,
        }))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(CONTROL_SEND_WINDOW_BYTES)
        .crypto_buffer_size(HANDSHAKE_BUFFER_BYTES)
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER_BYTES)
        .datagram_receive_buffer_size(match role {
            Role::Main => Some(DATAGRAM_RECEIVE_BUFFER_BYTES),
            Role::Enrolment => None,
        })
        .max_idle_timeout(IdleTimeout::try_from(idle).ok())
        // Who sends heartbeats keeps the path open; we never do.
        .keep_alive_interval(None)
        // We send acknowledgements and small control messages: no packet of ours is ever big, so looking for
        // a bigger one would be three to five useless packets a connection.
        .mtu_discovery_config(None)
        // With it the first flight reserves ten packets of memory that the connection keeps for life.
        .enable_segmentation_offload(false)
        // One bit less for whoever watches the wire, and a branch less for us.
        .allow_spin(false)
        // How rarely we acknowledge is asked by the sender (sensor library: at once), never by us.
        .ack_frequency_config(None);
    transport
}

/// Settings of the server side for one port. Made anew for each TLS configuration.
pub(super) fn server_config(
    role: Role,
    tls: &Arc<rustls::ServerConfig>,
    token_key: &Arc<dyn HandshakeTokenKey>,
) -> Result<Arc<ServerConfig>, IngestError> {
    let mut config = ServerConfig::new(Arc::new(LeanTls::new(tls)?), Arc::clone(token_key));
    let mut no_tokens = ValidationTokenConfig::default();
    // Address tokens for later connections need a memory of those used; Retry does without.
    no_tokens.sent(0);
    config
        .transport_config(Arc::new(transport(role)))
        .validation_token_config(no_tokens)
        .retry_token_lifetime(Duration::from_secs(15))
        // NAT gives sensors new ports; steering by connection id makes that safe.
        .migration(true)
        .max_incoming(HALF_OPEN_MAX)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_BYTES_TOTAL);
    Ok(Arc::new(config))
}
