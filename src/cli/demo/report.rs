//! The end of a run: the truth table for people, the same as JSON, and what a check finds in it.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::late::{Latest, TOO_LATE};
use super::truth::{NO_MESSAGE, Row, Seen, Truth};
use super::watch::DOUBT_SHARE;
use crate::cli::paint::{Paint, clean, column};
use crate::health::RuleId;
use crate::health::doubt::DoubtInterval;
use crate::sensor::sim::FleetStats;
use crate::time::MonoNanos;

/// False messages that the text names one by one; the JSON names all.
const NAMED_MAX: usize = 20;

/// How long after their deadlines silences were raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delays {
    /// Silences.
    pub count: u64,
    /// Half of them were not later.
    pub p50: Duration,
    /// 99 of 100 were not later.
    pub p99: Duration,
    /// None was later.
    pub max: Duration,
}

/// Everything that a run gave.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// Sensors in it.
    pub sensors: usize,
    /// Gateways in it.
    pub gateways: usize,
    /// When the script began; times are told from here.
    pub started: MonoNanos,
    /// From there to the end.
    pub ran: Duration,
    /// Somebody ended it before its time.
    pub interrupted: bool,
    /// The table.
    pub truth: Truth,
    /// Faults left out, because they did not fit.
    pub fell_out: Vec<String>,
    /// Faults that an interruption left without the time to show.
    pub cut_short: Vec<String>,
    /// Times in doubt, also before the script began.
    pub doubts: Vec<DoubtInterval>,
    /// Together since then, without counting twice what two causes share.
    pub doubt: Duration,
    /// Times in doubt that were counted and not seen.
    pub doubts_missing: u64,
    /// Detection delays.
    pub delays: Delays,
    /// The promise on them.
    pub cadence: Duration,
    /// Transitions in the journal.
    pub journalled: Result<u64, String>,
    /// Transitions that reached the table's maker.
    pub heard: u64,
    /// Transitions that are in the table.
    pub kept: u64,
    /// Heartbeats that the server read in this time.
    pub received: u64,
    /// Packets that the kernel dropped.
    pub kernel_drops: u64,
    /// The other end's counts.
    pub fleet: FleetStats,
    /// How late the simulated fleet was at most.
    pub latest: Latest,
}

