//! The slab: slots and dense columns in chunks that are made once and never move or go away, so that readers
//! hold plain references without a lock, a guard or an epoch.
//!
//! What the sweep reads of every sensor every second lies in columns (eight bytes a sensor each); what it
//! reads of a few lies in slots. Cost: 512 bytes a slot, 41 bytes of columns.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::slot::Slot;
use super::types::SlotIndex;
use super::words::WORDS;
use crate::limits::{SLAB_CHUNK_SLOTS, SLAB_CHUNKS_MAX};
use crate::time::MonoNanos;

/// The low half of a state word: what the sweep wants to know before it looks closer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotFlags(pub u32);

impl SlotFlags {
    /// A sensor has this slot.
    pub const OCCUPIED: SlotFlags = SlotFlags(1);
    /// A heartbeat of it is known, from now or from a checkpoint.
    pub const SEEN: SlotFlags = SlotFlags(1 << 1);
    /// It has its own connection.
    pub const CONNECTED: SlotFlags = SlotFlags(1 << 2);
    /// Its newest heartbeat announced a planned stop.
    pub const GOODBYE: SlotFlags = SlotFlags(1 << 3);
    /// Its messages notify nobody.
    pub const MUTED: SlotFlags = SlotFlags(1 << 4);
    /// Its newest heartbeat came by a gateway.
    pub const VIA_GATEWAY: SlotFlags = SlotFlags(1 << 5);
    /// A heartbeat came in since this process started.
    pub const HEARD: SlotFlags = SlotFlags(1 << 6);

    /// True when all flags of `other` are set.
    pub const fn has(self, other: SlotFlags) -> bool {
        self.0 & other.0 == other.0
    }

    pub(super) const fn with(self, other: SlotFlags, set: bool) -> SlotFlags {
        if set { SlotFlags(self.0 | other.0) } else { SlotFlags(self.0 & !other.0) }
    }
}

/// A state word, read: flags, and a counter that moves with every change of the slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotState {
    /// What holds now.
    pub flags: SlotFlags,
    /// Moves with each heartbeat, connection and change of facts; wraps.
    pub changes: u32,
}

impl SlotState {
    pub(super) const fn from_word(word: u64) -> SlotState {
        SlotState { flags: SlotFlags(word as u32), changes: (word >> 32) as u32 }
    }

    pub(super) const fn changed(self, flags: SlotFlags) -> u64 {
        flags.0 as u64 | (self.changes.wrapping_add(1) as u64) << 32
    }
}

/// The two words of a sensor outside its slot that every heartbeat writes, side by side: it then pays for one cache
/// line, and one page, more than the slot's, not for two.
#[derive(Debug, Default)]
#[repr(align(16))]
pub(super) struct Head {
    /// Time of the newest heartbeat in engine nanoseconds; zero = never.
    pub(super) last_heartbeat: AtomicU64,
    pub(super) state: AtomicU64,
}

impl Head {
    #[inline]
    pub(super) fn state(&self) -> SlotState {
        SlotState::from_word(self.state.load(Ordering::Relaxed))
    }
}

/// Slots and columns of [`SLAB_CHUNK_SLOTS`] sensors.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) slots: Box<[Slot<WORDS>]>,
    pub(super) heads: Box<[Head]>,
    pub(super) active: Box<[AtomicU64]>,
    pub(super) unknown: Box<[AtomicU64]>,
    pub(super) journalled: Box<[AtomicU64]>,
    pub(super) overall: Box<[AtomicU8]>,
}

impl Chunk {
    fn new(slots: usize) -> Chunk {
        let column = || (0..slots).map(|_| AtomicU64::new(0)).collect();
        Chunk {
            slots: (0..slots).map(|_| Slot::new()).collect(),
            heads: (0..slots).map(|_| Head::default()).collect(),
            active: column(),
            unknown: column(),
            journalled: column(),
            overall: (0..slots).map(|_| AtomicU8::new(0)).collect(),
        }
    }

