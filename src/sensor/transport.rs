//! The QUIC settings of a sensor and of a gateway (`limits` has the sums).

use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{AckFrequencyConfig, IdleTimeout, TransportConfig, VarInt};

use super::client::ClientError;
use super::window::SensorWindows;
use crate::identity::{ALPN_MAIN, ClientIdentity, TrustBundle, client_tls, enrol_tls};
use crate::limits::{
    CONTROL_STREAMS_MAX, GATEWAY_BACKLOG_BYTES, KEEP_ALIVE, SENSOR_BUFFER_BYTES, SENSOR_IDLE_TIMEOUT,
};
use crate::time::SystemClock;

/// Bytes of datagrams waiting to be sent; late heartbeats wait for room.
const DATAGRAM_SEND_BYTES: usize = 16 * 1_024;
/// We expect none, but a peer that refuses datagrams may not send any either.
const DATAGRAM_RECEIVE_BYTES: usize = 2 * 1_024;
/// A gateway's receiver acknowledges every so many packets: fewer ACKs and fewer losses under load.
const GATEWAY_ACK_EVERY: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sensor,
    Gateway,
}

fn transport(kind: Kind) -> TransportConfig {
    let mut transport = TransportConfig::default();
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(match kind {
        Kind::Sensor => 0,
        Kind::Gateway => GATEWAY_ACK_EVERY,
    }));
    transport
        .ack_frequency_config(Some(acks))
        .max_concurrent_bidi_streams(VarInt::from_u32(CONTROL_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(SENSOR_BUFFER_BYTES / 2))
        .receive_window(VarInt::from_u32(SENSOR_BUFFER_BYTES))
        .send_window(match kind {
            Kind::Sensor => u64::from(SENSOR_BUFFER_BYTES),
            Kind::Gateway => GATEWAY_BACKLOG_BYTES as u64 / 4,
        })
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BYTES))
        .datagram_send_buffer_size(DATAGRAM_SEND_BYTES)
        .enable_segmentation_offload(kind == Kind::Gateway)
        .mtu_discovery_config(None)
        .allow_spin(false)
        // Fires only when nothing else was sent or received: with an interval over this, that is.
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(
            u32::try_from(SENSOR_IDLE_TIMEOUT.as_millis()).unwrap_or(u32::MAX),
        ))));
    if kind == Kind::Sensor {
        transport.congestion_controller_factory(Arc::new(SensorWindows));
    }
    transport
}

/// What follows from one identity.
pub(super) struct Identity {
    /// Holds the session tickets, so it is kept across reconnects.
    pub(super) quic: quinn::ClientConfig,
    /// Generation of the trust bundle.
    pub(super) trust_generation: u32,
    /// Whose it is.
    pub(super) kind: Kind,
}

/// Reads an identity.
pub(super) fn identity(
    identity: &ClientIdentity,
    kind: Kind,
    clock: SystemClock,
) -> Result<Identity, ClientError> {
    let trust_generation = identity.trust()?.generation;
    Ok(Identity { quic: quic_config(identity, kind, clock)?, trust_generation, kind })
}

/// The same settings for a TLS configuration that load made, but for control messages, which it takes none of.
pub(super) fn load_config(tls: rustls::ClientConfig, kind: Kind) -> Result<quinn::ClientConfig, ClientError> {
    let mut transport = transport(kind);
    transport.max_concurrent_bidi_streams(VarInt::from_u32(0));
    quic_from(tls, transport)
}

/// Settings of a connection to the enrolment port: one stream of ours, nothing from the server.
pub(super) fn enrol_config(
    trust: &TrustBundle,
    clock: SystemClock,
) -> Result<quinn::ClientConfig, ClientError> {
    let mut transport = transport(Kind::Sensor);
    transport.max_concurrent_bidi_streams(VarInt::from_u32(0)).datagram_receive_buffer_size(None);
    quic_from(enrol_tls(trust, Arc::new(clock))?, transport)
}

fn quic_config(
    identity: &ClientIdentity,
    kind: Kind,
    clock: SystemClock,
) -> Result<quinn::ClientConfig, ClientError> {
    quic_from(client_tls(identity, ALPN_MAIN, Arc::new(clock))?, transport(kind))
}

fn quic_from(
    tls: rustls::ClientConfig,
    transport: TransportConfig,
) -> Result<quinn::ClientConfig, ClientError> {
    let crypto =
        QuicClientConfig::try_from(tls).map_err(|error| ClientError::Transport(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}
