//! The closed list of faults, and what each should lead to.

use serde::Deserialize;

/// Whom a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whom {
    /// Each sensor that the fault hits.
    Sensor,
    /// The gateway that it hits.
    Gateway,
    /// The site that it hits.
    Site,
}

macro_rules! kinds {
    ($($(#[$meta:meta])* $kind:ident = $name:literal { expect: $expect:expr, also: $also:expr })+) => {
        /// A fault that can be scripted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum FaultKind { $($(#[$meta])* $kind),+ }

        impl FaultKind {
            /// All kinds.
            pub const ALL: &[FaultKind] = &[$(FaultKind::$kind),+];

            /// Its name in a scenario file.
            pub const fn as_str(self) -> &'static str {
                match self { $(FaultKind::$kind => $name),+ }
            }

            /// Messages that it must raise when the scenario says nothing else.
            pub const fn expected(self) -> &'static [(Whom, &'static str)] {
                match self { $(FaultKind::$kind => $expect),+ }
            }

            /// Messages that may come with it, or after it, and need not.
            pub const fn tolerated(self) -> &'static [(Whom, &'static str)] {
                match self { $(FaultKind::$kind => $also),+ }
            }
        }
    };
}

use Whom::{Gateway, Sensor, Site};

kinds! {
    /// Heartbeats stop while the connection lives: a hung process.
    Silence = "silence" { expect: &[(Sensor, "disconnected")], also: &[] }
    /// The cable is pulled: nothing goes, nothing comes. What was in flight is missing afterwards.
    Disconnect = "disconnect" { expect: &[(Sensor, "disconnected")], also: &[(Sensor, "unstable-link")] }
    /// The cable of a whole site is pulled.
    SiteOutage = "site_outage" {
        expect: &[(Sensor, "disconnected"), (Site, "site-outage")],
        also: &[(Sensor, "unstable-link")]
    }
    /// A gateway stops without a word; its sensors can't be judged.
    GatewaySilent = "gateway_silent" { expect: &[(Gateway, "gateway-silent")], also: &[] }
    /// Two of five heartbeats get lost.
    UnstableLink = "unstable_link" { expect: &[(Sensor, "unstable-link")], also: &[] }
    /// No packets on the monitored interfaces.
    NoTraffic = "no_traffic" { expect: &[(Sensor, "no-traffic")], also: &[] }
    /// A self-test fails.
    SelfTestFailed = "self_test_failed" { expect: &[(Sensor, "self-test-failed")], also: &[] }
    /// The last backup failed.
    BackupFailed = "backup_failed" { expect: &[(Sensor, "backup-failed")], also: &[] }
    /// The time server does not answer.
    NtpUnreachable = "ntp_unreachable" { expect: &[(Sensor, "ntp-unreachable")], also: &[] }
    /// No time server is set.
    NtpNotConfigured = "ntp_not_configured" { expect: &[(Sensor, "ntp-not-configured")], also: &[] }
    /// No directory server answers.
    DirectoryUnreachable = "directory_unreachable" {
        expect: &[(Sensor, "directory-unreachable")], also: &[]
    }
    /// More traffic than the hardware is made for.
    BandwidthExceeded = "bandwidth_exceeded" {
        expect: &[(Sensor, "bandwidth-exceeded")], also: &[(Sensor, "bandwidth-near-limit")]
    }
    /// Nearly as much traffic as the hardware is made for.
    BandwidthClose = "bandwidth_close" { expect: &[(Sensor, "bandwidth-near-limit")], also: &[] }
    /// More devices than the hardware is made for.
    DevicesExceeded = "devices_exceeded" {
        expect: &[(Sensor, "devices-exceeded")], also: &[(Sensor, "devices-near-limit")]
    }
    /// Nearly as many devices as the hardware is made for.
    DevicesClose = "devices_close" { expect: &[(Sensor, "devices-near-limit")], also: &[] }
    /// An update package did not arrive whole.
    SendUpdateFailed = "send_update_failed" { expect: &[(Sensor, "package-transfer-failed")], also: &[] }
    /// An update failed.
    UpdateFailed = "update_failed" { expect: &[(Sensor, "update-failed")], also: &[] }
    /// A version that is out of support.
    UnsupportedVersion = "unsupported_version" { expect: &[(Sensor, "version-unsupported")], also: &[] }
    /// A cloud endpoint can't be reached, for the `reason` given.
    PartiallyConnected = "partially_connected" { expect: &[(Sensor, "partially-connected")], also: &[] }
    /// The root partition is nearly full.
    DiskFull = "disk_full" { expect: &[(Sensor, "disk-almost-full")], also: &[] }
    /// Capture loses packets.
    Overload = "overload" { expect: &[(Sensor, "capture-overload")], also: &[] }
    /// The clock is five minutes ahead.
    ClockDrift = "clock_drift" { expect: &[(Sensor, "clock-drift")], also: &[] }
    /// The certificate has one day left.
    CertificateExpiring = "certificate_expiring" { expect: &[(Sensor, "certificate-expiring")], also: &[] }
    /// Another machine uses the same key.
    DuplicateIdentity = "duplicate_identity" {
        expect: &[(Sensor, "duplicate-identity")],
        also: &[(Sensor, "restart-loop"), (Sensor, "unstable-link")]
    }
    /// The sensor's software starts anew every four seconds.
    RestartLoop = "restart_loop" { expect: &[(Sensor, "restart-loop")], also: &[] }
    /// Older settings than wanted.
    SettingsOutOfSync = "settings_out_of_sync" { expect: &[(Sensor, "settings-out-of-sync")], also: &[] }
    /// A newer threat-intelligence package exists.
    ThreatIntelOutdated = "threat_intel_outdated" { expect: &[(Sensor, "threat-intel-outdated")], also: &[] }
    /// A threat-intelligence package could not be installed.
    ThreatIntelFailed = "threat_intel_failed" { expect: &[(Sensor, "threat-intel-failed")], also: &[] }
    /// A planned stop, and a start at its end.
    Goodbye = "goodbye" { expect: &[(Sensor, "planned-stop")], also: &[] }
    /// A planned restart: no message at all.
    PlannedRestart = "planned_restart" { expect: &[], also: &[] }
    /// Registered, and never heard; lasts the whole run.
    PendingActivation = "pending_activation" { expect: &[(Sensor, "pending-activation")], also: &[] }
    /// Waits for a new activation file; lasts the whole run.
    PendingReactivation = "pending_reactivation" { expect: &[(Sensor, "pending-reactivation")], also: &[] }
}

impl FaultKind {
    /// True for a state that lasts the whole run: such sensors are registered and do not connect.
    pub const fn is_standing(self) -> bool {
        matches!(self, FaultKind::PendingActivation | FaultKind::PendingReactivation)
    }

    /// True for a fault that cuts cables, so that its sensors need sockets of their own.
    pub const fn cuts(self) -> bool {
        matches!(self, FaultKind::Disconnect | FaultKind::SiteOutage)
    }

    /// True for a fault that needs the sensor's own connection.
    pub const fn needs_connection(self) -> bool {
        matches!(
            self,
            FaultKind::Disconnect
                | FaultKind::SiteOutage
                | FaultKind::Goodbye
                | FaultKind::PlannedRestart
                | FaultKind::CertificateExpiring
                | FaultKind::DuplicateIdentity
        )
    }
}
