//! What leaves for other people's tools: metrics for Prometheus, in classic text and OpenMetrics.
//!
//! Two kinds, kept apart. `/metrics` tells of the server and of the fleet as a whole: fewer than a thousand
//! series whatever the fleet, from the [`table`], gathered from one snapshot of [`Figures`]. Values of single
//! sensors have their own page, filtered, cut into pages and written directly, because a registry of them would
//! cost more memory than the live state itself and forty times the CPU (measured).
//!
//! This module alone knows the `prometheus` crate; it opens no socket and reads no clock.

mod buckets;
mod collector;
mod figures;
mod format;
mod open_metrics;
mod process;
pub mod sensors;
pub mod table;

pub use buckets::{Buckets, DELAY_BOUNDS_US, LAG_BOUNDS_US, SWEEP_BOUNDS_US};
pub use collector::Exposition;
pub use figures::{
    Check, CheckpointFigures, Figures, HistoryFigures, HttpFigures, IngestFigures, JournalFigures,
    LiveFigures, Readiness, Source, StoreFigures, SweepFigures, TrustFigures,
};
pub use format::Format;
pub use process::ProcessFigures;
