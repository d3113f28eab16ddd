//! Certificates given to peers: the one place where both ways to a new one end, the enrolment port and the connection.
//!
//! A certificate is signed first and granted second: the register takes its serial in one durable batch, and in that,
//! under its lock, it is decided again whether it may. So a revocation that comes while one is on its way is not
//! overtaken by it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::current::CurrentAuthority;
use super::enrolment::{CertificateRules, Refused, credential};
use super::fleet::{CommandError, FleetService};
use crate::fleet::{Actor, ActorKind, Command, RefusalCode, Register, TokenHash};
use crate::identity::{Leaf, PeerIdentity, Revocations, Signed};
use crate::limits::CERTIFICATE_BACKDATE;
use crate::live::Lifecycle;
use crate::time::UnixMillis;
use crate::wire::enrol::EnrolRefusal;
use crate::wire::id::SensorId;

/// Signs, and has the register take it.
pub(super) struct Grants {
    pub fleet: Arc<FleetService>,
    pub authority: Arc<CurrentAuthority>,
    pub revocations: Arc<Revocations>,
    pub rules: CertificateRules,
}

impl Grants {
    /// For who holds the token of an activation file.
    pub(super) fn activate(
        &self,
        id: SensorId,
        token: TokenHash,
        csr: &[u8],
        from: IpAddr,
        now: UnixMillis,
    ) -> Result<Signed, Refused> {
        let signed = self.sign(csr, PeerIdentity::Sensor(id), now)?;
        let command = Command::Activate {
            id,
            token,
            key: signed.key,
            credential: Some(credential(&signed.leaf)),
            from: Some(from.to_string()),
        };
        self.fleet.apply(&[command], peer(id, Some(from)), now)?;
        Ok(signed)
    }

    /// In place of the certificate that a peer showed, and has proven to be its own.
    pub(super) fn renew(
        &self,
        shown: &Leaf,
        csr: &[u8],
        from: Option<IpAddr>,
        now: UnixMillis,
    ) -> Result<Signed, Refused> {
        self.may_renew(&self.fleet.register(), shown, now)?;
        let signed = self.sign(csr, shown.identity, now)?;
        self.record(shown, &signed.leaf, from, now)?;
        Ok(signed)
    }

    fn record(
        &self,
        shown: &Leaf,
        leaf: &Leaf,
        from: Option<IpAddr>,
        now: UnixMillis,
    ) -> Result<(), Refused> {
        // Of gateways the register keeps no certificates.
        let PeerIdentity::Sensor(id) = shown.identity else { return Ok(()) };
        let command = Command::Renew { id, shown: credential(shown), credential: credential(leaf) };
        let still = |register: &Register| self.may_renew(register, shown, now);
        self.fleet.apply_if(still, &[command], peer(id, from), now).map(drop)
    }

    fn sign(&self, csr: &[u8], identity: PeerIdentity, now: UnixMillis) -> Result<Signed, Refused> {
        self.authority
            .get()
            .sign_csr(csr, identity, self.rules.life, now)
            .map_err(|error| (EnrolRefusal::BadCsr, error.to_string()))
    }

