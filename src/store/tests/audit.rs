//! The log looked at from the end, and the register as it was, held against the plainest way of saying the same.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{add_sensor, ground};
use crate::fleet::{About, Change};
use crate::fleet::{Actor, ActorKind, Batch, Command, Event, EventCode, Register, SensorEdit};
use crate::limits::TIMES_BLOCK;
use crate::store::{AuditQuery, Position, Store, StoreError};
use crate::time::UnixMillis;
use crate::wire::id::SensorId;

const BATCHES: usize = 3 * TIMES_BLOCK as usize + 100;
const ACTORS: [(ActorKind, &str); 4] = [
    (ActorKind::User, "ada"),
    (ActorKind::Token, "ada/ci"),
    (ActorKind::User, "adam"),
    (ActorKind::System, "journal"),
];

struct Log {
    store: Store,
    batches: Vec<Batch>,
    /// The register after some of them.
    states: Vec<(usize, Register)>,
    _dir: tempfile::TempDir,
}

/// A wall clock that mostly goes on, and now and then lies.
fn clock(random: &mut StdRng, now: &mut i64) -> i64 {
    *now += random.random_range(0..20);
    match random.random_range(0..400) {
        0 => *now -= random.random_range(0..2_000),
        1 => return random.random_range(0..1_000),
        2 => return 4_000_000_000_000,
        _ => {}
    }
    *now
}

fn log(random: &mut StdRng) -> Log {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("a new store");
    let (mut register, mut now) = (Register::new(), 1_000_000_i64);
    let (mut batches, mut states, mut position) = (Vec::new(), Vec::new(), store.register.position());
    let mut pending: Vec<Batch> = Vec::new();
    for number in 0..BATCHES {
        let sensor = SensorId::from_number(random.random_range(1..40));
        let command = match number {
            0 => ground().to_vec(),
            _ if random.random_ratio(1, 20) => vec![Command::Record(Event {
                code: EventCode::SignIn,
                about: Some(About::Sensor(sensor)),
                detail: String::new(),
            })],
            _ if register.sensor(sensor).is_some() && random.random_ratio(1, 30) => {
                vec![Command::DeleteSensor { id: sensor }]
            }
            _ if register.sensor(sensor).is_some() => {
                let edit = SensorEdit::named(format!("name {number}"));
                vec![Command::EditSensor { id: sensor, edit }]
            }
            _ if register.deleted_sensor(sensor).is_some() => vec![add_sensor(1_000 + number as u64)],
            _ => vec![Command::AddSensor {
                id: sensor,
                zone: crate::wire::id::ZoneId::from_number(1),
                name: format!("new {number}"),
                kind: crate::live::SensorType::OtCloud,
                lifecycle: crate::live::Lifecycle::Active,
            }],
        };
        let (kind, name) = ACTORS[random.random_range(0..ACTORS.len())];
        let actor = Actor { kind, name: name.to_owned(), from: None };
        let at = UnixMillis(clock(random, &mut now));
        let batch = register.apply(&command, actor, at).expect("can be done");
        register.fold(&batch).expect("folds");
        batches.push(batch.clone());
        pending.push(batch);
        if random.random_ratio(1, 200) || number == BATCHES - 1 {
            position = store.register.append_all(position, &pending).expect("appended");
            pending.clear();
            if states.len() % 7 == 3 {
                store.register.write_snapshot(&register, position).expect("a snapshot");
            }
            states.push((number + 1, register.clone()));
        }
    }
    Log { store, batches, states, _dir: dir }
}

/// All pages of a query, by number, and how many pages there were.
fn all(store: &Store, query: &AuditQuery) -> (Vec<u64>, usize) {
    let (mut found, mut query, mut pages) = (Vec::new(), query.clone(), 0);
    loop {
        let page = store.register.audit(&query).expect("a page");
        found.extend(page.entries.iter().map(|(position, _)| position.sequence));
        pages += 1;
        match page.next {
            Some(next) => query.edge = Some(next),
            None => return (found, pages),
        }
    }
}

/// Shown by the test harness when the test fails.
#[expect(clippy::print_stderr, reason = "a seed is for people")]
fn seeded() -> StdRng {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    StdRng::seed_from_u64(seed)
}

