//! Enrolment: how a sensor without a certificate, or with one that ran out, gets one.
//!
//! Its own port, ALPN `fleetpulse-enrol/1`, no client certificate. The client opens one bidirectional stream, writes
//! one [`EnrolRequest`], reads one [`EnrolAnswer`], closes. Both are CBOR with integer keys, each with its length in
//! front (`u32`, little-endian), at most [`ENROL_MESSAGE_BYTES_MAX`]. Unknown keys are skipped.
//!
//! Who asks proves that it may: by the one-time token of its activation file, or by a signature of the key whose
//! certificate ran out. Who answers is proven by TLS: the activation file and the trust bundle say whom to believe.
//! The key itself is never sent.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::limits::{
    CSR_BYTES_MAX, ENROL_CHAIN_MAX, ENROL_DETAIL_BYTES_MAX, ENROL_MESSAGE_BYTES_MAX, ENROL_VERSION_BYTES_MAX,
};

/// What is asked.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub enum EnrolRequest {
    /// A first certificate, for whoever holds the token.
    #[n(0)]
    Activate {
        /// The token of the activation file.
        #[cbor(n(0), with = "minicbor::bytes")]
        token: [u8; 32],
        /// Request for a certificate (PKCS#10, DER).
        #[cbor(n(1), with = "minicbor::bytes")]
        csr: Vec<u8>,
        /// The sensor's wall clock, in milliseconds since 1970 UTC.
        #[n(2)]
        clock_unix_ms: i64,
        /// Version of the program that asks.
        #[n(3)]
        agent_version: String,
    },
    /// A new certificate in place of one that ran out.
    #[n(1)]
    Renew {
        /// The old certificate and those that lead to its root (DER), the own one first.
        #[n(0)]
        chain: Vec<ByteVec>,
        /// Request for a certificate (PKCS#10, DER), for the old key or a new one.
        #[cbor(n(1), with = "minicbor::bytes")]
        csr: Vec<u8>,
        /// The sensor's wall clock, in milliseconds since 1970 UTC.
        #[n(2)]
        clock_unix_ms: i64,
        /// By the old key over [`renewal_statement`]: 64 bytes, r and s (ECDSA on P-256 with SHA-256).
        #[cbor(n(3), with = "minicbor::bytes")]
        signature: Vec<u8>,
        /// Version of the program that asks.
        #[n(4)]
        agent_version: String,
    },
}

/// Without the token: whoever has it can be the sensor.
impl std::fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EnrolRequest::Activate { agent_version, .. } => {
                f.debug_struct("Activate").field("agent_version", agent_version).finish_non_exhaustive()
            }
            EnrolRequest::Renew { agent_version, .. } => {
                f.debug_struct("Renew").field("agent_version", agent_version).finish_non_exhaustive()
            }
        }
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EnrolAnswer {
    /// Here it is.
    #[n(0)]
    Enrolled {
        /// Id of the sensor or gateway that the certificate names: the 16 bytes of its UUID.
        #[cbor(n(0), with = "minicbor::bytes")]
        id: [u8; 16],
        /// The certificate, then the intermediate's, as PEM.
        #[n(1)]
        chain_pem: String,
        /// The trust bundle, as PEM.
        #[n(2)]
        trust_pem: String,
        /// Its generation.
        #[n(3)]
        trust_generation: u32,
    },
    /// No, and why.
    #[n(1)]
    Refused {
        /// [`EnrolRefusal::code`]. One that this version does not know is a refusal too.
        #[n(0)]
        code: u32,
        /// More about it, for a person; at most [`ENROL_DETAIL_BYTES_MAX`] bytes are kept.
        #[n(1)]
        detail: String,
    },
}

macro_rules! refusals {
    ($($(#[$meta:meta])* $variant:ident = $code:literal, $label:literal, $text:literal;)+) => {
        /// Why an enrolment is refused: one bounded list, used on the wire, as a label of metrics, in the register
        /// and as the text that both ends show to a person.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum EnrolRefusal { $($(#[$meta])* $variant = $code),+ }

        impl EnrolRefusal {
            /// All of them.
            pub const ALL: &[EnrolRefusal] = &[$(EnrolRefusal::$variant),+];

            /// Reads a code; `None` for one that this version does not know.
            pub const fn from_code(code: u32) -> Option<EnrolRefusal> {
                match code { $($code => Some(EnrolRefusal::$variant),)+ _ => None }
            }

            /// The code on the wire.
            pub const fn code(self) -> u32 { self as u32 }

            /// The label in metrics, logs and API.
            pub const fn label(self) -> &'static str {
                match self { $(EnrolRefusal::$variant => $label),+ }
            }

            /// What it means, for a person, with what to do.
            pub const fn text(self) -> &'static str {
                match self { $(EnrolRefusal::$variant => $text),+ }
            }
        }
    };
}

