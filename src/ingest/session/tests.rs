use super::*;
use crate::identity::IssuerMark;
use crate::limits::{FRAME_HEADER_BYTES, FRAMES_PER_DATAGRAM_MAX, REFUSED_FRAMES_MAX};
use crate::live::{Lifecycle, PolicyIndex, Receipt, SensorType, SiteIndex, SlotFacts};
use crate::time::MONO_ORIGIN;
use crate::wire::frame::write_frame;
use crate::wire::heartbeat::Heartbeat;

const SITE: SiteIndex = SiteIndex(3);
const ELSEWHERE: SiteIndex = SiteIndex(4);

struct Bench {
    live: LiveState,
    counters: ShardCounters,
    now: MonoNanos,
}

impl Bench {
    fn new() -> Bench {
        Bench { live: LiveState::with_capacity(100), counters: ShardCounters::default(), now: MONO_ORIGIN }
    }

    fn env(&self) -> Env<'_> {
        Env { live: &self.live, counters: &self.counters, receipt: Receipt::exact(self.now) }
    }

    fn register(&self, number: u64, site: SiteIndex) -> SensorId {
        let id = SensorId::from_number(number);
        let (kind, lifecycle) = (SensorType::OtCloud, Lifecycle::Active);
        let facts = SlotFacts { kind, lifecycle, site, policy: PolicyIndex(0), muted: false };
        self.live.insert(id, facts).expect("room");
        id
    }

    fn begin(&self, identity: PeerIdentity, connection: u32) -> Result<(Session, Began), CloseCode> {
        let leaf = Leaf {
            identity,
            serial: Serial::from_be_bytes(&[1]).expect("a serial"),
            not_before: UnixMillis(0),
            not_after: UnixMillis(1_000_000),
            issuer: IssuerMark::of_name(b"an authority"),
        };
        Session::begin(&leaf, OwnerRef { node: 0, shard: 0, connection }, &self.env())
    }

    fn sensor(&self, number: u64) -> Session {
        let id = self.register(number, SITE);
        self.begin(PeerIdentity::Sensor(id), number as u32).expect("registered").0
    }

    fn gateway(&self) -> Session {
        let id = GatewayId::from_number(1);
        self.live.insert_gateway(id, &[SITE]).expect("room");
        self.begin(PeerIdentity::Gateway(id), 9).expect("registered").0
    }

    fn received(&self, number: u64) -> u64 {
        self.live.snapshot_of(SensorId::from_number(number)).expect("registered").received
    }
}

fn frame(number: u64, sequence: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let sensor_id = SensorId::from_number(number).0;
    write_frame(
        &Heartbeat { sensor_id, sequence, interval_ms: 1_000, ..Heartbeat::default() },
        0,
        &mut bytes,
    );
    bytes
}

#[test]
fn who_lost_its_slot_writes_no_more_and_frees_nothing() {
    let bench = Bench::new();
    let mut old = bench.sensor(1);
    old.datagram(&frame(1, 1), &bench.env()).expect("its own");
    let (mut new, began) =
        bench.begin(PeerIdentity::Sensor(SensorId::from_number(1)), 77).expect("registered");
    assert_eq!(began.replaced.map(|owner| owner.connection), Some(1));
    assert_eq!(old.datagram(&frame(1, 2), &bench.env()), Err(CloseCode::Replaced));
    old.end(&bench.env());
    let owner = bench.live.snapshot_of(SensorId::from_number(1)).and_then(|snapshot| snapshot.owner);
    assert_eq!(owner.map(|owner| owner.connection), Some(77));
    new.datagram(&frame(1, 2), &bench.env()).expect("the owner's");
    assert_eq!(bench.received(1), 2);
    new.end(&bench.env());
    assert!(!bench.live.snapshot_of(SensorId::from_number(1)).expect("registered").connected);
    assert!(new.identity().is_none());
}

#[test]
fn nobody_begins_without_being_registered() {
    let bench = Bench::new();
    for identity in
        [PeerIdentity::Sensor(SensorId::from_number(1)), PeerIdentity::Gateway(GatewayId::from_number(1))]
    {
        assert_eq!(bench.begin(identity, 1).err(), Some(CloseCode::UnknownIdentity));
    }
}

