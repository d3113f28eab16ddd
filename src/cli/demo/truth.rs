//! The truth table: what the scenario did to the fleet against what the engine said about it.
//!
//! Pure: faults and transitions in, rows out. A row is right when its message was raised after the fault
//! began, stayed while it lasted, and cleared after it ended. Whatever was raised and belongs to no fault is
//! false. All times are engine time, so a step of the wall clock cannot make a row look late or early.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::time::MonoNanos;

/// Stands for the code in rows of faults that must raise nothing.
pub const NO_MESSAGE: &str = "no message";

/// What a fault means for one message on one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It must come and, when there is time, go.
    Must,
    /// It may come with the fault, or after it, and must go then.
    May,
    /// It may come and go any number of times, and must go in the end.
    Often,
    /// Nothing at all may come; the code is [`NO_MESSAGE`].
    Nothing,
}

/// One message that one fault leads to on one subject.
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
    /// How long after its end the message may still be raised: what carries it is on its way.
    pub grace: Duration,
    /// How long after its end the message has surely gone. A fault that ended less than this before the end of
    /// the run need not have cleared.
    pub clear_within: Duration,
    /// What it means.
    pub need: Need,
}

/// One transition that the journal holds.
#[derive(Clone, Debug, PartialEq)]
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

/// One line of the table: a message of a fault and what came of it, on all subjects of that fault.
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
    /// Subjects on which it cleared while the fault still lasted.
    pub cleared_early: usize,
    /// Longest time from the fault's start to the message.
    pub raised_after_max: Option<Duration>,
    /// Longest time from the fault's end to the clearing.
    pub cleared_after_max: Option<Duration>,
}

impl Row {
    /// Every subject showed it and lost it again.
    pub fn right(&self) -> bool {
        self.raised == self.expected && self.cleared >= self.to_clear && self.cleared_early == 0
    }
}

/// Messages that came with a fault and need not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Came {
    /// The fault.
    pub fault: String,
    /// Code of the message.
    pub code: &'static str,
    /// On so many subjects.
    pub subjects: usize,
}

/// The whole comparison.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Truth {
    /// One row for each fault and message.
    pub rows: Vec<Row>,
    /// What came with faults and need not have.
    pub came: Vec<Came>,
    /// Raised without a fault, or cleared and raised again while it lasted.
    pub unexpected: Vec<Seen>,
    /// Raised with a fault, as they may be, and still there long after it.
    pub hanging: Vec<Seen>,
}

impl Truth {
    /// Nothing missed, nothing false.
    #[cfg(test)]
    pub fn perfect(&self) -> bool {
        self.unexpected.is_empty() && self.hanging.is_empty() && self.rows.iter().all(Row::right)
    }

    fn row(&mut self, expectation: &Expectation) -> &mut Row {
        let is_it = |row: &Row| row.fault == expectation.fault && row.code == expectation.code;
        let index = self.rows.iter().position(is_it).unwrap_or_else(|| {
            self.rows.push(Row {
                fault: expectation.fault.clone(),
                code: expectation.code,
                expected: 0,
                raised: 0,
                cleared: 0,
                to_clear: 0,
                cleared_early: 0,
                raised_after_max: None,
                cleared_after_max: None,
            });
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }

    fn count_came(&mut self, expectation: &Expectation) {
        let is_it = |came: &&mut Came| came.fault == expectation.fault && came.code == expectation.code;
        match self.came.iter_mut().find(is_it) {
            Some(came) => came.subjects += 1,
            None => {
                self.came.push(Came { fault: expectation.fault.clone(), code: expectation.code, subjects: 1 })
            }
        }
    }
}

/// Transitions by subject and code, in the order of time.
type ByMessage<'s> = BTreeMap<(&'s str, &'s str), Vec<&'s Seen>>;
/// Raises that belong to a fault.
type Explained<'s> = HashSet<(&'s str, &'s str, MonoNanos)>;

/// Compares what was done with what was said until the end of the run.
pub fn judge(expectations: &[Expectation], seen: &[Seen], end: MonoNanos) -> Truth {
    let mut by_message = ByMessage::new();
    for transition in seen {
        by_message.entry((&transition.subject, transition.code)).or_default().push(transition);
    }
    for transitions in by_message.values_mut() {
        transitions.sort_by_key(|transition| transition.at);
    }
    let mut truth = Truth::default();
    let mut explained = Explained::new();
    for expectation in expectations {
        let of_message = by_message.get(&(expectation.subject.as_str(), expectation.code));
        let transitions = of_message.map_or(&[][..], Vec::as_slice);
        let raised = match expectation.need {
            Need::Must => judge_must(&mut truth, expectation, transitions, end),
            Need::May | Need::Often => judge_may(&mut truth, expectation, transitions, end),
            Need::Nothing => None,
        };
        explained.extend(raised.map(|raised| (raised.subject.as_str(), raised.code, raised.at)));
        if expectation.need == Need::Often {
            let again = raises(expectation, transitions);
            explained.extend(again.map(|raised| (raised.subject.as_str(), raised.code, raised.at)));
        }
    }
    truth.unexpected = seen
        .iter()
        .filter(|t| t.raised && !explained.contains(&(t.subject.as_str(), t.code, t.at)))
        .cloned()
        .collect();
    for expectation in expectations.iter().filter(|expectation| expectation.need == Need::Nothing) {
        let last = latest(expectation);
        let within = |t: &Seen| t.subject == expectation.subject && (expectation.from..=last).contains(&t.at);
        let broken = truth.unexpected.iter().any(within);
        truth.row(expectation).raised += usize::from(broken);
    }
    truth
}

fn latest(expectation: &Expectation) -> MonoNanos {
    expectation.until.map_or(MonoNanos(u64::MAX), |until| until.plus(expectation.grace))
}

/// The raises that can be the expected one, in the order of time.
fn raises<'s>(expectation: &Expectation, transitions: &[&'s Seen]) -> impl Iterator<Item = &'s Seen> {
    let window = expectation.from..=latest(expectation);
    transitions.iter().copied().filter(move |t| t.raised && window.contains(&t.at))
}

