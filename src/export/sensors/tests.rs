//! Pages over a register and live state of a few thousand sensors.

use std::collections::HashSet;
use std::time::Duration;

use super::*;
use crate::export::format::Format;
use crate::export::table::Kind;
use crate::fleet::{Actor, Command, Register};
use crate::health::{OverallState, RuleId};
use crate::live::{
    Lifecycle, LiveState, OwnerRef, PolicyIndex, SensorType, SiteIndex, SlotFacts, SlotIndex, Writer,
};
use crate::time::{MONO_ORIGIN, Now, UnixMillis};
use crate::wire::frame::{read_frame, write_frame};
use crate::wire::heartbeat::Heartbeat;
use crate::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};

const HOSTILE: &str = "Halle \"7\" \\ מפעל";

fn now() -> Now {
    Now { mono: MONO_ORIGIN.plus(Duration::from_secs(1_000)), unix: UnixMillis(1_800_000_000_500) }
}

/// So many sensors, every third one at the second site; the first one has reported.
fn fleet(sensors: u64) -> (LiveState, Register) {
    let (live, mut register) = (LiveState::with_capacity(1 << 16), Register::new());
    let subscription = SubscriptionId::from_number(1);
    let site = |number| SiteId::from_number(number);
    let mut commands = vec![Command::AddSubscription { id: subscription, name: "S".into() }];
    for (number, name) in [(1, "north"), (2, HOSTILE)] {
        let zone = ZoneId::from_number(number);
        commands.push(Command::AddSite { id: site(number), subscription, name: name.into() });
        commands.push(Command::AddZone { id: zone, site: site(number), name: "Z".into() });
    }
    for number in 1..=sensors {
        let (id, kind, lifecycle) = (SensorId::from_number(number), SensorType::OtCloud, Lifecycle::Active);
        let second = u64::from(number.is_multiple_of(3));
        let zone = ZoneId::from_number(1 + second);
        commands.push(Command::AddSensor { id, zone, name: format!("sensor {number}"), kind, lifecycle });
        let facts = SlotFacts {
            kind,
            lifecycle,
            site: SiteIndex(second as u32),
            policy: PolicyIndex(0),
            muted: false,
        };
        live.insert(id, facts).unwrap();
    }
    for some in commands.chunks(1_000) {
        let batch = register.apply(some, Actor::system("test"), UnixMillis(0)).unwrap();
        register.fold(&batch).unwrap();
    }
    (live, register)
}

fn collect(
    live: &LiveState,
    register: &Register,
    filter: &SensorFilter,
    after: Option<SlotIndex>,
    limit: usize,
) -> SensorPage {
    SensorPage::collect(live, |job| job(register), filter, after, limit, now(), Format::Classic)
}

fn text(mut page: SensorPage) -> String {
    let mut text = Vec::new();
    while let Some(piece) = page.next_piece() {
        assert!(piece.len() < 2 * crate::limits::SENSOR_PIECE_BYTES);
        text.extend(piece);
    }
    String::from_utf8(text).unwrap()
}

fn only(names: &[&str]) -> SensorFilter {
    let metrics = SENSOR_METRICS.iter().filter(|metric| names.contains(&metric.family.name)).collect();
    SensorFilter { metrics, ..SensorFilter::default() }
}

/// The sensors that a page names, in order.
fn sensors(text: &str) -> Vec<String> {
    let id = |line: &str| line.split_once("sensor=\"").map(|(_, rest)| rest[..36].to_owned());
    text.lines().filter_map(id).collect()
}

#[test]
fn every_sensor_is_on_exactly_one_page_and_only_the_last_says_so() {
    let (live, register) = fleet(2_000);
    let filter = only(&["fleetpulse_sensor_connected"]);
    for limit in [1, 300, 1_999, 2_000, 2_001] {
        let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = collect(&live, &register, &filter, after, limit);
            let next = page.next_after();
            let text = text(page);
            assert!(
                text.contains(&format!("\nfleetpulse_sensor_page_truncated {}\n", u8::from(next.is_some())))
            );
            seen.extend(sensors(&text));
            pages += 1;
            match next {
                Some(_) => after = next,
                None => break,
            }
        }
        assert_eq!(pages, 2_000_usize.div_ceil(limit), "{limit}");
        assert_eq!(seen.len(), 2_000, "{limit}");
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 2_000, "{limit}");
    }
}

#[test]
fn filters_choose_and_parts_share_the_fleet_out() {
    let (live, register) = fleet(999);
    let base = only(&["fleetpulse_sensor_connected"]);
    let found = |filter: SensorFilter| sensors(&text(collect(&live, &register, &filter, None, 5_000)));
    assert_eq!(found(SensorFilter { site: Some(SiteIndex(1)), ..base.clone() }).len(), 333);
    assert_eq!(found(SensorFilter { site: Some(SiteIndex(9)), ..base.clone() }).len(), 0);
    assert_eq!(found(SensorFilter { kind: Some(SensorType::OtLocal), ..base.clone() }).len(), 0);
    live.set_overall(SlotIndex(7), OverallState::Critical.number());
    let critical = found(SensorFilter { state: Some(OverallState::Critical), ..base.clone() });
    assert_eq!(critical, [SensorId::from_number(8).to_string()]);
    let parts = (0..4).map(|part| found(SensorFilter { part: Some((part, 4)), ..base.clone() }));
    let parts: Vec<_> = parts.collect();
    assert!(
        parts.iter().all(|part| part.len() > 200),
        "{:?}",
        parts.iter().map(Vec::len).collect::<Vec<_>>()
    );
    assert_eq!(parts.iter().flatten().collect::<HashSet<_>>().len(), 999);
    assert_eq!(parts.iter().flatten().count(), 999);
}

