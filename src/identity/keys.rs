//! Keys that all shards share and that outlive a restart.
//!
//! The reset key lets a restarted server tell a sensor at once that its connection is gone; the token key
//! proves an address across shards and restarts; the ticket keys let a herd resume. Reset and token keys
//! never change: who holds a connection to a server that forgot it must understand the reset. Ticket keys
//! rotate, because whoever steals one can read recorded resumptions; the previous one still opens tickets.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{Context, Digest, SHA256, SHA256_OUTPUT_LEN};
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};

use super::files::{self, FileError};
use super::trust::TrustBundle;
use crate::limits::{TICKET_BYTES_MAX, TICKET_KEY_LIFE};
use crate::time::{Clock, UnixMillis};

const SCHEMA: u32 = 1;
const KEY_ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

#[derive(Serialize, Deserialize)]
struct Document {
    schema: u32,
    reset: String,
    token: String,
    tickets: Vec<TicketEntry>,
}

#[derive(Serialize, Deserialize, Clone)]
struct TicketEntry {
    id: String,
    key: String,
    made: i64,
}

struct TicketKey {
    id: [u8; KEY_ID_BYTES],
    key: RandomizedNonceKey,
    made: UnixMillis,
    entry: TicketEntry,
}

/// The shared keys of one installation.
pub struct Keys {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    reset: [u8; 64],
    token: [u8; 64],
    /// Newest first, two at most.
    tickets: RwLock<Vec<TicketKey>>,
    opened: AtomicU64,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Keys {
    /// Opens `data/identity/keys.json`, or makes it; rotates the ticket key when it is due.
    pub fn open_or_create(data: &Path, clock: Arc<dyn Clock>) -> Result<Arc<Keys>, FileError> {
        let folder = data.join(super::authority::FOLDER);
        files::make_folder(&folder)?;
        let path = folder.join("keys.json");
        let keys = if path.exists() {
            let text = files::read_private(&path)?;
            Keys::parse(&path, clock, &text)?
        } else {
            let mut reset = [0; 64];
            let mut token = [0; 64];
            fill(&path, &mut reset)?;
            fill(&path, &mut token)?;
            let tickets = RwLock::new(Vec::new());
            Keys { path, clock, reset, token, tickets, opened: AtomicU64::new(0) }
        };
        keys.rotate_due()?;
        Ok(Arc::new(keys))
    }

    /// Key of QUIC stateless resets (HMAC-SHA256).
    pub fn reset_key(&self) -> &[u8; 64] {
        &self.reset
    }

    /// Master key of QUIC address tokens (HKDF).
    pub fn token_key(&self) -> &[u8; 64] {
        &self.token
    }

    /// Makes a new ticket key when the newest is older than [`TICKET_KEY_LIFE`]; keeps the one before it.
    /// Durable before it is used. Call it from housekeeping, every hour or so; true when it rotated.
    pub fn rotate_due(&self) -> Result<bool, FileError> {
        let now = self.clock.unix();
        let mut entries: Vec<TicketEntry> = {
            let tickets = self.tickets.read().unwrap_or_else(PoisonError::into_inner);
            if tickets.first().is_some_and(|newest| age_ms(newest.made, now) < life_ms()) {
                return Ok(false);
            }
            tickets.iter().take(1).map(|ticket| ticket.entry.clone()).collect()
        };
        let (mut id, mut key) = ([0; KEY_ID_BYTES], [0; 32]);
        fill(&self.path, &mut id)?;
        fill(&self.path, &mut key)?;
        entries.insert(0, TicketEntry { id: hex(&id), key: hex(&key), made: now.0 });
        let document = Document {
            schema: SCHEMA,
            reset: hex(&self.reset),
            token: hex(&self.token),
            tickets: entries.clone(),
        };
        let text = serde_json::to_string(&document)
            .map_err(|error| FileError::content(&self.path, error.to_string()))?;
        files::write_private(&self.path, &text)?;
        let tickets =
            entries.into_iter().map(|entry| ticket_key(&self.path, entry)).collect::<Result<_, _>>()?;
        *self.tickets.write().unwrap_or_else(PoisonError::into_inner) = tickets;
        Ok(true)
    }

    /// Tickets opened since the start: handshakes that resumed a session.
    pub fn tickets_opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// The ticket maker for the TLS library. It opens only what was made while exactly these roots were trusted.
    pub fn ticketer(self: &Arc<Keys>, trust: &TrustBundle) -> Arc<dyn ProducesTickets> {
        let mut roots = Context::new(&SHA256);
        trust.roots.iter().for_each(|root| roots.update(root));
        Arc::new(TicketSealer { keys: self.clone(), roots: roots.finish() })
    }

    fn parse(path: &Path, clock: Arc<dyn Clock>, text: &str) -> Result<Keys, FileError> {
        let document: Document =
            serde_json::from_str(text).map_err(|error| FileError::content(path, error.to_string()))?;
        if document.schema != SCHEMA {
            return Err(FileError::content(
                path,
                format!("it is of schema {}, this version reads {SCHEMA}", document.schema),
            ));
        }
        let tickets = document
            .tickets
            .into_iter()
            .take(2)
            .map(|entry| ticket_key(path, entry))
            .collect::<Result<_, _>>()?;
        Ok(Keys {
            path: path.to_owned(),
            clock,
            reset: unhex(path, &document.reset)?,
            token: unhex(path, &document.token)?,
            tickets: RwLock::new(tickets),
            opened: AtomicU64::new(0),
        })
    }
}

/// Makes and opens session tickets: key id, nonce, AES-256-GCM of the session, tag. A ticket is opened for at
/// most twice [`TICKET_KEY_LIFE`] after its key was made. It holds the peer's chain, so the session that
/// resumes shows the same certificate, which is judged again; but who issued it is not. So the roots that it was
/// verified by are sealed with it, as data that has to be the same when it is opened and takes no room.
pub struct TicketSealer {
    keys: Arc<Keys>,
    roots: Digest,
}

impl TicketSealer {
    fn bound_to(&self, key: &TicketKey) -> Aad<[u8; KEY_ID_BYTES + SHA256_OUTPUT_LEN]> {
        let mut bytes = [0; KEY_ID_BYTES + SHA256_OUTPUT_LEN];
        bytes[..KEY_ID_BYTES].copy_from_slice(&key.id);
        bytes[KEY_ID_BYTES..].copy_from_slice(self.roots.as_ref());
        Aad::from(bytes)
    }
}

impl fmt::Debug for TicketSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketSealer")
    }
}

