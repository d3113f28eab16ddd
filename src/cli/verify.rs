//! `fleetpulse verify`: was this file signed by our server, and is it unchanged?

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use super::client::signature_of;
use super::paint::clean;
use crate::identity::{
    ActivationError, ActivationFile, SignatureCheck, SignedError, TrustBundle, read_trust, verify,
};
use crate::limits::SIGNED_FILE_BYTES_MAX;
use crate::time::{Clock, SystemClock, UnixMillis};

/// Bytes of a file that are checked at once.
const PIECE_BYTES: usize = 256 * 1_024;

/// Flags of `verify`.
#[derive(Args)]
#[command(after_help = "\
A download has its signature beside it, in FILE.jws; other files, such as activation files, carry it in them.

Exit code 0: signed by an authority of the trust bundle, and unchanged. 65: not. Take the trust bundle from the server's \
data directory (identity/trust.pem), or from a sensor's identity folder.")]
pub struct Verify {
    /// The signed file; its signature is looked for in FILE.jws
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Trust bundle to check it with; without one an activation file is checked with the bundle in it, which proves
    /// only that it is unchanged
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Write the content here, of a file that carries its signature
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> Result<(), Failure> {
        let outcome = self.check();
        if self.json { outcome.map_err(Failure::into_json) } else { outcome }
    }

    fn check(&self) -> Result<(), Failure> {
        let now = SystemClock::start().unix();
        let beside = signature_of(&self.file);
        if beside.exists() {
            return self.against(&beside, now);
        }
        let bytes = read(&self.file)?;
        let trust = match &self.trust {
            Some(path) => TrustBundle::read(path).map_err(Failure::failed)?,
            None => read_trust(&bytes).map_err(|error| match error {
                ActivationError::Signed(error) => self.refused(&error),
                ActivationError::Kind { .. } => Failure::usage(
                    "give the trust bundle with --trust FILE; only activation files bring their own",
                ),
                error => Failure::data(format!("{}: {error} [{}]", self.file.display(), error.code())),
            })?,
        };
        let file = match verify(&bytes, &trust, now) {
            Ok(file) => file,
            Err(error) => return Err(self.refused(&error)),
        };
        if let Some(out) = &self.out {
            write(out, &file.payload).map_err(|error| {
                Failure::failed(format!("{}: {error}; give a path that can be written", out.display()))
            })?;
        }
        let activation = file.media_type == ActivationFile::MEDIA_TYPE;
        let fingerprints = activation
            .then(|| ActivationFile::read(&bytes, Some(&trust), file.signed_at).ok())
            .flatten()
            .map(|file| file.fingerprints())
            .unwrap_or_default();
        let proven = self.trust.is_some();
        if self.json {
            println!(
                "{}",
                serde_json::json!({
                    "good": true, "name": file.name, "media_type": file.media_type, "bytes": file.payload.len(),
                    "signed_by": file.signed_by, "signed_at_ms": file.signed_at.0, "origin_proven": proven,
                    "root_fingerprints": fingerprints,
                })
            );
        } else {
            println!("good: {:?}, {}, {} bytes", file.name, clean(&file.media_type), file.payload.len());
            println!("  signed by {}", clean(&file.signed_by));
            if !proven {
                println!(
                    "  unchanged; that it is from your server, only --trust or the root's fingerprint proves:"
                );
            }
            for fingerprint in fingerprints {
                println!("  root SHA-256 {fingerprint}");
            }
        }
        Ok(())
    }

    /// Checks a file of any size against the signature that lies beside it.
    fn against(&self, beside: &Path, now: UnixMillis) -> Result<(), Failure> {
        let Some(trust) = &self.trust else {
            return Err(Failure::usage("give the server's trust bundle with --trust FILE"));
        };
        if self.out.is_some() {
            return Err(Failure::usage("the file is its own content; leave --out out"));
        }
        let trust = TrustBundle::read(trust).map_err(Failure::failed)?;
        let signature = read(beside)?;
        let mut file = File::open(&self.file).map_err(|error| unreadable(&self.file, &error))?;
        let mut check = match SignatureCheck::begin(&signature, &trust, now) {
            Ok(check) => check,
            Err(error) => return Err(self.refused(&error)),
        };
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match file.read(&mut piece).map_err(|error| unreadable(&self.file, &error))? {
                0 => break,
                length => check.update(&piece[..length]),
            }
        }
        let file = match check.finish() {
            Ok(file) => file,
            Err(error) => return Err(self.refused(&error)),
        };
        if self.json {
            println!(
                "{}",
                serde_json::json!({
                    "good": true, "name": file.name, "media_type": file.media_type, "bytes": file.bytes,
                    "signed_by": file.signed_by, "signed_at_ms": file.signed_at.0, "origin_proven": true,
                    "register": file.register,
                })
            );
        } else {
            println!("good: {:?}, {}, {} bytes", file.name, clean(&file.media_type), file.bytes);
            println!("  signed by {}", clean(&file.signed_by));
            if !file.register.is_empty() {
                println!("  with every change of the register up to {}", clean(&file.register));
            }
        }
        Ok(())
    }

    fn refused(&self, error: &SignedError) -> Failure {
        if self.json {
            let code = error.code();
            println!("{}", serde_json::json!({ "good": false, "code": code, "detail": error.to_string() }));
            return Failure::data("");
        }
        let beside = signature_of(&self.file);
        let more = match error {
            SignedError::NotSigned(_) if !beside.exists() => {
                format!("\n  next   a download's signature lies beside it; there is no {}", beside.display())
            }
            _ => String::new(),
        };
        Failure::data(format!("{}: {error} [{}]{more}", self.file.display(), error.code()))
    }
}

/// What is taken out of a file may be a secret, as an activation file's token is.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

/// A file of bounded size.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let fail = |error: io::Error| unreadable(path, &error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(fail)?;
    file.take(SIGNED_FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("{}: {error}; give the path of a readable file", path.display()))
}
