//! Names that people give: shown on pages, in mails, logs and files, so nothing in them may hide,
//! reorder or break what stands around them.
//!
//! Markup and spreadsheet formulas are ordinary text here: only the edge that writes HTML or CSV knows
//! how to make them harmless, and must.

use std::sync::Arc;

use super::refusal::{RefusalCode, shown};
use crate::limits::{EMAIL_BYTES_MAX, NAME_CHARS_MAX, NOTES_CHARS_MAX};

/// A name as it is kept, or why it can't be one and what would be right.
pub fn check_name(text: &str) -> Result<Arc<str>, (RefusalCode, String)> {
    if text.chars().nth(NAME_CHARS_MAX).is_some() {
        return Err((RefusalCode::NameTooLong, format!("at most {NAME_CHARS_MAX} characters")));
    }
    if text.trim().is_empty() {
        return Err((RefusalCode::NameEmpty, format!("1 to {NAME_CHARS_MAX} characters")));
    }
    if let Some((bad, _)) = judged_chars(text).find(|&(_, hides)| hides) {
        return Err((
            RefusalCode::NameForbiddenCharacter,
            format!(
                "the name without U+{:04X} (control, invisible or text-direction character)",
                u32::from(bad)
            ),
        ));
    }
    if text.trim() != text {
        return Err((RefusalCode::NameOuterSpace, shown(text.trim())));
    }
    Ok(Arc::from(text))
}

/// Free text as it is kept: lines are allowed, what hides or reorders is not.
pub(super) fn check_notes(text: &str) -> Result<Arc<str>, (RefusalCode, String)> {
    if text.chars().nth(NOTES_CHARS_MAX).is_some() {
        return Err((RefusalCode::TextTooLong, format!("at most {NOTES_CHARS_MAX} characters")));
    }
    if let Some((bad, _)) = judged_chars(text).find(|&(c, hides)| hides && !matches!(c, '\n' | '\t')) {
        let right = format!("the text without U+{:04X}", u32::from(bad));
        return Err((RefusalCode::TextForbiddenCharacter, right));
    }
    Ok(Arc::from(text.trim_end()))
}

/// An address as mail programs take it, without display name, comment or quotes. Whether anybody reads it is only
/// found out by writing to it.
pub(super) fn check_email(text: &str) -> Result<Arc<str>, (RefusalCode, String)> {
    let wrong = || (RefusalCode::EmailInvalid, "an address such as ann@example.com".to_owned());
    let (local, domain) = text.rsplit_once('@').ok_or_else(wrong)?;
    let plain = |c: char| c.is_alphanumeric() || (c.is_ascii_graphic() && !"()<>[]:;@\\,\"".contains(c));
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let right = text.len() <= EMAIL_BYTES_MAX
        && (1..=64).contains(&local.len())
        && local.chars().all(plain)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && domain.contains('.')
        && domain.split('.').all(label);
    if right { Ok(Arc::from(text)) } else { Err(wrong()) }
}

/// The characters of a text, and whether each draws nothing there or changes how its neighbours are drawn. A joiner
/// shapes the two visible characters that it stands between (Persian words, composed emoji); anywhere else it hides.
pub fn judged_chars(text: &str) -> impl Iterator<Item = (char, bool)> {
    let mut before = None;
    let mut rest = text.chars().peekable();
    std::iter::from_fn(move || {
        let c = rest.next()?;
        let visible =
            |side: Option<char>| side.is_some_and(|c| !hostile(c) && !is_joiner(c) && !c.is_whitespace());
        let hides = hostile(c) || (is_joiner(c) && !(visible(before) && visible(rest.peek().copied())));
        before = Some(c);
        Some((c, hides))
    })
}

