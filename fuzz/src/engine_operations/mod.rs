//! Register, shards, sweep and journal in any order: what must be true after every sweep is.
//!
//! Input: a list of [`Operation`]s in the form of `arbitrary`.
//!
//! The journal here is a channel and a disk: the engine's transitions go into the channel, an acknowledgement
//! writes the oldest down, a restart loses what was not written.

mod fleet;

use arbitrary::{Arbitrary, Unstructured};

use fleet::Fleet;

/// Operations of one input.
const OPERATIONS_MAX: usize = 400;

/// One thing that happens.
#[derive(Clone, Debug, Arbitrary)]
pub enum Operation {
    /// The register adds a sensor, or changes what it declares.
    Insert { sensor: u8, facts: Facts },
    /// The register deletes a sensor.
    Remove { sensor: u8 },
    /// The register adds a gateway, or changes its sites (one bit each).
    InsertGateway { gateway: u8, sites: u8 },
    /// The register deletes a gateway.
    RemoveGateway { gateway: u8 },
    /// A sensor connects.
    Take { sensor: u8, days_left: i8 },
    /// A connection ends: the newest, or one that lost its slot.
    Release { sensor: u8, stale: bool },
    /// Packets without a heartbeat.
    Seen { sensor: u8 },
    /// A gateway connects.
    TakeGateway { gateway: u8 },
    /// A gateway's connection ends.
    ReleaseGateway { gateway: u8, stale: bool },
    /// A gateway's packets.
    SeenGateway { gateway: u8 },
    /// A heartbeat by the sensor's own connection.
    Observe { sensor: u8, report: Report },
    /// A heartbeat by a gateway.
    ObserveBy { sensor: u8, gateway: u8, report: Report },
    /// All registered sensors report, one heartbeat each.
    ObserveAll { by_gateway: bool },
    /// Time passes without a sweep, in tenths of a second.
    Wait { tenths: u8 },
    /// Time passes, and a sweep is made.
    Sweep { tenths: u8 },
    /// So many sweeps, one a second.
    Sweeps { count: u8 },
    /// The process is away for so many seconds, and sweeps.
    Gap { seconds: u16 },
    /// Wall time steps, in tenths of a second.
    Step { tenths: i16 },
    /// A cause of doubt begins or ends.
    Doubt { cause: u8, lasts: bool },
    /// The channel takes so many transitions of each sweep; 255 = all.
    Room { transitions: u8 },
    /// The journal writes so many transitions down.
    Acknowledge { transitions: u8 },
    /// Policies, versions or desired state changed.
    Revise { desired_settings: u8 },
    /// A checkpoint is written.
    Checkpoint,
    /// The server is killed and started again.
    Restart { with_checkpoint: bool, away_seconds: u8 },
    /// Somebody asks why.
    Why { sensor: u8 },
}

/// What the register says of a sensor.
#[derive(Clone, Copy, Debug, Arbitrary)]
pub struct Facts {
    pub kind: u8,
    pub lifecycle: u8,
    pub site: u8,
    pub policy: bool,
    pub muted: bool,
}

/// What a heartbeat says.
#[derive(Clone, Copy, Debug, Default, Arbitrary)]
pub struct Report {
    /// Zero: started again since the last heartbeat.
    pub restarted: u8,
    /// How far the sequence goes on: forward or back.
    pub sequence: i8,
    /// Tenths of a second.
    pub age: u8,
    /// Packets since the last heartbeat.
    pub packets: u16,
    /// Of them lost.
    pub dropped: u16,
    /// Wrong by so many seconds.
    pub clock: i16,
    /// Interval, version, profile: places in small lists.
    pub kind: u8,
    /// Flags of the heartbeat.
    pub flags: u8,
    /// Update stage and percent.
    pub update: u8,
    /// Backup and threat intelligence.
    pub backup: u8,
    /// Time and directory servers.
    pub servers: u8,
    /// State of an endpoint.
    pub endpoint: u8,
    /// Failed self-tests.
    pub self_test: u8,
    /// Fill of a partition, of 255.
    pub disk: u8,
    /// Hundreds of devices.
    pub devices: u8,
    /// Settings in use.
    pub settings: u8,
}

/// Reads the operations of an input; a cut one at the end is left out.
pub fn operations(data: &[u8]) -> Vec<Operation> {
    let mut input = Unstructured::new(data);
    let mut operations = Vec::new();
    while !input.is_empty() && operations.len() < OPERATIONS_MAX {
        match Operation::arbitrary(&mut input) {
            Ok(operation) => operations.push(operation),
            Err(_) => break,
        }
    }
    operations
}

pub fn run(data: &[u8]) {
    apply(&operations(data));
}

/// Applies the operations to an empty fleet, then lets the journal catch up. With `SHOW_OPERATIONS` in the
/// environment it says each before it applies it.
pub fn apply(operations: &[Operation]) {
    let mut fleet = Fleet::new();
    let shown = std::env::var_os("SHOW_OPERATIONS").is_some();
    for operation in operations {
        if shown {
            eprintln!("{operation:?}");
        }
        fleet.apply(operation);
    }
    fleet.catch_up();
}
