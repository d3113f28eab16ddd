//! What a sensor says about itself: self-tests, backups, time, directory, load against its profile, disks.

use super::Input;
use crate::health::catalogue::RuleId;
use crate::health::policy::Setting;
use crate::live::Vitals;
use crate::wire::heartbeat::{
    BackupResult, DISK_NAMES, FLAG_BACKUP_DISABLED, NtpState, Profile, UNKNOWN_U16, UNKNOWN_U32,
};

pub(super) const SELF_TEST_STALE: Setting = Setting::of(RuleId::SelfTestFailed, "stale_after");
pub(super) const BACKUP_AGE: Setting = Setting::of(RuleId::BackupFailed, "age_max");
pub(super) const DISK: Setting = Setting::of(RuleId::DiskAlmostFull, "percent");
const DISK_MARGIN: Setting = Setting::of(RuleId::DiskAlmostFull, "margin");
pub(super) const BANDWIDTH: Setting = Setting::of(RuleId::BandwidthExceeded, "percent");
const BANDWIDTH_MARGIN: Setting = Setting::of(RuleId::BandwidthExceeded, "margin");
pub(super) const BANDWIDTH_NEAR: Setting = Setting::of(RuleId::BandwidthNearLimit, "percent");
const BANDWIDTH_NEAR_MARGIN: Setting = Setting::of(RuleId::BandwidthNearLimit, "margin");
pub(super) const DEVICES: Setting = Setting::of(RuleId::DevicesExceeded, "percent");
const DEVICES_MARGIN: Setting = Setting::of(RuleId::DevicesExceeded, "margin");
pub(super) const DEVICES_NEAR: Setting = Setting::of(RuleId::DevicesNearLimit, "percent");
const DEVICES_NEAR_MARGIN: Setting = Setting::of(RuleId::DevicesNearLimit, "margin");
pub(super) const DROPS: Setting = Setting::of(RuleId::CaptureOverload, "drop_percent");
const DROPS_MARGIN: Setting = Setting::of(RuleId::CaptureOverload, "margin");

/// Partitions that are judged: root and data, the first two of [`DISK_NAMES`].
const DISKS_JUDGED: usize = 2;
const _: () = assert!(DISKS_JUDGED <= DISK_NAMES.len());

/// What a hardware profile is made for: Mbit/s, devices. `None` = no such limit.
pub fn profile_limits(profile: u8) -> (Option<u32>, Option<u32>) {
    match Profile::from_wire(profile) {
        None | Some(Profile::Unknown) => (None, None),
        Some(Profile::C5600) => (Some(3_000), Some(12_000)),
        Some(Profile::E1800 | Profile::E1000 | Profile::E500) => (Some(1_000), Some(10_000)),
        Some(Profile::L500) => (Some(200), Some(1_000)),
        Some(Profile::L100) => (Some(60), Some(800)),
        Some(Profile::L60) => (Some(10), Some(100)),
        Some(Profile::EnterpriseIot) => (Some(1_000), None),
    }
}

/// Seconds since something of which the newest heartbeat gives the age.
pub(super) fn age_now(input: &Input<'_, impl Vitals>, age_s: u32) -> Option<u64> {
    let since = input.now.mono.since(input.sensor.last_heartbeat());
    (age_s != UNKNOWN_U32).then(|| u64::from(age_s) + since.as_secs())
}

/// A test that stopped running is as bad as one that fails: nobody knows.
pub(super) fn self_test_failed(input: &Input<'_, impl Vitals>) -> bool {
    let sensor = input.sensor;
    if sensor.self_test_ran() == 0 {
        return false;
    }
    sensor.self_test_ran() & sensor.self_test_failed() != 0
        || age_now(input, sensor.self_test_age_s())
            .is_some_and(|age| age as f64 > input.policy.value(SELF_TEST_STALE))
}

/// Never for a profile that keeps no backups, nor where they are switched off. A sensor without any backup
/// is late when it has run for longer than a backup may be old.
pub(super) fn backup_failed(input: &Input<'_, impl Vitals>) -> bool {
    let sensor = input.sensor;
    if sensor.flags() & FLAG_BACKUP_DISABLED != 0 || sensor.profile() == Profile::L100.to_wire() {
        return false;
    }
    let age_max = input.policy.value(BACKUP_AGE);
    match BackupResult::from_wire(sensor.backup_result()) {
        Some(BackupResult::Ok) => {
            age_now(input, sensor.backup_age_s()).is_some_and(|age| age as f64 > age_max)
        }
        Some(BackupResult::None) | None => {
            sensor.profile() != 0 && sensor.uptime_ms() as f64 > age_max * 1_000.0
        }
        Some(_) => true,
    }
}

