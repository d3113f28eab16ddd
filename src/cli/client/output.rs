//! Answers on standard output: tables for people; JSON, NDJSON and CSV for programs.
//!
//! A list is written as it comes, a page at a time, so its length costs no memory; the widths of a table are those of
//! its first page. Whatever closes standard output (`| head`) ends the command quietly.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use clap::ValueEnum;
use serde_json::Value;

use super::cell::{Column, cell, csv_cell, style};
use crate::cli::Failure;
use crate::cli::paint::{Paint, column, cut, width};
use crate::limits::PAGE_MAX;
use crate::time::{Clock, SystemClock, UnixMillis};

/// How answers look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A table with the usual columns, cut to the terminal
    #[default]
    Table,
    /// A table with all columns, not cut
    Wide,
    /// One JSON document
    Json,
    /// One JSON document a line
    Ndjson,
    /// Comma-separated values, safe for spreadsheets
    Csv,
}

impl Format {
    /// For programs: errors are too.
    pub(super) fn is_json(self) -> bool {
        matches!(self, Format::Json | Format::Ndjson)
    }

    pub(super) fn is_csv(self) -> bool {
        self == Format::Csv
    }

    fn is_table(self) -> bool {
        matches!(self, Format::Table | Format::Wide)
    }
}

/// Standard output.
pub(super) struct Out {
    format: Format,
    to: BufWriter<Stdout>,
    paint: Paint,
    /// Columns of the terminal; none when it is no terminal.
    columns: Option<usize>,
    now: UnixMillis,
}

/// Narrower than this a column says nothing.
const COLUMN_MIN: usize = 6;

impl Out {
    pub(super) fn new(format: Format) -> Out {
        let stdout = io::stdout();
        let columns = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
        let columns = columns.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
        Out {
            format,
            to: BufWriter::new(stdout),
            paint: Paint::for_stdout(),
            columns: columns.filter(|_| format == Format::Table),
            now: SystemClock::start().unix(),
        }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// A line as it is; it must be clean already.
    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.to, "{text}").map_err(closed)
    }

    /// A file as it is.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.to.write_all(bytes).map_err(closed)?;
        self.flush()
    }

    /// What is written so far is seen.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.to.flush().map_err(closed)
    }

    /// One thing: its fields one below the other, or the whole document.
    pub(super) fn one(&mut self, document: &Value, columns: &[Column]) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.line(&pretty(document))?,
            Format::Ndjson => self.line(&document.to_string())?,
            Format::Csv => {
                let mut list = List::new(self, columns);
                list.item(document)?;
                list.end()?;
            }
            Format::Table | Format::Wide => {
                let widest = columns.iter().map(|column| width(column.head)).max().unwrap_or(0);
                for field in columns {
                    let text = cell(document, field, self.now);
                    // What is not there needs no line.
                    if text == "-" && !field.always {
                        continue;
                    }
                    let head = self.paint.dim(&column(&field.head.to_lowercase(), widest));
                    let text = style(self.paint, field, document, &text);
                    self.line(&format!("{head}  {text}"))?;
                }
            }
        }
        self.flush()
    }

    /// A change that was made: a sentence for people, the document for programs.
    pub(super) fn done(&mut self, sentence: &str, document: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Json | Format::Ndjson => self.line(&document.to_string())?,
            _ => self.line(&crate::cli::paint::clean(sentence))?,
        }
        self.flush()
    }
}

fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(document).unwrap_or_else(|_| document.to_string())
}

/// A reader who has enough is nobody's fault.
fn closed(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::quiet(),
        _ => Failure::failed(format!("the output can't be written: {error}")),
    }
}

/// A list that is being written.
pub(super) struct List<'o, 'c> {
    out: &'o mut Out,
    columns: Vec<&'c Column>,
    /// Rows of a table whose widths are not known yet.
    waiting: Vec<(Value, Vec<String>)>,
    widths: Option<Vec<usize>>,
    written: usize,
}

impl<'o, 'c> List<'o, 'c> {
    pub(super) fn new(out: &'o mut Out, columns: &'c [Column]) -> List<'o, 'c> {
        let all = !matches!(out.format, Format::Table);
        let columns = columns.iter().filter(|column| all || !column.wide).collect();
        List { out, columns, waiting: Vec::new(), widths: None, written: 0 }
    }

