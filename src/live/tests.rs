use std::time::Duration;

use super::*;
use crate::time::{MONO_ORIGIN, MonoNanos, UnixMillis};
use crate::wire::frame::{read_frame, write_frame};
use crate::wire::heartbeat::Heartbeat;
use crate::wire::id::SensorId;

fn facts() -> SlotFacts {
    SlotFacts {
        kind: SensorType::OtCloud,
        lifecycle: Lifecycle::Active,
        site: SiteIndex(3),
        policy: PolicyIndex(0),
        muted: false,
    }
}

fn at(seconds: u64) -> MonoNanos {
    MONO_ORIGIN.plus(Duration::from_secs(seconds))
}

#[test]
fn a_heartbeat_becomes_the_current_state_of_its_sensor() {
    let live = LiveState::with_capacity(10);
    let id = SensorId::from_number(1);
    let handle = live.insert(id, facts()).expect("room");
    let owner = OwnerRef { node: 1, shard: 2, connection: 3 };
    let taken = live.take(handle, owner, UnixMillis(5_000), at(0)).expect("fresh handle");
    let heartbeat = Heartbeat { sensor_id: id.0, sequence: 1, devices: 17, ..Heartbeat::default() };
    let mut bytes = Vec::new();
    write_frame(&heartbeat, 2_000, &mut bytes);
    let (frame, _) = read_frame(&bytes).expect("our frame");
    let writer = Writer::Direct { epoch: taken.epoch };
    assert_eq!(live.observe(handle, writer, &frame, at(10)), Observed::Current);
    assert_eq!(live.observe(handle, writer, &frame, at(11)), Observed::Duplicate);
    let snapshot = live.snapshot_of(id).expect("known");
    assert_eq!(snapshot.heartbeat, heartbeat);
    assert_eq!(snapshot.last_heartbeat, at(8));
    assert_eq!(snapshot.last_received, at(10));
    assert_eq!((snapshot.received, snapshot.lost, snapshot.duplicates), (1, 0, 1));
    assert_eq!(snapshot.owner, Some(owner));
}
