//! The checkpoint image: live state as bytes, and back in another process.
//!
//! Instants are written in the engine time of the process that writes; the reader moves them to its own,
//! adding the wall time that passed in between, so that ages go on. What belongs to the process (owners,
//! epochs, gateway indices) or to the register (facts, who exists) is not in it: the register is loaded
//! first, and only sensors that it has get their state back. The file around it (checksum, atomic rename)
//! is the store's.
//!
//! ```text
//! header   magic "FPLV", version u16, words u16, engine nanoseconds u64, wall milliseconds i64
//! record   sensor id 16, newest heartbeat u64, active u64, unknown u64, journalled u64,
//!          mask u64 (bit n: word n follows), the words that are not zero
//! end      16 zero bytes, number of records u64
//! ```
//!
//! All little-endian. Cost: up to 560 bytes a sensor; 340 for an ordinary one, most of it the newest
//! heartbeat.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::slab::SlotFlags;
use super::slot::Guard;
use super::snapshot::{Moment, offset_of_word, offset_word};
use super::state::LiveState;
use super::types::SlotIndex;
use super::words::{self, Kind, WORDS};
use crate::time::{Now, UnixMillis};
use crate::wire::heartbeat::FLAG_GOODBYE;
use crate::wire::id::SensorId;

const MAGIC: [u8; 4] = *b"FPLV";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 24;
const RECORD_HEAD_BYTES: usize = 56;
/// Tries at a slot that writers keep busy, before the image goes without it.
const TRIES: u32 = 16;
/// Bytes handed to the sink at once, at least.
const PIECE_BYTES: usize = 64 * 1_024;

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Sensors whose state came back.
    pub sensors: u64,
    /// Sensors of the image that the register does not have any more.
    pub unknown: u64,
    /// Sensors that were heard already, so that the image is older than what is there.
    pub newer: u64,
    /// When the image was made.
    pub made: UnixMillis,
    /// Wall time since then; zero when the wall clock went backwards.
    pub away: Duration,
}

/// Why bytes are not an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// It does not start as an image does.
    #[error("not a live-state image")]
    Magic,
    /// Made by a version with another layout.
    #[error("the live-state image has layout version {0}; this program reads {VERSION}")]
    Version(u16),
    /// It ends before its end.
    #[error("the live-state image ends early")]
    Truncated,
    /// The number of records is not what its end says.
    #[error("the live-state image says {said} records and has {found}")]
    Count {
        /// As its end says.
        said: u64,
        /// As read.
        found: u64,
    },
}

/// Writes the image, piece by piece. Writers are not held up; each slot is consistent in itself. Gives the
/// number of sensors written.
pub fn write(live: &LiveState, now: Now, mut sink: impl FnMut(&[u8])) -> u64 {
    let mut piece = Vec::with_capacity(PIECE_BYTES + 1_024);
    piece.extend_from_slice(&MAGIC);
    piece.extend_from_slice(&VERSION.to_le_bytes());
    piece.extend_from_slice(&(WORDS as u16).to_le_bytes());
    piece.extend_from_slice(&now.mono.0.to_le_bytes());
    piece.extend_from_slice(&now.unix.0.to_le_bytes());
    let mut records = 0_u64;
    for index in (0..live.slots()).map(SlotIndex) {
        let Some((chunk, place)) = live.slab.get(index) else { continue };
        let Some(moment) = (0..TRIES).find_map(|_| super::snapshot::read(chunk, place)) else { continue };
        if moment.3.has(SlotFlags::OCCUPIED) {
            let verdict = live.verdict(index);
            write_record(&mut piece, &moment, [verdict.active, verdict.unknown, verdict.journalled]);
            records += 1;
        }
        if piece.len() >= PIECE_BYTES {
            sink(&piece);
            piece.clear();
        }
    }
    piece.extend_from_slice(&[0; 16]);
    piece.extend_from_slice(&records.to_le_bytes());
    sink(&piece);
    records
}

