//! The predicates: pure functions from what is known of a sensor, its policy and the engine's own standing
//! to "holds", "does not hold" or "unknown".
//!
//! `judge_all` is the sweep's way: all rules at once, bits and one next deadline, nothing allocated.
//! [`evaluate`] is the way of people: one rule, with the values and thresholds that decided it. Both call
//! the same predicates, so what a person reads is what the sweep did.
//!
//! A predicate that depends on time alone does not look at the clock: it answers with the instant from
//! which it holds ([`Judgement::HoldsFrom`]), so that its deadline is exact, whenever the sweep comes by.
//!
//! Thresholds with a margin make a rule that is active hold until the value is below threshold minus
//! margin ([`Input::active`] says which are).

mod configured;
mod evidence;
mod host;
mod link;
mod silence;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::health::catalogue::{RULES, RuleId};
use crate::health::message::Evidence;
use crate::health::policy::{Policy, Setting};
use crate::health::version::{SupportState, Version};
use crate::limits::{INTERVAL_DEFAULT, INTERVAL_MAX, INTERVAL_MIN};
use crate::live::{Lifecycle, Snapshot, Vitals};
use crate::time::{MonoNanos, Now};
use crate::wire::heartbeat::TI_VERSION_BYTES;

pub use host::profile_limits;
pub use silence::{gateway_silent_from, silence_window};

/// What the engine knows beside the sensor itself.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    /// Silence counts from here at the earliest: end of the last doubt, or the moment the sensor became
    /// one that must report.
    pub trusted_since: MonoNanos,
    /// The gateway that brings its heartbeats is silent.
    pub gateway_silent: bool,
    /// The server's wall clock has not stepped for a while.
    pub clock_trusted: bool,
    /// Support of its version, as of today.
    pub support: SupportState,
    /// The newest version that is out.
    pub newest_version: Option<Version>,
    /// The settings generation that it should run with; `None` = nobody said.
    pub desired_settings: Option<u64>,
    /// The newest threat-intelligence version, as on the wire; all zero = nobody said.
    pub newest_threat_intel: [u8; TI_VERSION_BYTES],
}

/// Everything that a predicate may look at.
#[derive(Debug)]
pub struct Input<'a, V = Snapshot> {
    /// The sensor.
    pub sensor: &'a V,
    /// Its policy.
    pub policy: &'a Policy,
    /// Now.
    pub now: Now,
    /// Rules that are active, as bits.
    pub active: u64,
    /// The engine's own standing.
    pub ground: Ground,
}

impl<V: Vitals> Input<'_, V> {
    fn is_active(&self, rule: RuleId) -> bool {
        self.active & rule.bit() != 0
    }

    /// A threshold, lowered by its margin while the rule is active.
    fn limit(&self, rule: RuleId, threshold: Setting, margin: Setting) -> f64 {
        let limit = self.policy.value(threshold);
        if self.is_active(rule) { limit - self.policy.value(margin) } else { limit }
    }

    fn window(&self, setting: Setting) -> Duration {
        Duration::from_nanos(self.policy.nanos(setting))
    }
}

/// The interval that a sensor says it keeps, within what may be asked of one.
pub(crate) fn interval(sensor: &impl Vitals) -> Duration {
    if sensor.last_heartbeat().is_never() {
        return INTERVAL_DEFAULT;
    }
    Duration::from_millis(u64::from(sensor.interval_ms())).clamp(INTERVAL_MIN, INTERVAL_MAX)
}

/// What a predicate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// No.
    No,
    /// Yes, by the newest values.
    Holds,
    /// Yes from this instant on, unless something is heard before.
    HoldsFrom(MonoNanos),
    /// Can't be said now.
    Unknown,
}

impl From<bool> for Judgement {
    fn from(holds: bool) -> Judgement {
        if holds { Judgement::Holds } else { Judgement::No }
    }
}

/// A judgement at one moment, with its reasons.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It holds, since then.
    Holds {
        /// Since when, as exactly as can be known.
        since: MonoNanos,
        /// What decided it.
        evidence: Vec<Evidence>,
    },
    /// It does not hold.
    DoesNotHold {
        /// What decided it.
        evidence: Vec<Evidence>,
    },
    /// Nobody can say.
    Unknown,
}

/// All rules of a sensor at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Rules that hold.
    pub holds: u64,
    /// Rules that can't be judged.
    pub unknown: u64,
    /// Rules that hold from a known instant on (past or future).
    pub timed: u64,
    /// The next instant at which a rule begins to hold by itself; `u64::MAX` = never.
    pub due: u64,
}

/// Rules of sensors that need values of a heartbeat: all but lifecycle and silence itself.
const NEEDS_VALUES: u64 = ((1 << RULES) - 1)
    & !(RuleId::PendingActivation.bit()
        | RuleId::PendingReactivation.bit()
        | RuleId::Disconnected.bit()
        | RuleId::GatewaySilent.bit()
        | RuleId::SiteOutage.bit());

