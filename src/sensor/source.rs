//! Where heartbeats come from: whoever knows the host fills in the values, the client fills in the rest.

use std::time::Duration;

use super::link::LinkStats;
use crate::time::{MonoNanos, Now, UnixMillis};
use crate::wire::heartbeat::Heartbeat;
use crate::wire::id::SensorId;

/// What is known when a heartbeat is due.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    /// Both clocks.
    pub now: Now,
    /// The interval in force.
    pub interval: Duration,
    /// How the connection does.
    pub link: LinkStats,
}

/// Makes heartbeats when they are due. It is asked on the connection's task, so it must not block: gather
/// slow values elsewhere and copy the latest here.
pub trait Source: Send + 'static {
    /// The heartbeat of now; `None` leaves this one out. The client overwrites interval, round-trip time,
    /// send failures, reconnects and trust generation.
    fn heartbeat(&mut self, beat: &Beat) -> Option<Heartbeat>;
}

impl<F: FnMut(&Beat) -> Option<Heartbeat> + Send + 'static> Source for F {
    fn heartbeat(&mut self, beat: &Beat) -> Option<Heartbeat> {
        self(beat)
    }
}

/// One start of a sensor's software: gives each heartbeat its id, boot, number, clock and uptime.
#[derive(Clone, Debug)]
pub struct Boot {
    sensor: SensorId,
    boot_id: u64,
    sequence: u64,
    started: MonoNanos,
}

impl Boot {
    /// A new start, with a random boot id.
    pub fn new(sensor: SensorId, now: MonoNanos) -> Boot {
        Boot::with_id(sensor, rand::random(), now)
    }

    /// A new start with this boot id (zero becomes one).
    pub fn with_id(sensor: SensorId, boot_id: u64, now: MonoNanos) -> Boot {
        Boot { sensor, boot_id: boot_id.max(1), sequence: 0, started: now }
    }

    /// Which sensor.
    pub fn sensor(&self) -> SensorId {
        self.sensor
    }

    /// Numbers this heartbeat and stamps it.
    pub fn stamp(&mut self, heartbeat: &mut Heartbeat, now: Now) {
        self.sequence += 1;
        heartbeat.sensor_id = self.sensor.0;
        heartbeat.boot_id = self.boot_id;
        heartbeat.sequence = self.sequence;
        heartbeat.sensor_clock_unix_us = micros(now.unix);
        heartbeat.uptime_ms = u64::try_from(now.mono.since(self.started).as_millis()).unwrap_or(u64::MAX);
    }
}

fn micros(at: UnixMillis) -> i64 {
    at.0.saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MONO_ORIGIN;

    #[test]
    fn heartbeats_of_a_boot_are_numbered_from_one() {
        let mut boot = Boot::with_id(SensorId::from_number(4), 0, MONO_ORIGIN);
        let mut heartbeat = Heartbeat::default();
        let now = Now { mono: MONO_ORIGIN.plus(Duration::from_secs(2)), unix: UnixMillis(5) };
        boot.stamp(&mut heartbeat, now);
        assert_eq!((heartbeat.boot_id, heartbeat.sequence, heartbeat.uptime_ms), (1, 1, 2_000));
        assert_eq!(heartbeat.sensor_clock_unix_us, 5_000);
        boot.stamp(&mut heartbeat, now);
        assert_eq!(heartbeat.sequence, 2);
    }
}
