//! Rules on their way, for the checkpoint: what was about to become a message, or to end, goes on after a
//! restart from where it stood. A crash loses at most what happened since the last checkpoint, so a raise
//! or an end comes at most its own raise-after or clear-after later.

use super::slot::Wait;
use super::{Engine, handle_of};
use crate::health::catalogue::RuleId;
use crate::live::SlotHandle;
use crate::time::MonoNanos;
use crate::wire::id::SensorId;

/// First bytes of the image, with its layout version.
const MAGIC: [u8; 4] = *b"FPW1";
/// Set in the rule's byte when the rule is active, so on its way to end.
const ENDS: u8 = 0x80;
/// Sensor id, rule, nanoseconds.
const RECORD_BYTES: usize = 16 + 1 + 8;

/// Bytes that are not an image of rules on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an image of pending rules")]
pub struct BadPendingImage;

impl Engine {
    /// Rules on their way, with how long they have been so.
    pub fn pending_image(&self, now: MonoNanos) -> Vec<u8> {
        let mut image = Vec::with_capacity(MAGIC.len() + self.waits.len() * RECORD_BYTES);
        image.extend_from_slice(&MAGIC);
        for (&(index, rule), &wait) in &self.waits {
            let Some(slot) = self.slots.get(index as usize) else { continue };
            let elapsed = match wait {
                Wait::Since(since) => now.0.saturating_sub(since.0),
                Wait::Held(elapsed) => elapsed,
            };
            image.extend_from_slice(&slot.id.0);
            let ends = if slot.active & rule.bit() != 0 { ENDS } else { 0 };
            image.push(rule as u8 | ends);
            image.extend_from_slice(&elapsed.to_le_bytes());
        }
        image
    }

    /// Takes such an image over, before the first sweep. Records of rules that this version does not know
    /// are skipped.
    pub fn restore_pending(&mut self, image: &[u8]) -> Result<(), BadPendingImage> {
        let records = image.strip_prefix(&MAGIC).ok_or(BadPendingImage)?.chunks_exact(RECORD_BYTES);
        if !records.remainder().is_empty() {
            return Err(BadPendingImage);
        }
        for record in records {
            let (id, rest) = record.split_first_chunk::<16>().ok_or(BadPendingImage)?;
            let (rule, elapsed) = rest.split_first().ok_or(BadPendingImage)?;
            let elapsed = elapsed.first_chunk::<8>().ok_or(BadPendingImage)?;
            let ends = *rule & ENDS != 0;
            if let Some(known) = RuleId::from_number(*rule & !ENDS) {
                let waits = self.restored_waits.entry(SensorId(*id)).or_default();
                waits.push((known, ends, u64::from_le_bytes(*elapsed)));
            }
        }
        Ok(())
    }

    /// The handle under which a slot was last judged.
    pub fn judged_handle(&self, index: u32) -> Option<SlotHandle> {
        self.slots.get(index as usize).map(|slot| handle_of(slot, index)).filter(|h| h.generation != 0)
    }
}
