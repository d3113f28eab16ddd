use proptest::prelude::*;

use crate::store::{CheckpointStore, StoreError};

#[test]
fn the_image_before_is_used_when_the_newest_is_damaged() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("live.checkpoint");
    let store = CheckpointStore::new(path.clone());
    assert!(store.load().image.is_none());
    store.save(b"one").expect("saved");
    store.save(b"two").expect("saved");
    assert_eq!(store.load().image.as_deref(), Some(b"two".as_slice()));
    std::fs::write(&path, b"FPSTORE\n").expect("written");
    let loaded = store.load();
    assert_eq!(loaded.image.as_deref(), Some(b"one".as_slice()));
    assert!(matches!(loaded.errors.as_slice(), [StoreError::Corrupt { .. }]));
    // As after a crash between the two renames.
    std::fs::remove_file(&path).expect("removed");
    let loaded = store.load();
    assert_eq!((loaded.image.as_deref(), loaded.errors.len()), (Some(b"one".as_slice()), 0));
}

#[test]
fn a_directory_that_is_gone_is_a_typed_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = CheckpointStore::new(dir.path().join("gone").join("live.checkpoint"));
    assert!(matches!(store.save(b"x"), Err(StoreError::Io { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_always_noticed(
        image in prop::collection::vec(any::<u8>(), 0..300),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("live.checkpoint");
        let store = CheckpointStore::new(path.clone());
        store.save(&image).expect("saved");
        let good = std::fs::read(&path).expect("read");
        let mut bytes = good.clone();
        for (at, mask) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        std::fs::write(&path, &bytes).expect("written");
        let loaded = store.load();
        if bytes == good {
            prop_assert_eq!(loaded.image, Some(image));
        } else {
            prop_assert_eq!(loaded.image, None);
            prop_assert_eq!(loaded.errors.len(), 1);
        }
    }

    #[test]
    fn rubbish_is_never_taken_for_an_image(rubbish in prop::collection::vec(any::<u8>(), 0..200)) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("live.checkpoint");
        std::fs::write(&path, &rubbish).expect("written");
        prop_assert_eq!(CheckpointStore::new(path).load().image, None);
        let _ = crate::store::document::decode_batch(&rubbish);
        let _ = crate::store::JournalEntry::decode(&rubbish);
    }
}
