//! A shard that stood still reads late, and knows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetpulse::identity::{Leaf, PeerIdentity};
use fleetpulse::ingest::{
    InboxError, Ingest, IngestConfig, IngestKeys, IngestParts, LeafCheck, NoEnrolment, RegisterCheck,
    ShardCommand,
};
use fleetpulse::live::OwnerRef;
use fleetpulse::time::{Clock, UnixMillis};
use fleetpulse::wire::close::CloseCode;
use fleetpulse::wire::frame::write_frame;
use fleetpulse::wire::heartbeat::Heartbeat;
use fleetpulse::wire::id::SensorId;

use super::rig::{Client, Rig, heartbeat, server_tls};

/// Longer than what passes for punctual.
const STANDSTILL: Duration = Duration::from_secs(4);

/// Holds up the shard that asks about one sensor.
struct Holding {
    check: RegisterCheck,
    about: SensorId,
    holds: AtomicBool,
}

impl LeafCheck for Holding {
    fn check(&self, leaf_der: &[u8], now: UnixMillis) -> Result<Leaf, CloseCode> {
        let leaf = self.check.check(leaf_der, now)?;
        if leaf.identity == PeerIdentity::Sensor(self.about) {
            self.holds.store(true, Ordering::Relaxed);
            std::thread::sleep(STANDSTILL);
        }
        Ok(leaf)
    }
}

fn send(client: &Client, boot_id: u64, sequence: u64) {
    let mut bytes = Vec::new();
    write_frame(&Heartbeat { boot_id, ..heartbeat(client.id, sequence) }, 0, &mut bytes);
    client.connection.send_datagram(bytes.into()).expect("sent");
}

/// A server of one shard that can be made to stand still.
fn rig(about: SensorId) -> (Rig, Arc<Holding>) {
    let mut rig = Rig::new(1);
    let check = RegisterCheck::new(Arc::clone(&rig.live), Arc::clone(&rig.revocations));
    let holding = Arc::new(Holding { check, about, holds: AtomicBool::new(false) });
    let parts = IngestParts {
        live: Arc::clone(&rig.live),
        tls: server_tls(&rig.authority, &rig.keys, rig.clock),
        keys: IngestKeys::from(&*rig.keys),
        check: Arc::clone(&holding) as Arc<dyn LeafCheck>,
        enrol: Arc::new(NoEnrolment),
        clock: rig.clock,
        node: 0,
    };
    let config = IngestConfig { shards: 1, ..IngestConfig::loopback() };
    rig.ingest = Arc::new(Ingest::start(&config, &parts).expect("started"));
    rig.live.set_wall(rig.clock.now());
    (rig, holding)
}

#[tokio::test]
async fn a_heartbeat_that_waited_for_its_reader_says_nothing_of_its_clock() {
    let about = SensorId::from_number(2);
    let (rig, holding) = rig(about);
    let knows_its_clock = |rig: &Rig| rig.snapshot(1).clock_offset_ms != i64::MIN;

    let sensor = rig.sensor(1).await;
    send(&sensor, 1, 1);
    rig.until_received(1, 1).await;
    assert!(knows_its_clock(&rig));

    rig.register(about);
    let _other = rig.client(&rig.issue(PeerIdentity::Sensor(about)), about).await;
    rig.until("the shard stands still", |_| holding.holds.load(Ordering::Relaxed)).await;
    send(&sensor, 2, 1);
    rig.until_received(1, 2).await;
    assert_eq!(rig.snapshot(1).restarts, 1);
    assert!(!knows_its_clock(&rig), "it came in at any time of the standstill");
    send(&sensor, 2, 2);
    rig.until_received(1, 3).await;
    assert!(knows_its_clock(&rig));
}

#[tokio::test]
async fn who_has_to_go_while_the_inbox_is_full_goes_all_the_same() {
    let about = SensorId::from_number(2);
    let (rig, holding) = rig(about);
    let sensor = rig.sensor(1).await;
    rig.until("connected", |rig| rig.snapshot(1).connected).await;
    rig.register(about);
    let _other = rig.client(&rig.issue(PeerIdentity::Sensor(about)), about).await;
    rig.until("the shard stands still", |_| holding.holds.load(Ordering::Relaxed)).await;

    let (_, owner) = rig.live.remove(SensorId::from_number(1)).expect("registered");
    let owner = owner.expect("connected");
    let nobody = OwnerRef { connection: u32::MAX, ..owner };
    let code = CloseCode::Goodbye;
    while rig.ingest.post(0, ShardCommand::CloseConnection { owner: nobody, code }).is_ok() {}
    let closed = rig.ingest.close(&[(owner, CloseCode::UnknownIdentity)]);
    assert_eq!(closed, Err(InboxError::Full(0)));
    assert_eq!(sensor.closed().await, CloseCode::UnknownIdentity);
}
