//! Against a naive implementation: all filters and orders, all pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::fleet::details::{Mute, Quiet, SensorMore, SiteAbout};
use crate::fleet::{Change, Edit, Overrides, Sensor, Site, SiteKind, Subscription, Zone};
use crate::health::Version;
use crate::time::UnixMillis;
use crate::wire::heartbeat::inline;
use crate::wire::id::SensorId;

const NOW: UnixMillis = UnixMillis(1_795_478_400_000);
const NAMES: [&str; 9] =
    ["Press 1", "press 2", "Straße", "STRASSE", "=cmd", "Ärzte", "pump", "pump-77", "İstanbul"];
const PLACES: [&str; 4] = ["Lyon", "lyon east", "Werk 77", "Dock"];
const VERSIONS: [&str; 8] =
    ["", "26.2.0", "26.10.1", "22.1.4.8-r-6372aad", "22.1.4.8", "garbage", "2020.11.01.1643", "26.2"];

/// A sensor with everything that a list shows of it.
#[derive(Clone, Debug)]
struct Made {
    sensor: Sensor,
    standing: Standing,
    version: &'static str,
    ti: (&'static str, TiStatus),
}

/// Three subscriptions with two sites each with two zones each; a row now and then is nobody's.
#[derive(Clone, Debug)]
struct World {
    rows: Vec<Option<Made>>,
}

impl Readings for World {
    fn standing(&self, slot: SlotIndex) -> Standing {
        self.made(slot).standing
    }

    fn version(&self, slot: SlotIndex) -> [u8; VERSION_BYTES] {
        inline(self.made(slot).version)
    }

    fn threat_intel(&self, slot: SlotIndex) -> ([u8; TI_VERSION_BYTES], TiStatus) {
        let (version, status) = self.made(slot).ti;
        (inline(version), status)
    }
}

fn site_number(zone: u64) -> u64 {
    zone / 2
}

fn subscription_number(zone: u64) -> u64 {
    zone / 4
}

fn zone_number(sensor: &Sensor) -> u64 {
    (0..12).find(|&zone| ZoneId::from_number(zone) == sensor.zone).unwrap()
}

fn place_name(number: u64) -> String {
    format!("{} {}", PLACES[number as usize % PLACES.len()], number / 4)
}

fn about(site: u64) -> SiteAbout {
    let tags = [("line", "a"), ("line", "b"), ("shift", "night")];
    let (key, value) = tags[site as usize % 3];
    let mute = (site == 3).then(|| Mute { until: None, reason: "".into() });
    SiteAbout {
        tags: BTreeMap::from([(key.into(), value.into())]),
        owners: if site.is_multiple_of(2) { vec!["Ann@example.com".into()] } else { Vec::new() },
        quiet: Quiet { mute, windows: Vec::new() },
        ..SiteAbout::default()
    }
}

impl World {
    fn made(&self, slot: SlotIndex) -> &Made {
        self.rows[slot.0 as usize].as_ref().expect("nobody asks for nobody")
    }

    fn grid(&self) -> Grid {
        fn new<T>(after: T) -> Edit<T> {
            Edit { before: None, after: Some(after) }
        }
        let mut grid = Grid::default();
        for number in 0..3 {
            let id = SubscriptionId::from_number(number);
            let name = place_name(number).into();
            grid.note(&Change::Subscription(new(Subscription { id, name, policy: Overrides::default() })));
        }
        for zone in 0..12 {
            let site = site_number(zone);
            if zone.is_multiple_of(2) {
                grid.note(&Change::Site(new(Site {
                    id: SiteId::from_number(site),
                    subscription: SubscriptionId::from_number(subscription_number(zone)),
                    name: place_name(site).into(),
                    kind: SiteKind::Ot,
                    about: Arc::new(about(site)),
                })));
            }
            grid.note(&Change::Zone(new(Zone {
                id: ZoneId::from_number(zone),
                site: SiteId::from_number(site),
                name: place_name(zone).into(),
                policy: Overrides::default(),
            })));
        }
        for (slot, made) in self.rows.iter().enumerate() {
            let slot = SlotIndex(slot as u32);
            match made {
                Some(made) => grid.set(slot, &made.sensor),
                None => grid.clear(slot),
            }
        }
        grid
    }

