use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::store::database::HealingDatabase;
use crate::store::{EntryKind, Journal, JournalEntry, JournalQuery, Store, StoreError, Subject};
use crate::time::UnixMillis;
use crate::wire::id::{SensorId, SiteId};

fn entry(sensor: u64, rule: &str, kind: EntryKind, at: i64, since: i64) -> JournalEntry {
    JournalEntry {
        subject: Subject::Sensor(SensorId::from_number(sensor)),
        site: Some(SiteId::from_number(sensor % 3)),
        rule: rule.into(),
        kind,
        at: UnixMillis(at),
        since: UnixMillis(since),
        evidence: Vec::new(),
        folded_into: None,
        muted: false,
        detection_delay_ms: None,
        reason: None,
    }
}

fn raised(sensor: u64, rule: &str, at: i64) -> JournalEntry {
    entry(sensor, rule, EntryKind::Raised, at, at)
}

fn cleared(sensor: u64, rule: &str, at: i64, since: i64) -> JournalEntry {
    entry(sensor, rule, EntryKind::Cleared, at, since)
}

fn small_journal(dir: &std::path::Path, entries_max: u64) -> Journal {
    let database = HealingDatabase::open(dir.join("journal.redb"), "the journal", 1 << 20).expect("opens");
    Journal::open(database, entries_max).expect("opens")
}

#[test]
fn a_transition_offered_again_is_not_written_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = small_journal(dir.path(), 1_000);
    let first =
        [raised(1, "disconnected", 10), cleared(1, "disconnected", 20, 10), raised(1, "disconnected", 30)];
    let places = journal.append(&first).expect("written");
    assert_eq!(places.iter().flatten().map(|p| p.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    // The answer was lost, and all of it is offered again, also one by one, also after opening again.
    assert_eq!(journal.append(&first[2..]).expect("known"), [None]);
    drop(journal);
    let journal = small_journal(dir.path(), 1_000);
    assert_eq!(journal.append(&first[..1]).expect("known"), [None]);
    assert_eq!(journal.append(&[cleared(2, "disconnected", 40, 5)]).expect("never raised"), [None]);
    assert_eq!(journal.append(&[cleared(1, "disconnected", 50, 30)]).expect("new").len(), 1);
    assert_eq!(journal.append(&[raised(1, "disconnected", 30)]).expect("over"), [None]);
    assert_eq!(journal.len().expect("len"), 4);
    assert!(journal.active().expect("active").is_empty());
}

#[test]
fn a_message_may_begin_again_with_the_beginning_that_it_had() {
    // "No traffic since 10" ends because there is no interface, and is true again when there is one.
    let dir = tempfile::tempdir().expect("a directory");
    let journal = small_journal(dir.path(), 1_000);
    let first = entry(1, "no-traffic", EntryKind::Raised, 20, 10);
    let again = entry(1, "no-traffic", EntryKind::Raised, 40, 10);
    journal.append(&[first.clone(), cleared(1, "no-traffic", 30, 10)]).expect("written");
    assert_eq!(journal.append(&[first]).expect("the same decision"), [None]);
    assert!(journal.append(std::slice::from_ref(&again)).expect("another decision")[0].is_some());
    assert_eq!(journal.active().expect("active")[0].1, again);
    assert!(journal.append(&[cleared(1, "no-traffic", 50, 10)]).expect("written")[0].is_some());
    assert_eq!(journal.append(&[again]).expect("the same decision"), [None]);
}

#[test]
fn rules_that_this_version_does_not_know_are_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("a store");
    let batch = super::plan(&crate::fleet::Register::new(), &super::ground(), 1);
    store.register.append(store.register.position(), &batch).expect("appended");
    store.journal.append(&[raised(1, "rule-of-a-newer-version", 1)]).expect("written");
    drop(store);
    let store = Store::open(dir.path()).expect("a store");
    let active = store.journal.active().expect("active");
    assert_eq!(active[0].1.rule, "rule-of-a-newer-version");
    assert_eq!(store.journal.entry(active[0].0).expect("read").as_ref(), Some(&active[0].1));
}

