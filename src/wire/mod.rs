//! The protocol on one page.
//!
//! **Transport.** QUIC version 1, TLS 1.3, ALPN `fleetpulse/1`, a client certificate that names the peer:
//! URI `urn:fleetpulse:sensor:<uuid>` or `urn:fleetpulse:gateway:<uuid>`. A sensor sends its heartbeats as
//! DATAGRAMs, at most 16 frames in each; what is lost in flight is measured, not repaired. A gateway opens
//! one unidirectional stream and sends the frames of its sensors on it, one after the other. The server
//! opens a bidirectional stream for each control message ([`control`]). Who has no certificate yet, or one that ran
//! out, asks for one on another port ([`enrol`]). Refusals and closes carry an
//! application error code ([`close`]).
//!
//! **Frame.** A header of 16 bytes and a body, the same on datagram and stream. All numbers are
//! little-endian, nothing is aligned, nothing is optional.
//!
//! | offset | header | type | meaning |
//! |---|---|---|---|
//! | 0 | magic | u16 | `0x5046`: the bytes "FP" |
//! | 2 | kind | u8 | 1 = heartbeat |
//! | 3 | schema | u8 | version of the body, 1 |
//! | 4 | length | u16 | bytes of the body, 248 in version 1, at most 1,024 |
//! | 6 | flags | u16 | none defined; send zero, unknown ones are ignored |
//! | 8 | age_ms | u32 | milliseconds from making the frame to sending it; a relay adds the time it held it |
//! | 12 | reserved | u32 | zero |
//!
//! **Body**, schema version 1, 248 bytes. Offsets count from the start of the body. Text is UTF-8 without
//! control characters, padded with NUL. "All ones" (and 0x8000 for the temperature) says "not known".
//!
//! | offset | field | type | unit | meaning |
//! |---|---|---|---|---|
//! | 0 | `sensor_id` | `bytes[16]` |  | who reports: the 16 bytes of the UUID, not zero |
//! | 16 | `boot_id` | u64 |  | another value after each start, not zero |
//! | 24 | `sequence` | u64 |  | 1 for the first heartbeat of a boot, then one more each |
//! | 32 | `sensor_clock_unix_us` | i64 | us | wall clock of the sensor since 1970 UTC |
//! | 40 | `uptime_ms` | u64 | ms | since the sensor's software started |
//! | 48 | `interval_ms` | u32 | ms | heartbeat interval kept now, not zero |
//! | 52 | `flags` | u32 |  | bit 0 local override, 1 goodbye, 2 goodbye to restart, 3 backups disabled |
//! | 56 | `version` | `text[32]` |  | software version |
//! | 88 | `profile` | u8 |  | hardware: 1 C5600, 2 E1800, 3 E1000, 4 E500, 5 L500, 6 L100, 7 L60, 8 enterprise-iot |
//! | 89 | `update_stage` | u8 |  | 0 idle, 1 sending, 2 send-failed, 3 ready, 4 installing, 5 succeeded, 6 rolled-back, 7 failed |
//! | 90 | `update_percent` | u8 | % | progress of the stage, 0 to 100 |
//! | 91 | `ti_status` | u8 |  | threat intelligence: 1 ok, 2 update-available, 3 in-progress, 4 failed |
//! | 92 | `backup_result` | u8 |  | 0 none, 1 ok, 2 failed, 3 not-found, 4 unreadable, 5 network, 6 no-room |
//! | 93 | `ntp_state` | u8 |  | 1 ok, 2 unreachable, 3 not-configured |
//! | 94 | `directory_configured` | u8 |  | directory servers configured |
//! | 95 | `directory_reachable` | u8 |  | directory servers that answered, at most those configured |
//! | 96 | `endpoint_states` | `u8[8]` |  | each: 0 not-configured, 1 ok, 2 general, 3 dns, 4 tls, 5 proxy-auth, 6 proxy-needless |
//! | 104 | `update_error` | u16 |  | vendor's error number of the update, 0 none |
//! | 106 | `interfaces_total` | u16 |  | monitored interfaces |
//! | 108 | `interfaces_up` | u16 |  | of these, with link |
//! | 110 | `interfaces_with_traffic` | u16 |  | of these, with traffic since the last heartbeat |
//! | 112 | `update_target` | `text[32]` |  | version that the update leads to |
//! | 144 | `rx_packets` | u64 |  | packets captured since boot |
//! | 152 | `rx_bytes` | u64 | bytes | bytes captured since boot |
//! | 160 | `rx_dropped` | u64 |  | packets that capture lost since boot |
//! | 168 | `self_test_ran` | u32 |  | self-tests that exist, one bit each |
//! | 172 | `self_test_failed` | u32 |  | self-tests that failed, one bit each |
//! | 176 | `self_test_age_s` | u32 | s | since the self-tests ran; all ones = never |
//! | 180 | `backup_age_s` | u32 | s | since the last backup ended; all ones = never |
//! | 184 | `ti_version` | `text[16]` |  | day the threat intelligence was built, 2026-11-24 |
//! | 200 | `devices` | u32 |  | devices monitored |
//! | 204 | `alerts` | u32 |  | alerts open |
//! | 208 | `cpu_permille` | u16 | 1/1000 | CPU use; all ones = not known |
//! | 210 | `memory_permille` | u16 | 1/1000 | memory use; all ones = not known |
//! | 212 | `disk_permille` | `u16[4]` | 1/1000 | fill of root, data, boot, log; all ones = none |
//! | 220 | `temperature_decicelsius` | i16 | 0.1 C | CPU temperature; 0x8000 = no sensor |
//! | 222 | `reserved` | u16 |  | zero |
//! | 224 | `rtt_us` | u32 | us | round-trip time to the server; all ones = not known |
//! | 228 | `send_failures` | u32 |  | heartbeats that could not be sent since boot |
//! | 232 | `reconnects` | u32 |  | connections lost and made again since boot |
//! | 236 | `trust_generation` | u32 |  | trust bundle in use |
//! | 240 | `settings_generation` | u64 |  | settings in use, 0 none received |
//!
//! **Time.** The server decides by its own clock: the time of a frame is its receipt minus `age_ms`. The
//! sensor's clock is only compared with it. `age_ms` comes from a monotonic clock, and a frame may be 24
//! hours old at most. A frame that is older than the newest of its sensor counts for history only.
//!
//! **Arrivals.** `sequence` starts at 1 with every `boot_id` and rises by one with every heartbeat *made*,
//! sent or not. From these two the server knows what was lost, came twice, came late, and when the sensor
//! started again.
//!
//! **Growth.** A new schema version appends fields and changes nothing before them. A server reads the
//! prefix that it knows and counts the rest; a body that is longer than its version says is refused. A value
//! of an enumeration that the server does not know reads as 0. A sensor never sends a version older than 1.
//!
//! **Refused** is what can't be true: an id, boot id, sequence or interval of zero, a percentage over 100, a
//! per-mille value over 1,000 that is not "all ones", more interfaces up (or servers reachable) than there
//! are, text that is not text ([`frame::FrameError`]).
//!
//! The table is data in [`fields`]; tests hold it against the compiler's layout, this page, a C program that
//! knows nothing else, and the vectors kept for every version ever released.
//!
//! No I/O and no QUIC here: bytes in, values out.

pub mod close;
pub mod control;
pub mod enrol;
pub mod fields;
pub mod frame;
pub mod heartbeat;
pub mod id;
