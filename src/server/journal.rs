//! The journal at work: a thread that makes the sweep's transitions durable, batch by batch.
//!
//! What the channel gave is held until it is written: while the disk is full or read-only the batch is tried
//! again, the channel fills, the sweep is refused and offers again. So nothing is lost and nothing is
//! written twice; what is said meanwhile is said from memory, marked as not durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::fleet::FleetService;
use super::stop::StopSignal;
use super::tap::Taps;
use crate::health::{EvidenceValue, Subject, Transition, TransitionKind};
use crate::limits::{JOURNAL_BATCH_MAX, JOURNAL_FORGET_MAX};
use crate::store::{self, EntryEvidence, EntryKind, JournalEntry, Store};
use crate::time::{Clock, MonoNanos, Now};
use crate::wire::id::SiteId;

/// Wait between two tries while the store refuses to write.
const RETRY: Duration = Duration::from_millis(500);
/// Wait between two looks at the age of entries.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// Wall time that moved so much more or less than engine time between two looks is not trusted.
const FORGET_CLOCK_JUMP: Duration = Duration::from_secs(3_600);

/// What the journal tells of itself.
#[derive(Debug, Default)]
pub struct JournalStats {
    /// Transitions written.
    pub written: AtomicU64,
    /// Transitions that the journal had already.
    pub known: AtomicU64,
    /// Batches that could not be written, each try counted.
    pub failures: AtomicU64,
    /// Transitions taken from the sweep and not written yet.
    pub pending: AtomicU64,
    /// The last try failed.
    pub failing: AtomicBool,
}

/// Receives what became durable, so that the engine can say so.
pub type Durable = crossbeam::channel::Sender<Vec<Transition>>;

/// The thread's parts.
pub struct JournalThread {
    /// What the sweep gave.
    pub transitions: Receiver<Transition>,
    /// Told of every batch that was written.
    pub durable: Durable,
    /// Where to write.
    pub store: Arc<Store>,
    /// For the site of a sensor.
    pub fleet: Arc<FleetService>,
    /// Shared with metrics and readiness.
    pub stats: Arc<JournalStats>,
    /// Who follows what was written.
    pub taps: Arc<Taps>,
    /// The one clock.
    pub clock: Arc<dyn Clock>,
    /// Cleared entries older than this are forgotten.
    pub keep: Duration,
    /// Ends the thread, after what the channel holds is written or can't be.
    pub stop: StopSignal,
}

/// When to look for old entries again, and the time of the last look.
struct Forget {
    due: MonoNanos,
    before: Now,
}

impl Forget {
    fn jumped(&self, now: Now) -> bool {
        let expected = self.before.unix.plus(now.mono.since(self.before.mono));
        now.unix.0.abs_diff(expected.0) > FORGET_CLOCK_JUMP.as_millis() as u64
    }
}

impl JournalThread {
    /// Until told to stop.
    pub fn run(self) {
        let now = self.clock.now();
        let mut forget = Forget { due: now.mono.plus(FORGET_EVERY), before: now };
        loop {
            let batch = self.next_batch();
            if !batch.is_empty() {
                self.write(batch);
            } else if self.stop.stopped() {
                return;
            }
            self.forget_old(&mut forget);
        }
    }

