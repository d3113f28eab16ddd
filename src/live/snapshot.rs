//! From the words of a slot to a [`Snapshot`].

use std::sync::atomic::Ordering;

use super::slab::{Chunk, SlotFlags};
use super::state::gateway_of;
use super::types::*;
use super::window::delivery_ratio;
use super::words::{self, WORDS, floats, halves};
use crate::limits::SNAPSHOT_TRIES;
use crate::time::{MonoNanos, UnixMillis};
use crate::wire::frame::{BODY_WORDS, heartbeat_from_words};
use crate::wire::heartbeat::Heartbeat;
use crate::wire::id::SensorId;

/// Generation, words, time of the newest heartbeat and flags of one moment.
pub(super) type Moment = (u32, [u64; WORDS], u64, SlotFlags);

/// Copies a slot and its columns out; `None` when writers kept getting between.
pub(super) fn read(chunk: &Chunk, place: usize) -> Option<Moment> {
    chunk.slots[place].read(SNAPSHOT_TRIES, |generation, words| {
        let mut copy = [0; WORDS];
        for (copy, word) in copy.iter_mut().zip(words) {
            *copy = word.load(Ordering::Relaxed);
        }
        let last = chunk.heads[place].last_heartbeat.load(Ordering::Relaxed);
        let flags = chunk.heads[place].state().flags;
        (generation, copy, last, flags)
    })
}

/// `None` when nobody has the slot.
pub(super) fn build(
    handle: SlotHandle,
    word: &[u64; WORDS],
    last_heartbeat: u64,
    flags: SlotFlags,
    wall: Option<i64>,
) -> Option<Snapshot> {
    let facts = SlotFacts::from_word(word[words::FACTS])?;
    let mut id = [0; 16];
    id[..8].copy_from_slice(&word[words::ID].to_le_bytes());
    id[8..].copy_from_slice(&word[words::ID + 1].to_le_bytes());
    let heartbeat = if last_heartbeat == 0 {
        Heartbeat { sensor_id: id, ..Heartbeat::default() }
    } else {
        let mut body = [0; BODY_WORDS];
        body.copy_from_slice(&word[words::BODY..words::BODY + BODY_WORDS]);
        heartbeat_from_words(id, &body)
    };
    let misc = word[words::MISC];
    let window_expected = (misc >> 32) as u32 & 0xff;
    let (duplicates, reordered) = halves(word[words::DUPLICATES_REORDERED]);
    let (beyond_window, rollbacks) = halves(word[words::BEYOND_ROLLBACKS]);
    let (reconnects, replaced) = halves(word[words::RECONNECTS_REPLACED]);
    let (bytes, packets) = floats(word[words::RATES]);
    let (drops, jitter_ms) = floats(word[words::DROPS_JITTER]);
    let known = |value: f32| if misc & words::MARK_RATES != 0 { value } else { f32::NAN };
    let owner = OwnerRef::from_word(word[words::OWNER]);
    Some(Snapshot {
        id: SensorId(id),
        handle,
        facts,
        heartbeat,
        first_heartbeat: MonoNanos(word[words::FIRST]),
        last_heartbeat: MonoNanos(last_heartbeat),
        last_received: MonoNanos(word[words::LAST_RECEIVED]),
        last_transport: MonoNanos(word[words::LAST_TRANSPORT]),
        last_traffic: MonoNanos(word[words::LAST_TRAFFIC]),
        heard_since_start: misc & words::MARK_HEARD != 0,
        connected: owner.is_some(),
        owner,
        via_gateway: gateway_of(word[words::GATEWAY_CERT]),
        cert_not_after: not_after(word[words::GATEWAY_CERT]),
        cert_issuer: words::issuer(word[words::GATEWAY_CERT]),
        restarts: misc as u32,
        recent_restarts: ring(words::RESTART_RING, |place| word[place]),
        boots_overlap: misc & words::MARK_OVERLAP != 0,
        reconnects,
        recent_reconnects: ring(words::RECONNECT_RING, |place| word[place]),
        replaced,
        recent_replaced: ring(words::REPLACED_RING, |place| word[place]),
        received: word[words::RECEIVED],
        lost: word[words::LOST],
        duplicates,
        reordered,
        beyond_window,
        rollbacks,
        window: word[words::WINDOW],
        window_expected,
        delivery_ratio: delivery_ratio(word[words::WINDOW], window_expected),
        jitter_ms,
        clock_offset_ms: clock_offset(word[words::OFFSET], word[words::OFFSET_BEFORE], wall),
        rx_bytes_per_s: known(bytes),
        rx_packets_per_s: known(packets),
        drop_ratio: known(drop_ratio(packets, drops)),
        goodbye: flags.has(SlotFlags::GOODBYE),
        update_stage_since: MonoNanos(word[words::STAGE_SINCE]),
    })
}

#[inline]
pub(super) fn ring<const N: usize>(first: usize, word: impl Fn(usize) -> u64) -> Recent<N> {
    let quarters = std::array::from_fn(|place| {
        let (low, high) = halves(word(first + place / 2));
        if place.is_multiple_of(2) { low } else { high }
    });
    Recent { quarters }
}

/// End of the certificate in a word with the gateway.
#[inline]
pub(super) fn not_after(gateway_cert: u64) -> Option<UnixMillis> {
    let (_, seconds) = halves(gateway_cert);
    (seconds != 0).then_some(UnixMillis(i64::from(seconds) * 1_000))
}

/// Share of the packets that came by which capture lost.
#[inline]
pub(super) fn drop_ratio(packets: f32, drops: f32) -> f32 {
    let offered = packets + drops;
    if offered > 0.0 { drops / offered } else { 0.0 }
}

/// An offset as it is stored: zero stands for "not known".
pub(super) fn offset_word(offset: i64) -> u64 {
    offset as u64 ^ 1 << 63
}

/// The reverse of [`offset_word`].
pub(super) fn offset_of_word(word: u64) -> Option<i64> {
    (word != 0).then_some((word ^ 1 << 63) as i64)
}

#[inline]
pub(super) fn clock_offset(now: u64, before: u64, wall: Option<i64>) -> i64 {
    let least = match (offset_of_word(now), offset_of_word(before)) {
        (Some(now), Some(before)) => Some(now.min(before)),
        (now, before) => now.or(before),
    };
    match (least, wall) {
        (Some(least), Some(wall)) => least.saturating_add(wall).max(i64::MIN + 1),
        _ => i64::MIN,
    }
}
