//! Revoked serial numbers. Asked after every handshake, changed by hand and rarely; so it is a set behind a
//! read-write lock, and a file that is written whole.
//!
//! The cost: a change writes about 100 bytes for each certificate that is remembered, while other changes of the fleet
//! wait: a megabyte for 10,000, and 100 for the most that are kept. So a certificate is forgotten when it could not be
//! renewed any more even if it was not revoked.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::files::{self, FileError};
use super::verify::Serial;
use crate::limits::{PEER_CERTIFICATE_LIFE_MAX, RENEWAL_GRACE_MAX, REVOKED_MAX};
use crate::time::UnixMillis;

/// 2: with the certificate's last instant, which 1 did not know.
const SCHEMA: u32 = 2;
const SCHEMA_OLDEST: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Document {
    schema: u32,
    revoked: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    serial: String,
    at: i64,
    #[serde(default)]
    not_after: Option<i64>,
}

/// A certificate to be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Its serial number.
    pub serial: Serial,
    /// Its last instant; `None`: not known, so as late as one that there is now can have it.
    pub not_after: Option<UnixMillis>,
}

impl From<Serial> for Revoked {
    fn from(serial: Serial) -> Revoked {
        Revoked { serial, not_after: None }
    }
}

/// When it was revoked, and its last instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    at: UnixMillis,
    not_after: UnixMillis,
}

impl Kept {
    fn new(at: UnixMillis, not_after: Option<UnixMillis>) -> Kept {
        Kept { at, not_after: not_after.unwrap_or(at.plus(PEER_CERTIFICATE_LIFE_MAX)) }
    }

    /// Of use to nobody, whatever grace the configuration gives.
    fn is_over(&self, now: UnixMillis) -> bool {
        self.not_after.plus(RENEWAL_GRACE_MAX) < now
    }
}

/// The revoked serials of one installation.
#[derive(Debug)]
pub struct Revocations {
    path: PathBuf,
    writer: Mutex<()>,
    revoked: RwLock<HashMap<Serial, Kept>>,
}

impl Revocations {
    /// Reads `data/identity/revoked.json`; none revoked when there is no such file. A file that can't be read
    /// stops the start: forgetting a revocation would let a stolen key in. A folder without an authority is refused:
    /// what is revoked there is revoked nowhere.
    pub fn open(data: &Path) -> Result<Revocations, FileError> {
        let folder = data.join(super::authority::FOLDER);
        if !folder.join(super::authority::TRUST).is_file() {
            return Err(FileError::NoAuthority { path: data.to_owned() });
        }
        let path = folder.join("revoked.json");
        let revoked = read(&path)?;
        Ok(Revocations { path, writer: Mutex::new(()), revoked: RwLock::new(revoked) })
    }

    /// Reads the file again, after another program wrote it; returns the serials that are new. Nothing that
    /// was revoked here is forgotten, and an unreadable file changes nothing.
    pub fn reload(&self) -> Result<Vec<Serial>, FileError> {
        let _one_writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let found = read(&self.path)?;
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = Vec::new();
        for (serial, kept) in found {
            if revoked.insert(serial, kept).is_none() {
                new.push(serial);
            }
        }
        Ok(new)
    }

    /// All that are revoked.
    pub fn serials(&self) -> Vec<Serial> {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// True when a certificate with this serial must not be accepted.
    pub fn contains(&self, serial: &Serial) -> bool {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).contains_key(serial)
    }

    /// How many are revoked.
    pub fn len(&self) -> usize {
        self.revoked.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// True when none is revoked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Revokes these; durable before it takes effect, and in effect when this returns. Live connections are
    /// closed by who calls this (ingest knows them). Those that can't matter any more are forgotten with it. Returns how
    /// many are new.
    pub fn revoke(&self, certificates: &[Revoked], at: UnixMillis) -> Result<usize, FileError> {
        let _one_writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // Another program may have revoked since this one read: nobody writes between our reading and writing.
        let _one_program = files::lock(&self.path)?;
        let written = read(&self.path)?;
        let mut next = written.clone();
        for (serial, kept) in self.revoked.read().unwrap_or_else(PoisonError::into_inner).iter() {
            next.entry(*serial).or_insert(*kept);
        }
        let before = next.len();
        for Revoked { serial, not_after } in certificates {
            next.entry(*serial).or_insert(Kept::new(at, *not_after));
        }
        let new = next.len() - before;
        if next.len() == written.len() {
            *self.revoked.write().unwrap_or_else(PoisonError::into_inner) = next;
            return Ok(0);
        }
        next.retain(|_, kept| !kept.is_over(at));
        if next.len() > REVOKED_MAX {
            return Err(FileError::content(
                &self.path,
                format!("more than {REVOKED_MAX} revoked certificates; renew the intermediate"),
            ));
        }
        let entry = |(serial, kept): (&Serial, &Kept)| {
            let (serial, not_after) = (serial.to_string(), Some(kept.not_after.0));
            Entry { serial, at: kept.at.0, not_after }
        };
        let mut revoked: Vec<_> = next.iter().map(entry).collect();
        revoked.sort_by(|a, b| (a.at, &a.serial).cmp(&(b.at, &b.serial)));
        let text = serde_json::to_string(&Document { schema: SCHEMA, revoked })
            .map_err(|error| FileError::content(&self.path, error.to_string()))?;
        files::write_private(&self.path, &text)?;
        *self.revoked.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(new)
    }
}

fn read(path: &Path) -> Result<HashMap<Serial, Kept>, FileError> {
    let mut revoked = HashMap::new();
    let Some(text) = files::read(path)? else { return Ok(revoked) };
    let document: Document =
        serde_json::from_str(&text).map_err(|error| FileError::content(path, error.to_string()))?;
    if !(SCHEMA_OLDEST..=SCHEMA).contains(&document.schema) {
        let why = format!("it is of schema {}, this version reads up to {SCHEMA}", document.schema);
        return Err(FileError::content(path, why));
    }
    for entry in document.revoked {
        let serial = entry
            .serial
            .parse()
            .map_err(|error| FileError::content(path, format!("{}: {error}", entry.serial)))?;
        revoked.insert(serial, Kept::new(UnixMillis(entry.at), entry.not_after.map(UnixMillis)));
    }
    Ok(revoked)
}
