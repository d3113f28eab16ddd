//! Bounds of lists, files and event streams of the HTTP side.

use std::time::Duration;

use super::{HTTP_ANSWER_TIMEOUT, HTTP_CONNECTIONS_MAX};

/// Rows of the grid that are gone through under one lock: about a tenth of a millisecond.
pub const GRID_STEP_ROWS: usize = 4_096;
/// Sensors of a list that are looked up in the register under one lock.
pub const SENSORS_BATCH: usize = 256;
/// Values that one parameter of a list may have.
pub const FILTER_VALUES_MAX: usize = 100;
/// Characters of a text that a list is searched for.
pub const FILTER_TEXT_CHARS_MAX: usize = 200;
/// Sites that the counts beside a list of sensors name.
pub const FACET_SITES_SHOWN: usize = 100;
/// Bytes of a file that are made at once.
pub const EXPORT_PIECE_BYTES: usize = 256 * 1_024;
/// Files under way at once. Of sensors: a piece, and 20 bytes a sensor, each; 130 bytes a sensor while it is put in
/// order. Of places: a piece, and as much as their names.
pub const EXPORTS_MAX: usize = 4;
/// Rows of a file of places that are looked up under one lock.
pub const PLACES_BATCH: usize = 1_024;
/// How long the signature of a file can be fetched after the file is complete.
pub const SIGNATURE_KEEP: Duration = Duration::from_secs(900);
/// Signatures of files that can be fetched, at 3 KB each: 1 MB. Beyond it the oldest is forgotten.
pub const SIGNATURES_MAX: usize = 256;
/// Signatures of one caller, who pushes out none but their own.
pub const SIGNATURES_PER_CALLER_MAX: usize = 32;
/// Items of the audit log that are made at once for a file: about half a megabyte.
pub const AUDIT_EXPORT_ITEMS: usize = 1_000;
/// Clients that follow events at once; the other connections are left to everybody else.
pub const EVENT_STREAMS_MAX: usize = 200;
/// When a client that found no place among them may come back.
pub const EVENT_STREAMS_RETRY: Duration = Duration::from_secs(10);
/// A stream of events ends after this, and its client comes back: no answer lasts for ever.
pub const EVENT_STREAM_LIFE: Duration = Duration::from_secs(3_600);
/// Time between two signs of life of a stream on which nothing happens. Shorter than what an answer may take.
pub const EVENT_HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// Time between two looks at the ends of the logs while somebody follows events, and at whether it was changed what
/// somebody may see.
pub const EVENT_LOOK_EVERY: Duration = Duration::from_millis(100);
/// Time between two looks at what changed of live values.
pub const EVENT_LIVE_EVERY: Duration = Duration::from_secs(1);
/// Sensors in one event of live values.
pub const EVENT_LIVE_SENSORS: usize = 200;
/// Sensors whose live values are told one by one; when more change at once, clients are told to read them.
pub const EVENT_LIVE_SENSORS_MAX: usize = 20_000;
/// Batches or journal entries that are read from a log at once.
pub const EVENT_READ_MAX: usize = 64;
/// Batches or journal entries for which a client that comes back is served from the log; beyond it begins anew.
pub const EVENT_RESUME_MAX: usize = 10_000;
/// Entries of a ring of events. There are two rings.
pub const EVENT_RING_ENTRIES_MAX: usize = 32_768;
/// Bytes of a ring of events; one entry may be larger, as a change of ten thousand sensors is (4 MB).
pub const EVENT_RING_BYTES_MAX: usize = 8 * 1_024 * 1_024;
/// Bytes of events that are handed to a connection at once.
pub const EVENT_PIECE_BYTES: usize = 32 * 1_024;
/// Different versions that the counts beside a list of sensors tell apart; the others count as not known.
pub const FACET_VERSIONS_MAX: usize = 1_024;

const _: () = assert!(EVENT_HEARTBEAT_EVERY.as_secs() < HTTP_ANSWER_TIMEOUT.as_secs());
const _: () = assert!(EVENT_STREAMS_MAX < HTTP_CONNECTIONS_MAX);
const _: () = assert!(EXPORTS_MAX < SIGNATURES_PER_CALLER_MAX && SIGNATURES_PER_CALLER_MAX < SIGNATURES_MAX);
