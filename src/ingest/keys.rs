//! The keys that all shards share and that outlive a restart, in the form that QUIC wants them.
//!
//! Reset key: makes stateless resets and proves our connection ids. Token key: seals Retry tokens; the one
//! before it still opens, so a rotation in the middle of a handshake loses nobody.

use std::sync::Arc;

use aws_lc_rs::{aead, hkdf, hmac};
use quinn_proto::crypto::{AeadKey, CryptoError, HandshakeTokenKey, HmacKey};

/// Key material from the data directory.
#[derive(Clone)]
pub struct IngestKeys {
    /// For stateless resets and connection ids.
    pub reset: [u8; 64],
    /// Seals Retry tokens.
    pub token: [u8; 64],
    /// The token key before this one: opens, never seals.
    pub token_previous: Option<[u8; 64]>,
}

impl From<&crate::identity::Keys> for IngestKeys {
    fn from(keys: &crate::identity::Keys) -> IngestKeys {
        IngestKeys { reset: *keys.reset_key(), token: *keys.token_key(), token_previous: None }
    }
}

impl std::fmt::Debug for IngestKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IngestKeys(..)")
    }
}

/// The reset key as QUIC wants it.
pub(super) fn hmac_key(material: &[u8; 64]) -> Arc<dyn HmacKey> {
    Arc::new(hmac::Key::new(hmac::HMAC_SHA256, material))
}

/// The token keys as QUIC wants them.
pub(super) fn token_key(keys: &IngestKeys) -> Arc<dyn HandshakeTokenKey> {
    let prk = |material: &[u8; 64]| hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, material);
    Arc::new(TokenKeys { current: prk(&keys.token), previous: keys.token_previous.as_ref().map(prk) })
}

struct TokenKeys {
    current: hkdf::Prk,
    previous: Option<hkdf::Prk>,
}

impl HandshakeTokenKey for TokenKeys {
    fn aead_from_hkdf(&self, random_bytes: &[u8]) -> Box<dyn AeadKey> {
        Box::new(TokenAead {
            current: derive(&self.current, random_bytes),
            previous: self.previous.as_ref().and_then(|previous| derive(previous, random_bytes)),
        })
    }
}

/// `None` never happens with these fixed lengths; if it did, tokens would be refused and nothing worse.
fn derive(prk: &hkdf::Prk, random_bytes: &[u8]) -> Option<aead::LessSafeKey> {
    let mut key = [0; 32];
    prk.expand(&[random_bytes], hkdf::HKDF_SHA256).ok()?.fill(&mut key).ok()?;
    aead::UnboundKey::new(&aead::AES_256_GCM, &key).ok().map(aead::LessSafeKey::new)
}

/// Each token has a key of its own (derived from its random bytes), so the nonce may be zero.
struct TokenAead {
    current: Option<aead::LessSafeKey>,
    previous: Option<aead::LessSafeKey>,
}

fn nonce() -> aead::Nonce {
    aead::Nonce::assume_unique_for_key([0; 12])
}

impl AeadKey for TokenAead {
    fn seal(&self, data: &mut Vec<u8>, additional_data: &[u8]) -> Result<(), CryptoError> {
        let key = self.current.as_ref().ok_or(CryptoError)?;
        key.seal_in_place_append_tag(nonce(), aead::Aad::from(additional_data), data).map_err(|_| CryptoError)
    }

    fn open<'a>(&self, data: &'a mut [u8], additional_data: &[u8]) -> Result<&'a mut [u8], CryptoError> {
        // A failed opening destroys the bytes, so the older key gets a copy.
        let copy = self.previous.as_ref().map(|_| data.to_vec());
        let with = |key: &Option<aead::LessSafeKey>, bytes: &mut [u8]| -> Option<usize> {
            let key = key.as_ref()?;
            key.open_in_place(nonce(), aead::Aad::from(additional_data), bytes).ok().map(|plain| plain.len())
        };
        if let Some(length) = with(&self.current, data) {
            return Ok(&mut data[..length]);
        }
        let mut copy = copy.ok_or(CryptoError)?;
        let length = with(&self.previous, &mut copy).ok_or(CryptoError)?;
        data[..length].copy_from_slice(&copy[..length]);
        Ok(&mut data[..length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_one_rotation_and_not_two() {
        let keys = |token: u8, previous: Option<u8>| {
            token_key(&IngestKeys {
                reset: [0; 64],
                token: [token; 64],
                token_previous: previous.map(|p| [p; 64]),
            })
        };
        let mut token = b"address".to_vec();
        keys(1, None).aead_from_hkdf(b"random").seal(&mut token, b"more").unwrap();
        for (opener, opens) in [(keys(1, None), true), (keys(2, Some(1)), true), (keys(3, Some(2)), false)] {
            let mut sealed = token.clone();
            let opened = opener.aead_from_hkdf(b"random");
            let plain = opened.open(&mut sealed, b"more").ok().map(|plain| plain.to_vec());
            assert_eq!(plain, opens.then(|| b"address".to_vec()));
        }
    }
}
