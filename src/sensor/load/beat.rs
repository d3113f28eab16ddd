//! The schedules: one loop for all sensors of a driver, one task for each gateway.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use quinn::Connection;

use super::peer::{healthy, next_frame};
use super::{LoadCounts, LoadDriver};
use crate::sensor::dice::Dice;
use crate::sensor::source::Boot;
use crate::sensor::transport::Kind;
use crate::time::{Clock, MonoNanos, SystemClock};
use crate::wire::frame::HEARTBEAT_FRAME_BYTES;
use crate::wire::heartbeat::Heartbeat;

/// Sends in a row before QUIC's own tasks get their turn.
const SENDS_IN_A_ROW: usize = 32;
/// How long the loop sleeps at most: so soon it sees that it has to stop.
const LOOK: Duration = Duration::from_millis(50);
/// Shortest step of a schedule without a connection, which nothing else slows down.
const PAUSE_MIN: Duration = Duration::from_micros(1);
/// Longest time that the histograms tell apart.
const LONGEST_US: u64 = 3_600_000_000;

/// How fast the gateways of a driver send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GatewayRate {
    /// Frames a second of one gateway, by the clock.
    PerGateway(f64),
    /// As fast as the server takes them; there is no schedule then.
    Most,
}

/// What was seen while beating, in microseconds.
#[derive(Clone, Debug)]
pub struct Beaten {
    /// From the instant at which a frame was due to the one at which it was handed to QUIC.
    pub schedule_lag: Histogram<u64>,
    /// From handing the packet to the socket to its acknowledgement. The server acknowledges in the same step
    /// in which it stores, so this is a heartbeat's whole way and back. See `Trip`.
    pub round_trip: Histogram<u64>,
}

impl Default for Beaten {
    fn default() -> Beaten {
        Beaten { schedule_lag: histogram(), round_trip: histogram() }
    }
}

/// The round trip of the last packet of a connection, worked out from QUIC's smoothed value: each
/// acknowledgement makes it seven eighths of what it was and one eighth of the new one (RFC 9002, 5.3). Only
/// exact when one acknowledgement came since the last look, so only then there is a value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trip {
    smoothed: Duration,
    acknowledgements: u64,
}

impl Trip {
    fn look(&mut self, connection: &Connection) -> Option<Duration> {
        let stats = connection.stats();
        self.next(stats.path.rtt, stats.frame_rx.acks)
    }

    fn next(&mut self, smoothed: Duration, acknowledgements: u64) -> Option<Duration> {
        let before = std::mem::replace(self, Trip { smoothed, acknowledgements });
        let one = acknowledgements == before.acknowledgements + 1 && before.acknowledgements > 0;
        if one { (smoothed * 8).checked_sub(before.smoothed * 7) } else { None }
    }
}

impl Beaten {
    /// Adds what another driver saw.
    pub fn add(&mut self, other: &Beaten) {
        // Same bounds, so it fits.
        let _ = self.schedule_lag.add(&other.schedule_lag);
        let _ = self.round_trip.add(&other.round_trip);
    }

    fn record(&mut self, due: Option<MonoNanos>, now: MonoNanos, trip: Option<Duration>) {
        if let Some(due) = due {
            self.schedule_lag.saturating_record(micros(now.since(due)));
        }
        if let Some(trip) = trip {
            self.round_trip.saturating_record(micros(trip));
        }
    }
}

