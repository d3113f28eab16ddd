//! The times of batches by block, so that a question about time need not read the whole log.
//!
//! A row says the earliest and latest wall clock among [`TIMES_BLOCK`] batches. A block without a row (of a store that
//! an older program began) is read. A row may be wider than its block: never narrower.

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use crate::limits::TIMES_BLOCK;

/// Number of the block to the earliest and latest time of its batches.
pub(super) const TIMES: TableDefinition<'_, u64, (i64, i64)> = TableDefinition::new("times");

/// The block of a batch.
pub(super) const fn block_of(sequence: u64) -> u64 {
    sequence.saturating_sub(1) / TIMES_BLOCK
}

/// The first batch of a block.
pub(super) const fn first_of(block: u64) -> u64 {
    block * TIMES_BLOCK + 1
}

/// Notes the times of batches that are appended from `first` on.
pub(super) fn note(
    transaction: &WriteTransaction,
    first: u64,
    times: impl Iterator<Item = i64>,
) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(TIMES)?;
    let mut open: Option<(u64, (i64, i64))> = None;
    for (sequence, at) in (first..).zip(times) {
        let block = block_of(sequence);
        let row = match open {
            Some((number, row)) if number == block => Some(row),
            _ => {
                if let Some((number, row)) = open.take() {
                    table.insert(number, row)?;
                }
                table.get(block)?.map(|row| row.value())
            }
        };
        open = match row {
            Some((least, most)) => Some((block, (least.min(at), most.max(at)))),
            None if sequence == first_of(block) => Some((block, (at, at))),
            // Its beginning is not known.
            None => None,
        };
    }
    if let Some((number, row)) = open {
        table.insert(number, row)?;
    }
    Ok(())
}
