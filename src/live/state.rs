//! [`LiveState`]: the slab, the directory and the gateways together.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use dashmap::DashMap;

use super::gateways::Gateways;
use super::intervals::Intervals;
use super::slab::{Chunk, Columns, Slab, SlotFlags, SlotState};
use super::slot::{Guard, Refused};
use super::types::*;
use super::vitals::Glance;
use super::words::{self, WORDS};
use crate::limits::{PATIENT_TRIES, SNAPSHOT_TRIES};
use crate::time::{MonoNanos, Now, UnixMillis};
use crate::wire::id::{GatewayId, SensorId};

/// Live state of all sensors. Shared by reference between the shards (writers), the sweep and everybody who
/// reads.
#[derive(Debug)]
pub struct LiveState {
    pub(super) slab: Slab,
    directory: DashMap<SensorId, SlotHandle, ahash::RandomState>,
    allocator: Mutex<Allocator>,
    used: AtomicU32,
    pub(super) gateways: Gateways,
    intervals: Intervals,
    /// Wall milliseconds minus engine milliseconds; `i64::MIN` = never told.
    wall: AtomicI64,
    snapshots_busy: AtomicU64,
}

#[derive(Debug, Default)]
struct Allocator {
    free: Vec<u32>,
}

impl LiveState {
    /// Room for `slots_max` sensors. Memory is taken by chunks, as sensors are inserted.
    pub fn with_capacity(slots_max: u32) -> LiveState {
        LiveState {
            slab: Slab::new(slots_max),
            directory: DashMap::default(),
            allocator: Mutex::default(),
            used: AtomicU32::new(0),
            gateways: Gateways::new(),
            intervals: Intervals::default(),
            wall: AtomicI64::new(i64::MIN),
            snapshots_busy: AtomicU64::new(0),
        }
    }

    /// Tells how wall time stands to engine time, so that clock offsets of sensors can be given. The server
    /// calls it with every sweep; a step of the server's own clock so corrects all offsets at once.
    pub fn set_wall(&self, now: Now) {
        self.wall.store(now.unix.0.saturating_sub(millis(now.mono)), Ordering::Relaxed);
    }

    pub(super) fn wall(&self) -> Option<i64> {
        Some(self.wall.load(Ordering::Relaxed)).filter(|&wall| wall != i64::MIN)
    }

    // ------------------------------------------------------------ register

    /// Says whether so many more sensors find a slot.
    pub fn room_for(&self, more: usize) -> Result<(), SlabFull> {
        let slots_max = self.slab.slots_max();
        if self.sensors() + more <= slots_max as usize { Ok(()) } else { Err(SlabFull { slots_max }) }
    }

    /// Gives a sensor a slot; one that has a slot keeps it and gets the new facts.
    pub fn insert(&self, id: SensorId, facts: SlotFacts) -> Result<SlotHandle, SlabFull> {
        let mut allocator = self.allocator.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = self.find(id)
            && self.set_facts(handle, facts)
        {
            return Ok(handle);
        }
        let full = SlabFull { slots_max: self.slab.slots_max() };
        let index = allocator.free.pop().unwrap_or_else(|| self.used.load(Ordering::Relaxed));
        let (chunk, place) = self.slab.get_or_make(SlotIndex(index)).ok_or(full)?;
        let handle = SlotHandle { index: SlotIndex(index), generation: chunk.slots[place].generation() };
        let Ok(mut guard) = chunk.slots[place].write(handle.generation, PATIENT_TRIES) else {
            allocator.free.push(index);
            return Err(full);
        };
        let (low, high) = id_words(id);
        guard.set(words::ID, low);
        guard.set(words::ID + 1, high);
        guard.set(words::FACTS, facts.to_word());
        chunk.change(place, |_| SlotFlags::OCCUPIED.with(SlotFlags::MUTED, facts.muted));
        drop(guard);
        self.used.fetch_max(index + 1, Ordering::Release);
        self.directory.insert(id, handle);
        Ok(handle)
    }

