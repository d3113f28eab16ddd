//! The one table of metrics: name, type, unit, meaning and labels of every family on `/metrics`. Families are
//! built from its rows, and dashboards and alert rules are checked against it; what is not here is not
//! exported.
//!
//! Every label has its list of values here, so the most series that there can ever be is a sum over the table,
//! and a test holds it against [`METRICS_SERIES_MAX`](crate::limits::METRICS_SERIES_MAX). No sensor, site,
//! address or free text is ever a label.

use std::sync::OnceLock;

use super::buckets::{DELAY_BOUNDS_US, LAG_BOUNDS_US, SWEEP_BOUNDS_US};
use crate::health::{CATALOGUE, Cause, OverallState, Severity, SupportState};
use crate::ingest::{CountersSnapshot, EnrolOutcome, HANDSHAKE_FAILURES};
use crate::live::{Lifecycle, Observed, SensorType};
use crate::wire::close::CloseCode;
use crate::wire::frame::FrameError;

/// Type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only ever rises, but for a restart. Its name ends in `_total`.
    Counter,
    /// A value now.
    Gauge,
    /// A one that carries facts in its labels. Its name ends in `_info`.
    Info,
    /// Counts by upper bound; these are the bounds in microseconds.
    Histogram(&'static [u64]),
}

/// A label and every value that it can have.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values; none = any, which only the per-sensor page has.
    pub values: fn() -> Vec<&'static str>,
    /// Follows from another label of the same family, so it makes no more series.
    pub follows: bool,
}

impl Label {
    /// A label without a list of values.
    pub(super) const fn any(name: &'static str) -> Label {
        Label::new(name, Vec::new)
    }

    pub(super) const fn new(name: &'static str, values: fn() -> Vec<&'static str>) -> Label {
        Label { name, values, follows: false }
    }
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Family {
    /// Name in classic text, and in queries.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Base unit; empty for counts and states. A name with a unit ends in it (before `_total`).
    pub unit: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Its labels.
    pub labels: &'static [Label],
}

impl Family {
    /// Series that it has at most.
    pub fn series_max(&self) -> usize {
        let combinations: usize =
            self.labels.iter().filter(|label| !label.follows).map(|label| (label.values)().len()).product();
        let each = match self.kind {
            // The bounds, +Inf, sum and count.
            Kind::Histogram(bounds) => bounds.len() + 3,
            Kind::Counter | Kind::Gauge | Kind::Info => 1,
        };
        combinations * each
    }

    /// Its name without the suffix that OpenMetrics gives to samples instead of families.
    pub fn open_metrics_name(&self) -> &'static str {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram(_) => "",
        };
        self.name.strip_suffix(suffix).unwrap_or(self.name)
    }
}

const TYPE: Label = Label::new("type", || SensorType::ALL.iter().map(|kind| kind.as_str()).collect());
const STATE: Label = Label::new("state", || OverallState::ALL.iter().map(|state| state.as_str()).collect());
const LIFECYCLE: Label =
    Label::new("lifecycle", || Lifecycle::ALL.iter().map(|state| state.as_str()).collect());
const SUPPORT: Label =
    Label::new("support", || SupportState::ALL.iter().map(|state| state.as_str()).collect());
const CODE: Label = Label::new("code", || CATALOGUE.iter().map(|rule| rule.code).collect());
const CAUSE: Label = Label::new("cause", || Cause::ALL.iter().map(|cause| cause.as_str()).collect());
const OUTCOME: Label = Label::new("outcome", || Observed::ALL.iter().map(|what| what.label()).collect());
const CLOSE_REASON: Label = Label::new("reason", || CloseCode::ALL.iter().map(|code| code.label()).collect());
const FRAME_REASON: Label = Label::new("reason", || FrameError::LABELS.to_vec());
const HANDSHAKE_REASON: Label = Label::new("reason", || HANDSHAKE_FAILURES.to_vec());
const ENROLMENT: Label = Label::new("outcome", || EnrolOutcome::all().map(EnrolOutcome::label).collect());
const CHECK: Label = Label::new("check", || CHECKS.to_vec());
const FILE: Label = Label::new("file", || STORE_FILES.to_vec());
const ROUTE: Label = Label::new("route", || ROUTES.to_vec());
const STATUS: Label = Label::new("status", || STATUS_CLASSES.to_vec());
const VERSION: Label = Label::new("version", || vec![env!("CARGO_PKG_VERSION")]);
const SEVERITY_OF_CODE: Label = Label {
    name: "severity",
    values: || Severity::ALL.iter().map(|severity| severity.as_str()).collect(),
    follows: true,
};

