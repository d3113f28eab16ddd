//! Dashboards and alert rules against the one table of metrics and the catalogue of rules, without a Prometheus.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fleetpulse::export::sensors::sensor_families;
use fleetpulse::export::table::{self, Family, Kind};
use fleetpulse::health::{CATALOGUE, Rule, RuleId, Severity};
use serde_json::Value;

/// The folder with what people load into Grafana and Prometheus.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

fn file(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// Title and expression of every query of the dashboard.
pub fn dashboard_queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&file("fleetpulse.json")).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((
                panel["title"].as_str().unwrap().to_owned(),
                target["expr"].as_str().unwrap().to_owned(),
            ));
        }
    }
    assert!(queries.len() > 80, "{}", queries.len());
    queries
}

/// Name and expression of every alert. Each expression stands on one line, in single quotes.
pub fn alerts() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for name in ["alerts-messages.yaml", "alerts-server.yaml"] {
        let text = file(name);
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            let Some(alert) = line.strip_prefix("- alert: ") else { continue };
            let expr = lines.next().unwrap().strip_prefix("expr: '").unwrap_or_else(|| panic!("{alert}"));
            all.push((alert.to_owned(), expr.strip_suffix('\'').unwrap().replace("''", "'")));
        }
    }
    all
}

/// A family by the name of one of its series.
fn family_of(series: &str) -> Option<&'static Family> {
    let all = || table::families().chain(sensor_families());
    let exact = all().find(|family| family.name == series && !matches!(family.kind, Kind::Histogram(_)));
    exact.or_else(|| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| series.strip_suffix(suffix))?;
        all().find(|family| family.name == base && matches!(family.kind, Kind::Histogram(_)))
    })
}

/// What Prometheus itself adds or makes.
const OF_PROMETHEUS: [&str; 1] = ["up"];
const LABELS_OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

/// Everything that is wrong with the names in an expression.
pub fn wrong(expr: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut used: Vec<&'static Family> = Vec::new();
    for (at, word) in words(expr) {
        let rest = &expr[at + word.len()..];
        let is_metric = ["fleetpulse_", "process_"].iter().any(|prefix| word.starts_with(prefix));
        if !is_metric && !OF_PROMETHEUS.contains(&word) {
            continue;
        }
        let family = family_of(word);
        if is_metric && family.is_none() {
            wrong.push(format!("there is no {word}"));
        }
        used.extend(family);
        let matchers = rest.strip_prefix('{').map_or("", |rest| rest.split_once('}').unwrap().0);
        wrong.extend(
            matchers
                .split(',')
                .filter(|text| !text.is_empty())
                .filter_map(|text| wrong_matcher(family, word, text)),
        );
    }
    for list in ["by (", "without (", "on (", "on(", "ignoring(", "ignoring ("] {
        for (at, _) in expr.match_indices(list) {
            let labels = expr[at + list.len()..].split_once(')').unwrap().0;
            for label in labels.split(',').map(str::trim).filter(|label| !label.is_empty()) {
                let known =
                    LABELS_OF_PROMETHEUS.contains(&label) || used.iter().any(|family| has(family, label));
                if !known {
                    wrong.push(format!("no metric here has the label {label}"));
                }
            }
        }
    }
    wrong
}

fn has(family: &Family, label: &str) -> bool {
    family.labels.iter().any(|known| known.name == label)
        || label == "le" && matches!(family.kind, Kind::Histogram(_))
}

fn wrong_matcher(family: Option<&'static Family>, metric: &str, text: &str) -> Option<String> {
    let at = text.find(['=', '!']).unwrap_or_else(|| panic!("{text}"));
    let (label, rest) = text.split_at(at);
    let operator: String = rest.chars().take_while(|c| "=!~".contains(*c)).collect();
    let value = rest[operator.len()..].trim_matches('"');
    if LABELS_OF_PROMETHEUS.contains(&label) {
        return None;
    }
    let family = family?;
    if label == "le"
        && let Kind::Histogram(bounds) = family.kind
    {
        // A whole number is `1` in classic text and `1.0` in OpenMetrics: a pattern names both.
        let is_bound = |text: &str| {
            let bound = text.replace("[.]", ".").parse::<f64>();
            text == "+Inf" || bounds.iter().any(|&us| bound == Ok(us as f64 / 1_000_000.0))
        };
        let known = value.split('|').all(is_bound);
        return (!known).then(|| format!("{metric} has no bucket {value}"));
    }
    let Some(known) = family.labels.iter().find(|known| known.name == label) else {
        return Some(format!("{metric} has no label {label}"));
    };
    let values = (known.values)();
    let alternatives = if operator.contains('~') { value.split('|').collect() } else { vec![value] };
    let unknown = alternatives.into_iter().find(|value| !values.is_empty() && !values.contains(value))?;
    Some(format!("{metric}: {label} is never {unknown}"))
}

/// Identifiers, with where they begin; not those in quotes.
fn words(expr: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let (mut quoted, mut begin) = (false, None);
    for (at, c) in expr.char_indices().chain([(expr.len(), ' ')]) {
        let inside = !quoted && (c.is_ascii_alphanumeric() || c == '_');
        match (inside, begin) {
            (true, None) => begin = Some(at),
            (false, Some(from)) => {
                words.push((from, &expr[from..at]));
                begin = None;
            }
            _ => {}
        }
        quoted ^= c == '"';
    }
    words
}

