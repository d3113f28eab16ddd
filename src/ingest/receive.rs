//! Packets in: a batch is read, each packet finds its connection, and every connection that got one handles and
//! answers it at once, while its state is in the cache; what asks for a new connection is admitted or not.
//!
//! When packets come fast, the shard lets them gather before it reads on, until about one batch is there and for
//! [`GATHER_MAX`] at most. A visit to the kernel, and what it and everybody else leaves of the caches, costs as much
//! as a heartbeat, and so many share it, on the way in (recvmmsg) and out (sendmmsg). The price is that time on the
//! way to the acknowledgement. No verdict knows it: silences are counted in seconds.

use std::time::{Duration, Instant};

use quinn_proto::{ConnectionEvent, ConnectionHandle, DatagramEvent, Incoming};

use super::admission::{Admission, Attempt, Source, admit};
use super::connection::{Phase, Said};
use super::shard::{Shard, Work};
use super::socket::{BATCH, Packet};
use crate::limits::{BATCHES_PER_TURN, GATHER_MAX, GATHER_PACKETS_MIN, HANDSHAKE_QUEUE};
use crate::time::{Clock, MonoNanos};

impl Shard {
    /// Once in a while: for how long does it pay to let packets gather?
    pub(super) fn measure_rate(&mut self, now: MonoNanos) {
        let packets = self.p.counters.packets.get();
        let new = packets - std::mem::replace(&mut self.packets_before, packets);
        self.gather = gather(new, now.since(self.last_tick));
    }

    /// Takes packets in batches until there are none, or enough for one turn; gives the time of the last batch.
    pub(super) fn receive(&mut self, mut now: MonoNanos) -> MonoNanos {
        for _ in 0..BATCHES_PER_TURN {
            let before = now;
            let messages = self.p.socket.receive(&self.p.counters);
            if messages > 0 {
                now = self.p.clock.mono();
            }
            self.readable = messages == BATCH;
            if messages == 0 {
                self.heard_all(before, now);
                break;
            }
            let instant = self.p.clock.instant_of(now);
            let frames_before = self.p.counters.frames.get();
            for message in 0..messages {
                let mut number = 0;
                while let Some(packet) = self.p.socket.packet(message, number) {
                    self.packet(packet, now, instant);
                    number += 1;
                }
            }
            self.settle(now);
            let frames = self.p.counters.frames.get() - frames_before;
            if frames > 0 {
                let done = self.p.clock.mono();
                self.p.counters.lag.record(done.since(now), frames);
            }
            if !self.readable {
                // Only now: these packets may have waited for as long as nobody knew the buffer empty.
                self.heard_all(before, now);
                break;
            }
        }
        now
    }

    fn packet(&mut self, packet: Packet, now: MonoNanos, instant: Instant) {
        let counters = &self.p.counters;
        counters.packets.add(1);
        counters.bytes.add(packet.data.len() as u64);
        self.scratch.clear();
        let (from, to) = (packet.from, packet.to);
        match self.p.endpoint.handle(instant, from, to, packet.ecn, packet.data, &mut self.scratch) {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => self.connection_packet(handle, event, now),
            Some(DatagramEvent::NewConnection(incoming)) => self.incoming(incoming),
            Some(DatagramEvent::Response(transmit)) => {
                counters.answers.add(1);
                self.p.socket.send(transmit, &self.scratch, counters);
            }
            None => counters.unroutable.add(1),
        }
    }

    fn connection_packet(&mut self, handle: ConnectionHandle, event: ConnectionEvent, now: MonoNanos) {
        let Some(conn) = self.conns.get_mut(handle.0).and_then(Option::as_deref_mut) else { return };
        let place = handle.0 as u32;
        if conn.phase == Phase::HalfOpen {
            // Beyond the bound it is lost like any packet, and sent again.
            if self.work.len() < HANDSHAKE_QUEUE {
                let key = self.key(handle.0);
                self.work.push_back(Work::Packet(key, event));
            }
            return;
        }
        conn.quic.handle_event(event);
        self.step(place, now, |conn, step| conn.packet(step));
    }

    fn incoming(&mut self, incoming: Incoming) {
        let counters = &self.p.counters;
        counters.initials.add(1);
        let source = Source::of(incoming.remote_address().ip());
        self.scratch.clear();
        let attempt = Attempt {
            connections: self.p.endpoint.open_connections() + self.accepts_waiting,
            connections_max: self.p.connections_max,
            half_open: self.half_open.all(),
            half_open_here: self.half_open.from(source),
            proven: incoming.remote_address_validated() || !incoming.may_retry(),
            draining: self.draining.is_some(),
        };
        match admit(attempt) {
            Admission::Accept => {
                self.accepts_waiting += 1;
                self.half_open.begin(source);
                self.work.push_back(Work::Accept(Box::new(incoming)));
            }
            Admission::Retry => match self.p.endpoint.retry(incoming, &mut self.scratch) {
                Ok(transmit) => {
                    counters.retried.add(1);
                    self.p.socket.send(transmit, &self.scratch, counters);
                }
                Err(error) => self.p.endpoint.ignore(error.into_incoming()),
            },
            Admission::Ignore => {
                counters.ignored.add(1);
                self.p.endpoint.ignore(incoming);
            }
            Admission::IgnoreSource => {
                counters.ignored_source.add(1);
                self.left.said.push((incoming.remote_address(), Said::SourceCrowded));
                self.p.endpoint.ignore(incoming);
            }
            Admission::Refuse => {
                counters.refuse(self.draining.is_some());
                if self.draining.is_none() {
                    self.left.said.push((incoming.remote_address(), Said::NotAdmitted));
                }
                let transmit = self.p.endpoint.refuse(incoming, &mut self.scratch);
                self.p.socket.send(transmit, &self.scratch, counters);
            }
        }
    }
}

/// How long it takes for a batch to fill, if so many packets came in that time; zero where hardly any would share.
fn gather(packets: u64, elapsed: Duration) -> Duration {
    if packets == 0 {
        return Duration::ZERO;
    }
    let each = elapsed / u32::try_from(packets).unwrap_or(u32::MAX);
    let wait = each.saturating_mul(BATCH as u32).min(GATHER_MAX);
    if each.saturating_mul(GATHER_PACKETS_MIN) > wait { Duration::ZERO } else { wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_gather_for_a_batch_and_never_for_long() {
        let second = Duration::from_secs(1);
        for (rate, micros) in
            [(0, 0), (1, 0), (499, 0), (500, 4_000), (8_000, 4_000), (16_000, 2_000), (64_000, 500)]
        {
            assert_eq!(gather(rate, second).as_micros(), micros, "{rate} a second");
        }
        assert_eq!(gather(1, Duration::MAX), Duration::ZERO);
    }
}
