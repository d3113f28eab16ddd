//! The ring of events, and who reads it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::Topic;
use crate::fleet::{Grant, Permission, Scope};
use crate::http::sight::sees;
use crate::limits::{EVENT_RING_BYTES_MAX, EVENT_RING_ENTRIES_MAX, EVENT_STREAMS_MAX};
use crate::store::Position;
use crate::wire::id::{SiteId, SubscriptionId};

/// Who may see an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// Everybody who may see anything.
    Everybody,
    /// Who may see everything.
    All,
    /// Who may see one of these.
    Sites(Vec<(SiteId, SubscriptionId)>),
}

impl Who {
    pub(super) fn has(&self, grants: &[Grant]) -> bool {
        match self {
            Who::Everybody => true,
            Who::All => {
                grants.iter().any(|grant| grant.scope == Scope::All && grant.role.may(Permission::View))
            }
            Who::Sites(sites) => sites.iter().any(|&(site, subscription)| sees(grants, site, subscription)),
        }
    }
}

/// One event: its lines without `id` and without the empty line that ends it.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) who: Who,
    /// Not to them: they get another event for the same thing.
    pub(super) except: Option<Who>,
    pub(super) text: Bytes,
}

impl Event {
    pub(super) fn is_for(&self, grants: &[Grant]) -> bool {
        self.who.has(grants) && !self.except.as_ref().is_some_and(|who| who.has(grants))
    }
}

/// Events that came together.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The place in the log that is reached with it; live values have none.
    pub(super) position: Option<Position>,
    pub(super) events: Vec<Event>,
}

impl Entry {
    fn bytes(&self) -> usize {
        let texts: usize = self.events.iter().map(|event| event.text.len() + size_of::<Event>()).sum();
        texts + size_of::<Entry>()
    }
}

/// Why a place is not in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// Only the log knows what came after it.
    Older,
    /// The ring did not get so far yet; what comes next has this number.
    Ahead(u64),
    /// It is of another log.
    Foreign,
}

#[derive(Default)]
struct Entries {
    all: VecDeque<Arc<Entry>>,
    /// Number of the first one; never used again.
    first: u64,
    bytes: usize,
    /// Place in the log before the first one, and after the last one.
    span: Option<(Position, Position)>,
}

/// Events of one topic.
pub(super) struct Ring {
    entries: Mutex<Entries>,
    /// Number behind the last entry.
    end: watch::Sender<u64>,
    readers: AtomicUsize,
}

impl Default for Ring {
    fn default() -> Ring {
        Ring { entries: Mutex::default(), end: watch::Sender::new(0), readers: AtomicUsize::new(0) }
    }
}

impl Ring {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody listens.
    pub(super) fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }

    /// Nobody listens: what comes next is what comes after this place. `false`: somebody does by now.
    pub(super) fn begin_at(&self, position: Position) -> bool {
        let mut entries = self.lock();
        if entries.span.is_some() && self.has_readers() {
            return false;
        }
        entries.first += entries.all.len() as u64;
        entries.all.clear();
        entries.bytes = 0;
        entries.span = Some((position, position));
        true
    }

    /// The place in the log that was reached.
    pub(super) fn reached(&self) -> Option<Position> {
        self.lock().span.map(|(_, reached)| reached)
    }

    /// Adds what came; the oldest go when there is too much.
    pub(super) fn push(&self, new: Vec<Entry>) {
        let mut entries = self.lock();
        for entry in new {
            if let (Some(position), Some((_, reached))) = (entry.position, &mut entries.span) {
                *reached = position;
            }
            entries.bytes += entry.bytes();
            entries.all.push_back(Arc::new(entry));
        }
        // One entry stays, however large it is.
        while entries.all.len() > 1
            && (entries.all.len() > EVENT_RING_ENTRIES_MAX || entries.bytes > EVENT_RING_BYTES_MAX)
        {
            let Some(gone) = entries.all.pop_front() else { break };
            entries.first += 1;
            entries.bytes -= gone.bytes();
            if let (Some(position), Some((before, _))) = (gone.position, &mut entries.span) {
                *before = position;
            }
        }
        let end = entries.first + entries.all.len() as u64;
        drop(entries);
        self.end.send_replace(end);
    }

    /// The number of the entry after a place.
    pub(super) fn after(&self, place: Position) -> Result<u64, Elsewhere> {
        let entries = self.lock();
        let Some((before, reached)) = entries.span else { return Err(Elsewhere::Foreign) };
        if place.log != before.log {
            return Err(Elsewhere::Foreign);
        }
        if place.sequence > reached.sequence {
            return Err(Elsewhere::Ahead(entries.first + entries.all.len() as u64));
        }
        if place.sequence < before.sequence {
            return Err(Elsewhere::Older);
        }
        let behind = entries
            .all
            .iter()
            .rposition(|entry| entry.position.is_some_and(|position| position.sequence <= place.sequence));
        Ok(entries.first + behind.map_or(0, |behind| behind as u64 + 1))
    }

    /// The number behind the last entry.
    pub(super) fn end(&self) -> u64 {
        let entries = self.lock();
        entries.first + entries.all.len() as u64
    }

    /// The entry of a number: `Ok(None)` when it did not come yet, `Err` when it is gone.
    pub(super) fn get(&self, number: u64) -> Result<Option<Arc<Entry>>, ()> {
        let entries = self.lock();
        let place = number.checked_sub(entries.first).ok_or(())?;
        Ok(entries.all.get(place as usize).map(Arc::clone))
    }

    /// Tells when something came.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }
}