/// Zero-width joiner and non-joiner.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Characters that draw nothing, or change how their neighbours are drawn, wherever they stand.
fn hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{180b}'..='\u{180f}'      // soft hyphen, grapheme joiner, Mongolian selectors
            | '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' // Hangul fillers
            | '\u{17b4}' | '\u{17b5}'                           // Khmer vowels that are never drawn
            | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}'  // marks of direction, zero-width space
            | '\u{2028}'..='\u{202e}'                           // line separators, embeddings, overrides
            | '\u{2060}'..='\u{206f}'                           // word joiner, isolates, deprecated controls
            | '\u{feff}' | '\u{fff9}'..='\u{fffc}'              // byte-order mark, annotations
            | '\u{e0000}'..='\u{e007f}') // invisible tag letters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_other_texts() {
        for text in ["ann@example.com", "o'neil+ops@a-b.example.org", "jürgen@bücher.example"] {
            assert_eq!(check_email(text).as_deref(), Ok(text));
        }
        for text in [
            "",
            "ann",
            "@example.com",
            "ann@",
            "ann@example",
            "a b@example.com",
            "ann@exa mple.com",
            "ann@-x.com",
            "<ann@example.com>",
            "Ann <ann@example.com>",
            ".ann@example.com",
            "a..b@example.com",
            "ann@x..com",
            "ann@example.com\nBcc: all@example.com",
            "ann@example.com,bob@example.com",
        ] {
            assert!(check_email(text).is_err(), "{text:?}");
        }
        assert!(check_email(&format!("{}@example.com", "x".repeat(65))).is_err());
    }

    #[test]
    fn notes_may_have_lines_and_nothing_that_hides() {
        assert_eq!(check_notes("a\n\tb\n").as_deref(), Ok("a\n\tb"));
        assert!(check_notes("a\0").is_err() && check_notes("a\u{202e}").is_err());
        assert!(check_notes(&"x".repeat(NOTES_CHARS_MAX + 1)).is_err());
    }

    #[test]
    fn hostile_names_are_refused_and_ordinary_ones_kept() {
        let long = "x".repeat(NAME_CHARS_MAX + 1);
        for (text, code) in [
            ("", RefusalCode::NameEmpty),
            (" \u{3000}", RefusalCode::NameEmpty),
            ("a\0b", RefusalCode::NameForbiddenCharacter),
            ("a\u{85}b", RefusalCode::NameForbiddenCharacter),
            ("line\nbreak", RefusalCode::NameForbiddenCharacter),
            ("pay\u{202e}exe", RefusalCode::NameForbiddenCharacter),
            ("a\u{2066}b", RefusalCode::NameForbiddenCharacter),
            ("a\u{e0041}", RefusalCode::NameForbiddenCharacter),
            ("pay\u{ad}roll", RefusalCode::NameForbiddenCharacter),
            ("a\u{34f}b", RefusalCode::NameForbiddenCharacter),
            ("\u{115f}\u{115f}", RefusalCode::NameForbiddenCharacter),
            ("a\u{180e}b", RefusalCode::NameForbiddenCharacter),
            ("\u{3164}", RefusalCode::NameForbiddenCharacter),
            ("\u{200d}", RefusalCode::NameForbiddenCharacter),
            ("press\u{200c}", RefusalCode::NameForbiddenCharacter),
            ("a\u{200c}\u{200d}b", RefusalCode::NameForbiddenCharacter),
            ("a \u{200d}b", RefusalCode::NameForbiddenCharacter),
            (" edge", RefusalCode::NameOuterSpace),
            (&long, RefusalCode::NameTooLong),
        ] {
            assert_eq!(check_name(text).map_err(|(code, _)| code), Err(code), "{text:?}");
        }
        let full = "é".repeat(NAME_CHARS_MAX);
        for text in
            ["Werk 3 / Halle Ost", "<b>bold</b>", "=1+1", "מפעל", "工場", "👩‍🏭", "می\u{200c}خواهم", &full]
        {
            assert_eq!(check_name(text).as_deref(), Ok(text));
        }
    }
}
