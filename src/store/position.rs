//! Where something stands in a log: which log, and its number there. Numbers start at 1; 0 is "before
//! the first".

use std::fmt;
use std::str::FromStr;

/// Which log. A log that is begun anew (restored from a backup, another owner) gets another id, so that a
/// position of the old one can't be taken for one of the new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(pub [u8; 16]);

/// A place in a log. As text it is the opaque cursor that event streams hand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which log.
    pub log: LogId,
    /// The number of the entry there; 0 is before the first.
    pub sequence: u64,
}

impl Position {
    /// Before the first entry of a log.
    pub const fn start(log: LogId) -> Position {
        Position { log, sequence: 0 }
    }

    /// The place of another number in the same log.
    pub const fn at(self, sequence: u64) -> Position {
        Position { log: self.log, sequence }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}.{:x}", u128::from_be_bytes(self.log.0), self.sequence)
    }
}

/// A text that is not a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this server; start again without one")]
pub struct BadPosition;

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Position, BadPosition> {
        let (log, sequence) = text.split_once('.').ok_or(BadPosition)?;
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if log.len() != 32 || !digits(log) || !digits(sequence) {
            return Err(BadPosition);
        }
        let log = u128::from_str_radix(log, 16).map_err(|_| BadPosition)?;
        let sequence = u64::from_str_radix(sequence, 16).map_err(|_| BadPosition)?;
        Ok(Position { log: LogId(log.to_be_bytes()), sequence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_being_shown_and_nonsense_is_refused() {
        let position = Position { log: LogId([0xa5; 16]), sequence: u64::MAX };
        assert_eq!(position.to_string().parse(), Ok(position));
        for nonsense in ["", ".", "12", &format!("{:032x}.", 0), &format!("{:032x}.-1", 0), "é.1"] {
            assert_eq!(nonsense.parse::<Position>(), Err(BadPosition), "{nonsense}");
        }
    }
}
