//! What a shard does once in a while: deadlines of handshakes and answers, a look at every session, closing what has
//! to go, the steps of a drain, and the end.

use std::time::Duration;

use super::command::DrainPlan;
use super::connection::{Conn, Phase, Said};
use super::renewable::Renewable;
use super::shard::{Shard, TICK, Work};
use crate::limits::{COME_BACK_TIMEOUT, ENROL_CLOSING_MAX, SESSION_ROUND, SESSION_SILENCE_MIN};
use crate::live::OwnerRef;
use crate::time::{Clock, MonoNanos, UnixMillis};
use crate::wire::close::CloseCode;
use crate::wire::control::{OperationRef, ToSensor};

/// A pause of housekeeping after which the shard does not trust what it heard.
const DEAF_AFTER: Duration = Duration::from_secs(2);
/// How long the last goodbyes may wait for room in the socket's buffer.
const FAREWELL: Duration = Duration::from_millis(500);

/// A hint that belongs to no recorded operation.
const HINT: OperationRef = OperationRef { operation: 0, offset: 0 };

pub(super) struct Draining {
    pub plan: DrainPlan,
    pub since: MonoNanos,
    pub cursor: usize,
    pub total: usize,
}

/// A way once around all connections in small steps. Begun again while it is on its way, it goes on from where
/// it is and once around from there: however often that happens, everybody has a turn.
#[derive(Debug, Default)]
pub(super) struct Round {
    next: usize,
    left: usize,
}

impl Round {
    pub(super) fn begin(&mut self, places: usize) {
        self.left = places;
    }

    pub(super) fn goes_on(&self) -> bool {
        self.left > 0
    }

    /// The next place of so many.
    fn step(&mut self, places: usize) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let place = if self.next < places { self.next } else { 0 };
        self.next = place + 1;
        Some(place)
    }
}

impl Shard {
    pub(super) fn tick(&mut self, now: MonoNanos) {
        self.refresh_tls();
        if now.since(self.last_tick) > DEAF_AFTER && !self.last_tick.is_never() {
            // We were not listening (suspended, starved): who seems silent may wait in the kernel's buffer.
            self.deaf_until = now.plus(SESSION_SILENCE_MIN);
        }
        self.measure_rate(now);
        // Should the poll ever have missed that something is there, or that there is room again, it is found now.
        self.readable = true;
        if self.p.socket.blocked() {
            self.p.socket.writable(&self.p.counters);
        }
        self.last_tick = now;
        self.deadlines(now);
        if self.p.peers.take_recheck(usize::from(self.p.number)) {
            self.recheck.begin(self.conns.len());
        }
        self.look(now);
        self.drain_step(now);
        self.look_for_drops();
    }

    /// Packets that found our receive buffer full are missed by no fault of their senders. What is in the buffer
    /// came before them, so it takes until that is read before gaps say something again.
    fn look_for_drops(&mut self) {
        if self.p.socket.count_drops(&self.p.counters) {
            self.unheard_until = MonoNanos(u64::MAX);
        }
    }

    /// Whoever was away for long looks before it reads on: the first packets after the full buffer have gaps.
    pub(super) fn after_a_pause(&mut self, now: MonoNanos) {
        if now.since(self.last_tick) > 2 * TICK {
            self.look_for_drops();
        }
    }

    /// The receive buffer is empty: it became so after `before`, and what was in it counts as received at `now`.
    pub(super) fn heard_all(&mut self, before: MonoNanos, now: MonoNanos) {
        self.emptied = before;
        if self.unheard_until == MonoNanos(u64::MAX) {
            self.p.socket.count_drops(&self.p.counters);
            self.unheard_until = now;
        }
    }

    fn deadlines(&mut self, now: MonoNanos) {
        while let Some(&(at, key)) = self.handshakes_due.front()
            && at <= now
        {
            self.handshakes_due.pop_front();
            if let Some(place) = self.find(key)
                && let Some(conn) = self.conns[place as usize].as_deref()
                && conn.phase == Phase::HalfOpen
            {
                self.p.counters.handshakes_timed_out.add(1);
                self.left.said.push((conn.quic.remote_address(), Said::HandshakeFailed("timed_out")));
                self.drop_silently(place, now);
            }
        }
        while let Some((_, key)) = self.enrolments_due.pop_front_if(|front| front.0 <= now) {
            if let Some(place) = self.find(key) {
                self.step(place, now, Conn::enrolment_due);
            }
        }
        while let Some((_, key, number)) = self.next_answer_due(now) {
            if let Some(place) = self.find(key) {
                self.step(place, now, |conn, step| conn.control_due(number, step));
            }
        }
    }

