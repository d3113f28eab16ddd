//! Messages that are active, and transitions that the journal has not taken yet.
//!
//! Level-triggered: what is kept is the *difference* to what the journal has, at most one transition a rule and
//! subject, so memory is bounded however long the journal refuses. A message that came and went while
//! nothing was taken leaves no trace; one that ended and came back goes on as the one that the journal has.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use ahash::{HashMap, HashSet};

use crate::health::catalogue::{RULES, RuleId};
use crate::health::message::{ActiveMessage, ClearReason, Evidence, Subject, Transition, TransitionKind};
use crate::live::SlotHandle;
use crate::time::{MonoNanos, Now, UnixMillis};
use crate::wire::id::SiteId;

pub(super) type Key = (Subject, RuleId);

/// What a raise needs to say.
pub(super) struct Raise {
    pub subject: Subject,
    pub slot: Option<SlotHandle>,
    pub rule: RuleId,
    pub since: MonoNanos,
    pub detection_delay: Option<Duration>,
    pub folded_into: Option<SiteId>,
    pub muted: bool,
    pub evidence: Vec<Evidence>,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    messages: HashMap<Key, ActiveMessage>,
    /// Those of gateways and sites, in order: there are few, and no column has them.
    places: BTreeSet<Key>,
    /// Messages that the journal has as active: taken, or restored from it.
    journalled: HashSet<Key>,
    /// Transitions that were taken and not yet written down, as far as the engine was told.
    unwritten: HashMap<Key, u32>,
    waiting: HashMap<Key, Transition>,
    queue: VecDeque<Key>,
    pub active: [u32; RULES],
    pub active_muted: [u32; RULES],
    pub folded: u32,
    pub raised: u32,
    pub cleared: u32,
}

/// Wall time of an engine instant, by the clocks of now.
pub(super) fn wall_of(at: MonoNanos, now: Now) -> UnixMillis {
    if at > now.mono { now.unix.plus(at.since(now.mono)) } else { now.unix.minus(now.mono.since(at)) }
}

impl Ledger {
    pub fn messages(&self) -> impl Iterator<Item = &ActiveMessage> {
        self.messages.values()
    }

    pub fn get(&self, key: Key) -> Option<&ActiveMessage> {
        self.messages.get(&key)
    }

