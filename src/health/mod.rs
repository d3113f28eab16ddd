//! Health: what live state means.
//!
//! `catalogue` is the one table of rules; `rules` holds their predicates; `policy` the numbers that apply;
//! `sweep` runs all of it over all sensors on a fixed cadence and says what changed. Everything here is plain
//! values in and out: `now` is an argument, the only shared thing is the lock-free live state.
//!
//! How a verdict comes about:
//! 1. a predicate says *holds* (since when), *does not hold* or *unknown*;
//! 2. a rule that holds for its raise-after becomes active, one that does not hold for its clear-after
//!    ends; *unknown* freezes it where it was;
//! 3. a stronger message may suppress it (it can't hold) or freeze it (nobody can know);
//! 4. differences to what the journal has are offered to it, in this sweep and in every later one until
//!    they are taken.

pub mod catalogue;
pub mod doubt;
pub mod message;
pub mod policy;
pub mod rules;
mod summary;
pub mod sweep;
mod texts;
pub mod version;

pub use catalogue::{CATALOGUE, RULES, Rule, RuleId, Severity, SubjectKind, Threshold, TypeMask, rules_of};
pub use doubt::{Cause, DoubtState};
pub use message::{ActiveMessage, ClearReason, Evidence, EvidenceValue, Subject, Transition, TransitionKind};
pub use policy::{Layer, Policy, PolicyError, PolicyPatch, PolicyTable, Provenance, Setting, lay, resolve};
pub use rules::{Judgement, Outcome, profile_limits};
pub use summary::{FleetCounts, OverallState, SweepSummary};
pub use sweep::{Context, Engine, Lookup, NoLookup, Offer, RuleReport};
pub use version::{Day, SupportState, Version, VersionTable};
