//! Which word of a slot is what. 63 words and the lock make 512 bytes, eight cache lines: the first six are
//! what every heartbeat touches, the last two what only connections, starts and readers do.

use std::mem::offset_of;

use crate::wire::frame::BODY_WORDS;
use crate::wire::heartbeat::ArchivedHeartbeat;

/// Words of a slot.
pub(super) const WORDS: usize = 63;

/// The newest heartbeat without its sensor id: 29 words.
pub(super) const BODY: usize = 0;
pub(super) const OWNER: usize = 29;
pub(super) const EPOCH: usize = 30;
pub(super) const LAST_RECEIVED: usize = 31;
pub(super) const LAST_TRANSPORT: usize = 32;
pub(super) const LAST_TRAFFIC: usize = 33;
/// Highest sequence of the boot.
pub(super) const HIGH: usize = 34;
/// Arrival window.
pub(super) const WINDOW: usize = 35;
pub(super) const RECEIVED: usize = 36;
pub(super) const LOST: usize = 37;
/// Duplicates (low half), reordered (high half).
pub(super) const DUPLICATES_REORDERED: usize = 38;
/// Least clock offset of this group of heartbeats and of the one before, in engine milliseconds.
pub(super) const OFFSET: usize = 39;
pub(super) const OFFSET_BEFORE: usize = 40;
/// Bytes a second (low half), packets a second (high half), as `f32`.
pub(super) const RATES: usize = 41;
/// Drops a second (low half), jitter in milliseconds (high half), as `f32`.
pub(super) const DROPS_JITTER: usize = 42;
/// Restarts (bits 0-31), expected heartbeats in the window (32-39), heartbeats in this offset group
/// (40-47), `MARK_*` (48-51), seconds that the newest heartbeat may have waited to be read (52-63).
pub(super) const MISC: usize = 43;
/// Gateway index + 1 (bits 0-16), mark of who signed the certificate (17-31), end of the certificate in Unix seconds
/// (high half); zero = none, or not known.
pub(super) const GATEWAY_CERT: usize = 44;
pub(super) const STAGE_SINCE: usize = 45;
/// Boot id before the one in the body.
pub(super) const BOOT_BEFORE: usize = 46;
pub(super) const FACTS: usize = 47;
pub(super) const ID: usize = 48;
pub(super) const FIRST: usize = 50;
/// Eight instants in quarters of a second, two a word.
pub(super) const RESTART_RING: usize = 51;
/// Reconnects (low half), replaced (high half).
pub(super) const RECONNECTS_REPLACED: usize = 55;
pub(super) const RECONNECT_RING: usize = 56;
/// Four instants.
pub(super) const REPLACED_RING: usize = 60;
/// Too late for the window (low half), sequence rollbacks (high half).
pub(super) const BEYOND_ROLLBACKS: usize = 62;

/// The next forward jump of the sequence is not the sensor's loss: this process was away.
pub(super) const MARK_RESTORED: u64 = 1 << 48;
/// Rates have a value.
pub(super) const MARK_RATES: u64 = 1 << 49;
/// A heartbeat came in since this process started.
pub(super) const MARK_HEARD: u64 = 1 << 50;
/// The newest boot was running already while the one before still reported.
pub(super) const MARK_OVERLAP: u64 = 1 << 51;

/// Word of the body in which the field at `offset` lies.
#[inline]
pub(super) const fn body_word(offset: usize) -> usize {
    BODY + (offset - 16) / 8
}

pub(super) const B_BOOT: usize = body_word(offset_of!(ArchivedHeartbeat, boot_id));
pub(super) const B_SEQUENCE: usize = body_word(offset_of!(ArchivedHeartbeat, sequence));
pub(super) const B_CLOCK: usize = body_word(offset_of!(ArchivedHeartbeat, sensor_clock_unix_us));
pub(super) const B_UPTIME: usize = body_word(offset_of!(ArchivedHeartbeat, uptime_ms));
/// Interval in the low half, flags in the high half.
pub(super) const B_INTERVAL_FLAGS: usize = body_word(offset_of!(ArchivedHeartbeat, interval_ms));
pub(super) const B_STATES: usize = body_word(offset_of!(ArchivedHeartbeat, update_stage));
pub(super) const STAGE_SHIFT: usize = (offset_of!(ArchivedHeartbeat, update_stage) % 8) * 8;
pub(super) const B_RX_PACKETS: usize = body_word(offset_of!(ArchivedHeartbeat, rx_packets));
pub(super) const B_RX_BYTES: usize = body_word(offset_of!(ArchivedHeartbeat, rx_bytes));
pub(super) const B_RX_DROPPED: usize = body_word(offset_of!(ArchivedHeartbeat, rx_dropped));

