//! What one connection may do and does, without any I/O: who it is, what happens to its frames, when it has
//! to go. The loop hands in bytes and instants; the session answers with nothing or with the reason to
//! close. So it is tested, fuzzed and simulated without a socket.
//!
//! This is the hot path's last step: a frame is checked in place, and `observe` writes it into the slot.
//! No lock, queue, allocation or log line here. A gateway's table of slots is its own and grows on the
//! first frame of each sensor.

use std::collections::HashMap;
use std::time::Duration;

use super::budget::Budget;
use super::counters::ShardCounters;
use super::renewable::{Held, Wanted};
use crate::identity::{Leaf, PeerIdentity, Serial};
use crate::limits::{
    GATEWAY_FRAMES_PER_SECOND, GATEWAY_SENSORS_MAX, INTERVAL_TOLD_AGAIN, PARTIAL_FRAME_TIMEOUT,
    SENSOR_FRAMES_BURST, SENSOR_FRAMES_PER_SECOND, SESSION_SILENCE_MIN,
};
use crate::live::{GatewayIndex, LiveState, Observed, OwnerRef, Receipt, SlotHandle, Writer};
use crate::time::{MonoNanos, UnixMillis};
use crate::wire::close::CloseCode;
use crate::wire::frame::{Frame, FrameError, StreamFrames, frames};
use crate::wire::id::{GatewayId, SensorId};

/// Judges a peer's certificate after every handshake, full or resumed, and again when asked to.
pub trait LeafCheck: Send + Sync + 'static {
    /// Who this is, or why it may not come in. Has to look at everything that can change after a ticket
    /// was made: dates, revocation, the register. Called on a shard's thread: must not wait.
    fn check(&self, leaf_der: &[u8], now: UnixMillis) -> Result<Leaf, CloseCode>;
}

/// What a session needs of its shard for one step.
pub struct Env<'a> {
    /// Where frames go.
    pub live: &'a LiveState,
    /// What the shard counts.
    pub counters: &'a ShardCounters,
    /// When its packets were read, and what the shard does not know of their arrival.
    pub receipt: Receipt,
}

impl Env<'_> {
    /// Now.
    #[inline]
    pub fn now(&self) -> MonoNanos {
        self.receipt.at
    }

    /// Of what a stream brought: what is lost on the way comes again.
    #[inline]
    fn stream_receipt(&self) -> Receipt {
        Receipt { unheard_until: MonoNanos::NEVER, ..self.receipt }
    }
}

/// A connection after its handshake. Public because it is all that ingest does with a peer's bytes, without the
/// sockets: what is fuzzed is what runs.
#[derive(Debug)]
pub enum Session {
    /// Not through the handshake, or over.
    None,
    /// One sensor, speaking for itself.
    Sensor(SensorSession),
    /// A relay.
    Gateway(Box<GatewaySession>),
}

/// A sensor's connection.
#[derive(Debug)]
pub struct SensorSession {
    id: SensorId,
    slot: SlotHandle,
    epoch: u64,
    interval_ms: u32,
    told_ms: u32,
    told_at: MonoNanos,
    budget: Budget,
    common: Common,
}

/// A gateway's connection.
#[derive(Debug)]
pub struct GatewaySession {
    epoch: u64,
    stream: StreamFrames,
    partial_since: Option<MonoNanos>,
    relay: Relay,
    common: Common,
}

/// The part of a gateway's session that handles frames, apart from the stream they come from.
#[derive(Debug)]
struct Relay {
    id: GatewayId,
    index: GatewayIndex,
    /// Longest interval among the sensors it speaks for.
    interval_ms: u32,
    budget: Budget,
    slots: HashMap<SensorId, SlotHandle, ahash::RandomState>,
}

#[derive(Debug)]
struct Common {
    serial: Serial,
    held: Held,
    heard: MonoNanos,
    /// Trust bundle in use, as far as it is known: a sensor's from its heartbeats, a gateway's from its word that it
    /// keeps one. Zero: not known.
    trust_generation: u32,
}

