//! How much a sensor may have in flight without an acknowledgement.
//!
//! A sensor sends one small frame an interval, so the interval keeps the path from congestion, not a window. The
//! usual controllers shrink their window to two packets after a series of losses, which four heartbeats fill: a
//! server that stood still for five seconds would then not hear from the sensor until its next probe, and probes
//! come at doubling times, so for as long again as it stood still. Here the window is halved by losses as usual,
//! and never below what heartbeats need until the connection is given up. What was kept during an outage is the
//! only burst, and for that the window counts.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory};

use crate::limits::{SENSOR_WINDOW_BYTES_MAX, SENSOR_WINDOW_BYTES_MIN};

/// Makes one for each connection.
pub(super) struct SensorWindows;

impl ControllerFactory for SensorWindows {
    fn build(self: Arc<Self>, _: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(SensorWindow { bytes: SENSOR_WINDOW_BYTES_MIN, mtu: u64::from(mtu), recovering_since: None })
    }
}

#[derive(Clone)]
struct SensorWindow {
    bytes: u64,
    mtu: u64,
    /// Losses of what was sent before then are one event.
    recovering_since: Option<Instant>,
}

impl Controller for SensorWindow {
    fn on_end_acks(&mut self, _: Instant, _: u64, app_limited: bool, _: Option<u64>) {
        if !app_limited {
            self.bytes = (self.bytes + self.mtu).min(SENSOR_WINDOW_BYTES_MAX);
        }
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, _: bool, _: u64) {
        if self.recovering_since.is_none_or(|since| sent > since) {
            self.recovering_since = Some(now);
            self.bytes = (self.bytes / 2).max(SENSOR_WINDOW_BYTES_MIN);
        }
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.mtu = u64::from(mtu);
    }

    fn window(&self) -> u64 {
        self.bytes
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        SENSOR_WINDOW_BYTES_MIN
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::time::{MONO_ORIGIN, SystemClock};

    #[test]
    fn losses_halve_it_once_a_round_and_never_below_what_heartbeats_need() {
        let start = SystemClock::start().instant_of(MONO_ORIGIN);
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut window = Arc::new(SensorWindows).build(start, 1_200);
        assert_eq!(window.window(), SENSOR_WINDOW_BYTES_MIN);
        for _ in 0..1_000 {
            window.on_end_acks(at(1), 0, true, None);
        }
        assert_eq!(window.window(), SENSOR_WINDOW_BYTES_MIN, "what is not used does not grow");
        for _ in 0..1_000 {
            window.on_end_acks(at(1), 0, false, None);
        }
        assert_eq!(window.window(), SENSOR_WINDOW_BYTES_MAX);
        for (now, sent, halvings) in [(2, 1, 1), (3, 2, 1), (4, 3, 2)] {
            window.on_congestion_event(at(now), at(sent), true, 1_200);
            assert_eq!(window.window(), SENSOR_WINDOW_BYTES_MAX >> halvings, "at {now}");
        }
        for now in 5..20 {
            window.on_congestion_event(at(now), at(now), true, 1_200);
        }
        assert_eq!(window.window(), SENSOR_WINDOW_BYTES_MIN);
    }
}
