//! The judge of the enrolment port: who gets a certificate, by what the register says.
//!
//! A certificate is signed first and granted second: the register takes the token and the certificate's serial in one
//! durable batch, and decides in it whether the token is good. So of two machines that use one file at the same
//! moment one is first, and a crash between signing and granting leaves a certificate that nobody got. A key that
//! asks again with its token is answered again: its first answer may have been lost.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::attempts::Attempts;
use super::fleet::{CommandError, FleetService};
use crate::fleet::{Actor, ActorKind, Attempt, Command, Credential, RefusalCode, Sensor, TokenHash};
use crate::identity::{Authority, Leaf, PeerIdentity, Revocations, Signed, sha256, verify_claim};
use crate::ingest::EnrolJudge;
use crate::limits::CERTIFICATE_BACKDATE;
use crate::live::{Lifecycle, SensorType};
use crate::time::UnixMillis;
use crate::wire::enrol::{EnrolAnswer, EnrolRefusal, EnrolRequest, renewal_statement};
use crate::wire::id::SensorId;

/// How long certificates live, and how far clocks may be apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateRules {
    /// Life of a peer's certificate.
    pub life: Duration,
    /// For how long one that ran out may be renewed.
    pub grace: Duration,
    /// Largest difference between a sensor's clock and ours.
    pub drift_max: Duration,
}

/// A refusal with what more there is to say.
type Refused = (EnrolRefusal, String);

/// The judge.
pub struct Enrolment {
    fleet: Arc<FleetService>,
    authority: Arc<Authority>,
    revocations: Arc<Revocations>,
    rules: CertificateRules,
    attempts: Attempts,
}

impl Enrolment {
    /// Over this register and authority.
    pub fn new(
        fleet: Arc<FleetService>,
        authority: Arc<Authority>,
        revocations: Arc<Revocations>,
        rules: CertificateRules,
    ) -> Enrolment {
        Enrolment { fleet, authority, revocations, rules, attempts: Attempts::default() }
    }

    /// What was refused of late of people whom the register does not know.
    pub fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// By which rules it judges.
    pub fn rules(&self) -> CertificateRules {
        self.rules
    }

    fn activate(
        &self,
        token: TokenHash,
        csr: &[u8],
        clock: UnixMillis,
        from: IpAddr,
        now: UnixMillis,
    ) -> Result<EnrolAnswer, (Option<SensorId>, Refused)> {
        let plain = |refusal: EnrolRefusal| (refusal, String::new());
        let sensor = {
            let register = self.fleet.register();
            let Some(sensor) = register.activation_of(token) else {
                return Err((None, plain(EnrolRefusal::UnknownToken)));
            };
            sensor.clone()
        };
        let known = |refused: Refused| (Some(sensor.id), refused);
        may_activate(&sensor, token).map_err(known)?;
        self.in_time(clock, now).map_err(known)?;
        let signed = self.sign(csr, PeerIdentity::Sensor(sensor.id), now).map_err(known)?;
        let command = Command::Activate {
            id: sensor.id,
            token,
            key: signed.key,
            credential: Some(credential(&signed.leaf)),
            from: Some(from.to_string()),
        };
        self.fleet.apply(&[command], peer(sensor.id, from), now).map_err(|error| known(refusal_of(error)))?;
        tracing::info!(sensor = %sensor.id, %from, serial = %signed.leaf.serial, "activated");
        Ok(self.enrolled(sensor.id.0, signed))
    }

