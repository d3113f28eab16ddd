use std::time::Duration;

use super::image::{ImageError, read, write};
use super::tests::{Bench, at, facts};
use super::*;
use crate::time::{MONO_ORIGIN, MonoNanos, Now, UnixMillis};
use crate::wire::heartbeat::Heartbeat;
use crate::wire::id::SensorId;

const MADE: Now =
    Now { mono: MonoNanos(MONO_ORIGIN.0 + 7_200_000_000_000), unix: UnixMillis(1_795_485_600_000) };

fn image_of(live: &LiveState) -> Vec<u8> {
    let mut image = Vec::new();
    write(live, MADE, |piece| image.extend_from_slice(piece));
    image
}

/// A process that started `away` after the image was made, and runs for a second.
fn later(away: Duration) -> Now {
    Now { mono: MONO_ORIGIN.plus(Duration::from_secs(1)), unix: MADE.unix.plus(away) }
}

/// A sensor with some history.
fn busy() -> Bench {
    let b = Bench::new();
    b.live.set_wall(Now { mono: at(0), unix: UnixMillis(0) });
    for sequence in [1, 2, 5, 4, 4] {
        let beat = Heartbeat { rx_packets: sequence * 100, devices: 3, ..b.beat(sequence) };
        b.send(&beat, 0, at(sequence * 10_000));
    }
    b.send(&Heartbeat { boot_id: 2, rx_packets: 9, ..b.beat(1) }, 0, at(100_000));
    let Writer::Direct { epoch } = b.writer else { panic!("direct") };
    assert!(b.live.renew(b.handle, epoch, UnixMillis(5_000), 0x7abc));
    b.live.set_verdict(b.handle.index, 5, 6);
    b.live.set_journalled(b.handle.index, 4);
    b
}

#[test]
fn a_restarted_server_knows_what_the_one_before_knew() {
    let old = busy();
    let was = old.see();
    let image = image_of(&old.live);
    let away = Duration::from_secs(90);
    let now = later(away);

    let new = LiveState::with_capacity(100);
    // Another slot than before.
    new.insert(SensorId::from_number(77), facts()).expect("room");
    let handle = new.insert(old.id, SlotFacts { muted: true, ..facts() }).expect("room");
    let restored = read(&image, &new, now).expect("our image");
    assert_eq!((restored.sensors, restored.unknown, restored.newer), (1, 0, 0));
    assert_eq!((restored.made, restored.away), (MADE.unix, away));

    let is = new.snapshot_of(old.id).expect("known");
    let age = |snapshot: &Snapshot, instant: fn(&Snapshot) -> MonoNanos, now: MonoNanos| {
        now.since(instant(snapshot))
    };
    let instants: [fn(&Snapshot) -> MonoNanos; 6] = [
        |s| s.first_heartbeat,
        |s| s.last_heartbeat,
        |s| s.last_received,
        |s| s.last_transport,
        |s| s.last_traffic,
        |s| s.update_stage_since,
    ];
    for instant in instants {
        assert_eq!(age(&is, instant, now.mono), age(&was, instant, MADE.mono) + away);
    }
    let within = |s: &Snapshot, now, window| s.recent_restarts.within(now, Duration::from_secs(window));
    let since = MADE.mono.since(was.recent_restarts.last()).as_secs();
    assert_eq!((within(&is, now.mono, since + 89), within(&is, now.mono, since + 91)), (0, 1));
    assert_eq!(is.heartbeat, was.heartbeat);
    assert_eq!(
        (is.received, is.lost, is.duplicates, is.reordered),
        (was.received, was.lost, was.duplicates, was.reordered)
    );
    assert_eq!((is.window, is.window_expected, is.restarts), (was.window, was.window_expected, was.restarts));
    assert_eq!((is.jitter_ms, is.cert_not_after), (was.jitter_ms, was.cert_not_after));
    assert_eq!((is.cert_issuer, was.cert_issuer), (0x7abc, 0x7abc));
    assert!(is.facts.muted, "facts are the register's");
    assert!(!is.connected && !is.heard_since_start && is.owner.is_none());
    assert_eq!(new.verdict(handle.index), old.live.verdict(old.handle.index));
    // The sensor's clock against ours did not move: the new wall time gives the same offset.
    let wall = |live: &LiveState, now| live.set_wall(now);
    wall(&old.live, MADE);
    wall(&new, now);
    let offset = |live: &LiveState| live.snapshot_of(old.id).map(|s| s.clock_offset_ms);
    assert_eq!(offset(&new), offset(&old.live));
}

