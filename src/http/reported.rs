//! What a sensor says of itself, in the API's words and in base units. "Not known" is `null`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::times::{rfc3339, rfc3339_of};
use crate::live::Snapshot;
use crate::time::{Now, UnixMillis};
use crate::wire::heartbeat::{
    DISK_NAMES, ENDPOINTS_MAX, EndpointState, FLAG_BACKUP_DISABLED, FLAG_LOCAL_OVERRIDE, Heartbeat,
    UNKNOWN_I16, UNKNOWN_U16, UNKNOWN_U32, UpdateStage,
};

/// The newest heartbeat.
#[derive(Serialize, ToSchema)]
pub(super) struct Reported {
    version: Option<String>,
    profile: &'static str,
    uptime_seconds: f64,
    /// The sensor's own clock when it made this.
    sensor_clock: String,
    interval_seconds: f64,
    boot_id: String,
    sequence: u64,
    update: Update,
    threat_intelligence: ThreatIntelligence,
    backup: Backup,
    self_tests: SelfTests,
    ntp: &'static str,
    directory_servers: DirectoryServers,
    /// States of the configured cloud endpoints, by their place.
    endpoints: BTreeMap<usize, &'static str>,
    interfaces: Interfaces,
    capture: Capture,
    devices: Option<u32>,
    alerts: Option<u32>,
    cpu_ratio: Option<f64>,
    memory_ratio: Option<f64>,
    disk_ratio: BTreeMap<&'static str, f64>,
    temperature_celsius: Option<f64>,
    link: Link,
    settings_generation: u64,
    trust_generation: u32,
    /// Somebody at the sensor changed settings by hand.
    local_override: bool,
    /// It announced a planned stop.
    goodbye: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ReportedUpdate)]
struct Update {
    stage: &'static str,
    since: Option<String>,
    progress_ratio: Option<f64>,
    target: Option<String>,
    error: Option<u16>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ReportedThreatIntelligence)]
struct ThreatIntelligence {
    version: Option<String>,
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ReportedBackup)]
struct Backup {
    enabled: bool,
    result: &'static str,
    age_seconds: Option<u32>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ReportedSelfTests)]
struct SelfTests {
    /// Numbers of the tests that exist.
    ran: Vec<u32>,
    failed: Vec<u32>,
    age_seconds: Option<u32>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ReportedDirectoryServers)]
struct DirectoryServers {
    configured: u8,
    reachable: u8,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ReportedInterfaces)]
struct Interfaces {
    total: Option<u16>,
    up: Option<u16>,
    with_traffic: Option<u16>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ReportedCapture)]
struct Capture {
    packets: u64,
    bytes: u64,
    dropped: u64,
    packets_per_second: Option<f64>,
    bytes_per_second: Option<f64>,
    drop_ratio: Option<f64>,
    last_traffic: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ReportedLink)]
struct Link {
    rtt_seconds: Option<f64>,
    send_failures: u32,
    reconnects: u32,
}

pub(super) fn reported(sensor: &Snapshot, now: Now) -> Reported {
    let beat = &sensor.heartbeat;
    Reported {
        version: text(beat.version_str()),
        profile: beat.profile().as_str(),
        uptime_seconds: Duration::from_millis(beat.uptime_ms).as_secs_f64(),
        sensor_clock: rfc3339(UnixMillis(beat.sensor_clock_unix_us / 1_000)),
        interval_seconds: f64::from(beat.interval_ms) / 1_000.0,
        boot_id: format!("{:016x}", beat.boot_id),
        sequence: beat.sequence,
        update: update(sensor, now),
        threat_intelligence: ThreatIntelligence {
            version: text(beat.ti_version_str()),
            status: beat.ti_status().as_str(),
        },
        backup: Backup {
            enabled: !beat.has(FLAG_BACKUP_DISABLED),
            result: beat.backup_result().as_str(),
            age_seconds: known_u32(beat.backup_age_s),
        },
        self_tests: SelfTests {
            ran: bits(beat.self_test_ran),
            failed: bits(beat.self_test_failed),
            age_seconds: known_u32(beat.self_test_age_s),
        },
        ntp: beat.ntp_state().as_str(),
        directory_servers: DirectoryServers {
            configured: beat.directory_configured,
            reachable: beat.directory_reachable,
        },
        endpoints: endpoints(beat),
        interfaces: Interfaces {
            total: known_u16(beat.interfaces_total),
            up: known_u16(beat.interfaces_up),
            with_traffic: known_u16(beat.interfaces_with_traffic),
        },
        capture: Capture {
            packets: beat.rx_packets,
            bytes: beat.rx_bytes,
            dropped: beat.rx_dropped,
            packets_per_second: number(sensor.rx_packets_per_s),
            bytes_per_second: number(sensor.rx_bytes_per_s),
            drop_ratio: number(sensor.drop_ratio),
            last_traffic: rfc3339_of(sensor.last_traffic, now),
        },
        devices: known_u32(beat.devices),
        alerts: known_u32(beat.alerts),
        cpu_ratio: permille(beat.cpu_permille),
        memory_ratio: permille(beat.memory_permille),
        disk_ratio: DISK_NAMES
            .into_iter()
            .zip(beat.disk_permille)
            .filter_map(|(name, fill)| Some((name, permille(fill)?)))
            .collect(),
        temperature_celsius: (beat.temperature_decicelsius != UNKNOWN_I16)
            .then(|| f64::from(beat.temperature_decicelsius) / 10.0),
        link: Link {
            rtt_seconds: known_u32(beat.rtt_us).map(|us| f64::from(us) / 1_000_000.0),
            send_failures: beat.send_failures,
            reconnects: beat.reconnects,
        },
        settings_generation: beat.settings_generation,
        trust_generation: beat.trust_generation,
        local_override: beat.has(FLAG_LOCAL_OVERRIDE),
        goodbye: sensor.goodbye,
    }
}

fn update(sensor: &Snapshot, now: Now) -> Update {
    let beat = &sensor.heartbeat;
    let stage = beat.update_stage();
    let under_way = matches!(stage, UpdateStage::Sending | UpdateStage::Installing);
    Update {
        stage: stage.as_str(),
        since: rfc3339_of(sensor.update_stage_since, now),
        progress_ratio: under_way.then(|| f64::from(beat.update_percent) / 100.0),
        target: text(beat.update_target_str()),
        error: (beat.update_error != 0).then_some(beat.update_error),
    }
}

fn endpoints(beat: &Heartbeat) -> BTreeMap<usize, &'static str> {
    let states = (0..ENDPOINTS_MAX).map(|place| (place, beat.endpoint(place)));
    let configured = states.filter(|(_, state)| *state != EndpointState::NotConfigured);
    configured.map(|(place, state)| (place, state.as_str())).collect()
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn number(value: f32) -> Option<f64> {
    value.is_finite().then_some(f64::from(value))
}

fn permille(value: u16) -> Option<f64> {
    known_u16(value).map(|value| f64::from(value) / 1_000.0)
}

fn known_u16(value: u16) -> Option<u16> {
    (value != UNKNOWN_U16).then_some(value)
}

fn known_u32(value: u32) -> Option<u32> {
    (value != UNKNOWN_U32).then_some(value)
}

fn bits(word: u32) -> Vec<u32> {
    (0..u32::BITS).filter(|bit| word >> bit & 1 == 1).collect()
}
