//! Whether the journal is sound.

use redb::ReadableTableMetadata;

use super::{ACTIVE, ENTRIES, INDEX, Journal, index_keys, message_key};
use crate::store::document;
use crate::store::entry::{EntryKind, JournalEntry};
use crate::store::error::StoreError;

impl Journal {
    /// Whether the pages of the database are as they were written.
    pub(in crate::store) fn check_integrity(&self) -> Result<bool, StoreError> {
        self.database.check_integrity()
    }

    /// Reads every entry and looks whether the index and the active messages say the same; says how many there are.
    pub(in crate::store) fn look(&self) -> Result<u64, StoreError> {
        self.database.read(|transaction| {
            let error = |cause: redb::StorageError| self.database.error(cause);
            let open = |cause: redb::TableError| self.database.error(cause);
            let entries = transaction.open_table(ENTRIES).map_err(open)?;
            let index = transaction.open_table(INDEX).map_err(open)?;
            let active = transaction.open_table(ACTIVE).map_err(open)?;
            let (mut count, mut indexed) = (0, 0);
            for item in entries.range(0..).map_err(error)? {
                let (sequence, bytes) = item.map_err(error)?;
                let sequence = sequence.value();
                let entry = JournalEntry::decode(bytes.value())?;
                for key in index_keys(&entry, sequence) {
                    indexed += 1;
                    if index.get(key.as_slice()).map_err(error)?.is_none() {
                        return Err(document::bad(&format!("the index misses entry {sequence}")));
                    }
                }
                count += 1;
            }
            if index.len().map_err(error)? != indexed {
                return Err(document::bad(&"the index of the journal names entries that are gone"));
            }
            for item in active.range::<&[u8]>(..).map_err(error)? {
                let (key, value) = item.map_err(error)?;
                let (sequence, bytes) = value.value();
                let entry = JournalEntry::decode(bytes)?;
                let there = entries.get(sequence).map_err(error)?;
                // What raised it may be forgotten by now.
                let same = there.is_none_or(|there| there.value() == bytes);
                if entry.kind != EntryKind::Raised || message_key(&entry) != key.value() || !same {
                    return Err(document::bad(&"an active message is not as it was raised"));
                }
            }
            Ok(count)
        })
    }
}
