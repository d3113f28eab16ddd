//! A small register around a session, as a shard would have it.

use std::collections::BTreeSet;

use fleetpulse::identity::{Leaf, PeerIdentity, Serial};
use fleetpulse::ingest::{Env, Session, ShardCounters};
use fleetpulse::live::{
    Lifecycle, LiveState, OwnerRef, PolicyIndex, SensorType, SiteIndex, SlotFacts, Snapshot,
};
use fleetpulse::time::{MONO_ORIGIN, MonoNanos, UnixMillis};
use fleetpulse::wire::id::{GatewayId, SensorId};

/// Site that the gateway speaks for.
const COVERED: SiteIndex = SiteIndex(1);
const ELSEWHERE: SiteIndex = SiteIndex(2);
const SENSORS_MAX: u32 = 32;

pub struct World {
    pub live: LiveState,
    pub counters: ShardCounters,
    pub now: MonoNanos,
    gateway: GatewayId,
}

impl World {
    pub fn new() -> World {
        let live = LiveState::with_capacity(SENSORS_MAX);
        let gateway = GatewayId::from_number(1);
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
        Env { live: &self.live, counters: &self.counters, now: self.now }
    }

    fn begin(&self, identity: PeerIdentity) -> Session {
        let leaf = Leaf {
            identity,
            serial: Serial::from_be_bytes(&[1]).expect("a serial"),
            not_before: UnixMillis(0),
            not_after: UnixMillis(i64::MAX),
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
        (0..self.live.slots())
            .map(|index| self.live.snapshot(fleetpulse::live::SlotIndex(index)).expect("nobody writes"))
            .collect()
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