#[test]
fn a_page_holds_what_the_sensor_said() {
    let (live, register) = fleet(3);
    let third = live.find(SensorId::from_number(3)).unwrap();
    let owner = OwnerRef { node: 0, shard: 0, connection: 1 };
    let epoch = live.take(third, owner, UnixMillis(1_900_000_000_000), now().mono).unwrap().epoch;
    let mut version = [0; 32];
    version[..5].copy_from_slice(b"22.\"1");
    let beat = Heartbeat {
        sensor_id: SensorId::from_number(3).0,
        sequence: 1,
        version,
        cpu_permille: 505,
        rtt_us: 1_250,
        temperature_decicelsius: -5,
        rx_bytes: u64::MAX,
        devices: 12,
        ..Heartbeat::default()
    };
    let mut frame = Vec::new();
    write_frame(&beat, 500, &mut frame);
    let (frame, _) = read_frame(&frame).unwrap();
    live.observe(third, Writer::Direct { epoch }, &frame, now().mono);
    live.set_verdict(third.index, RuleId::NoTraffic.bit() | RuleId::UnstableLink.bit(), 0);
    live.set_overall(third.index, OverallState::Critical.number());
    let page = text(collect(&live, &register, &SensorFilter::default(), None, 10));
    let labels = format!(
        "sensor=\"{}\",name=\"sensor 3\",site=\"Halle \\\"7\\\" \\\\ מפעל\",type=\"ot-cloud\"",
        SensorId::from_number(3)
    );
    let value = |name: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name}{{{labels}}} ")));
        line.map(str::to_owned)
    };
    let check = |name: &str, expected: Option<&str>| {
        assert_eq!(value(&format!("fleetpulse_sensor_{name}")).as_deref(), expected, "{name}\n{page}");
    };
    check("healthy", Some("0"));
    check("messages_critical", Some("1"));
    check("messages_warning", Some("1"));
    check("connected", Some("1"));
    check("last_heartbeat_timestamp_seconds", Some("1800000000"));
    check("heartbeats_received_total", Some("1"));
    check("delivery_ratio", Some("1"));
    check("cpu_ratio", Some("0.505"));
    check("rtt_seconds", Some("0.00125"));
    check("temperature_celsius", Some("-0.5"));
    check("captured_bytes_total", Some("9223372036854775807"));
    check("devices", Some("12"));
    check("memory_ratio", None);
    check("certificate_not_after_timestamp_seconds", Some("1900000000"));
    assert!(page.contains(&format!(
        "\nfleetpulse_sensor_info{{{labels},version=\"22.\\\"1\",profile=\"unknown\",lifecycle=\"active\"}} 1\n"
    )));
    // Those that never reported have only what is known of them.
    let silent = SensorId::from_number(1).to_string();
    assert!(
        page.lines()
            .any(|line| line.contains(&silent) && line.contains("_connected{") && line.ends_with(" 0"))
    );
    assert!(!page.lines().any(|line| line.contains(&silent) && line.contains("cpu_ratio")));
}

#[test]
fn open_metrics_differs_where_it_must() {
    let (live, register) = fleet(1);
    let mut page = SensorPage::collect(
        &live,
        |job| job(&register),
        &SensorFilter::default(),
        None,
        10,
        now(),
        Format::OpenMetrics,
    );
    let page = String::from_utf8(page.next_piece().unwrap()).unwrap();
    assert!(page.ends_with("# EOF\n"));
    assert!(page.contains("# TYPE fleetpulse_sensor info\n"));
    assert!(page.contains("# TYPE fleetpulse_sensor_heartbeats_lost counter\n"));
    assert!(page.contains("\nfleetpulse_sensor_heartbeats_lost_total{"));
    assert!(page.contains("# UNIT fleetpulse_sensor_jitter_seconds seconds\n"));
}

#[test]
fn names_follow_the_conventions() {
    let mut names = HashSet::new();
    for family in sensor_families() {
        let name = family.name;
        assert!(names.insert(name) && name.starts_with("fleetpulse_sensor_"), "{name}");
        assert_eq!(family.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        assert_eq!(family.kind == Kind::Info, name.ends_with("_info"), "{name}");
        assert!(family.help.ends_with('.') && !family.help.contains(['\n', '\\', '"']), "{name}");
        assert!(["", "seconds", "bytes", "ratio", "celsius"].contains(&family.unit), "{name}");
        assert!(family.unit.is_empty() || family.open_metrics_name().ends_with(family.unit), "{name}");
    }
}
