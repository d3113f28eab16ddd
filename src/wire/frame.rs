//! Frames: a header of 16 bytes, read by hand, and a body that is a heartbeat archive.
//!
//! Bytes are checked once and then read in place: [`read_frame`] gives a [`Frame`] that borrows the packet.
//! Nothing here allocates, waits or looks at a clock, except [`StreamFrames`], which keeps at most one
//! unfinished frame of a stream.
//!
//! Two checks are made. The archive check proves that the bytes are a heartbeat (with fixed-size fields of
//! plain numbers that is a length check). The range check proves that the values can be true: a percentage
//! above 100, an interval of zero, an id of zero or text that is not text is refused. A value of an
//! enumeration that this version does not know is *not* refused, since the sensor may be newer: it
//! reads as "unknown" and [`Frame::unknown_values`] says so. Cost: about 10 ns a frame.
//!
//! An error either keeps the framing (the next frame can be read) or loses it ([`FrameError::loses_framing`]).

use rkyv::api::low;
use rkyv::rancor::Failure;

use super::heartbeat::{
    ArchivedHeartbeat, BackupResult, EndpointState, Heartbeat, NtpState, Profile, TiStatus, UNKNOWN_U16,
    UpdateStage,
};
use crate::limits::{FRAME_BODY_BYTES_MAX, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FRAMES_PER_DATAGRAM_MAX};

/// First two bytes of a frame, little-endian: "FP".
pub const MAGIC: u16 = 0x5046;
/// Kind of a heartbeat frame.
pub const KIND_HEARTBEAT: u8 = 1;
/// Heartbeat schema that this version writes. It reads this one and the same prefix of all later ones.
pub const SCHEMA: u8 = 1;
/// Bytes of a body of schema version 1.
pub const BODY_BYTES: usize = size_of::<ArchivedHeartbeat>();
/// Bytes of a whole frame of schema version 1.
pub const HEARTBEAT_FRAME_BYTES: usize = FRAME_HEADER_BYTES + BODY_BYTES;
/// Body bytes after the sensor id, as 64-bit words: what live state keeps.
pub const BODY_WORDS: usize = (BODY_BYTES - 16) / 8;

const _: () = assert!(align_of::<ArchivedHeartbeat>() == 1);
const _: () = assert!(BODY_BYTES <= FRAME_BODY_BYTES_MAX);
const _: () = assert!(BODY_BYTES == 16 + BODY_WORDS * 8);

/// The header, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the body is; only [`KIND_HEARTBEAT`] today.
    pub kind: u8,
    /// Schema version of the body, 1 or more.
    pub schema: u8,
    /// Bytes of the body.
    pub body_bytes: u16,
    /// Bits that later versions may use; ignored.
    pub flags: u16,
    /// Milliseconds between making the frame and sending it, with the time that relays held it.
    pub age_ms: u32,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes end before the frame does.
    #[error("the bytes end before the frame does")]
    Truncated,
    /// It does not start with "FP".
    #[error("does not start with the magic bytes \"FP\"")]
    Magic,
    /// A kind of frame that this version does not know.
    #[error("a kind of frame that this version does not know")]
    Kind,
    /// Schema version zero.
    #[error("schema version zero")]
    SchemaZero,
    /// The announced body is longer than any may be.
    #[error("the announced body is longer than {FRAME_BODY_BYTES_MAX} bytes")]
    Oversized,
    /// Reserved header bytes are not zero.
    #[error("reserved header bytes are not zero")]
    Reserved,
    /// The body is shorter than schema version 1.
    #[error("the body is shorter than {BODY_BYTES} bytes")]
    BodyShort,
    /// The body is not a heartbeat archive.
    #[error("the body is not a heartbeat")]
    BodyInvalid,
    /// A field has a value that can't be.
    #[error("impossible value in field {0}")]
    OutOfRange(&'static str),
    /// More frames in a datagram than may be.
    #[error("more than {FRAMES_PER_DATAGRAM_MAX} frames in one datagram")]
    TooMany,
}