#[test]
fn pages_of_a_query_are_newest_first_without_gap_or_overlap() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = small_journal(dir.path(), 10_000);
    let entries: Vec<_> =
        (0..90).map(|n| raised(n, if n % 2 == 0 { "a" } else { "ab" }, 1_000 - (n as i64 / 4))).collect();
    journal.append(&entries).expect("written");
    let queries = [
        JournalQuery::default(),
        JournalQuery { site: Some(SiteId::from_number(1)), ..JournalQuery::default() },
        JournalQuery { rule: Some("a".into()), ..JournalQuery::default() },
        JournalQuery {
            rule: Some("ab".into()),
            site: Some(SiteId::from_number(2)),
            ..JournalQuery::default()
        },
        JournalQuery { subject: Some(entries[7].subject), ..JournalQuery::default() },
        JournalQuery { from: Some(UnixMillis(990)), until: Some(UnixMillis(995)), ..JournalQuery::default() },
        JournalQuery { from: Some(UnixMillis(995)), until: Some(UnixMillis(990)), ..JournalQuery::default() },
    ];
    for query in queries {
        let mut expected: Vec<_> = (1u64..)
            .zip(&entries)
            .filter(|(_, entry)| {
                query.subject.is_none_or(|s| s == entry.subject)
                    && query.site.is_none_or(|s| Some(s) == entry.site)
                    && query.rule.as_ref().is_none_or(|r| *r == entry.rule)
                    && query.from.is_none_or(|t| entry.at >= t)
                    && query.until.is_none_or(|t| entry.at < t)
            })
            .map(|(sequence, entry)| (entry.at.0, sequence))
            .collect();
        expected.sort_unstable();
        expected.reverse();
        let mut found = Vec::new();
        let mut asked = JournalQuery { limit: 7, ..query };
        loop {
            let page = journal.query(&asked).expect("a page");
            assert!(page.entries.len() <= 7);
            found.extend(page.entries.iter().map(|(place, entry)| (entry.at.0, place.sequence)));
            match page.next {
                Some(next) => asked.before = Some(next),
                None => break,
            }
        }
        assert_eq!(found, expected, "{asked:?}");
    }
}

#[test]
fn the_oldest_entries_go_first_and_active_messages_stay_known() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = small_journal(dir.path(), 10);
    journal.append(&[raised(999, "disconnected", 1)]).expect("written");
    for n in 0..20 {
        journal
            .append(&[raised(n, "a", 10 + n as i64), cleared(n, "a", 11 + n as i64, 10 + n as i64)])
            .expect("written");
    }
    assert_eq!(journal.len().expect("len"), 10);
    assert_eq!(journal.query(&JournalQuery::default()).expect("a page").entries.len(), 10);
    assert_eq!(journal.active().expect("active").len(), 1);
    let start = journal.position().at(0);
    assert!(matches!(journal.read_from(start, 10), Err(StoreError::Conflict { .. })), "a gap is told");
    let tail = journal.read_from(journal.position().at(39), 10).expect("the tail");
    assert_eq!(tail.iter().map(|(p, _)| p.sequence).collect::<Vec<_>>(), [40, 41]);
    assert_eq!(journal.forget(UnixMillis(i64::MAX), 3).expect("forgotten"), 3);
    assert_eq!(journal.len().expect("len"), 7);
    assert!(journal.append(&[cleared(999, "disconnected", 99, 1)]).expect("written")[0].is_some());
}

