//! The enrolment port: one request and one answer on each connection, judged on a thread of its own.
//!
//! The shard takes in the bytes of a request, as many as a request may have and no longer than a connection may last,
//! and hands the whole to the judge through a bounded queue. The judge may wait for the disk, so it never runs on the
//! shard's thread; its answer comes back through the shard's inbox. A source holds no more connections, and no more
//! places in the queue, than are left for all others (as with half-open handshakes, see `admission`), so that who
//! floods the port with well-formed rubbish leaves room for a sensor that is being activated.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam::channel::{Receiver, Sender};
use quinn_proto::{Dir, ReadError, StreamId, VarInt};

use super::admission::{HalfOpen, Source};
use super::command::{InboxError, Inboxes, ShardCommand};
use super::connection::{Conn, Said, Step};
use super::counters::EnrolOutcome;
use crate::limits::{ENROL_CONNECTIONS_MAX, ENROL_MESSAGE_BYTES_MAX, ENROL_QUEUE};
use crate::live::OwnerRef;
use crate::time::{Clock, SystemClock, UnixMillis};
use crate::wire::close::CloseCode;
use crate::wire::enrol::{EnrolAnswer, EnrolRefusal, EnrolRequest, announced_length, encode, read_request};

/// Decides about enrolments.
pub trait EnrolJudge: Send + Sync + 'static {
    /// Answers a request that came from this address at this time. Called on a thread of its own, one request after
    /// the other; may wait for the disk. What it grants has to be durable when it returns.
    fn judge(&self, request: &EnrolRequest, from: SocketAddr, now: UnixMillis) -> EnrolAnswer;
}

/// Grants nothing: for servers whose sensors get their certificates elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEnrolment;

impl EnrolJudge for NoEnrolment {
    fn judge(&self, _: &EnrolRequest, _: SocketAddr, _: UnixMillis) -> EnrolAnswer {
        EnrolRefusal::UnknownToken.answer("this server enrols nobody")
    }
}

/// A complete request on its way to the judge.
#[derive(Debug)]
pub(super) struct EnrolJob {
    owner: OwnerRef,
    source: Source,
    from: SocketAddr,
    request: EnrolRequest,
}

/// An answer on its way back.
#[derive(Clone, Debug)]
pub struct EnrolVerdict {
    pub(super) owner: OwnerRef,
    pub(super) source: Source,
    pub(super) answer: EnrolAnswer,
}

