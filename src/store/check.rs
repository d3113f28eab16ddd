//! Is it sound? Reads every batch, entry, document and block, folds the register from its first batch, and holds it
//! against the snapshots.
//!
//! Of a store that nobody else uses: it takes the lock. It mends nothing, but for what opening a database after a
//! crash always does.

use std::path::Path;

use super::error::StoreError;
use super::whole::{self, RESTORE};
use super::{BackupError, Store, checkpoint::LoadedCheckpoint};
use crate::fleet::Register;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// With what, and what.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
    /// Nothing that was acknowledged is lost or wrong: the store can be used as it is.
    pub harmless: bool,
}

/// What a look at a store found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What is wrong; empty = nothing.
    pub findings: Vec<Finding>,
    /// Batches of the register that were read.
    pub batches: u64,
    /// Sensors that are registered.
    pub sensors: u64,
    /// Entries of the journal that were read.
    pub entries: u64,
    /// Blocks of history that were read.
    pub blocks: u64,
}

impl CheckReport {
    /// True when the store can be used as it is.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.harmless)
    }

    fn add(&mut self, error: StoreError, harmless: bool) {
        let finding = match error {
            StoreError::Corrupt { what, why, remedy } => {
                Finding { problem: format!("{what} is damaged: {why}"), remedy: remedy.to_owned(), harmless }
            }
            other => Finding {
                problem: other.to_string(),
                remedy: "mend that, then check again".to_owned(),
                harmless,
            },
        };
        self.findings.push(finding);
    }
}

/// Looks at a store that no server uses. The error is of a directory that can't be looked at at all.
pub fn check(dir: &Path) -> Result<CheckReport, StoreError> {
    if !dir.join("FORMAT").exists() {
        return Err(StoreError::NotAStore { dir: dir.to_owned() });
    }
    let mut report = CheckReport::default();
    // Opening would make it.
    if let Some(path) = whole::missing(dir)
        && whole::nothing_is_gone(dir).is_ok()
    {
        report.findings.push(Finding {
            problem: format!("{} is not there: the store was begun, and never used", path.display()),
            remedy: "start the server, which makes it; if there was a fleet, restore a backup".to_owned(),
            harmless: true,
        });
        return Ok(report);
    }
    let store = match Store::open(dir) {
        Ok(store) => store,
        Err(error @ StoreError::Corrupt { .. }) => {
            report.add(error, false);
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    for integrity in [store.register.check_integrity(), store.journal.check_integrity()] {
        match integrity {
            Ok(true) => {}
            Ok(false) => report.findings.push(Finding {
                problem: "the bookkeeping of a database was not as it should be, and was mended".to_owned(),
                remedy: "check again; if it comes back, look at the disk".to_owned(),
                harmless: true,
            }),
            Err(error) => report.add(error, false),
        }
    }
    if report.is_sound() {
        check_register(&store, &mut report);
        check_journal(&store, &mut report);
    }
    let LoadedCheckpoint { errors, .. } = store.checkpoint.load();
    errors.into_iter().for_each(|error| report.add(error, true));
    let mut wrong = Vec::new();
    match store.history.look(&mut |error| wrong.push(error)) {
        Ok(blocks) => report.blocks = blocks,
        Err(error) => report.add(error, true),
    }
    wrong.into_iter().for_each(|error| report.add(error, true));
    Ok(report)
}

fn check_register(store: &Store, report: &mut CheckReport) {
    let mut register = Register::new();
    let end = store.register.position();
    let copied = store.register.copy_out::<BackupError>(end, &mut |sequence, bytes| {
        store.register.check_batch(&mut register, sequence, bytes)?;
        report.batches += 1;
        Ok(())
    });
    if let Err(BackupError::Store(error)) = copied {
        report.add(error, false);
        if let Some(finding) = report.findings.last_mut() {
            finding.remedy = RESTORE.to_owned();
        }
        return;
    }
    report.sensors = register.counts().sensors as u64;
    match store.register.check_times() {
        Ok(()) => {}
        Err(error) => report.add(error, true),
    }
    for wrong in store.register.check_snapshots(&register) {
        report.add(wrong, true);
    }
}

fn check_journal(store: &Store, report: &mut CheckReport) {
    match store.journal.look() {
        Ok(entries) => report.entries = entries,
        Err(error) => {
            report.add(error, false);
            if let Some(finding) = report.findings.last_mut() {
                finding.remedy = RESTORE.to_owned();
            }
        }
    }
}
