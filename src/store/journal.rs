//! The journal: every transition of every health message, durable in batches, found by subject, site, rule
//! and time; and the messages that are active now, kept by the same transaction.
//!
//! The sweep offers a transition again until it knows that it is durable, so the journal must not write one
//! twice. It keeps, for each subject and rule, whether a message is active and when the last one began: a
//! message that is active is not raised again, one that is not is not cleared, and one that ended is not
//! begun again by the same decision. So entries of one subject and rule always alternate.
//!
//! Nothing grows without bound. Entries go when they are too old or too many; what is known of a message that
//! ended goes with the entry that ended it, so there is never more of it than there are entries. (The same
//! decision is offered again within one sweep or one outage of the disk, not after the months that entries stay.)

mod copy;
mod look;

use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};

use super::database::HealingDatabase;
use super::document;
use super::entry::{EntryKind, JournalEntry, Subject, cut};
use super::error::StoreError;
use super::meta::log_id;
use super::position::{LogId, Position};
use crate::limits::{JOURNAL_ENTRIES_MAX, JOURNAL_SCAN_MAX, PAGE_MAX};
use crate::time::UnixMillis;
use crate::wire::id::SiteId;

/// Number to document.
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
/// What it is found by, its time, its number: see [`index_keys`].
const INDEX: TableDefinition<'_, &[u8], ()> = TableDefinition::new("index");
/// Subject and rule to number and document of the entry that raised it.
const ACTIVE: TableDefinition<'_, &[u8], (u64, &[u8])> = TableDefinition::new("active");
/// Subject and rule to the beginning of the last message that ended, and when it was raised.
const ENDED: TableDefinition<'_, &[u8], (i64, i64)> = TableDefinition::new("ended");

/// The journal of health messages.
pub struct Journal {
    database: HealingDatabase,
    log: LogId,
    last: AtomicU64,
    entries_max: u64,
}

/// What to look for. Empty: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalQuery {
    /// About this subject.
    pub subject: Option<Subject>,
    /// In this site.
    pub site: Option<SiteId>,
    /// Of this rule.
    pub rule: Option<String>,
    /// Decided then or later.
    pub from: Option<UnixMillis>,
    /// Decided before then.
    pub until: Option<UnixMillis>,
    /// Older than the page that gave this.
    pub before: Option<PageCursor>,
    /// Entries of one page; at most [`PAGE_MAX`], which 0 stands for.
    pub limit: usize,
}

/// Where a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageCursor {
    /// Time of the entry looked at last.
    pub at: UnixMillis,
    /// Its number.
    pub sequence: u64,
}

/// One page, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JournalPage {
    /// What was found, with its place, which is also its id.
    pub entries: Vec<(Position, JournalEntry)>,
    /// Where to go on; `None` at the end. A page can be short, even empty, and still go on: it says so
    /// after looking at [`JOURNAL_SCAN_MAX`] entries.
    pub next: Option<PageCursor>,
}

impl Journal {
    pub(super) fn open(database: HealingDatabase, entries_max: u64) -> Result<Journal, StoreError> {
        let log = log_id(&database, |transaction| {
            transaction.open_table(ENTRIES)?;
            transaction.open_table(INDEX)?;
            transaction.open_table(ACTIVE)?;
            transaction.open_table(ENDED)?;
            Ok(())
        })?;
        let last = database.read(|transaction| {
            let entries = transaction.open_table(ENTRIES).map_err(|cause| database.error(cause))?;
            let last = entries.last().map_err(|cause| database.error(cause))?;
            Ok(last.map_or(0, |(sequence, _)| sequence.value()))
        })?;
        Ok(Journal { database, log, last: AtomicU64::new(last), entries_max })
    }

    /// The last entry.
    pub fn position(&self) -> Position {
        Position { log: self.log, sequence: self.last.load(Ordering::Acquire) }
    }

    /// Writes what is new of these, all or nothing, with one sync. For each its place, or `None` when the
    /// journal says so already.
    pub fn append(&self, entries: &[JournalEntry]) -> Result<Vec<Option<Position>>, StoreError> {
        let (places, last) = self.database.write(|transaction| {
            let mut writer = Writer::open(&self.database, transaction)?;
            let mut last = writer.last()?;
            // Written by a call that was told "no", because the last sync failed: they are there, and count
            // as written now when they are offered again.
            let mut untold = writer.after(self.last.load(Ordering::Acquire))?;
            let mut places = Vec::with_capacity(entries.len());
            for entry in entries {
                let bytes = entry.encode();
                let place = if writer.append(last + 1, entry, &bytes)? {
                    last += 1;
                    Some(last)
                } else {
                    untold.iter().position(|(_, there)| *there == bytes).map(|at| untold.swap_remove(at).0)
                };
                places.push(place.map(|sequence| Position { log: self.log, sequence }));
            }
            // Two out for one in, so that a journal that was too long shrinks, at a bounded price.
            writer.prune(last, self.entries_max, 2 * entries.len())?;
            Ok((places, last))
        })?;
        self.last.store(last, Ordering::Release);
        Ok(places)
    }

