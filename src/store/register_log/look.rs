//! Whether the log and its snapshots are sound.

use redb::TableError;

use super::times::{TIMES, block_of};
use super::{BATCHES, RegisterLog, fold, unfit};
use crate::fleet::Register;
use crate::store::document;
use crate::store::error::StoreError;

impl RegisterLog {
    /// Whether the pages of the database are as they were written.
    pub(in crate::store) fn check_integrity(&self) -> Result<bool, StoreError> {
        self.database.check_integrity()
    }

    /// Whether a batch can be read and follows.
    pub(in crate::store) fn check_batch(
        &self,
        register: &mut Register,
        sequence: u64,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        fold(register, &document::decode_batch(bytes)?, sequence)
    }

    /// Whether the times of each block are within its row.
    pub(in crate::store) fn check_times(&self) -> Result<(), StoreError> {
        let end = self.position();
        self.database.read(|transaction| {
            let error = |cause: redb::StorageError| self.database.error(cause);
            let times = match transaction.open_table(TIMES) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(()),
                table => table.map_err(|cause| self.database.error(cause))?,
            };
            let batches = transaction.open_table(BATCHES).map_err(|cause| self.database.error(cause))?;
            let (mut block, mut row) = (u64::MAX, None);
            for item in batches.range(1..=end.sequence).map_err(error)? {
                let (sequence, bytes) = item.map_err(error)?;
                let sequence = sequence.value();
                if block_of(sequence) != block {
                    block = block_of(sequence);
                    row = times.get(block).map_err(error)?.map(|row| row.value());
                }
                let at = document::decode_head(&mut minicbor::Decoder::new(bytes.value()))?.at.0;
                if row.is_some_and(|(least, most)| at < least || most < at) {
                    return Err(StoreError::Corrupt {
                        what: "the index of times".to_owned(),
                        why: format!("batch {sequence} is outside of its block"),
                        remedy: "searching the audit log by time may miss some of it; restore from a backup",
                    });
                }
            }
            Ok(())
        })
    }

    /// What is wrong with snapshots; `now` is the whole log, folded.
    pub(in crate::store) fn check_snapshots(&self, now: &Register) -> Vec<StoreError> {
        let mut wrong = Vec::new();
        for path in self.snapshot_paths() {
            let led_on = self.load_snapshot(&path).and_then(|loaded| {
                let Some((mut register, from)) = loaded else { return Ok(()) };
                self.each_after(from, |sequence, batch| {
                    fold(&mut register, &batch, sequence)?;
                    Ok(true)
                })?;
                if register == *now { Ok(()) } else { Err(unfit("it is not what the log says")) }
            });
            if let Err(error) = led_on {
                let why = match error {
                    StoreError::Corrupt { why, .. } => why,
                    other => other.to_string(),
                };
                let what = format!("the snapshot {}", path.display());
                let remedy = "delete that file: the log says the same, and reading it takes longer once";
                wrong.push(StoreError::Corrupt { what, why, remedy });
            }
        }
        wrong
    }
}
