//! One page: collected from live state, then written piece by piece.

use super::number::{self, ABSENT};
use super::table::{PAGE_SENSORS, PAGE_TRUNCATED, SENSOR_METRICS, Seen, SensorMetric};
use crate::export::format::Format;
use crate::export::table::{Family, Kind};
use crate::fleet::Register;
use crate::health::OverallState;
use crate::limits::SENSOR_PIECE_BYTES;
use crate::live::{LiveState, SensorType, SiteIndex, SlotFlags, SlotIndex, Snapshot};
use crate::time::Now;
use crate::wire::id::{SensorId, ZoneId};

/// Sensors that are looked up in the register under one lock.
const BATCH: usize = 256;
/// Ordinary length of one's labels.
const LABELS_BYTES: usize = 112;

/// Which sensors, and which values of them.
#[derive(Clone)]
pub struct SensorFilter {
    /// Sensors of this site.
    pub site: Option<SiteIndex>,
    /// Sensors of this type.
    pub kind: Option<SensorType>,
    /// Sensors in this state.
    pub state: Option<OverallState>,
    /// Of so many parts of the fleet this one, counted from 0. By id, so the same after a restart.
    pub part: Option<(u64, u64)>,
    /// Values; in the order of the page whatever the order here.
    pub metrics: Vec<&'static SensorMetric>,
}

impl Default for SensorFilter {
    fn default() -> SensorFilter {
        let metrics = SENSOR_METRICS.iter().collect();
        SensorFilter { site: None, kind: None, state: None, part: None, metrics }
    }
}

impl SensorFilter {
    fn wants(&self, sensor: &Snapshot) -> bool {
        let facts = &sensor.facts;
        self.site.is_none_or(|site| site == facts.site)
            && self.kind.is_none_or(|kind| kind == facts.kind)
            && self.part.is_none_or(|(part, of)| part_of(sensor.id, of) == part)
    }

    /// Asks for less than a whole slot where that decides already.
    fn may_want(&self, live: &LiveState, index: SlotIndex) -> bool {
        let state =
            self.state.is_none_or(|wanted| OverallState::from_number(live.verdict(index).overall) == wanted);
        if !state || (self.site.is_none() && self.kind.is_none() && self.part.is_none()) {
            return state;
        }
        // A slot that writers keep busy is looked at whole.
        live.occupant(index).is_none_or(|(id, facts)| {
            self.site.is_none_or(|site| site == facts.site)
                && self.kind.is_none_or(|kind| kind == facts.kind)
                && self.part.is_none_or(|(part, of)| part_of(id, of) == part)
        })
    }
}

/// Which of `of` parts a sensor belongs to: by the end of its id, which is random or counts.
fn part_of(id: SensorId, of: u64) -> u64 {
    let [.., a, b, c, d, e, f] = id.0;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f]) % of.max(1)
}

/// A page, collected.
pub struct SensorPage {
    metrics: Vec<&'static SensorMetric>,
    format: Format,
    /// `sensor="...",name="...",site="...",type="..."` of all sensors, one after the other.
    labels: Vec<u8>,
    /// Where each one's labels end.
    label_ends: Vec<u32>,
    /// What the family with facts says more; as `labels`.
    facts: Vec<u8>,
    fact_ends: Vec<u32>,
    /// For each metric the value of each sensor.
    values: Vec<Vec<i64>>,
    /// The last slot on the page, when there are more.
    next_after: Option<SlotIndex>,
    /// What is written next: metric, sensor.
    at: (usize, usize),
    ended: bool,
}

