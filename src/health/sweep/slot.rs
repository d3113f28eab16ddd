//! What the engine remembers of one slot between two looks, and the step from a judgement to a verdict.

use ahash::HashMap;

use crate::health::catalogue::{CATALOGUE, RULES, RuleId, Severity, SubjectKind, rules_of};
use crate::health::rules::Judged;
use crate::health::summary::OverallState;
use crate::health::version::SupportState;
use crate::live::{Lifecycle, SensorType, SlotFacts};
use crate::time::MonoNanos;
use crate::wire::id::SensorId;

/// Nobody's gateway.
pub(super) const NO_GATEWAY: u32 = u32::MAX;

/// By what a sensor is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    pub kind: SensorType,
    pub lifecycle: Lifecycle,
    pub muted: bool,
    pub state: OverallState,
    pub support: SupportState,
    pub site: u32,
    /// Counts among the sensors of its site that should be heard, and whether it is not.
    pub at_site: Option<bool>,
}

/// One slot, as remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotMemory {
    pub id: SensorId,
    /// Zero: nobody has the slot.
    pub generation: u32,
    pub gateway: u32,
    /// Heard since this process started.
    pub heard: bool,
    pub active: u64,
    pub unknown: u64,
    /// Rules on their way to become active, or to end; the times are in [`Waits`].
    pub waiting: u64,
    /// Since when it must report.
    pub armed: MonoNanos,
    pub class: Class,
    pub version: u16,
}

impl SlotMemory {
    pub const EMPTY: SlotMemory = SlotMemory {
        id: SensorId([0; 16]),
        generation: 0,
        gateway: NO_GATEWAY,
        heard: false,
        active: 0,
        unknown: 0,
        waiting: 0,
        armed: MonoNanos::NEVER,
        class: Class {
            kind: SensorType::OtCloud,
            lifecycle: Lifecycle::Deleted,
            muted: false,
            state: OverallState::Unknown,
            support: SupportState::Unknown,
            site: 0,
            at_site: None,
        },
        version: 0,
    };
}

/// A rule on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Since then.
    Since(MonoNanos),
    /// For so many nanoseconds, and now unknown: the time stands still.
    Held(u64),
}

/// Rules on their way, of all slots: few, so a map.
pub(super) type Waits = HashMap<(u32, RuleId), Wait>;

/// What a rule does to others while it is active.
#[derive(Clone, Copy)]
struct Reach {
    suppresses: u64,
    freezes: u64,
}

const fn has(rules: &[RuleId], wanted: usize) -> bool {
    let mut index = 0;
    while index < rules.len() {
        if rules[index] as usize == wanted {
            return true;
        }
        index += 1;
    }
    false
}

static REACH: [Reach; RULES] = {
    let mut reach = [Reach { suppresses: 0, freezes: 0 }; RULES];
    let mut by = 0;
    while by < RULES {
        let mut other = 0;
        while other < RULES {
            if has(CATALOGUE[other].suppressed_by, by) {
                reach[by].suppresses |= 1 << other;
            }
            if has(CATALOGUE[other].frozen_by, by) {
                reach[by].freezes |= 1 << other;
            }
            other += 1;
        }
        by += 1;
    }
    reach
};

/// Rules that reach others.
static REACHING: u64 = {
    let mut word = 0;
    let mut rule = 0;
    while rule < RULES {
        if REACH[rule].suppresses | REACH[rule].freezes != 0 {
            word |= 1 << rule;
        }
        rule += 1;
    }
    word
};

/// Rules in the order in which they are settled: who reaches others comes before them.
pub(super) const GROUPS: [u64; 5] = {
    let pending = RuleId::PendingActivation.bit() | RuleId::PendingReactivation.bit();
    let stopped = RuleId::PlannedStop.bit();
    let silent = RuleId::Disconnected.bit();
    let exceeded = RuleId::BandwidthExceeded.bit() | RuleId::DevicesExceeded.bit();
    let all = (1 << RULES) - 1;
    [pending, stopped, silent, exceeded, all & !(pending | stopped | silent | exceeded)]
};