const _: () = assert!(BODY + BODY_WORDS == OWNER);
const _: () = assert!(BEYOND_ROLLBACKS + 1 == WORDS);
const _: () = assert!(offset_of!(ArchivedHeartbeat, boot_id) == 16);
const _: () = assert!(offset_of!(ArchivedHeartbeat, interval_ms).is_multiple_of(8));
const _: () = assert!(offset_of!(ArchivedHeartbeat, rx_packets).is_multiple_of(8));
const _: () = assert!(size_of::<super::slot::Slot<WORDS>>() == 512);

/// The bits of [`GATEWAY_CERT`] that hold the gateway, and the mark after them.
const GATEWAY_BITS: u32 = 17;
const GATEWAY_MASK: u64 = (1 << GATEWAY_BITS) - 1;
const ISSUER_MASK: u64 = 0x7fff;

const _: () = assert!(crate::limits::GATEWAYS_MAX as u64 <= GATEWAY_MASK);
const _: () = assert!(GATEWAY_BITS + ISSUER_MASK.count_ones() == 32);

/// The gateway in a word that has one.
#[inline]
pub(super) const fn gateway_plus_one(gateway_cert: u64) -> u32 {
    (gateway_cert & GATEWAY_MASK) as u32
}

/// Who signed the certificate; zero: not known.
pub(super) const fn issuer(gateway_cert: u64) -> u16 {
    (gateway_cert >> GATEWAY_BITS & ISSUER_MASK) as u16
}

/// The same certificate with another gateway.
#[inline]
pub(super) const fn with_gateway(gateway_cert: u64, plus_one: u32) -> u64 {
    gateway_cert & !GATEWAY_MASK | plus_one as u64 & GATEWAY_MASK
}

/// The same gateway with another certificate.
pub(super) const fn with_cert(gateway_cert: u64, not_after: u32, issuer: u16) -> u64 {
    gateway_cert & GATEWAY_MASK | (issuer as u64 & ISSUER_MASK) << GATEWAY_BITS | (not_after as u64) << 32
}

const WAITED_SHIFT: u32 = 52;
/// This, and anything longer.
const WAITED_MAX: u64 = 0xfff;

/// The word with how much earlier the newest heartbeat may have come in than its time says.
pub(super) fn with_waited(misc: u64, nanos: u64) -> u64 {
    misc & !(WAITED_MAX << WAITED_SHIFT) | nanos.div_ceil(1_000_000_000).min(WAITED_MAX) << WAITED_SHIFT
}

/// The same, read back: whole seconds, rounded up.
pub(super) fn waited_nanos(misc: u64) -> u64 {
    match misc >> WAITED_SHIFT {
        WAITED_MAX => u64::MAX,
        seconds => seconds * 1_000_000_000,
    }
}

/// What a word means to the checkpoint image.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Stored and restored as it is.
    Plain,
    /// An instant: moved to the new process's engine time. Zero stays zero.
    Instant,
    /// Two instants in quarters of a second.
    Quarters,
    /// Difference between engine milliseconds and a sensor's clock: moves with engine time.
    Offset,
    /// Belongs to the process or to the register: not restored.
    Skipped,
}

/// The kind of each word.
pub(super) const fn kind(word: usize) -> Kind {
    match word {
        OWNER | EPOCH | FACTS | ID..FIRST => Kind::Skipped,
        LAST_RECEIVED | LAST_TRANSPORT | LAST_TRAFFIC | STAGE_SINCE | FIRST => Kind::Instant,
        OFFSET | OFFSET_BEFORE => Kind::Offset,
        RESTART_RING..=54 | RECONNECT_RING..=61 => Kind::Quarters,
        _ => Kind::Plain,
    }
}

pub(super) const fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

pub(super) const fn join(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

pub(super) fn floats(word: u64) -> (f32, f32) {
    let (low, high) = halves(word);
    (f32::from_bits(low), f32::from_bits(high))
}

pub(super) fn join_floats(low: f32, high: f32) -> u64 {
    join(low.to_bits(), high.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_and_a_certificate_share_a_word_and_do_not_touch() {
        let last = crate::limits::GATEWAYS_MAX as u32;
        let word = with_gateway(with_cert(0, u32::MAX, 0x7fff), last);
        assert_eq!((gateway_plus_one(word), issuer(word), halves(word).1), (last, 0x7fff, u32::MAX));
        let word = with_cert(word, 0, 0);
        assert_eq!((gateway_plus_one(word), issuer(word), halves(word).1), (last, 0, 0));
        let word = with_gateway(with_cert(word, 7, 1), 0);
        assert_eq!((gateway_plus_one(word), issuer(word), halves(word).1), (0, 1, 7));
    }
}
