//! A small register around a session, as a shard would have it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Deref;

use fleetpulse::identity::{IssuerMark, Leaf, PeerIdentity, Serial};
use fleetpulse::ingest::{Env, Session, ShardCounters};
use fleetpulse::live::{
    GatewayIndex, Lifecycle, LiveState, OwnerRef, PolicyIndex, Receipt, SensorType, SiteIndex, SlotFacts,
    SlotIndex, Snapshot,
};
use fleetpulse::time::{MONO_ORIGIN, MonoNanos, UnixMillis};
use fleetpulse::wire::id::{GatewayId, SensorId};

/// Site that the gateway speaks for.
const COVERED: SiteIndex = SiteIndex(1);
const ELSEWHERE: SiteIndex = SiteIndex(2);
const SENSORS_MAX: u32 = 32;

/// Times that one live state is used: after that its table of gateways, which only grows, is long to sweep.
const USES_MAX: u32 = 64;

thread_local! {
    static USED: RefCell<Vec<(LiveState, u32)>> = const { RefCell::new(Vec::new()) };
    static NEXT_GATEWAY: Cell<u64> = const { Cell::new(1) };
}

/// An empty live state. Making one takes a millisecond under the sanitizer, and an input needs several, so it is
/// used again: without sensors, and with other gateways.
pub struct Lease {
    live: Option<LiveState>,
    uses: u32,
}

impl Lease {
    pub fn new() -> Lease {
        let used = USED.with_borrow_mut(Vec::pop);
        let (live, uses) = used.unwrap_or_else(|| (LiveState::with_capacity(SENSORS_MAX), 0));
        assert_eq!(live.sensors(), 0);
        Lease { live: Some(live), uses: uses + 1 }
    }
}

/// Ids of gateways that no live state has seen.
pub fn fresh_gateways<const N: usize>() -> [GatewayId; N] {
    let first = NEXT_GATEWAY.get();
    NEXT_GATEWAY.set(first + N as u64);
    std::array::from_fn(|number| GatewayId::from_number(first + number as u64))
}

impl Deref for Lease {
    type Target = LiveState;

    fn deref(&self) -> &LiveState {
        self.live.as_ref().expect("there until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let live = self.live.take().expect("there until it is dropped");
        if std::thread::panicking() || self.uses >= USES_MAX {
            return;
        }
        for snapshot in snapshots(&live) {
            live.remove(snapshot.id);
        }
        for index in 0..live.gateways() {
            if let Some(gateway) = live.gateway_snapshot(GatewayIndex(index)) {
                live.remove_gateway(gateway.id);
            }
        }
        USED.with_borrow_mut(|used| used.push((live, self.uses)));
    }
}

fn snapshots(live: &LiveState) -> Vec<Snapshot> {
    (0..live.slots()).filter_map(|index| live.snapshot(SlotIndex(index))).collect()
}

pub struct World {
    pub live: Lease,
    pub counters: ShardCounters,
    pub now: MonoNanos,
    gateway: GatewayId,
}

impl World {
    pub fn new() -> World {
        let live = Lease::new();
        let [gateway] = fresh_gateways();
        live.insert_gateway(gateway, &[COVERED]).expect("room");
        World { live, counters: ShardCounters::default(), now: MONO_ORIGIN, gateway }
    }

    /// Registers the sensors that an input speaks of, by the last bits of their ids: three of eight are not
    /// registered or not on the gateway's sites.
    pub fn register(&self, ids: impl Iterator<Item = SensorId>) {
        let ids: BTreeSet<SensorId> = ids.take(SENSORS_MAX as usize).collect();
        for id in ids {
            let site = match id.0[15] & 7 {
                0 => continue,
                1 | 2 => ELSEWHERE,
                _ => COVERED,
            };
            self.insert(id, site);
        }
    }

    pub fn insert(&self, id: SensorId, site: SiteIndex) {
        let (kind, lifecycle) = (SensorType::OtCloud, Lifecycle::Active);
        let facts = SlotFacts { kind, lifecycle, site, policy: PolicyIndex(0), muted: false };
        self.live.insert(id, facts).expect("room");
    }

    pub fn env(&self) -> Env<'_> {
        Env { live: &self.live, counters: &self.counters, receipt: Receipt::exact(self.now) }
    }

    fn begin(&self, identity: PeerIdentity) -> Session {
        let leaf = Leaf {
            identity,
            serial: Serial::from_be_bytes(&[1]).expect("a serial"),
            not_before: UnixMillis(0),
            not_after: UnixMillis(i64::MAX),
            issuer: IssuerMark::of_name(b"an authority"),
        };
        let owner = OwnerRef { node: 0, shard: 0, connection: 1 };
        Session::begin(&leaf, owner, &self.env()).expect("registered").0
    }

    /// The session of a sensor, which it registers.
    pub fn sensor(&self, id: SensorId) -> Session {
        self.insert(id, COVERED);
        self.begin(PeerIdentity::Sensor(id))
    }

    /// The session of the gateway.
    pub fn gateway(&self) -> Session {
        self.begin(PeerIdentity::Gateway(self.gateway))
    }

    /// All that is known of all sensors.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        snapshots(&self.live)
    }

    /// Frames that were handled: read or not, refused or not.
    pub fn handled(&self) -> u64 {
        let counts = self.counters.snapshot();
        let unreadable: u64 = counts.unreadable.iter().map(|(_, count)| count).sum();
        let observed: u64 = counts.observed.iter().map(|(_, count)| count).sum();
        assert_eq!(counts.frames, observed + counts.not_covered + counts.unknown_sensor, "{counts:?}");
        counts.frames + unreadable
    }
}

/// What must be true of every sensor, whatever it sent.
pub fn check_snapshot(snapshot: &Snapshot) {
    assert!(snapshot.window_expected <= 64, "{snapshot:?}");
    assert!((0.0..=1.0).contains(&snapshot.delivery_ratio), "{snapshot:?}");
    assert!(snapshot.jitter_ms >= 0.0 && snapshot.jitter_ms.is_finite(), "{snapshot:?}");
    for rate in [snapshot.rx_bytes_per_s, snapshot.rx_packets_per_s] {
        assert!(rate.is_nan() || (rate >= 0.0 && rate.is_finite()), "{snapshot:?}");
    }
    let ratio = snapshot.drop_ratio;
    assert!(ratio.is_nan() || (0.0..=1.0).contains(&ratio), "{snapshot:?}");
    assert!(u64::from(snapshot.window.count_ones()) <= snapshot.received, "{snapshot:?}");
}
