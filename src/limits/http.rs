//! Bounds of the HTTP side's writing half: bodies, keys, passwords, sessions, rates, the identity provider.

use std::time::Duration;

use super::HTTP_ANSWER_TIMEOUT;

/// How long the request for a backup waits for its end; what takes longer is told to be under way.
pub const BACKUP_ANSWER_WAIT: Duration = Duration::from_secs(20);
/// Backups that are downloaded at once.
pub const BACKUP_DOWNLOADS_MAX: usize = 2;
/// Bytes of a backup that are read at once. A client that does not take so many in the time of an answer is cut off.
pub const BACKUP_PIECE_BYTES: usize = 512 * 1_024;
/// How long a TLS handshake may take.
pub const HTTP_TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two looks at the files or the authority that the certificate of HTTPS comes from.
pub const HTTP_TLS_LOOK_EVERY: Duration = Duration::from_secs(5);
/// A long answer gets more time than [`HTTP_ANSWER_TIMEOUT`] as long as its client takes at least so much of it: the
/// file of 100,000 sensors (25 MB) passes in 26 minutes at worst.
pub const HTTP_SEND_BYTES_PER_SECOND_MIN: u64 = 16 * 1_024;
/// How long a request's body may take in all.
pub const HTTP_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a request's body may stand still.
pub const HTTP_BODY_STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest body of a request that brings many items at once: bulk changes, imports. Ten thousand sensors with
/// everything said about them are about 5 MB.
pub const HTTP_LARGE_BODY_BYTES_MAX: usize = 16 * 1_024 * 1_024;
/// Requests with such bodies at once, so 64 MiB; small bodies of all connections are another 16.
pub const HTTP_LARGE_BODIES_MAX: usize = 4;
/// How long an answer to an idempotency key is kept.
pub const IDEMPOTENCY_KEEP: Duration = Duration::from_secs(24 * 3_600);
/// Longest idempotency key.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 128;
/// Idempotency keys known at once, of all callers. About 1 KB each with the usual answer; beyond it the oldest of who
/// has most is forgotten.
pub const IDEMPOTENCY_KEYS_MAX: usize = 4_096;
/// Idempotency keys of one user, their tokens' included. Beyond it their own oldest is forgotten.
pub const IDEMPOTENCY_KEYS_PER_OWNER_MAX: usize = 512;
/// Largest answer that is kept for a key.
pub const IDEMPOTENCY_ANSWER_BYTES_MAX: usize = 64 * 1_024;
/// Answers kept for keys, together; beyond it the oldest of who has most are forgotten.
pub const IDEMPOTENCY_BYTES_MAX: usize = 16 * 1_024 * 1_024;
/// Answers kept for the keys of one user. Beyond it their own oldest are forgotten.
pub const IDEMPOTENCY_BYTES_PER_OWNER_MAX: usize = 2 * 1_024 * 1_024;
/// Memory of one password hash, in KiB. Argon2id with 19 MiB and two passes: about 30 ms of one core, and what OWASP
/// asks for at least.
pub const ARGON2_MEMORY_KIB: u32 = 19 * 1_024;
/// Passes of one password hash.
pub const ARGON2_PASSES: u32 = 2;
/// Password hashes at once: 38 MiB, and no more than two cores, however many try to sign in.
pub const PASSWORD_HASHES_MAX: usize = 2;
/// Characters of a new password at least.
pub const PASSWORD_CHARS_MIN: usize = 12;
/// Bytes of a password at most.
pub const PASSWORD_BYTES_MAX: usize = 1_024;
/// Browser sessions at once, about 300 bytes each. Beyond it the one that was used longest ago ends.
pub const SESSIONS_MAX: usize = 10_000;
/// Browser sessions of one user.
pub const SESSIONS_PER_USER_MAX: usize = 20;
/// How long the link for the first administrator is good.
pub const SETUP_LIFE: Duration = Duration::from_secs(3_600);
/// Life of an API token when nobody says how long.
pub const TOKEN_LIFE_DEFAULT: Duration = Duration::from_secs(90 * 86_400);
/// Longest life of an API token.
pub const TOKEN_LIFE_MAX: Duration = Duration::from_secs(366 * 86_400);
/// The use of a token is written down at most this often.
pub const TOKEN_TOUCH_EVERY: Duration = Duration::from_secs(3_600);
/// Names and sources whose failed sign-ins are remembered, each: about 1 MB.
pub const SIGN_IN_FAILURES_MAX: usize = 16_384;
/// Failed sign-ins of one name before the next ones are slowed.
pub const SIGN_IN_FREE_PER_NAME: u32 = 5;
/// Failed sign-ins of one source before the next ones are slowed.
pub const SIGN_IN_FREE_PER_SOURCE: u32 = 10;
/// Longest wait between two tries of one name. Short, since others can bring it about: 2,880 guesses a day.
pub const SIGN_IN_WAIT_PER_NAME_MAX: Duration = Duration::from_secs(30);
/// Longest wait between two tries of one source.
pub const SIGN_IN_WAIT_PER_SOURCE_MAX: Duration = Duration::from_secs(900);
/// One failed sign-in of a name, and one of a source, is forgiven each time that this has passed without another.
pub const SIGN_IN_FORGIVEN_EVERY: Duration = Duration::from_secs(300);
/// Refused sign-ins that are written to the audit log in a minute; the others are counted in the next entry.
pub const SIGN_IN_REFUSALS_PER_MINUTE: u32 = 30;
/// Addresses and networks of proxies that are believed.
pub const TRUSTED_PROXIES_MAX: usize = 64;
/// Hops of one `X-Forwarded-For` that are looked at, from the nearest.
pub const FORWARDED_HOPS_MAX: usize = 32;
/// Callers whose rate of requests is remembered: about 1 MB. Beyond it those are forgotten that have not asked lately.
pub const RATES_MAX: usize = 16_384;
/// Requests that one caller may send at once, in seconds of their rate.
pub const RATE_BURST: Duration = Duration::from_secs(3);
/// How long a request to the identity provider may take.
pub const OIDC_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of one answer of the identity provider; more is cut off.
pub const OIDC_ANSWER_BYTES_MAX: u64 = 1_024 * 1_024;
/// How long somebody may take at the identity provider.
pub const OIDC_FLOW_LIFE: Duration = Duration::from_secs(600);
/// How long is believed what the identity provider says of itself.
pub const OIDC_METADATA_LIFE: Duration = Duration::from_secs(3_600);
/// It is asked again at most this often when a signature can't be checked with what is known.
pub const OIDC_METADATA_AGAIN: Duration = Duration::from_secs(5);
/// A failure to reach the identity provider is told to everybody for so long, without asking it again.
pub const OIDC_FAILED_KEEP: Duration = Duration::from_secs(5);

