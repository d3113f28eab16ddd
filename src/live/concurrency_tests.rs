//! Shards that fight for a sensor, a register that deletes it, and readers, all at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::tests::{at, facts};
use super::*;
use crate::time::UnixMillis;
use crate::wire::frame::{read_frame, write_frame};
use crate::wire::heartbeat::Heartbeat;
use crate::wire::id::SensorId;

const ROUNDS: u64 = 20_000;

#[test]
fn a_reader_sees_whole_heartbeats_while_two_shards_fight_and_the_register_recycles() {
    let live = LiveState::with_capacity(4);
    let id = SensorId::from_number(1);
    live.insert(id, facts()).expect("room");
    let done = AtomicBool::new(false);
    let running = AtomicU64::new(2);
    let (current, replaced, stale) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for shard in 0..2_u8 {
            let (live, done, running) = (&live, &done, &running);
            let (current, replaced, stale) = (&current, &replaced, &stale);
            scope.spawn(move || {
                let mut bytes = Vec::new();
                let mut held = None;
                for round in 1..=ROUNDS {
                    // Take it anew now and then, as a reconnecting sensor does.
                    if held.is_none() || round % 500 == 0 {
                        let owner = OwnerRef { node: 0, shard, connection: round as u32 };
                        held = live.find(id).and_then(|handle| {
                            live.take(handle, owner, UnixMillis(0), at(round))
                                .ok()
                                .map(|taken| (handle, taken))
                        });
                    }
                    let Some((handle, taken)) = held else { continue };
                    let beat = Heartbeat {
                        sensor_id: id.0,
                        boot_id: u64::from(shard) + 1,
                        sequence: round,
                        rx_packets: round,
                        settings_generation: round * 3,
                        devices: shard.into(),
                        ..Heartbeat::default()
                    };
                    bytes.clear();
                    write_frame(&beat, 0, &mut bytes);
                    let (frame, _) = read_frame(&bytes).expect("our frame");
                    let count = match live.observe(
                        handle,
                        Writer::Direct { epoch: taken.epoch },
                        &frame,
                        at(round),
                    ) {
                        Observed::NotOwner => {
                            held = None;
                            replaced
                        }
                        Observed::StaleSlot => {
                            held = None;
                            stale
                        }
                        _ => current,
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                }
                if running.fetch_sub(1, Ordering::AcqRel) == 1 {
                    done.store(true, Ordering::Release);
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                live.remove(id);
                live.insert(id, facts()).expect("room");
                for _ in 0..2_000 {
                    std::hint::spin_loop();
                }
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                for index in (0..live.slots()).map(SlotIndex) {
                    let Some(s) = live.snapshot(index) else { continue };
                    assert_eq!((s.id, s.facts), (id, facts()));
                    if s.last_heartbeat.is_never() {
                        assert_eq!((s.received, s.restarts), (0, 0), "nothing of the slot's life before");
                        continue;
                    }
                    let beat = &s.heartbeat;
                    assert_eq!(
                        (beat.sequence, beat.settings_generation),
                        (beat.rx_packets, beat.rx_packets * 3)
                    );
                    assert_eq!(beat.boot_id, u64::from(beat.devices) + 1);
                    assert!(s.received > 0 && s.window & 1 == 1);
                }
            }
        });
    });
    assert!(current.load(Ordering::Relaxed) > 0);
    // One slot, however often it was recycled, and it still works.
    assert_eq!((live.slots(), live.sensors()), (1, 1));
    let handle = live.find(id).expect("inserted last");
    assert!(live.take(handle, OwnerRef { node: 0, shard: 9, connection: 0 }, UnixMillis(0), at(0)).is_ok());
}
