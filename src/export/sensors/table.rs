//! The table of what the per-sensor page can show.

use super::number::ABSENT;
use crate::export::table::{Family, Kind, Label};
use crate::health::{CATALOGUE, OverallState, Severity};
use crate::live::{SensorType, Snapshot, Verdict};
use crate::time::Now;
use crate::wire::heartbeat::{Heartbeat, UNKNOWN_I16, UNKNOWN_U16, UNKNOWN_U32};

/// One value of each sensor.
pub struct SensorMetric {
    /// Name, type, meaning, labels.
    pub family: Family,
    /// Decimal places of its whole numbers.
    pub(super) decimals: u32,
    /// The value as a whole number; [`ABSENT`] = not known, and the series is left out.
    pub(super) value: fn(&Seen<'_>) -> i64,
}

/// A sensor, looked at.
pub(super) struct Seen<'s> {
    pub(super) sensor: &'s Snapshot,
    pub(super) verdict: Verdict,
    pub(super) now: Now,
}

const SENSOR: Label = Label::any("sensor");
const NAME: Label = Label::any("name");
const SITE: Label = Label::any("site");
const TYPE: Label = Label::new("type", || SensorType::ALL.iter().map(|kind| kind.as_str()).collect());
const VERSION: Label = Label::any("version");
const PROFILE: Label = Label::any("profile");
const LIFECYCLE: Label = Label::any("lifecycle");

/// Labels that every value has.
const LABELS: &[Label] = &[SENSOR, NAME, SITE, TYPE];
/// Labels of the one family that carries facts.
const INFO_LABELS: &[Label] = &[SENSOR, NAME, SITE, TYPE, VERSION, PROFILE, LIFECYCLE];

macro_rules! metrics {
    ($($kind:ident $name:literal, $unit:literal, $decimals:literal, $help:literal, $value:expr;)+) => {
        /// Every value that the page can show, in the order of the page.
        pub static SENSOR_METRICS: &[SensorMetric] = &[$(SensorMetric {
            family: Family {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                help: $help,
                labels: metrics!(@labels $kind),
            },
            decimals: $decimals,
            value: $value,
        }),+];
    };
    (@labels Info) => { INFO_LABELS };
    (@labels $other:ident) => { LABELS };
}

metrics! {
    Info "fleetpulse_sensor_info", "", 0, "What it is; always 1.", |_| 1;
    Gauge "fleetpulse_sensor_healthy", "", 0, "1 when it counts as healthy, 0 when it has a critical or warning message. Absent while that can't be judged.", healthy;
    Gauge "fleetpulse_sensor_messages_critical", "", 0, "Its active critical messages.", |seen| messages(seen, Severity::Critical);
    Gauge "fleetpulse_sensor_messages_warning", "", 0, "Its active warnings.", |seen| messages(seen, Severity::Warning);
    Gauge "fleetpulse_sensor_connected", "", 0, "1 when it has a connection of its own.", |seen| i64::from(seen.sensor.connected);
    Gauge "fleetpulse_sensor_last_heartbeat_timestamp_seconds", "seconds", 3, "When its newest heartbeat was made, by the server's clock, Unix time.", last_heartbeat;
    Counter "fleetpulse_sensor_heartbeats_received_total", "", 0, "Different heartbeats that came in.", |seen| count(seen.sensor.received);
    Counter "fleetpulse_sensor_heartbeats_lost_total", "", 0, "Heartbeats that were made and did not come.", |seen| count(seen.sensor.lost);
    Counter "fleetpulse_sensor_heartbeats_duplicate_total", "", 0, "Heartbeats that came again.", |seen| i64::from(seen.sensor.duplicates);
    Counter "fleetpulse_sensor_heartbeats_reordered_total", "", 0, "Heartbeats that came after a later one.", |seen| i64::from(seen.sensor.reordered);
    Gauge "fleetpulse_sensor_delivery_ratio", "ratio", 6, "Share of its last expected heartbeats (at most 64) that came in.", |seen| float(seen.sensor.delivery_ratio, 1e6);
    Gauge "fleetpulse_sensor_jitter_seconds", "seconds", 6, "Interarrival jitter of its heartbeats.", |seen| float(seen.sensor.jitter_ms, 1e3);
    Gauge "fleetpulse_sensor_clock_offset_seconds", "seconds", 3, "The server's clock minus its clock.", clock_offset;
    Gauge "fleetpulse_sensor_rtt_seconds", "seconds", 6, "Round-trip time to the server, as it measured it.", |seen| beat(seen, |beat| known_u32(beat.rtt_us));
    Counter "fleetpulse_sensor_reconnects_total", "", 0, "Connections after the first one.", |seen| i64::from(seen.sensor.reconnects);
    Counter "fleetpulse_sensor_restarts_total", "", 0, "Starts after the first one seen.", |seen| i64::from(seen.sensor.restarts);
    Counter "fleetpulse_sensor_captured_packets_total", "", 0, "Packets that it captured since it started.", |seen| beat(seen, |beat| count(beat.rx_packets));
    Counter "fleetpulse_sensor_captured_bytes_total", "bytes", 0, "Bytes that it captured since it started.", |seen| beat(seen, |beat| count(beat.rx_bytes));
    Counter "fleetpulse_sensor_capture_dropped_packets_total", "", 0, "Packets that its capture lost since it started.", |seen| beat(seen, |beat| count(beat.rx_dropped));
    Gauge "fleetpulse_sensor_cpu_ratio", "ratio", 3, "Its CPU use, of all cores.", |seen| beat(seen, |beat| permille(beat.cpu_permille));
    Gauge "fleetpulse_sensor_memory_ratio", "ratio", 3, "Its memory use.", |seen| beat(seen, |beat| permille(beat.memory_permille));
    Gauge "fleetpulse_sensor_disk_root_ratio", "ratio", 3, "Fill of its root partition.", |seen| beat(seen, |beat| permille(beat.disk_permille[0]));
    Gauge "fleetpulse_sensor_disk_data_ratio", "ratio", 3, "Fill of its data partition.", |seen| beat(seen, |beat| permille(beat.disk_permille[1]));
    Gauge "fleetpulse_sensor_temperature_celsius", "celsius", 1, "Its CPU temperature.", |seen| beat(seen, temperature);
    Gauge "fleetpulse_sensor_devices", "", 0, "Devices that it monitors.", |seen| beat(seen, |beat| known_u32(beat.devices));
    Gauge "fleetpulse_sensor_alerts", "", 0, "Its open alerts.", |seen| beat(seen, |beat| known_u32(beat.alerts));
    Gauge "fleetpulse_sensor_certificate_not_after_timestamp_seconds", "seconds", 0, "When its certificate runs out, as its last connection showed it, Unix time.", certificate;
}