impl FrameError {
    /// All labels; [`FrameError::index`] counts in it.
    pub const LABELS: [&'static str; 10] = [
        "truncated",
        "magic",
        "kind",
        "schema_zero",
        "oversized",
        "reserved",
        "body_short",
        "body_invalid",
        "out_of_range",
        "too_many",
    ];

    /// Place in [`FrameError::LABELS`], for arrays of counters.
    pub const fn index(self) -> usize {
        match self {
            FrameError::Truncated => 0,
            FrameError::Magic => 1,
            FrameError::Kind => 2,
            FrameError::SchemaZero => 3,
            FrameError::Oversized => 4,
            FrameError::Reserved => 5,
            FrameError::BodyShort => 6,
            FrameError::BodyInvalid => 7,
            FrameError::OutOfRange(_) => 8,
            FrameError::TooMany => 9,
        }
    }

    /// The label in metrics and logs.
    pub const fn label(self) -> &'static str {
        FrameError::LABELS[self.index()]
    }

    /// True when nobody knows where the next frame starts: the rest of the datagram or stream is lost.
    pub const fn loses_framing(self) -> bool {
        matches!(
            self,
            FrameError::Truncated | FrameError::Magic | FrameError::Oversized | FrameError::TooMany
        )
    }
}

/// A frame that was checked, borrowed from the packet.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'b> {
    /// The header.
    pub header: Header,
    /// The whole body, with what a newer schema appended.
    pub body: &'b [u8],
    /// The part of the body that this version knows.
    pub known: &'b ArchivedHeartbeat,
    /// The body is longer than this version knows: its sensor is newer than we are.
    pub appended: bool,
    /// Some enumeration has a value that this version does not know; it counts as "unknown".
    pub unknown_values: bool,
}

impl Frame<'_> {
    /// Body bytes after the sensor id as little-endian words, unknown enumeration values zeroed.
    pub fn body_words(&self) -> [u64; BODY_WORDS] {
        let mut words = [0; BODY_WORDS];
        if self.unknown_values {
            let mut known = [0; BODY_BYTES];
            known.copy_from_slice(&self.body[..BODY_BYTES]);
            zero_unknown_values(&mut known);
            load_words(&known[16..], &mut words);
        } else {
            load_words(&self.body[16..BODY_BYTES], &mut words);
        }
        words
    }

    /// An owned copy of the heartbeat, unknown enumeration values zeroed.
    pub fn to_heartbeat(&self) -> Heartbeat {
        heartbeat_from_words(self.known.sensor_id, &self.body_words())
    }
}

/// The reverse of [`Frame::body_words`].
pub fn heartbeat_from_words(sensor_id: [u8; 16], words: &[u64; BODY_WORDS]) -> Heartbeat {
    let mut body = [0; BODY_BYTES];
    body[..16].copy_from_slice(&sensor_id);
    for (bytes, word) in body[16..].chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    match low::access::<ArchivedHeartbeat, Failure>(&body) {
        Ok(known) => known.to_heartbeat(),
        // Any bytes of the right length are an archive of plain numbers.
        Err(_) => Heartbeat { sensor_id, ..Heartbeat::default() },
    }
}

fn load_words(bytes: &[u8], words: &mut [u64; BODY_WORDS]) {
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = le_u64(bytes);
    }
}

/// Length of the frame that starts here, header included; `None` when more bytes are needed to say.
pub fn frame_length(prefix: &[u8]) -> Result<Option<usize>, FrameError> {
    if prefix.len() < 6 {
        // Refuse garbage at its first bytes, before waiting for more of it.
        let magic = MAGIC.to_le_bytes();
        let known = prefix.len().min(2);
        return if prefix[..known] == magic[..known] { Ok(None) } else { Err(FrameError::Magic) };
    }
    if u16::from_le_bytes([prefix[0], prefix[1]]) != MAGIC {
        return Err(FrameError::Magic);
    }
    let body = usize::from(u16::from_le_bytes([prefix[4], prefix[5]]));
    if body > FRAME_BODY_BYTES_MAX {
        return Err(FrameError::Oversized);
    }
    Ok(Some(FRAME_HEADER_BYTES + body))
}