    /// Changes what the register declares. `false`: the sensor is gone.
    pub fn set_facts(&self, handle: SlotHandle, facts: SlotFacts) -> bool {
        self.patiently(handle, |chunk, place, guard| {
            guard.set(words::FACTS, facts.to_word());
            chunk.change(place, |flags| flags.with(SlotFlags::MUTED, facts.muted));
        })
        .is_ok()
    }

    /// Takes a sensor's slot away; gives its last handle and the connection to close.
    pub fn remove(&self, id: SensorId) -> Option<(SlotHandle, Option<OwnerRef>)> {
        let mut allocator = self.allocator.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = self.find(id)?;
        let (owner, gateway) = self
            .patiently(handle, |chunk, place, guard| {
                let owner = OwnerRef::from_word(guard.get(words::OWNER));
                let gateway = gateway_of(guard.get(words::GATEWAY_CERT));
                guard.retire();
                chunk.heads[place].last_heartbeat.store(0, Ordering::Relaxed);
                chunk.change(place, |_| SlotFlags::default());
                for column in [&chunk.active, &chunk.unknown, &chunk.journalled] {
                    column[place].store(0, Ordering::Relaxed);
                }
                chunk.overall[place].store(0, Ordering::Relaxed);
                (owner, gateway)
            })
            .ok()?;
        self.directory.remove(&id);
        self.gateways.sensor_moved(gateway, None);
        allocator.free.push(handle.index.0);
        Some((handle, owner))
    }

    /// A sensor's slot.
    pub fn find(&self, id: SensorId) -> Option<SlotHandle> {
        self.directory.get(&id).map(|entry| *entry)
    }

    /// One more than the highest slot index ever used.
    pub fn slots(&self) -> u32 {
        self.used.load(Ordering::Acquire)
    }

    /// Sensors that have a slot.
    pub fn sensors(&self) -> usize {
        self.directory.len()
    }

    /// What the register declares; `None` when the handle is stale.
    pub fn facts(&self, handle: SlotHandle) -> Option<SlotFacts> {
        let (chunk, place) = self.slab.get(handle.index)?;
        SlotFacts::from_word(chunk.slots[place].peek(handle.generation, words::FACTS)?)
    }

    /// Says which heartbeat interval sensors of this policy are told to keep; zero = none is said.
    pub fn set_wanted_interval(&self, policy: PolicyIndex, millis: u32) {
        self.intervals.set(policy, millis);
    }

    /// The heartbeat interval that this sensor is told to keep, in milliseconds; zero = none is said.
    pub fn wanted_interval(&self, handle: SlotHandle) -> u32 {
        self.facts(handle).map_or(0, |facts| self.intervals.get(facts.policy))
    }

    /// The connection that owns a slot now.
    pub fn owner(&self, handle: SlotHandle) -> Option<OwnerRef> {
        let (chunk, place) = self.slab.get(handle.index)?;
        OwnerRef::from_word(chunk.slots[place].peek(handle.generation, words::OWNER)?)
    }

    // ------------------------------------------------------------ connections

    /// A connection takes the slot. The highest epoch owns it; whoever had it is given back, to be closed.
    pub fn take(
        &self,
        handle: SlotHandle,
        owner: OwnerRef,
        cert_not_after: UnixMillis,
        now: MonoNanos,
    ) -> Result<Taken, Stale> {
        let (taken, gateway) = self.patiently(handle, |chunk, place, guard| {
            let epoch = guard.get(words::EPOCH) + 1;
            let replaced = OwnerRef::from_word(guard.get(words::OWNER));
            let gateway = gateway_of(guard.get(words::GATEWAY_CERT));
            guard.set(words::EPOCH, epoch);
            guard.set(words::OWNER, owner.to_word());
            // Stragglers of an older boot come over the older connection, which is refused from here on. What
            // comes over this one is the truth, also when an earlier boot is back (one key in two machines).
            guard.set(words::BOOT_BEFORE, 0);
            guard.set(words::GATEWAY_CERT, words::with_cert(0, not_after_word(cert_not_after), 0));
            guard.set(words::LAST_TRANSPORT, guard.get(words::LAST_TRANSPORT).max(now.0));
            let (mut reconnects, mut replacements) = words::halves(guard.get(words::RECONNECTS_REPLACED));
            if epoch > 1 {
                ring_push::<RECENT_STARTS>(guard, words::RECONNECT_RING, reconnects, now);
                reconnects = reconnects.saturating_add(1);
            }
            if replaced.is_some() {
                ring_push::<RECENT_REPLACED>(guard, words::REPLACED_RING, replacements, now);
                replacements = replacements.saturating_add(1);
            }
            guard.set(words::RECONNECTS_REPLACED, words::join(reconnects, replacements));
            chunk.change(place, |flags| {
                flags.with(SlotFlags::CONNECTED, true).with(SlotFlags::VIA_GATEWAY, false)
            });
            (Taken { epoch, replaced }, gateway)
        })?;
        self.gateways.sensor_moved(gateway, None);
        Ok(taken)
    }