/// Sensors on the page.
pub static PAGE_SENSORS: Family = Family {
    name: "fleetpulse_sensor_page_sensors",
    kind: Kind::Gauge,
    unit: "",
    help: "Sensors on this page.",
    labels: &[],
};
/// Whether there are more.
pub static PAGE_TRUNCATED: Family = Family {
    name: "fleetpulse_sensor_page_truncated",
    kind: Kind::Gauge,
    unit: "",
    help: "1 when the filter finds more sensors than this page shows: filter, raise the limit, or scrape in parts.",
    labels: &[],
};

/// Every family of the page.
pub fn sensor_families() -> impl Iterator<Item = &'static Family> {
    SENSOR_METRICS.iter().map(|metric| &metric.family).chain([&PAGE_SENSORS, &PAGE_TRUNCATED])
}

fn healthy(seen: &Seen<'_>) -> i64 {
    match OverallState::from_number(seen.verdict.overall) {
        OverallState::Healthy | OverallState::Pending | OverallState::Stopped => 1,
        OverallState::Warning | OverallState::Critical => 0,
        OverallState::Unknown | OverallState::Local => ABSENT,
    }
}

fn messages(seen: &Seen<'_>, severity: Severity) -> i64 {
    const fn bits(severity: Severity) -> u64 {
        let (mut bits, mut place) = (0, 0);
        while place < CATALOGUE.len() {
            if CATALOGUE[place].severity as u8 == severity as u8 {
                bits |= CATALOGUE[place].id.bit();
            }
            place += 1;
        }
        bits
    }
    let mask = match severity {
        Severity::Critical => const { bits(Severity::Critical) },
        Severity::Warning => const { bits(Severity::Warning) },
        Severity::Lifecycle => const { bits(Severity::Lifecycle) },
    };
    i64::from((seen.verdict.active & mask).count_ones())
}

fn last_heartbeat(seen: &Seen<'_>) -> i64 {
    let last = seen.sensor.last_heartbeat;
    if last.is_never() { ABSENT } else { seen.now.unix.minus(seen.now.mono.since(last)).0 }
}

fn clock_offset(seen: &Seen<'_>) -> i64 {
    // Not known is the same number in both.
    const { assert!(ABSENT == i64::MIN) };
    seen.sensor.clock_offset_ms
}

fn certificate(seen: &Seen<'_>) -> i64 {
    seen.sensor.cert_not_after.map_or(ABSENT, |at| at.0 / 1_000)
}

/// A value of the newest heartbeat, if there is one.
fn beat(seen: &Seen<'_>, value: impl Fn(&Heartbeat) -> i64) -> i64 {
    if seen.sensor.last_heartbeat.is_never() { ABSENT } else { value(&seen.sensor.heartbeat) }
}

fn temperature(beat: &Heartbeat) -> i64 {
    let value = beat.temperature_decicelsius;
    if value == UNKNOWN_I16 { ABSENT } else { i64::from(value) }
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A float as a multiple of a power of ten. NaN becomes absent, the infinite as large as can be.
fn float(value: f32, scale: f64) -> i64 {
    if value.is_nan() { ABSENT } else { ((f64::from(value) * scale).round() as i64).max(ABSENT + 1) }
}

fn permille(value: u16) -> i64 {
    if value == UNKNOWN_U16 { ABSENT } else { i64::from(value) }
}

fn known_u32(value: u32) -> i64 {
    if value == UNKNOWN_U32 { ABSENT } else { i64::from(value) }
}
