//! Silences: of a sensor, of its monitored network, of a gateway. Their deadlines are exact instants.
//!
//! A silence that is already active is judged by arrivals alone: doubt moves deadlines, it does not end
//! a message, and neither does a restart of this server.

use std::time::Duration;

use super::{Input, Judgement, interval};
use crate::health::catalogue::RuleId;
use crate::health::policy::{Policy, Setting};
use crate::live::Vitals;
use crate::time::MonoNanos;
use crate::wire::heartbeat::{FLAG_GOODBYE_RESTART, UpdateStage};

const SILENCE: Setting = Setting::of(RuleId::Disconnected, "silence_after");
const MISSED: Setting = Setting::of(RuleId::Disconnected, "missed_intervals");
const INSTALL_GRACE: Setting = Setting::of(RuleId::Disconnected, "install_grace");
const RESTART_GRACE: Setting = Setting::of(RuleId::Disconnected, "restart_grace");
pub(super) const NO_TRAFFIC: Setting = Setting::of(RuleId::NoTraffic, "silence_after");
const GATEWAY: Setting = Setting::of(RuleId::GatewaySilent, "silence_after");
/// Restart times are kept to a quarter of a second.
const RESTART_QUANTUM: Duration = Duration::from_millis(250);

/// How long a sensor may be silent: the policy's window, and never less than so many intervals. Those are the
/// sensor's own or, when longer, those that its policy asks for: who was just told to beat every minute is not
/// judged by the seconds that its last heartbeat still spoke of. Who keeps a longer interval than asked for is judged
/// by that.
pub fn silence_window(sensor: &impl Vitals, policy: &Policy) -> Duration {
    // At most INTERVAL_MAX, so that no conversion from 128 bits is needed.
    let interval = interval(sensor).max(policy.interval());
    let missed = interval.as_nanos() as u64 as f64 * policy.value(MISSED);
    Duration::from_nanos(policy.nanos(SILENCE).max(missed as u64))
}

/// The instant from which a sensor counts as silent, if nothing is heard. Silence is expected for a
/// while after an announced restart and during an installation, which reboots.
fn silent_from(input: &Input<'_, impl Vitals>, base: MonoNanos) -> MonoNanos {
    let sensor = input.sensor;
    let mut from = base.plus(silence_window(sensor, input.policy));
    if sensor.goodbye() && sensor.flags() & FLAG_GOODBYE_RESTART != 0 {
        from = from.max(sensor.last_heartbeat().plus(input.window(RESTART_GRACE)));
    }
    if sensor.update_stage() == UpdateStage::Installing.to_wire() {
        from = from.max(sensor.update_stage_since().plus(input.window(INSTALL_GRACE)));
    }
    from
}

pub(super) fn disconnected(input: &Input<'_, impl Vitals>) -> Judgement {
    let sensor = input.sensor;
    if input.ground.gateway_silent {
        return Judgement::Unknown;
    }
    if input.is_active(RuleId::Disconnected) {
        // A time from a checkpoint is only as good as the wall clock: it ends no message.
        if sensor.last_heartbeat().is_never() || !sensor.heard_since_start() {
            return Judgement::Unknown;
        }
        return Judgement::from(silent_from(input, sensor.last_heartbeat()) <= input.now.mono);
    }
    if sensor.goodbye() && sensor.heard_since_start() && sensor.flags() & FLAG_GOODBYE_RESTART == 0 {
        return Judgement::No;
    }
    Judgement::HoldsFrom(silent_from(input, sensor.last_heartbeat().max(input.ground.trusted_since)))
}

/// No growth of the packet counters for the window. One heartbeat that shows no growth is needed: a
/// sensor that fell silent itself says nothing about its network.
pub(super) fn no_traffic(input: &Input<'_, impl Vitals>) -> Judgement {
    let sensor = input.sensor;
    if sensor.interfaces_total() == 0 {
        return Judgement::No;
    }
    let window = input.window(NO_TRAFFIC);
    if input.is_active(RuleId::NoTraffic) {
        // Counters start afresh with the sensor and with this process: until they grow again, neither growth
        // nor its absence was seen.
        let restart = sensor.recent_restarts().last();
        let restart = if restart.is_never() { restart } else { restart.plus(RESTART_QUANTUM) };
        if sensor.last_traffic() <= sensor.first_heartbeat().max(restart) {
            return Judgement::Unknown;
        }
        return Judgement::from(sensor.last_traffic().plus(window) <= input.now.mono);
    }
    if sensor.last_heartbeat() <= sensor.last_traffic() {
        return Judgement::No;
    }
    Judgement::HoldsFrom(sensor.last_traffic().max(input.ground.trusted_since).plus(window))
}

/// The instant from which a gateway counts as silent.
pub fn gateway_silent_from(base: MonoNanos, policy: &Policy) -> MonoNanos {
    base.plus(Duration::from_nanos(policy.nanos(GATEWAY)))
}