#[test]
fn what_happened_while_the_server_was_away_is_not_lost_and_restarts_still_count() {
    let old = busy();
    let image = image_of(&old.live);
    let now = later(Duration::from_secs(300));
    for (boot_id, sequence, restarts) in [(2, 31, 1), (3, 9, 2)] {
        let new = Bench::new();
        read(&image, &new.live, now).expect("our image");
        let lost = new.see().lost;
        assert_eq!(new.send(&Heartbeat { boot_id, ..new.beat(sequence) }, 0, now.mono), Observed::Current);
        let s = new.see();
        assert_eq!((s.lost, s.restarts, s.delivery_ratio), (lost, restarts, 1.0));
        // From here on a gap is a gap.
        new.send(&Heartbeat { boot_id, ..new.beat(sequence + 2) }, 0, now.mono);
        assert_eq!(new.see().lost, lost + 1);
        assert_eq!(
            (new.see().reconnects, new.see().owner.is_some()),
            (0, true),
            "its connection is not touched"
        );
    }
}

#[test]
fn a_sensor_that_was_heard_already_keeps_what_it_said() {
    let old = busy();
    let image = image_of(&old.live);
    let new = Bench::new();
    new.send(&Heartbeat { devices: 99, ..new.beat(7) }, 0, at(0));
    let restored = read(&image, &new.live, later(Duration::ZERO)).expect("our image");
    assert_eq!((restored.sensors, restored.newer), (0, 1));
    assert_eq!(new.see().heartbeat.devices, 99);
}

#[test]
fn sensors_that_the_register_does_not_have_stay_away() {
    let image = image_of(&busy().live);
    let new = LiveState::with_capacity(10);
    let restored = read(&image, &new, later(Duration::ZERO)).expect("our image");
    assert_eq!((restored.sensors, restored.unknown, new.slots()), (0, 1, 0));
}

#[test]
fn a_wall_clock_that_went_back_makes_nothing_younger_than_it_was() {
    let old = busy();
    let image = image_of(&old.live);
    let new = Bench::new();
    let now = Now { unix: UnixMillis(0), ..later(Duration::ZERO) };
    assert_eq!(read(&image, &new.live, now).map(|restored| restored.away), Ok(Duration::ZERO));
    let age = now.mono.since(new.see().last_heartbeat);
    assert_eq!(age, MADE.mono.since(old.see().last_heartbeat));
}

#[test]
fn what_is_no_image_is_refused_at_every_length() {
    let image = image_of(&busy().live);
    let new = Bench::new();
    let now = later(Duration::ZERO);
    for length in 0..image.len() {
        assert_eq!(read(&image[..length], &new.live, now), Err(ImageError::Truncated), "at {length}");
    }
    let mut other = image.clone();
    other[0] = b'X';
    assert_eq!(read(&other, &new.live, now), Err(ImageError::Magic));
    let mut other = image.clone();
    other[4] = 9;
    assert_eq!(read(&other, &new.live, now), Err(ImageError::Version(9)));
    let mut other = image;
    let end = other.len() - 8;
    other[end] = 3;
    assert_eq!(read(&other, &new.live, now), Err(ImageError::Count { said: 3, found: 1 }));
}

/// The store's checksum stands before it; still, no damage may panic.
#[test]
fn a_damaged_image_never_panics() {
    let image = image_of(&busy().live);
    for place in 24..image.len() {
        let mut damaged = image.clone();
        damaged[place] = !damaged[place];
        let new = Bench::new();
        let _ = read(&damaged, &new.live, later(Duration::from_secs(5)));
        let s = new.see();
        assert!((0.0..=1.0).contains(&s.delivery_ratio));
        new.send(&Heartbeat { boot_id: 2, ..new.beat(40) }, 0, at(0));
    }
}
