//! Who has proven to hold the trust bundle, and a certificate of who signs now: written by the server while one root
//! takes the place of another, read by the command that retires the old one, which can't ask a register in use.
//!
//! It speaks of one bundle and one intermediate, and is of no use for others. It needs no lease: what is proven stays
//! proven, and whoever gets a certificate later gets it by the same authority.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::authority::FOLDER;
use super::files::{self, FileError};
use crate::time::UnixMillis;

const FILE: &str = "proven.json";
const SCHEMA: u32 = 1;

/// A peer that has not proven it yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lagging {
    /// `sensor` or `gateway`.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What is not proven.
    pub lacks: String,
}

/// What the server knows of the peers that hold a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    schema: u32,
    /// When it was counted, milliseconds since 1970.
    pub at_unix_ms: i64,
    /// The bundle that it is about.
    pub generation: u32,
    /// The intermediate that it is about.
    pub intermediate: String,
    /// Sensors and gateways that count: registered, active, with a certificate that is, or can be, of use.
    pub peers: u64,
    /// Those that proved to hold the bundle.
    pub with_bundle: u64,
    /// Those of them that also hold a certificate of who signs now.
    pub with_certificate: u64,
    /// Some of those that lack something.
    pub lagging: Vec<Lagging>,
}

impl Proof {
    /// Of nobody yet, about this bundle and intermediate.
    pub fn new(generation: u32, intermediate: String, now: UnixMillis) -> Proof {
        Proof {
            schema: SCHEMA,
            at_unix_ms: now.0,
            generation,
            intermediate,
            peers: 0,
            with_bundle: 0,
            with_certificate: 0,
            lagging: Vec::new(),
        }
    }

    /// True when both say the same, if at different times.
    pub fn agrees_with(&self, other: &Proof) -> bool {
        *self == Proof { at_unix_ms: self.at_unix_ms, ..other.clone() }
    }

    /// When it was counted.
    pub fn at(&self) -> UnixMillis {
        UnixMillis(self.at_unix_ms)
    }

    /// Writes it into `data/identity`.
    pub fn write(&self, data: &Path) -> Result<(), FileError> {
        let path = data.join(FOLDER).join(FILE);
        let text =
            serde_json::to_string(self).map_err(|error| FileError::content(&path, error.to_string()))?;
        files::write_private(&path, &text)
    }

    /// Reads it from the authority's folder; `None` when no server wrote one.
    pub(super) fn read(folder: &Path) -> Result<Option<Proof>, FileError> {
        let path = folder.join(FILE);
        let Some(text) = files::read(&path)? else { return Ok(None) };
        let proof: Proof =
            serde_json::from_str(&text).map_err(|error| FileError::content(&path, error.to_string()))?;
        if proof.schema != SCHEMA {
            let why = format!("it is of schema {}, this version reads {SCHEMA}", proof.schema);
            return Err(FileError::content(&path, why));
        }
        Ok(Some(proof))
    }
}