/// What readiness checks.
pub const CHECKS: [&str; 5] = ["store", "journal", "shards", "sweep", "drain"];
/// Parts of the store on disk.
pub const STORE_FILES: [&str; 4] = ["register", "journal", "checkpoint", "history"];
/// Resources of the HTTP interface, as they are counted.
pub const ROUTES: &[&str] = &[
    "livez",
    "readyz",
    "metrics",
    "sensor_metrics",
    "engine",
    "messages",
    "message_history",
    "sensor",
    "sensor_series",
    "sensors",
    "sensor_events",
    "message_events",
    "subscriptions",
    "sites",
    "zones",
    "gateways",
    "fleet",
    "openapi",
    "docs",
    "policy",
    "quiet",
    "sensor_steps",
    "activation",
    "bulk",
    "import",
    "jobs",
    "endpoints",
    "signature",
    "setup_page",
    "setup",
    "session",
    "oidc",
    "oidc_callback",
    "password",
    "users",
    "user",
    "tokens",
    "token",
    "audit",
    "backups",
    "enrolment_attempts",
    "other",
];
/// Classes of HTTP status.
pub const STATUS_CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

macro_rules! families {
    ($($id:ident = $kind:expr, $name:literal, $unit:literal, [$($label:expr),*], $help:literal;)+) => {
        $(#[doc = $help] pub static $id: Family = Family {
            name: $name,
            kind: $kind,
            unit: $unit,
            help: $help,
            labels: &[$($label),*],
        };)+

        /// The rows that are written here, in order.
        static WRITTEN: &[&Family] = &[$(&$id),+];
    };
}

use Kind::{Counter, Gauge, Histogram, Info};