    /// The obvious way.
    fn naive(&self, query: &Query, scope: Scope<'_>) -> Vec<SensorId> {
        let mut found: Vec<&Made> =
            self.rows.iter().flatten().filter(|made| naive_passes(&query.filter, made, scope)).collect();
        found.sort_by(|a, b| {
            let by_key = naive_key(query.sort, a).cmp(&naive_key(query.sort, b));
            let by_key = if query.descending { by_key.reverse() } else { by_key };
            by_key.then(a.sensor.id.cmp(&b.sensor.id))
        });
        found.iter().map(|made| made.sensor.id).collect()
    }

    fn page(
        &self,
        grid: &Grid,
        query: &Query,
        scope: Scope<'_>,
        after: Option<&Mark>,
        limit: usize,
    ) -> Outcome {
        let mut search = Search::new(query, scope, after, limit, NOW).with_facets();
        while search.step(grid, self, 7) {}
        search.finish()
    }
}

fn naive_passes(filter: &Filter, made: &Made, scope: Scope<'_>) -> bool {
    let sensor = &made.sensor;
    let zone = zone_number(sensor);
    let (site, subscription) = (site_number(zone), subscription_number(zone));
    let (site_id, subscription_id) = (SiteId::from_number(site), SubscriptionId::from_number(subscription));
    let about = about(site);
    let muted = made.standing.muted || about.quiet.holds(NOW) || sensor.more.quiet.holds(NOW);
    let haystack = [
        sensor.name.to_lowercase(),
        sensor.more.notes.to_lowercase(),
        place_name(zone).to_lowercase(),
        place_name(site).to_lowercase(),
        made.version.to_lowercase(),
    ];
    let text = filter.text.to_lowercase();
    let words = text.split_whitespace().all(|word| {
        let is_version = |at: usize| at != 4 || word.contains(|c: char| c.is_ascii_digit());
        haystack.iter().enumerate().any(|(at, text)| is_version(at) && text.contains(word))
            || (word.len() >= 8 && sensor.id.to_string().contains(word))
    });
    let faulty = matches!(made.standing.overall, OverallState::Warning | OverallState::Critical);
    let fine = matches!(
        made.standing.overall,
        OverallState::Healthy | OverallState::Pending | OverallState::Stopped
    );
    let health = |health: &Health| match health {
        Health::Healthy => fine && !muted,
        Health::Unhealthy => faulty && !muted,
        Health::Unsupported => made.standing.active & RuleId::VersionUnsupported.bit() != 0,
        Health::Muted => muted,
        Health::State(state) => made.standing.overall == *state,
    };
    let listed = |any: bool, empty: bool| any || empty;
    words
        && scope(site_id, subscription_id)
        && listed(filter.sites.contains(&site_id), filter.sites.is_empty())
        && listed(filter.zones.contains(&sensor.zone), filter.zones.is_empty())
        && listed(filter.subscriptions.contains(&subscription_id), filter.subscriptions.is_empty())
        && listed(filter.kinds.contains(&sensor.kind), filter.kinds.is_empty())
        && listed(filter.lifecycles.contains(&sensor.lifecycle), filter.lifecycles.is_empty())
        && listed(filter.health.iter().any(health), filter.health.is_empty())
        && (filter.rules == 0 || filter.rules & made.standing.active != 0)
        && filter.version.as_ref().is_none_or(|test| !made.version.is_empty() && test.holds(made.version))
        && filter.tags.iter().all(|tag| {
            about.tags.iter().any(|(key, value)| {
                **key == *tag.key && tag.value.as_ref().is_none_or(|wanted| **wanted == **value)
            })
        })
        && filter
            .owner
            .as_ref()
            .is_none_or(|owner| about.owners.iter().any(|known| known.to_lowercase() == owner.to_lowercase()))
        && filter.connected.is_none_or(|wanted| wanted == made.standing.connected)
        && listed(
            filter.threat_intel_modes.contains(&sensor.more.threat_intel),
            filter.threat_intel_modes.is_empty(),
        )
        && listed(filter.threat_intel.contains(&made.ti.1), filter.threat_intel.is_empty())
}

fn naive_key(sort: SortBy, made: &Made) -> (u64, Option<Version>, String) {
    let zone = zone_number(&made.sensor);
    let number = |number: u64| (number, None, String::new());
    let text = |text: String| (0, None, text.to_lowercase());
    match sort {
        SortBy::Health => number(badness(made.standing)),
        SortBy::Name => text(made.sensor.name.to_string()),
        SortBy::Type => number(made.sensor.kind as u64),
        SortBy::Zone => text(place_name(zone)),
        SortBy::Site => text(place_name(site_number(zone))),
        SortBy::Subscription => text(place_name(subscription_number(zone))),
        SortBy::Version => (0, Version::parse(made.version), String::new()),
        SortBy::LastConnected => number(made.standing.last.0),
        SortBy::ThreatIntelVersion => (0, None, made.ti.0.to_owned()),
        SortBy::Lifecycle => number(made.sensor.lifecycle as u64),
    }
}

fn standing() -> impl Strategy<Value = Standing> {
    let rules = prop::sample::select(vec![0, 0, 1, 1 << 5, 1 << 11, 1 << 16 | 1 << 11, 1 << 17]);
    let state = prop::sample::select(OverallState::ALL.to_vec());
    (state, rules, any::<bool>(), prop::bool::weighted(0.2), 0_u64..4).prop_map(
        |(overall, active, connected, muted, last)| Standing {
            overall,
            active,
            connected,
            muted,
            last: MonoNanos(last),
        },
    )
}

fn made() -> impl Strategy<Value = Made> {
    let words = (
        prop::sample::select(NAMES.to_vec()),
        prop::sample::select(vec!["", "", "Second shelf", "77"]),
        prop::sample::select(VERSIONS.to_vec()),
        prop::sample::select(vec!["", "2026-11-24", "2026-10-01"]),
        prop::sample::select(TiStatus::ALL.to_vec()),
    );
    let facts = (
        any::<u32>(),
        0_u64..12,
        prop::sample::select(SensorType::ALL.to_vec()),
        prop::sample::select(Lifecycle::ALL[..3].to_vec()),
        prop::sample::select(ThreatIntelMode::ALL.to_vec()),
        prop::bool::weighted(0.2),
    );
    (words, facts, standing()).prop_map(
        |((name, notes, version, ti, status), (id, zone, kind, lifecycle, threat_intel, muted), standing)| {
            let mute = muted.then(|| Mute {
                until: Some(NOW.plus(std::time::Duration::from_secs(1))),
                reason: "".into(),
            });
            let more = SensorMore {
                notes: notes.into(),
                threat_intel,
                quiet: Quiet { mute, windows: Vec::new() },
                ..SensorMore::default()
            };
            let sensor = Sensor {
                id: SensorId::from_number(u64::from(id)),
                zone: ZoneId::from_number(zone),
                name: name.into(),
                kind,
                lifecycle,
                more: Arc::new(more),
            };
            Made { sensor, standing, version, ti: (ti, status) }
        },
    )
}

fn world() -> impl Strategy<Value = World> {
    prop::collection::vec(prop::option::weighted(0.9, made()), 0..60).prop_map(|mut rows| {
        // One id is one sensor.
        let mut seen = std::collections::HashSet::new();
        for row in &mut rows {
            if row.as_ref().is_some_and(|made| !seen.insert(made.sensor.id)) {
                *row = None;
            }
        }
        World { rows }
    })
}

/// Nothing most of the time, else one or two of these.
fn few<T: Clone + std::fmt::Debug + 'static>(all: Vec<T>) -> impl Strategy<Value = Vec<T>> {
    let most = all.len().min(2);
    prop_oneof![4 => Just(Vec::new()), 1 => prop::sample::subsequence(all, 1..=most)]
}