#[test]
fn the_log_is_searched_and_the_past_is_found_whatever_the_clock_did() {
    let mut random = seeded();
    let Log { store, batches, states, _dir } = log(&mut random);
    let numbered = || (1_u64..).zip(&batches);
    for round in 0..60 {
        let (from, until) =
            (random.random_range(990_000..1_045_000), random.random_range(990_000..1_045_000));
        let sensor = SensorId::from_number(random.random_range(1..40));
        let pick = |bit: u32| round >> bit & 1 == 1;
        let query = AuditQuery {
            actor_kind: pick(0).then_some(ActorKind::User),
            actor: pick(1).then(|| "ada".to_owned()),
            action: pick(2).then(|| "edit-sensor".to_owned()),
            subject: pick(3).then_some(sensor.0),
            from: pick(4).then_some(UnixMillis(from)),
            until: pick(5).then_some(UnixMillis(until)),
            oldest_first: random.random_ratio(1, 2),
            edge: None,
            limit: random.random_range(1..400),
        };
        let matches = |batch: &Batch| {
            query.actor_kind.is_none_or(|kind| batch.actor.kind == kind)
                && (query.actor.is_none() || ["ada", "ada/ci"].contains(&&*batch.actor.name))
                && query.action.as_ref().is_none_or(|action| batch.action == *action)
                && query.subject.is_none_or(|id| batch.changes.iter().any(|c| Change::id(c) == Some(id)))
                && query.from.is_none_or(|from| batch.at >= from)
                && query.until.is_none_or(|until| batch.at < until)
        };
        let mut expected: Vec<u64> =
            numbered().filter(|(_, batch)| matches(batch)).map(|(number, _)| number).collect();
        if !query.oldest_first {
            expected.reverse();
        }
        assert_eq!(all(&store, &query).0, expected, "{query:?}");
    }
    for _ in 0..100 {
        let at = UnixMillis(random.random_range(990_000..1_050_000));
        let later = |some: &[Batch]| some.iter().filter(|batch| batch.at > at).count() as u64;
        let not_later = |some: &[Batch]| some.iter().filter(|batch| batch.at <= at).count() as u64;
        let wrong = |place: usize| later(&batches[..place]) + not_later(&batches[place..]);
        let best = (0..=batches.len()).rev().min_by_key(|&place| wrong(place)).expect("places");
        let (position, contradicting) = store.register.position_as_of(at).expect("a place");
        assert_eq!((position.sequence, contradicting), (best as u64, wrong(best)), "{at:?}");
    }
    let start = Position::start(store.register.position().log);
    assert_eq!(store.register.load_at(start).expect("nothing"), Register::new());
    for (place, register) in &states {
        assert_eq!(store.register.load_at(start.at(*place as u64)).expect("the past"), *register, "{place}");
    }
    let past = store.register.load_as_of(UnixMillis(i64::MAX)).expect("now");
    assert_eq!(past.register, states[states.len() - 1].1);
}

#[test]
fn a_page_reads_no_more_than_it_may_and_a_foreign_cursor_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("a new store");
    let mut register = Register::new();
    let mut position = store.register.position();
    let mut give = |commands: &[Command]| {
        let batch = register.apply(commands, Actor::system("test"), UnixMillis(5)).expect("can be done");
        register.fold(&batch).expect("folds");
        position = store.register.append(position, &batch).expect("appended");
    };
    give(&ground());
    // A bulk change fills a page alone, however many are asked for.
    for first in [0, 10_000, 20_000] {
        let many: Vec<_> = (first..first + 10_000).map(add_sensor).collect();
        give(&many);
        let edit = |n| Command::EditSensor {
            id: SensorId::from_number(n),
            edit: SensorEdit { notes: Some("x".repeat(400)), ..SensorEdit::default() },
        };
        give(&(first..first + 10_000).map(edit).collect::<Vec<_>>());
    }
    let (found, pages) = all(&store, &AuditQuery::default());
    assert_eq!(found, [7, 6, 5, 4, 3, 2, 1]);
    assert!(pages >= 3, "{pages}");
    let foreign: Position = format!("{:032x}.1", 7).parse().expect("a position");
    let query = AuditQuery { edge: Some(foreign), ..AuditQuery::default() };
    assert!(matches!(store.register.audit(&query), Err(StoreError::Conflict { .. })));
    assert!(matches!(store.register.load_at(position.at(99)), Err(StoreError::Conflict { .. })));
    // Before anything, and after all that there is.
    let at = |sequence| AuditQuery { edge: Some(position.at(sequence)), ..AuditQuery::default() };
    assert_eq!(all(&store, &at(0)).0, [0; 0]);
    assert_eq!(all(&store, &at(1)).0, [0; 0]);
    assert_eq!(all(&store, &at(u64::MAX)).0.len(), 7);
    let on = |sequence| AuditQuery { oldest_first: true, ..at(sequence) };
    assert_eq!(all(&store, &on(0)).0, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(all(&store, &on(6)).0, [6, 7]);
    assert_eq!(all(&store, &on(8)).0, [0; 0]);
    assert_eq!(all(&store, &on(u64::MAX)).0, [0; 0]);
    // Who asks for a few gets no others, and is led past those.
    let with_site = |batch: &Batch| batch.changes.iter().any(|change| matches!(change, Change::Site(_)));
    let (mut query, mut found) = (AuditQuery::default(), Vec::new());
    loop {
        let page = store.register.audit_where(&query, &with_site).expect("a page");
        found.extend(page.entries.iter().map(|(place, _)| place.sequence));
        match page.next {
            Some(next) => query.edge = Some(next),
            None => break,
        }
    }
    assert_eq!(found, [1]);
}
