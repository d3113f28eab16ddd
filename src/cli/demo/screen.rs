//! Where a run shows itself: a screen that is drawn in place on a terminal, plain lines everywhere else.
//!
//! The screen is the terminal's second one, so that what was there before comes back in the end; every way
//! out of a run passes [`restore`].

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::view::View;
use crate::cli::paint::{Paint, is_dumb};
use crate::limits::DEMO_LOG_LINES_MAX;
use crate::time::MonoNanos;

/// Time between two pictures.
const DRAW_EVERY: Duration = Duration::from_millis(500);
/// Time between two lines.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Size of a terminal that does not say.
const USUAL_SIZE: (usize, usize) = (24, 80);

/// To the second screen, cursor off. And back.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// Cursor to the first column of the first row; rest of the line; rest of the screen.
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

static ENTERED: AtomicBool = AtomicBool::new(false);

/// Where a run shows itself.
pub struct Display {
    kind: Kind,
    paint: Paint,
    head: Vec<String>,
    log: Logged,
    due: MonoNanos,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Screen,
    /// Lines on standard output.
    Lines,
    /// Lines on standard error: standard output is for the result.
    Aside,
}

impl Display {
    /// A screen where there is one; lines aside when the result is for a machine.
    pub fn new(json: bool) -> Display {
        let kind = match json {
            true => Kind::Aside,
            false if std::io::stdout().is_terminal() && !is_dumb() => Kind::Screen,
            false => Kind::Lines,
        };
        let (paint, log) = (Paint::for_stdout(), Logged::default());
        Display { kind, paint, head: Vec::new(), log, due: MonoNanos::NEVER }
    }

    /// Where log lines go while a screen is drawn; `None`: to standard error, as always.
    pub fn log(&self) -> Option<Logged> {
        (self.kind == Kind::Screen).then(|| self.log.clone())
    }

    /// Says where to look: on the screen's head, or at once.
    pub fn head(&mut self, lines: Vec<String>) {
        if self.kind == Kind::Screen {
            enter();
        } else {
            lines.iter().for_each(|line| self.say(line));
        }
        self.head = lines;
        self.due = MonoNanos::NEVER;
    }

    /// One line for people, which stays where lines stay.
    pub fn say(&self, line: &str) {
        match self.kind {
            Kind::Screen => {}
            Kind::Lines => write_out(&format!("{line}\n")),
            Kind::Aside => {
                let _ = writeln!(std::io::stderr(), "{line}");
            }
        }
    }

    /// Time for another picture, or line.
    pub fn is_due(&self, now: MonoNanos) -> bool {
        now >= self.due
    }

    /// Shows what goes on.
    pub fn show(&mut self, view: &View, now: MonoNanos) {
        self.due = now.plus(if self.kind == Kind::Screen { DRAW_EVERY } else { LINE_EVERY });
        if self.kind != Kind::Screen {
            return self.say(&view.line());
        }
        let lines = view.screen(&self.head, &self.log.tail(3), size(), self.paint);
        let end = format!("{CLEAR_LINE}\r\n");
        write_out(&format!("{HOME}{}{CLEAR_LINE}{CLEAR_BELOW}", lines.join(&end)));
    }

    /// Back to plain lines, with the log lines that came meanwhile.
    pub fn leave(&mut self) {
        restore();
        let head = if self.kind == Kind::Screen { std::mem::take(&mut self.head) } else { Vec::new() };
        if self.kind == Kind::Screen {
            self.kind = Kind::Lines;
        }
        head.iter().for_each(|line| self.say(line));
        let _ = std::io::stderr().write_all(self.log.take().as_bytes());
    }

    /// A screen is drawn, or will be.
    pub fn is_screen(&self) -> bool {
        self.kind == Kind::Screen
    }

    /// Colours, if there are any.
    pub fn paint(&self) -> Paint {
        self.paint
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        restore();
    }
}

/// To the second screen; what a panic says is seen on the first.
fn enter() {
    if !ENTERED.swap(true, Ordering::SeqCst) {
        let say = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            say(panic);
        }));
        write_out(ENTER);
    }
}

/// The terminal as it was, if a screen is drawn on it. From anywhere, any number of times.
pub fn restore() {
    if ENTERED.swap(false, Ordering::SeqCst) {
        write_out(LEAVE);
    }
}

/// A reader that went away is no reason to stop the server.
fn write_out(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
        _ => USUAL_SIZE,
    }
}

/// Log lines kept while the screen is drawn.
#[derive(Clone, Default)]
pub struct Logged(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    lines: VecDeque<String>,
    left_out: u64,
}

impl Logged {
    fn tail(&self, most: usize) -> Vec<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.lines.iter().skip(kept.lines.len().saturating_sub(most)).cloned().collect()
    }

    fn take(&self) -> String {
        let kept = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let before = match kept.left_out {
            0 => String::new(),
            many => format!("{many} older log lines were left out\n"),
        };
        kept.lines.iter().fold(before, |text, line| text + line + "\n")
    }
}

/// The log writes whole lines, each in one go.
impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for line in String::from_utf8_lossy(bytes).lines() {
            if kept.lines.len() == DEMO_LOG_LINES_MAX {
                kept.lines.pop_front();
                kept.left_out += 1;
            }
            kept.lines.push_back(line.to_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_kept_in_bounds_and_given_back() {
        let mut logged = Logged::default();
        for number in 0..DEMO_LOG_LINES_MAX + 2 {
            logged.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
        assert_eq!(logged.tail(1), [format!("line {}", DEMO_LOG_LINES_MAX + 1)]);
        let text = logged.take();
        assert!(text.starts_with("2 older log lines were left out\nline 2\n"), "{}", &text[..60]);
        assert_eq!(text.lines().count(), DEMO_LOG_LINES_MAX + 1);
        assert!(logged.take().is_empty());
    }
}
