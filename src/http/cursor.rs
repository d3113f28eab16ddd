//! Cursors of lists: where a page ended, opaque to clients.
//!
//! A cursor names its list and a hash of the filter and order that it was made with, so that one of another list or
//! filter is refused and does not show nonsense. It grants nothing: each page is worked out for who asks.

use std::hash::Hash;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// Longest cursor that is looked at.
const CURSOR_CHARS_MAX: usize = 2_048;
/// Fixed keys: a cursor outlives a restart.
const KEYS: [u64; 4] = [1, 2, 3, 4];

/// A list as it is asked for: its name, and everything that decides its order and what is on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursors {
    list: u64,
}

impl Cursors {
    /// Of a list, for one filter and order.
    pub(super) fn of(name: &str, filter: impl Hash) -> Cursors {
        let [a, b, c, d] = KEYS;
        Cursors { list: ahash::RandomState::with_seeds(a, b, c, d).hash_one((name, filter)) }
    }

    /// The cursor of the page after `place`.
    pub(super) fn show<P: Serialize>(self, place: &P) -> String {
        // A place is made of numbers and texts: it does not fail.
        let text = serde_json::to_vec(&(self.list, place)).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(text)
    }

    /// The place of a cursor that was made for the same list.
    pub(super) fn read<P: DeserializeOwned>(self, text: &str) -> Result<P, Problem> {
        let bad = || Problem::bad_cursor(text);
        if text.len() > CURSOR_CHARS_MAX {
            return Err(bad());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
        let (list, place): (u64, P) = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        if list == self.list { Ok(place) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_for_its_own_list_and_filter() {
        let cursors = Cursors::of("sites", ("name", Some(3)));
        let text = cursors.show(&("Werk 7", 9_u64));
        assert_eq!(cursors.read::<(String, u64)>(&text).unwrap(), ("Werk 7".to_owned(), 9));
        for other in [Cursors::of("sites", ("name", Some(4))), Cursors::of("zones", ("name", Some(3)))] {
            assert!(other.read::<(String, u64)>(&text).is_err());
        }
        assert!(cursors.read::<(u64, u64)>(&text).is_err(), "another kind of place");
        for wrong in ["", "=", "AAAA", "\u{0}", &"A".repeat(3_000), &text[1..]] {
            assert!(cursors.read::<(String, u64)>(wrong).is_err(), "{wrong}");
        }
    }
}