    fn next_batch(&self) -> Vec<Transition> {
        match self.transitions.recv_timeout(Duration::from_millis(200)) {
            Ok(first) => {
                let rest = self.transitions.try_iter().take(JOURNAL_BATCH_MAX - 1);
                std::iter::once(first).chain(rest).collect()
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Vec::new(),
        }
    }

    /// Tries until it is written, or until a stop ends the trying: what is not written then is found as a
    /// difference between verdict and journal at the next start.
    fn write(&self, batch: Vec<Transition>) {
        self.stats.pending.store(batch.len() as u64, Ordering::Relaxed);
        let entries: Vec<JournalEntry> = batch.iter().map(|transition| self.entry(transition)).collect();
        loop {
            match self.store.journal.append(&entries) {
                Ok(places) => {
                    let new = places.iter().flatten().count() as u64;
                    self.stats.written.fetch_add(new, Ordering::Relaxed);
                    self.stats.known.fetch_add(places.len() as u64 - new, Ordering::Relaxed);
                    self.stats.pending.store(0, Ordering::Relaxed);
                    if self.stats.failing.swap(false, Ordering::Relaxed) {
                        tracing::info!("the journal can be written again");
                    }
                    let written = batch.iter().zip(&places).filter(|(_, place)| place.is_some());
                    self.taps.pass_on(written.map(|(transition, _)| transition));
                    // The engine drains this every sweep; when it is gone nobody needs to know.
                    let _ = self.durable.send(batch);
                    return;
                }
                Err(error) => {
                    self.stats.failures.fetch_add(1, Ordering::Relaxed);
                    if !self.stats.failing.swap(true, Ordering::Relaxed) {
                        tracing::error!(%error, "the journal can't be written; verdicts go on from memory");
                    }
                    let due = self.clock.mono().plus(RETRY);
                    if self.stop.wait_until(&*self.clock, due) {
                        return;
                    }
                }
            }
        }
    }

    /// Once an hour, never in the first one, and not when wall time jumped since: a clock that is wrong must not
    /// empty the journal. While there is more to forget, more is forgotten between two batches.
    fn forget_old(&self, forget: &mut Forget) {
        let now = self.clock.now();
        if now.mono < forget.due {
            return;
        }
        let jumped = forget.jumped(now);
        *forget = Forget { due: now.mono.plus(FORGET_EVERY), before: now };
        if jumped {
            tracing::warn!("wall time jumped; old journal entries are kept for another hour");
            return;
        }
        match self.store.journal.forget(now.unix.minus(self.keep), JOURNAL_FORGET_MAX) {
            Ok(0) => {}
            Ok(forgotten) => {
                tracing::info!(forgotten, "old journal entries forgotten");
                if forgotten == JOURNAL_FORGET_MAX {
                    forget.due = now.mono;
                }
            }
            Err(error) => tracing::warn!(%error, "old journal entries could not be forgotten"),
        }
    }

    fn entry(&self, transition: &Transition) -> JournalEntry {
        JournalEntry {
            subject: subject_document(transition.subject),
            site: self.site_of(transition.subject),
            rule: transition.rule.rule().code.to_owned(),
            kind: match transition.kind {
                TransitionKind::Raised => EntryKind::Raised,
                TransitionKind::Cleared => EntryKind::Cleared,
            },
            at: transition.at,
            since: transition.since,
            evidence: transition
                .evidence
                .iter()
                .map(|evidence| EntryEvidence {
                    name: evidence.name.to_owned(),
                    value: value_document(&evidence.value),
                    threshold: evidence.threshold.as_ref().map(value_document),
                    unit: evidence.unit.to_owned(),
                })
                .collect(),
            folded_into: transition.folded_into,
            muted: transition.muted,
            detection_delay_ms: transition
                .detection_delay
                .map(|delay| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX)),
            reason: transition.clear_reason.map(|reason| reason.as_str().to_owned()),
        }
    }

    fn site_of(&self, subject: Subject) -> Option<SiteId> {
        match subject {
            Subject::Site(site) => Some(site),
            Subject::Gateway(_) => None,
            Subject::Sensor(id) => {
                let register = self.fleet.register();
                let sensor = register.sensor(id).or_else(|| register.deleted_sensor(id))?;
                register.site_of(sensor).map(|site| site.id)
            }
        }
    }
}

/// A subject as the journal names it.
pub fn subject_document(subject: Subject) -> store::Subject {
    match subject {
        Subject::Sensor(id) => store::Subject::Sensor(id),
        Subject::Gateway(id) => store::Subject::Gateway(id),
        Subject::Site(id) => store::Subject::Site(id),
    }
}

/// A subject as the engine names it.
pub fn subject_of(document: store::Subject) -> Subject {
    match document {
        store::Subject::Sensor(id) => Subject::Sensor(id),
        store::Subject::Gateway(id) => Subject::Gateway(id),
        store::Subject::Site(id) => Subject::Site(id),
    }
}

fn value_document(value: &EvidenceValue) -> store::Value {
    match value {
        EvidenceValue::Integer(integer) => store::Value::Integer(*integer),
        EvidenceValue::Number(number) => store::Value::Number(*number),
        EvidenceValue::Text(text) => store::Value::Text(text.clone()),
    }
}

