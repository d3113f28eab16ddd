//! The alert rules against made-up series: `promtool test rules` on the files in tests/rules. What is seen here of
//! the files themselves is that they can not pass for nothing.

use std::collections::BTreeSet;
use std::path::Path;

use super::dashboards::{alerts, wrong};
use super::prometheus::promtool;

const FILES: [&str; 2] = ["messages.yaml", "server.yaml"];

fn path(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules").join(name).display().to_string()
}

/// The texts in single quotes after a key.
fn values<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    let after = |line: &'t str| line.trim().strip_prefix(key)?.strip_prefix('\'')?.strip_suffix('\'');
    text.lines().filter_map(after).collect()
}

#[test]
fn alerts_fire_on_what_they_are_for_and_on_nothing_else() {
    for name in FILES {
        let said = promtool(&["test", "rules", &path(name)], "");
        assert!(said.contains("SUCCESS"), "{name}: {said}");
    }
}

/// A series that nobody exports would let an alert be quiet for the wrong reason.
#[test]
fn the_made_up_series_are_ones_that_a_server_exports() {
    for name in FILES {
        let text = std::fs::read_to_string(path(name)).unwrap();
        let series = values(&text, "- series: ");
        assert!(series.len() > 20, "{name}");
        let wrong: Vec<_> = series.into_iter().flat_map(wrong).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    }
}

#[test]
fn every_alert_about_the_server_is_seen_to_fire() {
    let text = std::fs::read_to_string(path("server.yaml")).unwrap();
    let fired: BTreeSet<String> = values(&text, "- labels: ")
        .into_iter()
        .filter_map(|labels| Some(labels.split_once("alertname=\"")?.1.split_once('"')?.0.to_owned()))
        .collect();
    let rules = std::fs::read_to_string(super::dashboards::folder().join("alerts-server.yaml")).unwrap();
    let of_the_server = |name: &String| rules.contains(&format!("- alert: {name}\n"));
    let all: BTreeSet<_> = alerts().into_iter().map(|(name, _)| name).filter(of_the_server).collect();
    assert_eq!(fired, all);
    // And each test begins with a time at which nothing fires.
    let (tests, quiet) = (text.matches("  - name: ").count(), text.matches("exp_samples: []").count());
    assert!(quiet >= tests, "{quiet} of {tests}");
}