impl Outcome {
    /// What a check finds wrong; empty = nothing.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.truth.rows.iter().flat_map(problems_of).collect();
        problems.extend(named(&self.truth.unexpected, |seen| {
            format!("false: {} on {} at {}", seen.code, clean(&seen.subject), self.time_of(seen.at))
        }));
        problems.extend(named(&self.truth.hanging, |seen| {
            format!(
                "{} on {}, raised at {}, never cleared",
                seen.code,
                clean(&seen.subject),
                self.time_of(seen.at)
            )
        }));
        if self.doubt > self.ran / DOUBT_SHARE {
            problems.push(format!(
                "in doubt for {} of {}: more than a fifth, so this machine is too busy for the result to count",
                seconds(self.doubt),
                seconds(self.ran)
            ));
        }
        match &self.journalled {
            Ok(journalled) if *journalled != self.kept => problems.push(format!(
                "the journal holds {journalled} transitions and the table was made from {}",
                self.kept
            )),
            Ok(_) => {}
            Err(error) => problems.push(format!("the journal can't be read: {error}")),
        }
        problems
    }

    /// What a check fails on: a problem, or an end before its time.
    pub fn failures(&self) -> Vec<String> {
        let interrupted = self.interrupted.then(|| "interrupted before the end".to_owned());
        self.problems().into_iter().chain(interrupted).collect()
    }

    /// For people.
    pub fn text(&self, paint: Paint) -> String {
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = self.write_table(&mut text, paint);
        let _ = self.write_notes(&mut text, paint);
        text
    }

    fn write_table(&self, text: &mut String, paint: Paint) -> std::fmt::Result {
        let title = format!(
            "Truth table: scenario {}, {} sensors, gateways: {}, {}",
            clean(&self.scenario),
            self.sensors,
            self.gateways,
            seconds(self.ran)
        );
        writeln!(text, "{}\n", paint.bold(&title))?;
        let width = |least: usize, texts: &mut dyn Iterator<Item = &str>| {
            texts.map(|text| text.chars().count()).max().unwrap_or(0).clamp(least, 40)
        };
        let faults = width(5, &mut self.truth.rows.iter().map(|row| row.fault.as_str()));
        let codes = width(7, &mut self.truth.rows.iter().map(|row| row.code));
        let head = format!(
            "  {} {} {:<9} {:>8} {:>6} {:>12} {:>8} {:>13}",
            column("fault", faults),
            column("message", codes),
            "severity",
            "expected",
            "raised",
            "raised after",
            "cleared",
            "cleared after"
        );
        writeln!(text, "{}", paint.dim(&head))?;
        for row in &self.truth.rows {
            let line = format!(
                "{} {} {} {:<9} {:>8} {:>6} {:>12} {:>8} {:>13}",
                if row.right() { ' ' } else { '!' },
                column(&row.fault, faults),
                column(row.code, codes),
                RuleId::from_code(row.code).map_or("-", |rule| rule.rule().severity.as_str()),
                row.expected,
                row.raised,
                row.raised_after_max.map_or("-".into(), seconds),
                if row.to_clear + row.cleared == 0 { "-".into() } else { row.cleared.to_string() },
                row.cleared_after_max.map_or("-".into(), seconds)
            );
            writeln!(text, "{}", if row.right() { line } else { paint.wrong(&line) })?;
        }
        writeln!(text)
    }

    fn write_notes(&self, text: &mut String, paint: Paint) -> std::fmt::Result {
        let false_ones = self.truth.unexpected.len();
        match false_ones {
            0 => writeln!(text, "Without a fault nothing was raised.")?,
            many => {
                writeln!(text, "{}", paint.wrong(&format!("Without a fault {many} messages were raised.")))?
            }
        }
        for came in &self.truth.came {
            let (fault, code, subjects) = (clean(&came.fault), came.code, came.subjects);
            writeln!(text, "Came along, as it may: {code} on {subjects} while or after {fault}.")?;
        }
        if !self.fell_out.is_empty() {
            writeln!(text, "Not played, the run was too short for: {}.", clean(&self.fell_out.join(", ")))?;
        }
        if !self.cut_short.is_empty() {
            writeln!(text, "Not judged, interrupted: {}.", clean(&self.cut_short.join(", ")))?;
        }
        self.write_doubt(text)?;
        let Delays { count, p50, p99, max } = self.delays;
        match count {
            0 => writeln!(text, "Detection delay: no silence was raised.")?,
            _ => writeln!(
                text,
                "Detection delay of {count} silences: p50 {}, p99 {}, max {}; promised: at most {}.",
                millis(p50),
                millis(p99),
                millis(max),
                millis(self.cadence)
            )?,
        }
        let rate = self.received as f64 / self.ran.as_secs_f64().max(1.0);
        writeln!(
            text,
            "Heartbeats received: {}, {rate:.0} a second; {} packets dropped by the kernel. Transitions in the journal: {}.",
            self.received, self.kernel_drops, self.heard
        )?;
        self.write_lateness(text)?;
        let problems = self.problems();
        if problems.is_empty() && self.interrupted {
            return writeln!(text, "Interrupted; until then nothing was missed, and nothing false.");
        }
        if problems.is_empty() {
            return writeln!(
                text,
                "{}",
                paint.right("Perfect: every fault was found and ended, and nothing else.")
            );
        }
        writeln!(text, "{}", paint.wrong("Not perfect:"))?;
        problems.iter().try_for_each(|problem| writeln!(text, "  {}", paint.wrong(problem)))
    }

    fn write_lateness(&self, text: &mut String) -> std::fmt::Result {
        let Latest { by, at } = self.latest;
        write!(text, "The simulated sensors were late by at most {}", millis(by))?;
        match by > TOO_LATE {
            false => writeln!(text, "."),
            true => writeln!(
                text,
                ", at {}: this machine is too busy for so many, and what looks false may be their true silence.",
                self.time_of(at)
            ),
        }
    }

    fn write_doubt(&self, text: &mut String) -> std::fmt::Result {
        if self.doubts.is_empty() && self.doubts_missing == 0 {
            return writeln!(text, "In doubt: never.");
        }
        let share = 100.0 * self.doubt_share();
        writeln!(text, "In doubt for {}, {share:.1} % of the run:", seconds(self.doubt))?;
        for DoubtInterval { cause, from, to } in self.doubts.iter().take(NAMED_MAX) {
            let cause = cause.as_str();
            writeln!(text, "  {cause} from {} to {}", self.time_of(*from), self.time_of(*to))?;
        }
        let more = self.doubts.len().saturating_sub(NAMED_MAX) as u64 + self.doubts_missing;
        if more > 0 { writeln!(text, "  and {more} more") } else { Ok(()) }
    }

    fn doubt_share(&self) -> f64 {
        self.doubt.as_secs_f64() / self.ran.as_secs_f64().max(0.001)
    }

    fn time_of(&self, at: MonoNanos) -> String {
        format!("{:.1} s", self.offset_s(at))
    }

    /// Seconds from the start of the script; below zero while the fleet was still connecting.
    fn offset_s(&self, at: MonoNanos) -> f64 {
        if at >= self.started {
            at.since(self.started).as_secs_f64()
        } else {
            -self.started.since(at).as_secs_f64()
        }
    }

    /// For machines: everything, in seconds of engine time from the start of the script.
    pub fn json(&self) -> Value {
        let problems = self.failures();
        let seen = |seen: &Seen| json!({ "subject": seen.subject, "message": seen.code, "at_s": round(self.offset_s(seen.at)) });
        let doubts = self.doubts.iter().map(|doubt| {
            let (from, to) = (round(self.offset_s(doubt.from)), round(self.offset_s(doubt.to)));
            json!({ "cause": doubt.cause.as_str(), "from_s": from, "to_s": to })
        });
        let came = self.truth.came.iter();
        let came =
            came.map(|came| json!({ "fault": came.fault, "message": came.code, "subjects": came.subjects }));
        json!({
            "scenario": self.scenario,
            "sensors": self.sensors,
            "gateways": self.gateways,
            "ran_s": round(self.ran.as_secs_f64()),
            "interrupted": self.interrupted,
            "perfect": problems.is_empty(),
            "problems": problems,
            "truth": self.truth.rows.iter().map(row_json).collect::<Vec<_>>(),
            "unexpected": self.truth.unexpected.iter().map(seen).collect::<Vec<_>>(),
            "hanging": self.truth.hanging.iter().map(seen).collect::<Vec<_>>(),
            "came_along": came.collect::<Vec<_>>(),
            "not_played": self.fell_out,
            "not_judged": self.cut_short,
            "doubt": {
                "total_s": round(self.doubt.as_secs_f64()),
                "share": round(self.doubt_share()),
                "share_max": 1.0 / f64::from(DOUBT_SHARE),
                "intervals": doubts.collect::<Vec<_>>(),
                "intervals_not_listed": self.doubts_missing,
            },
            "detection_delay_s": {
                "silences": self.delays.count,
                "p50": round(self.delays.p50.as_secs_f64()),
                "p99": round(self.delays.p99.as_secs_f64()),
                "max": round(self.delays.max.as_secs_f64()),
                "promised_max": round(self.cadence.as_secs_f64()),
            },
            "transitions": { "journalled": self.journalled.as_ref().ok(), "in_the_table": self.kept },
            "heartbeats": {
                "sent": self.fleet.sent,
                "received": self.received,
                "send_failures": self.fleet.send_failures,
                "kernel_drops": self.kernel_drops,
            },
            "fleet_late": {
                "max_s": round(self.latest.by.as_secs_f64()),
                "at_s": (!self.latest.at.is_never()).then(|| round(self.offset_s(self.latest.at))),
            },
            "connections": {
                "wanted": self.fleet.wanted,
                "up_at_the_end": self.fleet.connected,
                "reconnects": self.fleet.reconnects,
            },
        })
    }
}

