//! What live state is told: policies and quiet times of all levels, after any commands, and after a restart.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::fleet::{Mute, Overrides, Place, Sensor};
use crate::health::{Layer, PolicyPatch, Setting, lay};
use crate::live::{Lifecycle, PolicyIndex, SensorType, SlotFacts};
use crate::time::{ManualClock, UnixMillis};
use crate::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};

const SILENCE: (&str, &str) = ("no-traffic", "silence_after");

struct Bench {
    fleet: FleetService,
    store: Arc<Store>,
    _dir: tempfile::TempDir,
}

fn open(store: &Arc<Store>, at: i64) -> FleetService {
    let loaded = store.register.load().expect("a register");
    let live = Arc::new(LiveState::with_capacity(64));
    let defaults = Defaults::default();
    let (register, position) = (loaded.register, loaded.position);
    let clock = Arc::new(ManualClock::new(UnixMillis(at)));
    FleetService::new(register, position, Arc::clone(store), live, defaults, clock).expect("room")
}

fn sensor(n: u64) -> SensorId {
    SensorId::from_number(n)
}

fn add(n: u64, zone: u64) -> Command {
    Command::AddSensor {
        id: sensor(n),
        zone: ZoneId::from_number(zone),
        name: format!("sensor {n}"),
        kind: SensorType::OtCloud,
        lifecycle: Lifecycle::Active,
    }
}

/// Two sites of two zones of one sensor each; the number of a zone is that of its sensor.
fn ground() -> Vec<Command> {
    let subscription = SubscriptionId::from_number(1);
    let mut commands = vec![Command::AddSubscription { id: subscription, name: "Contoso".into() }];
    for site in 1..=2 {
        let id = SiteId::from_number(site);
        commands.push(Command::AddSite { id, subscription, name: format!("site {site}") });
        for zone in [2 * site - 1, 2 * site] {
            let (id, site) = (ZoneId::from_number(zone), id);
            commands.push(Command::AddZone { id, site, name: format!("zone {zone}") });
            commands.push(add(zone, zone));
        }
    }
    commands
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Arc::new(Store::open(dir.path()).expect("a store"));
        let fleet = open(&store, 0);
        let bench = Bench { fleet, store, _dir: dir };
        bench.give(&ground());
        bench
    }

    fn give(&self, commands: &[Command]) {
        self.give_at(commands, 0);
    }

    fn give_at(&self, commands: &[Command], at: i64) {
        self.fleet.apply(commands, Actor::system("test"), UnixMillis(at)).expect("done");
    }

    fn facts(&self, n: u64) -> SlotFacts {
        let live = &self.fleet.live;
        live.facts(live.find(sensor(n)).expect("a slot")).expect("facts")
    }

    fn traffic(&self, n: u64) -> f64 {
        let table = self.fleet.policies();
        table.get(self.facts(n).policy).value(Setting::named(SILENCE.0, SILENCE.1).expect("known"))
    }

    fn muted(&self) -> Vec<u64> {
        (1..=4).filter(|&n| self.facts(n).muted).collect()
    }
}

fn numbers(value: f64) -> Overrides {
    let mut numbers = PolicyPatch::new();
    numbers.set_named(SILENCE.0, SILENCE.1, value).expect("in range");
    Overrides { numbers, interval: None }
}

fn say(place: Place, policy: Overrides) -> Command {
    Command::SetPolicy { place, policy }
}

fn site(n: u64) -> Place {
    Place::Site(SiteId::from_number(n))
}

