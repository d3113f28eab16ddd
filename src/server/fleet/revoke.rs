//! Certificates that the register takes back.

use crate::fleet::{Batch, Change, Edit};
use crate::identity::{FileError, Revocations, Revoked, Serial};
use crate::live::Lifecycle;

/// What a batch takes back: what a sensor had before it, and has no more. One that ran out needs no revocation while
/// the sensor has others: nobody connects with it, and it is not renewed, since the register does not know it.
pub(in crate::server) fn taken_back(batch: &Batch) -> Vec<Revoked> {
    let mut taken = Vec::new();
    for change in &batch.changes {
        let Change::Sensor(Edit { before: Some(before), after }) = change else { continue };
        let kept = after.as_ref().filter(|sensor| sensor.lifecycle != Lifecycle::Deleted);
        let kept = kept.map_or(&[][..], |sensor| &sensor.more.credentials);
        let gone = before.more.credentials.iter().filter(|old| {
            let usable = kept.is_empty() || old.not_after >= batch.at;
            usable && !kept.iter().any(|held| held.serial == old.serial)
        });
        let revoked = gone.filter_map(|old| {
            let serial: Serial = old.serial.parse().ok()?;
            Some(Revoked { serial, not_after: Some(old.not_after) })
        });
        taken.extend(revoked);
    }
    taken
}