/// True when the values of a sensor can be judged: heard since this process started (values from a
/// checkpoint may be older than what the journal already knows), and not behind a silent gateway.
fn values_known(input: &Input<'_, impl Vitals>) -> bool {
    input.sensor.heard_since_start()
        && !input.sensor.last_heartbeat().is_never()
        && !input.ground.gateway_silent
}

/// Judges all rules.
#[inline]
pub(crate) fn judge_all(input: &Input<'_, impl Vitals>) -> Judged {
    let mut judged = Judged { due: u64::MAX, ..Judged::default() };
    match input.sensor.facts().lifecycle {
        Lifecycle::Active => {}
        Lifecycle::PendingActivation => judged.holds = RuleId::PendingActivation.bit(),
        Lifecycle::PendingReactivation => judged.holds = RuleId::PendingReactivation.bit(),
        Lifecycle::Deleted => {}
    }
    if input.sensor.facts().lifecycle != Lifecycle::Active {
        return judged;
    }
    let now = input.now.mono;
    judged.take(RuleId::Disconnected, silence::disconnected(input), now);
    if !values_known(input) {
        judged.unknown |= NEEDS_VALUES;
        return judged;
    }
    judged.take(RuleId::NoTraffic, silence::no_traffic(input), now);
    judged.take(RuleId::PackageTransferFailed, configured::package_transfer_failed(input), now);
    judged.take(RuleId::UpdateFailed, configured::update_failed(input), now);
    judged.take(RuleId::ClockDrift, link::clock_drift(input), now);
    macro_rules! plain {
        ($($rule:ident => $predicate:path),+ $(,)?) => {
            $(judged.holds |= u64::from($predicate(input)) << RuleId::$rule as u8;)+
        };
    }
    plain! {
        SelfTestFailed => host::self_test_failed,
        BackupFailed => host::backup_failed,
        NtpUnreachable => host::ntp_unreachable,
        DirectoryUnreachable => host::directory_unreachable,
        BandwidthExceeded => host::bandwidth_exceeded,
        DevicesExceeded => host::devices_exceeded,
        UnstableLink => link::unstable,
        VersionUnsupported => configured::version_unsupported,
        PartiallyConnected => link::partially_connected,
        NtpNotConfigured => host::ntp_not_configured,
        BandwidthNearLimit => host::bandwidth_near_limit,
        DevicesNearLimit => host::devices_near_limit,
        DiskAlmostFull => host::disk_almost_full,
        CaptureOverload => host::capture_overload,
        CertificateExpiring => configured::certificate_expiring,
        DuplicateIdentity => link::duplicate_identity,
        RestartLoop => link::restart_loop,
        SettingsOutOfSync => configured::settings_out_of_sync,
        ThreatIntelOutdated => configured::threat_intel_outdated,
        ThreatIntelFailed => configured::threat_intel_failed,
        PlannedStop => link::planned_stop,
    }
    judged
}

impl Judged {
    #[inline]
    fn take(&mut self, rule: RuleId, judgement: Judgement, now: MonoNanos) {
        match judgement {
            Judgement::No => {}
            Judgement::Holds => self.holds |= rule.bit(),
            Judgement::HoldsFrom(from) => {
                self.timed |= rule.bit();
                if from <= now {
                    self.holds |= rule.bit();
                } else {
                    self.due = self.due.min(from.0);
                }
            }
            Judgement::Unknown => self.unknown |= rule.bit(),
        }
    }
}

/// Judges one rule of a sensor.
pub fn judge(rule: RuleId, input: &Input<'_>) -> Judgement {
    let judged = judge_all(input);
    if judged.timed & rule.bit() != 0 {
        match rule {
            RuleId::Disconnected => silence::disconnected(input),
            RuleId::NoTraffic => silence::no_traffic(input),
            RuleId::PackageTransferFailed => configured::package_transfer_failed(input),
            _ => configured::update_failed(input),
        }
    } else if judged.unknown & rule.bit() != 0 {
        Judgement::Unknown
    } else {
        Judgement::from(judged.holds & rule.bit() != 0)
    }
}

/// Judges one rule of a sensor and says why.
pub fn evaluate(rule: RuleId, input: &Input<'_>) -> Outcome {
    let now = input.now.mono;
    match judge(rule, input) {
        Judgement::Unknown => Outcome::Unknown,
        Judgement::Holds => Outcome::Holds { since: now, evidence: evidence::of(rule, input) },
        Judgement::HoldsFrom(since) if since <= now => {
            Outcome::Holds { since, evidence: evidence::of(rule, input) }
        }
        Judgement::No | Judgement::HoldsFrom(_) => {
            Outcome::DoesNotHold { evidence: evidence::of(rule, input) }
        }
    }
}

/// The values that a rule looks at, with what they are compared with.
pub fn evidence_of(rule: RuleId, input: &Input<'_>) -> Vec<Evidence> {
    evidence::of(rule, input)
}
