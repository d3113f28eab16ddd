//! The heartbeat body as a table: what a sensor in another language is written from.
//!
//! The table is data, so that the protocol page, the C program of the tests and the codec that checks the
//! vectors are held against one thing; tests hold it against the layout that the compiler makes.

/// What a field is made of. All numbers are little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Bytes of a UUID.
    Id,
    /// UTF-8 without control characters, padded with NUL.
    Text,
    /// Unsigned, 1 byte.
    U8,
    /// Unsigned, 2 bytes.
    U16,
    /// Unsigned, 4 bytes.
    U32,
    /// Unsigned, 8 bytes.
    U64,
    /// Two's complement, 2 bytes.
    I16,
    /// Two's complement, 8 bytes.
    I64,
}

impl Element {
    /// Bytes of one.
    pub const fn bytes(self) -> usize {
        match self {
            Element::Id | Element::Text | Element::U8 => 1,
            Element::U16 | Element::I16 => 2,
            Element::U32 => 4,
            Element::U64 | Element::I64 => 8,
        }
    }

    /// As the protocol page writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Element::Id => "bytes",
            Element::Text => "text",
            Element::U8 => "u8",
            Element::U16 => "u16",
            Element::U32 => "u32",
            Element::U64 => "u64",
            Element::I16 => "i16",
            Element::I64 => "i64",
        }
    }
}

/// One field of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name, in Rust, JSON and C.
    pub name: &'static str,
    /// First byte, counted from the start of the body.
    pub offset: usize,
    /// What it is made of.
    pub element: Element,
    /// How many of them.
    pub count: usize,
    /// Unit; empty for counts and codes.
    pub unit: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

impl Field {
    /// Bytes of the whole field.
    pub const fn bytes(&self) -> usize {
        self.element.bytes() * self.count
    }
}

const fn field(
    name: &'static str,
    offset: usize,
    element: Element,
    count: usize,
    unit: &'static str,
    meaning: &'static str,
) -> Field {
    Field { name, offset, element, count, unit, meaning }
}

