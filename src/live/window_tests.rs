//! The accounting against a model that remembers everything.

use std::collections::HashSet;

use proptest::prelude::*;

use super::window::{Arrival, Arrivals, Time, delivery_ratio};
use crate::limits::SEQUENCE_JUMP_MAX;

fn newest(arrivals: &mut Arrivals, sequence: u64) -> Arrival {
    arrivals.judge(1, sequence, Time::Newer)
}

#[test]
fn a_gap_is_lost_until_its_frame_arrives_late() {
    let mut a = Arrivals::default();
    assert_eq!(newest(&mut a, 10), Arrival::First);
    assert_eq!(newest(&mut a, 14), Arrival::Newest);
    assert_eq!((a.received, a.lost), (2, 3));
    assert_eq!(delivery_ratio(a.window, a.expected), 0.4);
    assert_eq!(newest(&mut a, 12), Arrival::Late);
    assert_eq!(newest(&mut a, 12), Arrival::Duplicate);
    assert_eq!((a.received, a.lost, a.reordered, a.duplicates), (3, 2, 1, 1));
}

#[test]
fn what_was_before_the_first_seen_was_never_expected() {
    let mut a = Arrivals::default();
    newest(&mut a, 10);
    assert_eq!(newest(&mut a, 9), Arrival::Late);
    assert_eq!((a.received, a.lost, a.expected), (2, 0, 1));
}

#[test]
fn a_straggler_beyond_the_window_stays_lost() {
    let mut a = Arrivals::default();
    newest(&mut a, 1);
    newest(&mut a, 66);
    assert_eq!(a.lost, 64);
    assert_eq!(newest(&mut a, 2), Arrival::Beyond);
    assert_eq!(newest(&mut a, 3), Arrival::Late);
    assert_eq!((a.lost, a.beyond), (63, 1));
}

#[test]
fn a_restart_counts_what_the_new_boot_lost_and_ignores_stragglers_of_the_old() {
    let mut a = Arrivals::default();
    newest(&mut a, 100);
    assert_eq!(a.judge(2, 3, Time::Newer), Arrival::Restart);
    assert_eq!((a.lost, a.expected, a.boot, a.boot_before), (2, 3, 2, 1));
    assert_eq!(a.judge(1, 101, Time::Newer), Arrival::Beyond);
    assert_eq!(a.judge(3, 1, Time::Older), Arrival::Beyond);
    assert_eq!(a.judge(2, 2, Time::Newer), Arrival::Late);
    assert_eq!(a.lost, 1);
    // The old boot, long after the new one fell silent, is the sensor again.
    assert_eq!(a.judge(1, 102, Time::LongAfter), Arrival::Restart);
}

#[test]
fn a_sequence_that_went_backwards_is_believed_in_the_end() {
    let mut a = Arrivals::default();
    newest(&mut a, 1_000);
    assert_eq!(newest(&mut a, 5), Arrival::Beyond);
    assert_eq!(a.judge(1, 6, Time::LongAfter), Arrival::Newest);
    assert_eq!((a.high, a.expected, a.rollbacks, a.lost), (6, 1, 1, 0));
    assert_eq!(newest(&mut a, 7), Arrival::Newest);
}

#[test]
fn hostile_sequences_are_bounded() {
    let mut a = Arrivals::default();
    newest(&mut a, 1);
    assert_eq!(newest(&mut a, u64::MAX), Arrival::Newest);
    assert_eq!((a.lost, a.expected, a.window), (SEQUENCE_JUMP_MAX, 1, 1));
    assert_eq!(newest(&mut a, u64::MAX), Arrival::Duplicate);
    assert_eq!(newest(&mut a, 2), Arrival::Beyond);
    assert_eq!(a.judge(9, u64::MAX, Time::Newer), Arrival::Restart);
    assert_eq!(a.lost, 2 * SEQUENCE_JUMP_MAX);
}

