//! Reading a peer's certificate: who it names, its serial, its dates.
//!
//! The chain and the signature are the TLS library's work. What is read here is what our own checks need
//! after **every** handshake, because a resumed session skips the TLS verifier.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::signed::sha256;
use crate::limits::CERTIFICATE_BACKDATE;
use crate::time::UnixMillis;
use crate::wire::id::{GatewayId, SensorId};

const URI_PREFIX: &str = "urn:fleetpulse:";

/// Who a certificate speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerIdentity {
    /// One sensor.
    Sensor(SensorId),
    /// A relay for the sensors of its sites.
    Gateway(GatewayId),
}

/// A text that names no sensor or gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identity: write urn:fleetpulse:sensor:<uuid> or urn:fleetpulse:gateway:<uuid>")]
pub struct BadIdentity;

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerIdentity::Sensor(id) => write!(f, "{URI_PREFIX}sensor:{id}"),
            PeerIdentity::Gateway(id) => write!(f, "{URI_PREFIX}gateway:{id}"),
        }
    }
}

impl FromStr for PeerIdentity {
    type Err = BadIdentity;

    /// Exactly one spelling is accepted, the one that [`PeerIdentity`] displays: two spellings of one
    /// identity would be two identities for whoever compares texts.
    fn from_str(text: &str) -> Result<PeerIdentity, BadIdentity> {
        let rest = text.strip_prefix(URI_PREFIX).ok_or(BadIdentity)?;
        let identity = match rest.split_once(':').ok_or(BadIdentity)? {
            ("sensor", id) => PeerIdentity::Sensor(id.parse().map_err(|_| BadIdentity)?),
            ("gateway", id) => PeerIdentity::Gateway(id.parse().map_err(|_| BadIdentity)?),
            _ => return Err(BadIdentity),
        };
        if identity.to_string() == text { Ok(identity) } else { Err(BadIdentity) }
    }
}

/// A certificate's serial number, at most 20 bytes (RFC 5280), right-aligned; shown as hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial([u8; 20]);