pub(super) fn ntp_unreachable(input: &Input<'_, impl Vitals>) -> bool {
    input.sensor.ntp_state() == NtpState::Unreachable.to_wire()
}

pub(super) fn ntp_not_configured(input: &Input<'_, impl Vitals>) -> bool {
    input.sensor.ntp_state() == NtpState::NotConfigured.to_wire()
}

/// All of them unreachable: one that answers is enough to sign in.
pub(super) fn directory_unreachable(input: &Input<'_, impl Vitals>) -> bool {
    input.sensor.directory_configured() > 0 && input.sensor.directory_reachable() == 0
}

/// Monitored traffic in per cent of what the profile is made for; `None` = not known.
fn bandwidth_percent(input: &Input<'_, impl Vitals>) -> Option<f64> {
    let (limit, _) = profile_limits(input.sensor.profile());
    let rate = f64::from(input.sensor.rx_bytes_per_s());
    limit.filter(|_| rate.is_finite()).map(|limit| rate * 8.0 / (f64::from(limit) * 1e6) * 100.0)
}

pub(super) fn bandwidth_exceeded(input: &Input<'_, impl Vitals>) -> bool {
    let limit = input.limit(RuleId::BandwidthExceeded, BANDWIDTH, BANDWIDTH_MARGIN);
    bandwidth_percent(input).is_some_and(|percent| percent > limit)
}

/// Between the two limits: above the upper one the stronger message speaks.
pub(super) fn bandwidth_near_limit(input: &Input<'_, impl Vitals>) -> bool {
    let limit = input.limit(RuleId::BandwidthNearLimit, BANDWIDTH_NEAR, BANDWIDTH_NEAR_MARGIN);
    let over = input.policy.value(BANDWIDTH);
    bandwidth_percent(input).is_some_and(|percent| percent > limit && percent <= over)
}

/// Monitored devices in per cent of what the profile is made for; `None` = not known.
fn devices_percent(input: &Input<'_, impl Vitals>) -> Option<f64> {
    let (_, limit) = profile_limits(input.sensor.profile());
    limit.map(|limit| f64::from(input.sensor.devices()) / f64::from(limit) * 100.0)
}

pub(super) fn devices_exceeded(input: &Input<'_, impl Vitals>) -> bool {
    let limit = input.limit(RuleId::DevicesExceeded, DEVICES, DEVICES_MARGIN);
    devices_percent(input).is_some_and(|percent| percent > limit)
}

pub(super) fn devices_near_limit(input: &Input<'_, impl Vitals>) -> bool {
    let limit = input.limit(RuleId::DevicesNearLimit, DEVICES_NEAR, DEVICES_NEAR_MARGIN);
    let over = input.policy.value(DEVICES);
    devices_percent(input).is_some_and(|percent| percent > limit && percent <= over)
}

/// The fullest judged partition: its place and its fill in per cent.
pub(super) fn fullest_disk(input: &Input<'_, impl Vitals>) -> Option<(usize, f64)> {
    let disks = input.sensor.disk_permille();
    let disks = disks[..DISKS_JUDGED].iter().enumerate();
    let known = disks.filter(|&(_, &permille)| permille != UNKNOWN_U16);
    known.max_by_key(|&(_, &permille)| permille).map(|(place, &permille)| (place, f64::from(permille) / 10.0))
}

pub(super) fn disk_almost_full(input: &Input<'_, impl Vitals>) -> bool {
    let limit = input.limit(RuleId::DiskAlmostFull, DISK, DISK_MARGIN);
    fullest_disk(input).is_some_and(|(_, percent)| percent > limit)
}

pub(super) fn capture_overload(input: &Input<'_, impl Vitals>) -> bool {
    let limit = input.limit(RuleId::CaptureOverload, DROPS, DROPS_MARGIN);
    f64::from(input.sensor.drop_ratio()) * 100.0 > limit
}