families! {
    BUILD_INFO = Info, "fleetpulse_build_info", "", [VERSION], "The program; always 1.";
    READY = Gauge, "fleetpulse_ready", "", [], "1 when every check of /readyz passes.";
    READY_CHECK = Gauge, "fleetpulse_ready_check", "", [CHECK], "1 when this check of /readyz passes.";

    SENSORS = Gauge, "fleetpulse_sensors", "", [TYPE, STATE], "Sensors by type and state, muted ones not counted.";
    SENSORS_MUTED = Gauge, "fleetpulse_sensors_muted", "", [TYPE, STATE], "Muted sensors by type and state.";
    SENSORS_BY_LIFECYCLE = Gauge, "fleetpulse_sensors_by_lifecycle", "", [LIFECYCLE], "Sensors by lifecycle, muted ones included.";
    SENSORS_BY_SUPPORT = Gauge, "fleetpulse_sensors_by_support", "", [SUPPORT], "Sensors by support of their software version, muted ones included.";
    HEALTH_SCORE = Gauge, "fleetpulse_health_score_ratio", "ratio", [], "Share of the sensors that can be judged which count as healthy. Absent while there is none.";
    REGISTER_OBJECTS = Gauge, "fleetpulse_register_objects", "", [OBJECT], "Objects in the register, by kind.";

    MESSAGES_ACTIVE = Gauge, "fleetpulse_messages_active", "", [CODE, SEVERITY_OF_CODE], "Active health messages, those of muted sensors included.";
    MESSAGES_ACTIVE_MUTED = Gauge, "fleetpulse_messages_active_muted", "", [CODE, SEVERITY_OF_CODE], "Active health messages of muted sensors.";
    MESSAGES_RAISED = Counter, "fleetpulse_messages_raised_total", "", [CODE, SEVERITY_OF_CODE], "Health messages raised and taken by the journal's queue.";
    MESSAGES_CLEARED = Counter, "fleetpulse_messages_cleared_total", "", [CODE, SEVERITY_OF_CODE], "Health messages cleared and taken by the journal's queue.";
    MESSAGES_FOLDED = Gauge, "fleetpulse_messages_folded", "", [], "Active messages that a site's message covers.";
    RULES_UNKNOWN = Gauge, "fleetpulse_rules_unknown", "", [CODE], "Sensors and gateways for which this rule can't be judged now.";

    DOUBT_SECONDS = Counter, "fleetpulse_doubt_seconds_total", "seconds", [CAUSE], "Time for which the engine distrusted itself.";
    DOUBT_INTERVALS = Counter, "fleetpulse_doubt_intervals_total", "", [CAUSE], "Times that the engine began to distrust itself.";
    DOUBT_LASTING = Gauge, "fleetpulse_doubt_lasting", "", [CAUSE], "1 while the engine distrusts itself for this cause.";
    DOUBT_BUDGET = Gauge, "fleetpulse_doubt_budget_seconds", "seconds", [], "Doubt that may still move deadlines.";
    DOUBT_EXHAUSTED = Gauge, "fleetpulse_doubt_exhausted", "", [], "1 while deadlines stand in spite of doubt, because its budget is spent.";

    SWEEPS = Counter, "fleetpulse_sweeps_total", "", [], "Sweeps made.";
    SWEEP_DURATION = Histogram(&SWEEP_BOUNDS_US), "fleetpulse_sweep_duration_seconds", "seconds", [], "How long sweeps took.";
    SWEEP_AGE = Gauge, "fleetpulse_sweep_age_seconds", "seconds", [], "Time since the last sweep began.";
    SWEEP_CADENCE = Gauge, "fleetpulse_sweep_cadence_seconds", "seconds", [], "Promised longest time between two sweeps.";
    SWEEP_LOOKED_AT = Counter, "fleetpulse_sweep_looked_at_total", "", [], "Slots looked at closely, because they changed or were due.";
    SWEEP_BUSY = Counter, "fleetpulse_sweep_busy_total", "", [], "Slots left for the next sweep, because a writer kept getting between.";
    DETECTION_DELAY = Histogram(&DELAY_BOUNDS_US), "fleetpulse_detection_delay_seconds", "seconds", [], "How long after its deadline a silence was raised.";
    TRANSITIONS_WAITING = Gauge, "fleetpulse_transitions_waiting", "", [], "Raised and cleared messages that the journal's queue has not taken yet.";

    JOURNAL_WRITTEN = Counter, "fleetpulse_journal_written_total", "", [], "Transitions made durable.";
    JOURNAL_KNOWN = Counter, "fleetpulse_journal_known_total", "", [], "Transitions that the journal had already.";
    JOURNAL_FAILURES = Counter, "fleetpulse_journal_failures_total", "", [], "Tries to write the journal that failed.";
    JOURNAL_PENDING = Gauge, "fleetpulse_journal_pending", "", [], "Transitions in the batch that is being written.";
    JOURNAL_FAILING = Gauge, "fleetpulse_journal_failing", "", [], "1 while the journal can't be written.";
    CHECKPOINT_WRITTEN = Counter, "fleetpulse_checkpoint_written_total", "", [], "Checkpoints of live state written.";
    CHECKPOINT_FAILURES = Counter, "fleetpulse_checkpoint_failures_total", "", [], "Checkpoints that could not be written.";
    CHECKPOINT_FAILING = Gauge, "fleetpulse_checkpoint_failing", "", [], "1 while checkpoints can't be written.";
    CHECKPOINT_TIME = Gauge, "fleetpulse_checkpoint_last_timestamp_seconds", "seconds", [], "When the last checkpoint was written, Unix time. Absent before the first.";
    CHECKPOINT_BYTES = Gauge, "fleetpulse_checkpoint_bytes", "bytes", [], "Size of the last checkpoint.";
    HISTORY_WRITTEN = Counter, "fleetpulse_history_blocks_total", "", [], "History blocks written.";
    HISTORY_FAILURES = Counter, "fleetpulse_history_failures_total", "", [], "Tries to write a history block that failed.";
    HISTORY_DROPPED = Counter, "fleetpulse_history_dropped_blocks_total", "", [], "History blocks given up because too many waited for the disk.";
    HISTORY_FAILING = Gauge, "fleetpulse_history_failing", "", [], "1 while history can't be written.";
    HISTORY_DAMAGED = Counter, "fleetpulse_history_damaged_blocks_total", "", [], "Damaged history blocks met.";
    STORE_WRITABLE = Gauge, "fleetpulse_store_writable", "", [], "1 when the last try to write to the data directory succeeded in time.";
    STORE_PROBE_SECONDS = Gauge, "fleetpulse_store_probe_seconds", "seconds", [], "How long the last try to write to the data directory took, to the disk.";
    STORE_BYTES = Gauge, "fleetpulse_store_bytes", "bytes", [FILE], "Size of the store on disk, by part.";
    STORE_FREE = Gauge, "fleetpulse_store_free_bytes", "bytes", [], "Room left for us on the disk of the data directory.";

    LIVE_SLOTS = Gauge, "fleetpulse_live_slots", "", [], "Slots of live state ever used; a sweep scans so many.";
    LIVE_SLOTS_MAX = Gauge, "fleetpulse_live_slots_max", "", [], "Sensors that live state has room for.";
    LIVE_BUSY = Counter, "fleetpulse_live_snapshots_busy_total", "", [], "Reads of a slot given up, because a writer kept getting between.";
    LIVE_GATEWAYS = Gauge, "fleetpulse_live_gateways", "", [], "Indices of gateways ever used; those of deleted gateways are free again after a restart.";
    LIVE_GATEWAYS_REFUSED = Counter, "fleetpulse_live_gateways_refused_total", "", [], "Gateways that could not be added, because no index was left.";

    TRUST_GENERATION = Gauge, "fleetpulse_trust_generation", "", [], "Generation of the trust bundle that sensors and gateways should hold.";
    TRUST_PEERS = Gauge, "fleetpulse_trust_peers", "", [HOLDS], "Sensors and gateways with a certificate, by what they proved to hold: all of today (current), the bundle alone, or less.";

    INGEST_LAG = Histogram(&LAG_BOUNDS_US), "fleetpulse_ingest_lag_seconds", "seconds", [], "From the receipt of a batch of packets to the end of its handling, by frame.";
    INGEST_CLOSED = Counter, "fleetpulse_ingest_closed_total", "", [CLOSE_REASON], "Connections closed by the server, by reason.";
    INGEST_UNREADABLE = Counter, "fleetpulse_ingest_unreadable_total", "", [FRAME_REASON], "Frames that could not be read, by reason.";
    INGEST_OBSERVED = Counter, "fleetpulse_ingest_observed_total", "", [OUTCOME], "Frames that were read, by what became of them.";
    INGEST_HANDSHAKE_FAILURES = Counter, "fleetpulse_ingest_handshake_failures_total", "", [HANDSHAKE_REASON], "Handshakes that failed, by reason.";
    INGEST_RESUMED = Counter, "fleetpulse_ingest_resumed_total", "", [], "Handshakes that resumed a session: half the price of a full one.";
    INGEST_SHARDS = Gauge, "fleetpulse_ingest_shards", "", [], "Ingest threads, the enrolment port's included.";
    INGEST_SHARDS_ALIVE = Gauge, "fleetpulse_ingest_shards_alive", "", [], "Ingest threads that run and turn.";
    ENROLMENT_PACKETS = Counter, "fleetpulse_enrolment_packets_total", "", [], "UDP datagrams received on the enrolment port.";
    ENROLMENT_HANDSHAKES = Counter, "fleetpulse_enrolment_handshakes_total", "", [], "Handshakes completed on the enrolment port.";
    ENROLMENT_DROPS = Counter, "fleetpulse_enrolment_kernel_drops_total", "", [], "Packets of the enrolment port that the kernel dropped because the receive buffer was full.";
    ENROLMENTS = Counter, "fleetpulse_enrolments_total", "", [ENROLMENT], "Connections to the enrolment port, by how they ended: a certificate, a refusal, no whole request.";

    HTTP_CONNECTIONS = Gauge, "fleetpulse_http_connections", "", [], "HTTP connections now.";
    HTTP_ACCEPTED = Counter, "fleetpulse_http_connections_total", "", [], "HTTP connections accepted.";
    HTTP_EVICTED = Counter, "fleetpulse_http_evicted_total", "", [], "HTTP connections closed to make room for a new one.";
    HTTP_REQUESTS = Counter, "fleetpulse_http_requests_total", "", [ROUTE, STATUS], "HTTP requests answered, by resource and class of status.";
    HTTP_BUSY = Counter, "fleetpulse_http_busy_total", "", [], "HTTP requests refused because all workers were busy.";

    PROCESS_CPU = Counter, "process_cpu_seconds_total", "seconds", [], "Total user and system CPU time spent in seconds.";
    PROCESS_OPEN_FDS = Gauge, "process_open_fds", "", [], "Number of open file descriptors.";
    PROCESS_MAX_FDS = Gauge, "process_max_fds", "", [], "Maximum number of open file descriptors.";
    PROCESS_VIRTUAL = Gauge, "process_virtual_memory_bytes", "bytes", [], "Virtual memory size in bytes.";
    PROCESS_RESIDENT = Gauge, "process_resident_memory_bytes", "bytes", [], "Resident memory size in bytes.";
    PROCESS_START = Gauge, "process_start_time_seconds", "seconds", [], "Start time of the process since unix epoch in seconds.";
    PROCESS_THREADS = Gauge, "process_threads", "", [], "Number of OS threads in the process.";
}

