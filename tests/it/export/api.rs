//! The JSON API over a fleet with faults that last.

use std::collections::BTreeSet;

use fleetpulse::health::{OverallState, RuleId, Subject};
use fleetpulse::live::SensorType;
use fleetpulse::store::{HistoryAccumulator, Metric};
use fleetpulse::time::Clock;
use serde_json::Value;

use super::fleet::{Running, lasting};
use super::rig::{Rig, until};

/// With those of `lasting`, one of each kind of subject.
const FAULTS: &str = "
    [[fault]]
    kind = 'pending_activation'
    site = 'north'
    sensors = '12'
    [[fault]]
    kind = 'site_outage'
    site = 'harbour'
    from_s = 1
";

/// Code and subject of everything that the scenario raises.
fn expected() -> BTreeSet<(String, String)> {
    let mut all: BTreeSet<_> = [
        ("pending-activation", "north-012"),
        ("disconnected", "north-001"),
        ("disk-almost-full", "north-002"),
        ("disk-almost-full", "north-003"),
        ("disk-almost-full", "north-004"),
        ("self-test-failed", "north-004"),
        ("site-outage", "harbour"),
        ("gateway-silent", "relay"),
    ]
    .into_iter()
    .map(|(code, name)| (code.to_owned(), name.to_owned()))
    .collect();
    all.extend((1..=4).map(|n| ("disconnected".to_owned(), format!("harbour-{n:03}"))));
    all
}

fn told(page: &Value) -> Vec<(String, String)> {
    let name = |item: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{item}")).to_owned();
        (text(&item["code"]), text(&item["subject"]["name"]))
    };
    page["items"].as_array().unwrap().iter().map(name).collect()
}

