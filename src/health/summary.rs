//! What one sweep found: counts that are kept up to date slot by slot, so that a scrape never walks sensors.

use std::time::Duration;

use crate::health::catalogue::{RULES, RuleId};
use crate::health::doubt::DoubtState;
use crate::health::version::SupportState;
use crate::live::{Lifecycle, SensorType};

/// The one word on a sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum OverallState {
    /// Reports, and no message of severity critical or warning is active.
    Healthy = 0,
    /// At least one warning, no critical message.
    Warning = 1,
    /// At least one critical message.
    Critical = 2,
    /// Can't be judged: behind a silent gateway, or not heard since this server started.
    Unknown = 3,
    /// Waits for activation or reactivation. Counts as healthy.
    Pending = 4,
    /// Said goodbye. Counts as healthy.
    Stopped = 5,
    /// Locally managed: does not report here.
    Local = 6,
}

impl OverallState {
    /// All states.
    pub const ALL: [OverallState; 7] = [
        OverallState::Healthy,
        OverallState::Warning,
        OverallState::Critical,
        OverallState::Unknown,
        OverallState::Pending,
        OverallState::Stopped,
        OverallState::Local,
    ];

    /// As the sweep writes it beside the verdict; zero is "not judged yet".
    pub const fn number(self) -> u8 {
        self as u8 + 1
    }

    /// The state of a number; one that is not judged yet is unknown.
    pub fn from_number(number: u8) -> OverallState {
        let place = usize::from(number).checked_sub(1);
        place.and_then(|place| OverallState::ALL.get(place)).copied().unwrap_or(OverallState::Unknown)
    }

    /// The state of a name.
    pub fn from_name(name: &str) -> Option<OverallState> {
        OverallState::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Its name, also the metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            OverallState::Healthy => "healthy",
            OverallState::Warning => "warning",
            OverallState::Critical => "critical",
            OverallState::Unknown => "unknown",
            OverallState::Pending => "pending",
            OverallState::Stopped => "stopped",
            OverallState::Local => "local",
        }
    }
}

/// Sensors, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetCounts {
    /// By type and overall state; muted sensors are not in it.
    pub by_state: [[u32; OverallState::ALL.len()]; SensorType::ALL.len()],
    /// Muted sensors by type and overall state.
    pub muted_by_state: [[u32; OverallState::ALL.len()]; SensorType::ALL.len()],
    /// By lifecycle.
    pub by_lifecycle: [u32; Lifecycle::ALL.len()],
    /// By support of their version.
    pub by_support: [u32; SupportState::ALL.len()],
}

impl FleetCounts {
    /// Sensors of a type in a state, muted ones not counted.
    pub fn of(&self, kind: SensorType, state: OverallState) -> u32 {
        self.by_state[kind as usize][state as usize]
    }

    /// Sensors in a state, muted ones not counted.
    pub fn in_state(&self, state: OverallState) -> u32 {
        self.by_state.iter().map(|of_type| of_type[state as usize]).sum()
    }

    /// All sensors.
    pub fn total(&self) -> u32 {
        self.by_lifecycle.iter().sum()
    }

    /// Sensors with a critical or warning message.
    pub fn unhealthy(&self) -> u32 {
        self.in_state(OverallState::Warning) + self.in_state(OverallState::Critical)
    }

    /// Sensors that count as healthy: without a fault, waiting, or stopped on purpose.
    pub fn healthy(&self) -> u32 {
        [OverallState::Healthy, OverallState::Pending, OverallState::Stopped]
            .into_iter()
            .map(|state| self.in_state(state))
            .sum()
    }

    /// Share of the sensors that can be judged which count as healthy, 0 to 1. Unknown, local and muted ones
    /// are not in it; `None` when nothing is left.
    pub fn score(&self) -> Option<f64> {
        let judged = self.healthy() + self.unhealthy();
        (judged > 0).then(|| f64::from(self.healthy()) / f64::from(judged))
    }

    /// Sensors that wait for activation or reactivation.
    pub fn pending(&self) -> u32 {
        self.in_state(OverallState::Pending)
    }

    /// Muted sensors.
    pub fn muted(&self) -> u32 {
        self.muted_by_state.iter().flatten().sum()
    }

    /// Sensors whose version is past its support.
    pub fn unsupported(&self) -> u32 {
        self.by_support[SupportState::Unsupported as usize]
    }

    /// Sensors for which a newer version exists.
    pub fn updatable(&self) -> u32 {
        self.by_support[SupportState::Outdated as usize] + self.unsupported()
    }
}

/// What one sweep did and found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SweepSummary {
    /// Active messages by rule, muted sensors' included.
    pub active: [u32; RULES],
    /// Of those, messages of muted sensors.
    pub active_muted: [u32; RULES],
    /// Sensors and gateways for which a rule is unknown, by rule.
    pub unknown: [u32; RULES],
    /// Messages that are covered by a site's message.
    pub folded: u32,
    /// Sensors, counted.
    pub fleet: FleetCounts,
    /// Gateways that are registered.
    pub gateways: u32,
    /// How far the engine trusts itself.
    pub doubt: DoubtState,
    /// Engine time between this sweep and the one before; of the first, since the server listens.
    pub gap: Duration,
    /// Time that this sweep took; filled in by the caller, who has a clock.
    pub duration: Duration,
    /// Slots scanned.
    pub slots: u32,
    /// Slots looked at closely, because they changed or were due.
    pub looked_at: u32,
    /// Slots left for the next sweep, because a writer kept getting between.
    pub busy: u32,
    /// Messages raised in this sweep.
    pub raised: u32,
    /// Messages cleared in this sweep.
    pub cleared: u32,
    /// Transitions that the journal took in this sweep.
    pub offered: u32,
    /// Transitions that it refused in this sweep; at most one, since nothing is offered after a refusal.
    pub refused: u32,
    /// Transitions that wait to be offered again.
    pub waiting: u32,
    /// Detection delays of the silences raised in this sweep.
    pub detection_delays: Vec<(RuleId, Duration)>,
}

impl SweepSummary {
    /// Active messages of a rule.
    pub fn active_of(&self, rule: RuleId) -> u32 {
        self.active[rule as usize]
    }
}
