//! One simulated sensor: healthy values, and what each fault makes of them.
//!
//! Counters follow the uptime exactly, so that a rate is what it should be whatever the timer did.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::SETTINGS_GENERATION;
use super::kind::FaultKind;
use super::plan::PlannedFault;
use super::scenario::SensorKind;
use crate::sensor::dice::Dice;
use crate::sensor::source::{Beat, Boot, Source};
use crate::time::{MonoNanos, UnixMillis};
use crate::wire::heartbeat::{
    BackupResult, EndpointState, Heartbeat, NtpState, Profile, TiStatus, UpdateStage, inline,
};
use crate::wire::id::SensorId;

/// Monitored traffic: 54 Mbit/s in packets of 843 bytes. 90 % of the L100, 540 % of the L60, and at most a
/// quarter of every healthy sensor's profile.
const BYTES_PER_MS: u64 = 6_750;
const PACKETS_PER_MS: u64 = 8;
/// After lost packets, so many in one interval that the share of lost ones falls below every threshold.
const RECOVERY_PACKETS: u64 = 2_000 * 8 * 1_000;
const RESTART_EVERY: Duration = Duration::from_secs(4);
const CLOCK_AHEAD_US: i64 = 300_000_000;
/// What healthy simulated sensors run.
pub const VERSION: &str = "26.2.0.5-r-1f3c9ab";
/// What a sensor runs that nobody updated for years.
pub const OLD_VERSION: &str = "22.3.7";
const NEXT_VERSION: &str = "26.2.1";

/// The faults of a run: the script, and which of them are on now.
#[derive(Clone)]
pub(super) struct Script {
    pub(super) faults: Arc<[PlannedFault]>,
    pub(super) active: Arc<AtomicU64>,
}

pub(super) struct SimSensor {
    id: SensorId,
    boot: Boot,
    booted: MonoNanos,
    dice: Dice,
    profile: Profile,
    devices: u32,
    mine: u64,
    script: Script,
    beats: u64,
    /// Milliseconds of uptime that are in the counters.
    counted_ms: u64,
    packets: u64,
    bytes: u64,
    dropped: u64,
    was_overloaded: bool,
}

impl SimSensor {
    /// A sensor that started at this instant. `number` varies what does not matter.
    pub(super) fn new(
        id: SensorId,
        number: usize,
        kind: SensorKind,
        mine: u64,
        script: Script,
        booted: MonoNanos,
        seed: u64,
    ) -> SimSensor {
        let mut dice = Dice::new(seed ^ (number as u64).wrapping_mul(0x9e37_79b9));
        let profile = match kind {
            SensorKind::EnterpriseIot => Profile::EnterpriseIot,
            SensorKind::OtCloud => {
                [Profile::E1000, Profile::E1800, Profile::C5600, Profile::E500][number % 4]
            }
        };
        SimSensor {
            id,
            boot: Boot::with_id(id, dice.bits(), booted),
            booted,
            profile,
            devices: 100 + dice.below(300) as u32,
            dice,
            mine,
            script,
            beats: 0,
            counted_ms: 0,
            packets: 0,
            bytes: 0,
            dropped: 0,
            was_overloaded: false,
        }
    }

    fn restart(&mut self, now: MonoNanos) {
        self.boot = Boot::with_id(self.id, self.dice.bits(), now);
        self.booted = now;
        (self.counted_ms, self.packets, self.bytes, self.dropped) = (0, 0, 0, 0);
    }

    /// The heartbeat of now with every fault in it; `None` when it gets lost.
    pub(super) fn make(&mut self, beat: &Beat) -> Option<Heartbeat> {
        let on = self.mine & self.script.active.load(Ordering::Relaxed);
        let script = self.script.clone();
        let kinds = |kind: FaultKind| {
            let mut faults = script.faults.iter().enumerate();
            on != 0 && faults.any(|(place, fault)| fault.kind == kind && on & 1 << place != 0)
        };
        if kinds(FaultKind::Silence) {
            return None;
        }
        let now = beat.now.mono;
        if kinds(FaultKind::RestartLoop) && now.since(self.booted) >= RESTART_EVERY {
            self.restart(now);
        }
        self.count(now, kinds(FaultKind::NoTraffic), kinds(FaultKind::Overload));
        let mut heartbeat = self.healthy(beat);
        self.boot.stamp(&mut heartbeat, beat.now);
        for (place, fault) in script.faults.iter().enumerate() {
            if on & 1 << place != 0 {
                spoil(&mut heartbeat, fault);
            }
        }
        self.beats += 1;
        let lost = kinds(FaultKind::UnstableLink) && matches!(self.beats % 5, 1 | 3);
        (!lost).then_some(heartbeat)
    }

