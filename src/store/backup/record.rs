//! Records of a backup: kind, length, checksum of both with the content, content.

use std::io::{self, Read, Write};

use super::{damaged, write_all};
use crate::limits::BACKUP_RECORD_BYTES_MAX;
use crate::store::error::StoreError;
use crate::store::position::{LogId, Position};
use crate::time::UnixMillis;

/// Files are cut into pieces of this size.
pub(super) const PIECE_BYTES: usize = 128 * 1_024;
const LEAD_BYTES: usize = 8 + 24 + 24;
const HEAD_BYTES: usize = 9;

macro_rules! kinds {
    ($($(#[$meta:meta])* $variant:ident = $code:literal),+ $(,)?) => {
        /// What a record is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(in crate::store) enum Kind { $($(#[$meta])* $variant = $code),+ }

        impl Kind {
            fn of(code: u8) -> Result<Kind, StoreError> {
                match code {
                    $($code => Ok(Kind::$variant),)+
                    other => Err(damaged(format!("it has a record of the unknown kind {other}"))),
                }
            }
        }
    };
}

kinds! {
    /// When it was made and of what: the first.
    Lead = 1,
    /// A batch of the register: its number, its bytes.
    Batch = 2,
    /// An entry of the journal: length of the key, key, bytes. So are the next two.
    Entry = 3,
    /// A message that is active.
    Active = 4,
    /// A message that ended.
    Ended = 5,
    /// A file begins: its name.
    File = 6,
    /// More of the file.
    Piece = 7,
    /// The last: how many records there were before it.
    End = 8,
}

/// Writes records.
pub(in crate::store) struct Recorder<'w> {
    writer: &'w mut dyn Write,
    progress: &'w mut dyn FnMut(u64),
    records: u64,
    bytes: u64,
}

impl<'w> Recorder<'w> {
    pub(super) fn new(writer: &'w mut dyn Write, progress: &'w mut dyn FnMut(u64)) -> Recorder<'w> {
        Recorder { writer, progress, records: 0, bytes: 0 }
    }

    pub(in crate::store) fn lead(
        &mut self,
        at: UnixMillis,
        register: Position,
        journal: Position,
    ) -> io::Result<()> {
        let [a, b] = [register, journal].map(|position| position.sequence.to_le_bytes());
        self.write(Kind::Lead, &[&at.0.to_le_bytes(), &register.log.0, &a, &journal.log.0, &b])
    }

    pub(in crate::store) fn write(&mut self, kind: Kind, parts: &[&[u8]]) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let too_long = || io::Error::other("a document is larger than a backup can hold");
        let length = u32::try_from(length).ok().filter(|&length| length as usize <= BACKUP_RECORD_BYTES_MAX);
        let length = length.ok_or_else(too_long)?.to_le_bytes();
        let mut sum = crc32fast::Hasher::new();
        sum.update(&[kind as u8]);
        sum.update(&length);
        parts.iter().for_each(|part| sum.update(part));
        write_all(&mut self.writer, &[&[kind as u8], &length, &sum.finalize().to_le_bytes()])?;
        write_all(&mut self.writer, parts)?;
        self.records += 1;
        let before = self.bytes;
        self.bytes += (HEAD_BYTES + parts.iter().map(|part| part.len()).sum::<usize>()) as u64;
        // Now and then: once a megabyte.
        if before >> 20 != self.bytes >> 20 {
            (self.progress)(self.bytes);
        }
        Ok(())
    }

    pub(in crate::store) fn end(&mut self) -> io::Result<()> {
        let records = self.records;
        self.write(Kind::End, &[&records.to_le_bytes()])
    }
}

/// Reads records.
pub(super) struct Records<R> {
    reader: R,
    read: u64,
}

impl<R: Read> Records<R> {
    pub(super) fn new(reader: R) -> Records<R> {
        Records { reader, read: 0 }
    }

    /// The next record; `None` after the last, which tells that none is missing.
    pub(super) fn next(&mut self) -> Result<Option<(Kind, Vec<u8>)>, StoreError> {
        let mut head = [0; HEAD_BYTES];
        self.reader.read_exact(&mut head).map_err(cut)?;
        let [code, a, b, c, d, sum @ ..] = head;
        let length = u32::from_le_bytes([a, b, c, d]);
        if length as usize > BACKUP_RECORD_BYTES_MAX {
            return Err(damaged("a record is longer than any can be"));
        }
        // Memory follows what is there, not what is said.
        let mut content = Vec::new();
        let read = (&mut self.reader).take(u64::from(length)).read_to_end(&mut content).map_err(cut)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&head[..5]);
        hasher.update(&content);
        if read != length as usize || hasher.finalize() != u32::from_le_bytes(sum) {
            return Err(damaged("the checksum of a record does not match"));
        }
        let kind = Kind::of(code)?;
        if kind == Kind::End {
            let told = <[u8; 8]>::try_from(content.as_slice()).map(u64::from_le_bytes);
            return if told.ok() == Some(self.read) { Ok(None) } else { Err(damaged("records are missing")) };
        }
        self.read += 1;
        Ok(Some((kind, content)))
    }
}

fn cut(cause: io::Error) -> StoreError {
    match cause.kind() {
        io::ErrorKind::UnexpectedEof => damaged("it is cut short"),
        _ => StoreError::io("reading the backup", cause),
    }
}

/// When a backup was made, and at which places of which logs.
pub(super) fn read_lead(content: &[u8]) -> Result<(UnixMillis, Position, Position), StoreError> {
    let lead: &[u8; LEAD_BYTES] = content.try_into().map_err(|_| damaged("its lead makes no sense"))?;
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&lead[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let position = |at: usize| {
        let mut log = [0; 16];
        log.copy_from_slice(&lead[at..at + 16]);
        Position { log: LogId(log), sequence: word(at + 16) }
    };
    Ok((UnixMillis(word(0) as i64), position(8), position(32)))
}