/// All pages of a list, each entry as the server gave it.
fn all_pages(rig: &Rig, path: &str, limit: usize) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    for _ in 0..1_000 {
        let page = rig.get(&format!("{path}limit={limit}{cursor}"));
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        let found = page["items"].as_array().unwrap();
        assert!(found.len() <= limit);
        items.extend(found.iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
    panic!("pages without end");
}

fn names(items: &[Value]) -> BTreeSet<(String, String)> {
    told(&serde_json::json!({ "items": items })).into_iter().collect()
}

#[test]
fn the_api_tells_what_the_engine_knows() {
    let rig = Rig::start();
    let fleet = Running::start(&rig.server, &lasting(FAULTS));
    until(&(expected(), true), || {
        let page = rig.get("/api/v1/messages?limit=1000").json();
        let items = page["items"].as_array().unwrap();
        (names(items), items.iter().all(|item| item["durable"] == true))
    });
    active_messages_are_filtered_and_paged(&rig, &fleet);
    a_message_says_what_is_known(&rig, &fleet);
    a_sensor_is_shown_with_its_reasons(&rig, &fleet);
    the_history_is_the_journal(&rig, &fleet);
    the_fleet_is_counted_as_the_sweep_counts(&rig);
    a_series_comes_from_the_history(&rig, &fleet);
    single_sensors_are_scraped_in_pages(&rig, &fleet);
}

fn active_messages_are_filtered_and_paged(rig: &Rig, fleet: &Running) {
    for limit in [1, 2, 3, 7, 11, 12, 1_000] {
        let items = all_pages(rig, "/api/v1/messages?", limit);
        assert_eq!(items.len(), expected().len(), "each once, at {limit} a page");
        assert_eq!(names(&items), expected());
    }
    let check = |query: &str, wanted: &dyn Fn(&str, &str) -> bool| {
        for limit in [1, 2, 1_000] {
            let items = all_pages(rig, &format!("/api/v1/messages?{query}&"), limit);
            let right: BTreeSet<_> =
                expected().into_iter().filter(|(code, name)| wanted(code, name)).collect();
            assert_eq!(names(&items), right, "{query} at {limit}");
            assert_eq!(items.len(), right.len(), "{query} at {limit}");
        }
    };
    let register = rig.server.fleet().register();
    let site = register.sites().find(|site| &*site.name == "harbour").unwrap().id;
    let gateway = register.gateways().next().unwrap().id;
    drop(register);
    check("code=disconnected", &|code, _| code == "disconnected");
    check("severity=critical", &|code, _| {
        RuleId::from_code(code).unwrap().rule().severity.as_str() == "critical"
    });
    check("severity=warning&code=disconnected", &|_, _| false);
    check(&format!("site={site}"), &|_, name| name.starts_with("harbour"));
    check(&format!("site={site}&code=site-outage"), &|_, name| name == "harbour");
    check(&format!("gateway={gateway}"), &|_, name| name == "relay");
    check(&format!("sensor={}", fleet.sensor("north-002")), &|_, name| name == "north-002");
    let two = format!("sensor={}", fleet.sensor("north-004"));
    check(&two, &|_, name| name == "north-004");
    check(&format!("{two}&severity=warning"), &|code, name| {
        (code, name) == ("disk-almost-full", "north-004")
    });
    check(&format!("sensor={}&site={site}", fleet.sensor("north-002")), &|_, _| false);
    check(&format!("sensor={}&gateway={gateway}", fleet.sensor("north-002")), &|_, _| false);
    check("sensor=00000000-0000-4000-8000-00000000ffff", &|_, _| false);
    check("site=00000000-0000-4000-8000-00000000ffff", &|_, _| false);
}

fn a_message_says_what_is_known(rig: &Rig, fleet: &Running) {
    let page = rig.get(&format!("/api/v1/messages?sensor={}", fleet.sensor("harbour-002"))).json();
    let message = &page["items"][0];
    let rule = RuleId::Disconnected.rule();
    assert_eq!(message["title"], rule.title);
    assert_eq!(message["recommendation"], rule.recommendation);
    assert_eq!(message["site"]["name"], "harbour");
    assert_eq!(message["folded_into"], message["site"]["id"]);
    assert_eq!((&message["muted"], &message["unknown"]), (&Value::Bool(false), &Value::Bool(false)));
    let silent = &message["evidence"].as_array().unwrap()[0];
    assert!(silent["value"].as_f64().unwrap() >= silent["threshold"].as_f64().unwrap(), "{silent}");
    assert_eq!(silent["unit"], "s");
    let since = message["since"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(since <= message["raised_at"].as_str().unwrap().parse().unwrap());
}

fn a_sensor_is_shown_with_its_reasons(rig: &Rig, fleet: &Running) {
    let sensor = rig.get(&format!("/api/v1/sensors/{}", fleet.sensor("north-002"))).json();
    assert_eq!(sensor["name"], "north-002");
    assert_eq!(sensor["type"], "ot-cloud");
    assert_eq!(sensor["lifecycle"], "active");
    assert_eq!((&sensor["site"]["name"], &sensor["zone"]["name"]), (&"north".into(), &"line 1".into()));
    assert_eq!(sensor["state"], "warning");
    assert_eq!(sensor["active"], serde_json::json!(["disk-almost-full"]));
    assert_eq!(sensor["connection"]["connected"], true);
    assert!(sensor["heartbeats"]["received"].as_u64().unwrap() > 0);
    assert_eq!(sensor["reported"]["interval_seconds"], 0.5);
    assert!(sensor["reported"]["disk_ratio"]["root"].as_f64().unwrap() > 0.5);
    let rules = sensor["rules"].as_array().unwrap();
    let rule = |code: &str| rules.iter().find(|rule| rule["code"] == code).unwrap();
    assert_eq!(rule("disk-almost-full")["outcome"], "holds");
    assert_eq!(rule("disk-almost-full")["message"]["code"], "disk-almost-full");
    assert!(!rule("disk-almost-full")["evidence"].as_array().unwrap().is_empty());
    assert_eq!(rule("disconnected")["outcome"], "does-not-hold");

    let silent = rig.get(&format!("/api/v1/sensors/{}", fleet.sensor("north-001"))).json();
    assert_eq!(silent["state"], "critical");
    let rules = silent["rules"].as_array().unwrap();
    let frozen = rules.iter().find(|rule| rule["code"] == "no-traffic").unwrap();
    assert_eq!(frozen["frozen_by"], serde_json::json!(["disconnected"]));

    let behind = rig.get(&format!("/api/v1/sensors/{}", fleet.sensor("mine-001"))).json();
    assert_eq!(behind["state"], "unknown");
    assert_eq!(behind["connection"]["via_gateway"]["name"], "relay");

    let never = rig.get(&format!("/api/v1/sensors/{}", fleet.sensor("north-012"))).json();
    assert_eq!((&never["state"], &never["reported"]), (&"pending".into(), &Value::Null));

    // The one word is the sweep's, for each sensor.
    let summary = rig.server.board().summary();
    let states: Vec<Value> = fleet
        .plan
        .sensors
        .iter()
        .map(|sensor| rig.get(&format!("/api/v1/sensors/{}", sensor.id)).json()["state"].clone())
        .collect();
    for state in OverallState::ALL {
        let shown = states.iter().filter(|shown| **shown == state.as_str()).count();
        assert_eq!(shown, summary.fleet.in_state(state) as usize, "{}", state.as_str());
    }
}

fn the_history_is_the_journal(rig: &Rig, fleet: &Running) {
    let journal = rig.server.store().journal.query(&Default::default()).unwrap().entries;
    for limit in [1, 5, 1_000] {
        let items = all_pages(rig, "/api/v1/messages/history?", limit);
        let ids: Vec<String> = journal.iter().map(|(place, _)| place.to_string()).collect();
        assert_eq!(items.iter().map(|item| item["id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
    }
    let check = |query: &str, wanted: &dyn Fn(&Value) -> bool| {
        let all = all_pages(rig, "/api/v1/messages/history?", 1_000);
        let right: Vec<_> = all.into_iter().filter(|item| wanted(item)).collect();
        assert!(!right.is_empty(), "{query}");
        assert_eq!(all_pages(rig, &format!("/api/v1/messages/history?{query}&"), 2), right, "{query}");
    };
    let sensor = fleet.sensor("harbour-001");
    check(&format!("sensor={sensor}"), &|item| {
        item["subject"]["kind"] == "sensor" && item["subject"]["id"] == *sensor
    });
    check("code=disk-almost-full", &|item| item["code"] == "disk-almost-full");
    let relay = rig.server.fleet().register().gateways().next().unwrap().id.to_string();
    check(&format!("gateway={relay}"), &|item| {
        item["subject"]["kind"] == "gateway" && item["subject"]["id"] == *relay
    });
    let last = all_pages(rig, "/api/v1/messages/history?", 1_000)[0]["at"].as_str().unwrap().to_owned();
    check(&format!("from={last}"), &|item| item["at"].as_str().unwrap() >= last.as_str());
    check(&format!("until={last}"), &|item| item["at"].as_str().unwrap() < last.as_str());
    let raised = rig.get(&format!("/api/v1/messages/history?sensor={sensor}&code=disconnected")).json();
    let raised = &raised["items"][0];
    assert_eq!((&raised["kind"], &raised["severity"]), (&"raised".into(), &"critical".into()));
    assert!(raised["detection_delay_ms"].as_u64().unwrap() <= 1_000, "{raised}");
    assert_eq!(raised["site"]["name"], "harbour");
}

fn the_fleet_is_counted_as_the_sweep_counts(rig: &Rig) {
    let fleet = rig.get("/api/v1/fleet").json();
    let summary = rig.server.board().summary();
    assert_eq!(fleet["sensors"]["total"], 21);
    for kind in SensorType::ALL {
        for state in OverallState::ALL {
            let counted = &fleet["sensors"]["by_type"][kind.as_str()][state.as_str()];
            assert_eq!(*counted, summary.fleet.of(kind, state));
        }
    }
    assert_eq!(fleet["health_score"].as_f64(), summary.fleet.score());
    assert_eq!(fleet["gateways"], 1);
    assert_eq!(fleet["messages"]["active"], expected().len());
    assert_eq!(fleet["messages"]["folded"], 4);
    let outage = fleet["messages"]["by_code"].as_array().unwrap().iter();
    assert_eq!(outage.filter(|row| row["code"] == "site-outage" && row["active"] == 1).count(), 1);
    assert_eq!(fleet["doubt"]["exhausted"], false);
}

fn a_series_comes_from_the_history(rig: &Rig, fleet: &Running) {
    let server = &rig.server;
    let id = fleet.plan.sensors.iter().find(|sensor| sensor.name == "north-002").unwrap().id;
    let now = server.clock().now();
    let mut open = HistoryAccumulator::new(now.unix);
    open.sample(now, &server.live().snapshot_of(id).unwrap());
    server.store().history.append_block(&open.finish(now.unix)).unwrap();
    let series = rig.get(&format!("/api/v1/sensors/{id}/series?metric=disk-root-ratio")).json();
    let points = series["points"].as_array().unwrap();
    assert!(!points.is_empty(), "{series}");
    assert_eq!(points[0]["seconds"], 300);
    let shown = rig.get(&format!("/api/v1/sensors/{id}")).json()["reported"]["disk_ratio"]["root"].clone();
    assert_eq!(points[0]["last"], shown);
    let before = format!("/api/v1/sensors/{id}/series?metric=disk-root-ratio&until=2020-01-01T00:00:00Z");
    assert!(rig.get(&before).json()["points"].as_array().unwrap().is_empty());
    for metric in Metric::ALL {
        let path = format!("/api/v1/sensors/{id}/series?metric={}", metric.as_str());
        assert_eq!(rig.get(&path).status, 200, "{path}");
    }
    let subject = Subject::Sensor(id);
    assert!(server.judge().engine().active_message(subject, RuleId::DiskAlmostFull).is_some());
}

fn single_sensors_are_scraped_in_pages(rig: &Rig, fleet: &Running) {
    let series = |body: &str, name: &str| -> BTreeSet<String> {
        let prefix = format!("fleetpulse_sensor_{name}{{");
        body.lines().filter(|line| line.starts_with(&prefix)).map(str::to_owned).collect()
    };
    let whole = rig.get("/metrics/sensors");
    assert_eq!(whole.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(whole.header("link"), None);
    assert!(whole.body.contains("\nfleetpulse_sensor_page_sensors 21\n"), "{}", whole.body);
    assert!(whole.body.contains("\nfleetpulse_sensor_page_truncated 0\n"));
    let id = fleet.sensor("north-002");
    let labels = format!("sensor=\"{id}\",name=\"north-002\",site=\"north\",type=\"ot-cloud\"");
    assert!(whole.body.contains(&format!("\nfleetpulse_sensor_messages_warning{{{labels}}} 1\n")));
    assert!(whole.body.contains(&format!("\nfleetpulse_sensor_healthy{{{labels}}} 0\n")));

    // Following the links gives the same sensors, each once.
    let (mut path, mut connected, mut pages) =
        ("/metrics/sensors?metrics=connected,info&limit=4".to_owned(), BTreeSet::new(), 0);
    loop {
        let page = rig.get(&path);
        let found = series(&page.body, "connected");
        assert!(found.len() <= 4 && found.is_disjoint(&connected));
        connected.extend(found);
        pages += 1;
        let Some(link) = page.header("link") else { break };
        assert!(page.body.contains("\nfleetpulse_sensor_page_truncated 1\n"));
        path = link.trim_start_matches('<').split_once('>').unwrap().0.to_owned();
    }
    assert_eq!((pages, connected), (6, series(&whole.body, "connected")));

    // Filters.
    let count = |query: &str| {
        let page = rig.get(&format!("/metrics/sensors?metrics=connected&{query}"));
        assert_eq!(page.status, 200, "{page:?}");
        assert!(!page.body.contains("sensor_cpu_ratio"));
        series(&page.body, "connected").len()
    };
    let site = rig.server.fleet().register().sites().find(|site| &*site.name == "harbour").unwrap().id;
    let summary = rig.server.board().summary();
    assert_eq!(count(&format!("site={site}")), 4);
    assert_eq!(count("site=00000000-0000-4000-8000-00000000ffff"), 0);
    assert_eq!(count("type=enterprise-iot"), 2);
    assert_eq!(count("type=ot-local"), 0);
    for state in OverallState::ALL {
        let counted = summary.fleet.in_state(state) as usize;
        assert_eq!(count(&format!("state={}", state.as_str())), counted, "{}", state.as_str());
    }
    assert_eq!((1..=3).map(|part| count(&format!("part={part}/3"))).sum::<usize>(), 21);

    let open = rig.get_as("/metrics/sensors", "application/openmetrics-text");
    assert!(open.body.ends_with("# EOF\n"));
    assert_eq!(open.body.matches("# EOF").count(), 1);
}

#[test]
fn mistakes_are_answered_with_the_field_and_what_would_be_right() {
    let rig = Rig::start();
    let nobody = "00000000-0000-4000-8000-00000000ffff";
    let check = |path: &str, status: u16, code: &str, field: Option<&str>| {
        let answer = rig.get(path);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{path}");
        assert_eq!(problem["status"], status, "{path}");
        assert_eq!(problem["type"], format!("urn:fleetpulse:problem:{code}"));
        assert_eq!(problem["field"].as_str(), field, "{path}");
        assert_eq!(problem["valid"].is_string(), field.is_some(), "{path}");
        assert!(!problem["detail"].as_str().unwrap().contains(['\n', '\u{7}']), "{path}");
    };
    check("/", 404, "no-such-path", None);
    check("/api/v1", 404, "no-such-path", None);
    check("/api/v2/fleet", 404, "no-such-path", None);
    check("/api/v1/fleet/", 404, "no-such-path", None);
    check("/api/v1/fleet?x=1", 400, "unknown-parameter", Some("x"));
    check("/api/v1/messages?sensr=1", 400, "unknown-parameter", Some("sensr"));
    check("/api/v1/messages?sensor=1", 400, "bad-parameter", Some("sensor"));
    check("/api/v1/messages?site=%00", 400, "bad-parameter", Some("site"));
    check("/api/v1/messages?code=no_traffic", 400, "bad-parameter", Some("code"));
    check("/api/v1/messages?severity=bad", 400, "bad-parameter", Some("severity"));
    check("/api/v1/messages?limit=0", 400, "bad-parameter", Some("limit"));
    check("/api/v1/messages?limit=1001", 400, "bad-parameter", Some("limit"));
    check("/api/v1/messages?limit=5&limit=6", 400, "bad-parameter", Some("limit"));
    check("/api/v1/messages?cursor=x", 400, "bad-cursor", Some("cursor"));
    check("/api/v1/messages/history?cursor=x.y.z", 400, "bad-cursor", Some("cursor"));
    check("/api/v1/messages/history?from=now", 400, "bad-parameter", Some("from"));
    check(
        &format!("/api/v1/messages/history?sensor={nobody}&gateway={nobody}"),
        400,
        "bad-parameter",
        Some("gateway"),
    );
    check("/api/v1/messages/history?severity=critical", 400, "unknown-parameter", Some("severity"));
    check("/metrics/sensors?metrics=cpu", 400, "bad-parameter", Some("metrics"));
    check("/metrics/sensors?state=ill", 400, "bad-parameter", Some("state"));
    check("/metrics/sensors?type=ot", 400, "bad-parameter", Some("type"));
    check("/metrics/sensors?part=0/2", 400, "bad-parameter", Some("part"));
    check("/metrics/sensors?limit=50001", 400, "bad-parameter", Some("limit"));
    check("/metrics/sensors?cursor=1", 400, "bad-cursor", Some("cursor"));
    check("/api/v1/sensors/%20", 400, "bad-parameter", Some("id"));
    check("/api/v1/sensors/..%2f..%2fmetrics", 400, "bad-parameter", Some("id"));
    check(&format!("/api/v1/sensors/{nobody}"), 404, "not-found", None);
    check(&format!("/api/v1/sensors/{nobody}/series?metric=devices"), 404, "not-found", None);
    check(&format!("/api/v1/sensors/{nobody}/series"), 400, "bad-parameter", Some("metric"));
    check(&format!("/api/v1/sensors/{nobody}/series?metric=x"), 400, "bad-parameter", Some("metric"));
}