/// A session began; who had the place before has to go.
#[derive(Debug, PartialEq, Eq)]
pub struct Began {
    /// Who had it.
    pub replaced: Option<OwnerRef>,
    /// It is a gateway's.
    pub gateway: bool,
}

impl Session {
    /// After the handshake: the leaf was judged good; takes the slot.
    pub fn begin(leaf: &Leaf, owner: OwnerRef, env: &Env<'_>) -> Result<(Session, Began), CloseCode> {
        let mut common =
            Common { serial: leaf.serial, held: Held::new(leaf), heard: env.now(), trust_generation: 0 };
        match leaf.identity {
            PeerIdentity::Sensor(id) => {
                let slot = env.live.find(id).ok_or(CloseCode::UnknownIdentity)?;
                let taken = env
                    .live
                    .take(slot, owner, leaf.not_after, env.now())
                    .map_err(|_| CloseCode::UnknownIdentity)?;
                // Asked once more: if the register changed after the leaf was judged, then either the owner of the
                // slot was known to whoever has to close it, or the change is seen here.
                if !env.live.facts(slot).is_some_and(|facts| facts.may_report()) {
                    env.live.release(slot, taken.epoch, env.now());
                    return Err(CloseCode::NotActive);
                }
                env.live.renew(slot, taken.epoch, leaf.not_after, leaf.issuer.short());
                let budget = Budget::new(SENSOR_FRAMES_PER_SECOND, SENSOR_FRAMES_BURST, env.now());
                let session = SensorSession {
                    id,
                    slot,
                    epoch: taken.epoch,
                    interval_ms: 0,
                    told_ms: 0,
                    told_at: MonoNanos::NEVER,
                    budget,
                    common,
                };
                Ok((Session::Sensor(session), Began { replaced: taken.replaced, gateway: false }))
            }
            PeerIdentity::Gateway(id) => {
                let index = env.live.find_gateway(id).ok_or(CloseCode::UnknownIdentity)?;
                let taken =
                    env.live.gateway_take(index, owner, env.now()).map_err(|_| CloseCode::UnknownIdentity)?;
                let known = env.live.gateway_snapshot(index).map_or(0, |known| known.trust_generation);
                // No bundle is older than the first.
                common.trust_generation = known.max(1);
                env.live.gateway_holds(index, taken.epoch, known, leaf.issuer.short());
                let budget = Budget::new(GATEWAY_FRAMES_PER_SECOND, GATEWAY_FRAMES_PER_SECOND, env.now());
                let session = GatewaySession {
                    epoch: taken.epoch,
                    stream: StreamFrames::new(),
                    partial_since: None,
                    relay: Relay { id, index, interval_ms: 0, budget, slots: HashMap::default() },
                    common,
                };
                Ok((Session::Gateway(Box::new(session)), Began { replaced: taken.replaced, gateway: true }))
            }
        }
    }

    /// Who this is; `None` before the handshake and after the end.
    pub fn identity(&self) -> Option<PeerIdentity> {
        match self {
            Session::None => None,
            Session::Sensor(sensor) => Some(PeerIdentity::Sensor(sensor.id)),
            Session::Gateway(gateway) => Some(PeerIdentity::Gateway(gateway.relay.id)),
        }
    }

    /// The certificate's serial.
    pub fn serial(&self) -> Option<&Serial> {
        self.common().map(|common| &common.serial)
    }

    /// What its certificate says.
    pub fn leaf(&self) -> Option<Leaf> {
        let (identity, common) = (self.identity()?, self.common()?);
        let Held { not_before, not_after, issuer, .. } = common.held;
        Some(Leaf { identity, serial: common.serial, not_before, not_after, issuer })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        match self {
            Session::None => None,
            Session::Sensor(sensor) => Some(&mut sensor.common),
            Session::Gateway(gateway) => Some(&mut gateway.common),
        }
    }