refusals! {
    /// No sensor has this token.
    UnknownToken = 1, "unknown-token", "the server knows no sensor with this activation file; was it made by another server, or the sensor deleted? download another one";
    /// A newer file was made for this sensor.
    TokenVoid = 2, "token-void", "a newer activation file was made for this sensor; use that one";
    /// Past its date.
    TokenExpired = 3, "token-expired", "the activation file is too old; download another one";
    /// Used, with another key.
    TokenUsed = 4, "token-used", "this activation file was used before, by another machine or with another key; if that was not you, reactivate the sensor; download another file";
    /// The sensor was deleted.
    SensorDeleted = 5, "sensor-deleted", "the sensor was deleted from the register; onboard it again";
    /// It is active already, or waits for no activation.
    NotPending = 6, "not-pending", "the sensor waits for no activation; reactivate it on the server first";
    /// The clocks differ too much.
    ClockDrift = 7, "clock-drift", "this host's clock is wrong; set it (NTP), and activate again";
    /// The request can't be read.
    BadRequest = 8, "bad-request", "the server could not read the request; the two programs may be of versions too far apart";
    /// The signing request is not acceptable.
    BadCsr = 9, "bad-csr", "the server refused the certificate request";
    /// The old certificate was revoked.
    CertificateRevoked = 10, "certificate-revoked", "the certificate was revoked; activate again with a new activation file";
    /// The old certificate ran out too long ago.
    CertificateTooOld = 11, "certificate-too-old", "the certificate ran out too long ago to be renewed; activate again with a new activation file";
    /// The certificate's owner is not in the register, or the certificate is not of this installation.
    UnknownIdentity = 12, "unknown-identity", "the server does not know the owner of this certificate; activate again with a new activation file";
    /// Too many ask at once.
    Busy = 13, "busy", "the server is busy with other enrolments; it is tried again";
    /// The server could not make it durable.
    StoreUnavailable = 14, "store-unavailable", "the server can't write to its disk just now; it is tried again";
    /// Good for long yet.
    NotDue = 15, "not-due", "the certificate is good for long yet; it is renewed when half of its life is over";
    /// So many certificates of late.
    TooOften = 16, "too-often", "this sensor was given so many certificates of late that it has to wait for another one; it is tried again";
}

impl EnrolRefusal {
    /// True when the same request may succeed a little later.
    pub const fn is_passing(self) -> bool {
        matches!(self, EnrolRefusal::Busy | EnrolRefusal::StoreUnavailable)
    }

    /// As an answer; what is too long of the detail is cut.
    pub fn answer(self, detail: impl Into<String>) -> EnrolAnswer {
        let mut detail = detail.into();
        let mut end = detail.len().min(ENROL_DETAIL_BYTES_MAX);
        while !detail.is_char_boundary(end) {
            end -= 1;
        }
        detail.truncate(end);
        EnrolAnswer::Refused { code: self.code(), detail }
    }
}

impl std::fmt::Display for EnrolRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

/// Bytes that are not an enrolment message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrolError {
    /// More than [`ENROL_MESSAGE_BYTES_MAX`].
    #[error("an enrolment message of {0} bytes is over the limit of {ENROL_MESSAGE_BYTES_MAX}")]
    TooLong(usize),
    /// Not CBOR, or not of this form.
    #[error("not an enrolment message")]
    Malformed,
    /// Bytes after the message.
    #[error("bytes after the enrolment message")]
    Trailing,
    /// A part is longer than it may be.
    #[error("'{0}' is missing or longer than it may be")]
    Part(&'static str),
}

/// What the old key signs when a certificate is renewed.
pub fn renewal_statement(csr: &[u8], clock_unix_ms: i64) -> Vec<u8> {
    [b"fleetpulse renew", csr, &clock_unix_ms.to_be_bytes()].concat()
}

/// Writes a message with its length in front.
pub fn encode<M: Encode<()>>(message: &M) -> Vec<u8> {
    super::control::encode(message)
}

/// Reads the length in front: `None` while fewer than four bytes are here.
pub fn announced_length(bytes: &[u8]) -> Result<Option<usize>, EnrolError> {
    let Some(prefix) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*prefix) as usize;
    if length > ENROL_MESSAGE_BYTES_MAX { Err(EnrolError::TooLong(length)) } else { Ok(Some(length)) }
}

/// Reads one message from exactly its bytes, without the length.
pub fn decode<'b, M: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<M, EnrolError> {
    if bytes.len() > ENROL_MESSAGE_BYTES_MAX {
        return Err(EnrolError::TooLong(bytes.len()));
    }
    let mut decoder = minicbor::Decoder::new(bytes);
    let message = decoder.decode().map_err(|_| EnrolError::Malformed)?;
    if decoder.position() == bytes.len() { Ok(message) } else { Err(EnrolError::Trailing) }
}