fn filter() -> impl Strategy<Value = Filter> {
    let texts =
        ["", "", "", "PRESS", "lyon 1", "77", "straße", "26.2", "6372aad", "00000000-0000", "ärzte", "x"];
    let versions = ["26.2.0", "26.2*", "2*", "<26.2", ">=26.2", "<=22.1.4.8", ">22.1", "garbage", "22.1.4.8"];
    let tags = [("line", None), ("line", Some("a")), ("shift", Some("day")), ("nothing", None)];
    let tag = |(key, value): &(&str, Option<&str>)| TagTest {
        key: (*key).to_owned(),
        value: value.map(str::to_owned),
    };
    let declared = (
        prop::sample::select(texts.map(str::to_owned).to_vec()),
        few((0..6).map(SiteId::from_number).collect()),
        few((0..12).map(ZoneId::from_number).collect()),
        few((0..3).map(SubscriptionId::from_number).collect()),
        few(SensorType::ALL.to_vec()),
        few(Lifecycle::ALL.to_vec()),
        few(tags.iter().map(tag).collect()),
        prop::option::weighted(
            0.1,
            prop::sample::select(vec!["ANN@example.com".to_owned(), "x@y".to_owned()]),
        ),
    );
    let health: Vec<Health> = Health::names().into_iter().filter_map(Health::named).collect();
    let live = (
        few(health),
        prop_oneof![4 => Just(0), 1 => prop::sample::select(vec![1_u64 << 11, 1 << 16 | 1, 1 << 40])],
        prop::option::weighted(
            0.2,
            prop::sample::select(versions.map(|text| text.parse::<VersionTest>().unwrap()).to_vec()),
        ),
        prop::option::weighted(0.2, any::<bool>()),
        few(ThreatIntelMode::ALL.to_vec()),
        few(TiStatus::ALL.to_vec()),
    );
    (declared, live).prop_map(
        |((text, sites, zones, subscriptions, kinds, lifecycles, tags, owner), live)| {
            let (health, rules, version, connected, threat_intel_modes, threat_intel) = live;
            Filter {
                text,
                sites,
                zones,
                subscriptions,
                kinds,
                lifecycles,
                health,
                rules,
                version,
                tags,
                owner,
                connected,
                threat_intel_modes,
                threat_intel,
            }
        },
    )
}