fn row_json(row: &Row) -> Value {
    let seconds = |duration: Option<Duration>| duration.map(|duration| round(duration.as_secs_f64()));
    json!({
        "fault": row.fault,
        "message": (row.code != NO_MESSAGE).then_some(row.code),
        "severity": RuleId::from_code(row.code).map(|rule| rule.rule().severity.as_str()),
        "expected": row.expected,
        "raised": row.raised,
        "raised_after_max_s": seconds(row.raised_after_max),
        "to_clear": row.to_clear,
        "cleared": row.cleared,
        "cleared_early": row.cleared_early,
        "cleared_after_max_s": seconds(row.cleared_after_max),
        "right": row.right(),
    })
}

fn problems_of(row: &Row) -> Vec<String> {
    let fault = clean(&row.fault);
    let mut problems = Vec::new();
    if row.code == NO_MESSAGE && row.raised > 0 {
        problems.push(format!("{fault}: must raise nothing and raised messages on {}", row.raised));
    } else if row.raised != row.expected {
        problems.push(format!(
            "missed: {fault} must raise {} on {}, raised on {}",
            row.code, row.expected, row.raised
        ));
    }
    if row.cleared_early > 0 {
        let early = row.cleared_early;
        problems.push(format!("{fault}: {} cleared on {early} while the fault lasted", row.code));
    } else if row.cleared < row.to_clear {
        problems.push(format!(
            "{fault}: {} must clear on {}, cleared on {}",
            row.code, row.to_clear, row.cleared
        ));
    }
    problems
}