    /// The owner of the slot has this certificate, signed by who has this mark (15 bits; zero: not known). `false`: it
    /// does not own the slot any more.
    pub fn renew(&self, handle: SlotHandle, epoch: u64, cert_not_after: UnixMillis, issuer: u16) -> bool {
        let renewed = self.patiently(handle, |_, _, guard| {
            let owns = owns(guard, epoch);
            if owns {
                let before = guard.get(words::GATEWAY_CERT);
                let after = words::with_cert(before, not_after_word(cert_not_after), issuer);
                guard.set(words::GATEWAY_CERT, after);
            }
            owns
        });
        renewed.unwrap_or(false)
    }

    /// The connection ended. `false`: it did not own the slot any more.
    pub fn release(&self, handle: SlotHandle, epoch: u64, now: MonoNanos) -> bool {
        self.patiently(handle, |chunk, place, guard| {
            let owns = owns(guard, epoch);
            if owns {
                guard.set(words::OWNER, 0);
                guard.set(words::LAST_TRANSPORT, guard.get(words::LAST_TRANSPORT).max(now.0));
                chunk.change(place, |flags| flags.with(SlotFlags::CONNECTED, false));
            }
            owns
        })
        .unwrap_or(false)
    }

    /// Something came in on the connection (no heartbeat).
    pub fn seen_transport(&self, handle: SlotHandle, epoch: u64, now: MonoNanos) -> bool {
        let Some((chunk, place)) = self.slab.get(handle.index) else { return false };
        let Ok(mut guard) = chunk.slots[place].write(handle.generation, crate::limits::WRITER_TRIES) else {
            return false;
        };
        let owns = owns(&guard, epoch);
        if owns {
            guard.set(words::LAST_TRANSPORT, guard.get(words::LAST_TRANSPORT).max(now.0));
        }
        owns
    }

    // ------------------------------------------------------------ sweep