/// Evidence of an entry as the engine holds it: names that this version's rules use, others dropped.
pub fn evidence_of(entry: &JournalEntry) -> Vec<crate::health::Evidence> {
    let value = |value: &store::Value| match value {
        store::Value::Integer(integer) => EvidenceValue::Integer(*integer),
        store::Value::Number(number) => EvidenceValue::Number(*number),
        store::Value::Text(text) => EvidenceValue::Text(text.clone()),
    };
    entry
        .evidence
        .iter()
        .map(|evidence| crate::health::Evidence {
            name: intern(&evidence.name),
            value: value(&evidence.value),
            threshold: evidence.threshold.as_ref().map(value),
            unit: intern(&evidence.unit),
        })
        .collect()
}

/// The engine's evidence has static names. Those read back after a restart are few and the same again and
/// again: each different one is kept for ever, at most `INTERNED_MAX` of them.
fn intern(text: &str) -> &'static str {
    use std::collections::HashSet;
    use std::sync::{Mutex, OnceLock, PoisonError};
    const INTERNED_MAX: usize = 1_024;
    static NAMES: OnceLock<Mutex<HashSet<&'static str>>> = OnceLock::new();
    let mut names = NAMES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    match names.get(text) {
        Some(known) => known,
        None if names.len() >= INTERNED_MAX => "other",
        None => {
            let kept: &'static str = Box::leak(text.to_owned().into_boxed_str());
            names.insert(kept);
            kept
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{ManualClock, UnixMillis};
    use crate::wire::id::SensorId;

    const KEEP: Duration = Duration::from_secs(90 * 86_400);
    const START: UnixMillis = UnixMillis(1_790_000_000_000);

    /// The thread's parts on an empty register, with the means to move its time.
    fn thread(dir: &std::path::Path) -> (JournalThread, Arc<ManualClock>) {
        let (store, fleet) = FleetService::empty(dir);
        let clock = Arc::new(ManualClock::new(START));
        let thread = JournalThread {
            transitions: crossbeam::channel::bounded(1).1,
            durable: crossbeam::channel::bounded(1).0,
            store,
            fleet: Arc::new(fleet),
            stats: Arc::default(),
            taps: Arc::default(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            keep: KEEP,
            stop: StopSignal::default(),
        };
        (thread, clock)
    }

    /// One message of each sensor, raised and cleared at once.
    fn fill(store: &Store, sensors: std::ops::Range<u64>, at: UnixMillis) {
        let entry = |sensor: u64, kind| JournalEntry {
            subject: store::Subject::Sensor(SensorId::from_number(sensor)),
            site: None,
            rule: "disconnected".into(),
            kind,
            at,
            since: at,
            evidence: Vec::new(),
            folded_into: None,
            muted: false,
            detection_delay_ms: None,
            reason: None,
        };
        let kinds = [EntryKind::Raised, EntryKind::Cleared];
        let entries: Vec<_> = sensors.flat_map(|sensor| kinds.map(|kind| entry(sensor, kind))).collect();
        for batch in entries.chunks(JOURNAL_BATCH_MAX) {
            store.journal.append(batch).expect("written");
        }
    }

    #[test]
    fn old_entries_are_forgotten_in_pieces_and_only_by_a_clock_that_can_be_trusted() {
        let dir = tempfile::tempdir().expect("a directory");
        let (thread, clock) = thread(dir.path());
        let kept = || thread.store.journal.len().expect("a count") as usize;
        let most = JOURNAL_FORGET_MAX;
        fill(&thread.store, 0..most as u64, START.minus(KEEP));
        fill(&thread.store, most as u64..most as u64 + 1, START);
        let mut forget = Forget { due: clock.mono().plus(FORGET_EVERY), before: clock.now() };
        thread.forget_old(&mut forget);
        assert_eq!(kept(), 2 * most + 2, "never in the first hour");

        clock.advance(FORGET_EVERY);
        clock.step_unix(10 * FORGET_EVERY.as_millis() as i64);
        thread.forget_old(&mut forget);
        assert_eq!(kept(), 2 * most + 2, "wall time jumped");

        clock.advance(FORGET_EVERY);
        for left in [most + 2, 2] {
            thread.forget_old(&mut forget);
            assert_eq!(kept(), left, "one piece at a time, and no waiting between two");
        }
        thread.forget_old(&mut forget);
        thread.forget_old(&mut forget);
        assert_eq!(kept(), 2, "the new ones stay");
        assert_eq!(thread.store.journal.ended().expect("a count"), 1);
    }
}