#[test]
fn the_nearest_level_says_it_and_equal_results_share_an_index() {
    let bench = Bench::new();
    assert_eq!((bench.facts(1).policy, bench.fleet.policies_count()), (PolicyIndex(0), 1));
    bench.give(&[
        say(Place::Subscription(SubscriptionId::from_number(1)), numbers(100.0)),
        say(site(1), numbers(200.0)),
        say(Place::Zone(ZoneId::from_number(2)), numbers(300.0)),
        say(Place::Sensor(sensor(3)), numbers(200.0)),
    ]);
    assert_eq!([1, 2, 3, 4].map(|n| bench.traffic(n)), [200.0, 300.0, 200.0, 100.0]);
    assert_eq!(bench.facts(1).policy, bench.facts(3).policy);
    assert_eq!(bench.fleet.policies_count(), 4);

    let why = bench.fleet.numbers_at(Place::Sensor(sensor(2))).expect("a sensor");
    let number = why.numbers.iter().find(|number| number.from != Layer::Default).expect("said");
    assert_eq!(
        (number.from, number.value, number.default, number.setting.key()),
        (Layer::Zone, 300.0, 900.0, "silence_after")
    );
    assert!(why.numbers.iter().filter(|number| number.from != Layer::Default).count() == 1);
    assert!(bench.fleet.numbers_at(Place::Sensor(sensor(77))).is_none());

    // Moved and born, they have the numbers of their place; nobody says anything any more, and one policy is left.
    bench.give(&[Command::MoveSensor { id: sensor(4), zone: ZoneId::from_number(2) }, add(5, 1)]);
    assert_eq!((bench.traffic(4), bench.traffic(5)), (300.0, 200.0));
    let silent = Overrides::default;
    bench.give(&[
        say(Place::Subscription(SubscriptionId::from_number(1)), silent()),
        say(site(1), silent()),
        say(Place::Zone(ZoneId::from_number(2)), silent()),
        say(Place::Sensor(sensor(3)), silent()),
    ]);
    assert!((1..=5).all(|n| bench.facts(n).policy == PolicyIndex(0)));
    assert_eq!(bench.fleet.policies_count(), 1);
}

#[test]
fn an_interval_goes_to_whoever_keeps_the_connection_and_silence_follows_it() {
    let bench = Bench::new();
    let interval = Some(Duration::from_secs(120));
    bench.give(&[say(site(2), Overrides { interval, ..Overrides::default() })]);
    let live = &bench.fleet.live;
    let wanted = |n| live.wanted_interval(live.find(sensor(n)).expect("a slot"));
    assert_eq!([1, 2, 3, 4].map(wanted), [0, 0, 120_000, 120_000]);
    let table = bench.fleet.policies();
    let policy = table.get(bench.facts(3).policy);
    let snapshot = live.snapshot_of(sensor(3)).expect("a sensor");
    // Three of the asked intervals, though it never said that it keeps them; by itself it would be five minutes.
    assert_eq!(crate::health::rules::silence_window(&snapshot, policy), Duration::from_secs(360));
    let why = bench.fleet.numbers_at(Place::Sensor(sensor(3))).expect("a sensor");
    assert_eq!((why.interval, why.interval_from), (Duration::from_secs(120), Layer::Site));
}

#[test]
fn an_index_is_used_again_only_when_the_sweep_knows_that_it_was_given_back() {
    let bench = Bench::new();
    let of_sensor = |value| [say(Place::Sensor(sensor(1)), numbers(value))];
    let swept = bench.fleet.take_policies();
    bench.give(&of_sensor(100.0));
    let first = bench.facts(1).policy;
    assert!(!swept.knows(first), "a sweep that is under way leaves the sensor alone");
    bench.give(&of_sensor(200.0));
    bench.give(&of_sensor(300.0));
    assert_eq!([first, bench.facts(1).policy], [PolicyIndex(1), PolicyIndex(3)]);
    assert!(!bench.fleet.take_policies().knows(first));
    bench.give(&of_sensor(400.0));
    assert_eq!(bench.facts(1).policy, first);
    assert_eq!(bench.fleet.policies_count(), 2);
}

#[test]
fn one_policy_too_many_is_refused_before_anything_is_written() {
    let bench = Bench::new();
    bench.fleet.shown().policies.most = 3;
    let of_sensors = |values: [f64; 3]| -> Vec<Command> {
        let say = |(n, value)| say(Place::Sensor(sensor(n)), numbers(value));
        (1..).zip(values).map(say).collect()
    };
    let written = *bench.fleet.lock();
    let many = of_sensors([100.0, 200.0, 300.0]);
    let refused = bench.fleet.apply(&many, Actor::system("test"), UnixMillis(0)).expect_err("too many");
    assert!(matches!(refused, CommandError::Full(NoRoom::Policies(PoliciesFull))), "{refused}");
    assert!(refused.to_string().contains("the same numbers"), "{refused}");
    assert_eq!(*bench.fleet.lock(), written);
    assert!((1..=3).all(|n| bench.facts(n).policy == PolicyIndex(0)));
    bench.give(&of_sensors([100.0, 200.0, 200.0]));
    assert_eq!(bench.fleet.policies_count(), 3);
    // Also what a level above makes of those below counts.
    let subscription = Place::Subscription(SubscriptionId::from_number(1));
    let interval = Some(Duration::from_secs(1));
    let above = [say(subscription, Overrides { interval, ..Overrides::default() })];
    let refused = bench.fleet.apply(&above, Actor::system("test"), UnixMillis(0));
    assert!(matches!(refused, Err(CommandError::Full(NoRoom::Policies(PoliciesFull)))));
}

