//! Who comes, who goes, and how they are counted: the counts move with each sensor that changes its class, so
//! that a summary costs no walk.

use super::slot::{Class, SlotMemory, Wait};
use super::{Engine, Pass};
use crate::health::catalogue::{RuleId, rules_of};
use crate::health::message::{ActiveMessage, ClearReason, Subject};
use crate::health::version::{Day, SupportState, Version, VersionTable};
use crate::live::{SiteIndex, SlotIndex, Snapshot, Vitals};
use crate::wire::heartbeat::{VERSION_BYTES, inline_str};
use crate::wire::id::SensorId;

/// Different version texts that are remembered; others are judged each time.
const VERSIONS_MAX: usize = 4_096;

impl Engine {
    /// A sensor is new in its slot: what was restored for it goes on.
    pub(super) fn adopt(&mut self, pass: &Pass<'_>, index: u32, sensor: &Snapshot) {
        let mut memory =
            SlotMemory { id: sensor.id, generation: sensor.handle.generation, ..SlotMemory::EMPTY };
        if !pass.first {
            memory.armed = pass.now.mono;
            self.forget_elsewhere(pass, sensor.id);
        }
        for message in self.restored.remove(&Subject::Sensor(sensor.id)).into_iter().flatten() {
            memory.active |= message.rule.bit();
            let message = ActiveMessage { muted: sensor.facts.muted, unknown: false, ..message };
            self.ledger.restore(message);
        }
        for (rule, ends, elapsed) in self.restored_waits.remove(&sensor.id).into_iter().flatten() {
            // What was about to begin, and has begun since the checkpoint, is not about to end.
            if ends != (memory.active & rule.bit() != 0) {
                continue;
            }
            memory.waiting |= rule.bit();
            self.waits.insert((index, rule), Wait::Held(elapsed));
        }
        memory.class.lifecycle = sensor.facts.lifecycle;
        memory.class.muted = sensor.facts.muted;
        memory.class.kind = sensor.facts.kind;
        memory.class.site = sensor.facts.site.0;
        self.add(&memory.class, true);
        pass.live.set_verdict(SlotIndex(index), memory.active, 0);
        pass.live.set_journalled(SlotIndex(index), self.journalled_of(pass, &memory));
        self.slots[index as usize] = memory;
    }

    /// What the journal has of a sensor that is new in its slot. One that was deleted and added again may still
    /// have messages there whose end was not taken.
    fn journalled_of(&self, pass: &Pass<'_>, memory: &SlotMemory) -> u64 {
        if pass.first {
            return memory.active;
        }
        let written = |rule: &RuleId| self.ledger.is_written((Subject::Sensor(memory.id), *rule));
        RuleId::ALL.iter().filter(|rule| written(rule)).fold(0, |bits, rule| bits | rule.bit())
    }

    /// A sensor that was deleted and added again between two sweeps may have got a slot that is looked at before
    /// its old one: the old messages end first, or their end would take the new ones with it.
    fn forget_elsewhere(&mut self, pass: &Pass<'_>, id: SensorId) {
        let known = |rule: &RuleId| self.ledger.get((Subject::Sensor(id), *rule)).is_some();
        if RuleId::ALL.iter().any(known)
            && let Some(old) = self.slots.iter().position(|slot| slot.generation != 0 && slot.id == id)
        {
            self.forget(pass, old as u32);
        }
    }

    /// A slot's sensor is gone: its messages end with it.
    pub(super) fn forget(&mut self, pass: &Pass<'_>, index: u32) {
        let memory = std::mem::replace(&mut self.slots[index as usize], SlotMemory::EMPTY);
        if memory.generation == 0 {
            return;
        }
        for rule in rules_of(memory.active) {
            let key = (Subject::Sensor(memory.id), rule);
            self.ledger.clear(key, None, ClearReason::SubjectGone, pass.now);
        }
        for rule in rules_of(memory.waiting) {
            self.waits.remove(&(index, rule));
        }
        self.count_unknown(memory.unknown, 0);
        self.add(&memory.class, false);
    }