    fn count(&mut self, now: MonoNanos, no_traffic: bool, overload: bool) {
        let uptime_ms = u64::try_from(now.since(self.booted).as_millis()).unwrap_or(u64::MAX);
        let step = uptime_ms.saturating_sub(self.counted_ms);
        self.counted_ms = uptime_ms;
        if no_traffic {
            return;
        }
        self.packets += step * PACKETS_PER_MS;
        self.bytes += step * BYTES_PER_MS;
        if overload {
            self.dropped += step * PACKETS_PER_MS * 3 / 10;
        } else if self.was_overloaded {
            self.packets += RECOVERY_PACKETS;
        }
        self.was_overloaded = overload;
    }

    fn healthy(&mut self, beat: &Beat) -> Heartbeat {
        let mut endpoint_states = [0; 8];
        endpoint_states[..3].fill(EndpointState::Ok.to_wire());
        Heartbeat {
            version: inline(VERSION),
            profile: self.profile.to_wire(),
            ti_status: TiStatus::Ok.to_wire(),
            ti_version: inline(&day(beat.now.unix)),
            backup_result: BackupResult::Ok.to_wire(),
            backup_age_s: 3_600,
            ntp_state: NtpState::Ok.to_wire(),
            directory_configured: 2,
            directory_reachable: 2,
            endpoint_states,
            interfaces_total: 2,
            interfaces_up: 2,
            interfaces_with_traffic: 2,
            rx_packets: self.packets,
            rx_bytes: self.bytes,
            rx_dropped: self.dropped,
            self_test_ran: 0b1111,
            self_test_age_s: 600,
            devices: self.devices,
            alerts: self.devices / 50,
            cpu_permille: 150 + self.dice.below(150) as u16,
            memory_permille: 400 + self.dice.below(50) as u16,
            disk_permille: [310, 450, 200, 120],
            temperature_decicelsius: 420 + self.dice.below(30) as i16,
            trust_generation: 1,
            settings_generation: SETTINGS_GENERATION,
            ..Heartbeat::default()
        }
    }
}

impl Source for SimSensor {
    fn heartbeat(&mut self, beat: &Beat) -> Option<Heartbeat> {
        self.make(beat)
    }
}

/// What a fault makes of a healthy heartbeat. Faults of the connection leave it as it is.
fn spoil(heartbeat: &mut Heartbeat, fault: &PlannedFault) {
    match fault.kind {
        FaultKind::NoTraffic => heartbeat.interfaces_with_traffic = 0,
        FaultKind::SelfTestFailed => heartbeat.self_test_failed = 0b0100,
        FaultKind::BackupFailed => heartbeat.backup_result = BackupResult::Failed.to_wire(),
        FaultKind::NtpUnreachable => heartbeat.ntp_state = NtpState::Unreachable.to_wire(),
        FaultKind::NtpNotConfigured => heartbeat.ntp_state = NtpState::NotConfigured.to_wire(),
        FaultKind::DirectoryUnreachable => heartbeat.directory_reachable = 0,
        // The hardware is too small for the traffic: exact, where a rate would have to rise and fall first.
        FaultKind::BandwidthExceeded => {
            heartbeat.profile = Profile::L60.to_wire();
            heartbeat.devices = 20;
        }
        FaultKind::BandwidthClose => heartbeat.profile = Profile::L100.to_wire(),
        FaultKind::DevicesExceeded => {
            heartbeat.profile = Profile::E1000.to_wire();
            heartbeat.devices = 12_000;
        }
        FaultKind::DevicesClose => {
            heartbeat.profile = Profile::E1000.to_wire();
            heartbeat.devices = 9_000;
        }
        FaultKind::SendUpdateFailed => {
            heartbeat.update_stage = UpdateStage::SendFailed.to_wire();
            heartbeat.update_percent = 42;
            heartbeat.update_target = inline(NEXT_VERSION);
        }
        FaultKind::UpdateFailed => {
            heartbeat.update_stage = UpdateStage::RolledBack.to_wire();
            heartbeat.update_error = 17;
            heartbeat.update_target = inline(NEXT_VERSION);
        }
        FaultKind::UnsupportedVersion => heartbeat.version = inline(OLD_VERSION),
        FaultKind::PartiallyConnected => heartbeat.endpoint_states[1] = fault.endpoint.to_wire(),
        FaultKind::DiskFull => heartbeat.disk_permille[0] = 960,
        FaultKind::ClockDrift => {
            heartbeat.sensor_clock_unix_us = heartbeat.sensor_clock_unix_us.saturating_add(CLOCK_AHEAD_US);
        }
        FaultKind::SettingsOutOfSync => heartbeat.settings_generation = SETTINGS_GENERATION - 1,
        FaultKind::ThreatIntelOutdated => heartbeat.ti_status = TiStatus::UpdateAvailable.to_wire(),
        FaultKind::ThreatIntelFailed => heartbeat.ti_status = TiStatus::Failed.to_wire(),
        FaultKind::Silence
        | FaultKind::Disconnect
        | FaultKind::SiteOutage
        | FaultKind::GatewaySilent
        | FaultKind::UnstableLink
        | FaultKind::Overload
        | FaultKind::CertificateExpiring
        | FaultKind::DuplicateIdentity
        | FaultKind::RestartLoop
        | FaultKind::Goodbye
        | FaultKind::PlannedRestart
        | FaultKind::PendingActivation
        | FaultKind::PendingReactivation => {}
    }
}

