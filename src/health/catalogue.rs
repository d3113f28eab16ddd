//! The one table of rules. Messages, metrics, alert rules, the console and the documentation are made
//! from it or checked against it; a rule that is not here does not exist.
//!
//! A rule's *predicate* lives in `rules/`; here is everything that people see and everything that can be
//! set. Times and thresholds are defaults: a policy may change each within the stated range.

use crate::health::texts;
use crate::live::SensorType;

/// How bad a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The sensor does not do its work, or nobody knows whether it does.
    Critical,
    /// It works, and somebody should look before it stops.
    Warning,
    /// A state, not a fault: counts as healthy.
    Lifecycle,
}

impl Severity {
    /// All severities, worst first.
    pub const ALL: [Severity; 3] = [Severity::Critical, Severity::Warning, Severity::Lifecycle];

    /// Its name, also the metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Lifecycle => "lifecycle",
        }
    }
}

/// What kind of thing a rule judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubjectKind {
    /// A sensor.
    Sensor,
    /// A gateway.
    Gateway,
    /// A site.
    Site,
}

impl SubjectKind {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            SubjectKind::Sensor => "sensor",
            SubjectKind::Gateway => "gateway",
            SubjectKind::Site => "site",
        }
    }
}

/// The sensor types that a rule applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeMask(u8);

impl TypeMask {
    /// All types.
    pub const ALL: TypeMask = TypeMask(0b111);
    /// Types that report to a server: everything but locally managed ones.
    pub const REPORTING: TypeMask = TypeMask(0b101);
    /// OT types that report to a server.
    pub const OT_REPORTING: TypeMask = TypeMask(0b001);
    /// Both OT types.
    pub const OT: TypeMask = TypeMask(0b011);

    /// Whether the rule applies to this type.
    pub const fn contains(self, kind: SensorType) -> bool {
        let bit = match kind {
            SensorType::OtCloud => 0b001,
            SensorType::OtLocal => 0b010,
            SensorType::EnterpriseIot => 0b100,
        };
        self.0 & bit != 0
    }
}

/// A number that a policy may set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// Its name inside the rule.
    pub key: &'static str,
    /// What it is when nobody says otherwise.
    pub default: f64,
    /// Least value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
    /// Unit, empty for a plain number.
    pub unit: &'static str,
}

/// One row of the catalogue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Which one.
    pub id: RuleId,
    /// Its code: in the API, in documents, in links, as the label `code` of metrics.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// A short title for people.
    pub title: &'static str,
    /// What it means.
    pub text: &'static str,
    /// What to do about it.
    pub recommendation: &'static str,
    /// Which sensor types it applies to.
    pub applies_to: TypeMask,
    /// What it judges.
    pub subject: SubjectKind,
    /// Seconds for which it must hold before it is raised.
    pub raise_after_s: f64,
    /// Seconds for which it must not hold before it is cleared.
    pub clear_after_s: f64,
    /// Raise-after is at least this many of the sensor's own heartbeat intervals.
    pub raise_after_intervals: u32,
    /// While one of these is active this one can't hold: a stronger word on the same thing.
    pub suppressed_by: &'static [RuleId],
    /// While one of these is active this one is unknown: frozen at its last value.
    pub frozen_by: &'static [RuleId],
    /// What a policy may set, beside raise-after and clear-after.
    pub thresholds: &'static [Threshold],
    /// Its deadline is measured: a silence, with a detection delay.
    pub silence: bool,
}

macro_rules! rules {
    ($($(#[$meta:meta])* $id:ident = $number:literal { $($field:ident: $value:expr),+ $(,)? })+) => {
        /// Which rule. The number is the bit in verdict words, and stays for ever.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum RuleId { $($(#[$meta])* $id = $number),+ }

        /// How many rules there are.
        pub const RULES: usize = [$($number),+].len();

        impl RuleId {
            /// All rules, by number.
            pub const ALL: [RuleId; RULES] = [$(RuleId::$id),+];
        }

        /// The table, by number.
        pub static CATALOGUE: [Rule; RULES] = [$(Rule {
            id: RuleId::$id,
            $($field: $value,)+
            title: texts::$id.title,
            text: texts::$id.text,
            recommendation: texts::$id.recommendation,
            ..BLANK
        }),+];
    };
}

impl RuleId {
    /// Its row.
    pub const fn rule(self) -> &'static Rule {
        &CATALOGUE[self as usize]
    }

    /// Its bit in verdict words.
    pub const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// Its code.
    pub const fn code(self) -> &'static str {
        self.rule().code
    }

    /// The rule of this number.
    pub fn from_number(number: u8) -> Option<RuleId> {
        RuleId::ALL.get(usize::from(number)).copied()
    }

    /// The rule of this code.
    pub fn from_code(code: &str) -> Option<RuleId> {
        CATALOGUE.iter().find(|rule| rule.code == code).map(|rule| rule.id)
    }
}

