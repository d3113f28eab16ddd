//! Bounds of the API's client on the command line.

use std::time::Duration;

/// Largest profile file.
pub const PROFILE_FILE_BYTES_MAX: u64 = 1_024 * 1_024;
/// Largest file with an API token.
pub const TOKEN_FILE_BYTES_MAX: u64 = 4 * 1_024;
/// Time for a connection to the server, with TLS.
pub const CLIENT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the beginning of an answer; the whole of one may take twice as long.
pub const CLIENT_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer that is read as one document.
pub const CLIENT_ANSWER_BYTES_MAX: u64 = 64 * 1_024 * 1_024;
/// Largest refusal that is read.
pub const CLIENT_PROBLEM_BYTES_MAX: u64 = 64 * 1_024;
/// Times that a request is sent again after the server put it off.
pub const CLIENT_RETRIES_MAX: u32 = 4;
/// Longest `Retry-After` that is waited for.
pub const CLIENT_RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// Shortest time until a stream that ended is opened again, whatever the server says.
pub const CLIENT_RETRY_AFTER_MIN: Duration = Duration::from_millis(500);
/// Items of a list when nobody says how many.
pub const CLIENT_ITEMS_MAX: usize = 1_000_000;
/// Items that are looked through for a name.
pub const CLIENT_LOOKED_THROUGH_MAX: usize = 100_000;
/// Things of one name that a message names.
pub const CLIENT_CANDIDATES_SHOWN: usize = 10;
/// Sensors that a message names as left out of a change.
pub const CLIENT_LEFT_OUT_SHOWN: usize = 10_000;
/// Largest file that is written; a million sensors with everything said of them are 2 GB.
pub const CLIENT_DOWNLOAD_BYTES_MAX: u64 = 16 * 1_024 * 1_024 * 1_024;
/// Largest event that is read; a change of ten thousand sensors is 4 MB.
pub const CLIENT_EVENT_BYTES_MAX: u64 = 16 * 1_024 * 1_024;
/// Time between two looks whether a backup that takes long is complete.
pub const CLIENT_BACKUP_LOOK_EVERY: Duration = Duration::from_secs(2);

/// Largest file that is sent: an import of ten thousand sensors fits.
pub const CLIENT_FILE_BYTES_MAX: u64 = 16 * 1_024 * 1_024;
/// Wrong rows of an import that a message names.
pub const CLIENT_ROWS_SHOWN: usize = 20;