    fn next_answer_due(&mut self, now: MonoNanos) -> Option<(MonoNanos, u32, u64)> {
        let due = |front: &mut (MonoNanos, u32, u64)| front.0 <= now;
        self.controls_due.pop_front_if(due).or_else(|| self.drains_due.pop_front_if(due))
    }

    /// Looks at a part of the sessions, so that all had their turn within [`SESSION_ROUND`].
    fn look(&mut self, now: MonoNanos) {
        let turns = (SESSION_ROUND.as_millis() / TICK.as_millis()).max(1) as usize;
        let unix = self.p.clock.unix();
        let otherwise = self.p.interval_ms.load(std::sync::atomic::Ordering::Relaxed);
        for _ in 0..self.conns.len().div_ceil(turns) {
            if self.look_cursor >= self.conns.len() {
                self.look_cursor = 0;
            }
            let place = self.look_cursor as u32;
            self.look_cursor += 1;
            let Some(conn) = self.conns[place as usize].as_deref_mut() else { continue };
            if conn.phase != Phase::Open {
                continue;
            }
            if let Err(code) = conn.session.look(now, unix) {
                self.step(place, now, |conn, step| conn.close(code, step));
            } else if now >= self.deaf_until && conn.session.fell_silent(now) {
                self.p.counters.lost.add(1);
                self.drop_silently(place, now);
            } else if let Some(interval_ms) = conn.session.should_be_told(&self.p.live, otherwise, now) {
                let message = ToSensor::SetInterval { of: HINT, interval_ms };
                self.control(place, now, |conn, step| conn.control(&message, None, None, step));
            }
            self.look_for_renewal(place, now, unix);
        }
    }

    /// Reports a peer that needs a new certificate or trust bundle. When nobody takes the report, it is made again.
    fn look_for_renewal(&mut self, place: u32, now: MonoNanos, unix: UnixMillis) {
        let wanted = *self.p.wanted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = self.key(place as usize);
        let Some(conn) = self.conns[place as usize].as_deref_mut() else { return };
        let Some(leaf) = conn.session.leaf() else { return };
        if let Some(certificate) = conn.session.needs(wanted, now, unix) {
            let owner = OwnerRef { node: self.p.node, shard: self.p.number, connection: key };
            if self.p.renewals.try_send(Renewable { owner, leaf, certificate }).is_err() {
                conn.session.not_taken(now);
            }
        }
    }

    pub(super) fn close_owner(&mut self, owner: OwnerRef, code: CloseCode, now: MonoNanos) {
        if let Some(place) = self.find(owner.connection) {
            if code == CloseCode::Replaced {
                self.p.counters.replaced.add(1);
            }
            self.step(place, now, |conn, step| conn.close(code, step));
        }
    }

    pub(super) fn close_where(&mut self, now: MonoNanos, code: CloseCode, chosen: impl Fn(&Conn) -> bool) {
        for place in 0..self.conns.len() {
            if self.conns[place].as_deref().is_some_and(&chosen) {
                self.step(place as u32, now, |conn, step| conn.close(code, step));
            }
        }
    }

    /// Judging one certificate takes microseconds, so all of them take many turns.
    pub(super) fn recheck(&mut self, now: MonoNanos) {
        const PER_TURN: usize = 256;
        for _ in 0..PER_TURN {
            let Some(place) = self.recheck.step(self.conns.len()) else { return };
            if self.conns[place].is_some() {
                self.step(place as u32, now, Conn::recheck);
            }
        }
    }

    /// Tells the next ones to come back later. They are closed when they answered, or after a second.
    fn drain_step(&mut self, now: MonoNanos) {
        let Some(draining) = &mut self.draining else { return };
        let Draining { plan, since, cursor, total } = draining;
        let share = now.since(*since).as_secs_f64() / plan.over.as_secs_f64().max(0.001);
        let until = ((*total as f64 * share) as usize).min(*total);
        let (from, plan) = (*cursor, *plan);
        *cursor = until;
        for place in from..until {
            let open = self.conns[place].as_deref().is_some_and(|conn| conn.phase == Phase::Open);
            if !open {
                continue;
            }
            let message = ToSensor::ComeBack { of: HINT, after_ms: come_back_ms(&plan, rand::random()) };
            let told = self.step(place as u32, now, |conn, step| {
                conn.control(&message, None, Some(CloseCode::Draining), step)
            });
            if let Some(number) = told.flatten() {
                let due = now.plus(COME_BACK_TIMEOUT);
                let key = self.key(place);
                self.drains_due.push_back((due, key, number));
            }
        }
    }