fn write_record(out: &mut Vec<u8>, (_, words, last, _): &Moment, verdict: [u64; 3]) {
    out.extend_from_slice(&words[words::ID].to_le_bytes());
    out.extend_from_slice(&words[words::ID + 1].to_le_bytes());
    out.extend_from_slice(&last.to_le_bytes());
    for bits in verdict {
        out.extend_from_slice(&bits.to_le_bytes());
    }
    let stored = |&(word, value): &(usize, &u64)| *value != 0 && !matches!(words::kind(word), Kind::Skipped);
    let mask = words.iter().enumerate().filter(stored).fold(0_u64, |mask, (word, _)| mask | 1 << word);
    out.extend_from_slice(&mask.to_le_bytes());
    for (_, value) in words.iter().enumerate().filter(stored) {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// Reads an image into live state: into the slots of the sensors that have one and were not heard yet.
/// An error leaves behind what was read until then, which is right as far as it goes.
pub fn read(image: &[u8], live: &LiveState, now: Now) -> Result<Restored, ImageError> {
    let mut bytes = image;
    let header = take(&mut bytes, HEADER_BYTES)?;
    if header[..4] != MAGIC {
        return Err(ImageError::Magic);
    }
    let version = u16::from_le_bytes([header[4], header[5]]);
    if version != VERSION || u16::from_le_bytes([header[6], header[7]]) != WORDS as u16 {
        return Err(ImageError::Version(version));
    }
    let made_mono = word_at(header, 8);
    let made = UnixMillis(word_at(header, 16) as i64);
    let away_ms = now.unix.0.saturating_sub(made.0).max(0);
    // An instant t of the image was (made_mono - t) before it was made, so (made_mono - t) + away ago now.
    let shift = i128::from(now.mono.0) - i128::from(made_mono) - i128::from(away_ms) * 1_000_000;
    let away = Duration::from_millis(away_ms as u64);
    let mut restored = Restored { sensors: 0, unknown: 0, newer: 0, made, away };
    let mut records = 0;
    loop {
        let id = take(&mut bytes, 16)?;
        if id == [0; 16] {
            let said = word_at(take(&mut bytes, 8)?, 0);
            return if said == records {
                Ok(restored)
            } else {
                Err(ImageError::Count { said, found: records })
            };
        }
        let head = take(&mut bytes, RECORD_HEAD_BYTES - 16)?;
        let mask = word_at(head, 32);
        let stored = take(&mut bytes, mask.count_ones() as usize * 8)?;
        records += 1;
        let mut sensor = [0; 16];
        sensor.copy_from_slice(id);
        match live.find(SensorId(sensor)) {
            None => restored.unknown += 1,
            Some(handle) => {
                let done = live.patiently(handle, |chunk, place, guard| {
                    if guard.get(words::HIGH) != 0 {
                        return false;
                    }
                    restore_words(guard, mask, stored, shift);
                    let last = moved(word_at(head, 0), shift);
                    chunk.heads[place].last_heartbeat.store(last, Ordering::Relaxed);
                    let goodbye = (guard.get(words::B_INTERVAL_FLAGS) >> 32) as u32 & FLAG_GOODBYE != 0;
                    chunk.change(place, |flags| {
                        flags.with(SlotFlags::SEEN, last != 0).with(SlotFlags::GOODBYE, goodbye)
                    });
                    for (number, column) in
                        [&chunk.active, &chunk.unknown, &chunk.journalled].iter().enumerate()
                    {
                        column[place].store(word_at(head, 8 + number * 8), Ordering::Relaxed);
                    }
                    true
                });
                match done {
                    Ok(true) => restored.sensors += 1,
                    Ok(false) => restored.newer += 1,
                    Err(_) => restored.unknown += 1,
                }
            }
        }
    }
}

fn restore_words(guard: &mut Guard<'_, WORDS>, mask: u64, stored: &[u8], shift: i128) {
    let shift_ms = (shift / 1_000_000) as i64;
    let present = (0..WORDS).filter(|word| mask & 1 << word != 0);
    for (number, word) in present.enumerate() {
        let value = word_at(stored, number * 8);
        let value = match words::kind(word) {
            Kind::Skipped => continue,
            Kind::Plain => value,
            Kind::Instant => moved(value, shift),
            Kind::Quarters => {
                let (low, high) = words::halves(value);
                words::join(moved_quarters(low, shift), moved_quarters(high, shift))
            }
            Kind::Offset => offset_of_word(value)
                .map_or(0, |offset| offset_word(offset.saturating_add(shift_ms).max(i64::MIN + 1))),
        };
        match word {
            words::MISC => guard.set(word, value & !words::MARK_HEARD | words::MARK_RESTORED),
            // The gateway's index was the other process's; the certificate stays true. A connection
            // that is there already has shown a newer one.
            words::GATEWAY_CERT if guard.get(words::OWNER) == 0 => {
                guard.set(word, words::with_gateway(value, 0));
            }
            words::GATEWAY_CERT => {}
            words::LAST_TRANSPORT => guard.set(word, value.max(guard.get(word))),
            _ => guard.set(word, value),
        }
    }
}

/// An instant in the new engine time; never stays never, and nothing becomes never.
fn moved(instant: u64, shift: i128) -> u64 {
    match instant {
        0 => 0,
        _ => (i128::from(instant) + shift).clamp(1, i128::from(u64::MAX)) as u64,
    }
}

fn moved_quarters(quarters: u32, shift: i128) -> u32 {
    match quarters {
        0 => 0,
        _ => (i128::from(quarters) + shift / 250_000_000).clamp(1, i128::from(u32::MAX)) as u32,
    }
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Result<&'b [u8], ImageError> {
    let (head, rest) = bytes.split_at_checked(length).ok_or(ImageError::Truncated)?;
    *bytes = rest;
    Ok(head)
}

fn word_at(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(bytes) = bytes.get(offset..offset + 8) {
        word.copy_from_slice(bytes);
    }
    u64::from_le_bytes(word)
}