/// Three digits from a microsecond to an hour.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("these bounds are valid")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl LoadDriver {
    /// Sends heartbeats, every sensor one each interval at its own moment in it, and the gateways at their
    /// rate, until told to stop.
    pub async fn beat(&mut self, interval: Duration, gateways: GatewayRate, seed: u64) -> Beaten {
        let mut tasks = tokio::task::JoinSet::new();
        let mut dice = Dice::new(seed);
        let now = self.target.clock.mono();
        for (peer, connection) in self.peers.iter_mut().zip(&self.connections) {
            if peer.kind == Kind::Gateway {
                let pause = pause(gateways, peer.boots.len());
                let gateway = Gateway {
                    boots: std::mem::take(&mut peer.boots),
                    heartbeat: healthy(interval_ms(pause.unwrap_or(interval))),
                    connection: connection.clone(),
                    clock: self.target.clock,
                    counts: Arc::clone(&self.counts),
                    due: pause.map(|pause| (now.plus(dice.duration(pause)), pause)),
                };
                let place = tasks.len();
                tasks.spawn(async move { (place, gateway.run().await) });
            }
        }
        let mut beaten = self.sensors(interval, &mut dice).await;
        let mut boots: Vec<Vec<Boot>> = (0..tasks.len()).map(|_| Vec::new()).collect();
        while let Some(done) = tasks.join_next().await {
            if let Ok((place, (back, seen))) = done {
                boots[place] = back;
                beaten.add(&seen);
            }
        }
        let gateways = self.peers.iter_mut().filter(|peer| peer.kind == Kind::Gateway);
        for (peer, boots) in gateways.zip(boots) {
            peer.boots = boots;
        }
        beaten
    }

    /// One heartbeat of every sensor that is connected, as fast as it goes; gateways are left out. Returns
    /// how many were sent.
    pub async fn beat_once(&mut self, interval: Duration) -> u64 {
        let before = self.counts.sent.load(Ordering::Relaxed);
        let mut heartbeat = healthy(interval_ms(interval));
        for place in 0..self.peers.len() {
            if self.peers[place].kind == Kind::Sensor {
                self.send(place, &mut heartbeat, None, &mut None);
            }
            if place % SENDS_IN_A_ROW == SENDS_IN_A_ROW - 1 {
                tokio::task::yield_now().await;
            }
        }
        self.counts.sent.load(Ordering::Relaxed) - before
    }

    async fn sensors(&mut self, interval: Duration, dice: &mut Dice) -> Beaten {
        let mut seen = Some(Beaten::default());
        let mut order: Vec<(Duration, usize)> = (0..self.peers.len())
            .filter(|place| self.peers[*place].kind == Kind::Sensor)
            .map(|place| (dice.duration(interval), place))
            .collect();
        order.sort_unstable();
        let mut heartbeat = healthy(interval_ms(interval));
        let mut round = self.target.clock.mono();
        let (mut next, mut in_a_row) = (0, 0);
        while !self.counts.stop.load(Ordering::Relaxed) {
            let now = self.target.clock.mono();
            let look = now.plus(LOOK);
            let Some((phase, place)) = order.get(next).copied() else {
                // The round is over; with nobody to send for there is none.
                if order.is_empty() {
                    self.sleep_until(look).await;
                }
                round = round.plus(interval);
                next = 0;
                continue;
            };
            let due = round.plus(phase);
            if due > now {
                self.sleep_until(due.min(look)).await;
                in_a_row = 0;
                continue;
            }
            self.send(place, &mut heartbeat, Some(due), &mut seen);
            next += 1;
            in_a_row += 1;
            if in_a_row == SENDS_IN_A_ROW {
                in_a_row = 0;
                tokio::task::yield_now().await;
            }
        }
        seen.unwrap_or_default()
    }

    fn send(
        &mut self,
        place: usize,
        heartbeat: &mut Heartbeat,
        due: Option<MonoNanos>,
        seen: &mut Option<Beaten>,
    ) {
        let now = self.target.clock.now();
        let (peer, counts) = (&mut self.peers[place], &self.counts);
        let mut frame = Vec::with_capacity(HEARTBEAT_FRAME_BYTES);
        next_frame(&mut peer.boots[0], heartbeat, now, &mut frame);
        let Some(connection) = &self.connections[place] else {
            counts.not_sent.fetch_add(1, Ordering::Relaxed);
            return;
        };
        // Without room QUIC would throw an older heartbeat away, and nobody would count it.
        let trip = if seen.is_some() { self.trips[place].look(connection) } else { None };
        let room = connection.datagram_send_buffer_space() >= frame.len();
        if room && connection.send_datagram(Bytes::from(frame)).is_ok() {
            counts.sent.fetch_add(1, Ordering::Relaxed);
        } else {
            counts.not_sent.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(seen) = seen
            && counts.measuring.load(Ordering::Relaxed)
        {
            seen.record(due, now.mono, trip);
        }
    }
}

/// Time between two batches of a gateway with so many sensors.
fn pause(rate: GatewayRate, sensors: usize) -> Option<Duration> {
    match rate {
        GatewayRate::Most => None,
        GatewayRate::PerGateway(frames) => Some(Duration::from_secs_f64(sensors as f64 / frames.max(0.001))),
    }
}