#[test]
fn what_is_known_of_ended_messages_goes_with_the_entries_that_ended_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = small_journal(dir.path(), 1_000);
    // One sensor twice, and twenty that are gone for good; then one that began before it all, and went on.
    let mut entries = vec![raised(99, "a", 1)];
    for at in [10, 30] {
        entries.extend([raised(1, "a", at), cleared(1, "a", at + 10, at)]);
    }
    for sensor in 100..120 {
        entries.extend([raised(sensor, "a", 50), cleared(sensor, "a", 60, 50)]);
    }
    entries.push(cleared(99, "a", 70, 1));
    journal.append(&entries).expect("written");
    assert_eq!(journal.ended().expect("a count"), 22);
    // The first end of the first sensor is forgotten, the second is not.
    assert_eq!(journal.forget(UnixMillis(40), 1_000).expect("forgotten"), 4);
    assert_eq!(journal.ended().expect("a count"), 22);
    assert_eq!(journal.append(&[raised(1, "a", 30)]).expect("the same decision"), [None]);
    // In pieces, as the journal's thread does.
    let mut pieces = Vec::new();
    loop {
        match journal.forget(UnixMillis(65), 15).expect("forgotten") {
            0 => break,
            piece => pieces.push(piece),
        }
        let (ended, kept) = (journal.ended().expect("a count"), journal.len().expect("a count"));
        assert!(ended <= kept, "{ended} of {kept}");
    }
    assert_eq!(pieces, [15, 15, 11]);
    assert_eq!(
        journal.ended().expect("a count"),
        1,
        "the end at 70 is remembered, though it was raised at 1"
    );
    assert_eq!(journal.append(&[raised(99, "a", 1)]).expect("the same decision"), [None]);
    let page = journal.query(&JournalQuery::default()).expect("a page");
    assert_eq!(page.entries.iter().map(|(_, e)| e.at.0).collect::<Vec<_>>(), [70]);
    drop(journal);
    let journal = small_journal(dir.path(), 1_000);
    assert_eq!(journal.ended().expect("a count"), 1);
    // A sensor whose past is forgotten begins anew.
    assert!(journal.append(&[raised(1, "a", 80)]).expect("written")[0].is_some());
}

#[test]
fn an_end_is_forgotten_though_the_clock_went_back_before_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = small_journal(dir.path(), 1_000);
    journal.append(&[raised(1, "a", 500), cleared(1, "a", 100, 500)]).expect("written");
    assert_eq!(journal.forget(UnixMillis(1_000), 10).expect("forgotten"), 2);
    assert_eq!(journal.ended().expect("a count"), 0);
}

#[test]
fn a_journal_of_bounded_length_remembers_a_bounded_number_of_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = small_journal(dir.path(), 10);
    for n in 0..40 {
        let at = n as i64;
        journal.append(&[raised(n, "a", at), cleared(n, "a", at + 1, at)]).expect("written");
    }
    assert_eq!((journal.len().expect("len"), journal.ended().expect("a count")), (10, 5));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is offered in whatever order: entries of one subject and rule alternate, and the active set
    /// is what the entries say.
    #[test]
    fn entries_alternate_and_the_active_set_is_their_fold(
        offers in prop::collection::vec(prop::collection::vec((0..3u64, 0..2usize, any::<bool>(), 0..6i64), 1..8), 1..12),
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let journal = small_journal(dir.path(), 100_000);
        for (at, batch) in offers.iter().enumerate() {
            let entries: Vec<_> = batch.iter().map(|&(sensor, rule, raise, since)| {
                let kind = if raise { EntryKind::Raised } else { EntryKind::Cleared };
                entry(sensor, ["a", "b"][rule], kind, at as i64, since)
            }).collect();
            journal.append(&entries).expect("written");
        }
        let mut active = BTreeMap::new();
        for (place, entry) in journal.read_from(journal.position().at(0), usize::MAX).expect("all") {
            let key = (entry.subject, entry.rule.clone());
            match entry.kind {
                EntryKind::Raised => prop_assert!(active.insert(key, place.sequence).is_none()),
                EntryKind::Cleared => prop_assert!(active.remove(&key).is_some()),
            }
        }
        let kept: BTreeMap<_, _> = journal.active().expect("active").into_iter()
            .map(|(place, entry)| ((entry.subject, entry.rule), place.sequence)).collect();
        prop_assert_eq!(kept, active);
    }
}
