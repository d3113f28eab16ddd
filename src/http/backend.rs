//! What the HTTP side asks of the server.

use crate::export::{Readiness, Source};

/// The server, as the HTTP side sees it. Its methods may wait for locks and for the disk, so they are called on
/// worker threads only.
pub trait Backend: Source {
    /// Whether requests and sensors may be sent here.
    fn readiness(&self) -> Readiness;
}