fn interval_ms(interval: Duration) -> u32 {
    u32::try_from(interval.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// One gateway at work.
struct Gateway {
    boots: Vec<Boot>,
    heartbeat: Heartbeat,
    /// `None`: it never came up.
    connection: Option<Connection>,
    clock: SystemClock,
    counts: Arc<LoadCounts>,
    /// When the next batch is due, and the time between two.
    due: Option<(MonoNanos, Duration)>,
}

impl Gateway {
    async fn run(mut self) -> (Vec<Boot>, Beaten) {
        let mut seen = Beaten::default();
        if let Some(connection) = self.connection.clone() {
            self.with(&connection, &mut seen).await;
        }
        self.without().await;
        (self.boots, seen)
    }

    /// Sends until the connection ends or load does.
    async fn with(&mut self, connection: &Connection, seen: &mut Beaten) {
        let mut trip = Trip::default();
        let Ok(mut stream) = connection.open_uni().await else { return };
        let mut batch = Vec::with_capacity(self.boots.len() * HEARTBEAT_FRAME_BYTES);
        while self.wait().await {
            let now = self.clock.now();
            batch.clear();
            for boot in &mut self.boots {
                next_frame(boot, &mut self.heartbeat, now, &mut batch);
            }
            let trip = trip.look(connection);
            if self.counts.measuring.load(Ordering::Relaxed) {
                seen.record(self.due.map(|(due, _)| due), now.mono, trip);
            }
            // The next batch is due when it is due, however long this one takes.
            if let Some((due, pause)) = &mut self.due {
                *due = due.plus(*pause);
            }
            let frames = self.boots.len() as u64;
            if stream.write_all(&batch).await.is_err() {
                self.counts.not_sent.fetch_add(frames, Ordering::Relaxed);
                break;
            }
            self.counts.sent.fetch_add(frames, Ordering::Relaxed);
        }
        let _ = stream.finish();
    }

    /// The schedule goes on without a connection: what comes due until load ends is not sent. Without a schedule
    /// nothing comes due.
    async fn without(&mut self) {
        let frames = self.boots.len() as u64;
        while self.due.is_some() && self.wait().await {
            self.counts.not_sent.fetch_add(frames, Ordering::Relaxed);
            if let Some((due, pause)) = &mut self.due {
                *due = due.plus((*pause).max(PAUSE_MIN));
            }
        }
    }

    /// Until the next batch is due; false when load has to end.
    async fn wait(&self) -> bool {
        loop {
            if self.counts.stop.load(Ordering::Relaxed) {
                return false;
            }
            let now = self.clock.mono();
            match self.due {
                Some((due, _)) if due > now => {
                    let until = due.min(now.plus(LOOK));
                    tokio::time::sleep_until(self.clock.instant_of(until).into()).await;
                }
                _ => return true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_sends_each_of_its_sensors_at_the_rate_of_all() {
        assert_eq!(pause(GatewayRate::PerGateway(1_000.0), 100), Some(Duration::from_millis(100)));
        assert_eq!(pause(GatewayRate::Most, 100), None);
        assert_eq!(interval_ms(Duration::from_micros(10)), 1);
    }

    #[test]
    fn what_several_drivers_saw_adds_up() {
        let mut sum = Beaten::default();
        let mut one = Beaten::default();
        one.schedule_lag.saturating_record(1_500);
        one.round_trip.saturating_record(u64::MAX);
        sum.add(&one);
        sum.add(&one);
        assert_eq!(sum.schedule_lag.len(), 2);
        assert!((1_499..=1_501).contains(&sum.schedule_lag.max()));
        assert!(sum.round_trip.max() >= LONGEST_US);
    }

    #[test]
    fn a_round_trip_is_worked_out_when_one_acknowledgement_came() {
        let ms = Duration::from_millis;
        let mut trip = Trip::default();
        assert_eq!(trip.next(ms(30), 4), None, "what came before is not known");
        assert_eq!(trip.next((ms(30) * 7 + ms(2)) / 8, 5), Some(ms(2)));
        let before = trip.smoothed;
        assert_eq!(trip.next(before, 5), None, "not acknowledged yet");
        assert_eq!(trip.next(ms(20), 7), None, "two came");
    }
}