    /// The peer said that it keeps the trust bundle of this generation from now on, and this certificate if there is
    /// one. `false`: it is not its own.
    pub fn kept(&mut self, trust_generation: u32, leaf: Option<&Leaf>, env: &Env<'_>) -> bool {
        if leaf.is_some_and(|leaf| self.identity() != Some(leaf.identity)) {
            return false;
        }
        if let Some((common, leaf)) = self.common_mut().zip(leaf) {
            common.serial = leaf.serial;
            common.held = Held::new(leaf);
        }
        match self {
            Session::None => {}
            // What bundle it uses, its heartbeats say.
            Session::Sensor(sensor) => {
                if let Some(leaf) = leaf {
                    env.live.renew(sensor.slot, sensor.epoch, leaf.not_after, leaf.issuer.short());
                }
            }
            Session::Gateway(gateway) => {
                gateway.common.trust_generation = trust_generation;
                let issuer = gateway.common.held.issuer.short();
                env.live.gateway_holds(gateway.relay.index, gateway.epoch, trust_generation, issuer);
            }
        }
        true
    }

    /// A new certificate (`Some(true)`) or only a newer trust bundle (`Some(false)`) is needed, and was not asked for
    /// of late.
    pub fn needs(&mut self, wanted: Wanted, now: MonoNanos, unix: UnixMillis) -> Option<bool> {
        let common = self.common_mut()?;
        common.held.due(common.trust_generation, wanted, now, unix)
    }

    /// What was needed was told to nobody.
    pub fn not_taken(&mut self, now: MonoNanos) {
        if let Some(common) = self.common_mut() {
            common.held.not_taken(now);
        }
    }

    fn common(&self) -> Option<&Common> {
        match self {
            Session::None => None,
            Session::Sensor(sensor) => Some(&sensor.common),
            Session::Gateway(gateway) => Some(&gateway.common),
        }
    }

    /// A packet of this connection came in, whatever is in it.
    #[inline]
    pub fn packet(&mut self, env: &Env<'_>) -> Result<(), CloseCode> {
        let (budget, common) = match self {
            Session::None => return Ok(()),
            Session::Sensor(sensor) => (&mut sensor.budget, &mut sensor.common),
            Session::Gateway(gateway) => (&mut gateway.relay.budget, &mut gateway.common),
        };
        common.heard = env.now();
        if budget.packet(env.now()) { Ok(()) } else { Err(CloseCode::TooFast) }
    }

