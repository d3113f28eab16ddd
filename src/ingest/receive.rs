//! Packets in: a batch is read, each packet finds its connection, and every connection that got one handles and
//! answers it at once, while its state is in the cache; what asks for a new connection is admitted or not.
//!
//! When packets come fast, the shard lets them gather for a millisecond before it reads on. A visit to the kernel
//! costs as much as a heartbeat, and so they share it, on the way in (recvmmsg) and out (sendmmsg). The price is
//! that millisecond in the time to the acknowledgement, and nothing in any verdict.

use std::time::Instant;

use quinn_proto::{ConnectionEvent, ConnectionHandle, DatagramEvent, Incoming};

use super::admission::{Admission, Attempt, Source, admit};
use super::connection::{Phase, Said};
use super::shard::{Shard, Work};
use super::socket::{BATCH, Packet};
use crate::limits::{BATCHES_PER_TURN, GATHER_ABOVE_PER_MS, HANDSHAKE_QUEUE};
use crate::time::{Clock, MonoNanos};

impl Shard {
    /// Once in a while: do packets come fast enough to let them gather?
    pub(super) fn measure_rate(&mut self, now: MonoNanos) {
        let packets = self.p.counters.packets.get();
        let new = packets - std::mem::replace(&mut self.packets_before, packets);
        let elapsed_ms = now.since(self.last_tick).as_millis() as u64;
        self.gathers = new >= GATHER_ABOVE_PER_MS * elapsed_ms.max(1);
    }

    /// Takes packets in batches until there are none, or enough for one turn; gives the time of the last batch.
    pub(super) fn receive(&mut self, mut now: MonoNanos) -> MonoNanos {
        for _ in 0..BATCHES_PER_TURN {
            let before = now;
            let messages = self.p.socket.receive(&self.p.counters);
            if messages > 0 {
                now = self.p.clock.mono();
            }
            if messages < BATCH {
                self.readable = false;
                self.heard_all(before, now);
            }
            if messages == 0 {
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