    /// Forgets entries that are older than `before`, at most so many; says how many. Active messages stay
    /// known. The caller decides on the time: a clock that jumped must not empty the journal.
    pub fn forget(&self, before: UnixMillis, most: usize) -> Result<usize, StoreError> {
        self.database.write(|transaction| {
            let mut writer = Writer::open(&self.database, transaction)?;
            let mut forgotten = 0;
            while forgotten < most && writer.forget_first(|entry| entry.at < before)? {
                forgotten += 1;
            }
            Ok(forgotten)
        })
    }

    /// The messages that are active, with the place and document of what raised each.
    pub fn active(&self) -> Result<Vec<(Position, JournalEntry)>, StoreError> {
        self.database.read(|transaction| {
            let table = transaction.open_table(ACTIVE).map_err(|cause| self.database.error(cause))?;
            let error = |cause: redb::StorageError| self.database.error(cause);
            let mut active = Vec::new();
            for item in table.iter().map_err(error)? {
                let (_, value) = item.map_err(error)?;
                let (sequence, bytes) = value.value();
                active.push((Position { log: self.log, sequence }, JournalEntry::decode(bytes)?));
            }
            Ok(active)
        })
    }

    /// One entry by its place.
    pub fn entry(&self, place: Position) -> Result<Option<JournalEntry>, StoreError> {
        self.database.read(|transaction| {
            let table = transaction.open_table(ENTRIES).map_err(|cause| self.database.error(cause))?;
            let found = table.get(place.sequence).map_err(|cause| self.database.error(cause))?;
            found
                .filter(|_| place.log == self.log)
                .map(|bytes| JournalEntry::decode(bytes.value()))
                .transpose()
        })
    }

    /// The entries after a place, oldest first, at most so many: what an event stream resumes from. A place
    /// of another log, or one that is forgotten, is a [`StoreError::Conflict`]: start from the present.
    pub fn read_from(
        &self,
        after: Position,
        most: usize,
    ) -> Result<Vec<(Position, JournalEntry)>, StoreError> {
        self.database.read(|transaction| {
            let table = transaction.open_table(ENTRIES).map_err(|cause| self.database.error(cause))?;
            let error = |cause: redb::StorageError| self.database.error(cause);
            let first = table.first().map_err(error)?.map_or(1, |(sequence, _)| sequence.value());
            if after.log != self.log || after.sequence.saturating_add(1) < first {
                return Err(StoreError::Conflict { expected: after, actual: self.position() });
            }
            let mut entries = Vec::new();
            let last = self.last.load(Ordering::Acquire);
            if after.sequence >= last {
                return Ok(entries);
            }
            for item in table.range(after.sequence + 1..=last).map_err(error)?.take(most) {
                let (sequence, bytes) = item.map_err(error)?;
                entries.push((after.at(sequence.value()), JournalEntry::decode(bytes.value())?));
            }
            Ok(entries)
        })
    }

    /// Entries kept.
    pub fn len(&self) -> Result<u64, StoreError> {
        self.database.read(|transaction| {
            let table = transaction.open_table(ENTRIES).map_err(|cause| self.database.error(cause))?;
            table.len().map_err(|cause| self.database.error(cause))
        })
    }

    /// Messages that ended and are remembered.
    #[cfg(test)]
    pub fn ended(&self) -> Result<u64, StoreError> {
        self.database.read(|transaction| {
            let table = transaction.open_table(ENDED).map_err(|cause| self.database.error(cause))?;
            table.len().map_err(|cause| self.database.error(cause))
        })
    }