    /// Why a frame was refused since this was last asked; of several, the last.
    #[inline]
    pub fn take_refusal(&mut self) -> Option<&'static str> {
        match self {
            Session::None => None,
            Session::Sensor(sensor) => sensor.budget.take_refusal(),
            Session::Gateway(gateway) => gateway.relay.budget.take_refusal(),
        }
    }

    /// Packets came in: the path works. A sensor's own frame has said so already where it was observed; a
    /// gateway's frames move the clocks of its sensors, never its own.
    /// A gateway that another connection took the place of finds out here, a sensor with its next frame.
    pub fn transport_seen(&self, brought_frames: bool, env: &Env<'_>) -> Result<(), CloseCode> {
        match self {
            Session::None => {}
            Session::Sensor(_) if brought_frames => {}
            Session::Sensor(sensor) => {
                env.live.seen_transport(sensor.slot, sensor.epoch, env.now());
            }
            Session::Gateway(gateway) => {
                let index = gateway.relay.index;
                if !env.live.gateway_seen(index, gateway.epoch, env.now()) {
                    let is_registered = env.live.gateway_snapshot(index).is_some();
                    return Err(if is_registered { CloseCode::Replaced } else { CloseCode::UnknownIdentity });
                }
            }
        }
        Ok(())
    }

    /// A QUIC datagram.
    #[inline]
    pub fn datagram(&mut self, bytes: &[u8], env: &Env<'_>) -> Result<(), CloseCode> {
        for frame in frames(bytes) {
            match self {
                Session::None => return Ok(()),
                Session::Sensor(sensor) => sensor.frame(frame, env)?,
                Session::Gateway(gateway) => gateway.relay.frame(frame, env)?,
            }
        }
        Ok(())
    }

    /// The next bytes of a gateway's stream. Sensors have no stream.
    pub fn stream(&mut self, chunk: &[u8], env: &Env<'_>) -> Result<(), CloseCode> {
        let Session::Gateway(gateway) = self else { return Err(CloseCode::Protocol) };
        let GatewaySession { stream, partial_since, relay, .. } = &mut **gateway;
        let mut verdict = Ok(());
        let framing = stream.push(chunk, |frame| {
            if verdict.is_ok() {
                verdict = relay.frame(frame, env);
            }
        });
        // What came first counts: the rest of this chunk would not have been asked for.
        verdict?;
        if let Err(error) = framing {
            // Nobody knows where the next frame starts, so the stream is of no use any more.
            env.counters.unreadable[error.index()].add(1);
            return Err(CloseCode::Malformed);
        }
        // Each chunk that leaves a frame unfinished starts the clock anew only when it finished one before:
        // a byte a second must not keep a stream alive.
        if stream.unfinished() == 0 {
            *partial_since = None;
        } else if partial_since.is_none() || chunk.len() > stream.unfinished() {
            *partial_since = Some(env.now());
        }
        Ok(())
    }

    /// The gateway's stream ended; another may follow.
    pub fn stream_ended(&mut self, env: &Env<'_>) -> Result<(), CloseCode> {
        let Session::Gateway(gateway) = self else { return Ok(()) };
        let unfinished = gateway.stream.unfinished() > 0;
        gateway.stream = StreamFrames::new();
        gateway.partial_since = None;
        if unfinished {
            env.counters.unreadable[FrameError::Truncated.index()].add(1);
            gateway.relay.refuse(CloseCode::Malformed, FrameError::Truncated.label(), env)?;
        }
        Ok(())
    }

    /// Looked at every few seconds: does it have to go, because of its certificate or its stream?
    pub fn look(&self, now: MonoNanos, unix: UnixMillis) -> Result<(), CloseCode> {
        if self.common().is_some_and(|common| common.held.not_after < unix) {
            return Err(CloseCode::CertificateExpired);
        }
        let stalled = |since: MonoNanos| now.since(since) >= PARTIAL_FRAME_TIMEOUT;
        match self {
            Session::Gateway(gateway) if gateway.partial_since.is_some_and(stalled) => {
                Err(CloseCode::Stalled)
            }
            _ => Ok(()),
        }
    }

    /// Nothing came for longer than three of its intervals, the one that it was told to keep included: its connection
    /// is as good as gone.
    pub fn fell_silent(&self, now: MonoNanos) -> bool {
        let (common, interval_ms) = match self {
            Session::None => return false,
            Session::Sensor(sensor) => (&sensor.common, sensor.interval_ms.max(sensor.told_ms)),
            Session::Gateway(gateway) => (&gateway.common, gateway.relay.interval_ms),
        };
        let allowed = SESSION_SILENCE_MIN.max(Duration::from_millis(3 * u64::from(interval_ms)));
        now.since(common.heard) > allowed
    }

    /// The interval that the sensor has to be told to keep, when it keeps another one: that of its policy, or else
    /// `otherwise_ms` (zero: any is fine). It is told at once, and again when that had no effect: it may have had no
    /// room for the message, or never answered.
    pub fn should_be_told(&mut self, live: &LiveState, otherwise_ms: u32, now: MonoNanos) -> Option<u32> {
        let Session::Sensor(sensor) = self else { return None };
        let wanted_ms = match live.wanted_interval(sensor.slot) {
            0 => otherwise_ms,
            of_policy => of_policy,
        };
        let other = wanted_ms != 0 && sensor.interval_ms != 0 && sensor.interval_ms != wanted_ms;
        let tell = other && (sensor.told_ms != wanted_ms || now.since(sensor.told_at) >= INTERVAL_TOLD_AGAIN);
        if tell {
            (sensor.told_ms, sensor.told_at) = (wanted_ms, now);
        }
        tell.then_some(wanted_ms)
    }

    /// The connection is over: gives the slot back, unless somebody else has it by now.
    pub fn end(&mut self, env: &Env<'_>) {
        match std::mem::replace(self, Session::None) {
            Session::None => {}
            Session::Sensor(sensor) => {
                env.live.release(sensor.slot, sensor.epoch, env.now());
            }
            Session::Gateway(gateway) => {
                env.live.gateway_release(gateway.relay.index, gateway.epoch, env.now());
            }
        }
    }
}

