use std::time::Duration;

use super::*;
use crate::limits::{FRAME_AGE_MAX, SEQUENCE_DISTRUST_MIN, SEQUENCE_JUMP_MAX};
use crate::time::{MONO_ORIGIN, MonoNanos, Now, UnixMillis};
use crate::wire::frame::{read_frame, write_frame};
use crate::wire::heartbeat::{FLAG_GOODBYE, Heartbeat, UpdateStage};
use crate::wire::id::{GatewayId, SensorId};

pub(super) fn facts() -> SlotFacts {
    SlotFacts {
        kind: SensorType::OtCloud,
        lifecycle: Lifecycle::Active,
        site: SiteIndex(3),
        policy: PolicyIndex(9),
        muted: false,
    }
}

/// An hour and so many milliseconds after the engine's start.
pub(super) fn at(ms: u64) -> MonoNanos {
    MONO_ORIGIN.plus(Duration::from_millis(3_600_000 + ms))
}

const OWNER: OwnerRef = OwnerRef { node: 1, shard: 2, connection: 3 };
pub(super) const OTHER: OwnerRef = OwnerRef { node: 1, shard: 0, connection: 4 };

/// One sensor with a connection.
pub(super) struct Bench {
    pub(super) live: LiveState,
    pub(super) id: SensorId,
    pub(super) handle: SlotHandle,
    pub(super) writer: Writer,
}

impl Bench {
    pub(super) fn new() -> Bench {
        let live = LiveState::with_capacity(100);
        let id = SensorId::from_number(1);
        let handle = live.insert(id, facts()).expect("room");
        let epoch = live.take(handle, OWNER, UnixMillis(5_000), at(0)).expect("fresh").epoch;
        Bench { live, id, handle, writer: Writer::Direct { epoch } }
    }

    /// The heartbeat of this sequence; uptime and clock agree with one every ten seconds.
    pub(super) fn beat(&self, sequence: u64) -> Heartbeat {
        Heartbeat {
            sensor_id: self.id.0,
            sequence,
            uptime_ms: sequence * 10_000,
            sensor_clock_unix_us: sequence as i64 * 10_000_000,
            ..Heartbeat::default()
        }
    }

    pub(super) fn send(&self, beat: &Heartbeat, age_ms: u32, received: MonoNanos) -> Observed {
        observe(&self.live, self.handle, self.writer, beat, age_ms, received)
    }

    pub(super) fn see(&self) -> Snapshot {
        self.live.snapshot_of(self.id).expect("known and idle")
    }
}

fn observe(
    live: &LiveState,
    handle: SlotHandle,
    writer: Writer,
    beat: &Heartbeat,
    age_ms: u32,
    received: MonoNanos,
) -> Observed {
    let mut bytes = Vec::new();
    write_frame(beat, age_ms, &mut bytes);
    let (frame, _) = read_frame(&bytes).expect("our frame");
    live.observe(handle, writer, &frame, received)
}

#[test]
fn a_heartbeat_becomes_the_current_state_of_its_sensor() {
    let b = Bench::new();
    let before = b.see();
    assert!(before.last_heartbeat.is_never() && before.connected && !before.heard_since_start);
    assert_eq!(before.facts, facts());
    let beat = Heartbeat { devices: 17, ..b.beat(1) };
    assert_eq!(b.send(&beat, 2_000, at(10_000)), Observed::Current);
    let s = b.see();
    assert_eq!(s.heartbeat, beat);
    assert_eq!((s.first_heartbeat, s.last_heartbeat), (at(8_000), at(8_000)));
    assert_eq!((s.last_received, s.last_transport), (at(10_000), at(10_000)));
    assert_eq!((s.received, s.lost, s.delivery_ratio), (1, 0, 1.0));
    assert_eq!((s.owner, s.cert_not_after), (Some(OWNER), Some(UnixMillis(5_000))));
    assert!(s.heard_since_start && !s.goodbye);
}

