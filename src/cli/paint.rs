//! Colours for people who can see them, columns for everybody, and foreign text that does nothing to a terminal.

use std::io::IsTerminal;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::fleet::judged_chars;
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

/// Text from a file or the network without anything that a terminal would obey, and without what hides or reorders
/// its neighbours.
pub fn clean(text: &str) -> String {
    judged_chars(text).map(|(c, hides)| if hides { '\u{fffd}' } else { c }).collect()
}

/// Columns of a terminal that a text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Exactly so many columns: filled up, or cut with a sign that it was.
pub fn column(text: &str, columns: usize) -> String {
    let text = cut(&clean(text), columns);
    let left = columns.saturating_sub(width(&text));
    text + &" ".repeat(left)
}

/// At most so many columns, with a sign where it was cut.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut kept, mut taken) = (String::new(), 1);
    for c in text.chars() {
        taken += c.width().unwrap_or(0);
        if taken > columns {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
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
        assert_eq!(column("漢字", 4), "漢字");
        assert_eq!(width(&column("漢字漢字", 4)), 4, "half of a wide character is none");
        assert_eq!(clean("a\u{202e}b\u{200b}\u{9b}c\n"), "a\u{fffd}b\u{fffd}\u{fffd}c\u{fffd}");
    }
}
