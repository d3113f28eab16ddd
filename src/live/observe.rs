//! The hot path: one frame into its slot. No lock that waits, no allocation, no clock.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::slab::SlotFlags;
use super::slot::{Guard, Refused};
use super::snapshot::{offset_of_word, offset_word};
use super::state::{LiveState, gateway_of, millis, owns, ring_push};
use super::types::*;
use super::window::{Arrival, Arrivals, Time};
use super::words::{self, WORDS};
use crate::limits::{FRAME_AGE_MAX, FRAME_TIME_SLACK, INTERVAL_MAX, SEQUENCE_DISTRUST_MIN, WRITER_TRIES};
use crate::time::MonoNanos;
use crate::wire::frame::{BODY_WORDS, Frame};
use crate::wire::heartbeat::FLAG_GOODBYE;

/// Rates follow a change over this time, in seconds.
const RATE_SECONDS: f32 = 60.0;
/// Shortest time between two heartbeats that gives a rate, in milliseconds.
const RATE_STEP_MIN_MS: u64 = 20;
/// Jitter takes no single difference for more than this, in milliseconds.
const JITTER_STEP_MAX_MS: u64 = 60_000;
/// Two boots of one machine seem to overlap by three intervals at most (what was on its way arrives late), and
/// by this if those are shorter.
const OVERLAP_SLACK_MIN: Duration = Duration::from_secs(2);
const OVERLAP_SLACK_MAX: u64 = 3 * INTERVAL_MAX.as_nanos() as u64;
const SLACK: u64 = FRAME_TIME_SLACK.as_nanos() as u64;
const DISTRUST: u64 = SEQUENCE_DISTRUST_MIN.as_nanos() as u64;
/// Heartbeats in one group of clock offsets; the least of this group and of the one before counts.
const OFFSET_GROUP: u64 = 8;

impl LiveState {
    /// Takes one frame that was checked. Its sensor id must be the slot's: the session has seen to it.
    ///
    /// The time of a frame is its receipt minus its age. The newest frame of the newest boot, by sequence,
    /// gives the current values; every other one feeds the arrival counters only.
    #[inline]
    pub fn observe(
        &self,
        handle: SlotHandle,
        writer: Writer,
        frame: &Frame<'_>,
        received: MonoNanos,
    ) -> Observed {
        self.observe_receipt(handle, writer, frame, Receipt::exact(received))
    }

