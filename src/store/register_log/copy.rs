//! The log's batches as they are, for backups and for looking whether they are sound.

use super::times;
use super::{BATCHES, RegisterLog, fold};
use crate::fleet::Register;
use crate::store::document;
use crate::store::error::StoreError;
use crate::store::position::Position;

/// Takes a batch: its number, its bytes.
pub(in crate::store) type TakeBatch<'a, E> = dyn FnMut(u64, &[u8]) -> Result<(), E> + 'a;

impl RegisterLog {
    /// Hands out the bytes of every batch up to a place, oldest first; says how many there were.
    pub(in crate::store) fn copy_out<E: From<StoreError>>(
        &self,
        until: Position,
        take: &mut TakeBatch<'_, E>,
    ) -> Result<u64, E> {
        let mut failed = None;
        let read = self.database.read(|transaction| {
            let table = transaction.open_table(BATCHES).map_err(|cause| self.database.error(cause))?;
            let error = |cause: redb::StorageError| self.database.error(cause);
            let mut copied = 0;
            for item in table.range(1..=until.sequence).map_err(error)? {
                let (sequence, bytes) = item.map_err(error)?;
                copied += 1;
                if sequence.value() != copied {
                    return Err(document::bad(&format!("batch {copied} is missing")));
                }
                if let Err(error) = take(copied, bytes.value()) {
                    failed = Some(error);
                    break;
                }
            }
            Ok(copied)
        })?;
        failed.map_or(Ok(read), Err)
    }

    /// Appends batches as they were copied out, and folds them: what does not follow is not taken.
    pub(in crate::store) fn copy_in(
        &self,
        register: &mut Register,
        batches: &[Vec<u8>],
    ) -> Result<(), StoreError> {
        if batches.is_empty() {
            return Ok(());
        }
        let first = self.position().sequence + 1;
        let mut at = Vec::with_capacity(batches.len());
        for (sequence, bytes) in (first..).zip(batches) {
            let batch = document::decode_batch(bytes)?;
            fold(register, &batch, sequence)?;
            at.push(batch.at.0);
        }
        self.database.write(|transaction| {
            let mut table = transaction.open_table(BATCHES).map_err(|cause| self.database.error(cause))?;
            for (sequence, bytes) in (first..).zip(batches) {
                table.insert(sequence, bytes.as_slice()).map_err(|cause| self.database.error(cause))?;
            }
            let noted = times::note(transaction, first, at.into_iter());
            noted.map_err(|cause| self.database.error(cause))
        })?;
        self.last.store(first - 1 + batches.len() as u64, std::sync::atomic::Ordering::Release);
        Ok(())
    }
}