    /// True when it holds nothing.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        self.len().map(|entries| entries == 0)
    }

    /// What matches, newest first, a page at a time.
    pub fn query(&self, query: &JournalQuery) -> Result<JournalPage, StoreError> {
        let limit = if query.limit == 0 { PAGE_MAX } else { query.limit.min(PAGE_MAX) };
        let prefix = match query {
            JournalQuery { subject: Some(subject), .. } => by_subject(*subject),
            JournalQuery { site: Some(site), .. } => by_site(*site),
            JournalQuery { rule: Some(rule), .. } => by_rule(rule),
            _ => by_time(),
        };
        let low = place_key(&prefix, query.from.unwrap_or(UnixMillis(i64::MIN)), 0);
        let mut high = place_key(&prefix, query.until.unwrap_or(UnixMillis(i64::MAX)), 0);
        if let Some(PageCursor { at, sequence }) = query.before {
            high = high.min(place_key(&prefix, at, sequence));
        }
        if low >= high {
            return Ok(JournalPage::default());
        }
        self.database.read(|transaction| {
            let error = |cause: redb::StorageError| self.database.error(cause);
            let index = transaction.open_table(INDEX).map_err(|cause| self.database.error(cause))?;
            let entries = transaction.open_table(ENTRIES).map_err(|cause| self.database.error(cause))?;
            let range = (Bound::Included(low.as_slice()), Bound::Excluded(high.as_slice()));
            let mut page = JournalPage::default();
            for (looked_at, item) in index.range::<&[u8]>(range).map_err(error)?.rev().enumerate() {
                if page.entries.len() == limit || looked_at == JOURNAL_SCAN_MAX {
                    return Ok(page);
                }
                let (key, ()) = item.map(|(key, value)| (key, value.value())).map_err(error)?;
                let cursor = cursor_of(key.value())?;
                let bytes = entries.get(cursor.sequence).map_err(error)?;
                let bytes = bytes.ok_or_else(|| document::bad(&"the index names an entry that is gone"))?;
                let entry = JournalEntry::decode(bytes.value())?;
                if matches(query, &entry) {
                    page.entries.push((Position { log: self.log, sequence: cursor.sequence }, entry));
                }
                page.next = Some(cursor);
            }
            page.next = None;
            Ok(page)
        })
    }
}

fn matches(query: &JournalQuery, entry: &JournalEntry) -> bool {
    query.subject.is_none_or(|subject| subject == entry.subject)
        && query.site.is_none_or(|site| Some(site) == entry.site)
        && query.rule.as_ref().is_none_or(|rule| *rule == entry.rule)
}

/// The tables of one write.
struct Writer<'t> {
    database: &'t HealingDatabase,
    entries: Table<'t, u64, &'static [u8]>,
    index: Table<'t, &'static [u8], ()>,
    active: Table<'t, &'static [u8], (u64, &'static [u8])>,
    ended: Table<'t, &'static [u8], (i64, i64)>,
}

impl<'t> Writer<'t> {
    fn open(database: &'t HealingDatabase, transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        let error = |cause: redb::TableError| database.error(cause);
        Ok(Writer {
            database,
            entries: transaction.open_table(ENTRIES).map_err(error)?,
            index: transaction.open_table(INDEX).map_err(error)?,
            active: transaction.open_table(ACTIVE).map_err(error)?,
            ended: transaction.open_table(ENDED).map_err(error)?,
        })
    }

    fn error(&self, cause: redb::StorageError) -> StoreError {
        self.database.error(cause)
    }

    fn last(&self) -> Result<u64, StoreError> {
        let last = self.entries.last().map_err(|cause| self.error(cause))?;
        Ok(last.map_or(0, |(sequence, _)| sequence.value()))
    }

    fn after(&self, sequence: u64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let error = |cause: redb::StorageError| self.database.error(cause);
        let range = self.entries.range(sequence.saturating_add(1)..).map_err(error)?;
        range
            .map(|item| item.map(|(at, bytes)| (at.value(), bytes.value().to_vec())).map_err(error))
            .collect()
    }

    /// Writes an entry under this number, unless the journal says so already.
    fn append(&mut self, sequence: u64, entry: &JournalEntry, bytes: &[u8]) -> Result<bool, StoreError> {
        let database = self.database;
        let error = |cause: redb::StorageError| database.error(cause);
        let key = message_key(entry);
        match entry.kind {
            EntryKind::Raised => {
                let ended = self.ended.get(key.as_slice()).map_err(error)?.map(|ended| ended.value());
                let is_active = self.active.get(key.as_slice()).map_err(error)?.is_some();
                // The same decision, offered again. The beginning alone does not tell: a rule that counts from a
                // fixed instant may end and begin again with the same one.
                if is_active || ended == Some((entry.since.0, entry.at.0)) {
                    return Ok(false);
                }
                self.active.insert(key.as_slice(), (sequence, bytes)).map_err(error)?;
            }
            EntryKind::Cleared => {
                let Some(raised) = self.active.remove(key.as_slice()).map_err(error)? else {
                    return Ok(false);
                };
                let began = JournalEntry::decode(raised.value().1)?;
                drop(raised);
                self.ended.insert(key.as_slice(), (began.since.0, began.at.0)).map_err(error)?;
            }
        }
        self.entries.insert(sequence, bytes).map_err(error)?;
        for key in index_keys(entry, sequence) {
            self.index.insert(key.as_slice(), ()).map_err(error)?;
        }
        Ok(true)
    }

