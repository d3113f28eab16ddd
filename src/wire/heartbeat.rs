//! Heartbeat, schema version 1: what a sensor says about itself.
//!
//! A body is an rkyv archive without pointers: little-endian, unaligned, every field at a fixed byte
//! offset (`FIELDS`, checked by a test against the compiler's own layout and printed in the protocol
//! page), so a sensor written in C fills in a `struct` and sends it. Nothing here is ever reordered or
//! removed: a new schema version appends.
//!
//! "Not known" has a value in every field that can be unknown, because a sensor that does not know must
//! not lie: it is the largest value of the type, or the zero of an enumeration.

use rkyv::{Archive, Deserialize, Serialize};

/// Bytes of a version string, NUL-padded UTF-8.
pub const VERSION_BYTES: usize = 32;
/// Bytes of a threat-intelligence version (a date), NUL-padded UTF-8.
pub const TI_VERSION_BYTES: usize = 16;
/// Cloud endpoints whose state one heartbeat can carry.
pub const ENDPOINTS_MAX: usize = 8;
/// Partitions whose fill one heartbeat can carry: root, data, and two more.
pub const DISKS_MAX: usize = 4;
/// Partition names, by position in [`Heartbeat::disk_permille`].
pub const DISK_NAMES: [&str; DISKS_MAX] = ["root", "data", "boot", "log"];

/// Not known, in a `u16`.
pub const UNKNOWN_U16: u16 = u16::MAX;
/// Not known, in a `u32`.
pub const UNKNOWN_U32: u32 = u32::MAX;
/// Not known, in a signed temperature.
pub const UNKNOWN_I16: i16 = i16::MIN;

/// Somebody at the sensor changed settings by hand ("break glass").
pub const FLAG_LOCAL_OVERRIDE: u32 = 1 << 0;
/// The sensor is about to stop on purpose; silence after this frame is not a fault.
pub const FLAG_GOODBYE: u32 = 1 << 1;
/// With [`FLAG_GOODBYE`]: it comes back by itself (a restart).
pub const FLAG_GOODBYE_RESTART: u32 = 1 << 2;
/// The sensor does no backups, by configuration.
pub const FLAG_BACKUP_DISABLED: u32 = 1 << 3;
/// All flags that this version knows.
pub const FLAGS_KNOWN: u32 = FLAG_LOCAL_OVERRIDE | FLAG_GOODBYE | FLAG_GOODBYE_RESTART | FLAG_BACKUP_DISABLED;

/// One report of a sensor about itself.
///
/// `ArchivedHeartbeat` is the same as bytes of a frame, read in place.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[rkyv(derive(Debug))]
pub struct Heartbeat {
    /// Who reports.
    pub sensor_id: [u8; 16],
    /// Another value after each start of the sensor's software; never zero.
    pub boot_id: u64,
    /// 1 for the first heartbeat of a boot, then one more for each.
    pub sequence: u64,
    /// The sensor's wall clock when it made this, microseconds since 1970 UTC. Only ever compared.
    pub sensor_clock_unix_us: i64,
    /// Milliseconds since the sensor's software started.
    pub uptime_ms: u64,
    /// The heartbeat interval that the sensor keeps now, in milliseconds.
    pub interval_ms: u32,
    /// `FLAG_*` bits; unknown bits are ignored.
    pub flags: u32,
    /// Software version, NUL-padded UTF-8, such as `22.1.4.8-r-6372aad`.
    pub version: [u8; VERSION_BYTES],
    /// Hardware profile, a [`Profile`] value.
    pub profile: u8,
    /// Update stage, an [`UpdateStage`] value.
    pub update_stage: u8,
    /// Progress of that stage, 0 to 100.
    pub update_percent: u8,
    /// Threat-intelligence state, a [`TiStatus`] value.
    pub ti_status: u8,
    /// Result of the last backup, a [`BackupResult`] value.
    pub backup_result: u8,
    /// Time synchronisation, an [`NtpState`] value.
    pub ntp_state: u8,
    /// Directory servers that are configured.
    pub directory_configured: u8,
    /// Directory servers that answered at the last check.
    pub directory_reachable: u8,
    /// Cloud endpoints, an [`EndpointState`] value each; zero = not configured.
    pub endpoint_states: [u8; ENDPOINTS_MAX],
    /// Why the update failed, the vendor's number; zero = no error.
    pub update_error: u16,
    /// Monitored interfaces: those that should be there, missing ones included.
    pub interfaces_total: u16,
    /// Monitored interfaces whose link is up.
    pub interfaces_up: u16,
    /// Monitored interfaces that saw traffic since the last heartbeat.
    pub interfaces_with_traffic: u16,
    /// Version that the update leads to.
    pub update_target: [u8; VERSION_BYTES],
    /// Packets captured on all monitored interfaces since boot.
    pub rx_packets: u64,
    /// Bytes captured on all monitored interfaces since boot.
    pub rx_bytes: u64,
    /// Packets that capture lost since boot.
    pub rx_dropped: u64,
    /// Self-tests that exist, one bit each.
    pub self_test_ran: u32,
    /// Self-tests that failed, one bit each.
    pub self_test_failed: u32,
    /// Seconds since the self-tests ran; [`UNKNOWN_U32`] = never.
    pub self_test_age_s: u32,
    /// Seconds since the last backup ended; [`UNKNOWN_U32`] = never.
    pub backup_age_s: u32,
    /// Threat-intelligence version: the day it was built, `2026-11-24`.
    pub ti_version: [u8; TI_VERSION_BYTES],
    /// Devices that the sensor monitors.
    pub devices: u32,
    /// Open alerts.
    pub alerts: u32,
    /// CPU use, per mille of all cores; [`UNKNOWN_U16`] = not known.
    pub cpu_permille: u16,
    /// Memory use, per mille.
    pub memory_permille: u16,
    /// Fill of each partition in the order of [`DISK_NAMES`], per mille.
    pub disk_permille: [u16; DISKS_MAX],
    /// CPU temperature in tenths of a degree Celsius; [`UNKNOWN_I16`] = no sensor.
    pub temperature_decicelsius: i16,
    /// Reserved, zero.
    pub reserved: u16,
    /// Smoothed round-trip time to the server in microseconds; [`UNKNOWN_U32`] = not known.
    pub rtt_us: u32,
    /// Heartbeats that could not be sent, since boot.
    pub send_failures: u32,
    /// Connections that were lost and made again, since boot.
    pub reconnects: u32,
    /// Generation of the trust bundle in use.
    pub trust_generation: u32,
    /// Generation of the settings in use; zero = none received.
    pub settings_generation: u64,
}

macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $value:literal => $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant = $value),+ }

        impl $name {
            /// All values, in wire order.
            pub const ALL: &[$name] = &[$($name::$variant),+];

            /// Reads a wire value; `None` for one that this version does not know.
            pub const fn from_wire(value: u8) -> Option<$name> {
                match value { $($value => Some($name::$variant),)+ _ => None }
            }

            /// The wire value.
            pub const fn to_wire(self) -> u8 { self as u8 }

            /// The name that people and metrics see.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }
        }
    };
}

wire_enum! {
    /// Hardware profile: decides the limits of bandwidth and devices (facts 1e, "Hardware profile limits").
    Profile {
        /// Not said.
        Unknown = 0 => "unknown",
        /// 3 Gbit/s, 12,000 devices.
        C5600 = 1 => "C5600",
        /// 1 Gbit/s, 10,000 devices.
        E1800 = 2 => "E1800",
        /// 1 Gbit/s, 10,000 devices.
        E1000 = 3 => "E1000",
        /// 1 Gbit/s, 10,000 devices.
        E500 = 4 => "E500",
        /// 200 Mbit/s, 1,000 devices.
        L500 = 5 => "L500",
        /// 60 Mbit/s, 800 devices; no backups.
        L100 = 6 => "L100",
        /// 10 Mbit/s, 100 devices.
        L60 = 7 => "L60",
        /// Enterprise IoT, least machine: 1 Gbit/s.
        EnterpriseIot = 8 => "enterprise-iot",
    }
}

wire_enum! {
    /// Where a software update stands.
    UpdateStage {
        /// No update.
        Idle = 0 => "idle",
        /// The package is coming in.
        Sending = 1 => "sending",
        /// The package did not arrive whole.
        SendFailed = 2 => "send-failed",
        /// The package is here and verified.
        Ready = 3 => "ready",
        /// Installing; reboots are expected.
        Installing = 4 => "installing",
        /// Done; the version says so too.
        Succeeded = 5 => "succeeded",
        /// Failed, and the previous version is back.
        RolledBack = 6 => "rolled-back",
        /// Failed.
        Failed = 7 => "failed",
    }
}

wire_enum! {
    /// Threat intelligence on the sensor.
    TiStatus {
        /// Not said, or the sensor has none.
        Unknown = 0 => "unknown",
        /// Up to date as far as the sensor knows.
        Ok = 1 => "ok",
        /// A newer package exists.
        UpdateAvailable = 2 => "update-available",
        /// A package is being installed.
        InProgress = 3 => "in-progress",
        /// The last package could not be installed.
        Failed = 4 => "failed",
    }
}

wire_enum! {
    /// How the last backup ended.
    BackupResult {
        /// No backup yet.
        None = 0 => "none",
        /// Good.
        Ok = 1 => "ok",
        /// Failed, no reason given.
        Failed = 2 => "failed",
        /// No backup found where one should be.
        NotFound = 3 => "not-found",
        /// A backup exists and can't be read.
        Unreadable = 4 => "unreadable",
        /// The backup server can't be reached.
        Network = 5 => "network",
        /// No room for it.
        NoRoom = 6 => "no-room",
    }
}

wire_enum! {
    /// Time synchronisation.
    NtpState {
        /// Not said.
        Unknown = 0 => "unknown",
        /// Synchronised.
        Ok = 1 => "ok",
        /// A server is configured and does not answer.
        Unreachable = 2 => "unreachable",
        /// No server is configured.
        NotConfigured = 3 => "not-configured",
    }
}

