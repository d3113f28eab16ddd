//! Assembles threads, channels, journal, drain, reload.
pub mod data;
pub mod enlist;
pub mod fleet;
pub mod stop;