fn query() -> impl Strategy<Value = Query> {
    (filter(), prop::sample::select(SortBy::ALL.to_vec()), any::<bool>())
        .prop_map(|(filter, sort, descending)| Query { filter, sort, descending })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn pages_hold_what_the_obvious_way_finds_each_once_and_in_order(
        world in world(),
        query in query(),
        limit in 1_usize..9,
        seen_site in prop::option::weighted(0.3, 0_u64..6),
    ) {
        let scope = |site: SiteId, _: SubscriptionId| {
            seen_site.is_none_or(|seen| SiteId::from_number(seen) == site)
        };
        let grid = world.grid();
        let expected = world.naive(&query, &scope);
        let all = world.page(&grid, &query, &scope, None, usize::MAX);
        prop_assert_eq!(all.hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), expected.clone());
        prop_assert_eq!(&all.next, &None);
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = world.page(&grid, &query, &scope, after.as_ref(), limit);
            prop_assert_eq!(page.total, expected.len());
            prop_assert!(page.hits.len() <= limit);
            pages.extend(page.hits.iter().map(|hit| hit.id));
            let facets = page.facets.unwrap();
            prop_assert_eq!(facets.states.iter().sum::<u32>() as usize, expected.len());
            prop_assert_eq!(facets.sites.values().sum::<u32>() as usize, expected.len());
            prop_assert_eq!(facets.versions.values().sum::<u32>() as usize, expected.len());
            after = page.next;
            if after.is_none() {
                break;
            }
            prop_assert_eq!(page.hits.len(), limit, "only the last page is short");
        }
        prop_assert_eq!(pages, expected);
    }

    #[test]
    fn who_stays_is_on_exactly_one_page_whoever_comes_and_goes(
        world in world(),
        query in query(),
        limit in 1_usize..9,
        gone in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        come in prop::collection::vec(made(), 0..12),
    ) {
        let scope = |_: SiteId, _: SubscriptionId| true;
        let (mut now, mut came) = (world.clone(), come.into_iter());
        let mut gone = gone.into_iter();
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = now.page(&now.grid(), &query, &scope, after.as_ref(), limit);
            pages.extend(page.hits.iter().map(|hit| hit.id));
            after = page.next;
            if after.is_none() {
                break;
            }
            if let Some(gone) = gone.next() {
                let place = gone.index(now.rows.len());
                let known = |made: &Made| world.rows.iter().flatten().any(|old| old.sensor.id == made.sensor.id);
                now.rows[place] = came.next().filter(|made| !known(made));
            }
        }
        let stayed: Vec<SensorId> = world.naive(&query, &scope).into_iter()
            .filter(|id| now.rows.iter().flatten().any(|made| made.sensor.id == *id))
            .collect();
        for id in stayed {
            prop_assert_eq!(pages.iter().filter(|seen| **seen == id).count(), 1, "{:?}", id);
        }
    }
}

