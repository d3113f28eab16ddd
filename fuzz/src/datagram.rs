//! One datagram, any bytes: read by `wire`, handled by a sensor's and a gateway's session, judged by all rules.
//!
//! Input: the datagram.

use std::time::Duration;

use fleetpulse::health::{Context, Engine, NoLookup, Policy, PolicyTable, VersionTable};
use fleetpulse::limits::{FRAMES_PER_DATAGRAM_MAX, REFUSED_FRAMES_MAX};
use fleetpulse::live::Observed;
use fleetpulse::time::{Now, UnixMillis};
use fleetpulse::wire::close::CloseCode;
use fleetpulse::wire::frame::{BODY_BYTES, FrameError, frames, read_frame, write_frame};
use fleetpulse::wire::id::SensorId;

use crate::world::{World, check_snapshot};

const WALL: i64 = 1_795_478_400_000;

pub fn run(datagram: &[u8]) {
    let ids = read_all(datagram);
    let first = ids.first().copied().unwrap_or(SensorId::from_number(1));
    // Three times: as it comes, again at once (a duplicate), and again after a while.
    let world = sensor_takes(datagram, first);
    judge(&world);
    gateway_takes(datagram, &ids);
}

/// The frames of a datagram, each checked against what else is known of it. Gives the ids.
fn read_all(datagram: &[u8]) -> Vec<SensorId> {
    let mut ids = Vec::new();
    let mut count = 0;
    let mut lost = false;
    for frame in frames(datagram) {
        assert!(!lost, "nothing can be read once the framing is lost");
        count += 1;
        match frame {
            Ok(frame) => {
                ids.push(SensorId(frame.known.sensor_id));
                let heartbeat = frame.to_heartbeat();
                let mut written = Vec::new();
                write_frame(&heartbeat, frame.header.age_ms, &mut written);
                let (again, length) = read_frame(&written).expect("what was read can be written");
                assert_eq!(length, written.len());
                assert_eq!(again.to_heartbeat(), heartbeat);
                assert_eq!(again.body_words(), frame.body_words());
                assert!(!again.unknown_values);
                if !frame.unknown_values {
                    assert_eq!(again.body, &frame.body[..BODY_BYTES], "nothing known is dropped");
                }
                assert_eq!(frame.body.len() > BODY_BYTES, frame.appended && frame.body.len() > BODY_BYTES);
            }
            Err(error) => {
                lost = error.loses_framing();
                assert_eq!(FrameError::LABELS[error.index()], error.label());
            }
        }
    }
    assert!(count <= FRAMES_PER_DATAGRAM_MAX + 1);
    assert_eq!(count == 0, datagram.is_empty());
    ids
}

fn sensor_takes(datagram: &[u8], id: SensorId) -> World {
    let mut world = World::new();
    let mut session = world.sensor(id);
    let mut handed_in = 0;
    for wait in [0, 0, 90] {
        world.now = world.now.plus(Duration::from_secs(wait));
        session.packet(&world.env()).expect("within the budget");
        let before = world.counters.snapshot();
        let outcome = session.datagram(datagram, &world.env());
        handed_in += frames(datagram).count() as u64;
        let refused = before.not_covered; // Refused frames of the last datagrams are below the budget.
        match outcome {
            Ok(()) => assert_eq!(world.handled(), handed_in),
            Err(CloseCode::Malformed | CloseCode::NotCovered) => {
                let counts = world.counters.snapshot();
                let unreadable: u64 = counts.unreadable.iter().map(|(_, count)| count).sum();
                assert!(counts.not_covered + unreadable > u64::from(REFUSED_FRAMES_MAX), "{refused}");
                break;
            }
            Err(other) => panic!("closed for {other:?}"),
        }
    }
    let counts = world.counters.snapshot();
    let snapshot = world.live.snapshot_of(id).expect("registered");
    let different = counts.observed_as(Observed::Current) + counts.observed_as(Observed::Late);
    assert!(snapshot.received <= different, "{snapshot:?} {counts:?}");
    assert_eq!(counts.observed_as(Observed::StaleSlot) + counts.observed_as(Observed::NotOwner), 0);
    check_snapshot(&snapshot);
    // Handed in frame by frame, the newest is what live state shows.
    let alone = World::new();
    let mut session = alone.sensor(id);
    for frame in frames(datagram).flatten() {
        let before = alone.counters.snapshot().observed_as(Observed::Current);
        let mut bytes = Vec::new();
        write_frame(&frame.to_heartbeat(), frame.header.age_ms, &mut bytes);
        session.datagram(&bytes, &alone.env()).expect("readable, and a datagram has less than the budget");
        if alone.counters.snapshot().observed_as(Observed::Current) > before {
            let snapshot = alone.live.snapshot_of(id).expect("registered");
            assert_eq!(snapshot.heartbeat, frame.to_heartbeat());
        }
    }
    session.end(&alone.env());
    assert!(!alone.live.snapshot_of(id).expect("registered").connected);
    world
}

fn gateway_takes(datagram: &[u8], ids: &[SensorId]) {
    let world = World::new();
    world.register(ids.iter().copied());
    let mut session = world.gateway();
    session.datagram(datagram, &world.env()).expect("a datagram has less than the budget");
    assert_eq!(world.handled(), frames(datagram).count() as u64);
    for snapshot in world.snapshots() {
        check_snapshot(&snapshot);
    }
}

/// Any values that the wire lets through can be judged by every rule, under both policies.
fn judge(world: &World) {
    for policy in [Policy::default(), Policy::demo()] {
        let policies = PolicyTable::new(policy);
        let versions = VersionTable::default();
        let mut engine = Engine::new(Duration::from_secs(1));
        for (sweep, seconds) in [0_u64, 1, 60, 600].into_iter().enumerate() {
            let after = Duration::from_secs(seconds);
            let now = Now { mono: world.now.plus(after), unix: UnixMillis(WALL).plus(after) };
            let ctx = Context { now, versions: &versions, lookup: &NoLookup, revision: sweep as u64 };
            let summary = engine.sweep(&world.live, &policies, &ctx, &mut |_| Ok(()));
            assert_eq!(summary.fleet.total() as usize, world.live.sensors());
            for sensor in world.snapshots() {
                engine.why(&world.live, &policies, &ctx, sensor.id).expect("registered");
            }
        }
    }
}
