//! Names that people give: shown on pages, in mails, logs and files, so nothing in them may hide,
//! reorder or break what stands around them.
//!
//! Markup and spreadsheet formulas are ordinary text here: only the edge that writes HTML or CSV knows
//! how to make them harmless, and must.

use std::sync::Arc;

use super::refusal::{RefusalCode, shown};
use crate::limits::NAME_CHARS_MAX;

/// A name as it is kept, or why it can't be one and what would be right.
pub fn check_name(text: &str) -> Result<Arc<str>, (RefusalCode, String)> {
    if text.chars().nth(NAME_CHARS_MAX).is_some() {
        return Err((RefusalCode::NameTooLong, format!("at most {NAME_CHARS_MAX} characters")));
    }
    if text.trim().is_empty() {
        return Err((RefusalCode::NameEmpty, format!("1 to {NAME_CHARS_MAX} characters")));
    }
    if let Some(bad) = text.chars().find(|&c| hostile(c)) {
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

/// Characters that draw nothing, or change how their neighbours are drawn.
fn hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}' | '\u{200e}' | '\u{200f}'   // marks of direction, zero-width space
            | '\u{2028}'..='\u{202e}'                           // line separators, embeddings, overrides
            | '\u{2060}'..='\u{206f}'                           // word joiner, isolates, deprecated controls
            | '\u{feff}' | '\u{fff9}'..='\u{fffc}'              // byte-order mark, annotations
            | '\u{e0000}'..='\u{e007f}') // invisible tag letters
}

#[cfg(test)]
mod tests {
    use super::*;

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
            (" edge", RefusalCode::NameOuterSpace),
            (&long, RefusalCode::NameTooLong),
        ] {
            assert_eq!(check_name(text).map_err(|(code, _)| code), Err(code), "{text:?}");
        }
        let full = "é".repeat(NAME_CHARS_MAX);
        for text in ["Werk 3 / Halle Ost", "<b>bold</b>", "=1+1", "מפעל", "工場", "👩‍🏭", &full]
        {
            assert_eq!(check_name(text).as_deref(), Ok(text));
        }
    }
}