#[test]
fn quiet_times_begin_and_end_by_the_second_also_after_a_restart_and_a_move() {
    let mut bench = Bench::new();
    let window = |place, from, until| Command::AddWindow {
        place,
        from: UnixMillis(from),
        until: UnixMillis(until),
        reason: "pump".into(),
    };
    let mute = Mute { until: Some(UnixMillis(5_000)), reason: "noise".into() };
    bench.give_at(
        &[
            window(site(1), 1_000, 3_000),
            Command::SetMute { place: Place::Sensor(sensor(4)), mute: Some(mute) },
        ],
        10,
    );
    assert_eq!(bench.muted(), [4]);
    bench.fleet.quiet_tick(UnixMillis(999));
    assert_eq!(bench.muted(), [4]);
    bench.fleet.quiet_tick(UnixMillis(1_000));
    assert_eq!(bench.muted(), [1, 2, 4]);
    // Out of the quiet site, and into it.
    let to = |n, zone| Command::MoveSensor { id: sensor(n), zone: ZoneId::from_number(zone) };
    bench.give_at(&[to(1, 3), to(3, 1)], 1_500);
    assert_eq!(bench.muted(), [2, 3, 4]);

    bench.fleet = open(&bench.store, 2_000);
    assert_eq!(bench.muted(), [2, 3, 4]);
    bench.fleet.quiet_tick(UnixMillis(3_000));
    assert_eq!(bench.muted(), [4]);
    bench.fleet.quiet_tick(UnixMillis(60_000));
    assert_eq!(bench.muted(), [0; 0]);
    // The wall clock was set back into the window.
    bench.fleet.quiet_tick(UnixMillis(2_500));
    assert_eq!(bench.muted(), [2, 3, 4]);
    bench.give_at(&[Command::SetMute { place: Place::Sensor(sensor(4)), mute: None }], 2_600);
    assert_eq!(bench.muted(), [2, 3]);

    // Started with a clock that ran ahead, which is then set right.
    bench.fleet = open(&bench.store, 60_000);
    assert_eq!(bench.muted(), [0; 0]);
    bench.fleet.quiet_tick(UnixMillis(2_700));
    assert_eq!(bench.muted(), [2, 3]);
    // A change by a clock that is set back before a sweep comes.
    bench.fleet.clock = Arc::new(ManualClock::new(UnixMillis(8_000)));
    bench.give_at(&[window(site(2), 7_000, 9_000)], 8_000);
    assert_eq!(bench.muted(), [1, 2, 3, 4]);
    bench.fleet.quiet_tick(UnixMillis(2_800));
    assert_eq!(bench.muted(), [2, 3]);
    bench.fleet.quiet_tick(UnixMillis(7_000));
    assert_eq!(bench.muted(), [1, 4]);
}

#[test]
fn a_change_is_dated_when_its_turn_comes() {
    let mut bench = Bench::new();
    let clock = Arc::new(ManualClock::new(UnixMillis(1_000)));
    bench.fleet.clock = Arc::clone(&clock) as _;
    let mute = |until| Command::SetMute {
        place: Place::Sensor(sensor(4)),
        mute: Some(Mute { until: Some(UnixMillis(until)), reason: "noise".into() }),
    };
    let fleet = &bench.fleet;
    let made = std::thread::scope(|scope| {
        let turn = fleet.lock();
        let waiting = scope.spawn(|| fleet.apply(&[mute(9_000)], Actor::system("test"), UnixMillis(1_000)));
        clock.step_unix(500);
        drop(turn);
        waiting.join().expect("no panic")
    });
    assert_eq!(made.expect("done").at, UnixMillis(1_500));
    // What is over by then is not begun.
    let late = fleet.apply(&[mute(1_400)], Actor::system("test"), UnixMillis(1_000));
    assert!(matches!(late, Err(CommandError::Refused(_))), "{late:?}");
}

/// What one wants to see, said in the plainest way.
fn expected(fleet: &FleetService, sensor: &Sensor, now: i64) -> (Policy, bool) {
    let register = fleet.register();
    let zone = register.zone(sensor.zone).expect("a zone");
    let site = register.site(zone.site).expect("a site");
    let subscription = register.subscription(site.subscription).expect("a subscription");
    let levels = [&subscription.policy, &site.about.policy, &zone.policy, &sensor.more.policy];
    let layers = [Layer::Subscription, Layer::Site, Layer::Zone, Layer::Sensor];
    let patches: Vec<_> = layers.into_iter().zip(levels.map(|level| &level.numbers)).collect();
    let mut policy = lay(&Policy::default(), &patches).0;
    for interval in levels.iter().filter_map(|level| level.interval) {
        policy = policy.with_interval(interval);
    }
    let now = UnixMillis(now);
    (policy, sensor.more.quiet.holds(now) || site.about.quiet.holds(now))
}

