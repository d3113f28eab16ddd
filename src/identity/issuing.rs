//! What the certificates that we make have in common: dates, serials, names, rights.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose, SerialNumber,
    date_time_ymd,
};

use crate::limits::CERTIFICATE_BACKDATE;
use crate::time::UnixMillis;

/// Common to all certificates: dates, a random serial, a subject.
fn params(name: &str, from: UnixMillis, to: UnixMillis) -> Result<CertificateParams, rcgen::Error> {
    let date = |at: UnixMillis| {
        let seconds = u64::try_from(at.0.div_euclid(1_000)).unwrap_or(0);
        // Beyond the year 9999 a certificate has no date.
        date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.min(253_402_300_799))
    };
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
    // Positive, and never with a leading zero byte.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.not_before = date(from);
    params.not_after = date(to);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = subject;
    Ok(params)
}

/// A certificate that signs no other.
pub(super) fn leaf_params(
    name: &str,
    now: UnixMillis,
    end: UnixMillis,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(name, now.minus(CERTIFICATE_BACKDATE), end)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A certificate of an authority with at most `below` authorities under it.
pub(super) fn authority_params(
    name: &str,
    below: u8,
    now: UnixMillis,
    end: UnixMillis,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(name, now.minus(CERTIFICATE_BACKDATE), end)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A name of an authority that no other has: two installations, or two generations, never share one, so that a
/// stranger is an unknown issuer and not a bad signature.
pub(super) fn fresh_name(name: &str) -> Result<String, rcgen::Error> {
    let mut tag = [0; 4];
    aws_lc_rs::rand::fill(&mut tag).map_err(|_| rcgen::Error::RingUnspecified)?;
    Ok(format!("{name} {:08x}", u32::from_be_bytes(tag)))
}