/// Rules of sensors that apply to a type.
pub(super) fn applicable(kind: SensorType) -> u64 {
    static MASKS: [u64; 3] = {
        let mut masks = [0; 3];
        let mut rule = 0;
        while rule < RULES {
            let row = &CATALOGUE[rule];
            if matches!(row.subject, SubjectKind::Sensor) {
                let kinds = [SensorType::OtCloud, SensorType::OtLocal, SensorType::EnterpriseIot];
                let mut kind = 0;
                while kind < 3 {
                    if row.applies_to.contains(kinds[kind]) {
                        masks[kinds[kind] as usize] |= 1 << rule;
                    }
                    kind += 1;
                }
            }
            rule += 1;
        }
        masks
    };
    MASKS[kind as usize]
}

/// Rules of a severity.
pub(super) fn of_severity(critical: bool) -> u64 {
    static MASKS: [u64; 2] = {
        let mut masks = [0; 2];
        let mut rule = 0;
        while rule < RULES {
            match CATALOGUE[rule].severity {
                Severity::Critical => masks[1] |= 1 << rule,
                Severity::Warning => masks[0] |= 1 << rule,
                Severity::Lifecycle => {}
            }
            rule += 1;
        }
        masks
    };
    MASKS[usize::from(critical)]
}

/// Suppressed and frozen rules while `active` are.
pub(super) fn reach_of(active: u64) -> (u64, u64) {
    let (mut suppressed, mut frozen) = (0, 0);
    for rule in rules_of(active & REACHING) {
        suppressed |= REACH[rule as usize].suppresses;
        frozen |= REACH[rule as usize].freezes;
    }
    (suppressed, frozen)
}

/// One group of rules, masked by who reaches them: what holds, what is unknown, what must end at once.
pub(super) struct Masked {
    pub holds: u64,
    pub unknown: u64,
    pub forced: u64,
}

pub(super) fn mask(group: u64, applies: u64, active: u64, judged: &Judged) -> Masked {
    let (suppressed, frozen) = reach_of(active);
    let scope = group & applies & !suppressed;
    let unknown = (judged.unknown | frozen) & scope;
    Masked {
        holds: judged.holds & scope & !unknown,
        unknown,
        forced: active & group & (suppressed | !applies),
    }
}

/// The one word on a sensor.
pub(super) fn overall(facts: SlotFacts, active: u64, gateway_silent: bool, heard: bool) -> OverallState {
    if facts.kind == SensorType::OtLocal && facts.lifecycle == Lifecycle::Active {
        return OverallState::Local;
    }
    match facts.lifecycle {
        Lifecycle::PendingActivation | Lifecycle::PendingReactivation => return OverallState::Pending,
        Lifecycle::Deleted => return OverallState::Unknown,
        Lifecycle::Active => {}
    }
    if active & RuleId::PlannedStop.bit() != 0 {
        OverallState::Stopped
    } else if gateway_silent {
        OverallState::Unknown
    } else if active & of_severity(true) != 0 {
        OverallState::Critical
    } else if !heard {
        OverallState::Unknown
    } else if active & of_severity(false) != 0 {
        OverallState::Warning
    } else {
        OverallState::Healthy
    }
}

/// Whether a sensor counts among those of its site that should be heard, and then, whether it is not.
pub(super) fn counts_at_site(facts: SlotFacts, active: u64, gateway_silent: bool) -> Option<bool> {
    let expected = facts.lifecycle == Lifecycle::Active
        && facts.kind != SensorType::OtLocal
        && active & RuleId::PlannedStop.bit() == 0
        && !gateway_silent;
    expected.then_some(active & RuleId::Disconnected.bit() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reaches_others_is_settled_before_them() {
        let place = |rule: RuleId| GROUPS.iter().position(|group| group & rule.bit() != 0).unwrap();
        for rule in &CATALOGUE {
            for &by in rule.suppressed_by.iter().chain(rule.frozen_by) {
                assert!(place(by) < place(rule.id), "{} after {}", rule.code, by.code());
            }
        }
        assert_eq!(GROUPS.iter().fold(0, |all, group| all ^ group), (1 << RULES) - 1);
    }
}
