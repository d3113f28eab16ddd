//! One signal that ends all threads of a server, and the wait that it cuts short.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::time::{Clock, MonoNanos};

/// Shared by everybody who must stop.
#[derive(Clone, Default)]
pub struct StopSignal {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl StopSignal {
    /// Tells everybody to stop.
    pub fn stop(&self) {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.1.notify_all();
    }

    /// True once [`StopSignal::stop`] was called.
    pub fn stopped(&self) -> bool {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `due` by `clock`; true when it is time to stop instead.
    pub fn wait_until(&self, clock: &dyn Clock, due: MonoNanos) -> bool {
        let mut stopped = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if *stopped {
                return true;
            }
            let left = due.since(clock.mono());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.1.wait_timeout(stopped, left.min(Duration::from_secs(60)));
            stopped = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