impl SensorPage {
    /// Collects at most `limit` sensors from the slot behind `after` on. `with_register` runs what it is given with
    /// the register in hand; it is called for some hundred sensors at a time, so that commands get between.
    pub fn collect(
        live: &LiveState,
        with_register: impl Fn(&mut dyn FnMut(&Register)),
        filter: &SensorFilter,
        after: Option<SlotIndex>,
        limit: usize,
        now: Now,
        format: Format,
    ) -> SensorPage {
        let mut metrics = filter.metrics.clone();
        metrics.sort_by_key(|metric| SENSOR_METRICS.iter().position(|known| std::ptr::eq(known, *metric)));
        metrics.dedup_by(|a, b| std::ptr::eq(*a, *b));
        let room = limit.min(live.sensors());
        let mut page = SensorPage {
            values: metrics.iter().map(|_| Vec::with_capacity(room)).collect(),
            metrics,
            format,
            labels: Vec::with_capacity(room * LABELS_BYTES),
            label_ends: Vec::with_capacity(room),
            facts: Vec::new(),
            fact_ends: Vec::new(),
            next_after: None,
            at: (0, 0),
            ended: false,
        };
        let with_facts = page.metrics.iter().any(|metric| metric.family.kind == Kind::Info);
        let mut batch = Vec::with_capacity(BATCH);
        let mut last = None;
        for index in matching(live, filter, after.map_or(0, |slot| slot.0.saturating_add(1))) {
            if page.label_ends.len() + batch.len() == limit {
                page.next_after = last;
                break;
            }
            let Some(sensor) = live.snapshot(index).or_else(|| live.snapshot(index)) else { continue };
            if !filter.wants(&sensor) {
                continue;
            }
            last = Some(index);
            let seen = Seen { sensor: &sensor, verdict: live.verdict(index), now };
            for (column, metric) in page.values.iter_mut().zip(&page.metrics) {
                column.push((metric.value)(&seen));
            }
            if with_facts {
                page.tell_facts(&sensor);
            }
            batch.push((sensor.id, sensor.facts.kind));
            if batch.len() == BATCH {
                with_register(&mut |register| page.label(register, &batch));
                batch.clear();
            }
        }
        with_register(&mut |register| page.label(register, &batch));
        page
    }

    /// Sensors on the page.
    pub fn sensors(&self) -> usize {
        self.label_ends.len()
    }

    /// The last slot on the page, when the filter finds more behind it.
    pub fn next_after(&self) -> Option<SlotIndex> {
        self.next_after
    }

    fn label(&mut self, register: &Register, batch: &[(SensorId, SensorType)]) {
        // Neighbours mostly stand in one zone: its site's name is copied from the one before.
        let mut before: Option<(ZoneId, std::ops::Range<usize>)> = None;
        for &(id, kind) in batch {
            let declared = register.sensor(id);
            let out = &mut self.labels;
            let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
            out.extend_from_slice(b"sensor=\"");
            let hyphenated = uuid::Uuid::from_bytes(id.0).hyphenated();
            out.extend_from_slice(hyphenated.encode_lower(&mut text).as_bytes());
            out.extend_from_slice(b"\",name=\"");
            escape(out, declared.map_or("", |declared| &declared.name));
            out.extend_from_slice(b"\",site=\"");
            match (&before, declared) {
                (_, None) => {}
                (Some((zone, name)), Some(sensor)) if *zone == sensor.zone => {
                    out.extend_from_within(name.clone());
                }
                (_, Some(sensor)) => {
                    let begin = out.len();
                    escape(out, register.site_of(sensor).map_or("", |site| &site.name));
                    before = Some((sensor.zone, begin..out.len()));
                }
            }
            out.extend_from_slice(b"\",type=\"");
            out.extend_from_slice(kind.as_str().as_bytes());
            out.push(b'"');
            self.label_ends.push(self.labels.len() as u32);
        }
    }

    /// What the family with facts says more about a sensor.
    fn tell_facts(&mut self, sensor: &Snapshot) {
        let out = &mut self.facts;
        out.extend_from_slice(b",version=\"");
        escape(out, sensor.heartbeat.version_str());
        out.extend_from_slice(b"\",profile=\"");
        out.extend_from_slice(sensor.heartbeat.profile().as_str().as_bytes());
        out.extend_from_slice(b"\",lifecycle=\"");
        out.extend_from_slice(sensor.facts.lifecycle.as_str().as_bytes());
        out.push(b'"');
        self.fact_ends.push(self.facts.len() as u32);
    }

