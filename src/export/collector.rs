//! From figures to metric families, through the `prometheus` crate's registry.
//!
//! The families are made when a scraper asks, from one snapshot of figures, so that the numbers of one scrape
//! belong together; nothing is kept between scrapes but the process collector's own state. Cost: about
//! 1.5 µs a series, and there are fewer than a thousand whatever the fleet.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, Registry, TextEncoder};

use super::buckets::{Buckets, LAG_BOUNDS_US};
use super::figures::{Figures, Source};
use super::format::Format;
use super::open_metrics;
use super::table::{self, Family, Kind};
use crate::health::{CATALOGUE, Cause, OverallState, SupportState};
use crate::ingest::CountersSnapshot;
use crate::live::{Lifecycle, SensorType};

/// All of `/metrics`.
pub struct Exposition {
    registry: Registry,
}

impl Exposition {
    /// What `source` says, and the process's own figures.
    pub fn new(source: Arc<dyn Source>) -> Exposition {
        let registry = Registry::new();
        let collectors: [Box<dyn Collector>; 2] =
            [Box::new(FleetCollector::new(source)), Box::new(ProcessCollector::for_self())];
        for collector in collectors {
            registry.register(collector).expect("the table has each name once");
        }
        Exposition { registry }
    }

    /// The page, now.
    pub fn render(&self, format: Format) -> String {
        let families = self.registry.gather();
        match format {
            Format::Classic => {
                let mut text = Vec::with_capacity(64 * 1_024);
                // Writing into memory fails only on a family without samples, and gather leaves those out.
                if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
                    tracing::error!(%error, "metrics could not be written");
                }
                String::from_utf8_lossy(&text).into_owned()
            }
            Format::OpenMetrics => open_metrics::write(&families),
        }
    }
}

/// Makes families from figures.
struct FleetCollector {
    source: Arc<dyn Source>,
    descs: Vec<Desc>,
}

impl FleetCollector {
    fn new(source: Arc<dyn Source>) -> FleetCollector {
        let ours = table::families().filter(|family| family.name.starts_with("fleetpulse_"));
        let descs = ours
            .map(|family| {
                let labels = family.labels.iter().map(|label| label.name.to_owned()).collect();
                Desc::new(family.name.to_owned(), family.help.to_owned(), labels, Default::default())
                    .expect("names in the table are valid")
            })
            .collect();
        FleetCollector { source, descs }
    }
}

impl Collector for FleetCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let figures = self.source.figures();
        let mut out = Families::default();
        server(&mut out, &figures);
        fleet(&mut out, &figures);
        messages(&mut out, &figures);
        engine(&mut out, &figures);
        store(&mut out, &figures);
        ingest(&mut out, &figures);
        http(&mut out, &figures);
        out.0
    }
}

/// Families under construction.
#[derive(Default)]
struct Families(Vec<MetricFamily>);

impl Families {
    /// One sample of a family, with the values of its labels in the table's order.
    fn put(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        let mut metric = Metric::from_label(pairs(family, labels));
        match family.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge | Kind::Info | Kind::Histogram(_) => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.family(family).mut_metric().push(metric);
    }

    fn histogram(&mut self, family: &'static Family, buckets: &Buckets) {
        let mut histogram = Histogram::default();
        histogram.set_sample_count(buckets.count());
        histogram.set_sample_sum(buckets.sum().as_secs_f64());
        histogram.set_bucket(
            buckets
                .cumulative()
                .map(|(bound, count)| {
                    let mut bucket = Bucket::default();
                    bucket.set_upper_bound(bound);
                    bucket.set_cumulative_count(count);
                    bucket
                })
                .collect(),
        );
        let mut metric = Metric::from_label(Vec::new());
        metric.set_histogram(histogram);
        self.family(family).mut_metric().push(metric);
    }

    /// The family, begun if it is not the one written last.
    fn family(&mut self, family: &'static Family) -> &mut MetricFamily {
        if self.0.last().is_none_or(|last| last.name() != family.name) {
            let mut begun = MetricFamily::default();
            begun.set_name(family.name.to_owned());
            begun.set_help(family.help.to_owned());
            begun.set_field_type(match family.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge | Kind::Info => MetricType::GAUGE,
                Kind::Histogram(_) => MetricType::HISTOGRAM,
            });
            self.0.push(begun);
        }
        self.0.last_mut().expect("one was pushed")
    }
}