/// The body of schema version 1, in the order of its bytes.
pub const FIELDS: [Field; 42] = [
    field("sensor_id", 0, Element::Id, 16, "", "who reports: the 16 bytes of the UUID, not zero"),
    field("boot_id", 16, Element::U64, 1, "", "another value after each start, not zero"),
    field("sequence", 24, Element::U64, 1, "", "1 for the first heartbeat of a boot, then one more each"),
    field("sensor_clock_unix_us", 32, Element::I64, 1, "us", "wall clock of the sensor since 1970 UTC"),
    field("uptime_ms", 40, Element::U64, 1, "ms", "since the sensor's software started"),
    field("interval_ms", 48, Element::U32, 1, "ms", "heartbeat interval kept now, not zero"),
    field(
        "flags",
        52,
        Element::U32,
        1,
        "",
        "bit 0 local override, 1 goodbye, 2 goodbye to restart, 3 backups disabled",
    ),
    field("version", 56, Element::Text, 32, "", "software version"),
    field(
        "profile",
        88,
        Element::U8,
        1,
        "",
        "hardware: 1 C5600, 2 E1800, 3 E1000, 4 E500, 5 L500, 6 L100, 7 L60, 8 enterprise-iot",
    ),
    field(
        "update_stage",
        89,
        Element::U8,
        1,
        "",
        "0 idle, 1 sending, 2 send-failed, 3 ready, 4 installing, 5 succeeded, 6 rolled-back, 7 failed",
    ),
    field("update_percent", 90, Element::U8, 1, "%", "progress of the stage, 0 to 100"),
    field(
        "ti_status",
        91,
        Element::U8,
        1,
        "",
        "threat intelligence: 1 ok, 2 update-available, 3 in-progress, 4 failed",
    ),
    field(
        "backup_result",
        92,
        Element::U8,
        1,
        "",
        "0 none, 1 ok, 2 failed, 3 not-found, 4 unreadable, 5 network, 6 no-room",
    ),
    field("ntp_state", 93, Element::U8, 1, "", "1 ok, 2 unreachable, 3 not-configured"),
    field("directory_configured", 94, Element::U8, 1, "", "directory servers configured"),
    field(
        "directory_reachable",
        95,
        Element::U8,
        1,
        "",
        "directory servers that answered, at most those configured",
    ),
    field(
        "endpoint_states",
        96,
        Element::U8,
        8,
        "",
        "each: 0 not-configured, 1 ok, 2 general, 3 dns, 4 tls, 5 proxy-auth, 6 proxy-needless",
    ),
    field("update_error", 104, Element::U16, 1, "", "vendor's error number of the update, 0 none"),
    field("interfaces_total", 106, Element::U16, 1, "", "monitored interfaces"),
    field("interfaces_up", 108, Element::U16, 1, "", "of these, with link"),
    field(
        "interfaces_with_traffic",
        110,
        Element::U16,
        1,
        "",
        "of these, with traffic since the last heartbeat",
    ),
    field("update_target", 112, Element::Text, 32, "", "version that the update leads to"),
    field("rx_packets", 144, Element::U64, 1, "", "packets captured since boot"),
    field("rx_bytes", 152, Element::U64, 1, "bytes", "bytes captured since boot"),
    field("rx_dropped", 160, Element::U64, 1, "", "packets that capture lost since boot"),
    field("self_test_ran", 168, Element::U32, 1, "", "self-tests that exist, one bit each"),
    field("self_test_failed", 172, Element::U32, 1, "", "self-tests that failed, one bit each"),
    field("self_test_age_s", 176, Element::U32, 1, "s", "since the self-tests ran; all ones = never"),
    field("backup_age_s", 180, Element::U32, 1, "s", "since the last backup ended; all ones = never"),
    field("ti_version", 184, Element::Text, 16, "", "day the threat intelligence was built, 2026-11-24"),
    field("devices", 200, Element::U32, 1, "", "devices monitored"),
    field("alerts", 204, Element::U32, 1, "", "alerts open"),
    field("cpu_permille", 208, Element::U16, 1, "1/1000", "CPU use; all ones = not known"),
    field("memory_permille", 210, Element::U16, 1, "1/1000", "memory use; all ones = not known"),
    field("disk_permille", 212, Element::U16, 4, "1/1000", "fill of root, data, boot, log; all ones = none"),
    field("temperature_decicelsius", 220, Element::I16, 1, "0.1 C", "CPU temperature; 0x8000 = no sensor"),
    field("reserved", 222, Element::U16, 1, "", "zero"),
    field("rtt_us", 224, Element::U32, 1, "us", "round-trip time to the server; all ones = not known"),
    field("send_failures", 228, Element::U32, 1, "", "heartbeats that could not be sent since boot"),
    field("reconnects", 232, Element::U32, 1, "", "connections lost and made again since boot"),
    field("trust_generation", 236, Element::U32, 1, "", "trust bundle in use"),
    field("settings_generation", 240, Element::U64, 1, "", "settings in use, 0 none received"),
];

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use super::*;
    use crate::wire::frame::BODY_BYTES;
    use crate::wire::heartbeat::ArchivedHeartbeat;

    macro_rules! layout {
        ($($name:ident),+ $(,)?) => {{
            // Exhaustive: a field that is missing here does not compile.
            let all = |archived: &ArchivedHeartbeat| {
                let ArchivedHeartbeat { $($name),+ } = archived;
                [$((stringify!($name), offset_of!(ArchivedHeartbeat, $name), size_of_val($name))),+]
            };
            all
        }};
    }

    #[test]
    fn the_table_is_the_layout() {
        let layout = layout![
            sensor_id,
            boot_id,
            sequence,
            sensor_clock_unix_us,
            uptime_ms,
            interval_ms,
            flags,
            version,
            profile,
            update_stage,
            update_percent,
            ti_status,
            backup_result,
            ntp_state,
            directory_configured,
            directory_reachable,
            endpoint_states,
            update_error,
            interfaces_total,
            interfaces_up,
            interfaces_with_traffic,
            update_target,
            rx_packets,
            rx_bytes,
            rx_dropped,
            self_test_ran,
            self_test_failed,
            self_test_age_s,
            backup_age_s,
            ti_version,
            devices,
            alerts,
            cpu_permille,
            memory_permille,
            disk_permille,
            temperature_decicelsius,
            reserved,
            rtt_us,
            send_failures,
            reconnects,
            trust_generation,
            settings_generation,
        ];
        let body = [0; BODY_BYTES];
        let archived =
            rkyv::api::low::access::<ArchivedHeartbeat, rkyv::rancor::Failure>(&body).expect("plain numbers");
        let compiled = layout(archived);
        assert_eq!(compiled.len(), FIELDS.len());
        for (field, (name, offset, bytes)) in FIELDS.iter().zip(compiled) {
            assert_eq!((field.name, field.offset, field.bytes()), (name, offset, bytes));
        }
        let end = FIELDS.last().map(|field| field.offset + field.bytes());
        assert_eq!(end, Some(size_of::<ArchivedHeartbeat>()));
        assert_eq!(align_of::<ArchivedHeartbeat>(), 1);
    }

    #[test]
    fn the_protocol_page_prints_the_table() {
        let page = include_str!("mod.rs");
        for field in &FIELDS {
            let element = match field.count {
                1 => field.element.as_str().to_owned(),
                count => format!("`{}[{count}]`", field.element.as_str()),
            };
            let row = format!(
                "//! | {} | `{}` | {element} | {} | {} |",
                field.offset, field.name, field.unit, field.meaning
            );
            assert!(page.contains(&row), "the protocol page lacks:\n{row}");
        }
        assert_eq!(page.matches("//! | ").count(), FIELDS.len() + 1 + 7 + 1, "rows too many");
    }
}