    /// Columns for a scan, chunk by chunk.
    pub fn columns(&self) -> impl Iterator<Item = Columns<'_>> {
        self.slab.columns(self.slots())
    }

    /// Writes a verdict. Only the sweep does.
    pub fn set_verdict(&self, index: SlotIndex, active: u64, unknown: u64) {
        if let Some((chunk, place)) = self.slab.get(index) {
            chunk.active[place].store(active, Ordering::Relaxed);
            chunk.unknown[place].store(unknown, Ordering::Relaxed);
        }
    }

    /// Writes which messages the journal has. Only the sweep does.
    pub fn set_journalled(&self, index: SlotIndex, bits: u64) {
        if let Some((chunk, place)) = self.slab.get(index) {
            chunk.journalled[place].store(bits, Ordering::Relaxed);
        }
    }

    /// Writes the one word on a sensor, as a number other than zero. Only the sweep does.
    pub fn set_overall(&self, index: SlotIndex, overall: u8) {
        if let Some((chunk, place)) = self.slab.get(index) {
            chunk.overall[place].store(overall, Ordering::Relaxed);
        }
    }

    /// Time of a slot's newest heartbeat, and its state, as the columns have them.
    pub fn head(&self, index: SlotIndex) -> (MonoNanos, SlotState) {
        let never = (MonoNanos::NEVER, SlotState::default());
        self.slab.get(index).map_or(never, |(chunk, place)| {
            let head = &chunk.heads[place];
            (MonoNanos(head.last_heartbeat.load(Ordering::Relaxed)), head.state())
        })
    }

    /// The verdict on a slot.
    pub fn verdict(&self, index: SlotIndex) -> Verdict {
        self.slab.get(index).map_or(Verdict::default(), |(chunk, place)| Verdict {
            active: chunk.active[place].load(Ordering::Relaxed),
            unknown: chunk.unknown[place].load(Ordering::Relaxed),
            journalled: chunk.journalled[place].load(Ordering::Relaxed),
            overall: chunk.overall[place].load(Ordering::Relaxed),
        })
    }

    /// Everything about the sensor in a slot; `None` when there is none, or a writer kept getting between.
    pub fn snapshot(&self, index: SlotIndex) -> Option<Snapshot> {
        let (chunk, place) = self.slab.get(index)?;
        let read = super::snapshot::read(chunk, place);
        if read.is_none() {
            self.snapshots_busy.fetch_add(1, Ordering::Relaxed);
        }
        let (generation, words, last_heartbeat, flags) = read?;
        let handle = SlotHandle { index, generation };
        super::snapshot::build(handle, &words, last_heartbeat, flags, self.wall())
    }

    /// Hands the slot's generation and what rules read of its sensor to `look`, in the slot, and gives what it made of
    /// them: nothing is copied. `look` may be called again, and may see a mixture, whose result is thrown away.
    /// `None` when nobody has the slot, its sensor was never heard, or a writer kept getting between.
    #[inline]
    pub fn glance<R>(&self, index: SlotIndex, mut look: impl FnMut(u32, &Glance<'_>) -> R) -> Option<R> {
        let (chunk, place) = self.slab.get(index)?;
        let wall = self.wall();
        let seen = chunk.slots[place].read(SNAPSHOT_TRIES, |generation, words| {
            let head = &chunk.heads[place];
            let last_heartbeat = head.last_heartbeat.load(Ordering::Relaxed);
            let facts = SlotFacts::from_word(words[words::FACTS].load(Ordering::Relaxed))?;
            if last_heartbeat == 0 {
                return None;
            }
            let glance = Glance { words, last_heartbeat, flags: head.state().flags, facts, wall };
            Some(look(generation, &glance))
        });
        seen.flatten()
    }

    /// Who has a slot, and what the register declares about it: less than a whole snapshot costs.
    pub fn occupant(&self, index: SlotIndex) -> Option<(SensorId, SlotFacts)> {
        let (chunk, place) = self.slab.get(index)?;
        let words = chunk.slots[place].read(SNAPSHOT_TRIES, |_, words| {
            [words::ID, words::ID + 1, words::FACTS].map(|word| words[word].load(Ordering::Relaxed))
        });
        let [low, high, facts] = words?;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&low.to_le_bytes());
        id[8..].copy_from_slice(&high.to_le_bytes());
        Some((SensorId(id), SlotFacts::from_word(facts)?))
    }

    /// Everything about a sensor.
    pub fn snapshot_of(&self, id: SensorId) -> Option<Snapshot> {
        self.snapshot(self.find(id)?.index).filter(|snapshot| snapshot.id == id)
    }

    /// Snapshots that gave up because a writer kept getting between.
    pub fn snapshots_busy(&self) -> u64 {
        self.snapshots_busy.load(Ordering::Relaxed)
    }

    // ------------------------------------------------------------ gateways

    /// Says whether each of these gateways has an index or finds one: there are
    /// [`crate::limits::GATEWAYS_MAX`], and those of deleted gateways stay theirs until the process ends.
    pub fn room_for_gateways(&self, ids: &[GatewayId]) -> Result<(), GatewaysFull> {
        self.gateways.room_for(ids)
    }

    /// Gateways for which there was no index.
    pub fn gateways_refused(&self) -> u64 {
        self.gateways.refused()
    }

    /// Registers a gateway with its sites, or gives a registered one other sites.
    pub fn insert_gateway(&self, id: GatewayId, sites: &[SiteIndex]) -> Result<GatewayIndex, GatewaysFull> {
        self.gateways.insert(id, sites)
    }

    /// Gives a gateway other sites, at once for its live connection.
    pub fn set_gateway_sites(&self, index: GatewayIndex, sites: &[SiteIndex]) -> bool {
        self.gateways.set_sites(index, sites)
    }

    /// Unregisters a gateway; gives the connection to close.
    pub fn remove_gateway(&self, id: GatewayId) -> Option<(GatewayIndex, Option<OwnerRef>)> {
        self.gateways.remove(id)
    }

    /// A registered gateway.
    pub fn find_gateway(&self, id: GatewayId) -> Option<GatewayIndex> {
        self.gateways.find(id)
    }

    /// May this gateway speak for sensors of this site? Lock-free; asked for every frame.
    pub fn gateway_covers(&self, index: GatewayIndex, site: SiteIndex) -> bool {
        self.gateways.covers(index, site)
    }

    /// Moves whenever a gateway's sites change, so that a session may remember answers.
    pub fn gateway_version(&self, index: GatewayIndex) -> u64 {
        self.gateways.version(index)
    }

    /// A gateway that is connected holds this trust bundle and a certificate by who has this mark; zero: not known.
    pub fn gateway_holds(&self, index: GatewayIndex, epoch: u64, trust_generation: u32, issuer: u16) {
        self.gateways.holds(index, epoch, trust_generation, issuer);
    }

    /// A gateway connected.
    pub fn gateway_take(&self, index: GatewayIndex, owner: OwnerRef, now: MonoNanos) -> Result<Taken, Stale> {
        self.gateways.take(index, owner, now).ok_or(Stale)
    }

    /// A gateway's connection ended. `false`: it was not the owner any more.
    pub fn gateway_release(&self, index: GatewayIndex, epoch: u64, now: MonoNanos) -> bool {
        self.gateways.release(index, epoch, now)
    }

    /// Something came in from a gateway.
    pub fn gateway_seen(&self, index: GatewayIndex, epoch: u64, now: MonoNanos) -> bool {
        self.gateways.seen(index, epoch, now)
    }

    /// Everything about a registered gateway.
    pub fn gateway_snapshot(&self, index: GatewayIndex) -> Option<GatewaySnapshot> {
        self.gateways.snapshot(index)
    }

    /// One more than the highest gateway index ever used.
    pub fn gateways(&self) -> u32 {
        self.gateways.len()
    }

    /// Runs `change` with the slot in hand, waiting for other writers if need be.
    pub(super) fn patiently<R>(
        &self,
        handle: SlotHandle,
        change: impl FnOnce(&Chunk, usize, &mut Guard<'_, WORDS>) -> R,
    ) -> Result<R, Stale> {
        let (chunk, place) = self.slab.get(handle.index).ok_or(Stale)?;
        match chunk.slots[place].write(handle.generation, PATIENT_TRIES) {
            Ok(mut guard) => Ok(change(chunk, place, &mut guard)),
            Err(Refused::Stale | Refused::Busy) => Err(Stale),
        }
    }
}

pub(super) fn owns(guard: &Guard<'_, WORDS>, epoch: u64) -> bool {
    guard.get(words::OWNER) != 0 && guard.get(words::EPOCH) == epoch
}

/// Puts an instant into a ring of `N` at the place of its running number.
pub(super) fn ring_push<const N: usize>(
    guard: &mut Guard<'_, WORDS>,
    ring: usize,
    number: u32,
    at: MonoNanos,
) {
    let place = number as usize % N;
    let word = ring + place / 2;
    let (low, high) = words::halves(guard.get(word));
    let at = quarters(at);
    guard.set(word, if place.is_multiple_of(2) { words::join(at, high) } else { words::join(low, at) });
}

/// In seconds; zero says that there is none.
fn not_after_word(at: UnixMillis) -> u32 {
    u32::try_from(at.0 / 1_000).unwrap_or(u32::MAX).max(1)
}

pub(super) fn gateway_of(word: u64) -> Option<GatewayIndex> {
    words::gateway_plus_one(word).checked_sub(1).map(GatewayIndex)
}

pub(super) fn id_words(id: SensorId) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = id.0;
    (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p]))
}

pub(super) fn millis(mono: MonoNanos) -> i64 {
    (mono.0 / 1_000_000) as i64
}