fn pairs(family: &'static Family, values: &[&str]) -> Vec<LabelPair> {
    debug_assert_eq!(family.labels.len(), values.len(), "{}", family.name);
    family
        .labels
        .iter()
        .zip(values)
        .map(|(label, value)| {
            debug_assert!((label.values)().contains(value), "{} {} {value}", family.name, label.name);
            let mut pair = LabelPair::default();
            pair.set_name(label.name.to_owned());
            pair.set_value((*value).to_owned());
            pair
        })
        .collect()
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

fn server(out: &mut Families, figures: &Figures) {
    out.put(&table::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
    out.put(&table::READY, &[], flag(figures.readiness.ready()));
    for check in &figures.readiness.checks {
        out.put(&table::READY_CHECK, &[check.name], flag(check.ok));
    }
}

fn fleet(out: &mut Families, figures: &Figures) {
    let fleet = &figures.summary.fleet;
    for (family, counts) in
        [(&table::SENSORS, &fleet.by_state), (&table::SENSORS_MUTED, &fleet.muted_by_state)]
    {
        for kind in SensorType::ALL {
            for state in OverallState::ALL {
                let count = counts[kind as usize][state as usize];
                out.put(family, &[kind.as_str(), state.as_str()], f64::from(count));
            }
        }
    }
    for state in Lifecycle::ALL {
        let count = fleet.by_lifecycle[state as usize];
        out.put(&table::SENSORS_BY_LIFECYCLE, &[state.as_str()], f64::from(count));
    }
    for support in SupportState::ALL {
        let count = fleet.by_support[support as usize];
        out.put(&table::SENSORS_BY_SUPPORT, &[support.as_str()], f64::from(count));
    }
    if let Some(score) = fleet.score() {
        out.put(&table::HEALTH_SCORE, &[], score);
    }
    let counts = &figures.register;
    let objects =
        [counts.subscriptions, counts.sites, counts.zones, counts.sensors, counts.gateways, counts.deleted];
    for (kind, count) in table::REGISTER_OBJECT_KINDS.into_iter().zip(objects) {
        out.put(&table::REGISTER_OBJECTS, &[kind], count as f64);
    }
}

fn messages(out: &mut Families, figures: &Figures) {
    let (summary, sweep) = (&figures.summary, &figures.sweep);
    let per_rule = |out: &mut Families, family: &'static Family, value: &dyn Fn(usize) -> f64| {
        for rule in &CATALOGUE {
            out.put(family, &[rule.code, rule.severity.as_str()], value(rule.id as usize));
        }
    };
    per_rule(out, &table::MESSAGES_ACTIVE, &|rule| f64::from(summary.active[rule]));
    per_rule(out, &table::MESSAGES_ACTIVE_MUTED, &|rule| f64::from(summary.active_muted[rule]));
    per_rule(out, &table::MESSAGES_RAISED, &|rule| sweep.raised[rule] as f64);
    per_rule(out, &table::MESSAGES_CLEARED, &|rule| sweep.cleared[rule] as f64);
    out.put(&table::MESSAGES_FOLDED, &[], f64::from(summary.folded));
    for rule in &CATALOGUE {
        out.put(&table::RULES_UNKNOWN, &[rule.code], f64::from(summary.unknown[rule.id as usize]));
    }
}

fn engine(out: &mut Families, figures: &Figures) {
    let doubt = &figures.summary.doubt;
    for cause in Cause::ALL {
        let total = doubt.total[cause as usize].as_secs_f64();
        out.put(&table::DOUBT_SECONDS, &[cause.as_str()], total);
    }
    for cause in Cause::ALL {
        out.put(&table::DOUBT_INTERVALS, &[cause.as_str()], f64::from(doubt.count[cause as usize]));
    }
    for cause in Cause::ALL {
        out.put(&table::DOUBT_LASTING, &[cause.as_str()], flag(doubt.lasting.contains(&cause)));
    }
    out.put(&table::DOUBT_BUDGET, &[], doubt.budget.as_secs_f64());
    out.put(&table::DOUBT_EXHAUSTED, &[], flag(doubt.exhausted));
    let sweep = &figures.sweep;
    out.put(&table::SWEEPS, &[], sweep.count as f64);
    out.histogram(&table::SWEEP_DURATION, &sweep.duration);
    if !sweep.last.is_never() {
        out.put(&table::SWEEP_AGE, &[], figures.now.mono.since(sweep.last).as_secs_f64());
    }
    out.put(&table::SWEEP_CADENCE, &[], sweep.cadence.as_secs_f64());
    out.put(&table::SWEEP_LOOKED_AT, &[], sweep.looked_at as f64);
    out.put(&table::SWEEP_BUSY, &[], sweep.busy as f64);
    out.histogram(&table::DETECTION_DELAY, &sweep.detection_delay);
    out.put(&table::TRANSITIONS_WAITING, &[], f64::from(figures.summary.waiting));
}

fn store(out: &mut Families, figures: &Figures) {
    let journal = &figures.journal;
    out.put(&table::JOURNAL_WRITTEN, &[], journal.written as f64);
    out.put(&table::JOURNAL_KNOWN, &[], journal.known as f64);
    out.put(&table::JOURNAL_FAILURES, &[], journal.failures as f64);
    out.put(&table::JOURNAL_PENDING, &[], journal.pending as f64);
    out.put(&table::JOURNAL_FAILING, &[], flag(journal.failing));
    let checkpoint = &figures.checkpoint;
    out.put(&table::CHECKPOINT_WRITTEN, &[], checkpoint.written as f64);
    out.put(&table::CHECKPOINT_FAILURES, &[], checkpoint.failures as f64);
    out.put(&table::CHECKPOINT_FAILING, &[], flag(checkpoint.failing));
    if let Some(last) = checkpoint.last {
        out.put(&table::CHECKPOINT_TIME, &[], last.0 as f64 / 1_000.0);
    }
    out.put(&table::CHECKPOINT_BYTES, &[], checkpoint.bytes as f64);
    let history = &figures.history;
    out.put(&table::HISTORY_WRITTEN, &[], history.written as f64);
    out.put(&table::HISTORY_FAILURES, &[], history.failures as f64);
    out.put(&table::HISTORY_DROPPED, &[], history.dropped as f64);
    out.put(&table::HISTORY_FAILING, &[], flag(history.failing));
    out.put(&table::HISTORY_DAMAGED, &[], history.damaged as f64);
    let store = &figures.store;
    out.put(&table::STORE_WRITABLE, &[], flag(store.writable));
    out.put(&table::STORE_PROBE_SECONDS, &[], store.probe.as_secs_f64());
    for (file, bytes) in table::STORE_FILES.into_iter().zip(store.bytes) {
        out.put(&table::STORE_BYTES, &[file], bytes as f64);
    }
    if let Some(free) = store.free_bytes {
        out.put(&table::STORE_FREE, &[], free as f64);
    }
    out.put(&table::LIVE_SLOTS, &[], f64::from(figures.live.slots));
    out.put(&table::LIVE_SLOTS_MAX, &[], f64::from(figures.live.slots_max));
    out.put(&table::LIVE_BUSY, &[], figures.live.snapshots_busy as f64);
    out.put(&table::LIVE_GATEWAYS, &[], f64::from(figures.live.gateways));
    out.put(&table::LIVE_GATEWAYS_REFUSED, &[], figures.live.gateways_refused as f64);
    let trust = &figures.trust;
    out.put(&table::TRUST_GENERATION, &[], f64::from(trust.generation));
    let older_certificate = trust.with_bundle.saturating_sub(trust.with_certificate);
    let older_bundle = trust.peers.saturating_sub(trust.with_bundle);
    let holds = [trust.with_certificate, older_certificate, older_bundle];
    for (what, peers) in table::TRUST_HOLDS.into_iter().zip(holds) {
        out.put(&table::TRUST_PEERS, &[what], peers as f64);
    }
}

fn ingest(out: &mut Families, figures: &Figures) {
    let (ingest, total) = (&figures.ingest, figures.ingest.total());
    for (family, (_, _, _, value)) in table::ingest().iter().zip(total.plain()) {
        out.put(family, &[], value as f64);
    }
    let CountersSnapshot { closed, unreadable, observed, handshake_failures, .. } = &total;
    for (family, counts) in [
        (&table::INGEST_CLOSED, closed),
        (&table::INGEST_UNREADABLE, unreadable),
        (&table::INGEST_OBSERVED, observed),
        (&table::INGEST_HANDSHAKE_FAILURES, handshake_failures),
    ] {
        for (label, count) in counts {
            out.put(family, &[label], *count as f64);
        }
    }
    let lag = &total.lag;
    let sum = std::time::Duration::from_micros(lag.sum_us);
    // Whole microseconds were counted, so "less than 2^n" is "at most 2^n - 1".
    let buckets = Buckets::from_cumulative(&LAG_BOUNDS_US, lag.count(), sum, |bound| lag.at_most(bound - 1));
    out.histogram(&table::INGEST_LAG, &buckets);
    out.put(&table::INGEST_RESUMED, &[], ingest.resumed as f64);
    out.put(&table::INGEST_SHARDS, &[], ingest.health.len() as f64);
    out.put(&table::INGEST_SHARDS_ALIVE, &[], ingest.alive(figures.now.mono) as f64);
    out.put(&table::ENROLMENT_PACKETS, &[], ingest.enrolment.packets as f64);
    out.put(&table::ENROLMENT_HANDSHAKES, &[], ingest.enrolment.handshakes as f64);
    out.put(&table::ENROLMENT_DROPS, &[], ingest.enrolment.kernel_drops as f64);
    for (outcome, count) in &ingest.enrolment.enrolments {
        out.put(&table::ENROLMENTS, &[outcome], *count as f64);
    }
}

fn http(out: &mut Families, figures: &Figures) {
    let http = &figures.http;
    out.put(&table::HTTP_CONNECTIONS, &[], http.connections as f64);
    out.put(&table::HTTP_ACCEPTED, &[], http.accepted as f64);
    out.put(&table::HTTP_EVICTED, &[], http.evicted as f64);
    for (route, counts) in table::ROUTES.iter().copied().zip(&http.requests) {
        for (status, count) in table::STATUS_CLASSES.into_iter().zip(counts) {
            out.put(&table::HTTP_REQUESTS, &[route, status], *count as f64);
        }
    }
    out.put(&table::HTTP_BUSY, &[], http.busy as f64);
}
