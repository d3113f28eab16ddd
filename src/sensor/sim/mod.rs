//! A simulated fleet over real QUIC, with scripted faults.
//!
//! A [`Scenario`] (a TOML file) names sites, gateways and faults: which sensors, which fault of a closed
//! list, from when to when, which messages are expected. A [`Plan`] makes it concrete for a number of
//! sensors: who they are, what to register. A [`Fleet`] connects them, one connection each, plays the
//! faults and tells exactly when each began and ended, so that a truth table can be computed.
//!
//! Only the sensors are simulated. Certificates, sockets, packets, back-offs are the real ones; a pulled
//! cable drops real datagrams. Healthy values are chosen to be far from every rule's threshold, so that
//! whatever is raised without a fault is false.

mod fleet;
mod kind;
mod plan;
mod scenario;
mod sensor;

pub use fleet::{Fleet, FleetConfig, FleetError, FleetStats, Issue, Played};
pub use kind::{FaultKind, Whom};
pub use plan::{Hit, Plan, PlannedFault, PlannedGateway, PlannedSensor, Standing};
pub use scenario::{DEMO, Scenario, ScenarioError, SensorKind};
pub use sensor::{OLD_VERSION, VERSION};

/// The settings generation that healthy simulated sensors report.
pub const SETTINGS_GENERATION: u64 = 7;