    /// What connections left to do beyond themselves.
    pub(super) fn tidy(&mut self, now: MonoNanos) {
        while let Some(owner) = self.left.replaced.pop() {
            let code = CloseCode::Replaced;
            if owner.node != self.p.node {
                continue;
            }
            if owner.shard == self.p.number {
                self.close_owner(owner, code, now);
            } else {
                let command = super::ShardCommand::CloseConnection { owner, code };
                // If it can't be told it finds out by itself with its next frame or packet.
                if self.p.peers.post(usize::from(owner.shard), command).is_err() {
                    self.p.counters.inbox_full.add(1);
                }
            }
        }
        while self.closing.len() > ENROL_CLOSING_MAX {
            if let Some(key) = self.closing.pop_front()
                && let Some(place) = self.find(key)
            {
                self.drop_silently(place, now);
            }
        }
        let shard = self.p.number;
        while let Some((peer, said)) = self.left.said.pop() {
            if !self.p.log.may_log(peer.ip(), now) {
                self.p.counters.log_suppressed.add(1);
                continue;
            }
            match said {
                Said::Closed(code) => {
                    tracing::warn!(shard, %peer, reason = code.label(), "connection closed: {}", code.text());
                }
                Said::HandshakeFailed(reason) => tracing::warn!(shard, %peer, reason, "handshake failed"),
                Said::FrameRefused(reason) => tracing::warn!(shard, %peer, reason, "a frame was refused"),
                Said::EnrolmentRefused(reason) => {
                    tracing::warn!(shard, %peer, reason, "an enrolment was refused")
                }
                Said::SourceCrowded => {
                    tracing::warn!(shard, %peer, "too many handshakes at once from one address; the rest has to wait");
                }
                Said::NotAdmitted => tracing::warn!(shard, %peer, "no room for another connection"),
            }
        }
    }

    /// Closes what is left and sends the goodbyes.
    pub(super) fn finish(&mut self) {
        let now = self.p.clock.mono();
        for work in std::mem::take(&mut self.work) {
            if let Work::Accept(incoming) = work {
                self.p.endpoint.ignore(*incoming);
            }
        }
        for place in 0..self.conns.len() {
            match self.conns[place].as_deref().map(|conn| conn.phase) {
                Some(Phase::Open) => {
                    self.step(place as u32, now, |conn: &mut Conn, step| {
                        conn.close(CloseCode::Draining, step)
                    });
                }
                Some(Phase::HalfOpen) => self.drop_silently(place as u32, now),
                _ => {}
            }
        }
        self.settle(now);
        let until = now.plus(FAREWELL);
        while (!self.dirty.is_empty() || self.p.socket.blocked()) && self.p.clock.mono() < until {
            if self.p.socket.blocked() {
                std::thread::sleep(Duration::from_millis(1));
                self.p.socket.writable(&self.p.counters);
            }
            self.settle(now);
        }
        self.tidy(now);
        self.p.counters.connections.set(0);
        self.p.counters.half_open.set(0);
    }
}

fn come_back_ms(plan: &DrainPlan, random: u32) -> u32 {
    let share = f64::from(random) / f64::from(u32::MAX);
    let after: Duration = plan.come_back_after + plan.come_back_spread.mul_f64(share);
    u32::try_from(after.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_that_begins_again_and_again_leaves_nobody_out() {
        let mut round = Round::default();
        assert_eq!(round.step(10), None);
        let mut turns = [0; 10];
        for _ in 0..20 {
            round.begin(10);
            for _ in 0..3 {
                turns[round.step(10).expect("it goes on")] += 1;
            }
        }
        assert_eq!(turns, [6; 10]);
        // Left alone it ends, also when more came meanwhile.
        round.begin(10);
        assert_eq!(std::iter::from_fn(|| round.step(12)).count(), 10);
        assert!(!round.goes_on());
    }

    #[test]
    fn everybody_comes_back_within_the_plan() {
        let plan = DrainPlan {
            over: Duration::from_secs(5),
            come_back_after: Duration::from_secs(10),
            come_back_spread: Duration::from_secs(30),
        };
        assert_eq!(come_back_ms(&plan, 0), 10_000);
        assert_eq!(come_back_ms(&plan, u32::MAX), 40_000);
        assert!((24_000..26_000).contains(&come_back_ms(&plan, u32::MAX / 2)));
    }
}
