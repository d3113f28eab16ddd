//! One connection: the QUIC state machine beside its session, and what passes between them.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use quinn_proto::{Connection, ConnectionError, Dir, Event, ReadError, StreamEvent, StreamId, VarInt};

use super::Role;
use super::admission::Source;
use super::command::{ControlFailure, ControlReply};
use super::counters::{HANDSHAKE_FAILURES, handshake_failure};
use super::enrol::{Enrolling, Enrolments};
use super::session::{Env, LeafCheck, Session};
use super::timers::Armed;
use super::tls::PeerLeaf;
use crate::identity::parse_leaf;
use crate::limits::{
    ACK_ELICIT_EVERY_PACKETS, CONNECTION_WINDOW_BYTES, CONTROL_MESSAGE_BYTES_MAX, CONTROLS_PER_CONNECTION,
    GATEWAY_WINDOW_BYTES, GATEWAY_WINDOW_BYTES_TOTAL,
};
use crate::live::OwnerRef;
use crate::time::{Clock, SystemClock};
use crate::wire::close::CloseCode;
use crate::wire::control::{FromSensor, ToSensor, announced_length, decode, encode};

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    HalfOpen,
    Open,
    /// Closed by either side; QUIC keeps it for a moment to answer stragglers.
    Closed,
}

pub(super) struct Conn {
    pub quic: Connection,
    /// Where it came from. It may be elsewhere by now.
    pub source: Source,
    pub session: Session,
    pub armed: Armed,
    pub phase: Phase,
    /// Is in the list of those that have something to send.
    pub dirty: bool,
    /// A packet came since the last [`Conn::drive`]; timers drive too.
    heard: bool,
    /// Packets since the peer was last made to acknowledge.
    unelicited: u32,
    window: u32,
    controls: Vec<PendingControl>,
    /// Of a connection to the enrolment port.
    pub enrolling: Option<Box<Enrolling>>,
    /// The certificate that the peer got on this connection.
    renewed: Option<Box<[u8]>>,
}

struct PendingControl {
    stream: StreamId,
    reply: Option<ControlReply>,
    buffer: Vec<u8>,
    then_close: Option<CloseCode>,
    number: u64,
}

/// What a connection needs of its shard for one step, and what it leaves for it to do.
pub(super) struct Step<'a> {
    pub env: Env<'a>,
    pub instant: Instant,
    pub role: Role,
    pub owner: OwnerRef,
    pub check: &'a dyn LeafCheck,
    pub clock: &'a SystemClock,
    pub draining: bool,
    /// Of the enrolment port's shard.
    pub enrolments: Option<&'a mut Enrolments>,
    pub left: &'a mut Left,
}

/// What a connection leaves for its shard to do.
#[derive(Default)]
pub(super) struct Left {
    /// Connections that lost their slot.
    pub replaced: Vec<OwnerRef>,
    /// What to say about peers, if it may be said.
    pub said: Vec<(SocketAddr, Said)>,
    /// Receive windows granted to gateways of this shard, together.
    pub gateway_windows: u64,
    /// Numbers control messages, so that a deadline finds the right one.
    pub controls: u64,
}

