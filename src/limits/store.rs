//! The store's limits.

/// Batches of the register's log whose earliest and latest time is kept in one row.
pub const TIMES_BLOCK: u64 = 1_024;
/// Batches, or blocks of them, that one page of the audit log looks at; a page that finds less says how to go on.
pub const AUDIT_SCAN_MAX: usize = 50_000;
/// Bytes of batches that one page of the audit log reads.
pub const AUDIT_SCAN_BYTES_MAX: usize = 64 * 1_024 * 1_024;
/// Bytes of batches after which a page of the audit log is full; a bulk change is one batch of up to 5 MB.
pub const AUDIT_PAGE_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Bytes of one record of a backup: a batch of [`super::COMMANDS_PER_BATCH_MAX`] sensors with all that can be said of each.
pub const BACKUP_RECORD_BYTES_MAX: usize = 1 << 30;
/// Backups that a server keeps of itself when nobody says how many.
pub const BACKUPS_KEEP_DEFAULT: usize = 7;
/// Backups that a server keeps of itself at most.
pub const BACKUPS_KEEP_MAX: usize = 1_000;
/// Bytes that must be free on the disk beside a new backup: the store may be on it too, and goes on writing.
pub const BACKUP_FREE_BYTES: u64 = 64 * 1_024 * 1_024;
/// Bytes that a restore writes in one transaction.
pub const BACKUP_WRITE_BYTES: usize = 8 * 1_024 * 1_024;
/// Journal entries kept; the oldest go first. About 450 bytes each with their indexes: 4.5 GB. Messages that
/// ended are remembered as long as the entries that ended them.
pub const JOURNAL_ENTRIES_MAX: u64 = 10_000_000;
/// Journal entries forgotten in one transaction: the next batch waits for no more than that.
pub const JOURNAL_FORGET_MAX: usize = 10_000;
/// Journal entries that one page of a query looks at; a page that finds less says how to go on.
pub const JOURNAL_SCAN_MAX: usize = 50_000;
/// Values of evidence in one journal entry.
pub const EVIDENCE_MAX: usize = 16;
/// Bytes of one text in a journal entry; longer ones are cut.
pub const EVIDENCE_TEXT_BYTES_MAX: usize = 256;
/// Page cache of the register's log, read once at start and then only appended to.
pub const REGISTER_CACHE_BYTES: usize = 16 * 1_024 * 1_024;
/// Page cache of the journal.
pub const JOURNAL_CACHE_BYTES: usize = 64 * 1_024 * 1_024;
/// Changes in the log beyond the last snapshot that make a new snapshot worth writing. Folding that many
/// takes a tenth of a second at start.
pub const SNAPSHOT_EVERY_CHANGES: u64 = 100_000;
/// Five-minute history blocks kept: 24 hours, and the hour that is being folded into its hour block.
pub const HISTORY_BLOCKS_MAX: usize = 24 * 12 + 12;
/// Hour blocks of history kept: 30 days.
pub const HISTORY_HOURS_MAX: usize = 30 * 24;
/// Sensors of one chunk of a history block: what is read and checked to get at one sensor, about 25 KB.
pub const HISTORY_CHUNK_SENSORS: usize = 1_024;
/// Ids of history blocks kept in memory, in bytes; the ids of at least one block are.
pub const HISTORY_IDS_CACHE_BYTES: usize = 32 * 1_024 * 1_024;
/// Points of one series: five-minute points of a day and hour points of a month fit.
pub const SERIES_POINTS_MAX: usize = 2_000;
