//! How far it is, for people who wait: on the terminal's standard error, and only when it takes long.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::time::{Clock, MonoNanos, SystemClock};

/// Nobody wants to be told before.
const QUIET_FOR: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_millis(250);

/// One line that is written over and over, and is gone in the end.
pub(super) struct Progress {
    what: &'static str,
    clock: SystemClock,
    due: MonoNanos,
    shown: bool,
    terminal: bool,
}

impl Progress {
    pub(super) fn new(what: &'static str) -> Progress {
        let clock = SystemClock::start();
        let due = clock.mono().plus(QUIET_FOR);
        Progress { what, clock, due, shown: false, terminal: std::io::stderr().is_terminal() }
    }

    /// So many are done.
    pub(super) fn at(&mut self, done: usize) {
        self.say(&format!("{done} {}", self.what));
    }

    /// It is as far as this.
    pub(super) fn say(&mut self, text: &str) {
        let now = self.clock.mono();
        if !self.terminal || now < self.due {
            return;
        }
        self.due = now.plus(EVERY);
        self.shown = true;
        let _ = write!(std::io::stderr(), "\r{text}\u{1b}[K");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
    }
}