#[test]
fn an_older_frame_never_brings_values_back() {
    let b = Bench::new();
    b.send(&Heartbeat { devices: 1, ..b.beat(1) }, 0, at(0));
    b.send(&Heartbeat { devices: 3, ..b.beat(3) }, 0, at(20_000));
    assert_eq!(b.send(&Heartbeat { devices: 2, ..b.beat(2) }, 0, at(20_500)), Observed::Late);
    let s = b.see();
    assert_eq!((s.heartbeat.devices, s.last_heartbeat), (3, at(20_000)));
    assert_eq!((s.received, s.lost, s.reordered), (3, 0, 1));
    assert_eq!(s.last_transport, at(20_500), "but something did come in");
    assert_eq!(b.send(&b.beat(2), 0, at(21_000)), Observed::Duplicate);
    let old = FRAME_AGE_MAX.as_millis() as u32 + 1;
    assert_eq!(b.send(&b.beat(4), old, at(22_000)), Observed::TooOld);
    // A higher sequence is news, whatever it claims of its time; last-seen does not go back for it.
    assert_eq!(b.send(&b.beat(5), 15_000, at(30_000)), Observed::Current);
    assert_eq!(b.see().last_heartbeat, at(20_000));
}

#[test]
fn heartbeats_sent_late_in_order_are_all_current_with_their_own_time() {
    let b = Bench::new();
    b.send(&b.beat(1), 0, at(0));
    for (sequence, age_ms) in [(2, 20_000), (3, 10_000), (4, 0)] {
        assert_eq!(b.send(&b.beat(sequence), age_ms, at(40_000)), Observed::Current);
        assert_eq!(b.see().last_heartbeat, at(40_000 - u64::from(age_ms)));
    }
    assert_eq!((b.see().lost, b.see().reordered), (0, 0));
}

#[test]
fn only_the_newest_connection_writes() {
    let b = Bench::new();
    let taken = b.live.take(b.handle, OTHER, UnixMillis(9_000), at(10)).expect("fresh");
    assert_eq!(taken.replaced, Some(OWNER));
    assert_eq!(b.send(&b.beat(1), 0, at(20)), Observed::NotOwner);
    let Writer::Direct { epoch } = b.writer else { panic!("direct") };
    assert!(!b.live.release(b.handle, epoch, at(30)), "the old one can't release it");
    assert!(!b.live.seen_transport(b.handle, epoch, at(30)));
    let s = b.see();
    assert_eq!((s.connected, s.owner, s.replaced, s.reconnects), (true, Some(OTHER), 1, 1));
    assert_eq!(s.recent_replaced.within(at(1_000), Duration::from_secs(60)), 1);
    assert!(b.live.release(b.handle, taken.epoch, at(40)));
    assert!(!b.see().connected);
    let again = b.live.take(b.handle, OWNER, UnixMillis(9_000), at(50)).expect("fresh");
    assert_eq!(again.replaced, None);
    assert_eq!((b.see().replaced, b.see().reconnects), (1, 2));
    assert_eq!(b.see().recent_reconnects.within(at(700_000), Duration::from_secs(600)), 0);
    assert_eq!(b.see().recent_reconnects.within(at(500_000), Duration::from_secs(600)), 2);
}

#[test]
fn a_removed_sensor_leaves_nothing_to_the_next_one_in_its_slot() {
    let b = Bench::new();
    b.send(&b.beat(1), 0, at(0));
    b.live.set_verdict(b.handle.index, 6, 1);
    assert_eq!(b.live.remove(b.id), Some((b.handle, Some(OWNER))));
    assert_eq!(b.live.remove(b.id), None);
    assert_eq!(b.send(&b.beat(2), 0, at(10)), Observed::StaleSlot);
    assert_eq!((b.live.find(b.id), b.live.facts(b.handle)), (None, None));
    assert!(b.live.snapshot(b.handle.index).is_none());
    let next = SensorId::from_number(2);
    let handle = b.live.insert(next, SlotFacts { muted: true, ..facts() }).expect("room");
    assert_eq!(handle.index, b.handle.index);
    assert_ne!(handle.generation, b.handle.generation);
    assert_eq!(b.send(&b.beat(2), 0, at(10)), Observed::StaleSlot);
    assert!(!b.live.set_facts(b.handle, facts()));
    assert!(b.live.take(b.handle, OWNER, UnixMillis(0), at(0)).is_err());
    let s = b.live.snapshot_of(next).expect("known");
    assert!(s.last_heartbeat.is_never() && s.received == 0 && s.facts.muted && !s.connected);
    assert_eq!(b.live.verdict(handle.index), Verdict::default());
}