/// Revokes what a batch takes back. Before the batch is durable: if it then can't be, certificates are gone that
/// somebody wanted gone; the other way round a crash would leave them good. Connections that were made with them are
/// for the caller to close, by their serials: one that is just being made has no owner yet.
pub(in crate::server) fn revoke(batch: &Batch, revocations: &Revocations) -> Result<Vec<Serial>, FileError> {
    let taken = taken_back(batch);
    if !taken.is_empty() {
        revocations.revoke(&taken, batch.at)?;
    }
    Ok(taken.into_iter().map(|revoked| revoked.serial).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::fleet::{Actor, Command, Credential, TokenHash};
    use crate::identity::Authority;
    use crate::limits::CREDENTIALS_MAX;
    use crate::live::{OwnerRef, SensorType};
    use crate::server::fleet::{CommandError, FleetService, ToClose};
    use crate::time::{Clock, MONO_ORIGIN, SystemClock, UnixMillis};
    use crate::wire::close::CloseCode;
    use crate::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};

    const SENSOR: SensorId = SensorId::from_number(1);
    const END: UnixMillis = UnixMillis(1_000_000_000);

    type Closed = Arc<Mutex<(Vec<ToClose>, Vec<Serial>)>>;

    struct Rig {
        fleet: FleetService,
        revocations: Arc<Revocations>,
        closed: Closed,
        _dir: tempfile::TempDir,
    }

    impl Rig {
        /// One sensor, which has the certificate `01`.
        fn new(lifecycle: Lifecycle) -> Rig {
            let dir = tempfile::tempdir().expect("a directory");
            let (_, fleet) = FleetService::empty(dir.path());
            Authority::open_or_create(dir.path(), SystemClock::start().unix()).expect("an authority");
            let revocations = Arc::new(Revocations::open(dir.path()).expect("a list"));
            fleet.revoke_through(Arc::clone(&revocations));
            let closed = Closed::default();
            let seen = Arc::clone(&closed);
            fleet.close_through(Box::new(move |connections, certificates| {
                let mut seen = seen.lock().expect("not poisoned");
                seen.0.extend_from_slice(connections);
                seen.1.extend_from_slice(certificates);
            }));
            let (subscription, site) = (SubscriptionId::from_number(1), SiteId::from_number(1));
            let zone = ZoneId::from_number(1);
            let rig = Rig { fleet, revocations, closed, _dir: dir };
            let (name, kind) = ("press".to_owned(), SensorType::OtCloud);
            rig.give(&[
                Command::AddSubscription { id: subscription, name: "Contoso".into() },
                Command::AddSite { id: site, subscription, name: "Lyon".into() },
                Command::AddZone { id: zone, site, name: "Line 1".into() },
                Command::AddSensor { id: SENSOR, zone, name, kind, lifecycle },
                Command::RecordCredential { id: SENSOR, credential: credential(1) },
            ])
            .expect("done");
            rig
        }

        fn give(&self, commands: &[Command]) -> Result<Batch, CommandError> {
            self.fleet.apply(commands, Actor::command_line("test"), UnixMillis(1_000))
        }

        fn connect(&self) -> OwnerRef {
            let owner = OwnerRef { node: 0, shard: 0, connection: 7 };
            let slot = self.fleet.live.find(SENSOR).expect("a slot");
            self.fleet.live.take(slot, owner, END, MONO_ORIGIN).expect("taken");
            owner
        }

        fn revoked(&self, numbers: impl IntoIterator<Item = u32>) -> Vec<u32> {
            numbers.into_iter().filter(|&number| self.revocations.contains(&serial(number))).collect()
        }
    }

    /// Made ten days after the one before, good for 200.
    fn credential(number: u32) -> Credential {
        let day = |count: u32| UnixMillis(i64::from(count) * 86_400_000);
        let (not_before, not_after) = (day(10 * number), day(10 * number + 200));
        Credential { serial: format!("{number:02x}").into(), not_before, not_after }
    }

    fn serial(number: u32) -> Serial {
        format!("{number:02x}").parse().expect("a serial")
    }

    fn renew(shown: u32, number: u32) -> Command {
        Command::Renew { id: SENSOR, shown: credential(shown), credential: credential(number) }
    }

    fn activate(number: u32) -> [Command; 2] {
        let token = TokenHash([9; 32]);
        [
            Command::IssueActivation { id: SENSOR, token, expires_at: END },
            Command::Activate {
                id: SENSOR,
                token,
                key: [number as u8; 32],
                credential: Some(credential(number)),
                from: None,
            },
        ]
    }

    #[test]
    fn the_first_use_of_an_activation_file_takes_back_what_was_there_before() {
        let rig = Rig::new(Lifecycle::Active);
        let lifecycle = Lifecycle::PendingReactivation;
        rig.give(&[renew(1, 2), Command::SetLifecycle { id: SENSOR, lifecycle }]).expect("done");
        assert_eq!(rig.revoked(1..9), [0; 0], "it may be called off");
        let used = activate(3);
        rig.give(&used).expect("done");
        assert_eq!(rig.revoked(1..9), [1, 2]);
        // The answer was lost: both may be in use.
        let [_, Command::Activate { id, token, key, from, .. }] = used else { panic!("as made above") };
        rig.give(&[Command::Activate { id, token, key, from, credential: Some(credential(4)) }])
            .expect("again");
        assert_eq!(rig.revoked(1..9), [1, 2]);
        rig.give(&[Command::RevokeCredentials { id: SENSOR }]).expect("done");
        assert_eq!(rig.revoked(1..9), [1, 2, 3, 4]);
    }

    #[test]
    fn renewals_that_never_arrive_take_back_the_oldest_and_never_the_one_in_use() {
        let rig = Rig::new(Lifecycle::Active);
        let (most, beyond) = (CREDENTIALS_MAX as u32, 3);
        for number in 2..=most + beyond {
            rig.give(&[renew(1, number)]).expect("done");
        }
        assert_eq!(rig.revoked(1..99), [2, 3, 4]);
        assert_eq!(rig.closed.lock().expect("not poisoned").1, [serial(2), serial(3), serial(4)]);
        let refused = rig.give(&[renew(2, 90)]).expect_err("out of the list is out");
        assert!(refused.to_string().contains("credential-unknown"), "{refused}");
        // Whichever it shows in the end.
        rig.give(&[renew(most + beyond, 91)]).expect("done");
        assert_eq!(rig.revoked(1..99), [1, 2, 3, 4]);
    }

    #[test]
    fn who_waits_for_its_first_activation_loses_its_connection_with_its_certificate() {
        let rig = Rig::new(Lifecycle::PendingActivation);
        let owner = rig.connect();
        rig.give(&[Command::RevokeCredentials { id: SENSOR }]).expect("done");
        assert_eq!(rig.revoked(1..9), [1]);
        let closed = rig.closed.lock().expect("not poisoned");
        assert_eq!(*closed, (vec![(owner, CloseCode::CertificateRevoked)], vec![serial(1)]));
    }

    #[test]
    fn when_the_store_fails_after_the_revocation_it_is_said_and_the_connections_end() {
        let rig = Rig::new(Lifecycle::Active);
        let written = *rig.fleet.lock();
        rig.fleet.lock().sequence += 1;
        let refused = rig.give(&[Command::DeleteSensor { id: SENSOR }]).expect_err("not written");
        assert!(matches!(refused, CommandError::OnlyRevoked { certificates: 1, .. }), "{refused}");
        assert!(refused.to_string().contains("revoked already"), "{refused}");
        assert_eq!(rig.revoked(1..9), [1]);
        assert_eq!(rig.closed.lock().expect("not poisoned").1, [serial(1)]);
        assert!(rig.fleet.register().sensor(SENSOR).is_some());
        // With the store it goes on.
        *rig.fleet.lock() = written;
        rig.give(&[Command::DeleteSensor { id: SENSOR }]).expect("done");
    }
}
