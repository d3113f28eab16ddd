//! CSV as RFC 4180 has it, made harmless for spreadsheets.
//!
//! Names and notes are free text, and a spreadsheet takes a cell that begins with one of a few signs for a formula.
//! Such a cell gets an apostrophe in front: spreadsheets show the text without computing, and a program sees
//! that it was marked. Where `;` separates the cells of a list, such a sign after `;` begins a cell as well, so it is
//! marked there too. The server's files and the client's tables are written by this one writer.

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
        cell(self.out, text);
    }

    pub(super) fn end(self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Appends free text as one cell.
pub(crate) fn cell(out: &mut Vec<u8>, text: &str) {
    let quoted = text.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n'));
    if quoted {
        out.push(b'"');
    }
    let mut begins = true;
    for c in text.chars() {
        if begins && FORMULA.contains(&c) {
            out.push(b'\'');
        }
        begins = matches!(c, ';' | '\t');
        if c == '"' {
            out.push(b'"');
        }
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    if quoted {
        out.push(b'"');
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
        assert_eq!(written(&["a;=1;b", "c\t@d", ";"]), "a;'=1;b,c\t'@d,;\r\n");
    }
}