#[test]
fn a_higher_sequence_is_newer_whatever_its_time_says() {
    let mut a = Arrivals::default();
    newest(&mut a, 1);
    assert_eq!(a.judge(1, 3, Time::Older), Arrival::Newest);
    assert_eq!((a.high, a.received, a.lost), (3, 2, 1));
}

#[test]
fn what_a_restarted_server_did_not_see_is_not_lost() {
    let mut a = Arrivals::default();
    newest(&mut a, 1);
    newest(&mut a, 2);
    a.unheard = true;
    assert_eq!(newest(&mut a, 40), Arrival::Newest);
    assert_eq!((a.lost, a.expected, a.unheard), (0, 1, false));
    assert_eq!(newest(&mut a, 42), Arrival::Newest);
    assert_eq!((a.lost, a.expected), (1, 3));
    // Still known from before the restart.
    assert_eq!(newest(&mut a, 2), Arrival::Duplicate);
    // From the time in between: news, but never counted as lost before.
    assert_eq!(newest(&mut a, 20), Arrival::Late);
    assert_eq!((a.lost, a.received), (1, 5));
}

/// Remembers every sequence of the boot.
#[derive(Default)]
struct Model {
    seen: HashSet<u64>,
    base: u64,
    high: u64,
    beyond: u64,
    duplicates: u64,
}

impl Model {
    fn arrive(&mut self, sequence: u64) -> Arrival {
        if self.seen.is_empty() {
            (self.base, self.high) = (sequence, sequence);
            self.seen.insert(sequence);
            return Arrival::First;
        }
        if sequence > self.high {
            self.high = sequence;
            self.seen.insert(sequence);
            return Arrival::Newest;
        }
        if self.high - sequence >= 64 {
            self.beyond += 1;
            return Arrival::Beyond;
        }
        if !self.seen.insert(sequence) {
            self.duplicates += 1;
            return Arrival::Duplicate;
        }
        Arrival::Late
    }

    fn lost(&self) -> u64 {
        (self.base..=self.high).filter(|sequence| !self.seen.contains(sequence)).count() as u64
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any mix of loss, duplication and reordering gives the figures of the model, after every frame.
    #[test]
    fn figures_are_those_of_a_model_that_remembers_everything(
        start in 1_u64..1_000,
        steps in prop::collection::vec(-70_i64..12, 1..400),
    ) {
        let mut arrivals = Arrivals::default();
        let mut model = Model::default();
        let mut high = start;
        for step in steps {
            let sequence = high.saturating_add_signed(step).max(1);
            let judged = arrivals.judge(7, sequence, Time::Newer);
            prop_assert_eq!(judged, model.arrive(sequence), "sequence {}", sequence);
            high = model.high;
            prop_assert_eq!(arrivals.lost, model.lost());
            prop_assert_eq!(arrivals.received, model.seen.len() as u64);
            prop_assert_eq!(u64::from(arrivals.duplicates), model.duplicates);
            prop_assert_eq!(u64::from(arrivals.beyond), model.beyond);
            let expected = (high - model.base + 1).min(64);
            prop_assert_eq!(u64::from(arrivals.expected), expected);
            let here = (0..expected).filter(|back| model.seen.contains(&(high - back))).count();
            let ratio = delivery_ratio(arrivals.window, arrivals.expected);
            prop_assert_eq!(ratio, here as f32 / expected as f32);
        }
    }

    /// Nothing that a sensor can send panics or runs a counter over.
    #[test]
    fn no_input_panics(frames in prop::collection::vec((0_u64..4, any::<u64>(), 0_u8..3), 1..200)) {
        let mut arrivals = Arrivals::default();
        for (boot, sequence, time) in frames {
            let time = [Time::Older, Time::Newer, Time::LongAfter][usize::from(time)];
            arrivals.judge(boot + 1, sequence.max(1), time);
            prop_assert!(arrivals.expected <= 64 && arrivals.window & 1 == 1);
        }
        prop_assert!(arrivals.lost <= 200 * SEQUENCE_JUMP_MAX);
    }
}