    fn renew(
        &self,
        request: (&[&[u8]], &[u8], i64, &[u8]),
        from: IpAddr,
        now: UnixMillis,
    ) -> Result<EnrolAnswer, (Option<SensorId>, Refused)> {
        let (chain, csr, clock, signature) = request;
        let statement = renewal_statement(csr, clock);
        let leaf = verify_claim(chain, &statement, signature, self.authority.trust(), now)
            .map_err(|error| (None, (EnrolRefusal::UnknownIdentity, error.to_string())))?;
        let id = match leaf.identity {
            PeerIdentity::Sensor(id) => Some(id),
            PeerIdentity::Gateway(_) => None,
        };
        let known = |refused: Refused| (id, refused);
        self.may_renew(&leaf, now).map_err(known)?;
        self.in_time(UnixMillis(clock), now).map_err(known)?;
        let signed = self.sign(csr, leaf.identity, now).map_err(known)?;
        let of = match leaf.identity {
            PeerIdentity::Sensor(id) => {
                let command = Command::Renew { id, credential: credential(&signed.leaf) };
                self.fleet
                    .apply(&[command], peer(id, from), now)
                    .map_err(|error| known(refusal_of(error)))?;
                id.0
            }
            PeerIdentity::Gateway(id) => id.0,
        };
        tracing::info!(peer = %leaf.identity, %from, serial = %signed.leaf.serial, "a certificate that ran out was renewed");
        Ok(self.enrolled(of, signed))
    }

    fn may_renew(&self, leaf: &Leaf, now: UnixMillis) -> Result<(), Refused> {
        let plain = |refusal: EnrolRefusal| Err((refusal, String::new()));
        if self.revocations.contains(&leaf.serial) {
            return plain(EnrolRefusal::CertificateRevoked);
        }
        if leaf.not_after.plus(self.rules.grace) < now {
            let days = |span: Duration| span.as_secs() / 86_400;
            let ago = Duration::from_millis(now.0.abs_diff(leaf.not_after.0));
            let detail = format!("{} days ago; {} are allowed", days(ago), days(self.rules.grace));
            return Err((EnrolRefusal::CertificateTooOld, detail));
        }
        let register = self.fleet.register();
        let id = match leaf.identity {
            PeerIdentity::Sensor(id) => id,
            PeerIdentity::Gateway(id) => {
                let refused = || (EnrolRefusal::UnknownIdentity, String::new());
                return register.gateway(id).map(drop).ok_or_else(refused);
            }
        };
        let Some(sensor) = register.sensor(id) else {
            let deleted = register.deleted_sensor(id).is_some();
            return plain(if deleted { EnrolRefusal::SensorDeleted } else { EnrolRefusal::UnknownIdentity });
        };
        if sensor.lifecycle != Lifecycle::Active {
            return Err((
                EnrolRefusal::CertificateRevoked,
                format!("the sensor is {}", sensor.lifecycle.as_str()),
            ));
        }
        // Certificates from before the last activation ended with it, also those that nobody remembers any more. The
        // one of the activation itself was signed before that had its turn: it is remembered.
        let serial = leaf.serial.to_string();
        if sensor.more.credentials.iter().any(|kept| *kept.serial == *serial) {
            return Ok(());
        }
        let used = sensor.more.activation.as_ref().and_then(|activation| activation.used.as_ref());
        let made = leaf.not_before.plus(CERTIFICATE_BACKDATE).plus(Duration::from_secs(1));
        match used {
            Some(used) if made < used.at => {
                let detail = "it was made before the sensor was activated the last time".to_owned();
                Err((EnrolRefusal::CertificateRevoked, detail))
            }
            _ => Ok(()),
        }
    }

    fn in_time(&self, clock: UnixMillis, now: UnixMillis) -> Result<(), Refused> {
        let apart = Duration::from_millis(now.0.abs_diff(clock.0));
        if apart <= self.rules.drift_max {
            return Ok(());
        }
        let seconds = apart.as_secs();
        let side = if clock < now { "behind" } else { "ahead of" };
        let shown = match seconds {
            0..120 => format!("{seconds} s"),
            120..7_200 => format!("{} min", seconds / 60),
            7_200..172_800 => format!("{} h", seconds / 3_600),
            _ => format!("{} days", seconds / 86_400),
        };
        let most = self.rules.drift_max.as_secs();
        Err((EnrolRefusal::ClockDrift, format!("it is {shown} {side} the server's; {most} s are allowed")))
    }

    fn sign(&self, csr: &[u8], identity: PeerIdentity, now: UnixMillis) -> Result<Signed, Refused> {
        self.authority
            .sign_csr(csr, identity, self.rules.life, now)
            .map_err(|error| (EnrolRefusal::BadCsr, error.to_string()))
    }