/// Reads the frame at the start of `bytes`; gives it and the bytes that it takes.
pub fn read_frame(bytes: &[u8]) -> Result<(Frame<'_>, usize), FrameError> {
    let length = frame_length(bytes)?.ok_or(FrameError::Truncated)?;
    let exact = bytes.get(..length).ok_or(FrameError::Truncated)?;
    Ok((read_exact(exact)?, length))
}

/// Reads a frame whose framing was checked: `bytes` is it exactly.
fn read_exact(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let (head, body) = bytes.split_at_checked(FRAME_HEADER_BYTES).ok_or(FrameError::Truncated)?;
    let header = Header {
        kind: head[2],
        schema: head[3],
        body_bytes: u16::from_le_bytes([head[4], head[5]]),
        flags: u16::from_le_bytes([head[6], head[7]]),
        age_ms: u32::from_le_bytes([head[8], head[9], head[10], head[11]]),
    };
    if header.kind != KIND_HEARTBEAT {
        return Err(FrameError::Kind);
    }
    if header.schema == 0 {
        return Err(FrameError::SchemaZero);
    }
    if head[12..16] != [0; 4] {
        return Err(FrameError::Reserved);
    }
    let prefix = body.get(..BODY_BYTES).ok_or(FrameError::BodyShort)?;
    // A longer body is a newer schema; one that says it is version 1 is not what it says.
    let appended = body.len() > BODY_BYTES || header.schema > SCHEMA;
    if body.len() > BODY_BYTES && header.schema == SCHEMA {
        return Err(FrameError::BodyInvalid);
    }
    let known =
        low::access::<ArchivedHeartbeat, Failure>(prefix).map_err(|Failure| FrameError::BodyInvalid)?;
    check_ranges(known)?;
    let unknown_values = has_unknown_values(known);
    Ok(Frame { header, body, known, appended, unknown_values })
}

/// Checks that the values can be true. Public so that a sensor can check what it is about to send.
pub fn check_ranges(known: &ArchivedHeartbeat) -> Result<(), FrameError> {
    let out = |field| Err(FrameError::OutOfRange(field));
    if known.sensor_id == [0; 16] {
        return out("sensor_id");
    }
    if known.boot_id.to_native() == 0 {
        return out("boot_id");
    }
    if known.sequence.to_native() == 0 {
        return out("sequence");
    }
    if known.interval_ms.to_native() == 0 {
        return out("interval_ms");
    }
    if known.update_percent > 100 {
        return out("update_percent");
    }
    if known.directory_reachable > known.directory_configured {
        return out("directory_reachable");
    }
    let permille = |value: u16| value <= 1_000 || value == UNKNOWN_U16;
    if !permille(known.cpu_permille.to_native()) {
        return out("cpu_permille");
    }
    if !permille(known.memory_permille.to_native()) {
        return out("memory_permille");
    }
    if !known.disk_permille.iter().all(|value| permille(value.to_native())) {
        return out("disk_permille");
    }
    if known.interfaces_up.to_native() > known.interfaces_total.to_native() {
        return out("interfaces_up");
    }
    if known.interfaces_with_traffic.to_native() > known.interfaces_total.to_native() {
        return out("interfaces_with_traffic");
    }
    if !is_text(&known.version) {
        return out("version");
    }
    if !is_text(&known.update_target) {
        return out("update_target");
    }
    if !is_text(&known.ti_version) {
        return out("ti_version");
    }
    Ok(())
}

