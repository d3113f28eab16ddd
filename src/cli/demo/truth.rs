//! The truth table: what the scenario did to the fleet against what the engine said about it.
//!
//! Pure: faults and transitions in, rows out. A row is right when its message was raised after the fault
//! began, stayed while it lasted, and cleared after it ended. Whatever was raised and belongs to no fault is
//! false. All times are engine time, so a stall of this process cannot make a row look late or early.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::MonoNanos;

/// One message that one fault must raise on one subject.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// The fault's name in the scenario.
    pub fault: String,
    /// Whom it hits, as people read it.
    pub subject: String,
    /// Code of the message.
    pub code: &'static str,
    /// When the fault began.
    pub from: MonoNanos,
    /// When it ended; `None` = it lasts beyond the run.
    pub until: Option<MonoNanos>,
    /// False for a message that may come with the fault and need not.
    pub required: bool,
}

/// One transition that the journal holds.
#[derive(Clone, Debug)]
pub struct Seen {
    /// On whom.
    pub subject: String,
    /// Code of the message.
    pub code: &'static str,
    /// Raised or cleared.
    pub raised: bool,
    /// When.
    pub at: MonoNanos,
}

/// One line of the table: an expectation and what came of it, for all subjects of one fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The fault's name in the scenario.
    pub fault: String,
    /// Code of the message.
    pub code: &'static str,
    /// Subjects that must show it.
    pub expected: usize,
    /// Subjects that did, from after the fault began.
    pub raised: usize,
    /// Subjects on which it cleared after the fault ended.
    pub cleared: usize,
    /// Subjects on which it had to clear within the run.
    pub to_clear: usize,
    /// Longest time from the fault's start to the message.
    pub raised_after_max: Option<Duration>,
    /// Longest time from the fault's end to the clearing.
    pub cleared_after_max: Option<Duration>,
}

impl Row {
    /// Every subject showed it and lost it again.
    pub fn right(&self) -> bool {
        self.raised == self.expected && self.cleared == self.to_clear
    }
}

/// The whole comparison.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// One row for each fault and message.
    pub rows: Vec<Row>,
    /// Raised without a fault, or cleared and raised again while it lasted.
    pub unexpected: Vec<Seen>,
}

impl Truth {
    /// Nothing missed, nothing false.
    pub fn perfect(&self) -> bool {
        self.unexpected.is_empty() && self.rows.iter().all(Row::right)
    }
}

/// Compares what was done with what was said. `settle` is how long after a fault its last message may still
/// be raised (the frames that carry it are on their way); `end` is the end of the run, and a fault that ended
/// less than `clear_within` before it need not have cleared.
pub fn judge(
    expectations: &[Expectation],
    seen: &[Seen],
    settle: Duration,
    clear_within: Duration,
    end: MonoNanos,
) -> Truth {
    let mut by_message: BTreeMap<(&str, &str), Vec<&Seen>> = BTreeMap::new();
    for transition in seen {
        by_message.entry((&transition.subject, transition.code)).or_default().push(transition);
    }
    for transitions in by_message.values_mut() {
        transitions.sort_by_key(|transition| transition.at);
    }
    let mut truth = Truth::default();
    let mut explained: Vec<(&str, &str, MonoNanos)> = Vec::new();
    for expectation in expectations {
        let transitions = by_message.get(&(expectation.subject.as_str(), expectation.code));
        let last = expectation.until.map_or(MonoNanos(u64::MAX), |until| until.plus(settle));
        let raised = transitions.and_then(|transitions| {
            transitions.iter().find(|t| t.raised && t.at >= expectation.from && t.at <= last)
        });
        if let Some(raised) = raised {
            explained.push((&expectation.subject, expectation.code, raised.at));
        }
        if !expectation.required {
            continue;
        }
        let cleared = raised.zip(expectation.until).and_then(|(raised, until)| {
            let after = transitions?.iter().find(|t| !t.raised && t.at >= raised.at)?;
            (after.at >= until).then(|| after.at.since(until))
        });
        let must_clear = expectation.until.is_some_and(|until| until.plus(clear_within) <= end);
        let row = row_of(&mut truth.rows, expectation);
        row.expected += 1;
        row.to_clear += usize::from(must_clear);
        if let Some(raised) = raised {
            row.raised += 1;
            row.raised_after_max = row.raised_after_max.max(Some(raised.at.since(expectation.from)));
        }
        if must_clear && cleared.is_some() {
            row.cleared += 1;
        }
        row.cleared_after_max = row.cleared_after_max.max(cleared);
    }
    explained.sort();
    truth.unexpected = seen
        .iter()
        .filter(|t| t.raised && explained.binary_search(&(t.subject.as_str(), t.code, t.at)).is_err())
        .cloned()
        .collect();
    truth
}