#[test]
fn a_stream_is_stalled_by_time_without_a_whole_frame_not_by_its_pieces() {
    let mut bench = Bench::new();
    bench.register(1, SITE);
    let mut gateway = bench.gateway();
    let unix = UnixMillis(0);
    let bytes = frame(1, 1);
    // Whole frames with a cut in the middle, slowly: never stalled.
    let mut rest = Vec::new();
    for sequence in 1..=10 {
        rest.extend_from_slice(&frame(1, sequence));
        let cut = rest.len() - 50;
        gateway.stream(&rest[..cut], &bench.env()).expect("fine");
        rest.drain(..cut);
        bench.now = bench.now.plus(Duration::from_secs(4));
        assert_eq!(gateway.look(bench.now, unix), Ok(()));
    }
    gateway.stream(&rest, &bench.env()).expect("fine");
    assert_eq!(bench.received(1), 10);
    // A byte a second: stalled five seconds after the frame began.
    let mut seconds = 0;
    for byte in &bytes[..60] {
        gateway.stream(&[*byte], &bench.env()).expect("fine");
        if gateway.look(bench.now, unix) == Err(CloseCode::Stalled) {
            break;
        }
        bench.now = bench.now.plus(Duration::from_secs(1));
        seconds += 1;
    }
    assert_eq!(seconds, 5);
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_counted_and_the_next_one_starts_clean() {
    let bench = Bench::new();
    bench.register(1, SITE);
    let mut gateway = bench.gateway();
    gateway.stream(&frame(1, 1)[..100], &bench.env()).expect("fine");
    gateway.stream_ended(&bench.env()).expect("one slip is forgiven");
    assert_eq!(bench.counters.unreadable[FrameError::Truncated.index()].get(), 1);
    gateway.stream(&frame(1, 1), &bench.env()).expect("fine");
    assert_eq!(bench.received(1), 1);
    // A sensor has no stream at all.
    assert_eq!(bench.sensor(2).stream(&frame(2, 1), &bench.env()), Err(CloseCode::Protocol));
}

#[test]
fn what_a_gateway_may_not_say_is_refused_for_each_frame_and_in_the_end_for_good() {
    let bench = Bench::new();
    bench.register(1, SITE);
    bench.register(2, ELSEWHERE);
    let mut gateway = bench.gateway();
    for sequence in 1..=u64::from(REFUSED_FRAMES_MAX) {
        let both = [frame(1, sequence), frame(2, sequence)].concat();
        gateway.stream(&both, &bench.env()).expect("within the budget");
    }
    assert_eq!((bench.received(1), bench.received(2)), (u64::from(REFUSED_FRAMES_MAX), 0));
    assert_eq!(gateway.take_refusal(), Some("not_covered"));
    assert_eq!(gateway.take_refusal(), None, "said once");
    assert_eq!(gateway.stream(&frame(2, 99), &bench.env()), Err(CloseCode::NotCovered));
}

#[test]
fn a_gateway_goes_for_the_same_reason_in_one_piece_and_in_many() {
    let mut bytes: Vec<u8> = (1..=40).flat_map(|sequence| frame(2, sequence)).collect();
    bytes.extend_from_slice(&[0xff; 40]);
    let ends_with = |chunk_bytes: usize| {
        let bench = Bench::new();
        bench.register(2, ELSEWHERE);
        let mut gateway = bench.gateway();
        let end = bytes.chunks(chunk_bytes).find_map(|chunk| gateway.stream(chunk, &bench.env()).err());
        (end, bench.counters.snapshot())
    };
    assert_eq!(ends_with(bytes.len()).0, Some(CloseCode::NotCovered));
    assert_eq!(ends_with(bytes.len()), ends_with(1));
    assert_eq!(ends_with(bytes.len()), ends_with(300));
}

#[test]
fn a_thousand_frames_in_one_datagram_are_read_up_to_the_bound_and_cost_one_refusal() {
    let bench = Bench::new();
    let mut sensor = bench.sensor(1);
    let many: Vec<u8> = (1..=1_000).flat_map(|sequence| frame(1, sequence)).collect();
    sensor.datagram(&many, &bench.env()).expect("one slip");
    assert_eq!(bench.received(1), FRAMES_PER_DATAGRAM_MAX as u64);
    let counters = bench.counters.snapshot();
    assert_eq!((counters.frames, counters.unreadable_for("too_many")), (FRAMES_PER_DATAGRAM_MAX as u64, 1));
    assert_eq!(sensor.take_refusal(), Some("too_many"));
}

#[test]
fn silence_is_measured_by_the_interval_and_dates_by_wall_time() {
    let mut bench = Bench::new();
    let mut sensor = bench.sensor(1);
    let slow = Heartbeat {
        sensor_id: SensorId::from_number(1).0,
        sequence: 1,
        interval_ms: 120_000,
        ..Heartbeat::default()
    };
    let mut bytes = Vec::new();
    write_frame(&slow, 0, &mut bytes);
    assert!(!sensor.fell_silent(bench.now.plus(Duration::from_secs(60))));
    assert!(sensor.fell_silent(bench.now.plus(Duration::from_secs(61))));
    sensor.packet(&bench.env()).expect("within the budget");
    sensor.datagram(&bytes, &bench.env()).expect("fine");
    assert!(!sensor.fell_silent(bench.now.plus(Duration::from_secs(360))));
    assert!(sensor.fell_silent(bench.now.plus(Duration::from_secs(361))));
    bench.now = bench.now.plus(Duration::from_secs(300));
    sensor.packet(&bench.env()).expect("within the budget");
    assert!(!sensor.fell_silent(bench.now.plus(Duration::from_secs(300))));
    assert_eq!(sensor.look(bench.now, UnixMillis(1_000_000)), Ok(()));
    assert_eq!(sensor.look(bench.now, UnixMillis(1_000_001)), Err(CloseCode::CertificateExpired));
}

#[test]
fn who_may_not_report_any_more_when_it_takes_its_slot_gives_it_back() {
    let bench = Bench::new();
    let id = bench.register(1, SITE);
    let slot = bench.live.find(id).expect("registered");
    let facts = bench.live.facts(slot).expect("registered");
    let inactive = SlotFacts { lifecycle: Lifecycle::PendingReactivation, ..facts };
    assert!(bench.live.set_facts(slot, inactive));
    let refused = bench.begin(PeerIdentity::Sensor(id), 1);
    assert_eq!(refused.map(|(_, began)| began), Err(CloseCode::NotActive));
    assert!(!bench.live.snapshot_of(id).expect("registered").connected);
}

#[test]
fn who_keeps_another_interval_is_told_until_it_does_not() {
    let bench = Bench::new();
    let mut sensor = bench.sensor(1);
    let later = |seconds| bench.now.plus(Duration::from_secs(seconds));
    let live = &bench.live;
    assert_eq!(sensor.should_be_told(live, 1_000, bench.now), None, "it said nothing yet");
    let mut bytes = Vec::new();
    let heartbeat = Heartbeat {
        sensor_id: SensorId::from_number(1).0,
        sequence: 1,
        interval_ms: 120_000,
        ..Heartbeat::default()
    };
    write_frame(&heartbeat, 0, &mut bytes);
    sensor.datagram(&bytes, &bench.env()).expect("fine");
    assert_eq!(sensor.should_be_told(live, 0, bench.now), None);
    assert_eq!(sensor.should_be_told(live, 120_000, bench.now), None);
    assert_eq!(sensor.should_be_told(live, 1_000, bench.now), Some(1_000));
    assert_eq!(sensor.should_be_told(live, 1_000, later(599)), None);
    assert_eq!(sensor.should_be_told(live, 2_000, later(1)), Some(2_000), "another wish is told at once");
    assert_eq!(sensor.should_be_told(live, 2_000, later(601)), Some(2_000), "the last word had no effect");
    assert_eq!(sensor.should_be_told(live, 2_000, later(602)), None);

    // What its policy says goes before what all are told.
    let handle = live.find(SensorId::from_number(1)).expect("registered");
    let policy = PolicyIndex(7);
    live.set_wanted_interval(policy, 60_000);
    assert_eq!(sensor.should_be_told(live, 2_000, later(603)), None, "that is nobody's policy yet");
    let facts = live.facts(handle).expect("registered");
    assert!(live.set_facts(handle, SlotFacts { policy, ..facts }));
    assert_eq!(sensor.should_be_told(live, 2_000, later(604)), Some(60_000));
    live.set_wanted_interval(policy, 120_000);
    assert_eq!(sensor.should_be_told(live, 2_000, later(605)), None, "it does already");
}

/// Whatever arrives, in whatever pieces: no panic, and a hostile peer is out after its budget.
#[test]
fn arbitrary_bytes_end_in_a_refusal() {
    for seed in 1..=40_u64 {
        let bench = Bench::new();
        bench.register(2, SITE);
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let mut sensor = bench.sensor(1);
        let mut refused = None;
        for round in 0..2_000 {
            let mut bytes = frame(1 + round % 2, round);
            for _ in 0..random(4) {
                let place = random(FRAME_HEADER_BYTES + 40);
                bytes[place] = random(256) as u8;
            }
            bytes.truncate(random(bytes.len() + 1));
            if let Err(code) = sensor.datagram(&bytes, &bench.env()) {
                refused = Some(code);
                break;
            }
        }
        assert!(refused.is_some(), "seed {seed}");
        let mut gateway = bench.gateway();
        let mut over = false;
        for _ in 0..2_000 {
            let bytes: Vec<u8> = (0..random(300)).map(|_| random(256) as u8).collect();
            over |= gateway.stream(&bytes, &bench.env()).is_err();
        }
        assert!(over, "seed {seed}");
    }
}

/// Another certificate of the same peer.
fn leaf(identity: PeerIdentity, issuer: &[u8]) -> Leaf {
    Leaf {
        identity,
        serial: Serial::from_be_bytes(&[2]).expect("a serial"),
        not_before: UnixMillis(0),
        not_after: UnixMillis(2_000_000),
        issuer: IssuerMark::of_name(issuer),
    }
}

#[test]
fn a_sensor_is_brought_to_what_is_wanted_and_its_slot_knows_what_it_holds() {
    let bench = Bench::new();
    let mut sensor = bench.sensor(1);
    let (unix, issuer) = (UnixMillis(1), IssuerMark::of_name(b"the next one"));
    let held = || bench.live.snapshot_of(SensorId::from_number(1)).map(|seen| seen.cert_issuer);
    assert_eq!(held(), Some(IssuerMark::of_name(b"an authority").short()));
    let newer = Wanted { trust_generation: 2, issuer: None };
    assert_eq!(sensor.needs(newer, bench.now, unix), None, "nothing is known before its first heartbeat");
    let mut bytes = Vec::new();
    let heartbeat = Heartbeat {
        sensor_id: SensorId::from_number(1).0,
        sequence: 1,
        interval_ms: 1_000,
        trust_generation: 1,
        ..Heartbeat::default()
    };
    write_frame(&heartbeat, 0, &mut bytes);
    sensor.datagram(&bytes, &bench.env()).expect("fine");
    assert_eq!(sensor.needs(newer, bench.now, unix), Some(false));
    let both = Wanted { issuer: Some(issuer), ..newer };
    assert_eq!(sensor.needs(both, bench.now, unix), Some(true));

    let stranger = leaf(PeerIdentity::Sensor(SensorId::from_number(2)), b"the next one");
    assert!(!sensor.kept(2, Some(&stranger), &bench.env()));
    let own = leaf(PeerIdentity::Sensor(SensorId::from_number(1)), b"the next one");
    assert!(sensor.kept(2, Some(&own), &bench.env()));
    assert_eq!(held(), Some(issuer.short()));
    // Which bundle it uses only its heartbeats say.
    assert_eq!(sensor.needs(both, bench.now, unix), Some(false));
}

#[test]
fn a_gateway_is_told_of_a_bundle_once_and_not_again_when_it_comes_back() {
    let bench = Bench::new();
    let mut gateway = bench.gateway();
    let unix = UnixMillis(1);
    let wanted = |trust_generation| Wanted { trust_generation, issuer: None };
    assert_eq!(gateway.needs(wanted(1), bench.now, unix), None, "no bundle is older than the first");
    assert_eq!(gateway.needs(wanted(2), bench.now, unix), Some(false));
    assert!(gateway.kept(2, None, &bench.env()));
    let id = GatewayId::from_number(1);
    let index = bench.live.find_gateway(id).expect("registered");
    let known = || bench.live.gateway_snapshot(index).map(|seen| (seen.trust_generation, seen.cert_issuer));
    let issuer = IssuerMark::of_name(b"an authority").short();
    assert_eq!(known(), Some((2, issuer)));
    let mut again = bench.begin(PeerIdentity::Gateway(id), 10).expect("registered").0;
    assert_eq!(known(), Some((2, issuer)));
    assert_eq!(again.needs(wanted(2), bench.now, unix), None);
    assert_eq!(again.needs(wanted(3), bench.now, unix), Some(false));
    // The connection before has nothing to say any more.
    assert!(gateway.kept(9, None, &bench.env()));
    assert_eq!(known(), Some((2, issuer)));
}