/// NUL-padded UTF-8 without control characters. Eight ASCII bytes at a time; anything else the long way.
fn is_text(field: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut ended = false;
    for chunk in field.chunks_exact(8) {
        let word = le_u64(chunk);
        if word & HIGH != 0 {
            return is_text_slow(field);
        }
        // All bytes are below 0x80, so these sums never carry from one byte into the next.
        let filled = (word + ONES * 0x7f) & HIGH;
        let printable = (word + ONES * 0x60) & HIGH;
        let delete = (word + ONES) & HIGH;
        let mask = (filled >> 7) * 0xff;
        let padded = mask & mask.wrapping_add(1) == 0 && (!ended || mask == 0);
        if filled != printable || delete != 0 || !padded {
            return false;
        }
        ended = mask != u64::MAX;
    }
    true
}

#[cold]
fn is_text_slow(field: &[u8]) -> bool {
    super::heartbeat::inline_str(field).is_some_and(|text| !text.chars().any(char::is_control))
}

fn le_u64(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

const ENDPOINT_LAST: u8 = EndpointState::ALL.len() as u8 - 1;

fn has_unknown_values(known: &ArchivedHeartbeat) -> bool {
    usize::from(known.profile) >= Profile::ALL.len()
        || usize::from(known.update_stage) >= UpdateStage::ALL.len()
        || usize::from(known.ti_status) >= TiStatus::ALL.len()
        || usize::from(known.backup_result) >= BackupResult::ALL.len()
        || usize::from(known.ntp_state) >= NtpState::ALL.len()
        || known.endpoint_states.iter().any(|&state| state > ENDPOINT_LAST)
}

#[cold]
fn zero_unknown_values(body: &mut [u8; BODY_BYTES]) {
    use std::mem::offset_of;
    let mut limit = |offset: usize, values: usize| {
        if usize::from(body[offset]) >= values {
            body[offset] = 0;
        }
    };
    limit(offset_of!(ArchivedHeartbeat, profile), Profile::ALL.len());
    limit(offset_of!(ArchivedHeartbeat, update_stage), UpdateStage::ALL.len());
    limit(offset_of!(ArchivedHeartbeat, ti_status), TiStatus::ALL.len());
    limit(offset_of!(ArchivedHeartbeat, backup_result), BackupResult::ALL.len());
    limit(offset_of!(ArchivedHeartbeat, ntp_state), NtpState::ALL.len());
    for place in 0..super::heartbeat::ENDPOINTS_MAX {
        limit(offset_of!(ArchivedHeartbeat, endpoint_states) + place, EndpointState::ALL.len());
    }
}

/// The frames of one datagram. Ends after the first error that loses the framing, and after
/// [`FRAMES_PER_DATAGRAM_MAX`] frames.
#[derive(Clone, Debug)]
pub struct Frames<'b> {
    rest: &'b [u8],
    read: usize,
}

/// Reads the frames of one datagram. An empty datagram has none.
pub fn frames(datagram: &[u8]) -> Frames<'_> {
    Frames { rest: datagram, read: 0 }
}

impl<'b> Frames<'b> {
    fn end(&mut self, error: FrameError) -> Option<Result<Frame<'b>, FrameError>> {
        self.rest = &[];
        Some(Err(error))
    }
}

impl<'b> Iterator for Frames<'b> {
    type Item = Result<Frame<'b>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        if self.read == FRAMES_PER_DATAGRAM_MAX {
            return self.end(FrameError::TooMany);
        }
        self.read += 1;
        let length = match frame_length(self.rest) {
            Ok(Some(length)) => length,
            Ok(None) => return self.end(FrameError::Truncated),
            Err(error) => return self.end(error),
        };
        let Some((frame, rest)) = self.rest.split_at_checked(length) else {
            return self.end(FrameError::Truncated);
        };
        self.rest = rest;
        Some(read_exact(frame))
    }
}

/// Puts the frames of a stream together from chunks of any size. A frame that lies whole in a chunk is read
/// in place; only one that crosses chunks is copied. Keeps at most one unfinished frame.
#[derive(Debug, Default)]
pub struct StreamFrames {
    partial: Vec<u8>,
    lost: bool,
}

impl StreamFrames {
    /// An empty stream. Allocates nothing until a frame crosses chunks.
    pub fn new() -> StreamFrames {
        StreamFrames::default()
    }