/// Reads a request and checks the bounds of its parts.
pub fn read_request(bytes: &[u8]) -> Result<EnrolRequest, EnrolError> {
    let request = decode(bytes)?;
    let (csr, version) = match &request {
        EnrolRequest::Activate { csr, agent_version, .. } => (csr, agent_version),
        EnrolRequest::Renew { chain, csr, signature, agent_version, .. } => {
            if !(1..=ENROL_CHAIN_MAX).contains(&chain.len()) {
                return Err(EnrolError::Part("chain"));
            }
            if signature.len() != 64 {
                return Err(EnrolError::Part("signature"));
            }
            (csr, agent_version)
        }
    };
    if csr.is_empty() || csr.len() > CSR_BYTES_MAX {
        return Err(EnrolError::Part("csr"));
    }
    if version.len() > ENROL_VERSION_BYTES_MAX || version.chars().any(char::is_control) {
        return Err(EnrolError::Part("agent_version"));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activate() -> EnrolRequest {
        EnrolRequest::Activate {
            token: [7; 32],
            csr: vec![1, 2, 3],
            clock_unix_ms: -1,
            agent_version: "1.2.3".into(),
        }
    }

    fn renew() -> EnrolRequest {
        EnrolRequest::Renew {
            chain: vec![vec![1; 600].into(), vec![2; 500].into()],
            csr: vec![3; 300],
            clock_unix_ms: 1_780_000_000_000,
            signature: vec![4; 64],
            agent_version: String::new(),
        }
    }

    #[test]
    fn messages_survive_the_way_and_back() {
        for request in [activate(), renew()] {
            let bytes = encode(&request);
            assert_eq!(announced_length(&bytes), Ok(Some(bytes.len() - 4)));
            assert_eq!(read_request(&bytes[4..]), Ok(request));
        }
        for answer in [
            EnrolAnswer::Enrolled {
                id: [9; 16],
                chain_pem: "chain".into(),
                trust_pem: "trust".into(),
                trust_generation: 2,
            },
            EnrolRefusal::ClockDrift.answer("ü".repeat(600)),
        ] {
            assert_eq!(decode(&encode(&answer)[4..]), Ok(answer));
        }
    }

    /// The bytes of an activation, for whoever writes a client without this library.
    #[test]
    fn the_form_of_a_request_is_kept() {
        let expected = [
            &[0x82, 0x00, 0x84, 0x58, 0x20][..],
            &[7; 32],
            &[0x43, 1, 2, 3, 0x20, 0x65, b'1', b'.', b'2', b'.', b'3'],
        ]
        .concat();
        assert_eq!(encode(&activate())[4..], expected);
    }

    type Change = fn(&mut EnrolRequest);

    #[test]
    fn what_is_too_long_or_missing_is_named() {
        let changed = |change: Change| {
            let mut request = renew();
            change(&mut request);
            read_request(&encode(&request)[4..])
        };
        let parts: [(Change, &str); 5] = [
            (
                |request| {
                    if let EnrolRequest::Renew { chain, .. } = request {
                        chain.clear()
                    }
                },
                "chain",
            ),
            (
                |request| {
                    if let EnrolRequest::Renew { chain, .. } = request {
                        *chain = vec![vec![].into(); 5];
                    }
                },
                "chain",
            ),
            (
                |request| {
                    if let EnrolRequest::Renew { signature, .. } = request {
                        signature.push(0)
                    }
                },
                "signature",
            ),
            (
                |request| {
                    if let EnrolRequest::Renew { csr, .. } = request {
                        csr.clear()
                    }
                },
                "csr",
            ),
            (
                |request| {
                    if let EnrolRequest::Renew { agent_version, .. } = request {
                        *agent_version = "a\nb".into();
                    }
                },
                "agent_version",
            ),
        ];
        for (change, part) in parts {
            assert_eq!(changed(change), Err(EnrolError::Part(part)));
        }
        assert_eq!(announced_length(&[0xff; 4]), Err(EnrolError::TooLong(u32::MAX as usize)));
        assert_eq!(announced_length(&[0; 3]), Ok(None));
        let long = vec![0; ENROL_MESSAGE_BYTES_MAX + 1];
        assert_eq!(read_request(&long), Err(EnrolError::TooLong(long.len())));
        assert_eq!(read_request(&[0xff; 9]), Err(EnrolError::Malformed));
        let mut trailing = encode(&activate());
        trailing.push(0);
        assert_eq!(read_request(&trailing[4..]), Err(EnrolError::Trailing));
        // A token of another length is none.
        assert_eq!(
            read_request(&[0x82, 0x00, 0x84, 0x41, 7, 0x41, 1, 0x00, 0x60]),
            Err(EnrolError::Malformed)
        );
    }

    #[test]
    fn refusals_are_told_apart() {
        for (place, &refusal) in EnrolRefusal::ALL.iter().enumerate() {
            assert_eq!(EnrolRefusal::from_code(refusal.code()), Some(refusal));
            let others = || EnrolRefusal::ALL.iter().skip(place + 1);
            assert!(others().all(|other| other.label() != refusal.label() && other.text() != refusal.text()));
        }
        assert_eq!(EnrolRefusal::from_code(0), None);
        let EnrolAnswer::Refused { detail, .. } = EnrolRefusal::Busy.answer("ü".repeat(600)) else {
            panic!()
        };
        assert_eq!(detail.len(), ENROL_DETAIL_BYTES_MAX);
        assert!(!format!("{:?}", activate()).contains('7'), "no token in logs");
    }
}
