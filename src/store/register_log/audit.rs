//! The log as the audit log: who did what, newest or oldest first, a page at a time.
//!
//! There is no index but that of time: a page looks at so many batches and says where to go on. Of a batch that does
//! not match only its head is read.

use super::times::{TIMES, block_of, first_of};
use super::{BATCHES, RegisterLog};
use crate::fleet::{ActorKind, Batch};
use crate::limits::{AUDIT_PAGE_BYTES_MAX, AUDIT_SCAN_BYTES_MAX, AUDIT_SCAN_MAX, PAGE_MAX};
use crate::store::document::{self, BatchHead};
use crate::store::error::StoreError;
use crate::store::position::Position;
use crate::time::UnixMillis;
use minicbor::Decoder;
use std::ops::Range;

/// What to look for. Empty: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// By somebody of this kind.
    pub actor_kind: Option<ActorKind>,
    /// By somebody of this name, or with a token of theirs (`name/token`).
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// That changed the document with this id, of whatever kind, or is about it.
    pub subject: Option<[u8; 16]>,
    /// Then or later, by the wall clock of the batch.
    pub from: Option<UnixMillis>,
    /// Before then.
    pub until: Option<UnixMillis>,
    /// Oldest first; newest first otherwise.
    pub oldest_first: bool,
    /// Where to go on: entries before this place, or, oldest first, this place and those after it.
    pub edge: Option<Position>,
    /// Entries of one page; at most [`PAGE_MAX`], which 0 stands for.
    pub limit: usize,
}

/// One page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditPage {
    /// What was found, with its place, which is also its id.
    pub entries: Vec<(Position, Batch)>,
    /// Where to go on; `None` at the end. A page can be short, even empty, and still go on: it says so after looking
    /// at [`AUDIT_SCAN_MAX`] batches, or when it is large.
    pub next: Option<Position>,
}

impl RegisterLog {
    /// What matches, in the order of the log. A cursor of another log is a [`StoreError::Conflict`].
    ///
    /// The order is that of the log, not of the wall clock, which may have been set back: nothing is left out for that.
    pub fn audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        self.audit_where(query, &|_| true)
    }

    /// Of what matches, what is wanted. No lock is held while that is asked.
    pub fn audit_where(
        &self,
        query: &AuditQuery,
        wanted: &dyn Fn(&Batch) -> bool,
    ) -> Result<AuditPage, StoreError> {
        let limit = if query.limit == 0 { PAGE_MAX } else { query.limit.min(PAGE_MAX) };
        let end = self.position();
        let beyond = end.sequence.saturating_add(1);
        let edge = query.edge.unwrap_or(end.at(if query.oldest_first { 1 } else { beyond }));
        self.own(edge)?;
        self.database.read(|transaction| {
            let error = |cause: redb::StorageError| self.database.error(cause);
            let batches = transaction.open_table(BATCHES).map_err(|cause| self.database.error(cause))?;
            let times = match transaction.open_table(TIMES) {
                Err(redb::TableError::TableDoesNotExist(_)) => None,
                table => Some(table.map_err(|cause| self.database.error(cause))?),
            };
            let mut page = AuditPage::default();
            let mut front = Front { at: edge.sequence.min(beyond), beyond, oldest_first: query.oldest_first };
            let (mut looked_at, mut read, mut given) = (0, 0, 0);
            while let Some((block, left)) = front.block() {
                if let Some(times) = &times
                    && let Some(row) = times.get(block).map_err(error)?
                    && !query.may_hold(row.value())
                {
                    front.pass(&left);
                    looked_at += 1;
                    continue;
                }
                let mut items = batches.range(left.clone()).map_err(error)?;
                while let Some(item) = if query.oldest_first { items.next() } else { items.next_back() } {
                    let full = page.entries.len() >= limit || given >= AUDIT_PAGE_BYTES_MAX;
                    if full || looked_at >= AUDIT_SCAN_MAX || read >= AUDIT_SCAN_BYTES_MAX {
                        page.next = Some(end.at(front.at));
                        return Ok(page);
                    }
                    let (sequence, bytes) = item.map_err(error)?;
                    let sequence = sequence.value();
                    front.pass(&(sequence..sequence + 1));
                    looked_at += 1;
                    let bytes = bytes.value();
                    let (matches, bytes_read) = query.matches(bytes)?;
                    read += bytes_read;
                    if let Some(batch) = matches.filter(wanted) {
                        given += bytes.len();
                        page.entries.push((end.at(sequence), batch));
                    }
                }
                front.pass(&left);
            }
            Ok(page)
        })
    }
}

/// How far the log was looked at.
struct Front {
    /// All below it is yet to be looked at; oldest first: it, and all above.
    at: u64,
    /// After the last batch.
    beyond: u64,
    oldest_first: bool,
}

impl Front {
    /// The next block, and what of it is yet to be looked at.
    fn block(&self) -> Option<(u64, Range<u64>)> {
        if self.oldest_first {
            let at = self.at.max(1);
            let block = block_of(at);
            (at < self.beyond).then(|| (block, at..first_of(block + 1).min(self.beyond)))
        } else {
            let block = block_of(self.at.saturating_sub(1));
            (self.at > 1).then(|| (block, first_of(block)..self.at))
        }
    }

    /// These were looked at, or need not be.
    fn pass(&mut self, these: &Range<u64>) {
        self.at = if self.oldest_first { these.end } else { these.start };
    }
}

impl AuditQuery {
    /// Whether batches between these times may match.
    fn may_hold(&self, (least, most): (i64, i64)) -> bool {
        self.from.is_none_or(|from| most >= from.0) && self.until.is_none_or(|until| least < until.0)
    }

    fn matches_head(&self, head: &BatchHead<'_>) -> bool {
        let by = |wanted: &str| {
            head.actor_name.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.may_hold((head.at.0, head.at.0))
            && self.actor_kind.is_none_or(|kind| kind == head.actor_kind)
            && self.actor.as_deref().is_none_or(by)
            && self.action.as_deref().is_none_or(|wanted| wanted == head.action)
    }

    /// The batch, if it matches, and how many bytes had to be read for that.
    fn matches(&self, bytes: &[u8]) -> Result<(Option<Batch>, usize), StoreError> {
        const HEAD_BYTES: usize = 128;
        let head = document::decode_head(&mut Decoder::new(bytes))?;
        if !self.matches_head(&head) {
            return Ok((None, HEAD_BYTES));
        }
        if let Some(subject) = &self.subject
            && !bytes.windows(subject.len()).any(|window| window == subject)
        {
            return Ok((None, bytes.len()));
        }
        let batch = document::decode_batch(bytes)?;
        let about = |id: [u8; 16]| batch.changes.iter().any(|change| change.id() == Some(id));
        let matches = self.subject.is_none_or(about);
        Ok((matches.then_some(batch), bytes.len()))
    }
}
