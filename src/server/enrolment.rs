//! The judge of the enrolment port: who gets a certificate, by what the register says.
//!
//! A certificate is signed first and granted second (`Grants`): the register takes the token and the certificate's
//! serial in one durable batch, and decides in it whether the token is good. So of two machines that use one file at the
//! same moment one is first, and a crash between signing and granting leaves a certificate that nobody got. A key that
//! asks again with its token is answered again: its first answer may have been lost.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::attempts::Attempts;
use super::current::CurrentAuthority;
use super::fleet::FleetService;
use super::grants::{Grants, peer};
use crate::fleet::{Attempt, Command, Credential, Sensor, TokenHash};
use crate::identity::{Leaf, PeerIdentity, Signed, sha256, verify_claim};
use crate::ingest::EnrolJudge;
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
pub(super) type Refused = (EnrolRefusal, String);

/// The judge.
pub struct Enrolment {
    fleet: Arc<FleetService>,
    authority: Arc<CurrentAuthority>,
    grants: Arc<Grants>,
    rules: CertificateRules,
    attempts: Attempts,
}

impl Enrolment {
    /// Over the register and authority of these grants.
    pub(super) fn new(grants: Arc<Grants>) -> Enrolment {
        let (fleet, authority) = (Arc::clone(&grants.fleet), Arc::clone(&grants.authority));
        Enrolment { fleet, authority, rules: grants.rules, grants, attempts: Attempts::default() }
    }

    /// What was refused of late.
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
        let signed = self.grants.activate(sensor.id, token, csr, from, now).map_err(known)?;
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
        let leaf = verify_claim(chain, &statement, signature, self.authority.get().trust(), now)
            .map_err(|error| (None, (EnrolRefusal::UnknownIdentity, error.to_string())))?;
        let id = match leaf.identity {
            PeerIdentity::Sensor(id) => Some(id),
            PeerIdentity::Gateway(_) => None,
        };
        let known = |refused: Refused| (id, refused);
        self.in_time(UnixMillis(clock), now).map_err(known)?;
        // Connected peers are asked when a third is left; here they ask when nothing is. Half leaves room for clocks.
        if leaf.left(now) > leaf.life() / 2 {
            return Err(known((EnrolRefusal::NotDue, String::new())));
        }
        let signed = self.grants.renew(&leaf, csr, Some(from), now).map_err(known)?;
        let of = match leaf.identity {
            PeerIdentity::Sensor(id) => id.0,
            PeerIdentity::Gateway(id) => id.0,
        };
        tracing::info!(peer = %leaf.identity, %from, serial = %signed.leaf.serial, "a certificate that ran out was renewed");
        Ok(self.enrolled(of, signed))
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

    fn enrolled(&self, id: [u8; 16], signed: Signed) -> EnrolAnswer {
        let authority = self.authority.get();
        EnrolAnswer::Enrolled {
            id,
            chain_pem: signed.chain_pem,
            trust_pem: authority.trust_pem().to_owned(),
            trust_generation: authority.trust().generation,
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
            return self.attempts.keep(None, from, *refusal, version, now);
        };
        self.attempts.keep(Some(id), from, *refusal, version, now);
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
        if let Err(error) = self.fleet.apply(&[command], peer(id, Some(from)), now) {
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
pub fn credential(leaf: &Leaf) -> Credential {
    Credential {
        serial: leaf.serial.to_string().into(),
        not_before: leaf.not_before,
        not_after: leaf.not_after,
    }
}