#[test]
fn the_slab_is_bounded_and_the_same_sensor_keeps_its_slot() {
    let live = LiveState::with_capacity(2);
    let one = live.insert(SensorId::from_number(1), facts());
    assert_eq!(live.insert(SensorId::from_number(1), facts()), one);
    assert!(live.insert(SensorId::from_number(2), facts()).is_ok());
    assert_eq!(live.insert(SensorId::from_number(3), facts()), Err(SlabFull { slots_max: 2 }));
    live.remove(SensorId::from_number(1));
    assert!(live.insert(SensorId::from_number(3), facts()).is_ok());
    assert_eq!((live.slots(), live.sensors()), (2, 2));
}

#[test]
fn a_restart_is_noticed_once_and_gives_traffic_its_full_time_again() {
    let b = Bench::new();
    b.send(&Heartbeat { rx_packets: 500, ..b.beat(7) }, 0, at(0));
    b.send(&Heartbeat { rx_packets: 500, ..b.beat(8) }, 0, at(10_000));
    assert_eq!(b.see().last_traffic, at(0));
    let boot = |sequence, rx_packets| Heartbeat { boot_id: 2, rx_packets, ..b.beat(sequence) };
    assert_eq!(b.send(&boot(1, 0), 0, at(60_000)), Observed::Current);
    // A straggler of the boot before, late in the network.
    assert_eq!(b.send(&b.beat(9), 0, at(60_500)), Observed::BeyondWindow);
    b.send(&boot(2, 0), 0, at(70_000));
    let s = b.see();
    assert_eq!((s.restarts, s.last_traffic, s.heartbeat.boot_id), (1, at(60_000), 2));
    assert_eq!(s.recent_restarts.within(at(120_000), Duration::from_secs(600)), 1);
    assert_eq!(s.recent_restarts.last(), at(60_000));
    b.send(&boot(3, 1), 0, at(80_000));
    assert_eq!(b.see().last_traffic, at(80_000));
}

#[test]
fn a_restart_loop_is_counted_within_its_window() {
    let b = Bench::new();
    for start in 0..12_u64 {
        b.send(&Heartbeat { boot_id: start + 1, ..b.beat(1) }, 0, at(start * 60_000));
    }
    let s = b.see();
    assert_eq!(s.restarts, 11);
    assert_eq!(s.recent_restarts.within(at(660_000), Duration::from_secs(180)), 4);
    assert_eq!(s.recent_restarts.within(at(660_000), Duration::from_secs(7_200)), 8, "as many as it keeps");
}

#[test]
fn counters_that_go_backwards_break_nothing() {
    let b = Bench::new();
    let beat = |sequence, packets: u64| Heartbeat {
        rx_packets: packets,
        rx_bytes: packets * 100,
        ..b.beat(sequence)
    };
    b.send(&beat(1, 1_000), 0, at(0));
    b.send(&beat(2, 2_000), 0, at(10_000));
    let steady = b.see();
    assert_eq!((steady.rx_packets_per_s, steady.rx_bytes_per_s, steady.drop_ratio), (100.0, 10_000.0, 0.0));
    b.send(&beat(3, 5), 0, at(20_000));
    let after = b.see();
    assert_eq!(after.rx_packets_per_s, 100.0, "no rate from a step backwards");
    assert_eq!(after.last_traffic, at(10_000));
    b.send(&beat(4, 1_005), 0, at(30_000));
    assert_eq!((b.see().rx_packets_per_s, b.see().last_traffic), (100.0, at(30_000)));
}

