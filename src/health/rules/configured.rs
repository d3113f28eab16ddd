//! What a sensor should have against what it has: version, updates, settings, threat intelligence, certificate.

use super::{Input, Judgement};
use crate::health::catalogue::RuleId;
use crate::health::policy::Setting;
use crate::health::version::{SupportState, Version};
use crate::live::Vitals;
use crate::time::UnixMillis;
use crate::wire::heartbeat::{TiStatus, UpdateStage, inline_str};

pub(super) const TRANSFER_STALLED: Setting = Setting::of(RuleId::PackageTransferFailed, "stalled_after");
pub(super) const INSTALL_STALLED: Setting = Setting::of(RuleId::UpdateFailed, "stalled_after");
pub(super) const CERTIFICATE_DAYS: Setting = Setting::of(RuleId::CertificateExpiring, "days");

pub(super) fn package_transfer_failed(input: &Input<'_, impl Vitals>) -> Judgement {
    match UpdateStage::from_wire(input.sensor.update_stage()) {
        Some(UpdateStage::SendFailed) => Judgement::Holds,
        Some(UpdateStage::Sending) => {
            Judgement::HoldsFrom(input.sensor.update_stage_since().plus(input.window(TRANSFER_STALLED)))
        }
        _ => Judgement::No,
    }
}

/// Said by the sensor, or proven: an installation without an end, or an end with another version.
pub(super) fn update_failed(input: &Input<'_, impl Vitals>) -> Judgement {
    let sensor = input.sensor;
    match UpdateStage::from_wire(sensor.update_stage()) {
        Some(UpdateStage::RolledBack | UpdateStage::Failed) => Judgement::Holds,
        Some(UpdateStage::Installing) => {
            Judgement::HoldsFrom(input.sensor.update_stage_since().plus(input.window(INSTALL_STALLED)))
        }
        Some(UpdateStage::Succeeded) => {
            let read = |field: &[u8]| inline_str(field).and_then(Version::parse);
            let (version, target) = (read(&sensor.version()), read(&sensor.update_target()));
            Judgement::from(target.is_some() && version != target)
        }
        _ => Judgement::No,
    }
}

pub(super) fn version_unsupported(input: &Input<'_, impl Vitals>) -> bool {
    input.ground.support == SupportState::Unsupported
}

/// Milliseconds until the certificate runs out; `None` = no connection of its own showed one.
pub(super) fn certificate_left_ms(input: &Input<'_, impl Vitals>) -> Option<i64> {
    let UnixMillis(end) = input.sensor.cert_not_after()?;
    Some(end.saturating_sub(input.now.unix.0))
}

pub(super) fn certificate_expiring(input: &Input<'_, impl Vitals>) -> bool {
    let limit = input.policy.value(CERTIFICATE_DAYS) * 86_400_000.0;
    certificate_left_ms(input).is_some_and(|left| (left as f64) < limit)
}

/// Behind what is wanted; a sensor that is ahead of it has settings from a later moment.
pub(super) fn settings_out_of_sync(input: &Input<'_, impl Vitals>) -> bool {
    input.ground.desired_settings.is_some_and(|desired| input.sensor.settings_generation() < desired)
}

/// A version is the day of its making, so that the order of letters is the order of time.
pub(super) fn threat_intel_outdated(input: &Input<'_, impl Vitals>) -> bool {
    let sensor = input.sensor;
    let known = input.ground.newest_threat_intel[0] != 0 && sensor.ti_version()[0] != 0;
    sensor.ti_status() == TiStatus::UpdateAvailable.to_wire()
        || known && sensor.ti_version() < input.ground.newest_threat_intel
}

pub(super) fn threat_intel_failed(input: &Input<'_, impl Vitals>) -> bool {
    input.sensor.ti_status() == TiStatus::Failed.to_wire()
}