#[test]
fn the_check_finds_what_is_wrong() {
    let one = |expr: &str| wrong(expr).join("; ");
    assert_eq!(one("sum(fleetpulse_sensor)"), "there is no fleetpulse_sensor");
    assert_eq!(one("fleetpulse_ingest_lag_seconds"), "there is no fleetpulse_ingest_lag_seconds");
    assert_eq!(one("fleetpulse_sensors{state=\"ill\"}"), "fleetpulse_sensors: state is never ill");
    assert_eq!(one("fleetpulse_sensors{site=\"a\"}"), "fleetpulse_sensors has no label site");
    assert_eq!(one("sum by (code) (fleetpulse_sensors)"), "no metric here has the label code");
    assert_eq!(
        one("fleetpulse_sweep_duration_seconds_bucket{le=\"1\"}"),
        "fleetpulse_sweep_duration_seconds has no bucket 1".replace("seconds has", "seconds_bucket has")
    );
    assert_eq!(
        one("up{job=\"x\"} == 0 and sum by (type) (fleetpulse_sensors{state=~\"healthy|local\"})"),
        ""
    );
}

#[test]
fn every_name_in_dashboards_and_alerts_is_in_the_table() {
    let mut all = Vec::new();
    for (title, expr) in dashboard_queries().into_iter().chain(alerts()) {
        all.extend(wrong(&expr).into_iter().map(|wrong| format!("{title}: {wrong}")));
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn panels_have_their_own_ids_places_and_words() {
    let dashboard: Value = serde_json::from_str(&file("fleetpulse.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for x in place("x")..place("x") + place("w") {
            assert!(x < 24, "{title} stands out");
            for y in place("y")..place("y") + place("h") {
                assert!(cells.insert((x, y)), "{title} covers another panel");
            }
        }
        let row = panel["type"] == "row";
        assert!(row || panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}");
    }
    let rows: Vec<_> = panels.iter().filter(|panel| panel["type"] == "row").collect();
    assert_eq!(
        rows.iter().map(|row| row["title"].as_str().unwrap()).collect::<Vec<_>>(),
        ["Fleet health", "Ingest", "Engine"]
    );
}

#[test]
fn alerts_say_what_it_means_and_what_to_do() {
    for name in ["alerts-messages.yaml", "alerts-server.yaml"] {
        let text = file(name);
        let alerts = text.matches("- alert: ").count();
        assert!(alerts > 0);
        for needed in ["expr: ", "for: ", "severity: ", "summary: ", "description: ", "runbook: "] {
            assert_eq!(text.matches(&format!(" {needed}")).count(), alerts, "{name}: {needed}");
        }
    }
    let names: Vec<_> = alerts().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "each name once");
}

/// The alerts about the fleet are made from the catalogue; `FLEETPULSE_UPDATE=1` writes the file anew.
#[test]
fn alerts_about_the_fleet_are_the_catalogue() {
    let path = folder().join("alerts-messages.yaml");
    let made = made_from_the_catalogue();
    if std::env::var_os("FLEETPULSE_UPDATE").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap();
    assert_eq!(there, made, "run this test with FLEETPULSE_UPDATE=1 to write {} anew", path.display());
    for rule in CATALOGUE.iter().filter(|rule| rule.severity != Severity::Lifecycle) {
        assert!(alerts().iter().any(|(_, expr)| expr.contains(&format!("code=\"{}\"", rule.code))));
    }
    assert!(RuleId::from_code("no-traffic").is_some());
}

fn made_from_the_catalogue() -> String {
    let mut text = "\
# Alerts about the fleet: one for each rule of the catalogue that is critical or a warning, made from it by a test
# (dashboards.rs), so their words are those of the API. A message is raised and cleared with hysteresis by the server
# itself, so nothing is waited for here. Messages of muted sensors raise no alert. Alerts about the server are in
# alerts-server.yaml.
groups:
  - name: fleetpulse-messages
    rules:
"
    .to_owned();
    for rule in CATALOGUE.iter().filter(|rule| rule.severity != Severity::Lifecycle) {
        text.push_str(&alert(rule));
    }
    text
}

fn alert(rule: &Rule) -> String {
    let camel: String =
        rule.code.split('-').map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect();
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let (code, severity) = (rule.code, rule.severity.as_str());
    let subjects = match rule.subject.as_str() {
        "sensor" => "sensors",
        "gateway" => "gateways",
        _ => "sites",
    };
    let expr = format!(
        "fleetpulse_messages_active{{code=\"{code}\"}} - fleetpulse_messages_active_muted{{code=\"{code}\"}} > 0"
    );
    let summary = format!("{}: {{{{ $value }}}} {subjects} of {{{{ $labels.instance }}}}", rule.title);
    let runbook = format!("{} Which ones: GET /api/v1/messages?code={code}", rule.recommendation);
    let lines = [
        format!("      - alert: Fleetpulse{camel}"),
        format!("        expr: {}", quoted(&expr)),
        "        for: 0m".to_owned(),
        "        labels:".to_owned(),
        format!("          severity: {severity}"),
        "        annotations:".to_owned(),
        format!("          summary: {}", quoted(&summary)),
        format!("          description: {}", quoted(rule.text)),
        format!("          runbook: {}", quoted(&runbook)),
    ];
    lines.join("\n") + "\n"
}
