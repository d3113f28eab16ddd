//! CSV as RFC 4180 has it, made harmless for spreadsheets.
//!
//! Names and notes are free text, and a spreadsheet takes a cell that begins with one of a few signs for a formula.
//! Such a cell gets an apostrophe in front: spreadsheets show the text without computing, and a program sees
//! that it was marked.

/// What a formula can begin with; the wide forms count in some languages.
const FORMULA: [char; 10] = ['=', '+', '-', '@', '\t', '\r', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// One line under way.
pub(super) struct Line<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl<'o> Line<'o> {
    pub(super) fn begin(out: &'o mut Vec<u8>) -> Line<'o> {
        Line { out, first: true }
    }

    /// The next cell.
    pub(super) fn cell(&mut self, text: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        let formula = text.starts_with(FORMULA);
        let quoted = text.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n'));
        if !quoted {
            if formula {
                self.out.push(b'\'');
            }
            self.out.extend_from_slice(text.as_bytes());
            return;
        }
        self.out.push(b'"');
        if formula {
            self.out.push(b'\'');
        }
        for (place, part) in text.split('"').enumerate() {
            if place > 0 {
                self.out.extend_from_slice(b"\"\"");
            }
            self.out.extend_from_slice(part.as_bytes());
        }
        self.out.push(b'"');
    }

    pub(super) fn end(self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(cells: &[&str]) -> String {
        let mut out = Vec::new();
        let mut line = Line::begin(&mut out);
        cells.iter().for_each(|cell| line.cell(cell));
        line.end();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn cells_are_quoted_where_needed_and_formulas_are_marked() {
        assert_eq!(written(&["a", "", "b c"]), "a,,b c\r\n");
        assert_eq!(
            written(&["a,b", "say \"x\"", "two\nlines"]),
            "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\"\r\n"
        );
        for sign in FORMULA {
            let text = format!("{sign}1");
            let expected = if sign == '\r' { format!("\"'{text}\"\r\n") } else { format!("'{text}\r\n") };
            assert_eq!(written(&[&text]), expected);
        }
        assert_eq!(written(&["=1,\"x\""]), "\"'=1,\"\"x\"\"\"\r\n");
        assert_eq!(written(&["a=1"]), "a=1\r\n");
    }
}