wire_enum! {
    /// Reachability of one cloud endpoint, with the reason of a failure.
    EndpointState {
        /// No endpoint at this place.
        NotConfigured = 0 => "not-configured",
        /// Reachable.
        Ok = 1 => "ok",
        /// Not reachable, no better reason known.
        General = 2 => "general",
        /// The name does not resolve.
        Dns = 3 => "dns",
        /// The certificate is not trusted.
        Tls = 4 => "tls",
        /// The proxy wants credentials, or other ones.
        ProxyAuth = 5 => "proxy-auth",
        /// The proxy is given credentials that it did not ask for.
        ProxyNeedless = 6 => "proxy-needless",
    }
}

impl Heartbeat {
    /// Software version; empty when it is not readable.
    pub fn version_str(&self) -> &str {
        inline_str(&self.version).unwrap_or("")
    }

    /// Version that the update leads to; empty when there is none.
    pub fn update_target_str(&self) -> &str {
        inline_str(&self.update_target).unwrap_or("")
    }

    /// Threat-intelligence version; empty when there is none.
    pub fn ti_version_str(&self) -> &str {
        inline_str(&self.ti_version).unwrap_or("")
    }

    /// Update stage; a value of a newer version reads as [`UpdateStage::Idle`].
    pub fn update_stage(&self) -> UpdateStage {
        UpdateStage::from_wire(self.update_stage).unwrap_or(UpdateStage::Idle)
    }

    /// Hardware profile; a value of a newer version reads as unknown.
    pub fn profile(&self) -> Profile {
        Profile::from_wire(self.profile).unwrap_or(Profile::Unknown)
    }

    /// Threat-intelligence state; a value of a newer version reads as unknown.
    pub fn ti_status(&self) -> TiStatus {
        TiStatus::from_wire(self.ti_status).unwrap_or(TiStatus::Unknown)
    }

    /// Result of the last backup; a value of a newer version reads as none.
    pub fn backup_result(&self) -> BackupResult {
        BackupResult::from_wire(self.backup_result).unwrap_or(BackupResult::None)
    }

    /// Time synchronisation; a value of a newer version reads as unknown.
    pub fn ntp_state(&self) -> NtpState {
        NtpState::from_wire(self.ntp_state).unwrap_or(NtpState::Unknown)
    }

    /// State of one cloud endpoint; beyond the last, or of a newer version: not configured.
    pub fn endpoint(&self, place: usize) -> EndpointState {
        let value = self.endpoint_states.get(place).copied().unwrap_or(0);
        EndpointState::from_wire(value).unwrap_or(EndpointState::NotConfigured)
    }

    /// True when all bits of `flag` are set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag == flag
    }
}

impl ArchivedHeartbeat {
    /// An owned copy of the fields.
    pub fn to_heartbeat(&self) -> Heartbeat {
        let Ok(heartbeat) = rkyv::api::low::deserialize::<Heartbeat, std::convert::Infallible>(self);
        heartbeat
    }
}

impl Default for Heartbeat {
    /// A healthy sensor that knows nothing optional: every field at its "not known" value.
    fn default() -> Heartbeat {
        Heartbeat {
            sensor_id: [0; 16],
            boot_id: 1,
            sequence: 1,
            sensor_clock_unix_us: 0,
            uptime_ms: 0,
            interval_ms: 10_000,
            flags: 0,
            version: [0; VERSION_BYTES],
            profile: 0,
            update_stage: 0,
            update_percent: 0,
            ti_status: 0,
            backup_result: 0,
            ntp_state: 0,
            directory_configured: 0,
            directory_reachable: 0,
            endpoint_states: [0; ENDPOINTS_MAX],
            update_error: 0,
            interfaces_total: 0,
            interfaces_up: 0,
            interfaces_with_traffic: 0,
            update_target: [0; VERSION_BYTES],
            rx_packets: 0,
            rx_bytes: 0,
            rx_dropped: 0,
            self_test_ran: 0,
            self_test_failed: 0,
            self_test_age_s: UNKNOWN_U32,
            backup_age_s: UNKNOWN_U32,
            ti_version: [0; TI_VERSION_BYTES],
            devices: 0,
            alerts: 0,
            cpu_permille: UNKNOWN_U16,
            memory_permille: UNKNOWN_U16,
            disk_permille: [UNKNOWN_U16; DISKS_MAX],
            temperature_decicelsius: UNKNOWN_I16,
            reserved: 0,
            rtt_us: UNKNOWN_U32,
            send_failures: 0,
            reconnects: 0,
            trust_generation: 0,
            settings_generation: 0,
        }
    }
}

/// Puts a text into a NUL-padded field, cut at a character boundary.
pub fn inline<const N: usize>(text: &str) -> [u8; N] {
    let mut end = text.len().min(N);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut field = [0; N];
    field[..end].copy_from_slice(&text.as_bytes()[..end]);
    field
}

/// Reads a NUL-padded field; `None` when it is not UTF-8 or has bytes after the padding.
pub fn inline_str(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    let (text, padding) = field.split_at(end);
    if padding.iter().any(|&byte| byte != 0) {
        return None;
    }
    std::str::from_utf8(text).ok()
}
