//! Certificates that the register takes back.

use crate::fleet::{Batch, Change, Edit};
use crate::identity::{FileError, Revocations, Serial};
use crate::live::Lifecycle;

/// Revokes the certificates that a batch takes back: those of deleted sensors, and all of a sensor that has none any
/// more. Before the batch is durable: if it then can't be, certificates are gone that somebody wanted gone; the other
/// way round a crash would leave them good.
pub(in crate::server) fn revoke(batch: &Batch, revocations: &Revocations) -> Result<(), FileError> {
    let mut serials: Vec<Serial> = Vec::new();
    for change in &batch.changes {
        let Change::Sensor(Edit { before: Some(before), after }) = change else { continue };
        let kept = after.as_ref().filter(|sensor| sensor.lifecycle != Lifecycle::Deleted);
        if kept.is_none_or(|sensor| sensor.more.credentials.is_empty()) {
            let held = before.more.credentials.iter();
            serials.extend(held.filter_map(|held| held.serial.parse::<Serial>().ok()));
        }
    }
    if !serials.is_empty() {
        revocations.revoke(&serials, batch.at)?;
    }
    Ok(())
}