    fn enrolled(&self, id: [u8; 16], signed: Signed) -> EnrolAnswer {
        EnrolAnswer::Enrolled {
            id,
            chain_pem: signed.chain_pem,
            trust_pem: self.authority.trust_pem().to_owned(),
            trust_generation: self.authority.trust().generation,
        }
    }

    /// Makes a refusal visible: on the sensor it is about, or among the strangers.
    fn note(
        &self,
        sensor: Option<SensorId>,
        (refusal, detail): &Refused,
        version: &str,
        from: IpAddr,
        now: UnixMillis,
    ) {
        let Some(id) = sensor.filter(|&id| self.fleet.register().sensor(id).is_some()) else {
            return self.attempts.stranger(from, *refusal, version, now);
        };
        if refusal.is_passing() || !self.attempts.may_note(id, *refusal, from, now) {
            return;
        }
        let attempt = Attempt {
            at: now,
            from: from.to_string().into(),
            code: refusal.label().into(),
            detail: detail.as_str().into(),
        };
        let command = Command::NoteAttempt { id, attempt };
        if let Err(error) = self.fleet.apply(&[command], peer(id, from), now) {
            tracing::warn!(%error, sensor = %id, reason = refusal.label(), "a refused enrolment could not be noted");
        }
    }
}

impl EnrolJudge for Enrolment {
    fn judge(&self, request: &EnrolRequest, from: SocketAddr, now: UnixMillis) -> EnrolAnswer {
        let from = from.ip().to_canonical();
        let (outcome, version) = match request {
            EnrolRequest::Activate { token, csr, clock_unix_ms, agent_version } => {
                let token = TokenHash(sha256(token));
                (self.activate(token, csr, UnixMillis(*clock_unix_ms), from, now), agent_version)
            }
            EnrolRequest::Renew { chain, csr, clock_unix_ms, signature, agent_version } => {
                let chain: Vec<&[u8]> = chain.iter().map(|certificate| certificate.as_slice()).collect();
                (self.renew((&chain, csr, *clock_unix_ms, signature), from, now), agent_version)
            }
        };
        outcome.unwrap_or_else(|(sensor, refused)| {
            self.note(sensor, &refused, version, from, now);
            refused.0.answer(refused.1)
        })
    }
}

/// What can be said before anything is signed. The register decides again, and finally.
fn may_activate(sensor: &Sensor, token: TokenHash) -> Result<(), Refused> {
    if sensor.lifecycle == Lifecycle::Deleted {
        return Err((EnrolRefusal::SensorDeleted, String::new()));
    }
    if sensor.more.activation.as_ref().is_none_or(|activation| activation.token != token) {
        return Err((EnrolRefusal::TokenVoid, String::new()));
    }
    if sensor.kind == SensorType::OtLocal {
        let detail = "a sensor of type ot-local never connects; make a response file with --offline";
        return Err((EnrolRefusal::NotPending, detail.to_owned()));
    }
    Ok(())
}

/// What the register keeps of a certificate.
pub(super) fn credential(leaf: &Leaf) -> Credential {
    Credential {
        serial: leaf.serial.to_string().into(),
        not_before: leaf.not_before,
        not_after: leaf.not_after,
    }
}

fn peer(id: SensorId, from: IpAddr) -> Actor {
    Actor { kind: ActorKind::Peer, name: id.to_string(), from: Some(from.to_string()) }
}

fn refusal_of(error: CommandError) -> Refused {
    let CommandError::Refused(refusal) = error else {
        tracing::error!(%error, "an enrolment could not be made durable");
        return (EnrolRefusal::StoreUnavailable, String::new());
    };
    let code = match refusal.code {
        RefusalCode::ActivationUnknown => EnrolRefusal::UnknownToken,
        RefusalCode::ActivationVoid => EnrolRefusal::TokenVoid,
        RefusalCode::ActivationExpired => EnrolRefusal::TokenExpired,
        RefusalCode::ActivationUsed => EnrolRefusal::TokenUsed,
        RefusalCode::UnknownSensor => EnrolRefusal::SensorDeleted,
        _ => EnrolRefusal::NotPending,
    };
    (code, String::new())
}
