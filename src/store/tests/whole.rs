//! A store of which something is gone: it is never begun anew, and never called sound.

use std::fs;
use std::path::Path;

use super::{add_sensor, fixtures, ground, plan};
use crate::fleet::Register;
use crate::store::{CheckReport, EntryKind, JournalEntry, Store, StoreError, check};

/// Something declared, a snapshot of it, an entry of the journal, and an image.
fn make(dir: &Path) -> Register {
    let store = Store::open(dir).expect("a new store");
    let mut register = Register::new();
    give(&store, &mut register, 1);
    store.register.write_snapshot(&register, store.register.position()).expect("a snapshot");
    let raised = JournalEntry { kind: EntryKind::Raised, ..fixtures().1 };
    assert!(store.journal.append(&[raised]).expect("written")[0].is_some());
    store.checkpoint.save(b"an image").expect("saved");
    register
}

fn give(store: &Store, register: &mut Register, sensor: u64) {
    let mut commands = Vec::new();
    if register.counts().sites == 0 {
        commands.extend(ground());
    }
    commands.push(add_sensor(sensor));
    let batch = plan(register, &commands, 1);
    store.register.append(store.register.position(), &batch).expect("appended");
    register.fold(&batch).expect("folds");
}

fn refused(dir: &Path) -> CheckReport {
    let report = check(dir).expect("looked at");
    assert!(!report.is_sound(), "{report:?}");
    // Never to delete what may be the last copy.
    let serious: Vec<_> = report.findings.iter().filter(|finding| !finding.harmless).collect();
    assert!(serious.iter().all(|finding| finding.remedy.contains("restore")), "{report:?}");
    let opened = Store::open(dir).map(drop);
    assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{opened:?}");
    report
}

/// Removes all of these.
fn lose(dir: &Path, names: &[&str]) {
    for name in names {
        let path = dir.join(name);
        let lost = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        lost.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn a_register_that_is_gone_is_not_begun_anew() {
    let every = ["register.snapshot", "journal.redb", "live.checkpoint", "history"];
    for witness in every {
        let dir = tempfile::tempdir().expect("a directory");
        make(dir.path());
        lose(dir.path(), &["register.redb"]);
        let others: Vec<_> = every.into_iter().filter(|name| *name != witness).collect();
        lose(dir.path(), &others);
        refused(dir.path());
        assert!(!dir.path().join("register.redb").exists(), "{witness}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    make(dir.path());
    lose(dir.path(), &["journal.redb"]);
    refused(dir.path());
    assert!(!dir.path().join("journal.redb").exists());
}

#[test]
fn an_empty_register_beside_what_speaks_of_one_is_not_sound() {
    for others in [[].as_slice(), &["register.snapshot"], &["journal.redb"]] {
        let dir = tempfile::tempdir().expect("a directory");
        make(dir.path());
        // A new log, and a file of no length: the database makes itself anew in it.
        fs::write(dir.path().join("register.redb"), b"").expect("written");
        if others == ["journal.redb"] {
            fs::write(dir.path().join("journal.redb"), b"").expect("written");
        } else {
            lose(dir.path(), others);
        }
        refused(dir.path());
        refused(dir.path());
    }
}

#[test]
fn a_log_that_lost_its_end_is_not_sound() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut register = make(dir.path());
    let (log, old) = (dir.path().join("register.redb"), dir.path().join("old"));
    fs::copy(&log, &old).expect("copied");
    let store = Store::open(dir.path()).expect("opens");
    give(&store, &mut register, 2);
    store.register.write_snapshot(&register, store.register.position()).expect("a snapshot");
    drop(store);
    assert!(check(dir.path()).expect("looked at").is_sound());
    fs::rename(&old, &log).expect("put back");
    refused(dir.path());
}

#[test]
fn a_store_whose_making_was_cut_short_is_made_by_opening_it_and_not_by_a_check() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("FORMAT"), "fleetpulse store 1\n").expect("written");
    let report = check(dir.path()).expect("looked at");
    assert!(report.is_sound() && report.findings.len() == 1, "{report:?}");
    assert!(!dir.path().join("register.redb").exists());
    drop(Store::open(dir.path()).expect("made"));
    assert!(check(dir.path()).expect("looked at").findings.is_empty());
    // A snapshot of the empty register, as a server writes when it stops, changes nothing.
    let store = Store::open(dir.path()).expect("opens");
    store.register.write_snapshot(&Register::new(), store.register.position()).expect("a snapshot");
    drop(store);
    drop(Store::open(dir.path()).expect("opens"));
}