fn count_read(frame: &Frame<'_>, counters: &ShardCounters) {
    counters.frames.add(1);
    if frame.appended {
        counters.frames_appended.add(1);
    }
    if frame.unknown_values {
        counters.frames_unknown_values.add(1);
    }
}

impl SensorSession {
    #[inline]
    fn frame(&mut self, frame: Result<Frame<'_>, FrameError>, env: &Env<'_>) -> Result<(), CloseCode> {
        if !self.budget.frame(env.now()) {
            return Err(CloseCode::TooFast);
        }
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                env.counters.unreadable[error.index()].add(1);
                return self.refuse(CloseCode::Malformed, error.label(), env);
            }
        };
        count_read(&frame, env.counters);
        if frame.known.sensor_id != self.id.0 {
            env.counters.not_covered.add(1);
            return self.refuse(CloseCode::NotCovered, "not_covered", env);
        }
        self.interval_ms = frame.known.interval_ms.to_native();
        self.common.trust_generation = frame.known.trust_generation.to_native();
        let writer = Writer::Direct { epoch: self.epoch };
        let observed = env.live.observe_receipt(self.slot, writer, &frame, env.receipt);
        env.counters.observed[observed.index()].add(1);
        match observed {
            Observed::NotOwner => Err(CloseCode::Replaced),
            Observed::StaleSlot => Err(CloseCode::UnknownIdentity),
            _ => Ok(()),
        }
    }

    fn refuse(&mut self, code: CloseCode, why: &'static str, env: &Env<'_>) -> Result<(), CloseCode> {
        if self.budget.refuse(why, env.now()) { Ok(()) } else { Err(code) }
    }
}

impl Relay {
    #[inline]
    fn frame(&mut self, frame: Result<Frame<'_>, FrameError>, env: &Env<'_>) -> Result<(), CloseCode> {
        if !self.budget.frame(env.now()) {
            return Err(CloseCode::TooFast);
        }
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                env.counters.unreadable[error.index()].add(1);
                return self.refuse(CloseCode::Malformed, error.label(), env);
            }
        };
        count_read(&frame, env.counters);
        let id = SensorId(frame.known.sensor_id);
        // Twice at most: the second time when the remembered slot went to another sensor meanwhile.
        for fresh in [false, true] {
            let Some(slot) = self.slot(id, fresh, env.live) else {
                env.counters.unknown_sensor.add(1);
                return self.refuse(CloseCode::NotCovered, "unknown_sensor", env);
            };
            let Some(facts) = env.live.facts(slot) else {
                self.slots.remove(&id);
                continue;
            };
            // Asked for each frame, so that a move in the register takes effect at once.
            if !facts.may_report() || !env.live.gateway_covers(self.index, facts.site) {
                env.counters.not_covered.add(1);
                return self.refuse(CloseCode::NotCovered, "not_covered", env);
            }
            let observed =
                env.live.observe_receipt(slot, Writer::Gateway(self.index), &frame, env.stream_receipt());
            if observed == Observed::StaleSlot && !fresh {
                self.slots.remove(&id);
                continue;
            }
            env.counters.observed[observed.index()].add(1);
            self.interval_ms = self.interval_ms.max(frame.known.interval_ms.to_native());
            return Ok(());
        }
        env.counters.unknown_sensor.add(1);
        self.refuse(CloseCode::NotCovered, "unknown_sensor", env)
    }

    fn slot(&mut self, id: SensorId, fresh: bool, live: &LiveState) -> Option<SlotHandle> {
        if !fresh && let Some(slot) = self.slots.get(&id) {
            return Some(*slot);
        }
        let slot = live.find(id)?;
        if self.slots.len() >= GATEWAY_SENSORS_MAX {
            self.slots.clear();
        }
        self.slots.insert(id, slot);
        Some(slot)
    }

    fn refuse(&mut self, code: CloseCode, why: &'static str, env: &Env<'_>) -> Result<(), CloseCode> {
        if self.budget.refuse(why, env.now()) { Ok(()) } else { Err(code) }
    }
}

#[cfg(test)]
mod tests;