fn row_of<'t>(rows: &'t mut Vec<Row>, expectation: &Expectation) -> &'t mut Row {
    let found = rows.iter().position(|row| row.fault == expectation.fault && row.code == expectation.code);
    let index = found.unwrap_or_else(|| {
        rows.push(Row {
            fault: expectation.fault.clone(),
            code: expectation.code,
            expected: 0,
            raised: 0,
            cleared: 0,
            to_clear: 0,
            raised_after_max: None,
            cleared_after_max: None,
        });
        rows.len() - 1
    });
    &mut rows[index]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MONO_ORIGIN;

    fn at(seconds: u64) -> MonoNanos {
        MONO_ORIGIN.plus(Duration::from_secs(seconds))
    }

    fn expectation(from: u64, until: u64) -> Expectation {
        Expectation {
            fault: "silence".into(),
            subject: "s1".into(),
            code: "disconnected",
            from: at(from),
            until: Some(at(until)),
            required: true,
        }
    }

    fn seen(raised: bool, seconds: u64) -> Seen {
        Seen { subject: "s1".into(), code: "disconnected", raised, at: at(seconds) }
    }

    fn check(expectations: &[Expectation], transitions: &[Seen]) -> Truth {
        judge(expectations, transitions, Duration::from_secs(5), Duration::from_secs(20), at(120))
    }

    #[test]
    fn raised_and_cleared_in_time_is_perfect() {
        let truth = check(&[expectation(10, 40)], &[seen(true, 16), seen(false, 42)]);
        assert!(truth.perfect());
        assert_eq!(truth.rows[0].raised_after_max, Some(Duration::from_secs(6)));
        assert_eq!(truth.rows[0].cleared_after_max, Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_missed_fault_is_not() {
        assert!(!check(&[expectation(10, 40)], &[]).perfect());
    }

    #[test]
    fn a_message_that_stays_is_not() {
        assert!(!check(&[expectation(10, 40)], &[seen(true, 16)]).perfect());
    }

    #[test]
    fn a_message_that_clears_while_the_fault_lasts_is_not() {
        assert!(!check(&[expectation(10, 40)], &[seen(true, 16), seen(false, 30)]).perfect());
    }

    #[test]
    fn a_message_before_the_fault_or_without_one_is_false() {
        let early = check(&[expectation(10, 40)], &[seen(true, 9), seen(false, 42)]);
        assert_eq!(early.unexpected.len(), 1);
        assert_eq!(check(&[], &[seen(true, 9)]).unexpected.len(), 1);
    }

    #[test]
    fn flapping_is_false() {
        let flap = [seen(true, 16), seen(false, 41), seen(true, 43), seen(false, 50)];
        assert_eq!(check(&[expectation(10, 40)], &flap).unexpected.len(), 1);
    }

    #[test]
    fn a_message_that_may_come_is_neither_demanded_nor_false() {
        let mut may = expectation(10, 40);
        may.required = false;
        assert!(check(&[may.clone()], &[]).perfect());
        assert!(check(&[may], &[seen(true, 16), seen(false, 42)]).perfect());
    }

    #[test]
    fn a_fault_at_the_very_end_need_not_clear() {
        assert!(check(&[expectation(90, 110)], &[seen(true, 96)]).perfect());
    }
}
