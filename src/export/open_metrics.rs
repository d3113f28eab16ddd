//! OpenMetrics 1.0 text, from the same families that the classic text is written from.
//!
//! It differs in little, and each difference matters to a strict parser: a family is named without `_total` or
//! `_info`, units have lines, quotes are escaped in help too, integers stay integers, and the page says where
//! it ends.

use std::fmt::Write as _;

use prometheus::proto::{LabelPair, MetricFamily, MetricType};

use super::table::{self, Kind};

/// The whole page.
pub fn write(families: &[MetricFamily]) -> String {
    let mut page = String::with_capacity(64 * 1_024);
    for family in families {
        write_family(&mut page, family);
    }
    page.push_str("# EOF\n");
    page
}

fn write_family(page: &mut String, family: &MetricFamily) {
    let row = table::family(family.name());
    let name = row.map_or(family.name(), |row| row.open_metrics_name());
    let kind = match (family.get_field_type(), row.map(|row| row.kind)) {
        (_, Some(Kind::Info)) => "info",
        (MetricType::COUNTER, _) => "counter",
        (MetricType::HISTOGRAM, _) => "histogram",
        (MetricType::GAUGE, _) => "gauge",
        _ => "unknown",
    };
    put(page, format_args!("# TYPE {name} {kind}\n"));
    if let Some(unit) = row.map(|row| row.unit).filter(|unit| !unit.is_empty()) {
        put(page, format_args!("# UNIT {name} {unit}\n"));
    }
    page.push_str("# HELP ");
    page.push_str(name);
    page.push(' ');
    escape(page, family.help());
    page.push('\n');
    for metric in family.get_metric() {
        let labels = metric.get_label();
        match family.get_field_type() {
            MetricType::COUNTER => {
                sample(page, name, "_total", labels, None, metric.get_counter().get_value());
            }
            MetricType::HISTOGRAM => {
                let histogram = metric.get_histogram();
                for bucket in histogram.get_bucket() {
                    let bound = Some(number(bucket.upper_bound()));
                    sample(page, name, "_bucket", labels, bound, bucket.cumulative_count() as f64);
                }
                let count = histogram.get_sample_count() as f64;
                sample(page, name, "_bucket", labels, Some("+Inf".to_owned()), count);
                sample(page, name, "_count", labels, None, count);
                sample(page, name, "_sum", labels, None, histogram.get_sample_sum());
            }
            _ => {
                let suffix = if kind == "info" { "_info" } else { "" };
                sample(page, name, suffix, labels, None, metric.get_gauge().get_value());
            }
        }
    }
}

fn sample(
    page: &mut String,
    name: &str,
    suffix: &str,
    labels: &[LabelPair],
    bound: Option<String>,
    value: f64,
) {
    page.push_str(name);
    page.push_str(suffix);
    let pairs = labels.iter().map(|pair| (pair.name(), pair.value()));
    let pairs = pairs.chain(bound.as_deref().map(|bound| ("le", bound)));
    let mut open = '{';
    for (label, text) in pairs {
        page.push(open);
        page.push_str(label);
        page.push_str("=\"");
        escape(page, text);
        page.push('"');
        open = ',';
    }
    if open == ',' {
        page.push('}');
    }
    page.push(' ');
    page.push_str(&number(value));
    page.push('\n');
}

/// As the classic text has it, so that a bucket is the same series in both. (Where a reader compares bounds as
/// text it wants `1.0` and not `1`; powers of two of a microsecond are never whole seconds.)
fn number(value: f64) -> String {
    if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        value.to_string()
    }
}

/// Backslash, line feed and double quote, in label values and help alike.
fn escape(page: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => page.push_str("\\\\"),
            '\n' => page.push_str("\\n"),
            '"' => page.push_str("\\\""),
            other => page.push(other),
        }
    }
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a string does not fail.
    let _ = page.write_fmt(text);
}
