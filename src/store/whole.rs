//! Whether all of a store is there. A database that is missing would be made anew, and be empty: so before that, what
//! else lies there is asked whether there was one.

use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::{Journal, RegisterLog};

/// The databases, in the order in which a new store makes them.
const DATABASES: [&str; 2] = ["register.redb", "journal.redb"];

/// What comes after the databases: it is there only if they were.
const LATER: [&str; 5] = [
    "register.snapshot",
    "register.snapshot.previous",
    "live.checkpoint",
    "live.checkpoint.previous",
    "history",
];

pub(super) const RESTORE: &str =
    "put it back, or restore a backup into a new data directory (`fleetpulse store restore`)";

/// The first database that is not there. A store that was begun, and whose making was cut short, lacks one too.
pub(super) fn missing(dir: &Path) -> Option<PathBuf> {
    DATABASES.iter().map(|name| dir.join(name)).find(|path| !path.exists())
}

/// Refuses a store that had a database which is not there any more.
pub(super) fn nothing_is_gone(dir: &Path) -> Result<(), StoreError> {
    for (number, name) in DATABASES.iter().enumerate() {
        let path = dir.join(name);
        if path.exists() {
            continue;
        }
        let witnesses = DATABASES.iter().skip(number + 1).chain(&LATER);
        if let Some(witness) = witnesses.map(|name| dir.join(name)).find(|path| path.exists()) {
            return Err(StoreError::Corrupt {
                what: path.display().to_string(),
                why: format!("it is gone, and {} says that there was one", witness.display()),
                remedy: RESTORE,
            });
        }
    }
    Ok(())
}

/// Refuses a register's log that has lost its end, or all of it.
pub(super) fn not_begun_anew(register: &RegisterLog, journal: &Journal) -> Result<(), StoreError> {
    register.check_against_snapshots()?;
    // Nothing is said of a fleet of which nothing was declared.
    let entries = journal.position().sequence;
    if register.position().sequence == 0 && entries > 0 {
        return Err(StoreError::Corrupt {
            what: "the register's log".to_owned(),
            why: format!("it is empty, and the journal beside it has {entries} entries"),
            remedy: RESTORE,
        });
    }
    Ok(())
}