#[test]
fn rates_follow_over_about_a_minute() {
    let b = Bench::new();
    let beat = |sequence, packets, dropped| Heartbeat {
        rx_packets: packets,
        rx_dropped: dropped,
        ..b.beat(sequence)
    };
    assert!(b.see().rx_bytes_per_s.is_nan());
    b.send(&beat(1, 0, 0), 0, at(0));
    assert!(b.see().drop_ratio.is_nan(), "one heartbeat gives no rate");
    b.send(&beat(2, 9_000, 1_000), 0, at(10_000));
    assert_eq!(b.see().drop_ratio, 0.1);
    for step in 3..=9 {
        b.send(&beat(step, 9_000, 1_000), 0, at((step - 1) * 10_000));
    }
    let later = b.see().rx_packets_per_s;
    assert!((250.0..450.0).contains(&later), "{later} a minute after 900 a second");
}

#[test]
fn jitter_is_that_of_rfc_3550_against_the_sensors_uptime() {
    let b = Bench::new();
    b.send(&b.beat(1), 0, at(10_000));
    b.send(&b.beat(2), 0, at(20_000));
    assert_eq!(b.see().jitter_ms, 0.0);
    b.send(&b.beat(3), 0, at(30_160));
    assert_eq!(b.see().jitter_ms, 10.0);
    b.send(&b.beat(4), 0, at(40_160));
    assert_eq!(b.see().jitter_ms, 9.375);
}

#[test]
fn the_clock_offset_is_the_least_of_the_last_heartbeats() {
    let b = Bench::new();
    assert_eq!(b.see().clock_offset_ms, i64::MIN);
    // Sensor clock: ten seconds a beat from zero. Wall clock here: 7 s ahead of that, path 3 ms at least.
    let wall =
        |mono: MonoNanos| Now { mono, unix: UnixMillis(((mono.0 - at(0).0) / 1_000_000) as i64 + 7_000) };
    for sequence in 1..=20_u64 {
        b.send(&b.beat(sequence), 0, at(sequence * 10_000 + 3 + sequence % 5));
    }
    assert_eq!(b.see().clock_offset_ms, i64::MIN, "nobody told the wall time yet");
    b.live.set_wall(wall(at(200_000)));
    assert_eq!(b.see().clock_offset_ms, 7_003);
    // The server's own clock steps: all offsets follow at once.
    let stepped = wall(at(200_000));
    b.live.set_wall(Now { unix: UnixMillis(stepped.unix.0 - 7_000), ..stepped });
    assert_eq!(b.see().clock_offset_ms, 3);
    b.live.set_wall(stepped);
    // The sensor's clock steps back ten seconds: seen once the group before is gone.
    for sequence in 21..=40_u64 {
        let clock = b.beat(sequence).sensor_clock_unix_us - 10_000_000;
        let beat = Heartbeat { sensor_clock_unix_us: clock, ..b.beat(sequence) };
        b.send(&beat, 0, at(sequence * 10_000 + 3));
    }
    assert_eq!(b.see().clock_offset_ms, 17_003);
}

#[test]
fn hostile_clocks_counters_and_sequences_stay_in_bounds() {
    let b = Bench::new();
    b.live.set_wall(Now { mono: at(0), unix: UnixMillis(1_795_485_600_000) });
    b.send(&b.beat(1), 0, at(0));
    for (sequence, all) in [(2, 0), (3, u64::MAX), (4, 0), (u64::MAX, u64::MAX)] {
        let beat = Heartbeat {
            sequence,
            uptime_ms: all,
            sensor_clock_unix_us: if all == 0 { i64::MIN } else { i64::MAX },
            rx_packets: all,
            rx_bytes: all,
            rx_dropped: all,
            interval_ms: u32::MAX,
            ..b.beat(1)
        };
        assert_eq!(b.send(&beat, 0, at(sequence.min(100) * 1_000)), Observed::Current);
        let s = b.see();
        assert!(s.jitter_ms.is_finite() && s.jitter_ms <= 60_000.0);
        assert!(!s.rx_bytes_per_s.is_infinite() && !s.drop_ratio.is_infinite());
        assert_ne!(s.clock_offset_ms, i64::MIN);
    }
    assert_eq!(b.see().lost, SEQUENCE_JUMP_MAX);
}