    /// What was restored and is not there any more ends now.
    pub(super) fn clear_gone(&mut self, pass: &Pass<'_>) {
        let gone: Vec<Subject> = self
            .restored
            .keys()
            .copied()
            .filter(|subject| match *subject {
                Subject::Sensor(id) => pass.live.find(id).is_none(),
                Subject::Gateway(id) => pass.live.find_gateway(id).is_none(),
                // Sites are judged anew: `sweep_sites` takes over those that are still out.
                Subject::Site(_) => false,
            })
            .collect();
        for subject in gone {
            for message in self.restored.remove(&subject).into_iter().flatten() {
                let key = (message.subject, message.rule);
                self.ledger.restore(message);
                self.ledger.clear(key, None, ClearReason::SubjectGone, pass.now);
            }
        }
    }

    pub(super) fn reclass(&mut self, pass: &Pass<'_>, memory: &SlotMemory, class: Class) {
        if memory.class == class {
            return;
        }
        if memory.class.site != class.site && memory.active & RuleId::Disconnected.bit() != 0 {
            let is_out = self.sites.get(&class.site).is_some_and(|site| site.active);
            let into = if is_out { pass.ctx.lookup.site(SiteIndex(class.site)) } else { None };
            self.ledger.set_folded((Subject::Sensor(memory.id), RuleId::Disconnected), into);
        }
        if memory.class.muted != class.muted {
            for rule in rules_of(memory.active) {
                self.ledger.set_muted((Subject::Sensor(memory.id), rule), class.muted);
            }
        }
        self.add(&memory.class, false);
        self.add(&class, true);
    }

    fn add(&mut self, class: &Class, up: bool) {
        let step = |count: &mut u32| *count = if up { *count + 1 } else { *count - 1 };
        let by_state = if class.muted { &mut self.fleet.muted_by_state } else { &mut self.fleet.by_state };
        step(&mut by_state[class.kind as usize][class.state as usize]);
        step(&mut self.fleet.by_lifecycle[class.lifecycle as usize]);
        step(&mut self.fleet.by_support[class.support as usize]);
        if let Some(silent) = class.at_site {
            let site = self.sites.entry(class.site).or_default();
            site.changed = true;
            step(&mut site.expected);
            if silent {
                step(&mut site.silent);
            }
            if class.muted {
                step(&mut site.muted_expected);
                if silent {
                    step(&mut site.muted_silent);
                }
            }
        }
    }

    pub(super) fn count_unknown(&mut self, before: u64, after: u64) {
        for rule in rules_of(before & !after) {
            self.unknown[rule as usize] -= 1;
        }
        for rule in rules_of(after & !before) {
            self.unknown[rule as usize] += 1;
        }
    }

    /// The number of a version text, interned. Zero: not said, or one too many.
    pub(super) fn version_of(&mut self, pass: &Pass<'_>, sensor: &Snapshot, guess: u16) -> u16 {
        let text = &sensor.heartbeat.version;
        if self.versions[usize::from(guess)].0 == *text {
            return guess;
        }
        if let Some(&known) = self.versions_by_text.get(text) {
            return known;
        }
        if self.versions.len() >= VERSIONS_MAX {
            return 0;
        }
        let number = self.versions.len() as u16;
        self.versions.push((*text, support_of(text, pass.ctx.versions, self.day)));
        self.versions_by_text.insert(*text, number);
        number
    }

    #[inline]
    pub(super) fn support(&self, pass: &Pass<'_>, sensor: &impl Vitals, version: u16) -> SupportState {
        let (text, support) = &self.versions[usize::from(version)];
        let said = sensor.version();
        if *text == said { *support } else { support_of(&said, pass.ctx.versions, self.day) }
    }
}

pub(super) fn support_of(text: &[u8; VERSION_BYTES], versions: &VersionTable, today: Day) -> SupportState {
    let version = inline_str(text).and_then(Version::parse);
    version.map_or(SupportState::Unknown, |version| versions.support(version, today))
}