impl ProducesTickets for TicketSealer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(TICKET_KEY_LIFE.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.tickets.read().unwrap_or_else(PoisonError::into_inner);
        let newest = keys.first()?;
        let mut sealed = plain.to_vec();
        let nonce = newest.key.seal_in_place_append_tag(self.bound_to(newest), &mut sealed).ok()?;
        let mut ticket = Vec::with_capacity(KEY_ID_BYTES + NONCE_BYTES + sealed.len());
        ticket.extend_from_slice(&newest.id);
        ticket.extend_from_slice(nonce.as_ref());
        ticket.extend_from_slice(&sealed);
        (ticket.len() <= TICKET_BYTES_MAX).then_some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX || ticket.len() < KEY_ID_BYTES + NONCE_BYTES + TAG_BYTES {
            return None;
        }
        let (id, rest) = ticket.split_first_chunk::<KEY_ID_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let keys = self.keys.tickets.read().unwrap_or_else(PoisonError::into_inner);
        let now = self.keys.clock.unix();
        let key = keys.iter().find(|key| key.id == *id && age_ms(key.made, now) < 2 * life_ms())?;
        let mut plain = sealed.to_vec();
        let length = key.key.open_in_place(Nonce::from(nonce), self.bound_to(key), &mut plain).ok()?.len();
        plain.truncate(length);
        self.keys.opened.fetch_add(1, Ordering::Relaxed);
        Some(plain)
    }
}

fn life_ms() -> i64 {
    i64::try_from(TICKET_KEY_LIFE.as_millis()).unwrap_or(i64::MAX)
}

/// A clock that was set back makes a key young again, never old.
fn age_ms(made: UnixMillis, now: UnixMillis) -> i64 {
    now.0.saturating_sub(made.0).max(0)
}

fn ticket_key(path: &Path, entry: TicketEntry) -> Result<TicketKey, FileError> {
    let key: [u8; 32] = unhex(path, &entry.key)?;
    let key = RandomizedNonceKey::new(&AES_256_GCM, &key)
        .map_err(|_| FileError::content(path, "a ticket key is no key"))?;
    Ok(TicketKey { id: unhex(path, &entry.id)?, key, made: UnixMillis(entry.made), entry })
}

fn fill(path: &Path, bytes: &mut [u8]) -> Result<(), FileError> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| FileError::content(path, "the system gives no random numbers"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(path: &Path, text: &str) -> Result<[u8; N], FileError> {
    let bad =
        || FileError::content(path, format!("a key of {N} bytes should be {} hexadecimal digits", 2 * N));
    if text.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(bad());
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
    }
    Ok(bytes)
}
