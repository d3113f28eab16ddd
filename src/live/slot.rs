//! One slot: a sequence lock over words that are all atomics, and the generation in the same word as the
//! sequence.
//!
//! The lock word holds `generation << 32 | sequence`. A writer makes the sequence odd by compare-and-swap
//! (which keeps a second writer out), stores words relaxed, and publishes by making it even again. A reader
//! takes the words between two loads of the lock word and throws them away if it moved. Since every word is
//! an atomic, a torn read is impossible and a mixed one is thrown away; nothing is read by `read_volatile`
//! and nothing is `unsafe`. The fences are those of Boehm, "Can seqlocks get along with programming language
//! memory models?" (2012).
//!
//! A slot is recycled by raising the generation, so a writer with an old handle finds out in the very
//! compare-and-swap that it needs anyway.
//!
//! Cost: one compare-and-swap and one store more than plain stores. Checked by a loom model, which compiles
//! this very file a second time over loom's atomics (`live::loom_model`), and by Miri (`live::slot_tests`).

use super::sync::{AtomicU64, Ordering, fence, spin_loop};

/// Why a writer did not get in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The slot belongs to somebody else by now.
    Stale,
    /// Another writer was in it for all the tries.
    Busy,
}

/// `N` words behind a sequence lock.
#[repr(align(64))]
#[derive(Debug)]
pub(super) struct Slot<const N: usize> {
    lock: AtomicU64,
    words: [AtomicU64; N],
}

const SEQUENCE: u64 = 0xffff_ffff;

const fn generation_of(lock: u64) -> u32 {
    (lock >> 32) as u32
}

/// Exclusive right to write; publishes when dropped.
pub(super) struct Guard<'s, const N: usize> {
    slot: &'s Slot<N>,
    /// The lock word to publish.
    next: u64,
}

impl<const N: usize> Slot<N> {
    /// All words zero, generation 1.
    pub(super) fn new() -> Slot<N> {
        Slot { lock: AtomicU64::new(1 << 32), words: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Puts the lock word where a test wants it.
    #[cfg(test)]
    pub(super) fn set_lock(&self, lock: u64) {
        self.lock.store(lock, Ordering::Relaxed);
    }

    /// The generation now.
    pub(super) fn generation(&self) -> u32 {
        generation_of(self.lock.load(Ordering::Acquire))
    }

    /// One word as it is now, if the slot is of this generation before and after.
    pub(super) fn peek(&self, generation: u32, word: usize) -> Option<u64> {
        if generation_of(self.lock.load(Ordering::Acquire)) != generation {
            return None;
        }
        let value = self.words[word].load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        (generation_of(self.lock.load(Ordering::Relaxed)) == generation).then_some(value)
    }

    /// Lets a writer in, or says why not. Never waits longer than `tries` short spins.
    #[inline]
    pub(super) fn write(&self, generation: u32, tries: u32) -> Result<Guard<'_, N>, Refused> {
        for _ in 0..tries {
            let seen = self.lock.load(Ordering::Relaxed);
            if generation_of(seen) != generation {
                return Err(Refused::Stale);
            }
            if seen & 1 == 0
                && self.lock.compare_exchange(seen, seen | 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                // Whoever reads one of the words stored below also sees the odd sequence.
                fence(Ordering::Release);
                let next = (seen & !SEQUENCE) | (seen.wrapping_add(2) & SEQUENCE);
                return Ok(Guard { slot: self, next });
            }
            spin_loop();
        }
        Err(Refused::Busy)
    }

    /// Hands the words to `read`, and its result out if no writer came between; `None` after `tries`.
    #[inline]
    pub(super) fn read<R>(&self, tries: u32, mut read: impl FnMut(u32, &[AtomicU64; N]) -> R) -> Option<R> {
        for _ in 0..tries {
            let before = self.lock.load(Ordering::Acquire);
            if before & 1 == 0 {
                let result = read(generation_of(before), &self.words);
                fence(Ordering::Acquire);
                if self.lock.load(Ordering::Relaxed) == before {
                    return Some(result);
                }
            }
            spin_loop();
        }
        None
    }
}

impl<const N: usize> Guard<'_, N> {
    /// One word.
    #[inline]
    pub(super) fn get(&self, word: usize) -> u64 {
        self.slot.words[word].load(Ordering::Relaxed)
    }

    /// Stores one word.
    #[inline]
    pub(super) fn set(&mut self, word: usize, value: u64) {
        self.slot.words[word].store(value, Ordering::Relaxed);
    }

    /// Gives the slot up: all words zero, next generation.
    pub(super) fn retire(&mut self) {
        for word in &self.slot.words {
            word.store(0, Ordering::Relaxed);
        }
        self.next = u64::from(generation_of(self.next).wrapping_add(1).max(1)) << 32;
    }
}

impl<const N: usize> Drop for Guard<'_, N> {
    #[inline]
    fn drop(&mut self) {
        self.slot.lock.store(self.next, Ordering::Release);
    }
}
