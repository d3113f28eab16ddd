//! The register as it was: at a place of the log, or at a time.
//!
//! A state is always that after some batch. Which batch belongs to a time is the wall clock's word, and wall clocks are
//! set: a machine that starts without a battery lives in 1970 for a minute, another one in 2099. So the place is the
//! one that the fewest batches contradict: before it few that say "later", after it few that say "not later". Of equal
//! places it is the last. Where the clock only ever went on nothing contradicts, and where it lied for a while only
//! those moments are misplaced.
//!
//! From the nearest state that there is, forwards or backwards: nothing, and the snapshots. The price is a
//! microsecond or two for each change between, or the reading of a snapshot.

use super::times::{TIMES, block_of, first_of};
use super::{BATCHES, RegisterLog, fold};
use crate::fleet::Register;
use crate::limits::TIMES_BLOCK;
use crate::store::document;
use crate::store::error::StoreError;
use crate::store::position::Position;
use crate::time::UnixMillis;

/// A register of the past.
#[derive(Debug)]
pub struct PastRegister {
    /// The state.
    pub register: Register,
    /// The last batch that it includes.
    pub position: Position,
    /// Batches whose wall clock contradicts that this is how it was at the time asked for.
    pub contradicting: u64,
}

impl RegisterLog {
    /// The register as it was at a time.
    pub fn load_as_of(&self, at: UnixMillis) -> Result<PastRegister, StoreError> {
        let (position, contradicting) = self.position_as_of(at)?;
        Ok(PastRegister { register: self.load_at(position)?, position, contradicting })
    }

    /// The last batch that had been made at a time, and how many batches contradict that.
    pub fn position_as_of(&self, at: UnixMillis) -> Result<(Position, u64), StoreError> {
        let end = self.position();
        let mut best = Best::default();
        self.database.read(|transaction| {
            let error = |cause: redb::StorageError| self.database.error(cause);
            let batches = transaction.open_table(BATCHES).map_err(|cause| self.database.error(cause))?;
            let times = match transaction.open_table(TIMES) {
                Err(redb::TableError::TableDoesNotExist(_)) => None,
                table => Some(table.map_err(|cause| self.database.error(cause))?),
            };
            let mut next = 1;
            while next <= end.sequence {
                let block = block_of(next);
                let last = (first_of(block) + TIMES_BLOCK - 1).min(end.sequence);
                let row = match &times {
                    Some(times) => times.get(block).map_err(error)?.map(|row| row.value()),
                    None => None,
                };
                match row {
                    Some((_, most)) if most <= at.0 => best.take(last, last + 1 - next, true),
                    Some((least, _)) if least > at.0 => best.take(last, last + 1 - next, false),
                    _ => {
                        for item in batches.range(next..=last).map_err(error)? {
                            let (sequence, bytes) = item.map_err(error)?;
                            let mut decoder = minicbor::Decoder::new(bytes.value());
                            let is_before = document::decode_head(&mut decoder)?.at <= at;
                            best.take(sequence.value(), 1, is_before);
                        }
                    }
                }
                next = last + 1;
            }
            Ok(())
        })?;
        Ok((end.at(best.sequence), best.contradicting()))
    }

    /// The register after a batch.
    pub fn load_at(&self, position: Position) -> Result<Register, StoreError> {
        self.own(position)?;
        let end = self.position();
        if position.sequence > end.sequence {
            return Err(StoreError::Conflict { expected: position, actual: end });
        }
        let mut nearest = (position.sequence, None);
        for path in self.snapshot_paths() {
            // A snapshot that can't be used is told at the start; here another way does as well.
            if let Ok(Some(sequence)) = self.snapshot_sequence(&path)
                && sequence.abs_diff(position.sequence) < nearest.0
            {
                nearest = (sequence.abs_diff(position.sequence), Some(path));
            }
        }
        let loaded = nearest.1.and_then(|path| self.load_snapshot(&path).ok().flatten());
        let (mut register, from) = loaded.unwrap_or_else(|| (Register::new(), 0));
        if from <= position.sequence {
            self.each_after(from, |sequence, batch| {
                if sequence <= position.sequence {
                    fold(&mut register, &batch, sequence)?;
                }
                Ok(sequence < position.sequence)
            })?;
        } else {
            self.unfold(&mut register, from, position.sequence)?;
        }
        Ok(register)
    }

    /// Leads a register that is at `from` back to `to`.
    fn unfold(&self, register: &mut Register, from: u64, to: u64) -> Result<(), StoreError> {
        self.database.read(|transaction| {
            let table = transaction.open_table(BATCHES).map_err(|cause| self.database.error(cause))?;
            let error = |cause: redb::StorageError| self.database.error(cause);
            let mut expected = from;
            for item in table.range(to + 1..=from).map_err(error)?.rev() {
                let (sequence, bytes) = item.map_err(error)?;
                if sequence.value() != expected {
                    return Err(document::bad(&format!("batch {expected} is missing")));
                }
                let batch = document::decode_batch(bytes.value())?;
                let undone = register.unfold(&batch);
                undone.map_err(|cause| document::bad(&format!("batch {expected}, backwards: {cause}")))?;
                expected -= 1;
            }
            Ok(())
        })
    }
}

/// The place that the fewest batches contradict, looked for from the beginning.
#[derive(Default)]
struct Best {
    /// Batches so far that say "later", minus those that say "not later".
    score: i64,
    /// Those that say "not later", all of them.
    not_later: i64,
    least: i64,
    sequence: u64,
}

impl Best {
    /// Some batches that end at `last` and all say the same.
    fn take(&mut self, last: u64, count: u64, not_later: bool) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        if not_later {
            self.score -= count;
            self.not_later += count;
        } else {
            self.score += count;
        }
        if self.score <= self.least {
            (self.least, self.sequence) = (self.score, last);
        }
    }

    fn contradicting(&self) -> u64 {
        u64::try_from(self.not_later + self.least).unwrap_or(0)
    }
}