/// The rules of a verdict word, by number.
pub fn rules_of(mut bits: u64) -> impl Iterator<Item = RuleId> {
    std::iter::from_fn(move || {
        while bits != 0 {
            let number = bits.trailing_zeros() as u8;
            bits &= bits - 1;
            if let Some(rule) = RuleId::from_number(number) {
                return Some(rule);
            }
        }
        None
    })
}

const BLANK: Rule = Rule {
    id: RuleId::Disconnected,
    code: "",
    severity: Severity::Warning,
    title: "",
    text: "",
    recommendation: "",
    applies_to: TypeMask::REPORTING,
    subject: SubjectKind::Sensor,
    raise_after_s: 0.0,
    clear_after_s: 0.0,
    raise_after_intervals: 0,
    suppressed_by: PENDING,
    frozen_by: SILENT,
    thresholds: &[],
    silence: false,
};

const PENDING: &[RuleId] = &[RuleId::PendingActivation, RuleId::PendingReactivation];
const SILENT: &[RuleId] = &[RuleId::Disconnected, RuleId::PlannedStop];

const fn threshold(key: &'static str, default: f64, min: f64, max: f64, unit: &'static str) -> Threshold {
    Threshold { key, default, min, max, unit }
}

const DAY_S: f64 = 86_400.0;