#[test]
fn version_filters_are_read_and_refused() {
    let holds = |test: &str, reported: &str| test.parse::<VersionTest>().unwrap().holds(reported);
    assert!(holds("22.1.4.8", "22.1.4.8-r-6372aad") && holds("22.1.4.8-r-6372aad", "22.1.4.8-r-6372aad"));
    assert!(!holds("22.1.4.8-r-1", "22.1.4.8-r-6372aad"));
    assert!(holds("26.1*", "26.1.2") && holds("26.1*", "26.1") && !holds("26.1*", "26.10.2"));
    assert!(holds("26.*", "26.10.2") && holds("<26.10", "26.9.1") && !holds("<26.10", "26.10.0"));
    assert!(holds(">=26.1", "2020.1") && !holds(">=26.1", "garbage") && holds("garbage", "garbage"));
    for bad in ["", "*", "<", ">=x", "<26", "26.1<", "a\0", &"1.".repeat(20)] {
        assert!(bad.parse::<VersionTest>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_place_that_changes_its_name_or_goes_is_seen_at_once() {
    let made = Made {
        sensor: Sensor {
            id: SensorId::from_number(1),
            zone: ZoneId::from_number(0),
            name: "one".into(),
            kind: SensorType::OtCloud,
            lifecycle: Lifecycle::Active,
            more: Sensor::plain(),
        },
        standing: Standing {
            overall: OverallState::Healthy,
            active: 0,
            connected: true,
            muted: false,
            last: MonoNanos(1),
        },
        version: "26.2.0",
        ti: ("", TiStatus::ALL[0]),
    };
    let world = World { rows: vec![Some(made.clone()), Some(made)] };
    let mut grid = world.grid();
    let query = Query { filter: Filter { text: "quay".into(), ..Filter::default() }, ..Query::default() };
    let mut search = Search::new(&query, &|_, _| true, None, 10, NOW);
    assert!(search.step(&grid, &world, 1));
    let zone = |name: &str| Zone {
        id: ZoneId::from_number(0),
        site: SiteId::from_number(0),
        name: name.into(),
        policy: Overrides::default(),
    };
    let (before, after) = (zone("Lyon 0"), zone("Quay"));
    grid.note(&Change::Zone(Edit { before: Some(before), after: Some(after) }));
    assert!(!search.step(&grid, &world, 1), "the second row sees the new name, in the same search");
    assert_eq!(search.finish().total, 1);
}
