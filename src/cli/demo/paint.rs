//! Colours for people who can see them, and columns for everybody.

use std::io::IsTerminal;

use crate::health::Severity;

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// Colours on a terminal that knows them, unless `NO_COLOR` is set.
    pub fn for_stdout() -> Paint {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Paint { colours: std::io::stdout().is_terminal() && !refused && !is_dumb() }
    }

    /// None.
    #[cfg(test)]
    pub const fn plain() -> Paint {
        Paint { colours: false }
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A title.
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// What stands back.
    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    /// Good.
    pub fn right(self, text: &str) -> String {
        self.with("32", text)
    }

    /// Not good.
    pub fn wrong(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// By how bad it is.
    pub fn severity(self, severity: Severity, text: &str) -> String {
        match severity {
            Severity::Critical => self.with("31", text),
            Severity::Warning => self.with("33", text),
            Severity::Lifecycle => self.with("36", text),
        }
    }
}

/// A terminal that can't move its cursor says so.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term == "dumb")
}

/// Text from a file or the network without anything that a terminal would obey.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Exactly so many characters: filled up, or cut with a sign that it was.
pub fn column(text: &str, width: usize) -> String {
    let text = clean(text);
    if text.chars().count() <= width {
        return format!("{text:<width$}");
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_should_be_and_obey_nothing() {
        assert_eq!(column("ab", 4), "ab  ");
        assert_eq!(column("abcdef", 4), "abc…");
        assert_eq!(column("ä\u{1b}[2J", 10).chars().count(), 10);
        assert!(!column("ä\u{1b}[2J", 10).contains('\u{1b}'));
    }
}