fn named(all: &[Seen], name: impl Fn(&Seen) -> String) -> Vec<String> {
    let mut names: Vec<String> = all.iter().take(NAMED_MAX).map(name).collect();
    if all.len() > NAMED_MAX {
        names.push(format!("and {} more of these", all.len() - NAMED_MAX));
    }
    names
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Cause;
    use crate::time::at_second as at;

    fn outcome() -> Outcome {
        let row = Row {
            fault: "pulled cable".into(),
            code: "disconnected",
            expected: 2,
            raised: 2,
            cleared: 2,
            to_clear: 2,
            cleared_early: 0,
            raised_after_max: Some(Duration::from_millis(5_900)),
            cleared_after_max: Some(Duration::from_millis(800)),
        };
        Outcome {
            scenario: "demo".into(),
            sensors: 1_000,
            gateways: 1,
            started: at(3),
            ran: Duration::from_secs(120),
            interrupted: false,
            truth: Truth { rows: vec![row], ..Truth::default() },
            fell_out: Vec::new(),
            cut_short: Vec::new(),
            doubts: Vec::new(),
            doubt: Duration::ZERO,
            doubts_missing: 0,
            delays: Delays::default(),
            cadence: Duration::from_secs(1),
            journalled: Ok(4),
            heard: 4,
            kept: 4,
            received: 118_000,
            kernel_drops: 0,
            fleet: FleetStats::default(),
            latest: Latest::default(),
        }
    }

    fn seen(seconds: u64) -> Seen {
        Seen { subject: "north-001".into(), code: "disk-almost-full", raised: true, at: at(seconds) }
    }

    #[test]
    fn a_right_table_is_perfect_in_every_form() {
        let outcome = outcome();
        assert_eq!(outcome.problems(), Vec::<String>::new());
        let text = outcome.text(Paint::plain());
        assert!(text.contains("Perfect") && text.contains("5.9 s") && !text.contains('\u{1b}'), "{text}");
        let json = outcome.json();
        assert_eq!(json["perfect"], true);
        assert_eq!(json["truth"][0]["raised_after_max_s"], 5.9);
    }

    #[test]
    fn whatever_is_wrong_is_said_with_its_name() {
        let check = |change: fn(&mut Outcome), words: &str| {
            let mut outcome = outcome();
            change(&mut outcome);
            let problems = outcome.problems().join("; ");
            assert!(problems.contains(words), "{problems:?} does not say {words:?}");
            assert!(outcome.text(Paint::plain()).contains("Not perfect"));
            assert_eq!(outcome.json()["perfect"], false);
        };
        check(|o| o.truth.rows[0].raised = 1, "pulled cable must raise disconnected on 2, raised on 1");
        check(|o| o.truth.rows[0].cleared = 0, "pulled cable: disconnected must clear on 2, cleared on 0");
        check(|o| o.truth.rows[0].cleared_early = 1, "disconnected cleared on 1 while the fault lasted");
        check(|o| o.truth.unexpected = vec![seen(33)], "false: disk-almost-full on north-001 at 30.0 s");
        check(|o| o.truth.hanging = vec![seen(33)], "never cleared");
        check(|o| o.doubt = Duration::from_secs(25), "more than a fifth");
        check(|o| o.journalled = Ok(5), "the journal holds 5 transitions and the table was made from 4");
    }

    #[test]
    fn an_interruption_is_no_mistake_and_no_success() {
        let mut outcome = outcome();
        outcome.interrupted = true;
        assert!(outcome.problems().is_empty());
        assert_eq!(outcome.failures(), ["interrupted before the end"]);
        assert!(outcome.text(Paint::plain()).contains("Interrupted; until then"));
        assert_eq!(outcome.json()["perfect"], false);
    }

    #[test]
    fn many_false_messages_are_counted_and_doubts_are_listed() {
        let mut outcome = outcome();
        outcome.truth.unexpected = vec![seen(33); 50];
        assert!(outcome.problems().iter().any(|problem| problem == "and 30 more of these"));
        assert_eq!(outcome.json()["unexpected"].as_array().map(Vec::len), Some(50));
        outcome.doubts = vec![DoubtInterval { cause: Cause::Lag, from: at(13), to: at(16) }];
        outcome.doubt = Duration::from_secs(3);
        let text = outcome.text(Paint::plain());
        assert!(
            text.contains("In doubt for 3.0 s, 2.5 % of the run:\n  lag from 10.0 s to 13.0 s"),
            "{text}"
        );
    }
}