const HOLDS: Label = Label::new("holds", || TRUST_HOLDS.to_vec());
/// What a peer can hold of the authority.
pub const TRUST_HOLDS: [&str; 3] = ["current", "older-certificate", "older-bundle"];

const OBJECT: Label = Label::new("kind", || REGISTER_OBJECT_KINDS.to_vec());
/// Kinds of objects in the register.
pub const REGISTER_OBJECT_KINDS: [&str; 6] =
    ["subscription", "site", "zone", "sensor", "gateway", "deleted_sensor"];

/// Families of the plain ingest counts, in the order of [`CountersSnapshot::plain`]: each count that ingest
/// has is exported without being named a second time.
pub fn ingest() -> &'static [Family] {
    static ROWS: OnceLock<Vec<Family>> = OnceLock::new();
    ROWS.get_or_init(|| {
        let plain = CountersSnapshot::default().plain();
        plain.into_iter().map(|(name, help, gauge, _)| ingest_family(name, help, gauge)).collect()
    })
}

/// Made once in the life of a process, so its name may as well live for ever.
fn ingest_family(name: &str, help: &'static str, gauge: bool) -> Family {
    let suffix = if gauge { "" } else { "_total" };
    let unit = if name == "bytes" || name.ends_with("_bytes") { "bytes" } else { "" };
    Family {
        name: Box::leak(format!("fleetpulse_ingest_{name}{suffix}").into_boxed_str()),
        kind: if gauge { Kind::Gauge } else { Kind::Counter },
        unit,
        help,
        labels: &[],
    }
}

