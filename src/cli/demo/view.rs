//! One screen on what goes on: values in, lines out.

use std::time::Duration;

use super::report::{Delays, millis};
use super::truth::{Row, Truth};
use crate::cli::paint::{Paint, clean, column};
use crate::health::{OverallState, RuleId};

/// What the run is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The fleet connects; so many connections are wanted.
    Connecting(usize),
    /// The scenario plays.
    Playing,
    /// The scenario is over, and the server serves on.
    Serving,
}

/// What there is to see.
#[derive(Clone, Debug)]
pub struct View {
    /// What the run is at.
    pub moment: Moment,
    /// Since the script began.
    pub elapsed: Duration,
    /// How long it plays.
    pub length: Duration,
    /// Sensors and gateways connected.
    pub connected: u64,
    /// Sensors by state.
    pub states: [(OverallState, u32); OverallState::ALL.len()],
    /// Active messages, worst first.
    pub messages: Vec<(RuleId, u32)>,
    /// Faults that are on, and for how long.
    pub faults: Vec<(String, Duration)>,
    /// The next fault and its time.
    pub next: Option<(String, Duration)>,
    /// Heartbeats received in a second.
    pub beats_per_second: f64,
    /// Heartbeats received.
    pub received: u64,
    /// Detection delays.
    pub delays: Delays,
    /// Time in doubt.
    pub doubt: Duration,
    /// Why the engine doubts itself just now.
    pub doubting: Vec<&'static str>,
    /// The comparison as of now.
    pub truth: Truth,
    /// Transitions journalled.
    pub journalled: u64,
}

impl View {
    /// One line, for those who can't see a screen.
    pub fn line(&self) -> String {
        let states = self.states.iter().filter(|(_, count)| *count > 0);
        let states: Vec<_> = states.map(|(state, count)| format!("{count} {}", state.as_str())).collect();
        let faults: Vec<_> = self.faults.iter().map(|(name, _)| clean(name)).collect();
        let now = if faults.is_empty() { "nothing".into() } else { faults.join(", ") };
        if let Moment::Connecting(_) = self.moment {
            return self.when();
        }
        let active: u32 = self.messages.iter().map(|(_, count)| count).sum();
        format!(
            "{} | {} | messages {active} | {:.0} heartbeats/s | {} | now: {now}",
            self.when(),
            states.join(", "),
            self.beats_per_second,
            self.score()
        )
    }

    /// A screen of so many rows and columns. What does not fit is counted.
    pub fn screen(&self, head: &[String], log: &[String], size: (usize, usize), paint: Paint) -> Vec<String> {
        let (rows, columns) = size;
        let line = |text: String| column(&text, columns).trim_end().to_owned();
        let mut top: Vec<String> = head.iter().map(|text| paint.bold(&line(text.clone()))).collect();
        top.push(line(self.when()));
        top.push(String::new());
        top.push(line(self.states_line()));
        top.push(line(format!(
            "heartbeats {:.0}/s, {} in all    connections {}    journalled {}",
            self.beats_per_second, self.received, self.connected, self.journalled
        )));
        let Delays { count, p50, p99, max } = self.delays;
        let delays = [p50, p99, max].map(millis);
        top.push(line(format!(
            "detection delay p50 {}, p99 {}, max {} of {count} silences",
            delays[0], delays[1], delays[2]
        )));
        top.push(self.doubt_line(columns, paint));
        let score = line(self.score());
        top.push(if self.truth.unexpected.is_empty() { paint.right(&score) } else { paint.wrong(&score) });
        top.push(String::new());

        let mut bottom: Vec<String> =
            log.iter().rev().take(3).rev().map(|text| paint.dim(&line(text.clone()))).collect();
        bottom.push(paint.dim(&line("Ctrl-C ends it and shows the truth table".into())));

        let left = rows.saturating_sub(top.len() + bottom.len() + 1);
        let faults = self.fault_lines(columns, left / 2);
        let messages = self.message_lines(columns, left.saturating_sub(faults.len() + 1), paint);
        let mut all = top;
        all.extend(messages);
        all.push(String::new());
        all.extend(faults);
        all.truncate(rows.saturating_sub(bottom.len() + 1));
        all.push(String::new());
        all.extend(bottom);
        all.truncate(rows);
        all
    }

    fn when(&self) -> String {
        match self.moment {
            Moment::Connecting(wanted) => format!("connecting: {} of {wanted}", self.connected),
            Moment::Playing => format!("{} s of {} s", self.elapsed.as_secs(), self.length.as_secs()),
            Moment::Serving => format!("{} s, the scenario is over, serving on", self.elapsed.as_secs()),
        }
    }

    fn states_line(&self) -> String {
        let shown = self.states.iter().filter(|(state, count)| *count > 0 || *state == OverallState::Healthy);
        let texts: Vec<_> = shown.map(|(state, count)| format!("{} {count}", state.as_str())).collect();
        format!("sensors    {}", texts.join("    "))
    }