    pub(super) fn item(&mut self, item: &Value) -> Result<(), Failure> {
        match self.out.format {
            Format::Table | Format::Wide => {
                let now = self.out.now;
                let cells = self.columns.iter().map(|column| cell(item, column, now)).collect();
                self.waiting.push((item.clone(), cells));
                if self.waiting.len() >= PAGE_MAX || self.widths.is_some() {
                    self.write_waiting()?;
                }
            }
            Format::Json => {
                let before = if self.written == 0 { "[\n" } else { ",\n" };
                write!(self.out.to, "{before}{item}").map_err(closed)?;
            }
            Format::Ndjson => self.out.line(&item.to_string())?,
            Format::Csv => {
                if self.written == 0 {
                    self.csv_head()?;
                }
                let cells: Vec<String> = self.columns.iter().map(|column| csv_cell(item, column)).collect();
                write!(self.out.to, "{}\r\n", cells.join(",")).map_err(closed)?;
            }
        }
        self.written += 1;
        Ok(())
    }

    /// The list is complete.
    pub(super) fn end(mut self) -> Result<usize, Failure> {
        match (self.out.format, self.written) {
            (Format::Json, 0) => self.out.line("[]")?,
            (Format::Json, _) => self.out.line("\n]")?,
            (Format::Csv, 0) => self.csv_head()?,
            (format, 0) if format.is_table() => eprintln!("nothing found"),
            (format, _) if format.is_table() => self.write_waiting()?,
            _ => {}
        }
        self.out.flush()?;
        Ok(self.written)
    }

    fn csv_head(&mut self) -> Result<(), Failure> {
        let heads: Vec<&str> = self.columns.iter().map(|column| column.at).collect();
        write!(self.out.to, "{}\r\n", heads.join(",")).map_err(closed)
    }

    fn write_waiting(&mut self) -> Result<(), Failure> {
        if self.widths.is_none() {
            let widths = self.fit();
            let heads = self.columns.iter().map(|column| column.head.to_owned()).collect::<Vec<_>>();
            let head = self.out.paint.dim(self.row(&heads, &widths).trim_end());
            self.out.line(&head)?;
            self.widths = Some(widths);
        }
        let widths = self.widths.clone().unwrap_or_default();
        for (item, cells) in std::mem::take(&mut self.waiting) {
            let padded = cells.iter().zip(&widths).map(|(text, width)| self.fitted(text, *width));
            let styled =
                padded.zip(&self.columns).map(|(text, column)| style(self.out.paint, column, &item, &text));
            let line = styled.collect::<Vec<_>>().join("  ");
            self.out.line(line.trim_end())?;
        }
        Ok(())
    }

    /// As wide as its column; cut only for a terminal. In a pipe and in wide tables a long text of a later page is worth
    /// more than straight columns.
    fn fitted(&self, text: &str, room: usize) -> String {
        if self.out.columns.is_none() && width(text) > room { text.to_owned() } else { column(text, room) }
    }

    fn row(&self, cells: &[String], widths: &[usize]) -> String {
        let cells: Vec<String> =
            cells.iter().zip(widths).map(|(text, width)| self.fitted(text, *width)).collect();
        let line = cells.join("  ");
        self.out.columns.map_or_else(|| line.clone(), |columns| cut(&line, columns))
    }

    /// As wide as the texts are; on a narrow terminal the widest give way first.
    fn fit(&self) -> Vec<usize> {
        let widest = |(place, column): (usize, &&Column)| {
            let cells = self.waiting.iter().map(|(_, cells)| width(&cells[place])).max().unwrap_or(0);
            cells.max(width(column.head))
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(widest).collect();
        if let Some(columns) = self.out.columns {
            shrink(&mut widths, columns);
        }
        widths
    }
}

/// Takes from the widest until all fit with two spaces between them.
fn shrink(widths: &mut [usize], columns: usize) {
    let room = columns.saturating_sub(2 * widths.len().saturating_sub(1));
    while widths.iter().sum::<usize>() > room {
        match widths.iter_mut().max().filter(|widest| **widest > COLUMN_MIN) {
            Some(widest) => *widest -= 1,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_columns_give_way() {
        let mut widths = vec![10, 40, 36];
        shrink(&mut widths, 60);
        assert_eq!(widths.iter().sum::<usize>(), 56);
        assert_eq!(widths[0], 10);
        shrink(&mut widths, 5);
        assert!(widths.iter().all(|width| *width == COLUMN_MIN));
    }
}