/// Every family.
pub fn families() -> impl Iterator<Item = &'static Family> {
    WRITTEN.iter().copied().chain(ingest())
}

/// The family of a name.
pub fn family(name: &str) -> Option<&'static Family> {
    families().find(|family| family.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::METRICS_SERIES_MAX;
    use std::collections::HashSet;

    #[test]
    fn all_labels_at_their_most_stay_within_the_limit() {
        let most: usize = families().map(Family::series_max).sum();
        assert!(most <= METRICS_SERIES_MAX, "{most} series");
    }

    #[test]
    fn names_follow_the_conventions() {
        let mut names = HashSet::new();
        for family in families() {
            let Family { name, kind, unit, help, labels } = family;
            assert!(names.insert(name), "{name} twice");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
            assert!(name.starts_with("fleetpulse_") || name.starts_with("process_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert_eq!(*kind == Kind::Info, name.ends_with("_info"), "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
            assert!(["", "seconds", "bytes", "ratio"].contains(unit), "{name}: base units only");
            let bare = family.open_metrics_name();
            assert!(unit.is_empty() || bare.ends_with(unit), "{name} ends in its unit");
            for unit_name in ["seconds", "bytes", "ratio"] {
                assert_eq!(bare.ends_with(&format!("_{unit_name}")), *unit == unit_name, "{name}: {unit}");
            }
            assert!(!["_bucket", "_sum", "_count", "_created"].iter().any(|s| bare.ends_with(s)), "{name}");
            for label in *labels {
                let values = (label.values)();
                let different: HashSet<_> = values.iter().collect();
                assert!(!values.is_empty() && different.len() == values.len(), "{name}: {}", label.name);
            }
            if let Kind::Histogram(bounds) = kind {
                assert!(bounds.is_sorted() && *unit == "seconds", "{name}");
            }
        }
    }

    #[test]
    fn a_severity_stands_beside_its_code() {
        for family in families().filter(|family| family.labels.iter().any(|label| label.follows)) {
            assert!(family.labels.iter().any(|label| label.name == "code"), "{}", family.name);
        }
    }
}
