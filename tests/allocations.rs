//! Reading frames and observing them allocates nothing, proven by an allocator that counts.
//!
//! In a binary of its own, since a program has one allocator. Counts are kept by thread: the test harness
//! may do what it wants on its own.

#![allow(unsafe_code, reason = "a global allocator is unsafe to implement; this one only counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use fleetpulse::live::{
    Lifecycle, LiveState, Observed, OwnerRef, PolicyIndex, SensorType, SiteIndex, SlotFacts, Writer,
};
use fleetpulse::time::{MONO_ORIGIN, UnixMillis};
use fleetpulse::wire::frame::{
    HEARTBEAT_FRAME_BYTES, StreamFrames, add_age, frames, read_frame, write_frame,
};
use fleetpulse::wire::heartbeat::Heartbeat;
use fleetpulse::wire::id::{GatewayId, SensorId};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator with the caller's own arguments; counting touches only a
// thread-local integer without a destructor, which itself allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` by `alloc` or `realloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the pointer came from `System`, and the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread during `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(Box::new(1))), 1);
    assert_eq!(allocations(|| ()), 0);
}

#[test]
fn a_heartbeat_allocates_nothing_from_packet_to_slot() {
    let live = LiveState::with_capacity(10_000);
    let facts = SlotFacts {
        kind: SensorType::OtCloud,
        lifecycle: Lifecycle::Active,
        site: SiteIndex(1),
        policy: PolicyIndex(0),
        muted: false,
    };
    let id = SensorId::from_number(1);
    let direct = live.insert(id, facts).expect("room");
    let behind = live.insert(SensorId::from_number(2), facts).expect("room");
    let gateway = live.insert_gateway(GatewayId::from_number(1), &[SiteIndex(1)]).expect("room");
    let owner = OwnerRef { node: 0, shard: 0, connection: 0 };
    let at = |ms| MONO_ORIGIN.plus(Duration::from_millis(ms));
    let epoch = live.take(direct, owner, UnixMillis(0), at(0)).expect("fresh").epoch;

    // Newest, gaps, duplicates, late ones, restarts, a newer schema's values, and refused ones.
    let mut datagrams = Vec::new();
    for step in 0..1_000_u64 {
        let mut datagram = Vec::new();
        for sequence in [step * 3 + 2, step * 3 + 1, step * 3 + 2] {
            let beat = Heartbeat {
                sensor_id: id.0,
                boot_id: 1 + step / 100,
                sequence,
                uptime_ms: step * 1_000,
                rx_packets: step * 7,
                profile: (step % 20) as u8,
                update_percent: (step % 110) as u8,
                ..Heartbeat::default()
            };
            write_frame(&beat, (step % 5) as u32, &mut datagram);
        }
        datagrams.push(datagram);
    }
    let mut outcomes = [0_u64; Observed::ALL.len()];
    let mut refused = 0_u64;
    let count = allocations(|| {
        for (step, datagram) in datagrams.iter().enumerate() {
            let now = at(step as u64 * 1_000);
            for frame in frames(datagram) {
                match frame {
                    Ok(frame) => {
                        let observed = live.observe(direct, Writer::Direct { epoch }, &frame, now);
                        outcomes[observed.index()] += 1;
                        assert!(live.gateway_covers(gateway, SiteIndex(1)));
                        outcomes[live.observe(behind, Writer::Gateway(gateway), &frame, now).index()] += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
            live.seen_transport(direct, epoch, now);
            assert!(live.snapshot(direct.index).is_some());
        }
    });
    assert_eq!(count, 0);
    assert!(refused > 0, "the refused path was walked");
    for walked in [Observed::Current, Observed::Late, Observed::Duplicate] {
        assert!(outcomes[walked.index()] > 0, "{} was walked", walked.label());
    }
}

#[test]
fn a_stream_allocates_once_however_it_is_cut() {
    let mut whole = Vec::new();
    for sequence in 1..=200 {
        let beat = Heartbeat { sensor_id: [1; 16], sequence, ..Heartbeat::default() };
        write_frame(&beat, 0, &mut whole);
    }
    let mut read = 0;
    let aligned = allocations(|| {
        let mut stream = StreamFrames::new();
        for chunk in whole.chunks(HEARTBEAT_FRAME_BYTES * 3) {
            assert_eq!(stream.push(chunk, |_| read += 1), Ok(()));
        }
    });
    assert_eq!((aligned, read), (0, 200), "whole frames are read in place");
    let across = allocations(|| {
        let mut stream = StreamFrames::new();
        for chunk in whole.chunks(1_199) {
            assert_eq!(stream.push(chunk, |_| read += 1), Ok(()));
        }
    });
    assert_eq!((across, read), (1, 400), "one buffer for frames that cross chunks");
}

#[test]
fn sending_allocates_nothing_but_the_buffer() {
    let beat = Heartbeat { sensor_id: [1; 16], ..Heartbeat::default() };
    let mut buffer = Vec::with_capacity(HEARTBEAT_FRAME_BYTES);
    let count = allocations(|| {
        for _ in 0..100 {
            buffer.clear();
            write_frame(&beat, 1, &mut buffer);
            assert!(add_age(&mut buffer, 1));
        }
    });
    assert_eq!(count, 0);
    assert!(read_frame(&buffer).is_ok());
}