    /// As [`LiveState::observe`], by a reader that says what it does not know of the frame's arrival.
    #[inline]
    pub fn observe_receipt(
        &self,
        handle: SlotHandle,
        writer: Writer,
        frame: &Frame<'_>,
        receipt: Receipt,
    ) -> Observed {
        let received = receipt.at;
        let Some((chunk, place)) = self.slab.get(handle.index) else { return Observed::StaleSlot };
        let age_ms = u64::from(frame.header.age_ms);
        if u128::from(age_ms) > FRAME_AGE_MAX.as_millis() {
            return Observed::TooOld;
        }
        let mut guard = match chunk.slots[place].write(handle.generation, WRITER_TRIES) {
            Ok(guard) => guard,
            Err(Refused::Stale) => return Observed::StaleSlot,
            Err(Refused::Busy) => return Observed::Busy,
        };
        let via = match writer {
            Writer::Direct { epoch } if owns(&guard, epoch) => None,
            Writer::Gateway(index) if guard.get(words::OWNER) == 0 => Some(index),
            _ => return Observed::NotOwner,
        };

        let body = frame.body_words();
        let mut misc = guard.get(words::MISC);
        let step = Step {
            time: received.0.saturating_sub(age_ms * 1_000_000).max(1),
            waited: receipt.waited_nanos(),
            last: chunk.heads[place].last_heartbeat.load(Ordering::Relaxed),
            last_waited: words::waited_nanos(misc),
        };
        let mut arrivals = load_arrivals(&guard, misc);
        arrivals.unheard |= step.last <= receipt.unheard_until.0;
        let (boot, sequence) = (body[words::B_BOOT], body[words::B_SEQUENCE]);
        let mut when = step.compare(body[words::B_INTERVAL_FLAGS] as u32);
        if boot != arrivals.boot && arrivals.high != 0 {
            when = step.compare_boots(&body, guard.get(words::B_UPTIME), via.is_some(), when);
        }
        let arrival = arrivals.judge(boot, sequence, when);
        let transport = guard.get(words::LAST_TRANSPORT).max(received.0);
        guard.set(words::LAST_TRANSPORT, transport);
        misc = store_arrivals(&mut guard, &arrivals, misc);

        if !arrival.is_current() {
            guard.set(words::MISC, misc);
            chunk.change(place, |flags| flags);
            return match arrival {
                Arrival::Duplicate => Observed::Duplicate,
                Arrival::Beyond => Observed::BeyondWindow,
                _ => Observed::Late,
            };
        }

        misc = self.make_current(&mut guard, arrival, &body, &step, misc);
        guard.set(words::LAST_RECEIVED, received.0);
        guard.set(words::MISC, misc | words::MARK_HEARD);
        let gateway_cert = guard.get(words::GATEWAY_CERT);
        let before = gateway_of(gateway_cert);
        if before != via {
            let via_plus_one = via.map_or(0, |index| index.0 + 1);
            guard.set(words::GATEWAY_CERT, words::with_gateway(gateway_cert, via_plus_one));
            self.gateways.sensor_moved(before, via);
        }
        chunk.heads[place].last_heartbeat.store(step.news(), Ordering::Relaxed);
        let goodbye = (body[words::B_INTERVAL_FLAGS] >> 32) as u32 & FLAG_GOODBYE != 0;
        chunk.change(place, |flags| {
            SlotFlags(flags.0 | SlotFlags::SEEN.0 | SlotFlags::HEARD.0)
                .with(SlotFlags::GOODBYE, goodbye)
                .with(SlotFlags::VIA_GATEWAY, via.is_some())
        });
        Observed::Current
    }

    /// Stores current values and what is derived from the step between the last heartbeat and this one.
    #[inline]
    fn make_current(
        &self,
        guard: &mut Guard<'_, WORDS>,
        arrival: Arrival,
        body: &[u64; BODY_WORDS],
        instants: &Step,
        mut misc: u64,
    ) -> u64 {
        let time = instants.news();
        let stage = |word: u64| (word >> words::STAGE_SHIFT) as u8;
        let stage_changed =
            arrival == Arrival::First || stage(guard.get(words::B_STATES)) != stage(body[words::B_STATES]);
        if stage_changed {
            guard.set(words::STAGE_SINCE, time);
        }
        let clock_ms = body[words::B_CLOCK] as i64 / 1_000;
        let offset = millis(MonoNanos(instants.time)).saturating_sub(clock_ms).max(i64::MIN + 1);
        let offset = instants.is_punctual().then_some(offset);
        if arrival == Arrival::Newest {
            misc = follow(guard, body, instants, misc);
            misc = next_offset(guard, offset, misc);
        } else {
            // Counters start at zero with a boot: there is no step, and traffic gets its full time again.
            guard.set(words::LAST_TRAFFIC, time);
            guard.set(words::OFFSET, offset.map_or(0, offset_word));
            guard.set(words::OFFSET_BEFORE, 0);
            misc = misc & !(0xff << 40) | 1 << 40;
            if arrival == Arrival::First {
                guard.set(words::FIRST, time);
            } else {
                let restarts = misc as u32;
                ring_push::<RECENT_STARTS>(guard, words::RESTART_RING, restarts, MonoNanos(time));
                misc = misc & !0xffff_ffff | u64::from(restarts.saturating_add(1));
                misc &= !words::MARK_OVERLAP;
                if instants.overlaps(body) {
                    misc |= words::MARK_OVERLAP;
                }
            }
        }
        for (place, &word) in body.iter().enumerate() {
            guard.set(words::BODY + place, word);
        }
        words::with_waited(misc, instants.news_waited())
    }
}

