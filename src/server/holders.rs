//! Who holds the trust bundle of today, and a certificate of who signs today: counted now and then, shown by metrics
//! and API, and written down while one root takes the place of another, for the command that retires the old one.
//!
//! What a sensor holds is known from its heartbeats and its connection, both of which live state keeps over a restart;
//! what a gateway holds, from its connection alone, so it has to come back after a restart to be counted again.
//! The count reads every slot: a third of a second for a million sensors, so it comes seldom.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::current::{CurrentAuthority, is_rotating};
use super::fleet::FleetService;
use super::stop::StopSignal;
use crate::export::TrustFigures;
use crate::identity::{Authority, IssuerMark, Lagging, Proof};
use crate::live::{GatewayIndex, LiveState, SlotIndex, Snapshot};
use crate::time::{Clock, MonoNanos, UnixMillis};
use crate::wire::id::{GatewayId, SensorId};

/// Time between two looks whether another authority is in use.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time between two counts while one root takes the place of another ...
const COUNT_ROTATING_EVERY: Duration = Duration::from_secs(5);
/// ... and otherwise.
const COUNT_SETTLED_EVERY: Duration = Duration::from_secs(60);
/// A count takes at most one part in this many of one core.
const IDLE_FACTOR: u32 = 50;
/// Peers that lack something, and are named.
const NAMED: usize = 10;
/// Sensors that are looked up in the register at once.
const BATCH: usize = 1_024;
/// Tries at a slot that writers keep busy.
const TRIES: usize = 16;

/// The last count.
#[derive(Debug, Default)]
pub struct Holders(Mutex<TrustFigures>);