/// The judge's thread: ends when its shard does.
pub(super) fn run(
    jobs: &Receiver<EnrolJob>,
    judge: &Arc<dyn EnrolJudge>,
    inboxes: &Inboxes,
    clock: &SystemClock,
) {
    for job in jobs {
        let answer = judge.judge(&job.request, job.from, clock.unix());
        let verdict = Arc::new(EnrolVerdict { owner: job.owner, source: job.source, answer });
        let post =
            || inboxes.post(usize::from(job.owner.shard), ShardCommand::Enrolled(Arc::clone(&verdict)));
        // A full inbox empties; nobody but this thread waits meanwhile.
        while matches!(post(), Err(InboxError::Full(_))) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// What a shard of the enrolment port keeps beside its connections.
pub(super) struct Enrolments {
    /// The way to the judge.
    pub jobs: Sender<EnrolJob>,
    /// Connections after their handshake, by source.
    open: HalfOpen,
    /// Requests in the judge's queue, by source.
    waiting: HalfOpen,
}

impl Enrolments {
    pub(super) fn new(jobs: Sender<EnrolJob>) -> Enrolments {
        Enrolments { jobs, open: HalfOpen::new(), waiting: HalfOpen::new() }
    }

    /// A request was answered, whatever became of its connection.
    pub(super) fn answered(&mut self, source: Source) {
        self.waiting.end(source);
    }

    fn has_its_share(of: &HalfOpen, source: Source, most: usize) -> bool {
        of.from(source) >= most.saturating_sub(of.all())
    }
}

/// Where one connection is.
#[derive(Debug, Default)]
pub(super) struct Enrolling {
    stream: Option<StreamId>,
    buffer: Vec<u8>,
    /// The request is complete, or refused: nothing more is read.
    judged: bool,
    /// How it ends is decided, and counted.
    answered: bool,
}

impl Conn {
    /// After the handshake: whoever has its share already has to come later.
    pub(super) fn enrolment_begins(&mut self, step: &mut Step<'_>) {
        if step.draining {
            return self.close(CloseCode::Draining, step);
        }
        let Some(enrolments) = step.enrolments.as_deref_mut() else {
            return self.close(CloseCode::Protocol, step);
        };
        if Enrolments::has_its_share(&enrolments.open, self.source, ENROL_CONNECTIONS_MAX) {
            step.env.counters.enrolment(EnrolOutcome::Crowded);
            return self.close(CloseCode::Full, step);
        }
        enrolments.open.begin(self.source);
        self.enrolling = Some(Box::default());
    }

    /// Gives back its place. Who has no answer by now gets none.
    pub(super) fn enrolment_ends(&mut self, step: &mut Step<'_>) {
        let Some(enrolling) = self.enrolling.take() else { return };
        if !enrolling.answered {
            step.env.counters.enrolment(EnrolOutcome::Left);
        }
        if let Some(enrolments) = step.enrolments.as_deref_mut() {
            enrolments.open.end(self.source);
        }
    }

    /// The client opened a stream. It has one.
    pub(super) fn enrolment_opened(&mut self, step: &mut Step<'_>) {
        while let Some(stream) = self.quic.streams().accept(Dir::Bi) {
            match self.enrolling.as_deref_mut() {
                Some(enrolling) if enrolling.stream.is_none() => {
                    enrolling.stream = Some(stream);
                    self.enrolment_read(stream, step);
                }
                _ => {
                    step.env.counters.streams_refused.add(1);
                    return self.close(CloseCode::Protocol, step);
                }
            }
        }
    }

    /// Takes in what came of the request.
    pub(super) fn enrolment_read(&mut self, stream: StreamId, step: &mut Step<'_>) {
        let Some(enrolling) = self.enrolling.as_deref_mut() else { return };
        if enrolling.stream != Some(stream) || enrolling.judged {
            return;
        }
        let buffer = &mut enrolling.buffer;
        let mut ended = false;
        {
            let mut receive = self.quic.recv_stream(stream);
            let Ok(mut chunks) = receive.read(true) else { return };
            while !ended && buffer.len() <= ENROL_MESSAGE_BYTES_MAX + 4 {
                match chunks.next(ENROL_MESSAGE_BYTES_MAX) {
                    Ok(Some(chunk)) => buffer.extend_from_slice(&chunk.bytes),
                    Ok(None) | Err(ReadError::Reset(_)) => ended = true,
                    Err(ReadError::Blocked) => break,
                }
            }
            let _ = chunks.finalize();
        }
        let request = match announced_length(buffer) {
            Err(error) => Err(error.to_string()),
            Ok(Some(length)) if buffer.len() >= length + 4 => {
                read_request(&buffer[4..]).map_err(|error| error.to_string())
            }
            Ok(_) if !ended => return,
            Ok(_) => Err("the request ended before it was complete".to_owned()),
        };
        enrolling.judged = true;
        enrolling.buffer = Vec::new();
        match request {
            Ok(request) => self.enrolment_asks(request, step),
            Err(problem) => self.enrolment_answer(&EnrolRefusal::BadRequest.answer(problem), step),
        }
    }

    fn enrolment_asks(&mut self, request: EnrolRequest, step: &mut Step<'_>) {
        let (source, from) = (self.source, self.quic.remote_address());
        let Some(enrolments) = step.enrolments.as_deref_mut() else { return };
        let job = EnrolJob { owner: step.owner, source, from, request };
        if !Enrolments::has_its_share(&enrolments.waiting, source, ENROL_QUEUE)
            && enrolments.jobs.try_send(job).is_ok()
        {
            enrolments.waiting.begin(source);
        } else {
            self.enrolment_answer(&EnrolRefusal::Busy.answer("too many enrolments wait"), step);
        }
    }

    /// Says the answer, once. The client closes when it has it; if it does not, its time runs out. Nothing is said, and
    /// nothing counted, when the connection ended meanwhile: its end was.
    pub(super) fn enrolment_answer(&mut self, answer: &EnrolAnswer, step: &mut Step<'_>) {
        let Some(enrolling) = self.enrolling.as_deref_mut() else { return };
        let Some(stream) = enrolling.stream.filter(|_| !enrolling.answered) else { return };
        enrolling.answered = true;
        let counters = step.env.counters;
        match answer {
            EnrolAnswer::Enrolled { .. } => counters.enrolment(EnrolOutcome::Enrolled),
            EnrolAnswer::Refused { code, .. } => {
                // Our own judge says only what is in the list.
                let refusal = EnrolRefusal::from_code(*code).unwrap_or(EnrolRefusal::BadRequest);
                counters.enrolment(EnrolOutcome::Refused(refusal));
                let said = Said::EnrolmentRefused(refusal.label());
                step.left.said.push((self.quic.remote_address(), said));
            }
        }
        let _ = self.quic.recv_stream(stream).stop(VarInt::from_u32(CloseCode::Goodbye.code()));
        let bytes = Bytes::from(encode(answer));
        let mut send = self.quic.send_stream(stream);
        // Our windows hold an answer; a client that takes less than that takes none.
        if send.write(&bytes).ok() != Some(bytes.len()) || send.finish().is_err() {
            self.close(CloseCode::Protocol, step);
        }
    }

    /// Its time is over, whatever it waits for.
    pub(super) fn enrolment_due(&mut self, step: &mut Step<'_>) {
        let Some(enrolling) = self.enrolling.as_deref_mut() else { return };
        if !std::mem::replace(&mut enrolling.answered, true) {
            step.env.counters.enrolment(EnrolOutcome::TimedOut);
        }
        self.close(CloseCode::TooSlow, step);
    }
}