    fn prune(&mut self, last: u64, entries_max: u64, most: usize) -> Result<(), StoreError> {
        for _ in 0..most {
            let first = self.entries.first().map_err(|cause| self.error(cause))?;
            let Some(first) = first.map(|(sequence, _)| sequence.value()) else { break };
            if last - first < entries_max || !self.forget_first(|_| true)? {
                break;
            }
        }
        Ok(())
    }

    /// Forgets the oldest entry, if it is `old`.
    fn forget_first(&mut self, old: impl FnOnce(&JournalEntry) -> bool) -> Result<bool, StoreError> {
        let database = self.database;
        let error = |cause: redb::StorageError| database.error(cause);
        let first = self.entries.first().map_err(error)?;
        let first = first.map(|(sequence, bytes)| (sequence.value(), JournalEntry::decode(bytes.value())));
        let Some((sequence, entry)) = first else { return Ok(false) };
        let entry = entry?;
        if !old(&entry) {
            return Ok(false);
        }
        for key in index_keys(&entry, sequence) {
            self.index.remove(key.as_slice()).map_err(error)?;
        }
        if entry.kind == EntryKind::Cleared {
            let key = message_key(&entry);
            // A message that was raised after this end has an end of its own, which stays for longer. The
            // beginning tells too, for a clock that went back between raise and end.
            let ended = self.ended.get(key.as_slice()).map_err(error)?.map(|ended| ended.value());
            if ended.is_some_and(|(since, at)| at <= entry.at.0 || since == entry.since.0) {
                self.ended.remove(key.as_slice()).map_err(error)?;
            }
        }
        self.entries.remove(sequence).map_err(error)?;
        Ok(true)
    }
}

/// Subject and rule.
fn message_key(entry: &JournalEntry) -> Vec<u8> {
    [&entry.subject.to_bytes(), cut(&entry.rule).as_bytes()].concat()
}

/// A key is: what it is found by (tag and value), then time and number, both so that they sort as bytes.
fn index_keys(entry: &JournalEntry, sequence: u64) -> Vec<Vec<u8>> {
    let prefixes = [
        Some(by_time()),
        Some(by_subject(entry.subject)),
        entry.site.map(by_site),
        Some(by_rule(&entry.rule)),
    ];
    prefixes.into_iter().flatten().map(|prefix| place_key(&prefix, entry.at, sequence)).collect()
}

fn by_time() -> Vec<u8> {
    vec![0]
}

fn by_subject(subject: Subject) -> Vec<u8> {
    [[1].as_slice(), &subject.to_bytes()].concat()
}

fn by_site(site: SiteId) -> Vec<u8> {
    [[2].as_slice(), &site.0].concat()
}

fn by_rule(rule: &str) -> Vec<u8> {
    // The ending zero keeps one code from being the beginning of another.
    [[3].as_slice(), cut(rule).as_bytes(), &[0]].concat()
}

fn place_key(prefix: &[u8], at: UnixMillis, sequence: u64) -> Vec<u8> {
    let at = (at.0 as u64) ^ (1 << 63);
    [prefix, &at.to_be_bytes(), &sequence.to_be_bytes()].concat()
}

fn cursor_of(key: &[u8]) -> Result<PageCursor, StoreError> {
    let cut = || document::bad(&"a key of the index is cut");
    let (rest, sequence) = key.split_last_chunk::<8>().ok_or_else(cut)?;
    let (_, at) = rest.split_last_chunk::<8>().ok_or_else(cut)?;
    let at = UnixMillis((u64::from_be_bytes(*at) ^ (1 << 63)) as i64);
    Ok(PageCursor { at, sequence: u64::from_be_bytes(*sequence) })
}

impl Journal {
    /// The bound that servers use.
    pub(super) const ENTRIES_MAX: u64 = JOURNAL_ENTRIES_MAX;
}
