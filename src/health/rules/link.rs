//! The way between sensor and server, and who is at its other end.

use super::{Input, Judgement};
use crate::health::catalogue::RuleId;
use crate::health::policy::Setting;
use crate::live::Vitals;
use crate::wire::heartbeat::{EndpointState, FLAG_GOODBYE_RESTART, UNKNOWN_U32};

const WINDOW: Setting = Setting::of(RuleId::UnstableLink, "window");
pub(super) const MISSING: Setting = Setting::of(RuleId::UnstableLink, "missing_percent");
const MISSING_MARGIN: Setting = Setting::of(RuleId::UnstableLink, "margin");
pub(super) const RECONNECTS: Setting = Setting::of(RuleId::UnstableLink, "reconnects");
const RECONNECT_WINDOW: Setting = Setting::of(RuleId::UnstableLink, "reconnect_window");
pub(super) const OFFSET_MAX: Setting = Setting::of(RuleId::ClockDrift, "offset_max");
pub(super) const REPLACED: Setting = Setting::of(RuleId::DuplicateIdentity, "count");
const REPLACED_WINDOW: Setting = Setting::of(RuleId::DuplicateIdentity, "window");
pub(super) const RESTARTS: Setting = Setting::of(RuleId::RestartLoop, "restarts");
const RESTARTS_WINDOW: Setting = Setting::of(RuleId::RestartLoop, "window");

/// Of the last so many expected heartbeats (by default all 64 that are remembered), the share in per cent
/// that did not come: n of m, so that one gap is one gap for as long as it is in the window. `None`
/// before the window has filled.
pub(super) fn missing_percent(input: &Input<'_, impl Vitals>) -> Option<f64> {
    let wanted = (input.policy.value(WINDOW) as u32).clamp(1, 64);
    if input.sensor.window_expected() < wanted {
        return None;
    }
    let came = (input.sensor.window() & (u64::MAX >> (64 - wanted))).count_ones();
    Some(f64::from(wanted.saturating_sub(came)) / f64::from(wanted) * 100.0)
}

pub(super) fn recent_reconnects(input: &Input<'_, impl Vitals>) -> u32 {
    input.sensor.recent_reconnects().within(input.now.mono, input.window(RECONNECT_WINDOW))
}

pub(super) fn unstable(input: &Input<'_, impl Vitals>) -> bool {
    let limit = input.limit(RuleId::UnstableLink, MISSING, MISSING_MARGIN);
    missing_percent(input).is_some_and(|missing| missing > limit)
        || input.sensor.reconnects() > 0
            && f64::from(recent_reconnects(input)) >= input.policy.value(RECONNECTS)
}

/// A heartbeat came, so not everything is unreachable: any failing endpoint is a part.
pub(super) fn partially_connected(input: &Input<'_, impl Vitals>) -> bool {
    input.sensor.endpoint_states().iter().any(|&state| state > EndpointState::Ok.to_wire())
}

/// How far the sensor's clock is from the server's in milliseconds, less half a round trip.
pub(super) fn offset_ms(input: &Input<'_, impl Vitals>) -> Option<f64> {
    if input.sensor.clock_offset_ms() == i64::MIN {
        return None;
    }
    let rtt_us = input.sensor.rtt_us();
    let half_way = if rtt_us == UNKNOWN_U32 { 0.0 } else { f64::from(rtt_us) / 2_000.0 };
    Some((input.sensor.clock_offset_ms() as f64).abs() - half_way)
}

pub(super) fn clock_drift(input: &Input<'_, impl Vitals>) -> Judgement {
    match offset_ms(input) {
        Some(offset) if input.ground.clock_trusted => {
            Judgement::from(offset > input.policy.value(OFFSET_MAX) * 1_000.0)
        }
        _ => Judgement::Unknown,
    }
}

pub(super) fn recent_replaced(input: &Input<'_, impl Vitals>) -> u32 {
    input.sensor.recent_replaced().within(input.now.mono, input.window(REPLACED_WINDOW))
}

/// Connections that push each other out, with different boots, where the later one was already running
/// while the earlier one still reported. A sensor whose link breaks comes back with the same boot, and
/// one that restarts says nothing between its two boots, however late the second is first heard.
pub(super) fn duplicate_identity(input: &Input<'_, impl Vitals>) -> bool {
    let sensor = input.sensor;
    if sensor.replaced() == 0 || f64::from(recent_replaced(input)) < input.policy.value(REPLACED) {
        return false;
    }
    if input.is_active(RuleId::DuplicateIdentity) {
        return true;
    }
    let window = input.window(REPLACED_WINDOW);
    sensor.boots_overlap() && sensor.recent_restarts().within(input.now.mono, window) > 0
}

pub(super) fn recent_restarts(input: &Input<'_, impl Vitals>) -> u32 {
    input.sensor.recent_restarts().within(input.now.mono, input.window(RESTARTS_WINDOW))
}

pub(super) fn restart_loop(input: &Input<'_, impl Vitals>) -> bool {
    input.sensor.restarts() > 0 && f64::from(recent_restarts(input)) >= input.policy.value(RESTARTS)
}

/// A goodbye for good; one that announces a restart has a grace instead.
pub(super) fn planned_stop(input: &Input<'_, impl Vitals>) -> bool {
    input.sensor.goodbye() && input.sensor.flags() & FLAG_GOODBYE_RESTART == 0
}