/// The day of an instant as `2026-11-24` (UTC).
fn day(at: UnixMillis) -> String {
    let days = at.0.div_euclid(86_400_000) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::link::LinkStats;
    use crate::sensor::sim::{DEMO, Plan, Scenario};
    use crate::time::{MONO_ORIGIN, Now};
    use crate::wire::frame::{read_frame, write_frame};

    fn beat(second: u64) -> Beat {
        let mono = MONO_ORIGIN.plus(Duration::from_secs(second));
        let unix = UnixMillis(1_795_478_400_000).plus(Duration::from_secs(second));
        Beat { now: Now { mono, unix }, interval: Duration::from_secs(1), link: LinkStats::default() }
    }

    fn script() -> Script {
        let plan = Plan::new(&Scenario::parse(DEMO).unwrap(), None).unwrap();
        Script { faults: plan.faults.into(), active: Arc::default() }
    }

    fn with(kind: FaultKind) -> (SimSensor, Script) {
        let script = script();
        let place = script.faults.iter().position(|fault| fault.kind == kind).unwrap();
        let id = SensorId::from_number(1);
        let sensor = SimSensor::new(id, 1, SensorKind::OtCloud, 1 << place, script.clone(), MONO_ORIGIN, 9);
        (sensor, script)
    }

    #[test]
    fn every_faults_heartbeat_is_one_that_a_server_reads() {
        for kind in FaultKind::ALL {
            let (mut sensor, script) = with(*kind);
            let healthy = sensor.make(&beat(1)).unwrap();
            script.active.store(u64::MAX, Ordering::Relaxed);
            for second in 2..20 {
                let Some(heartbeat) = sensor.make(&beat(second)) else { continue };
                let mut bytes = Vec::new();
                write_frame(&heartbeat, 0, &mut bytes);
                assert!(read_frame(&bytes).is_ok(), "{kind:?}");
            }
            script.active.store(0, Ordering::Relaxed);
            let after = sensor.make(&beat(20)).unwrap();
            assert_eq!((after.profile, after.devices), (healthy.profile, healthy.devices), "{kind:?}");
        }
    }

    #[test]
    fn lost_heartbeats_leave_gaps_and_silence_leaves_none() {
        let (mut sensor, script) = with(FaultKind::UnstableLink);
        script.active.store(u64::MAX, Ordering::Relaxed);
        let came = (0..50).filter(|second| sensor.make(&beat(*second)).is_some()).count();
        assert_eq!(came, 30);
        assert_eq!(sensor.make(&beat(51)).map(|heartbeat| heartbeat.sequence), None);
        let (mut sensor, script) = with(FaultKind::Silence);
        sensor.make(&beat(0));
        script.active.store(u64::MAX, Ordering::Relaxed);
        assert!((1..10).all(|second| sensor.make(&beat(second)).is_none()));
        script.active.store(0, Ordering::Relaxed);
        assert_eq!(sensor.make(&beat(10)).map(|heartbeat| heartbeat.sequence), Some(2));
    }

    #[test]
    fn counters_follow_the_uptime_and_restart_with_it() {
        let (mut sensor, script) = with(FaultKind::RestartLoop);
        let first = sensor.make(&beat(1)).unwrap();
        assert_eq!(first.rx_bytes, 1_000 * BYTES_PER_MS);
        script.active.store(u64::MAX, Ordering::Relaxed);
        let boots: std::collections::HashSet<_> = (2..22)
            .filter_map(|second| sensor.make(&beat(second)))
            .map(|heartbeat| heartbeat.boot_id)
            .collect();
        assert!(boots.len() >= 5, "{}", boots.len());
        let (mut sensor, script) = with(FaultKind::NoTraffic);
        let before = sensor.make(&beat(1)).unwrap();
        script.active.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(sensor.make(&beat(9)).unwrap().rx_packets, before.rx_packets);
        script.active.store(0, Ordering::Relaxed);
        let after = sensor.make(&beat(10)).unwrap();
        assert_eq!(after.rx_bytes - before.rx_bytes, 1_000 * BYTES_PER_MS, "no burst afterwards");
    }

    #[test]
    fn days_are_written_as_people_write_them() {
        for (ms, text) in [
            (0, "1970-01-01"),
            (1_795_478_400_000, "2026-11-24"),
            (951_782_400_000, "2000-02-29"),
            (-1, "1969-12-31"),
            (1_798_675_200_000, "2026-12-31"),
        ] {
            assert_eq!(day(UnixMillis(ms)), text);
        }
    }
}