#[test]
fn a_sensor_that_counts_backwards_does_not_look_dead_for_ever() {
    let b = Bench::new();
    b.send(&b.beat(1_000), 0, at(0));
    let distrust = SEQUENCE_DISTRUST_MIN.as_millis() as u64;
    assert_eq!(b.send(&b.beat(5), 0, at(10_000)), Observed::BeyondWindow);
    assert_eq!(b.send(&b.beat(6), 0, at(distrust)), Observed::BeyondWindow);
    assert_eq!(b.send(&b.beat(7), 0, at(distrust + 1)), Observed::Current);
    assert_eq!((b.see().last_heartbeat, b.see().rollbacks), (at(distrust + 1), 1));
}

#[test]
fn columns_say_what_changed_and_what_holds() {
    let b = Bench::new();
    let state = || {
        let columns = b.live.columns().next().expect("one chunk");
        assert_eq!((columns.len(), columns.index(0)), (1, b.handle.index));
        (columns.state(0), columns.last_heartbeat(0))
    };
    let (before, never) = state();
    assert!(
        never.is_never() && before.flags.has(SlotFlags::OCCUPIED) && before.flags.has(SlotFlags::CONNECTED)
    );
    b.send(&Heartbeat { flags: FLAG_GOODBYE, ..b.beat(1) }, 0, at(5));
    let (after, last) = state();
    assert_ne!(before.changes, after.changes);
    assert_eq!(last, at(5));
    assert!(after.flags.has(SlotFlags::GOODBYE) && after.flags.has(SlotFlags::HEARD));
    assert!(b.see().goodbye);
    b.send(&b.beat(2), 0, at(6));
    assert!(!state().0.flags.has(SlotFlags::GOODBYE));
    b.live.set_facts(b.handle, SlotFacts { muted: true, ..facts() });
    assert!(state().0.flags.has(SlotFlags::MUTED));
    let changes = state().0.changes;
    b.live.set_verdict(b.handle.index, 1, 2);
    b.live.set_journalled(b.handle.index, 3);
    assert_eq!(state().0.changes, changes, "a verdict is no change");
    b.live.set_overall(b.handle.index, 4);
    assert_eq!(b.live.verdict(b.handle.index), Verdict { active: 1, unknown: 2, journalled: 3, overall: 4 });
    b.live.remove(b.see().id);
    assert_eq!(b.live.verdict(b.handle.index), Verdict::default(), "nothing is left to the next sensor");
}

#[test]
fn what_our_own_buffer_lost_is_not_held_against_the_link() {
    let b = Bench::new();
    let hear = |sequence, at, unheard_until| {
        let mut bytes = Vec::new();
        write_frame(&b.beat(sequence), 0, &mut bytes);
        let (frame, _) = read_frame(&bytes).expect("our frame");
        let receipt = Receipt { unheard_until, ..Receipt::exact(at) };
        let seen = b.live.observe_receipt(b.handle, b.writer, &frame, receipt);
        assert_eq!(seen, Observed::Current);
    };
    hear(1, at(0), MonoNanos::NEVER);
    // Waited in the buffer, and is read before it is empty; the next ones found it full.
    hear(2, at(10_000), MonoNanos(u64::MAX));
    hear(20, at(10_001), at(10_000));
    assert_eq!((b.see().lost, b.see().window_expected), (0, 1));
    // From here on a gap is a gap.
    hear(22, at(30_000), at(10_000));
    assert_eq!((b.see().lost, b.see().window_expected), (1, 3));
}