/// Something about a peer that a person may want to read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Said {
    Closed(CloseCode),
    HandshakeFailed(&'static str),
    FrameRefused(&'static str),
    EnrolmentRefused(&'static str),
    /// The shard holds as many connections as it may.
    NotAdmitted,
    /// Its source holds as many half-open handshakes as it may.
    SourceCrowded,
}

impl Conn {
    pub(super) fn new(quic: Connection, source: Source) -> Conn {
        Conn {
            quic,
            source,
            session: Session::None,
            armed: Armed::default(),
            phase: Phase::HalfOpen,
            dirty: false,
            heard: false,
            unelicited: 0,
            window: 0,
            controls: Vec::new(),
            enrolling: None,
            renewed: None,
        }
    }

    /// A packet of this connection was handed to QUIC.
    #[inline]
    pub(super) fn packet(&mut self, step: &mut Step<'_>) {
        self.heard = true;
        // A peer that never acknowledges our acknowledgements makes QUIC keep a record of each.
        self.unelicited += 1;
        if self.unelicited >= ACK_ELICIT_EVERY_PACKETS && self.phase == Phase::Open {
            self.unelicited = 0;
            self.quic.ping();
            step.env.counters.acks_elicited.add(1);
        }
        if let Err(code) = self.session.packet(&step.env) {
            self.close(code, step);
        }
    }

    /// Takes everything that QUIC has for us.
    pub(super) fn drive(&mut self, step: &mut Step<'_>) {
        let frames_before = step.env.counters.frames.get();
        let mut datagrams = false;
        while let Some(event) = self.quic.poll() {
            match event {
                Event::DatagramReceived => datagrams = true,
                Event::Connected => self.connected(step),
                Event::ConnectionLost { reason } => self.lost(&reason, step),
                Event::Stream(event) => self.stream_event(event, step),
                Event::HandshakeDataReady | Event::DatagramsUnblocked => {}
            }
        }
        if datagrams {
            // Drained at once: a waiting datagram pins the buffer it came in.
            while let Some(datagram) = self.quic.datagrams().recv() {
                if self.phase == Phase::Open
                    && let Err(code) = self.session.datagram(&datagram, &step.env)
                {
                    self.close(code, step);
                }
            }
        }
        if std::mem::take(&mut self.heard) {
            let brought_frames = step.env.counters.frames.get() != frames_before;
            if let Err(code) = self.session.transport_seen(brought_frames, &step.env) {
                self.close(code, step);
            }
            if let Some(why) = self.session.take_refusal() {
                step.left.said.push((self.quic.remote_address(), Said::FrameRefused(why)));
            }
        }
    }

    fn connected(&mut self, step: &mut Step<'_>) {
        let counters = step.env.counters;
        self.phase = Phase::Open;
        counters.handshakes.add(1);
        if step.role == Role::Enrolment {
            return self.enrolment_begins(step);
        }
        if step.draining {
            return self.close(CloseCode::Draining, step);
        }
        let Some(leaf) = self.leaf() else {
            return self.close(CloseCode::NoIdentity, step);
        };
        let began = step
            .check
            .check(&leaf, step.clock.unix())
            .and_then(|leaf| Session::begin(&leaf, step.owner, &step.env));
        match began {
            Err(code) => self.close(code, step),
            Ok((session, began)) => {
                self.session = session;
                if let Some(replaced) = began.replaced {
                    step.left.replaced.push(replaced);
                }
                if began.gateway {
                    counters.gateways.add(1);
                    self.widen(step);
                } else {
                    counters.sensors.add(1);
                }
            }
        }
    }

    /// The peer keeps another trust bundle from now on, and another certificate if there is one.
    pub(super) fn kept(&mut self, trust_generation: u32, leaf: Option<Box<[u8]>>, step: &mut Step<'_>) {
        let Some(leaf) = leaf else {
            self.session.kept(trust_generation, None, &step.env);
            return;
        };
        if let Ok(read) = parse_leaf(&leaf)
            && self.session.kept(trust_generation, Some(&read), &step.env)
        {
            self.renewed = Some(leaf);
        }
    }

    /// The certificate that the peer showed, or got since.
    fn leaf(&self) -> Option<Box<[u8]>> {
        if let Some(leaf) = &self.renewed {
            return Some(leaf.clone());
        }
        let leaf = self.quic.crypto_session().peer_identity()?;
        leaf.downcast::<PeerLeaf>().ok().map(|leaf| leaf.0)
    }

    /// A gateway may open its stream and send more at once, as far as the shard's budget reaches. Beyond
    /// it the gateway works with the window it has, slower.
    fn widen(&mut self, step: &mut Step<'_>) {
        self.quic.set_max_concurrent_streams(Dir::Uni, VarInt::from_u32(1));
        let more = GATEWAY_WINDOW_BYTES - CONNECTION_WINDOW_BYTES;
        if step.left.gateway_windows + u64::from(more) <= GATEWAY_WINDOW_BYTES_TOTAL {
            step.left.gateway_windows += u64::from(more);
            self.window = more;
            self.quic.set_receive_window(VarInt::from_u32(GATEWAY_WINDOW_BYTES));
            step.env.counters.gateway_window_bytes.set(step.left.gateway_windows);
        }
    }

    fn lost(&mut self, reason: &ConnectionError, step: &mut Step<'_>) {
        let counters = step.env.counters;
        match (self.phase, reason) {
            (Phase::HalfOpen, reason) => {
                let place = handshake_failure(reason);
                counters.handshakes_failed.add(1);
                counters.handshake_failures[place].add(1);
                let label = HANDSHAKE_FAILURES[place];
                step.left.said.push((self.quic.remote_address(), Said::HandshakeFailed(label)));
            }
            (Phase::Open, ConnectionError::ApplicationClosed(_) | ConnectionError::ConnectionClosed(_)) => {
                counters.closed_by_peer.add(1);
            }
            (Phase::Open, ConnectionError::TransportError(_)) => {
                counters.broken.add(1);
                step.left.said.push((self.quic.remote_address(), Said::Closed(CloseCode::Protocol)));
            }
            (Phase::Open, _) => counters.lost.add(1),
            (Phase::Closed, _) => {}
        }
        self.over(step);
    }

    /// Closes for a reason of ours, told to the peer.
    pub(super) fn close(&mut self, code: CloseCode, step: &mut Step<'_>) {
        if self.phase == Phase::Closed {
            return;
        }
        self.quic.close(
            step.instant,
            VarInt::from_u32(code.code()),
            Bytes::from_static(code.text().as_bytes()),
        );
        step.env.counters.close(code);
        if !matches!(code, CloseCode::Draining | CloseCode::Goodbye) {
            step.left.said.push((self.quic.remote_address(), Said::Closed(code)));
        }
        self.over(step);
    }

    /// Gives back what the connection held. QUIC may keep its part a little longer.
    pub(super) fn over(&mut self, step: &mut Step<'_>) {
        let counters = step.env.counters;
        self.phase = Phase::Closed;
        self.enrolment_ends(step);
        match &self.session {
            Session::None => {}
            Session::Sensor(_) => counters.sensors.sub(1),
            Session::Gateway(_) => counters.gateways.sub(1),
        }
        self.session.end(&step.env);
        step.left.gateway_windows -= u64::from(std::mem::take(&mut self.window));
        counters.gateway_window_bytes.set(step.left.gateway_windows);
        for control in std::mem::take(&mut self.controls) {
            counters.control_failed.add(1);
            answer(control.reply, Err(ControlFailure::NotConnected));
        }
    }

    /// Judges the certificate again.
    pub(super) fn recheck(&mut self, step: &mut Step<'_>) {
        if self.session.identity().is_none() {
            return;
        }
        let verdict = self
            .leaf()
            .ok_or(CloseCode::NoIdentity)
            .and_then(|leaf| step.check.check(&leaf, step.clock.unix()));
        if let Err(code) = verdict {
            self.close(code, step);
        }
    }

    fn stream_event(&mut self, event: StreamEvent, step: &mut Step<'_>) {
        match event {
            StreamEvent::Opened { dir: Dir::Uni } => {
                while let Some(stream) = self.quic.streams().accept(Dir::Uni) {
                    self.read_uni(stream, step);
                }
            }
            StreamEvent::Opened { dir: Dir::Bi } if self.enrolling.is_some() => self.enrolment_opened(step),
            StreamEvent::Opened { dir: Dir::Bi } => {
                step.env.counters.streams_refused.add(1);
                self.close(CloseCode::Protocol, step);
            }
            StreamEvent::Readable { id } if id.dir() == Dir::Uni => self.read_uni(id, step),
            StreamEvent::Readable { id } if self.enrolling.is_some() => self.enrolment_read(id, step),
            StreamEvent::Readable { id } => self.read_answer(id, step),
            StreamEvent::Writable { .. }
            | StreamEvent::Finished { .. }
            | StreamEvent::Stopped { .. }
            | StreamEvent::Available { .. } => {}
        }
    }

    fn read_uni(&mut self, stream: StreamId, step: &mut Step<'_>) {
        let session = &mut self.session;
        let mut verdict = Ok(());
        {
            let mut receive = self.quic.recv_stream(stream);
            let Ok(mut chunks) = receive.read(true) else { return };
            while verdict.is_ok() {
                match chunks.next(usize::MAX) {
                    Ok(Some(chunk)) => verdict = session.stream(&chunk.bytes, &step.env),
                    Ok(None) | Err(ReadError::Reset(_)) => {
                        verdict = session.stream_ended(&step.env);
                        break;
                    }
                    Err(ReadError::Blocked) => break,
                }
            }
            // Credit goes out with the next transmit, which follows every step.
            let _ = chunks.finalize();
        }
        if let Err(code) = verdict {
            self.close(code, step);
        }
    }

    /// Says something on a stream of its own. Gives the number by which [`Conn::control_due`] finds it.
    pub(super) fn control(
        &mut self,
        message: &ToSensor,
        reply: Option<ControlReply>,
        then_close: Option<CloseCode>,
        step: &mut Step<'_>,
    ) -> Option<u64> {
        let failure = match self.open_control(message) {
            Ok(stream) => {
                step.left.controls += 1;
                let number = step.left.controls;
                self.controls.push(PendingControl { stream, reply, buffer: Vec::new(), then_close, number });
                step.env.counters.control_sent.add(1);
                return Some(number);
            }
            Err(failure) => failure,
        };
        step.env.counters.control_failed.add(1);
        answer(reply, Err(failure));
        if let Some(code) = then_close {
            self.close(code, step);
        }
        None
    }

    fn open_control(&mut self, message: &ToSensor) -> Result<StreamId, ControlFailure> {
        if self.session.identity().is_none() {
            return Err(ControlFailure::NotConnected);
        }
        if self.controls.len() >= CONTROLS_PER_CONNECTION {
            return Err(ControlFailure::Busy);
        }
        let stream = self.quic.streams().open(Dir::Bi).ok_or(ControlFailure::Busy)?;
        let bytes = encode(message);
        let mut send = self.quic.send_stream(stream);
        // Our windows hold many messages; one that does not fit means that the peer takes none now.
        if send.write(&bytes).ok() == Some(bytes.len()) && send.finish().is_ok() {
            return Ok(stream);
        }
        let _ = send.reset(VarInt::from_u32(CloseCode::Goodbye.code()));
        let _ = self.quic.recv_stream(stream).stop(VarInt::from_u32(CloseCode::Goodbye.code()));
        Err(ControlFailure::Busy)
    }

    /// The time for an answer is over; nothing happens when it came.
    pub(super) fn control_due(&mut self, number: u64, step: &mut Step<'_>) {
        if let Some(place) = self.controls.iter().position(|control| control.number == number) {
            self.control_ends(place, Err(ControlFailure::NoAnswer), step);
        }
    }

    fn control_ends(
        &mut self,
        place: usize,
        result: Result<FromSensor, ControlFailure>,
        step: &mut Step<'_>,
    ) {
        let control = self.controls.swap_remove(place);
        // Whatever the peer still sends on it is not wanted. Fails when the stream is done already.
        let _ = self.quic.recv_stream(control.stream).stop(VarInt::from_u32(CloseCode::Goodbye.code()));
        match result {
            Ok(_) => step.env.counters.control_answered.add(1),
            Err(_) => step.env.counters.control_failed.add(1),
        }
        answer(control.reply, result);
        if let Some(code) = control.then_close {
            self.close(code, step);
        }
    }

    fn read_answer(&mut self, stream: StreamId, step: &mut Step<'_>) {
        let Some(place) = self.controls.iter().position(|control| control.stream == stream) else { return };
        let buffer = &mut self.controls[place].buffer;
        let mut ended = false;
        {
            let mut receive = self.quic.recv_stream(stream);
            let Ok(mut chunks) = receive.read(true) else { return };
            while !ended && buffer.len() <= CONTROL_MESSAGE_BYTES_MAX + 4 {
                match chunks.next(CONTROL_MESSAGE_BYTES_MAX) {
                    Ok(Some(chunk)) => buffer.extend_from_slice(&chunk.bytes),
                    Ok(None) | Err(ReadError::Reset(_)) => ended = true,
                    Err(ReadError::Blocked) => break,
                }
            }
            let _ = chunks.finalize();
        }
        let result = match announced_length(buffer) {
            Ok(Some(length)) if buffer.len() >= length + 4 => {
                decode::<FromSensor>(&buffer[4..]).map_err(|_| ControlFailure::Unreadable)
            }
            Ok(_) if !ended => return,
            _ => Err(ControlFailure::Unreadable),
        };
        self.control_ends(place, result, step);
    }
}

pub(super) fn answer(reply: Option<ControlReply>, result: Result<FromSensor, ControlFailure>) {
    if let Some(reply) = reply {
        // Nobody waits any more, or the answer was given before: nothing to do.
        let _ = reply.try_send(result);
    }
}