impl Serial {
    /// From big-endian bytes; `None` when there are more than 20 that matter, or none.
    pub fn from_be_bytes(bytes: &[u8]) -> Option<Serial> {
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        let significant = bytes.get(zeros..).filter(|rest| rest.len() <= 20 && !bytes.is_empty())?;
        let mut serial = [0; 20];
        serial[20 - significant.len()..].copy_from_slice(significant);
        Some(Serial(serial))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zeros = self.0.iter().take_while(|&&byte| byte == 0).count().min(19);
        self.0[zeros..].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

impl FromStr for Serial {
    type Err = BadSerial;

    fn from_str(text: &str) -> Result<Serial, BadSerial> {
        if text.is_empty() || text.len() > 40 || !text.is_ascii() {
            return Err(BadSerial);
        }
        let mut serial = [0; 20];
        for (place, digit) in text.bytes().rev().enumerate() {
            let value = char::from(digit).to_digit(16).ok_or(BadSerial)?;
            let value = u8::try_from(value).map_err(|_| BadSerial)?;
            serial[19 - place / 2] |= value << (4 * (place % 2));
        }
        Ok(Serial(serial))
    }
}

/// A text that is not a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a serial number: write 1 to 40 hexadecimal digits without colons")]
pub struct BadSerial;

/// Which authority signed a certificate, known by its name: a chain is built by names, so what one intermediate signed
/// all has one mark, and another intermediate's another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IssuerMark(u64);

impl IssuerMark {
    /// Of a name as it stands in certificates (DER).
    pub fn of_name(name: &[u8]) -> IssuerMark {
        let [a, b, c, d, e, f, g, h, ..] = sha256(name);
        IssuerMark(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }

    /// For where there is room for 15 bits. Never zero.
    pub fn short(self) -> u16 {
        ((self.0 & 0x7fff) as u16).max(1)
    }
}

impl fmt::Display for IssuerMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What our checks need of a peer's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Who it speaks for.
    pub identity: PeerIdentity,
    /// Its serial number, for revocation.
    pub serial: Serial,
    /// First instant of its validity.
    pub not_before: UnixMillis,
    /// Last instant of its validity.
    pub not_after: UnixMillis,
    /// Who signed it.
    pub issuer: IssuerMark,
}

impl Leaf {
    /// How long it lives, from when it was made; it begins some time before.
    pub fn life(&self) -> Duration {
        let made = self.not_before.plus(CERTIFICATE_BACKDATE);
        Duration::from_millis(u64::try_from(self.not_after.0.saturating_sub(made.0)).unwrap_or(0))
    }

    /// How much of that is left; zero when it ran out.
    pub fn left(&self, now: UnixMillis) -> Duration {
        Duration::from_millis(u64::try_from(self.not_after.0.saturating_sub(now.0)).unwrap_or(0))
    }

    /// True while the certificate is in date.
    pub fn in_date(&self, now: UnixMillis) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

/// Why a certificate says nothing to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Not an X.509 certificate.
    #[error("not a certificate")]
    Unreadable,
    /// A certificate of an authority is not a peer's.
    #[error("this is an authority's certificate, not a sensor's or gateway's")]
    Authority,
    /// No URI of ours in it.
    #[error("the certificate names no sensor or gateway (URI urn:fleetpulse:sensor:<uuid>)")]
    NoIdentity,
    /// More than one name in it.
    #[error("the certificate names more than one thing; it must name exactly one sensor or gateway")]
    Ambiguous,
    /// A serial of more than 20 bytes, or none.
    #[error("the certificate's serial number is longer than 20 bytes")]
    Serial,
}

/// Reads a peer's certificate (DER).
pub fn parse_leaf(der: &[u8]) -> Result<Leaf, LeafError> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| LeafError::Unreadable)?;
    if !rest.is_empty() {
        return Err(LeafError::Unreadable);
    }
    if certificate.is_ca() {
        return Err(LeafError::Authority);
    }
    let names = certificate.subject_alternative_name().map_err(|_| LeafError::Unreadable)?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let identity = match names {
        [] => return Err(LeafError::NoIdentity),
        [GeneralName::URI(uri)] => uri.parse().map_err(|_| LeafError::NoIdentity)?,
        [_] => return Err(LeafError::NoIdentity),
        _ => return Err(LeafError::Ambiguous),
    };
    let millis = |seconds: i64| UnixMillis(seconds.saturating_mul(1_000));
    let validity = certificate.validity();
    Ok(Leaf {
        identity,
        serial: Serial::from_be_bytes(certificate.raw_serial()).ok_or(LeafError::Serial)?,
        not_before: millis(validity.not_before.timestamp()),
        // The last second counts whole (RFC 5280, 4.1.2.5).
        not_after: UnixMillis(millis(validity.not_after.timestamp()).0.saturating_add(999)),
        issuer: IssuerMark::of_name(certificate.issuer().as_raw()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_exactly_one_spelling() {
        let identity = PeerIdentity::Sensor(SensorId::from_number(7));
        let text = identity.to_string();
        assert_eq!(text.parse(), Ok(identity));
        for other in [
            text.to_uppercase(),
            text.replace('-', ""),
            text.replace("sensor", "server"),
            format!("{text} "),
            "urn:fleetpulse:sensor:".to_owned(),
            String::new(),
        ] {
            assert_eq!(other.parse::<PeerIdentity>(), Err(BadIdentity), "{other}");
        }
        let gateway = PeerIdentity::Gateway(GatewayId::from_number(7));
        assert_ne!(gateway.to_string(), text);
        assert_eq!(gateway.to_string().parse(), Ok(gateway));
    }

    #[test]
    fn a_serial_is_the_same_with_and_without_leading_zeros() {
        let serial = Serial::from_be_bytes(&[0, 0x0a, 0xbc]);
        assert_eq!(serial, Serial::from_be_bytes(&[0x0a, 0xbc]));
        assert_eq!(serial.map(|serial| serial.to_string()).as_deref(), Some("0abc"));
        assert_eq!("abc".parse().ok(), serial);
        assert_eq!(Serial::from_be_bytes(&[1; 21]), None);
        assert_eq!(Serial::from_be_bytes(&[]), None);
        assert!("".parse::<Serial>().is_err() && "0g".parse::<Serial>().is_err());
        assert!("1".repeat(41).parse::<Serial>().is_err());
    }

    #[test]
    fn rubbish_is_not_a_certificate() {
        assert_eq!(parse_leaf(&[]), Err(LeafError::Unreadable));
        assert_eq!(parse_leaf(&[0xff; 300]), Err(LeafError::Unreadable));
    }
}