#[test]
fn a_copy_that_waited_for_a_suspended_reader_is_not_news() {
    let b = Bench::new();
    let hear = |beat: &Heartbeat, now, emptied| {
        let mut bytes = Vec::new();
        write_frame(beat, 0, &mut bytes);
        let (frame, _) = read_frame(&bytes).expect("our frame");
        let receipt = Receipt { after: emptied, ..Receipt::exact(now) };
        b.live.observe_receipt(b.handle, b.writer, &frame, receipt)
    };
    let (boot_before, old) = (b.beat(9), b.beat(1));
    let new_boot = |sequence| Heartbeat { boot_id: old.boot_id + 1, ..b.beat(sequence) };
    assert_eq!(hear(&boot_before, at(0), at(0)), Observed::Current);
    for sequence in 1..=3 {
        assert_eq!(hear(&new_boot(sequence), at(1_000 * sequence), at(1_000 * sequence)), Observed::Current);
    }
    // The reader stands still for five minutes; what it finds then came in at any time of these.
    assert_eq!(hear(&new_boot(2), at(303_000), at(3_000)), Observed::Duplicate);
    assert_eq!(hear(&old, at(303_000), at(3_000)), Observed::BeyondWindow);
    assert_eq!(b.see().last_heartbeat, at(3_000));
    assert_eq!((b.see().rollbacks, b.see().restarts), (0, 1));
    // What comes when it reads again as it should is known to be long after.
    assert_eq!(hear(&new_boot(2), at(304_000), at(303_900)), Observed::Current);
    assert_eq!(b.see().rollbacks, 1);
}

#[test]
fn behind_a_gateway_an_older_boot_is_known_by_its_uptime() {
    let b = Bench::new();
    let gateway = b.live.insert_gateway(GatewayId::from_number(5), &[SiteIndex(0)]).expect("room");
    let Writer::Direct { epoch } = b.writer else { panic!("direct") };
    b.live.release(b.handle, epoch, at(0));
    let hear = |boot: u64, uptime_ms: u64, sequence: u64, now: u64| {
        let beat = Heartbeat { boot_id: boot, uptime_ms, ..b.beat(sequence) };
        observe(&b.live, b.handle, Writer::Gateway(gateway), &beat, 0, at(now))
    };
    // The first that a server hears is a new boot; then a copy of the one before comes out of some queue.
    assert_eq!(hear(2, 10_000, 1, 600_000), Observed::Current);
    assert_eq!(hear(1, 420_000, 42, 605_000), Observed::BeyondWindow);
    assert_eq!(hear(2, 20_000, 2, 610_000), Observed::Current);
    // A copy whose boot had hardly begun passes for a start; the sensor's next word wins all the same once its boot
    // is known to be the later one.
    assert_eq!(hear(1, 1_000, 43, 615_000), Observed::Current);
    assert_eq!(hear(2, 30_000, 3, 620_000), Observed::BeyondWindow);
    assert_eq!(hear(3, 1_000, 1, 700_000), Observed::Current);
    assert_eq!(hear(1, 300_000, 44, 701_000), Observed::BeyondWindow);
    assert_eq!(hear(3, 11_000, 2, 710_000), Observed::Current);
    assert_eq!(b.see().restarts, 2);
}

#[test]
fn the_update_stage_remembers_since_when() {
    let b = Bench::new();
    let stage =
        |sequence, stage: UpdateStage| Heartbeat { update_stage: stage.to_wire(), ..b.beat(sequence) };
    b.send(&stage(1, UpdateStage::Idle), 0, at(0));
    b.send(&stage(2, UpdateStage::Installing), 0, at(10_000));
    b.send(&stage(3, UpdateStage::Installing), 0, at(20_000));
    assert_eq!(b.see().update_stage_since, at(10_000));
}