    /// Bytes of the unfinished frame; zero when the stream may rightly end here.
    pub fn unfinished(&self) -> usize {
        self.partial.len()
    }

    /// Takes the next chunk and hands out every frame that it completes. `Err` says that the framing is
    /// lost: the stream can't be read any further, and later chunks are refused the same way.
    pub fn push(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(Result<Frame<'_>, FrameError>),
    ) -> Result<(), FrameError> {
        if self.lost {
            return Err(FrameError::Magic);
        }
        let result = self.push_inner(chunk, &mut each);
        if result.is_err() {
            self.lost = true;
            self.partial = Vec::new();
        }
        result
    }

    fn push_inner(
        &mut self,
        mut chunk: &[u8],
        each: &mut impl FnMut(Result<Frame<'_>, FrameError>),
    ) -> Result<(), FrameError> {
        while !self.partial.is_empty() {
            // The length may lie across chunks itself, so first the header, then the rest.
            let wanted = match frame_length(&self.partial)? {
                Some(length) => length,
                None => FRAME_HEADER_BYTES,
            };
            let take = chunk.len().min(wanted - self.partial.len());
            let (head, rest) = chunk.split_at(take);
            self.partial.extend_from_slice(head);
            chunk = rest;
            match frame_length(&self.partial)? {
                Some(length) if length == self.partial.len() => {
                    each(read_exact(&self.partial));
                    self.partial.clear();
                }
                _ if chunk.is_empty() => return Ok(()),
                _ => {}
            }
        }
        while !chunk.is_empty() {
            match frame_length(chunk)? {
                Some(length) if length <= chunk.len() => {
                    let (frame, rest) = chunk.split_at(length);
                    each(read_exact(frame));
                    chunk = rest;
                }
                _ => {
                    self.partial.reserve_exact(FRAME_BYTES_MAX);
                    self.partial.extend_from_slice(chunk);
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Appends one heartbeat frame to `out`.
pub fn write_frame(heartbeat: &Heartbeat, age_ms: u32, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + HEARTBEAT_FRAME_BYTES, 0);
    write_frame_to(heartbeat, age_ms, &mut out[start..]);
}

fn write_frame_to(heartbeat: &Heartbeat, age_ms: u32, frame: &mut [u8]) {
    use rkyv::ser::allocator::SubAllocator;
    use rkyv::ser::writer::Buffer;

    let (head, body) = frame.split_at_mut(FRAME_HEADER_BYTES);
    head.fill(0);
    head[..2].copy_from_slice(&MAGIC.to_le_bytes());
    head[2] = KIND_HEARTBEAT;
    head[3] = SCHEMA;
    head[4..6].copy_from_slice(&(BODY_BYTES as u16).to_le_bytes());
    head[8..12].copy_from_slice(&age_ms.to_le_bytes());
    // An archive of fixed size into a buffer of that size: there is no way to fail.
    low::to_bytes_in_with_alloc::<_, _, Failure>(heartbeat, Buffer::from(body), SubAllocator::new(&mut []))
        .expect("a heartbeat archive has a fixed size");
}

/// Sets the age of a frame, just before it is sent. `false` when the bytes are no frame.
pub fn set_age(frame: &mut [u8], age_ms: u32) -> bool {
    let whole = frame.len() >= FRAME_HEADER_BYTES && matches!(frame_length(frame), Ok(Some(_)));
    if whole {
        frame[8..12].copy_from_slice(&age_ms.to_le_bytes());
    }
    whole
}

/// Adds to the age of a frame, as a relay does with the time that it held it; saturates. `false` when the
/// bytes are no frame.
pub fn add_age(frame: &mut [u8], held_ms: u32) -> bool {
    let Some(age) = frame.get(8..12).map(|age| u32::from_le_bytes([age[0], age[1], age[2], age[3]])) else {
        return false;
    };
    set_age(frame, age.saturating_add(held_ms))
}

#[cfg(test)]
mod tests;
