//! Real threads; also run under Miri, with fewer rounds.

use std::sync::atomic::{AtomicBool, Ordering};

use super::slot::{Refused, Slot};

const ROUNDS: u64 = if cfg!(miri) { 40 } else { 100_000 };

#[test]
fn readers_see_whole_writes_while_a_writer_is_at_it() {
    let slot = Slot::<5>::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                let mut guard = slot.write(1, u32::MAX).expect("same generation");
                for word in 0..5 {
                    guard.set(word, round * (word as u64 + 1));
                }
            }
            done.store(true, Ordering::Release);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                let mut newest = 0;
                while !done.load(Ordering::Acquire) {
                    let copy = slot.read(64, |_, words| {
                        std::array::from_fn::<u64, 5, _>(|word| words[word].load(Ordering::Relaxed))
                    });
                    if let Some(copy) = copy {
                        assert!(
                            copy.iter()
                                .enumerate()
                                .all(|(word, &value)| value == copy[0] * (word as u64 + 1))
                        );
                        assert!(copy[0] >= newest, "time went backwards");
                        newest = copy[0];
                    }
                    std::hint::spin_loop();
                }
            });
        }
    });
}

#[test]
fn many_writers_take_turns() {
    let slot = Slot::<1>::new();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let mut guard = slot.write(1, u32::MAX).expect("same generation");
                    guard.set(0, guard.get(0) + 1);
                }
            });
        }
    });
    assert_eq!(slot.peek(1, 0), Some(3 * ROUNDS));
}

#[test]
fn a_handle_of_an_older_generation_is_refused_at_once() {
    let slot = Slot::<2>::new();
    slot.write(1, 1).expect("free").set(0, 5);
    slot.write(1, 1).expect("free").retire();
    assert_eq!(slot.write(1, 1).err(), Some(Refused::Stale));
    assert_eq!(slot.generation(), 2);
    assert_eq!(slot.peek(2, 0), Some(0));
    assert_eq!(slot.peek(1, 0), None);
}

#[test]
fn a_second_writer_and_a_reader_give_up_on_a_busy_slot() {
    let slot = Slot::<2>::new();
    let held = slot.write(1, 1).expect("free");
    assert_eq!(slot.write(1, 8).err(), Some(Refused::Busy));
    assert_eq!(slot.read(8, |_, _| ()), None);
    drop(held);
    assert_eq!(slot.read(1, |generation, _| generation), Some(1));
}

#[test]
fn the_sequence_wraps_without_reaching_the_generation() {
    let slot = Slot::<1>::new();
    slot.set_lock(1 << 32 | 0xffff_fffe);
    slot.write(1, 1).expect("free").set(0, 1);
    assert_eq!(slot.generation(), 1);
    assert_eq!(slot.peek(1, 0), Some(1));
}