fn command() -> impl Strategy<Value = Command> {
    let place = || {
        (0..4u8, 1..5u64).prop_map(|(kind, n)| match kind {
            0 => Place::Subscription(SubscriptionId::from_number(1)),
            1 => Place::Site(SiteId::from_number(1 + n % 2)),
            2 => Place::Zone(ZoneId::from_number(n)),
            _ => Place::Sensor(sensor(n)),
        })
    };
    let policy = (prop::option::of(1..4u32), prop::option::of(1..3u64)).prop_map(|(value, interval)| {
        let said = value.map_or_else(Overrides::default, |value| numbers(f64::from(value) * 100.0));
        Overrides { interval: interval.map(Duration::from_secs), ..said }
    });
    let time = || (0..10_000i64).prop_map(UnixMillis);
    let mute = prop::option::of(prop::option::of(time()))
        .prop_map(|mute| mute.map(|until| Mute { until, reason: "".into() }));
    prop_oneof![
        4 => (place(), policy).prop_map(|(place, policy)| say(place, policy)),
        1 => (1..5u64, 1..5u64).prop_map(|(n, zone)| add(n, zone)),
        2 => (1..5u64, 1..5u64)
            .prop_map(|(n, zone)| Command::MoveSensor { id: sensor(n), zone: ZoneId::from_number(zone) }),
        1 => (10..30u64, 1..5u64).prop_map(|(n, zone)| add(n, zone)),
        1 => (10..30u64).prop_map(|n| Command::DeleteSensor { id: sensor(n) }),
        1 => (1..5u64).prop_map(|n| Command::DeleteZone { id: ZoneId::from_number(n) }),
        1 => (1..5u64).prop_map(|n| Command::AddZone {
            id: ZoneId::from_number(n),
            site: SiteId::from_number(1),
            name: format!("zone {n}"),
        }),
        2 => (place(), mute).prop_map(|(place, mute)| Command::SetMute { place, mute }),
        2 => (place(), time(), time()).prop_map(|(place, from, until)| Command::AddWindow {
            place, from, until, reason: "".into(),
        }),
        1 => (place(), 1..3u32).prop_map(|(place, id)| Command::RemoveWindow { place, id }),
    ]
}

fn check(fleet: &FleetService, now: i64) -> Result<(), TestCaseError> {
    let (register, table) = (fleet.register(), fleet.policies());
    let mut different: HashSet<Policy> = [Policy::default()].into();
    for zone in register.zones() {
        let bare = Sensor { id: sensor(99), zone: zone.id, ..template() };
        different.insert(expected(fleet, &bare, now).0);
    }
    for sensor in register.sensors() {
        let (policy, muted) = expected(fleet, sensor, now);
        let facts = fleet.live.facts(fleet.live.find(sensor.id).expect("a slot")).expect("facts");
        prop_assert!(table.knows(facts.policy));
        prop_assert_eq!(table.get(facts.policy), &policy);
        prop_assert_eq!(facts.muted, muted);
        different.insert(policy);
    }
    prop_assert_eq!(fleet.policies_count(), different.len());
    Ok(())
}

fn template() -> Sensor {
    Sensor {
        id: sensor(0),
        zone: ZoneId::from_number(0),
        name: "".into(),
        kind: SensorType::OtCloud,
        lifecycle: Lifecycle::Active,
        more: Arc::default(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn after_any_commands_live_state_has_what_the_register_says(
        groups in prop::collection::vec(
            (prop::collection::vec((command(), prop_oneof![Just(0), 0..600i64]), 1..5), 0..600i64),
            1..25,
        ),
    ) {
        let bench = Bench::new();
        let mut now = 0;
        for (commands, pass) in groups {
            for (command, stale) in commands {
                // What is refused changes nothing, which is looked at too. A stale one was dated, then waited for the
                // disk, and meanwhile a sweep came.
                let _ = bench.fleet.apply(&[command], Actor::system("test"), UnixMillis(now - stale));
                check(&bench.fleet, now)?;
            }
            now += pass;
            bench.fleet.quiet_tick(UnixMillis(now));
            let _ = bench.fleet.take_policies();
            check(&bench.fleet, now)?;
        }
        let again = open(&bench.store, now);
        check(&again, now)?;
    }
}