#[test]
fn a_gateway_speaks_for_its_sites_while_the_sensor_has_no_connection() {
    let b = Bench::new();
    let gateway = GatewayId::from_number(5);
    let sites: Vec<SiteIndex> = (0..40).map(SiteIndex).collect();
    let index = b.live.insert_gateway(gateway, &sites).expect("room");
    assert_eq!(b.live.find_gateway(gateway), Some(index));
    assert!(b.live.gateway_covers(index, SiteIndex(39)) && !b.live.gateway_covers(index, SiteIndex(40)));
    let via = Writer::Gateway(index);
    assert_eq!(observe(&b.live, b.handle, via, &b.beat(1), 0, at(0)), Observed::NotOwner);
    let Writer::Direct { epoch } = b.writer else { panic!("direct") };
    assert!(b.live.renew(b.handle, epoch, UnixMillis(7_000), 0x7fff));
    b.live.release(b.handle, epoch, at(0));
    assert!(!b.live.renew(b.handle, epoch, UnixMillis(9_000), 1), "it owns it no more");
    assert_eq!(observe(&b.live, b.handle, via, &b.beat(1), 0, at(0)), Observed::Current);
    let certificate = |seen: &Snapshot| (seen.cert_not_after, seen.cert_issuer);
    assert_eq!(b.see().via_gateway, Some(index));
    assert_eq!(certificate(&b.see()), (Some(UnixMillis(7_000)), 0x7fff), "of its own last connection");
    let taken = b.live.gateway_take(index, OWNER, at(0)).expect("registered");
    assert!(b.live.gateway_seen(index, taken.epoch, at(9)));
    let seen = b.live.gateway_snapshot(index).expect("registered");
    assert_eq!((seen.sensors, seen.connected, seen.last_seen), (1, true, at(9)));
    assert_eq!(seen.sites, sites);
    b.live.take(b.handle, OTHER, UnixMillis(0), at(10)).expect("fresh");
    assert_eq!(b.see().via_gateway, None);
    assert_eq!(b.see().cert_issuer, 0, "not known until it is said");
    assert_eq!(b.live.gateway_snapshot(index).map(|seen| seen.sensors), Some(0));
    let version = b.live.gateway_version(index);
    assert!(b.live.set_gateway_sites(index, &[SiteIndex(40)]));
    assert_ne!(b.live.gateway_version(index), version);
    assert!(b.live.gateway_covers(index, SiteIndex(40)) && !b.live.gateway_covers(index, SiteIndex(39)));
    assert_eq!(b.live.remove_gateway(gateway), Some((index, Some(OWNER))));
    assert!(b.live.find_gateway(gateway).is_none() && !b.live.gateway_covers(index, SiteIndex(40)));
    assert!(b.live.gateway_take(index, OWNER, at(0)).is_err());
    assert_eq!(b.live.insert_gateway(gateway, &[]), Ok(index), "it gets its old index back");
}

#[test]
fn of_two_machines_with_one_key_the_one_that_is_connected_is_heard() {
    let mut bench = Bench::new();
    let beat = |bench: &Bench, boot: u64, sequence: u64| Heartbeat { boot_id: boot, ..bench.beat(sequence) };
    let take = |bench: &Bench, owner: OwnerRef, now: u64| Writer::Direct {
        epoch: bench.live.take(bench.handle, owner, UnixMillis(5_000), at(now)).expect("registered").epoch,
    };
    assert_eq!(bench.send(&beat(&bench, 1, 1), 0, at(0)), Observed::Current);
    let first = bench.writer;
    bench.writer = take(&bench, OTHER, 5_000);
    assert_eq!(bench.send(&beat(&bench, 2, 400), 0, at(6_000)), Observed::Current);
    assert_eq!(
        observe(&bench.live, bench.handle, first, &beat(&bench, 1, 2), 0, at(7_000)),
        Observed::NotOwner
    );
    bench.writer = take(&bench, OWNER, 20_000);
    assert_eq!(
        bench.send(&beat(&bench, 1, 3), 18_000, at(20_000)),
        Observed::BeyondWindow,
        "older than the other's"
    );
    assert_eq!(bench.send(&beat(&bench, 1, 4), 0, at(21_000)), Observed::Current);
    assert_eq!(bench.see().last_heartbeat, at(21_000));
}
