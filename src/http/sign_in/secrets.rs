//! Secrets that are handed out once, and their hashes, which are all that is kept.
//!
//! They have 256 random bits, so a plain SHA-256 is enough: nobody finds one by trying, and looking one up by its hash
//! tells by its time nothing about secrets that exist.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::fleet::TokenHash;

/// Every API token begins so; scanners for leaked secrets look for it.
const PREFIX: &str = "fp_";
/// Characters of 32 bytes in base64url.
const SECRET_CHARS: usize = 43;

/// The system gives no random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandom;

/// 256 random bits as text.
pub(crate) fn fresh() -> Result<String, NoRandom> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// What is kept of a secret.
pub(crate) fn hash(secret: &str) -> TokenHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    TokenHash(hash)
}

/// A new API token and what is kept of it.
pub fn new_token() -> Result<(String, TokenHash), NoRandom> {
    let secret = fresh()?;
    let text = format!("{PREFIX}{secret}_{:08x}", crc32fast::hash(secret.as_bytes()));
    let hash = hash(&text);
    Ok((text, hash))
}

/// The hash of what looks like an API token. Typing errors and cut-off tokens are seen by the checksum.
pub(super) fn token_hash(text: &str) -> Option<TokenHash> {
    let (secret, sum) = text.strip_prefix(PREFIX)?.rsplit_once('_')?;
    let right = secret.len() == SECRET_CHARS && sum == format!("{:08x}", crc32fast::hash(secret.as_bytes()));
    right.then(|| hash(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_form() {
        let (text, kept) = new_token().unwrap();
        assert_eq!(token_hash(&text), Some(kept));
        assert_ne!(new_token().unwrap().1, kept);
        let mut wrong = vec![String::new(), "fp_".into(), "fp__".into(), text[1..].into(), text[..50].into()];
        wrong.push(text.replace("fp_", "fp_x"));
        wrong.push(text.to_uppercase());
        wrong.push(format!("{text} "));
        for text in wrong {
            assert_eq!(token_hash(&text), None, "{text}");
        }
    }
}