    pub fn places(&self, after: Option<Key>) -> impl Iterator<Item = &ActiveMessage> + use<'_> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.places.range((from, Bound::Unbounded)).filter_map(|key| self.messages.get(key))
    }

    /// Takes a message over from the journal, as it was.
    pub fn restore(&mut self, mut message: ActiveMessage) {
        let key = (message.subject, message.rule);
        message.durable = true;
        message.folded_into = None;
        self.journalled.insert(key);
        self.place(key);
        if let Some(before) = self.messages.insert(key, message) {
            self.count(key.1, before.muted, false);
        }
        let muted = self.messages.get(&key).is_some_and(|message| message.muted);
        self.count(key.1, muted, true);
    }

    pub fn raise(&mut self, raise: Raise, now: Now) {
        let key = (raise.subject, raise.rule);
        let since = wall_of(raise.since, now);
        self.raised += 1;
        self.count(raise.rule, raise.muted, true);
        self.folded += u32::from(raise.folded_into.is_some());
        self.place(key);
        self.messages.insert(
            key,
            ActiveMessage {
                subject: raise.subject,
                rule: raise.rule,
                since,
                raised_at: now.unix,
                evidence: raise.evidence.clone(),
                durable: self.is_written(key),
                unknown: false,
                folded_into: raise.folded_into,
                muted: raise.muted,
            },
        );
        if self.journalled.contains(&key) {
            // Its end was never taken: for the journal it goes on.
            self.waiting.remove(&key);
            return;
        }
        let transition = Transition {
            subject: raise.subject,
            slot: raise.slot,
            rule: raise.rule,
            kind: TransitionKind::Raised,
            at: now.unix,
            at_mono: now.mono,
            since,
            detection_delay: raise.detection_delay,
            folded_into: raise.folded_into,
            muted: raise.muted,
            evidence: raise.evidence,
            clear_reason: None,
        };
        self.wait(key, transition);
    }

    pub fn clear(&mut self, key: Key, slot: Option<SlotHandle>, reason: ClearReason, now: Now) {
        let Some(message) = self.messages.remove(&key) else { return };
        self.places.remove(&key);
        self.cleared += 1;
        self.count(key.1, message.muted, false);
        self.folded -= u32::from(message.folded_into.is_some());
        if !self.journalled.contains(&key) {
            self.waiting.remove(&key);
            return;
        }
        let transition = Transition {
            subject: key.0,
            slot,
            rule: key.1,
            kind: TransitionKind::Cleared,
            at: now.unix,
            at_mono: now.mono,
            since: message.since,
            detection_delay: None,
            folded_into: message.folded_into,
            muted: message.muted,
            evidence: message.evidence,
            clear_reason: Some(reason),
        };
        self.wait(key, transition);
    }

    pub fn set_folded(&mut self, key: Key, site: Option<SiteId>) {
        if let Some(message) = self.messages.get_mut(&key) {
            self.folded -= u32::from(message.folded_into.is_some());
            self.folded += u32::from(site.is_some());
            message.folded_into = site;
        }
    }

    pub fn set_unknown(&mut self, key: Key, unknown: bool) {
        if let Some(message) = self.messages.get_mut(&key) {
            message.unknown = unknown;
        }
    }

    pub fn set_muted(&mut self, key: Key, muted: bool) {
        if let Some(message) = self.messages.get_mut(&key)
            && message.muted != muted
        {
            message.muted = muted;
            let of_rule = &mut self.active_muted[key.1 as usize];
            *of_rule = if muted { *of_rule + 1 } else { *of_rule - 1 };
        }
    }

    pub fn set_evidence(&mut self, key: Key, evidence: Vec<Evidence>) {
        if let Some(message) = self.messages.get_mut(&key) {
            message.evidence = evidence;
        }
    }

    /// The journal has written a transition down.
    pub fn acknowledge(&mut self, key: Key, kind: TransitionKind) {
        match self.unwritten.get_mut(&key) {
            Some(more) if *more > 1 => *more -= 1,
            _ => {
                self.unwritten.remove(&key);
            }
        }
        if kind == TransitionKind::Raised {
            let written = self.is_written(key);
            if let Some(message) = self.messages.get_mut(&key) {
                message.durable |= written;
            }
        }
    }

    /// The journal has the message as active, and on disk.
    pub fn is_written(&self, key: Key) -> bool {
        self.journalled.contains(&key) && !self.unwritten.contains_key(&key)
    }

    /// Offers what waits, oldest first, until the journal refuses. Gives how many it took, and whether it
    /// refused.
    pub fn offer(&mut self, offer: &mut dyn FnMut(Transition) -> Result<(), Transition>) -> (u32, bool) {
        let mut taken = 0;
        while let Some(key) = self.queue.pop_front() {
            let Some(transition) = self.waiting.remove(&key) else { continue };
            let kind = transition.kind;
            if let Err(transition) = offer(transition) {
                self.waiting.insert(key, transition);
                self.queue.push_front(key);
                return (taken, true);
            }
            taken += 1;
            *self.unwritten.entry(key).or_default() += 1;
            match kind {
                TransitionKind::Raised => self.journalled.insert(key),
                TransitionKind::Cleared => self.journalled.remove(&key),
            };
        }
        (taken, false)
    }

    pub fn waiting(&self) -> u32 {
        self.waiting.len() as u32
    }

    fn wait(&mut self, key: Key, transition: Transition) {
        if self.waiting.insert(key, transition).is_none() {
            // Keys of withdrawn transitions stay in the queue until their turn: weed when they pile up.
            if self.queue.len() > 2 * self.waiting.len() + 1_024 {
                let waiting = &self.waiting;
                self.queue.retain(|key| waiting.contains_key(key));
            }
            self.queue.push_back(key);
        }
    }

    fn place(&mut self, key: Key) {
        if !matches!(key.0, Subject::Sensor(_)) {
            self.places.insert(key);
        }
    }

    fn count(&mut self, rule: RuleId, muted: bool, up: bool) {
        let step = |count: &mut u32| *count = if up { *count + 1 } else { *count - 1 };
        step(&mut self.active[rule as usize]);
        if muted {
            step(&mut self.active_muted[rule as usize]);
        }
    }
}
