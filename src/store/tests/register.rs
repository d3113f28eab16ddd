use super::{add_sensor, ground, plan};
use crate::fleet::{Command, Register};
use crate::live::Lifecycle;
use crate::store::{Position, Store, StoreError};
use crate::time::UnixMillis;
use crate::wire::id::{GatewayId, SensorId, SiteId};

#[test]
fn what_was_appended_is_there_after_opening_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut register = Register::new();
    let position = {
        let store = Store::open(dir.path().join("store")).expect("a new store");
        let mut position = store.register.position();
        let every = [
            ground().to_vec(),
            vec![add_sensor(1), add_sensor(2)],
            vec![Command::AddGateway {
                id: GatewayId::from_number(1),
                name: "gw".into(),
                sites: vec![SiteId::from_number(1)],
            }],
            vec![Command::SetLifecycle {
                id: SensorId::from_number(2),
                lifecycle: Lifecycle::PendingReactivation,
            }],
            vec![Command::DeleteSensor { id: SensorId::from_number(1) }],
        ];
        for (at, commands) in every.iter().enumerate() {
            let batch = plan(&register, commands, at as i64);
            position = store.register.append(position, &batch).expect("appended");
            register.fold(&batch).expect("folds");
        }
        position
    };
    let store = Store::open(dir.path().join("store")).expect("the same store");
    let loaded = store.register.load().expect("loads");
    assert_eq!((&loaded.register, loaded.position, loaded.replayed), (&register, position, 5));

    store.register.write_snapshot(&register, position).expect("a snapshot");
    let loaded = store.register.load().expect("loads");
    assert_eq!((&loaded.register, loaded.position, loaded.replayed), (&register, position, 0));

    let past = store.register.load_as_of(UnixMillis(1)).expect("the past");
    let counts = past.register.counts();
    assert_eq!((counts.sensors, counts.deleted, past.position.sequence, past.contradicting), (2, 0, 2, 0));
    let tail = store.register.read_from(position.at(3), 10).expect("the tail");
    assert_eq!(
        tail.iter().map(|(p, b)| (p.sequence, b.action.as_str())).collect::<Vec<_>>(),
        [(4, "set-lifecycle"), (5, "delete-sensor")]
    );
}

#[test]
fn a_batch_planned_on_an_older_state_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("a new store");
    let start = store.register.position();
    let batch = plan(&Register::new(), &ground(), 1);
    let first = store.register.append(start, &batch).expect("appended");
    let other = plan(&Register::new(), &ground(), 2);
    let error = store.register.append(start, &other).expect_err("another batch at the same place");
    assert!(matches!(error, StoreError::Conflict { actual, .. } if actual == first), "{error}");
    let foreign: Position = format!("{:032x}.1", 7).parse().expect("a position");
    assert!(matches!(store.register.append(foreign, &other), Err(StoreError::Conflict { .. })));
    assert!(matches!(store.register.read_from(foreign, 1), Err(StoreError::Conflict { .. })));
    assert_eq!(store.register.position(), first);
}

#[test]
fn a_damaged_snapshot_costs_time_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("a new store");
    let mut register = Register::new();
    let mut position = store.register.position();
    for commands in [ground().to_vec(), vec![add_sensor(1)], vec![add_sensor(2)]] {
        let batch = plan(&register, &commands, 1);
        position = store.register.append(position, &batch).expect("appended");
        register.fold(&batch).expect("folds");
        store.register.write_snapshot(&register, position).expect("a snapshot");
    }
    let path = dir.path().join("register.snapshot");
    let good = std::fs::read(&path).expect("a snapshot");
    for (damage, errors, replayed) in [(good.len() / 2, 1, 1), (4, 1, 1), (good.len() - 1, 1, 1)] {
        let mut bad = good.clone();
        bad[damage] ^= 0x10;
        std::fs::write(&path, bad).expect("written");
        let loaded = store.register.load().expect("loads from the previous one");
        assert_eq!((&loaded.register, loaded.position), (&register, position));
        assert_eq!((loaded.snapshot_errors.len(), loaded.replayed), (errors, replayed));
    }
    std::fs::write(dir.path().join("register.snapshot.previous"), b"rubbish").expect("written");
    let loaded = store.register.load().expect("loads from the log");
    assert_eq!((&loaded.register, loaded.snapshot_errors.len(), loaded.replayed), (&register, 2, 3));
}

#[test]
fn a_second_server_is_kept_out_and_foreign_directories_are_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("a new store");
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Locked { .. })));
    drop(store);
    let store = Store::open(dir.path()).expect("free again");
    store.probe_writable().expect("writable");
    drop(store);
    std::fs::write(dir.path().join("FORMAT"), "fleetpulse store 99\n").expect("written");
    assert!(matches!(Store::open(dir.path()), Err(StoreError::Newer { found: 99, .. })));

    let other = tempfile::tempdir().expect("a directory");
    std::fs::write(other.path().join("thesis.tex"), "x").expect("written");
    assert!(matches!(Store::open(other.path()), Err(StoreError::NotAStore { .. })));
    std::fs::write(other.path().join("FORMAT"), "mp3").expect("written");
    assert!(matches!(Store::open(other.path()), Err(StoreError::Corrupt { .. })));
}

#[test]
fn nobody_else_can_read_what_the_store_writes() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store");
    let store = Store::open(&path).expect("a new store");
    store.checkpoint.save(b"image").expect("saved");
    let mode = |path: &std::path::Path| path.metadata().expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for name in ["LOCK", "FORMAT", "live.checkpoint", "register.redb", "journal.redb"] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
    }
}

/// Documents as the first release wrote them. Never change these bytes: they stand for files in the field.
#[test]
fn documents_of_schema_1_are_still_read() {
    let (batch, entry) = super::fixtures();
    let files =
        [("batch-1.cbor", crate::store::document::encode_batch(&batch)), ("entry-1.cbor", entry.encode())];
    for (name, bytes) in files {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store").join(name);
        let kept = std::fs::read(&path)
            .unwrap_or_else(|cause| panic!("{}: {cause}; today: {}", path.display(), hex(&bytes)));
        match name {
            "batch-1.cbor" => assert_eq!(crate::store::document::decode_batch(&kept).expect("read"), batch),
            _ => assert_eq!(crate::store::JournalEntry::decode(&kept).expect("read"), entry),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
