//! The register as a pure model: who declared what about the fleet.
//!
//! A command goes in, a [`Batch`] of changes or a [`Refusal`] comes out ([`Register::apply`]); the caller
//! makes the batch durable and only then lets the register take it in ([`Register::fold`]). So the state
//! in memory never runs ahead of the log, a full disk changes nothing, and the whole state is a fold of
//! batches: what a restart, an audit, an event stream and "how was it at time T" read is the same thing.
//!
//! Every [`Change`] carries the document before and after. That costs some bytes in the log and buys the
//! audit entry (the batch *is* the audit entry), a check on every fold that the log fits the state, and
//! changes that can be read backwards.
//!
//! Nothing here reads a clock, a file or a random number: ids and times are given in. No type here is
//! serialisable; the documents are `store`'s.
//!
//! Cost: about 180 bytes of memory a sensor of which little is said (row 64, index 42, name 32, place in its site's list 40);
//! folding a million takes about a second.

mod access;
mod change;
mod command;
mod details;
mod draft;
mod model;
mod name;
mod plan;
pub mod query;
mod refusal;
mod register;
#[cfg(test)]
pub(crate) mod tests;

pub use access::{Grant, Permission, Role, Scope, Target, Token, User, allowed};
pub use change::{About, Actor, ActorKind, Batch, Change, Edit, Event, EventCode};
pub use command::{Command, Place, SensorEdit, SiteEdit, UserEdit};
pub use details::{
    Activation, Attempt, Credential, Mute, Overrides, Quiet, SensorMore, SiteAbout, ThreatIntelMode,
    TokenHash, Used, Window,
};

pub use model::{
    ENTERPRISE_SITE_NAME, ENTERPRISE_ZONE_NAME, Gateway, Sensor, Site, SiteKind, Subscription, Zone,
    enterprise_site, enterprise_zone,
};
pub use name::{check_name, judged_chars};
pub use plan::Sifted;
pub use refusal::{Refusal, RefusalCode};
pub use register::{Counts, FoldError, Register};