/// Both rings.
#[derive(Default)]
pub(in crate::http) struct Hub {
    sensors: Ring,
    messages: Ring,
    /// The last state of [`crate::http::app::App::access_changes`] that was seen; wakes all readers.
    access: watch::Sender<u64>,
}

impl Hub {
    pub(super) fn ring(&self, topic: Topic) -> &Ring {
        match topic {
            Topic::Sensors => &self.sensors,
            Topic::Messages => &self.messages,
        }
    }

    /// Somebody may do more or less than before.
    pub(super) fn access_changed(&self, to: u64) {
        self.access.send_replace(to);
    }

    /// A place for one more reader; `None` when there are as many as may be.
    pub(super) fn enter(self: &Arc<Hub>, topic: Topic) -> Option<Reader> {
        let count = || -> usize {
            [&self.sensors, &self.messages].iter().map(|ring| ring.readers.load(Ordering::Acquire)).sum()
        };
        self.ring(topic).readers.fetch_add(1, Ordering::AcqRel);
        let reader = Reader { hub: Arc::clone(self), topic };
        (count() <= EVENT_STREAMS_MAX).then_some(reader)
    }
}

/// A reader's place; given back when dropped.
pub(super) struct Reader {
    hub: Arc<Hub>,
    pub(super) topic: Topic,
}

impl Reader {
    /// Tells when somebody may do more or less than before.
    pub(super) fn access(&self) -> watch::Receiver<u64> {
        self.hub.access.subscribe()
    }

    pub(super) fn ring(&self) -> &Ring {
        self.hub.ring(self.topic)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.ring().readers.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LogId;

    fn at(sequence: u64) -> Position {
        Position { log: LogId([7; 16]), sequence }
    }

    fn entry(sequence: u64, bytes: usize) -> Entry {
        let text = Bytes::from(vec![b'x'; bytes]);
        Entry {
            position: Some(at(sequence)),
            events: vec![Event { who: Who::Everybody, except: None, text }],
        }
    }

    #[test]
    fn a_place_is_found_in_the_ring_or_said_to_be_elsewhere() {
        let ring = Ring::default();
        assert_eq!(ring.after(at(5)), Err(Elsewhere::Foreign), "nothing is known yet");
        assert!(ring.begin_at(at(5)));
        ring.push(vec![entry(6, 1), Entry { position: None, events: Vec::new() }, entry(7, 1)]);
        assert_eq!(ring.after(at(4)), Err(Elsewhere::Older));
        assert_eq!(ring.after(at(5)), Ok(0));
        assert_eq!(ring.after(at(6)), Ok(1), "live values after it come again");
        assert_eq!(ring.after(at(7)), Ok(3));
        assert_eq!(ring.after(at(8)), Err(Elsewhere::Ahead(3)));
        assert_eq!(ring.after(Position { log: LogId([8; 16]), sequence: 6 }), Err(Elsewhere::Foreign));
        assert_eq!((ring.end(), ring.reached()), (3, Some(at(7))));
    }

    #[test]
    fn the_ring_holds_so_much_and_no_more() {
        let ring = Ring::default();
        assert!(ring.begin_at(at(0)));
        let piece = EVENT_RING_BYTES_MAX / 8;
        ring.push((1..=20).map(|sequence| entry(sequence, piece)).collect());
        assert!(ring.lock().bytes <= EVENT_RING_BYTES_MAX);
        assert!(ring.get(0).is_err(), "it is gone");
        assert!(matches!(ring.get(19), Ok(Some(_))) && matches!(ring.get(20), Ok(None)));
        assert_eq!(ring.after(at(2)), Err(Elsewhere::Older));
        ring.push(vec![entry(21, 2 * EVENT_RING_BYTES_MAX)]);
        assert!(matches!(ring.get(20), Ok(Some(_))), "one stays, however large");
        ring.push((22..22 + 2 * EVENT_RING_ENTRIES_MAX as u64).map(|sequence| entry(sequence, 0)).collect());
        assert!(ring.lock().all.len() <= EVENT_RING_ENTRIES_MAX);
    }

    #[test]
    fn readers_are_counted_and_bounded() {
        let hub = Arc::new(Hub::default());
        let mut readers: Vec<_> =
            (0..EVENT_STREAMS_MAX).map(|_| hub.enter(Topic::Sensors).unwrap()).collect();
        assert!(hub.enter(Topic::Messages).is_none() && hub.enter(Topic::Sensors).is_none());
        assert!(!hub.ring(Topic::Messages).has_readers(), "who was refused does not count");
        readers.pop();
        assert!(hub.enter(Topic::Messages).is_some());
        assert!(!hub.ring(Topic::Sensors).begin_at(at(9)) || hub.ring(Topic::Sensors).reached().is_some());
        drop(readers);
        assert!(!hub.ring(Topic::Sensors).has_readers());
    }
}