    /// Changes flags and moves the change counter. Only with the slot's write guard in hand.
    pub(super) fn change(&self, place: usize, flags: impl FnOnce(SlotFlags) -> SlotFlags) {
        let head = &self.heads[place];
        let state = head.state();
        head.state.store(state.changed(flags(state.flags)), Ordering::Relaxed);
    }
}

/// Columns of consecutive slots, for the sweep.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'s> {
    /// Index of the first slot.
    pub first: SlotIndex,
    /// [`Columns::last_heartbeat`] and [`Columns::state`] read one.
    heads: &'s [Head],
    /// Active rules of each slot, written by the sweep.
    pub active: &'s [AtomicU64],
    /// Rules of unknown truth of each slot, written by the sweep.
    pub unknown: &'s [AtomicU64],
    /// Rules that the journal has as active.
    pub journalled: &'s [AtomicU64],
}

impl Columns<'_> {
    /// Number of slots.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Index of the slot at `place`.
    pub fn index(&self, place: usize) -> SlotIndex {
        SlotIndex(self.first.0 + place as u32)
    }

    /// Time of the newest heartbeat of the slot at `place`.
    #[inline]
    pub fn last_heartbeat(&self, place: usize) -> MonoNanos {
        MonoNanos(self.heads[place].last_heartbeat.load(Ordering::Relaxed))
    }

    /// State of the slot at `place`.
    #[inline]
    pub fn state(&self, place: usize) -> SlotState {
        self.heads[place].state()
    }
}

/// All chunks.
#[derive(Debug)]
pub(super) struct Slab {
    chunks: Box<[OnceLock<Box<Chunk>>]>,
    slots_max: u32,
}

impl Slab {
    pub(super) fn new(slots_max: u32) -> Slab {
        let slots_max = slots_max.min((SLAB_CHUNK_SLOTS * SLAB_CHUNKS_MAX) as u32);
        let chunks = (slots_max as usize).div_ceil(SLAB_CHUNK_SLOTS);
        Slab { chunks: (0..chunks).map(|_| OnceLock::new()).collect(), slots_max }
    }

    pub(super) fn slots_max(&self) -> u32 {
        self.slots_max
    }

    #[inline]
    pub(super) fn get(&self, index: SlotIndex) -> Option<(&Chunk, usize)> {
        let place = index.0 as usize;
        let chunk = self.chunks.get(place / SLAB_CHUNK_SLOTS)?.get()?;
        let place = place % SLAB_CHUNK_SLOTS;
        (place < chunk.slots.len()).then_some((chunk.as_ref(), place))
    }

    /// As [`Slab::get`], making the chunk when it is the first of its slots.
    pub(super) fn get_or_make(&self, index: SlotIndex) -> Option<(&Chunk, usize)> {
        if index.0 >= self.slots_max {
            return None;
        }
        let number = index.0 as usize / SLAB_CHUNK_SLOTS;
        let slots = (self.slots_max as usize - number * SLAB_CHUNK_SLOTS).min(SLAB_CHUNK_SLOTS);
        self.chunks.get(number)?.get_or_init(|| Box::new(Chunk::new(slots)));
        self.get(index)
    }

    /// Columns of the slots below `used`, chunk by chunk.
    pub(super) fn columns(&self, used: u32) -> impl Iterator<Item = Columns<'_>> {
        let used = used as usize;
        self.chunks.iter().enumerate().map_while(move |(number, chunk)| {
            let first = number * SLAB_CHUNK_SLOTS;
            let chunk = chunk.get().filter(|_| first < used)?;
            let slots = (used - first).min(chunk.slots.len());
            Some(Columns {
                first: SlotIndex(first as u32),
                heads: &chunk.heads[..slots],
                active: &chunk.active[..slots],
                unknown: &chunk.unknown[..slots],
                journalled: &chunk.journalled[..slots],
            })
        })
    }
}
