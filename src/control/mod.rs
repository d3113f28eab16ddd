//! Brings connected sensors to their desired state.
//!
//! Today: saying something to one sensor over its connection and getting the answer
//! ([`ConnectedControl`]). Operations that outlive connections build on it.

mod connected;

pub use connected::{AskError, ConnectedControl};
