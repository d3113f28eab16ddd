//! The protocol on one page.
pub mod close;
pub mod control;
pub mod frame;
pub mod heartbeat;
pub mod id;
