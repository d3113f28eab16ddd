//! Every interleaving of a few small programs, under the memory model that loom explores.

use loom::sync::Arc;
use loom::sync::atomic::Ordering;
use loom::thread;

use super::slot::{Refused, Slot};

const TRIES: u32 = 2;

fn both(slot: &Slot<2>) -> Option<(u32, u64, u64)> {
    slot.read(TRIES, |generation, words| {
        (generation, words[0].load(Ordering::Relaxed), words[1].load(Ordering::Relaxed))
    })
}

#[test]
fn a_reader_never_sees_half_a_write() {
    loom::model(|| {
        let slot = Arc::new(Slot::<2>::new());
        let writer = {
            let slot = slot.clone();
            thread::spawn(move || {
                for value in 1..=2 {
                    let mut guard = slot.write(1, TRIES).expect("the only writer");
                    guard.set(0, value);
                    guard.set(1, value);
                }
            })
        };
        if let Some((_, first, second)) = both(&slot) {
            assert_eq!(first, second);
        }
        writer.join().expect("writer");
        assert_eq!(both(&slot), Some((1, 2, 2)));
    });
}

#[test]
fn two_writers_never_lose_a_write_that_was_let_in() {
    loom::model(|| {
        let slot = Arc::new(Slot::<2>::new());
        let add = |slot: &Slot<2>| match slot.write(1, TRIES) {
            Ok(mut guard) => {
                guard.set(0, guard.get(0) + 1);
                guard.set(1, guard.get(1) + 1);
                1
            }
            Err(refused) => {
                assert_eq!(refused, Refused::Busy);
                0
            }
        };
        let other = {
            let slot = slot.clone();
            thread::spawn(move || add(&slot))
        };
        let mine = add(&slot);
        let theirs = other.join().expect("writer");
        assert!(mine + theirs >= 1);
        assert_eq!(both(&slot), Some((1, mine + theirs, mine + theirs)));
    });
}

#[test]
fn a_stale_writer_never_touches_the_next_owner() {
    loom::model(|| {
        let slot = Arc::new(Slot::<2>::new());
        let stale = {
            let slot = slot.clone();
            thread::spawn(move || {
                if let Ok(mut guard) = slot.write(1, TRIES) {
                    guard.set(0, 7);
                    guard.set(1, 7);
                }
            })
        };
        let recycled = match slot.write(1, TRIES) {
            Ok(mut guard) => {
                guard.retire();
                true
            }
            Err(_) => false,
        };
        if recycled {
            let mut guard = slot.write(2, TRIES).expect("nobody else has generation 2");
            assert_eq!((guard.get(0), guard.get(1)), (0, 0));
            guard.set(0, 9);
            guard.set(1, 9);
        }
        if let Some((generation, first, second)) = both(&slot) {
            let expected: &[u64] = if generation == 2 { &[9] } else { &[0, 7] };
            assert!(expected.contains(&first) && first == second);
        }
        stale.join().expect("writer");
        if recycled {
            assert_eq!(both(&slot), Some((2, 9, 9)));
        }
    });
}

#[test]
fn a_peek_is_of_the_generation_that_was_asked_for() {
    loom::model(|| {
        let slot = Arc::new(Slot::<2>::new());
        slot.write(1, TRIES).expect("alone").set(0, 1);
        let recycler = {
            let slot = slot.clone();
            thread::spawn(move || {
                slot.write(1, TRIES).expect("the only writer").retire();
                slot.write(2, TRIES).expect("the only writer").set(0, 2);
            })
        };
        if let Some(value) = slot.peek(1, 0) {
            assert!(value <= 1, "a word of the next owner under the old handle");
        }
        recycler.join().expect("recycler");
        assert_eq!((slot.peek(1, 0), slot.peek(2, 0)), (None, Some(2)));
    });
}
