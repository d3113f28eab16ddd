//! The journal's rows as they are, for backups. The index is not copied: it follows from the entries.

use std::sync::atomic::Ordering;

use redb::ReadableTable;

use super::{ACTIVE, ENDED, ENTRIES, INDEX, Journal, index_keys};
use crate::store::backup::Kind;
use crate::store::document;
use crate::store::entry::JournalEntry;
use crate::store::error::StoreError;

/// Takes a row: which table, key, value.
pub(in crate::store) type TakeRow<'a, E> = dyn FnMut(Kind, &[u8], &[u8]) -> Result<(), E> + 'a;

impl Journal {
    /// Hands out every row, as of one moment; says how many entries there were.
    pub(in crate::store) fn copy_out<E: From<StoreError>>(
        &self,
        take: &mut TakeRow<'_, E>,
    ) -> Result<u64, E> {
        let mut failed = None;
        let copied = self.database.read(|transaction| {
            let error = |cause: redb::StorageError| self.database.error(cause);
            let entries = transaction.open_table(ENTRIES).map_err(|cause| self.database.error(cause))?;
            let active = transaction.open_table(ACTIVE).map_err(|cause| self.database.error(cause))?;
            let ended = transaction.open_table(ENDED).map_err(|cause| self.database.error(cause))?;
            let mut give = |kind, key: &[u8], value: &[u8]| {
                take(kind, key, value).map_err(|error| failed = Some(error)).is_ok()
            };
            let mut copied = 0;
            for item in entries.iter().map_err(error)? {
                let (sequence, bytes) = item.map_err(error)?;
                if !give(Kind::Entry, &sequence.value().to_be_bytes(), bytes.value()) {
                    return Ok(copied);
                }
                copied += 1;
            }
            for item in active.iter().map_err(error)? {
                let (key, value) = item.map_err(error)?;
                let (sequence, bytes) = value.value();
                if !give(Kind::Active, key.value(), &[&sequence.to_be_bytes(), bytes].concat()) {
                    return Ok(copied);
                }
            }
            for item in ended.iter().map_err(error)? {
                let (key, value) = item.map_err(error)?;
                let (since, at) = value.value();
                if !give(Kind::Ended, key.value(), &[since.to_be_bytes(), at.to_be_bytes()].concat()) {
                    return Ok(copied);
                }
            }
            Ok(copied)
        })?;
        failed.map_or(Ok(copied), Err)
    }

    /// Writes rows as they were copied out.
    pub(in crate::store) fn copy_in(&self, rows: &[(Kind, Vec<u8>, Vec<u8>)]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let cut = || document::bad(&"a row of the journal is cut");
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).map_err(|_| cut());
        let mut last = self.last.load(Ordering::Acquire);
        self.database.write(|transaction| {
            let error = |cause: redb::StorageError| self.database.error(cause);
            let open = |cause: redb::TableError| self.database.error(cause);
            let mut entries = transaction.open_table(ENTRIES).map_err(open)?;
            let mut index = transaction.open_table(INDEX).map_err(open)?;
            let mut active = transaction.open_table(ACTIVE).map_err(open)?;
            let mut ended = transaction.open_table(ENDED).map_err(open)?;
            for (kind, key, value) in rows {
                match kind {
                    Kind::Entry => {
                        let sequence = word(key)?;
                        let entry = JournalEntry::decode(value)?;
                        entries.insert(sequence, value.as_slice()).map_err(error)?;
                        for key in index_keys(&entry, sequence) {
                            index.insert(key.as_slice(), ()).map_err(error)?;
                        }
                        last = last.max(sequence);
                    }
                    Kind::Active => {
                        let (sequence, bytes) = value.split_first_chunk::<8>().ok_or_else(cut)?;
                        JournalEntry::decode(bytes)?;
                        let row = (u64::from_be_bytes(*sequence), bytes);
                        active.insert(key.as_slice(), row).map_err(error)?;
                    }
                    _ => {
                        let (since, at) = value.split_at_checked(8).ok_or_else(cut)?;
                        let row = (word(since)? as i64, word(at)? as i64);
                        ended.insert(key.as_slice(), row).map_err(error)?;
                    }
                }
            }
            Ok(())
        })?;
        self.last.store(last, Ordering::Release);
        Ok(())
    }
}
