//! One peer of a load: its identity ready for use, and the frames that it sends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

use super::LoadCounts;
use crate::identity::{ALPN_MAIN, ClientIdentity, client_tls};
use crate::sensor::client::ClientError;
use crate::sensor::source::Boot;
use crate::sensor::transport::{self, Kind};
use crate::time::{MonoNanos, Now, SystemClock};
use crate::wire::frame::write_frame;
use crate::wire::heartbeat::{
    BackupResult, EndpointState, Heartbeat, NtpState, Profile, TiStatus, UNKNOWN_U32, inline,
};
use crate::wire::id::SensorId;

/// Packets that a sensor claims to have captured between two heartbeats.
const PACKETS_PER_BEAT: u64 = 5_000;
const BYTES_PER_PACKET: u64 = 600;

/// What one connection carries.
#[derive(Clone, Debug)]
pub enum Carried {
    /// The heartbeats of one sensor, a datagram each.
    Sensor(SensorId),
    /// Those of many, in batches on one stream.
    Gateway(Vec<SensorId>),
}

/// Who connects, and for whom.
#[derive(Clone, Debug)]
pub struct LoadPeer {
    /// Chain, key and trusted roots.
    pub identity: ClientIdentity,
    /// Whose heartbeats it brings.
    pub carried: Carried,
}

/// A peer with its QUIC settings made and its sensors booted.
pub(super) struct Prepared {
    pub quic: quinn::ClientConfig,
    /// One for a sensor.
    pub boots: Vec<Boot>,
    pub kind: Kind,
    identity: ClientIdentity,
}

impl Prepared {
    pub(super) fn new(
        peer: LoadPeer,
        clock: SystemClock,
        now: MonoNanos,
        counts: &Arc<LoadCounts>,
    ) -> Result<Prepared, ClientError> {
        let (kind, sensors) = match peer.carried {
            Carried::Sensor(sensor) => (Kind::Sensor, vec![sensor]),
            Carried::Gateway(sensors) => (Kind::Gateway, sensors),
        };
        let boots = sensors.into_iter().map(|sensor| Boot::new(sensor, now)).collect();
        let quic = quic(&peer.identity, kind, clock, counts)?;
        Ok(Prepared { quic, boots, kind, identity: peer.identity })
    }

    pub(super) fn forget_ticket(
        &mut self,
        clock: SystemClock,
        counts: &Arc<LoadCounts>,
    ) -> Result<(), ClientError> {
        self.quic = quic(&self.identity, self.kind, clock, counts)?;
        Ok(())
    }
}

fn quic(
    identity: &ClientIdentity,
    kind: Kind,
    clock: SystemClock,
    counts: &Arc<LoadCounts>,
) -> Result<quinn::ClientConfig, ClientError> {
    let mut tls = client_tls(identity, ALPN_MAIN, Arc::new(clock))?;
    let certificate = Arc::clone(&tls.client_auth_cert_resolver);
    tls.client_auth_cert_resolver = Arc::new(Asked { certificate, counts: Arc::clone(counts) });
    transport::load_config(tls, kind)
}

/// Counts how often a server asks for the certificate: once in a full handshake, never in a resumed one.
#[derive(Debug)]
struct Asked {
    certificate: Arc<dyn ResolvesClientCert>,
    counts: Arc<LoadCounts>,
}

impl ResolvesClientCert for Asked {
    fn resolve(&self, hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.counts.full_handshakes.fetch_add(1, Ordering::Relaxed);
        self.certificate.resolve(hints, schemes)
    }

    fn has_certs(&self) -> bool {
        self.certificate.has_certs()
    }
}

/// A sensor that is well, so that the load makes no health messages.
pub(super) fn healthy(interval_ms: u32) -> Heartbeat {
    let mut endpoint_states = [0; 8];
    endpoint_states[..3].fill(EndpointState::Ok.to_wire());
    Heartbeat {
        interval_ms,
        version: inline("26.2.0"),
        profile: Profile::E1000.to_wire(),
        ti_status: TiStatus::Ok.to_wire(),
        backup_result: BackupResult::Ok.to_wire(),
        backup_age_s: 3_600,
        ntp_state: NtpState::Ok.to_wire(),
        endpoint_states,
        interfaces_total: 2,
        interfaces_up: 2,
        interfaces_with_traffic: 2,
        self_test_ran: 0b1111,
        self_test_age_s: 600,
        devices: 200,
        cpu_permille: 200,
        memory_permille: 400,
        disk_permille: [310, 450, 200, 120],
        temperature_decicelsius: 420,
        rtt_us: UNKNOWN_U32,
        trust_generation: 1,
        ..Heartbeat::default()
    }
}

/// Appends the next frame of one sensor.
pub(super) fn next_frame(boot: &mut Boot, heartbeat: &mut Heartbeat, now: Now, out: &mut Vec<u8>) {
    boot.stamp(heartbeat, now);
    heartbeat.rx_packets = heartbeat.sequence * PACKETS_PER_BEAT;
    heartbeat.rx_bytes = heartbeat.rx_packets * BYTES_PER_PACKET;
    write_frame(heartbeat, 0, out);
}