    fn doubt_line(&self, columns: usize, paint: Paint) -> String {
        let now = if self.doubting.is_empty() {
            String::new()
        } else {
            format!(", now: {}", self.doubting.join(", "))
        };
        let text = format!("in doubt {:.1} s{now}", self.doubt.as_secs_f64());
        let text = column(&text, columns).trim_end().to_owned();
        if self.doubting.is_empty() { text } else { paint.wrong(&text) }
    }

    fn score(&self) -> String {
        let sum = |of: fn(&Row) -> usize| self.truth.rows.iter().map(of).sum::<usize>();
        format!(
            "truth so far: {} of {} expected, {} cleared, {} false",
            sum(|row| row.raised),
            sum(|row| row.expected),
            sum(|row| row.cleared),
            self.truth.unexpected.len()
        )
    }

    fn message_lines(&self, columns: usize, rows: usize, paint: Paint) -> Vec<String> {
        let row = |(rule, count): &(RuleId, u32)| {
            let (code, severity) = (rule.code(), rule.rule().severity);
            let text = column(&format!("  {code:<26} {:<9} {count:>6}", severity.as_str()), columns);
            paint.severity(severity, text.trim_end())
        };
        list("active messages", &self.messages, rows, row)
    }

    fn fault_lines(&self, columns: usize, rows: usize) -> Vec<String> {
        let title = match &self.next {
            Some((name, at)) => format!("the scenario now (next: {} at {} s)", clean(name), at.as_secs()),
            None => "the scenario now".into(),
        };
        let row = |(name, since): &(String, Duration)| {
            column(&format!("  {} for {} s", clean(name), since.as_secs()), columns).trim_end().to_owned()
        };
        list(column(&title, columns).trim_end(), &self.faults, rows, row)
    }
}

/// A title and one line each, at most so many together; the last counts what is left out.
fn list<T>(title: &str, items: &[T], rows: usize, row: impl Fn(&T) -> String) -> Vec<String> {
    let mut lines = vec![title.to_owned()];
    if items.is_empty() {
        lines.push("  none".into());
    }
    let room = rows.saturating_sub(1);
    let shown = if items.len() <= room { items.len() } else { room.saturating_sub(1) };
    lines.extend(items.iter().take(shown).map(row));
    if shown < items.len() {
        lines.push(format!("  and {} more", items.len() - shown));
    }
    lines.truncate(rows.max(1));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::CATALOGUE;

    fn view() -> View {
        View {
            moment: Moment::Playing,
            elapsed: Duration::from_secs(45),
            length: Duration::from_secs(115),
            connected: 999,
            states: OverallState::ALL.map(|state| (state, 3)),
            messages: CATALOGUE.iter().map(|rule| (rule.id, 2)).collect(),
            faults: (0..30).map(|n| (format!("fault {n}"), Duration::from_secs(n))).collect(),
            next: Some(("radio \u{1b}[2J link".into(), Duration::from_secs(50))),
            beats_per_second: 998.7,
            received: 45_000,
            delays: Delays::default(),
            doubt: Duration::from_millis(2_300),
            doubting: vec!["lag"],
            truth: Truth::default(),
            journalled: 77,
        }
    }

    #[test]
    fn a_screen_never_leaves_its_bounds() {
        let head = ["fleetpulse demo".to_owned(), "http://127.0.0.1:1234/".to_owned()];
        let log = vec!["a warning".to_owned(); 9];
        for size in [(24, 80), (50, 200), (10, 30), (3, 10), (1, 1)] {
            let lines = view().screen(&head, &log, size, Paint::plain());
            assert!(lines.len() <= size.0, "{size:?}: {} lines", lines.len());
            assert!(lines.iter().all(|line| line.chars().count() <= size.1), "{size:?}: {lines:#?}");
            assert!(lines.iter().all(|line| !line.contains('\u{1b}')), "{size:?}");
        }
    }

    #[test]
    fn a_usual_screen_shows_it_all_and_counts_what_does_not_fit() {
        let text = view().screen(&["title".into()], &[], (40, 100), Paint::plain()).join("\n");
        for words in [
            "45 s of 115 s",
            "healthy 3",
            "heartbeats 999/s",
            "detection delay",
            "in doubt 2.3 s, now: lag",
            "0 false",
            "disconnected",
            "critical",
            "more",
            "fault 0",
            "next: radio",
            "Ctrl-C",
        ] {
            assert!(text.contains(words), "{words:?} is missing\n{text}");
        }
    }

    #[test]
    fn one_line_says_what_goes_on() {
        let line = view().line();
        assert!(
            line.contains("45 s of 115 s") && line.contains("3 healthy") && line.contains("fault 7"),
            "{line}"
        );
        assert!(!line.contains('\n'));
    }
}