impl Holders {
    /// What it was.
    pub fn figures(&self) -> TrustFigures {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's parts.
pub struct HoldersThread {
    /// What peers showed.
    pub live: Arc<LiveState>,
    /// Names, and certificates that nobody has shown yet.
    pub fleet: Arc<FleetService>,
    /// What they should hold.
    pub authority: Arc<CurrentAuthority>,
    /// For how long a certificate that ran out may be renewed: beyond it nobody comes back with it in any case.
    pub grace: Duration,
    /// Where the count is written.
    pub data: PathBuf,
    /// For readers.
    pub holders: Arc<Holders>,
    /// The one clock.
    pub clock: Arc<dyn Clock>,
    /// Ends the thread after one more.
    pub stop: StopSignal,
}

impl HoldersThread {
    /// Until told to stop, and once more then.
    pub fn run(self) {
        let mut about: Option<(u32, IssuerMark)> = None;
        let mut due = MonoNanos::NEVER;
        let mut written = None;
        loop {
            let authority = self.authority.get();
            let now_about = Some((authority.trust().generation, authority.mark()));
            let stopping = self.stop.stopped();
            if now_about != about || self.clock.mono() >= due || stopping {
                about = now_about;
                let began = self.clock.mono();
                let proof = self.count(&authority);
                self.write(&authority, proof, &mut written);
                let took = self.clock.mono().since(began);
                let every = if is_rotating(&authority) { COUNT_ROTATING_EVERY } else { COUNT_SETTLED_EVERY };
                due = self.clock.mono().plus(every.max(took.saturating_mul(IDLE_FACTOR)));
            }
            if stopping {
                return;
            }
            self.stop.wait_until(&*self.clock, self.clock.mono().plus(LOOK_EVERY));
        }
    }

    fn count(&self, authority: &Authority) -> Proof {
        let now = self.clock.unix();
        let mut count = Count {
            generation: authority.trust().generation,
            issuer: authority.replaces_others().then(|| authority.mark().short()),
            proof: Proof::new(authority.trust().generation, authority.mark().to_string(), now),
        };
        self.sensors(&mut count, now);
        for index in (0..self.live.gateways()).map(GatewayIndex) {
            if let Some(gateway) = self.live.gateway_snapshot(index) {
                let who = Who::Gateway(gateway.id);
                count.peer(who, gateway.trust_generation, gateway.cert_issuer);
            }
        }
        let mut proof = count.proof;
        self.name(&mut proof.lagging);
        let figures = TrustFigures {
            stage: authority.stage().as_str(),
            generation: proof.generation,
            roots: authority.trust().roots.len(),
            peers: proof.peers,
            with_bundle: proof.with_bundle,
            with_certificate: proof.with_certificate,
        };
        *self.holders.0.lock().unwrap_or_else(PoisonError::into_inner) = figures;
        proof
    }

    fn sensors(&self, count: &mut Count, now: UnixMillis) {
        let mut never_seen = Vec::new();
        for index in (0..self.live.slots()).map(SlotIndex) {
            let Some(sensor) = (0..TRIES).find_map(|_| self.live.snapshot(index)) else { continue };
            match sensor.cert_not_after {
                _ if !sensor.facts.may_report() => {}
                Some(end) if end.plus(self.grace) < now => {}
                Some(_) => count.sensor(&sensor),
                None => never_seen.push(sensor.id),
            }
            if never_seen.len() == BATCH {
                self.never_seen(count, &mut never_seen, now);
            }
        }
        self.never_seen(count, &mut never_seen, now);
    }

    /// Sensors without a connection of their own so far: those that hold a certificate may come any day. Others speak
    /// through gateways only.
    fn never_seen(&self, count: &mut Count, ids: &mut Vec<SensorId>, now: UnixMillis) {
        let register = self.fleet.register();
        for id in ids.drain(..) {
            let Some(sensor) = register.sensor(id) else { continue };
            if sensor.more.credentials.iter().any(|held| held.not_after.plus(self.grace) >= now) {
                count.peer(Who::Sensor(id), 0, 0);
            }
        }
    }

    fn name(&self, lagging: &mut [Lagging]) {
        let register = self.fleet.register();
        for peer in lagging {
            let sensor = peer.id.parse().ok().and_then(|id: SensorId| register.sensor(id));
            let gateway = peer.id.parse().ok().and_then(|id: GatewayId| register.gateway(id));
            let name = match peer.kind.as_str() {
                "gateway" => gateway.map(|gateway| gateway.name.to_string()),
                _ => sensor.map(|sensor| sensor.name.to_string()),
            };
            peer.name = name.unwrap_or_default();
        }
    }

    /// Writes a count that says something new.
    fn write(&self, authority: &Authority, proof: Proof, written: &mut Option<Proof>) {
        let same = written.as_ref().is_some_and(|before| {
            before.agrees_with(&proof) && proof.at().0.saturating_sub(before.at_unix_ms) < 60_000
        });
        if !is_rotating(authority) || same {
            return;
        }
        match proof.write(&self.data) {
            Ok(()) => *written = Some(proof),
            Err(error) => {
                tracing::warn!(%error, "who holds the new root could not be written down; `ca rotate-root retire` waits for it");
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Who {
    Sensor(SensorId),
    Gateway(GatewayId),
}

/// A count under way.
struct Count {
    generation: u32,
    /// Who must have signed their certificates, where that counts.
    issuer: Option<u16>,
    proof: Proof,
}

impl Count {
    fn sensor(&mut self, sensor: &Snapshot) {
        let generation = if sensor.last_heartbeat.is_never() { 0 } else { sensor.heartbeat.trust_generation };
        self.peer(Who::Sensor(sensor.id), generation, sensor.cert_issuer);
    }

    fn peer(&mut self, who: Who, generation: u32, issuer: u16) {
        self.proof.peers += 1;
        let bundle = generation >= self.generation;
        let certificate = self.issuer.is_none_or(|wanted| wanted == issuer);
        self.proof.with_bundle += u64::from(bundle);
        self.proof.with_certificate += u64::from(bundle && certificate);
        if (bundle && certificate) || self.proof.lagging.len() >= NAMED {
            return;
        }
        let lacks = match (generation, bundle) {
            (0, _) => "its trust bundle is not known".to_owned(),
            (_, false) => format!("has trust bundle {generation} of {}", self.generation),
            _ => "its certificate is by the old root".to_owned(),
        };
        let (kind, id) = match who {
            Who::Sensor(id) => ("sensor", id.to_string()),
            Who::Gateway(id) => ("gateway", id.to_string()),
        };
        self.proof.lagging.push(Lagging { kind: kind.to_owned(), id, name: String::new(), lacks });
    }
}