rules! {
    /// No heartbeat for a whole silence window.
    Disconnected = 0 {
        code: "disconnected", severity: Severity::Critical,
        clear_after_s: 0.0, frozen_by: &[], silence: true,
        suppressed_by: &[RuleId::PendingActivation, RuleId::PendingReactivation, RuleId::PlannedStop],
        thresholds: &[
            threshold("silence_after", 300.0, 1.0, DAY_S, "s"),
            threshold("missed_intervals", 3.0, 1.0, 100.0, ""),
            threshold("install_grace", 2_700.0, 0.0, DAY_S, "s"),
            threshold("restart_grace", 900.0, 0.0, DAY_S, "s"),
        ],
    }
    /// A self-test failed, or has not run for too long.
    SelfTestFailed = 1 {
        code: "self-test-failed", severity: Severity::Critical,
        thresholds: &[threshold("stale_after", 2.0 * DAY_S, 60.0, 90.0 * DAY_S, "s")],
    }
    /// No packets on any monitored interface.
    NoTraffic = 2 {
        code: "no-traffic", severity: Severity::Critical, silence: true,
        thresholds: &[threshold("silence_after", 900.0, 1.0, 7.0 * DAY_S, "s")],
    }
    /// The last backup failed, or is too old.
    BackupFailed = 3 {
        code: "backup-failed", severity: Severity::Critical,
        applies_to: TypeMask::OT_REPORTING,
        thresholds: &[threshold("age_max", 26.0 * 3_600.0, 60.0, 90.0 * DAY_S, "s")],
    }
    /// The configured time server does not answer.
    NtpUnreachable = 4 {
        code: "ntp-unreachable", severity: Severity::Critical,
        raise_after_s: 60.0,
    }
    /// None of the configured directory servers answers.
    DirectoryUnreachable = 5 {
        code: "directory-unreachable", severity: Severity::Critical,
        applies_to: TypeMask::OT_REPORTING, raise_after_s: 60.0,
    }
    /// More monitored traffic than the hardware profile is made for.
    BandwidthExceeded = 6 {
        code: "bandwidth-exceeded", severity: Severity::Critical,
        raise_after_s: 60.0, clear_after_s: 120.0,
        thresholds: &[
            threshold("percent", 100.0, 50.0, 200.0, "%"),
            threshold("margin", 5.0, 0.0, 50.0, "%"),
        ],
    }
    /// More devices than the hardware profile is made for.
    DevicesExceeded = 7 {
        code: "devices-exceeded", severity: Severity::Critical,
        clear_after_s: 60.0,
        thresholds: &[
            threshold("percent", 100.0, 50.0, 200.0, "%"),
            threshold("margin", 1.0, 0.0, 50.0, "%"),
        ],
    }
    /// An update package did not reach the sensor.
    PackageTransferFailed = 8 {
        code: "package-transfer-failed",
        applies_to: TypeMask::OT_REPORTING,
        thresholds: &[threshold("stalled_after", 21_600.0, 1.0, 7.0 * DAY_S, "s")],
    }
    /// An update could not be installed.
    UpdateFailed = 9 {
        code: "update-failed", applies_to: TypeMask::OT_REPORTING,
        thresholds: &[threshold("stalled_after", 7_200.0, 1.0, 7.0 * DAY_S, "s")],
    }
    /// Heartbeats get lost, or the connection breaks again and again.
    UnstableLink = 10 {
        code: "unstable-link", clear_after_s: 300.0,
        thresholds: &[
            threshold("missing_percent", 10.0, 1.0, 100.0, "%"),
            threshold("margin", 5.0, 0.0, 50.0, "%"),
            threshold("window", 64.0, 8.0, 64.0, ""),
            threshold("reconnects", 3.0, 1.0, 8.0, ""),
            threshold("reconnect_window", 600.0, 1.0, DAY_S, "s"),
        ],
    }
    /// The software version is out of support.
    VersionUnsupported = 11 {
        code: "version-unsupported",
    }
    /// The sensor can't reach everything it should.
    PartiallyConnected = 12 {
        code: "partially-connected", raise_after_s: 60.0,
        clear_after_s: 60.0,
    }
    /// No time server is set.
    NtpNotConfigured = 13 {
        code: "ntp-not-configured",
    }
    /// Monitored traffic comes near what the profile is made for.
    BandwidthNearLimit = 14 {
        code: "bandwidth-near-limit",
        raise_after_s: 60.0, clear_after_s: 120.0,
        suppressed_by: &[
            RuleId::PendingActivation, RuleId::PendingReactivation, RuleId::BandwidthExceeded,
        ],
        thresholds: &[
            threshold("percent", 80.0, 10.0, 100.0, "%"),
            threshold("margin", 5.0, 0.0, 50.0, "%"),
        ],
    }
    /// Monitored devices come near what the profile is made for.
    DevicesNearLimit = 15 {
        code: "devices-near-limit", clear_after_s: 60.0,
        suppressed_by: &[
            RuleId::PendingActivation, RuleId::PendingReactivation, RuleId::DevicesExceeded,
        ],
        thresholds: &[
            threshold("percent", 80.0, 10.0, 100.0, "%"),
            threshold("margin", 1.0, 0.0, 50.0, "%"),
        ],
    }
    /// The root or the data partition is nearly full.
    DiskAlmostFull = 16 {
        code: "disk-almost-full", clear_after_s: 60.0,
        thresholds: &[
            threshold("percent", 90.0, 10.0, 100.0, "%"),
            threshold("margin", 5.0, 0.0, 50.0, "%"),
        ],
    }
    /// Registered, never heard.
    PendingActivation = 17 {
        code: "pending-activation", severity: Severity::Lifecycle,
        applies_to: TypeMask::ALL, suppressed_by: &[], frozen_by: &[],
    }
    /// Waits for a new activation file.
    PendingReactivation = 18 {
        code: "pending-reactivation", severity: Severity::Lifecycle,
        applies_to: TypeMask::ALL, suppressed_by: &[], frozen_by: &[],
    }
    /// Capture loses packets.
    CaptureOverload = 19 {
        code: "capture-overload",
        raise_after_s: 30.0, clear_after_s: 120.0,
        thresholds: &[
            threshold("drop_percent", 1.0, 0.01, 100.0, "%"),
            threshold("margin", 0.5, 0.0, 50.0, "%"),
        ],
    }
    /// The sensor's clock is off.
    ClockDrift = 20 {
        code: "clock-drift", raise_after_s: 30.0, clear_after_s: 60.0,
        raise_after_intervals: 2,
        thresholds: &[
            threshold("offset_max", 120.0, 1.0, DAY_S, "s"),
            threshold("hold_after_step", 900.0, 0.0, DAY_S, "s"),
        ],
    }
    /// The certificate runs out soon and was not renewed.
    CertificateExpiring = 21 {
        code: "certificate-expiring",
        thresholds: &[threshold("days", 7.0, 0.0, 3_650.0, "d")],
    }
    /// Two machines use one identity.
    DuplicateIdentity = 22 {
        code: "duplicate-identity", severity: Severity::Critical,
        frozen_by: &[],
        thresholds: &[
            threshold("count", 2.0, 1.0, 4.0, ""),
            threshold("window", 900.0, 1.0, DAY_S, "s"),
        ],
    }
    /// The sensor's software starts again and again.
    RestartLoop = 23 {
        code: "restart-loop", clear_after_s: 60.0,
        thresholds: &[
            threshold("restarts", 3.0, 2.0, 8.0, ""),
            threshold("window", 600.0, 1.0, DAY_S, "s"),
        ],
    }
    /// The sensor does not run with the settings that it should.
    SettingsOutOfSync = 24 {
        code: "settings-out-of-sync", raise_after_s: 600.0,
        applies_to: TypeMask::OT_REPORTING,
    }
    /// A newer threat-intelligence package exists and has not arrived.
    ThreatIntelOutdated = 25 {
        code: "threat-intel-outdated",
        raise_after_s: 3.0 * DAY_S, applies_to: TypeMask::OT_REPORTING,
    }
    /// A threat-intelligence package could not be installed.
    ThreatIntelFailed = 26 {
        code: "threat-intel-failed",
        applies_to: TypeMask::OT_REPORTING,
    }
    /// The sensor said goodbye and stopped.
    PlannedStop = 27 {
        code: "planned-stop", severity: Severity::Lifecycle, frozen_by: &[],
    }
    /// Nothing is heard from a gateway.
    GatewaySilent = 28 {
        code: "gateway-silent", severity: Severity::Critical,
        subject: SubjectKind::Gateway, suppressed_by: &[], frozen_by: &[], silence: true,
        thresholds: &[threshold("silence_after", 120.0, 1.0, DAY_S, "s")],
    }
    /// Most sensors of a site are silent at once.
    SiteOutage = 29 {
        code: "site-outage", severity: Severity::Critical,
        subject: SubjectKind::Site, suppressed_by: &[], frozen_by: &[], clear_after_s: 10.0,
        thresholds: &[
            threshold("percent", 80.0, 10.0, 100.0, "%"),
            threshold("margin", 10.0, 0.0, 90.0, "%"),
            threshold("sensors_min", 3.0, 2.0, 1_000_000.0, ""),
        ],
    }
}