fn judge_must<'s>(
    truth: &mut Truth,
    expectation: &Expectation,
    transitions: &[&'s Seen],
    end: MonoNanos,
) -> Option<&'s Seen> {
    let raised = raises(expectation, transitions).next();
    let cleared_at = raised.and_then(|raised| {
        let cleared = transitions.iter().find(|t| !t.raised && t.at >= raised.at)?;
        Some(cleared.at)
    });
    let early = cleared_at.is_some_and(|at| expectation.until.is_none_or(|until| at < until));
    let cleared = cleared_at.zip(expectation.until).filter(|_| !early).map(|(at, until)| at.since(until));
    let must_clear = expectation.until.is_some_and(|until| until.plus(expectation.clear_within) <= end);
    let row = truth.row(expectation);
    row.expected += 1;
    row.to_clear += usize::from(must_clear);
    if let Some(raised) = raised {
        row.raised += 1;
        row.raised_after_max = row.raised_after_max.max(Some(raised.at.since(expectation.from)));
    }
    row.cleared_early += usize::from(early);
    row.cleared += usize::from(cleared.is_some());
    row.cleared_after_max = row.cleared_after_max.max(cleared);
    raised
}

fn judge_may<'s>(
    truth: &mut Truth,
    expectation: &Expectation,
    transitions: &[&'s Seen],
    end: MonoNanos,
) -> Option<&'s Seen> {
    let raised = match expectation.need {
        Need::Often => raises(expectation, transitions).last()?,
        _ => raises(expectation, transitions).next()?,
    };
    truth.count_came(expectation);
    let stays = !transitions.iter().any(|t| !t.raised && t.at >= raised.at);
    let over = expectation.until.map(|until| until.max(raised.at).plus(expectation.clear_within));
    if stays && over.is_some_and(|over| over <= end) {
        truth.hanging.push(raised.clone());
    }
    Some(raised)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::at_second as at;

    fn expectation(from: u64, until: u64) -> Expectation {
        Expectation {
            fault: "silence".into(),
            subject: "s1".into(),
            code: "disconnected",
            from: at(from),
            until: Some(at(until)),
            grace: Duration::from_secs(5),
            clear_within: Duration::from_secs(20),
            need: Need::Must,
        }
    }

    fn seen(raised: bool, seconds: u64) -> Seen {
        Seen { subject: "s1".into(), code: "disconnected", raised, at: at(seconds) }
    }

    fn check(expectations: &[Expectation], transitions: &[Seen]) -> Truth {
        judge(expectations, transitions, at(120))
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
        assert!(!check(&[expectation(10, 40)], &[seen(true, 46), seen(false, 47)]).perfect(), "too late");
    }

    #[test]
    fn a_message_that_stays_is_not() {
        assert!(!check(&[expectation(10, 40)], &[seen(true, 16)]).perfect());
    }

    #[test]
    fn a_message_that_clears_while_the_fault_lasts_is_not() {
        let early = [seen(true, 16), seen(false, 30)];
        assert!(!check(&[expectation(10, 40)], &early).perfect());
        assert!(!check(&[expectation(10, 119)], &early).perfect(), "also without the time to clear");
        assert!(!check(&[Expectation { until: None, ..expectation(10, 40) }], &early).perfect());
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
    fn a_message_that_may_come_is_neither_demanded_nor_false_and_must_go() {
        let grace = Duration::from_secs(20);
        let may = Expectation { need: Need::May, grace, ..expectation(10, 40) };
        assert!(check(std::slice::from_ref(&may), &[]).perfect());
        let came = check(std::slice::from_ref(&may), &[seen(true, 55), seen(false, 58)]);
        assert!(came.perfect());
        assert_eq!(came.came, [Came { fault: "silence".into(), code: "disconnected", subjects: 1 }]);
        assert_eq!(check(std::slice::from_ref(&may), &[seen(true, 16)]).hanging.len(), 1);
        assert_eq!(
            check(std::slice::from_ref(&may), &[seen(true, 61)]).unexpected.len(),
            1,
            "long after the fault"
        );
        let twice = [seen(true, 16), seen(false, 20), seen(true, 30), seen(false, 41)];
        assert_eq!(check(std::slice::from_ref(&may), &twice).unexpected.len(), 1);
        let often = Expectation { need: Need::Often, ..may };
        assert!(check(std::slice::from_ref(&often), &twice).perfect());
        assert_eq!(check(&[often], &twice[..3]).hanging.len(), 1);
    }

    #[test]
    fn a_fault_at_the_very_end_need_not_clear() {
        assert!(check(&[expectation(90, 110)], &[seen(true, 96)]).perfect());
    }

    #[test]
    fn a_fault_that_must_raise_nothing_has_its_row() {
        let nothing = Expectation { code: NO_MESSAGE, need: Need::Nothing, ..expectation(10, 40) };
        let quiet = check(std::slice::from_ref(&nothing), &[]);
        assert!(quiet.perfect());
        assert_eq!((quiet.rows[0].code, quiet.rows[0].expected), (NO_MESSAGE, 0));
        let broken = check(&[nothing], &[seen(true, 16), seen(false, 30)]);
        assert!(!broken.rows[0].right());
        assert_eq!(broken.unexpected.len(), 1);
    }
}
