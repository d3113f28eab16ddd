//! Control messages: CBOR with integer keys, each with its operation and its offset in it, so that a lost
//! connection resumes where it stopped. On a stream each is preceded by its length (`u32`, little-endian).
//!
//! The carrier is a bidirectional stream that the server opens: it writes a [`ToSensor`], the sensor
//! answers on the same stream with a [`FromSensor`], both finish. Unknown keys are skipped, unknown
//! variants are answered with [`FromSensor::NotUnderstood`], so either end may be newer.

use minicbor::{Decode, Encode};

use crate::limits::CONTROL_MESSAGE_BYTES_MAX;

/// Which operation a message belongs to, and where in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct OperationRef {
    /// The operation; zero for hints that need no record.
    #[n(0)]
    pub operation: u64,
    /// Place in the operation: messages of one operation are applied in this order.
    #[n(1)]
    pub offset: u64,
}

/// What the server says to a sensor or gateway.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ToSensor {
    /// Keep this heartbeat interval from now on.
    #[n(0)]
    SetInterval {
        /// Operation and place.
        #[n(0)]
        of: OperationRef,
        /// New interval in milliseconds.
        #[n(1)]
        interval_ms: u32,
    },
    /// This server goes away: connect again after this time.
    #[n(1)]
    ComeBack {
        /// Operation and place.
        #[n(0)]
        of: OperationRef,
        /// Wait this long, in milliseconds.
        #[n(1)]
        after_ms: u32,
    },
    /// Nothing to do; the answer proves that the path works and acknowledges our packets.
    #[n(2)]
    Ping {
        /// Operation and place.
        #[n(0)]
        of: OperationRef,
    },
    /// Your certificate runs out: make a key and answer with a request for a certificate ([`FromSensor::Csr`]).
    #[n(3)]
    Renew {
        /// Operation and place.
        #[n(0)]
        of: OperationRef,
    },
    /// Keep these from now on; the connection stays.
    #[n(4)]
    Certificate {
        /// Operation and place.
        #[n(0)]
        of: OperationRef,
        /// The certificate for the last request on this connection, then the intermediate's, as PEM.
        #[n(1)]
        chain_pem: Option<String>,
        /// A trust bundle, as PEM.
        #[n(2)]
        trust_pem: Option<String>,
    },
}

/// What a sensor or gateway answers.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum FromSensor {
    /// Understood and done, up to this place.
    #[n(0)]
    Done {
        /// Operation and place.
        #[n(0)]
        of: OperationRef,
    },
    /// Understood, and not possible.
    #[n(1)]
    Refused {
        /// Operation and place.
        #[n(0)]
        of: OperationRef,
        /// Why, for a person; at most 200 bytes are kept.
        #[n(1)]
        reason: String,
    },
    /// Not a message that this version knows.
    #[n(2)]
    NotUnderstood {
        /// Operation and place, as far as they could be read.
        #[n(0)]
        of: OperationRef,
    },
    /// The request for a certificate that was asked for.
    #[n(3)]
    Csr {
        /// Operation and place.
        #[n(0)]
        of: OperationRef,
        /// PKCS#10, DER.
        #[cbor(n(1), with = "minicbor::bytes")]
        csr: Vec<u8>,
    },
}

/// Bytes that are not a control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// More than [`CONTROL_MESSAGE_BYTES_MAX`].
    #[error("a control message of {0} bytes is over the limit")]
    TooLong(usize),
    /// Not CBOR, or not of this form.
    #[error("not a control message")]
    Malformed,
    /// Bytes after the message.
    #[error("bytes after the control message")]
    Trailing,
}

/// Writes a message with its length in front.
pub fn encode<M: Encode<()>>(message: &M) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    minicbor::encode(message, &mut bytes).expect("writing to a Vec cannot fail");
    let length = u32::try_from(bytes.len() - 4).expect("our own messages are small");
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// Reads the length in front: `None` while fewer than four bytes are here.
pub fn announced_length(bytes: &[u8]) -> Result<Option<usize>, ControlError> {
    let Some(prefix) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*prefix) as usize;
    if length > CONTROL_MESSAGE_BYTES_MAX { Err(ControlError::TooLong(length)) } else { Ok(Some(length)) }
}

/// Reads one message from exactly its bytes, without the length.
pub fn decode<'b, M: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<M, ControlError> {
    if bytes.len() > CONTROL_MESSAGE_BYTES_MAX {
        return Err(ControlError::TooLong(bytes.len()));
    }
    let mut decoder = minicbor::Decoder::new(bytes);
    let message = decoder.decode().map_err(|_| ControlError::Malformed)?;
    if decoder.position() == bytes.len() { Ok(message) } else { Err(ControlError::Trailing) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_way_and_back() {
        let of = OperationRef { operation: 7, offset: 3 };
        for message in [
            ToSensor::SetInterval { of, interval_ms: 1_000 },
            ToSensor::ComeBack { of, after_ms: 60_000 },
            ToSensor::Ping { of },
            ToSensor::Renew { of },
            ToSensor::Certificate { of, chain_pem: Some("chain".into()), trust_pem: None },
        ] {
            let bytes = encode(&message);
            assert_eq!(announced_length(&bytes), Ok(Some(bytes.len() - 4)));
            assert_eq!(decode::<ToSensor>(&bytes[4..]), Ok(message));
        }
    }

    #[test]
    fn rubbish_and_trailing_bytes_are_refused() {
        assert_eq!(decode::<ToSensor>(&[0xff; 10]), Err(ControlError::Malformed));
        let mut bytes = encode(&FromSensor::Done { of: OperationRef { operation: 0, offset: 0 } });
        bytes.push(0);
        assert_eq!(decode::<FromSensor>(&bytes[4..]), Err(ControlError::Trailing));
        assert_eq!(announced_length(&[0xff; 4]), Err(ControlError::TooLong(u32::MAX as usize)));
    }
}
