//! Backwards: a change has the document before and after, so a state can be led back through the log as well as on.

use super::{FoldError, Register};
use crate::fleet::change::{Batch, Change, Edit};
use crate::fleet::model::Sensor;
use crate::live::Lifecycle;

impl Register {
    /// Takes a batch back that was the last one taken in.
    pub fn unfold(&mut self, batch: &Batch) -> Result<(), FoldError> {
        for (index, change) in batch.changes.iter().enumerate().rev() {
            self.unfold_change(change).map_err(|what| FoldError { index, what })?;
        }
        Ok(())
    }

    fn unfold_change(&mut self, change: &Change) -> Result<(), String> {
        let back = match change.clone() {
            Change::Subscription(edit) => Change::Subscription(turned(edit)),
            Change::Site(edit) => Change::Site(turned(edit)),
            Change::Zone(edit) => Change::Zone(turned(edit)),
            Change::Sensor(edit) => return self.unfold_sensor(turned(edit)),
            Change::Gateway(edit) => Change::Gateway(turned(edit)),
            Change::User(edit) => Change::User(turned(edit)),
            Change::Token(edit) => Change::Token(turned(edit)),
            Change::Event(_) => return Ok(()),
        };
        self.fold_change(&back)
    }

    /// Forwards, a deleted sensor never comes back; backwards it does.
    fn unfold_sensor(&mut self, mut edit: Edit<Sensor>) -> Result<(), String> {
        let is_deleted = |sensor: &Sensor| sensor.lifecycle == Lifecycle::Deleted;
        if let Some(deleted) = edit.before.take_if(|before| is_deleted(before)) {
            if self.deleted.remove(&deleted.id).as_ref() != Some(&deleted) {
                return Err(format!("{:?} is not as the change left it", deleted.id));
            }
            self.index_activation(&Edit { before: Some(deleted), after: edit.after.clone() });
        }
        self.fold_change(&Change::Sensor(edit))
    }
}

fn turned<T>(edit: Edit<T>) -> Edit<T> {
    Edit { before: edit.after, after: edit.before }
}