/// The step from the newest heartbeat to this frame, in engine nanoseconds. Either may have come in earlier than
/// told, by as long as it may have waited to be read: after the server itself stood still, a copy of something
/// old looks as new as anything. So what an order in time decides here has to hold for every moment at which
/// both may have come in.
struct Step {
    time: u64,
    waited: u64,
    last: u64,
    last_waited: u64,
}

impl Step {
    /// The frame's time against the newest heartbeat's.
    #[inline]
    fn compare(&self, interval_ms: u32) -> Time {
        const INTERVAL_MAX_MS: u64 = INTERVAL_MAX.as_millis() as u64;
        if self.time.saturating_add(SLACK) < self.last.saturating_sub(self.last_waited) {
            return Time::Older;
        }
        let three_intervals = 3 * u64::from(interval_ms).min(INTERVAL_MAX_MS) * 1_000_000;
        let distrusted = three_intervals.max(DISTRUST).saturating_add(self.waited);
        if self.time.saturating_sub(self.last) > distrusted { Time::LongAfter } else { Time::Newer }
    }

    /// A frame of another boot also says by its uptime since when that boot is running, and so which of the two came
    /// first. Behind a gateway nothing else tells a copy of an older boot from a start (over a connection of its
    /// own a copy is refused with the connection), and if one did pass for a start, the next frame sets it right.
    #[cold]
    fn compare_boots(&self, body: &[u64; BODY_WORDS], uptime_ms: u64, is_relayed: bool, when: Time) -> Time {
        let start = |time: u64, uptime_ms: u64| time.saturating_sub(uptime_ms.saturating_mul(1_000_000));
        let this = start(self.time, body[words::B_UPTIME]);
        if is_relayed
            && when == Time::Newer
            && this.saturating_add(SLACK) < start(self.last.saturating_sub(self.last_waited), uptime_ms)
        {
            return Time::Older;
        }
        let is_later =
            this.saturating_sub(self.waited) > start(self.last, uptime_ms).saturating_add(DISTRUST);
        if is_later && when == Time::Newer { Time::LongAfter } else { when }
    }

    /// Time of the newest heartbeat if this frame is it: never before the one that was the newest.
    #[inline]
    fn news(&self) -> u64 {
        self.time.max(self.last)
    }

    /// How much earlier than [`Step::news`] it may have come in.
    #[inline]
    fn news_waited(&self) -> u64 {
        let waited = if self.waited > SLACK { self.waited } else { 0 };
        let behind = self.last.saturating_sub(self.time);
        if behind > SLACK { behind.saturating_add(waited) } else { waited }
    }

    /// The frame was read when it came in.
    #[inline]
    fn is_punctual(&self) -> bool {
        self.waited <= SLACK
    }

    /// A boot that is first heard now says by its uptime since when it has been running. Was that well before
    /// the last word of the boot before?
    #[cold]
    fn overlaps(&self, body: &[u64; BODY_WORDS]) -> bool {
        let interval_ms = u64::from(body[words::B_INTERVAL_FLAGS] as u32);
        let slack = (3_000_000 * interval_ms).clamp(OVERLAP_SLACK_MIN.as_nanos() as u64, OVERLAP_SLACK_MAX);
        let running_since = self.time.saturating_sub(body[words::B_UPTIME].saturating_mul(1_000_000));
        self.last.saturating_sub(self.last_waited).saturating_sub(running_since) > slack
    }
}