/// Sensors that one bulk change names.
pub const BULK_ITEMS_MAX: usize = 10_000;
/// Sensors that the filter of one bulk change may find: all or nothing is one batch, and looked at under one lock.
pub const BULK_FOUND_MAX: usize = 50_000;
/// Sensors that the answer of a dry run tells as left out; it says how many there are.
pub const BULK_LEFT_OUT_TOLD: usize = 10_000;
/// Changes of one durable batch of a bulk change that may be done in part. A batch is some milliseconds of disk, and
/// single changes come between two of them.
pub const BULK_BATCH: usize = 1_000;
/// Bulk changes whose results are known, of all callers. Beyond it the oldest finished one is forgotten.
pub const JOBS_MAX: usize = 16;
/// Items of those together. About 300 bytes an item at worst, so 48 MB. Beyond it the oldest finished are forgotten.
pub const JOB_ITEMS_MAX: usize = 160_000;
/// Bulk changes of one caller, who pushes out none but their own.
pub const JOBS_PER_CALLER_MAX: usize = 8;
/// Sensors that one import brings.
pub const IMPORT_ROWS_MAX: usize = 10_000;
/// Faults of an import that one answer tells; it says how many more there are.
pub const IMPORT_FAULTS_TOLD: usize = 1_000;
/// Activation files of one request. About 6 KB each.
pub const ACTIVATIONS_MAX: usize = 1_000;
/// Threads that carry out bulk changes, one change after the other.
pub const JOB_WORKERS: usize = 1;

const _: () = assert!(BACKUP_ANSWER_WAIT.as_secs() < HTTP_ANSWER_TIMEOUT.as_secs());
const _: () = assert!(HTTP_BODY_STALL_TIMEOUT.as_secs() < HTTP_BODY_TIMEOUT.as_secs());
const _: () = assert!(HTTP_BODY_TIMEOUT.as_secs() < HTTP_ANSWER_TIMEOUT.as_secs());
const _: () = assert!(IDEMPOTENCY_KEYS_PER_OWNER_MAX < IDEMPOTENCY_KEYS_MAX);
const _: () = assert!(IDEMPOTENCY_ANSWER_BYTES_MAX < IDEMPOTENCY_BYTES_PER_OWNER_MAX);
const _: () = assert!(IDEMPOTENCY_BYTES_PER_OWNER_MAX < IDEMPOTENCY_BYTES_MAX);
const _: () = assert!(JOBS_PER_CALLER_MAX < JOBS_MAX);
// A row is at most a site, what is said of it, a zone, a sensor, and what is said of that.
const _: () = assert!(IMPORT_ROWS_MAX * 5 <= super::COMMANDS_PER_BATCH_MAX);
// All or nothing is one batch.
const _: () = assert!(BULK_BATCH <= BULK_ITEMS_MAX && BULK_ITEMS_MAX <= BULK_FOUND_MAX);
const _: () = assert!(BULK_FOUND_MAX <= super::COMMANDS_PER_BATCH_MAX && 3 * BULK_FOUND_MAX <= JOB_ITEMS_MAX);
