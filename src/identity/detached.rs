//! The signature that lies beside a file: `FILE` and `FILE.jws`.
//!
//! It is a JSON Web Signature whose payload is the file as it is (RFC 7515, appendix F; RFC 7797, `"b64": false`), in
//! compact form: one line, `header..signature`. So the file stays what a spreadsheet or a script can read, the signature
//! stands on a standard, and both ends go through the file once, in pieces: its size costs no memory. The header is that
//! of [`super::signed`] (media type, name, time of signing, chain), and tells the position in the register's log that
//! the content includes at least.
//!
//! What it does not prove: that the file is the newest, or that somebody else may not read it.

use aws_lc_rs::digest::{Context, Digest, SHA256};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use super::signed::{ALGORITHM, Header, SignedBy, SignedError, TYPE, from_base64url};
use super::trust::TrustBundle;
use crate::limits::SIGNATURE_BYTES_MAX;
use crate::time::UnixMillis;

/// The one extension that a reader must know (RFC 7797).
pub(super) const UNENCODED: &str = "b64";

/// What is signed, as far as it is known: the header as it is written, a dot, and the file so far.
pub(super) struct SigningInput(Context);

impl SigningInput {
    pub(super) fn begin(protected: &str) -> SigningInput {
        let mut hash = Context::new(&SHA256);
        hash.update(protected.as_bytes());
        hash.update(b".");
        SigningInput(hash)
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    pub(super) fn finish(self) -> Digest {
        self.0.finish()
    }
}

/// A file whose signature is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VouchedFile {
    /// The name that it was made with.
    pub name: String,
    /// What it is.
    pub media_type: String,
    /// Its length.
    pub bytes: u64,
    /// Subject of the signing certificate.
    pub signed_by: String,
    /// When it was begun, by the signer's clock.
    pub signed_at: UnixMillis,
    /// Position in the register's log that it includes at least; empty when the signer did not say.
    pub register: String,
}

/// A file that is being checked against the signature beside it.
pub struct SignatureCheck {
    header: Header,
    signer: SignedBy,
    signature: Vec<u8>,
    input: SigningInput,
    bytes: u64,
}

impl SignatureCheck {
    /// From the signature alone: whether it is one, and of an authority that is trusted.
    pub fn begin(
        signature: &[u8],
        trust: &TrustBundle,
        now: UnixMillis,
    ) -> Result<SignatureCheck, SignedError> {
        let bad = SignedError::NotSigned;
        if signature.len() > SIGNATURE_BYTES_MAX {
            return Err(bad("its signature is longer than any of ours"));
        }
        let text = std::str::from_utf8(signature).map_err(|_| bad("its signature is no text"))?;
        let (protected, signature) = text
            .trim_end()
            .split_once("..")
            .ok_or(bad("its signature is not written as header..signature"))?;
        let header = from_base64url(protected).ok_or(bad("its signature's header is not base64url"))?;
        let header: Header =
            serde_json::from_slice(&header).map_err(|_| bad("its signature's header can't be read"))?;
        let signature = from_base64url(signature).ok_or(bad("its signature is not base64url"))?;
        if header.alg != ALGORITHM || header.typ != TYPE {
            return Err(bad(
                "its signature is of another kind or algorithm (wanted: fleetpulse-file, ES256)",
            ));
        }
        if header.b64 != Some(false) || header.crit != [UNENCODED] {
            return Err(bad(
                "its signature is not made for a file beside it (wanted: \"b64\": false, in \"crit\")",
            ));
        }
        header.check_names()?;
        let signer = header.signer(trust, now)?;
        let input = SigningInput::begin(protected);
        Ok(SignatureCheck { header, signer, signature, input, bytes: 0 })
    }

    /// The next piece of the file.
    pub fn update(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.input.update(piece);
    }

    /// The file is at its end: whether it is the one that was signed.
    pub fn finish(self) -> Result<VouchedFile, SignedError> {
        let SignatureCheck { header, signer, signature, input, bytes } = self;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &signer.point)
            .verify_digest(&input.finish(), &signature)
            .map_err(|_| SignedError::Edited)?;
        Ok(VouchedFile {
            name: header.name,
            media_type: header.cty,
            bytes,
            signed_by: signer.subject,
            signed_at: UnixMillis(header.signed_at_ms),
            register: header.register.unwrap_or_default(),
        })
    }
}