/// Rates, jitter and traffic from the step between two heartbeats of one boot. A counter that went
/// backwards gives no rate and no traffic for this step, and the next step starts from it.
#[inline]
fn follow(guard: &mut Guard<'_, WORDS>, body: &[u64; BODY_WORDS], instants: &Step, misc: u64) -> u64 {
    let (time, last) = (instants.news(), instants.last);
    let packets = body[words::B_RX_PACKETS].checked_sub(guard.get(words::B_RX_PACKETS));
    if packets.is_some_and(|packets| packets > 0) {
        guard.set(words::LAST_TRAFFIC, time);
    }
    let Some(uptime) = body[words::B_UPTIME].checked_sub(guard.get(words::B_UPTIME)) else { return misc };
    if uptime == 0 {
        return misc;
    }
    let (mut drops_rate, mut jitter) = words::floats(guard.get(words::DROPS_JITTER));
    if instants.is_punctual() && instants.last_waited == 0 {
        let difference = ((time - last) / 1_000_000).abs_diff(uptime).min(JITTER_STEP_MAX_MS);
        jitter += (difference as f32 - jitter) / 16.0;
    }
    let mut marks = misc;
    let bytes = body[words::B_RX_BYTES].checked_sub(guard.get(words::B_RX_BYTES));
    let drops = body[words::B_RX_DROPPED].checked_sub(guard.get(words::B_RX_DROPPED));
    if let (Some(bytes), Some(packets), Some(drops), true) =
        (bytes, packets, drops, uptime >= RATE_STEP_MIN_MS)
    {
        let seconds = uptime as f32 / 1_000.0;
        let weight = if misc & words::MARK_RATES != 0 { seconds / (RATE_SECONDS + seconds) } else { 1.0 };
        let (bytes_rate, packets_rate) = words::floats(guard.get(words::RATES));
        let approach = |rate: f32, count: u64| rate + weight * (count as f32 / seconds - rate);
        guard.set(
            words::RATES,
            words::join_floats(approach(bytes_rate, bytes), approach(packets_rate, packets)),
        );
        drops_rate = approach(drops_rate, drops);
        marks |= words::MARK_RATES;
    }
    guard.set(words::DROPS_JITTER, words::join_floats(drops_rate, jitter));
    marks
}

/// Keeps the least offset of this group of heartbeats and of the one before it.
#[inline]
fn next_offset(guard: &mut Guard<'_, WORDS>, offset: Option<i64>, misc: u64) -> u64 {
    let Some(offset) = offset else { return misc };
    let beats = misc >> 40 & 0xff;
    let current = guard.get(words::OFFSET);
    if beats >= OFFSET_GROUP {
        guard.set(words::OFFSET_BEFORE, current);
        guard.set(words::OFFSET, offset_word(offset));
        return misc & !(0xff << 40) | 1 << 40;
    }
    let least = offset_of_word(current).map_or(offset, |current| current.min(offset));
    guard.set(words::OFFSET, offset_word(least));
    misc + (1 << 40)
}

#[inline]
fn load_arrivals(guard: &Guard<'_, WORDS>, misc: u64) -> Arrivals {
    let (duplicates, reordered) = words::halves(guard.get(words::DUPLICATES_REORDERED));
    Arrivals {
        boot: guard.get(words::B_BOOT),
        boot_before: guard.get(words::BOOT_BEFORE),
        high: guard.get(words::HIGH),
        window: guard.get(words::WINDOW),
        expected: (misc >> 32) as u32 & 0xff,
        received: guard.get(words::RECEIVED),
        lost: guard.get(words::LOST),
        duplicates,
        reordered,
        // Rare, and on a cold line of the slot: only what this frame adds.
        beyond: 0,
        rollbacks: 0,
        unheard: misc & words::MARK_RESTORED != 0,
    }
}

#[inline]
fn store_arrivals(guard: &mut Guard<'_, WORDS>, arrivals: &Arrivals, misc: u64) -> u64 {
    guard.set(words::BOOT_BEFORE, arrivals.boot_before);
    guard.set(words::HIGH, arrivals.high);
    guard.set(words::WINDOW, arrivals.window);
    guard.set(words::RECEIVED, arrivals.received);
    guard.set(words::LOST, arrivals.lost);
    guard.set(words::DUPLICATES_REORDERED, words::join(arrivals.duplicates, arrivals.reordered));
    if arrivals.beyond | arrivals.rollbacks != 0 {
        let (beyond, rollbacks) = words::halves(guard.get(words::BEYOND_ROLLBACKS));
        let more =
            words::join(beyond.saturating_add(arrivals.beyond), rollbacks.saturating_add(arrivals.rollbacks));
        guard.set(words::BEYOND_ROLLBACKS, more);
    }
    let marks = misc & !(0xff << 32) & !words::MARK_RESTORED;
    let unheard = if arrivals.unheard { words::MARK_RESTORED } else { 0 };
    marks | u64::from(arrivals.expected) << 32 | unheard
}