const _: () = assert!(RULES <= 64, "verdict words have 64 bits");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_consistent_with_itself() {
        let mut codes = std::collections::HashSet::new();
        for (number, rule) in CATALOGUE.iter().enumerate() {
            assert_eq!(rule.id as usize, number, "{}: numbers run without gaps", rule.code);
            assert!(codes.insert(rule.code), "{} twice", rule.code);
            assert!(rule.code.bytes().all(|c| c.is_ascii_lowercase() || c == b'-'), "{}", rule.code);
            assert_eq!(RuleId::from_code(rule.code), Some(rule.id));
            assert!(!rule.title.is_empty() && !rule.title.ends_with('.'), "{}: title", rule.code);
            for text in [rule.text, rule.recommendation] {
                assert!(text.len() > 20 && text.ends_with('.'), "{}: {text:?}", rule.code);
            }
            assert!(rule.raise_after_s >= 0.0 && rule.clear_after_s >= 0.0, "{}", rule.code);
            for &by in rule.suppressed_by.iter().chain(rule.frozen_by) {
                assert_ne!(by, rule.id, "{} can't silence itself", rule.code);
                assert_eq!(by.rule().subject, rule.subject, "{} is judged with {}", rule.code, by.code());
                let mutual = by.rule().suppressed_by.iter().chain(by.rule().frozen_by).any(|&b| b == rule.id);
                assert!(!mutual, "{} and {} silence each other", rule.code, by.code());
            }
            let mut keys = std::collections::HashSet::new();
            for threshold in rule.thresholds {
                assert!(keys.insert(threshold.key), "{}.{} twice", rule.code, threshold.key);
                assert!(
                    !["raise_after", "clear_after"].contains(&threshold.key),
                    "{} is taken",
                    threshold.key
                );
                assert!(threshold.min <= threshold.default && threshold.default <= threshold.max);
            }
            assert_eq!(
                rule.silence,
                rule.thresholds.iter().any(|threshold| threshold.key == "silence_after"),
                "{}: a silence has a window, and only a silence",
                rule.code
            );
            assert!(!rule.silence || !rule.applies_to.contains(SensorType::OtLocal), "{}", rule.code);
        }
    }

    #[test]
    fn a_word_of_bits_reads_back_as_its_rules() {
        let bits = RuleId::NoTraffic.bit() | RuleId::SiteOutage.bit() | 1 << 63;
        assert_eq!(rules_of(bits).collect::<Vec<_>>(), [RuleId::NoTraffic, RuleId::SiteOutage]);
    }
}