    /// The next piece of the page; `None` at its end.
    pub fn next_piece(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return None;
        }
        let mut out = Vec::with_capacity(SENSOR_PIECE_BYTES + SENSOR_PIECE_BYTES / 8);
        while self.at.0 < self.metrics.len() {
            self.write_some(&mut out);
            if out.len() >= SENSOR_PIECE_BYTES {
                return Some(out);
            }
        }
        for (family, value) in
            [(&PAGE_SENSORS, self.sensors() as i64), (&PAGE_TRUNCATED, i64::from(self.next_after.is_some()))]
        {
            self.head(&mut out, family);
            out.extend_from_slice(family.name.as_bytes());
            out.push(b' ');
            number::write(&mut out, value, 0);
            out.push(b'\n');
        }
        if self.format == Format::OpenMetrics {
            out.extend_from_slice(b"# EOF\n");
        }
        self.ended = true;
        Some(out)
    }

    /// Lines of the current family, until it ends or the piece is full.
    fn write_some(&mut self, out: &mut Vec<u8>) {
        let (at, first) = self.at;
        let metric = self.metrics[at];
        if first == 0 {
            self.head(out, &metric.family);
        }
        let info = metric.family.kind == Kind::Info;
        let values = &self.values[at];
        for (sensor, &value) in values.iter().enumerate().skip(first) {
            if value == ABSENT {
                continue;
            }
            out.extend_from_slice(metric.family.name.as_bytes());
            out.push(b'{');
            out.extend_from_slice(part(&self.labels, &self.label_ends, sensor));
            if info {
                out.extend_from_slice(part(&self.facts, &self.fact_ends, sensor));
            }
            out.extend_from_slice(b"} ");
            number::write(out, value, metric.decimals);
            out.push(b'\n');
            if out.len() >= SENSOR_PIECE_BYTES {
                self.at = (at, sensor + 1);
                return self.skip_ended_family();
            }
        }
        self.at = (at + 1, 0);
    }

    fn skip_ended_family(&mut self) {
        if self.at.1 == self.sensors() {
            self.at = (self.at.0 + 1, 0);
        }
    }

    fn head(&self, out: &mut Vec<u8>, family: &Family) {
        let (name, kind) = match (self.format, family.kind) {
            (Format::Classic, Kind::Counter) => (family.name, "counter"),
            (Format::Classic, _) => (family.name, "gauge"),
            (Format::OpenMetrics, Kind::Counter) => (family.open_metrics_name(), "counter"),
            (Format::OpenMetrics, Kind::Info) => (family.open_metrics_name(), "info"),
            (Format::OpenMetrics, _) => (family.name, "gauge"),
        };
        let mut line =
            |parts: [&str; 5]| parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
        if self.format == Format::OpenMetrics && !family.unit.is_empty() {
            line(["# UNIT ", name, " ", family.unit, "\n"]);
        }
        line(["# HELP ", name, " ", family.help, "\n"]);
        line(["# TYPE ", name, " ", kind, "\n"]);
    }
}

/// Slots from `first` on that may be wanted.
fn matching<'a>(
    live: &'a LiveState,
    filter: &'a SensorFilter,
    first: u32,
) -> impl Iterator<Item = SlotIndex> + 'a {
    live.columns().flat_map(move |columns| {
        let skipped = (first as usize).saturating_sub(columns.first.0 as usize).min(columns.len());
        (skipped..columns.len())
            .filter(move |&place| columns.state(place).flags.has(SlotFlags::OCCUPIED))
            .map(move |place| columns.index(place))
            .filter(move |&index| filter.may_want(live, index))
    })
}

/// The text of one sensor among those of all.
fn part<'t>(text: &'t [u8], ends: &[u32], sensor: usize) -> &'t [u8] {
    let begin = sensor.checked_sub(1).map_or(0, |before| ends[before] as usize);
    &text[begin..ends[sensor] as usize]
}

/// Backslash, double quote and line feed, as both formats want them.
fn escape(out: &mut Vec<u8>, text: &str) {
    let is_special = |&byte: &u8| matches!(byte, b'\\' | b'"' | b'\n');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(is_special) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(match rest[at] {
            b'\n' => b"\\n",
            b'"' => b"\\\"",
            _ => b"\\\\",
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}