    fn may_renew(&self, register: &Register, leaf: &Leaf, now: UnixMillis) -> Result<(), Refused> {
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
}

/// Who acts when a peer asks for something.
pub(super) fn peer(id: SensorId, from: Option<IpAddr>) -> Actor {
    Actor { kind: ActorKind::Peer, name: id.to_string(), from: from.map(|from| from.to_string()) }
}

impl From<CommandError> for Refused {
    fn from(error: CommandError) -> Refused {
        let CommandError::Refused(refusal) = error else {
            tracing::error!(%error, "a certificate could not be made durable");
            return (EnrolRefusal::StoreUnavailable, String::new());
        };
        let plain = |code: EnrolRefusal| (code, String::new());
        match refusal.code {
            RefusalCode::ActivationUnknown => plain(EnrolRefusal::UnknownToken),
            RefusalCode::ActivationVoid => plain(EnrolRefusal::TokenVoid),
            RefusalCode::ActivationExpired => plain(EnrolRefusal::TokenExpired),
            RefusalCode::ActivationUsed => plain(EnrolRefusal::TokenUsed),
            RefusalCode::UnknownSensor | RefusalCode::IdDeleted => plain(EnrolRefusal::SensorDeleted),
            RefusalCode::NotActive => {
                (EnrolRefusal::CertificateRevoked, format!("the sensor is {}", refusal.value))
            }
            RefusalCode::CredentialUnknown => (
                EnrolRefusal::CertificateRevoked,
                "others are good for the sensor, this one is not".to_owned(),
            ),
            RefusalCode::TooMany => (EnrolRefusal::TooOften, refusal.right),
            _ => plain(EnrolRefusal::NotPending),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Batch;
    use crate::identity::{Authority, ClientKey, sha256};
    use crate::limits::{ACTIVATION_REPEAT, GRANT_SPAN_SHARE, GRANTS_AT_ONCE};
    use crate::live::SensorType;
    use crate::server::enlist::Enlistment;

    const NOW: UnixMillis = UnixMillis(1_780_000_000_000);
    const DAY: Duration = Duration::from_secs(86_400);

    struct Rig {
        grants: Grants,
        sensor: SensorId,
        _dir: tempfile::TempDir,
    }

    impl Rig {
        /// One active sensor.
        fn new() -> Rig {
            let dir = tempfile::tempdir().expect("a directory");
            let (_, fleet) = FleetService::empty(dir.path());
            let authority =
                Authority::open_or_create(dir.path(), NOW.minus(400 * DAY)).expect("an authority");
            let revocations = Arc::new(Revocations::open(dir.path()).expect("a list"));
            fleet.revoke_through(Arc::clone(&revocations));
            let rules = CertificateRules { life: 30 * DAY, grace: 90 * DAY, drift_max: DAY };
            let authority = CurrentAuthority::new(dir.path().to_owned(), authority);
            let (fleet, authority) = (Arc::new(fleet), Arc::new(authority));
            let grants = Grants { fleet, authority, revocations, rules };
            let rig = Rig { grants, sensor: SensorId::from_number(1), _dir: dir };
            let commands = {
                let register = rig.grants.fleet.register();
                let mut plan = Enlistment::new(&register);
                plan.sensor(rig.sensor, "press", SensorType::OtCloud, "Lyon", "Line 1");
                plan.into_commands()
            };
            rig.give(&commands, NOW);
            rig
        }

        fn give(&self, commands: &[Command], at: UnixMillis) -> Batch {
            self.grants.fleet.apply(commands, Actor::command_line("test"), at).expect("done")
        }

        fn activate(&self, token: u8, at: UnixMillis) -> Leaf {
            let token = TokenHash(sha256(&[token; 32]));
            let id = self.sensor;
            self.give(&[Command::IssueActivation { id, token, expires_at: at.plus(DAY) }], at);
            self.grants.activate(id, token, &csr(), IpAddr::from([192, 0, 2, 1]), at).expect("granted").leaf
        }

        fn reactivate(&self, at: UnixMillis) {
            let lifecycle = Lifecycle::PendingReactivation;
            self.give(&[Command::SetLifecycle { id: self.sensor, lifecycle }], at);
        }
    }

    fn csr() -> Vec<u8> {
        ClientKey::make().expect("a key").request().expect("a request")
    }

    #[test]
    fn a_revocation_is_not_overtaken_by_a_renewal_on_its_way() {
        let rig = Rig::new();
        let grants = &rig.grants;
        rig.reactivate(NOW);
        let old = rig.activate(1, NOW);
        let later = NOW.plus(25 * DAY);
        let signed = || grants.sign(&csr(), old.identity, later).expect("signed").leaf;
        let code = |granted: Result<(), Refused>| granted.map_err(|(code, _)| code);

        // Taken back by hand, by its number.
        let on_its_way = signed();
        assert_eq!(code(grants.may_renew(&grants.fleet.register(), &old, later)), Ok(()));
        grants.revocations.revoke(&[old.serial.into()], later).expect("revoked");
        let refused = Err(EnrolRefusal::CertificateRevoked);
        assert_eq!(code(grants.record(&old, &on_its_way, None, later)), refused);

        // The sensor's are taken back, and another machine activates it.
        rig.reactivate(later);
        let held = rig.activate(2, later);
        let (shown, on_its_way) = (held, signed());
        rig.give(&[Command::RevokeCredentials { id: rig.sensor }], later);
        assert_eq!(code(grants.record(&shown, &on_its_way, None, later)), refused);
        let other = rig.activate(3, later);
        assert_eq!(code(grants.record(&shown, &on_its_way, None, later)), refused);
        assert!(grants.renew(&other, &csr(), None, later).is_ok());
        let held = grants.fleet.register().sensor(rig.sensor).expect("there").more.credentials.clone();
        let on_its_way = on_its_way.serial.to_string();
        assert!(held.len() == 2 && held.iter().all(|held| *held.serial != on_its_way), "{held:?}");
    }

    #[test]
    fn nobody_gets_one_certificate_after_the_other() {
        let rig = Rig::new();
        let grants = &rig.grants;
        rig.reactivate(NOW);
        let first = rig.activate(1, NOW);
        let renew = |now| grants.renew(&first, &csr(), None, now).map_err(|(code, _)| code);
        let due = NOW.plus(20 * DAY);
        let second = |n: u64| due.plus(Duration::from_secs(n));
        let given = (0..1_000).filter(|&n| renew(second(n)).is_ok()).count();
        assert_eq!(given, GRANTS_AT_ONCE);
        assert_eq!(renew(second(1_000)).expect_err("refused"), EnrolRefusal::TooOften);
        let span = grants.rules.life / GRANT_SPAN_SHARE;
        assert!(
            renew(due.plus(span + Duration::from_secs(GRANTS_AT_ONCE as u64))).is_ok(),
            "and later again"
        );
    }

    #[test]
    fn a_used_activation_file_is_answered_again_for_a_while_and_a_few_times() {
        let rig = Rig::new();
        rig.reactivate(NOW);
        let (id, token, from) = (rig.sensor, TokenHash([5; 32]), IpAddr::from([192, 0, 2, 1]));
        rig.give(&[Command::IssueActivation { id, token, expires_at: NOW.plus(DAY) }], NOW);
        let csr = csr();
        let ask = |now| rig.grants.activate(id, token, &csr, from, now).map_err(|(code, _)| code);
        for _ in 0..GRANTS_AT_ONCE {
            ask(NOW).expect("granted");
        }
        assert_eq!(ask(NOW).expect_err("refused"), EnrolRefusal::TooOften);
        let end = NOW.plus(ACTIVATION_REPEAT);
        assert!(ask(end.minus(Duration::from_secs(1))).is_err(), "thirty hours are not over");
        assert_eq!(ask(end).expect_err("refused"), EnrolRefusal::TokenUsed);
    }

    #[test]
    fn what_happens_to_a_sensor_on_the_way_is_told_apart() {
        let rig = Rig::new();
        rig.reactivate(NOW);
        let leaf = rig.activate(1, NOW);
        rig.give(&[Command::DeleteSensor { id: rig.sensor }], NOW);
        let command = |id| Command::Renew { id, shown: credential(&leaf), credential: credential(&leaf) };
        let refusal = |id| {
            let error = rig.grants.fleet.apply(&[command(id)], peer(id, None), NOW).expect_err("refused");
            Refused::from(error).0
        };
        assert_eq!(refusal(rig.sensor), EnrolRefusal::SensorDeleted);
    }
}
