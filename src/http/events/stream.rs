//! One reader: from where it left off, through the log if need be, along the ring.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::Frame;
use tokio::sync::watch;

use super::encode::End;
use super::ring::{Elsewhere, Entry, Reader};
use super::{Topic, encode, follow};
use crate::http::app::App;
use crate::http::caller::Caller;
use crate::http::connections::Connection;
use crate::http::sign_in::standing::Standing;
use crate::http::workers::{Places, work};
use crate::limits::{
    EVENT_HEARTBEAT_EVERY, EVENT_PIECE_BYTES, EVENT_READ_MAX, EVENT_RESUME_MAX, EVENT_STREAM_LIFE,
};
use crate::store::Position;
use crate::time::MonoNanos;

/// Where a reader is.
enum At {
    /// It has just come, with this.
    Start(Option<String>),
    /// After this place of the log; so many entries were read from it.
    Log(Position, usize),
    /// At this number of the ring.
    Ring(u64),
}

/// A stream of events for one client.
pub(super) struct Stream {
    app: Arc<App>,
    reader: Reader,
    standing: Standing,
    at: At,
    /// Entries that are not written yet, and which event of the first one is next.
    waiting: VecDeque<Arc<Entry>>,
    next_event: usize,
    /// The client knows what came up to here of the log; the ring may be a moment behind it.
    known: u64,
    moved: watch::Receiver<u64>,
    access: watch::Receiver<u64>,
    until: MonoNanos,
    /// Its last event was said.
    over: bool,
}

const STILL_HERE: &[u8] = b": still here\n\n";

impl Stream {
    pub(super) fn new(app: Arc<App>, reader: Reader, caller: &Caller, cursor: Option<String>) -> Stream {
        let (moved, access) = (reader.ring().watch(), reader.access());
        let until = app.clock.mono().plus(EVENT_STREAM_LIFE);
        Stream {
            app,
            reader,
            standing: Standing::new(caller),
            at: At::Start(cursor),
            waiting: VecDeque::new(),
            next_event: 0,
            known: 0,
            moved,
            access,
            until,
            over: false,
        }
    }

    /// The next piece of the answer; `None` at the end, after the reason was said.
    async fn piece(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let mut out = BytesMut::new();
        if let Err(why) = self.fill(&mut out).await {
            self.over = true;
            write(&mut out, &encode::end(why), None);
        }
        Some(out.freeze())
    }

    async fn fill(&mut self, out: &mut BytesMut) -> Result<(), End> {
        // Since the last piece, whatever else wakes this: others' events are no sign of life.
        let mut beat = std::pin::pin!(tokio::time::sleep(EVENT_HEARTBEAT_EVERY));
        loop {
            let left = self.keep_up(out).await?;
            // No wait between: what is written is what may be seen now.
            self.write_waiting(out);
            if !out.is_empty() {
                return Ok(());
            }
            match &self.at {
                At::Start(cursor) => {
                    let cursor = cursor.clone();
                    out.extend_from_slice(b"retry: 2000\n\n");
                    self.start(cursor.as_deref(), out);
                }
                &At::Log(place, read) => self.read_log(place, read, out).await?,
                &At::Ring(number) => {
                    if self.take(number, out) {
                        continue;
                    }
                    let stop = self.app.stop.clone();
                    // Senders live as long as the hub; what woke this is looked at above.
                    tokio::select! {
                        _ = self.moved.changed() => {}
                        _ = self.access.changed() => {}
                        () = tokio::time::sleep(left) => {}
                        () = stop.cancelled() => {}
                        () = beat.as_mut() => out.extend_from_slice(STILL_HERE),
                    }
                }
            }
        }
    }

    /// Goes by what the client may see now, and says how long that holds if nobody changes it. Who sees more or less than
    /// before begins anew: what they have of it is not what they may have.
    async fn keep_up(&mut self, out: &mut BytesMut) -> Result<Duration, End> {
        let other = self.standing.keep_up(&self.app).await.map_err(End::Access)?;
        if other && !matches!(self.at, At::Start(_)) {
            self.begin_anew("access-changed", out);
        }
        let now = self.app.clock.now();
        if self.app.stop.is_cancelled() {
            return Err(End::Stop);
        }
        if now.mono >= self.until {
            return Err(End::Life);
        }
        Ok(self.standing.left(&self.app, now).min(self.until.since(now.mono)))
    }

    fn start(&mut self, cursor: Option<&str>, out: &mut BytesMut) {
        let Some(cursor) = cursor else { return self.begin_anew("start", out) };
        let Ok(place) = cursor.parse::<Position>() else { return self.begin_anew("unknown-cursor", out) };
        match self.find(place) {
            Ok(number) => self.go_on(number, out),
            // Only a place of the same log can be older.
            Err(Elsewhere::Older) => self.at = At::Log(place, 0),
            Err(_) => self.begin_anew("unknown-cursor", out),
        }
    }

    /// The number in the ring after a place of the log.
    fn find(&mut self, place: Position) -> Result<u64, Elsewhere> {
        let found = self.reader.ring().after(place);
        match found {
            // The end of the log moves on only, so it may be read after the ring.
            Err(Elsewhere::Ahead(number)) if place.sequence <= self.log_end().sequence => {
                self.known = place.sequence;
                Ok(number)
            }
            found => found,
        }
    }

    /// Goes on in the ring. Live values are in no log, and the ring may not have had them all.
    fn go_on(&mut self, number: u64, out: &mut BytesMut) {
        self.at = At::Ring(number);
        if self.reader.topic == Topic::Sensors {
            write(out, &encode::live_reset(), None);
        }
    }

    /// What the client has is void; what comes next is what comes now.
    fn begin_anew(&mut self, reason: &str, out: &mut BytesMut) {
        // In this order: what comes between is behind the number, and known.
        let number = self.reader.ring().end();
        let place = self.log_end();
        self.waiting.clear();
        self.next_event = 0;
        self.known = place.sequence;
        self.at = At::Ring(number);
        let read = match self.reader.topic {
            Topic::Sensors => "/api/v1/sensors",
            Topic::Messages => "/api/v1/messages",
        };
        write(out, &encode::snapshot(reason, read), Some(place));
    }

    fn log_end(&self) -> Position {
        let store = self.app.backend.store();
        match self.reader.topic {
            Topic::Sensors => store.register.position(),
            Topic::Messages => store.journal.position(),
        }
    }

    /// Reads on in the log, until what the ring has.
    async fn read_log(&mut self, place: Position, read: usize, out: &mut BytesMut) -> Result<(), End> {
        if let Ok(number) = self.find(place) {
            self.go_on(number, out);
            return Ok(());
        }
        if read >= EVENT_RESUME_MAX {
            self.begin_anew("unknown-cursor", out);
            return Ok(());
        }
        let topic = self.reader.topic;
        let found = work(&self.app, Places::Api, move |app| match topic {
            Topic::Sensors => follow::batches(app, place, EVENT_READ_MAX),
            Topic::Messages => follow::entries(app, place, EVENT_READ_MAX),
        });
        match found.await {
            Ok(Ok(entries)) => {
                let last = entries.iter().rev().find_map(|entry| entry.position);
                match last {
                    Some(last) => self.at = At::Log(last, read + entries.len()),
                    // The log ends before where the ring begins: it is another one by now.
                    None => self.begin_anew("unknown-cursor", out),
                }
                self.waiting.extend(entries.into_iter().map(Arc::new));
                Ok(())
            }
            Ok(Err(_)) => {
                self.begin_anew("unknown-cursor", out);
                Ok(())
            }
            Err(_) => Err(End::Busy),
        }
    }

    /// Takes the entry of a number, if it is there. A client that was too slow begins anew.
    fn take(&mut self, number: u64, out: &mut BytesMut) -> bool {
        // Before the look: what comes between is seen by the next wait.
        self.moved.borrow_and_update();
        match self.reader.ring().get(number) {
            Ok(Some(entry)) => {
                if entry.position.is_none_or(|place| place.sequence > self.known) {
                    self.waiting.push_back(entry);
                }
                self.at = At::Ring(number + 1);
                true
            }
            Ok(None) => false,
            Err(()) => {
                write(out, &encode::gap(), None);
                self.begin_anew("gap", out);
                true
            }
        }
    }

    /// Writes what waits, up to about the size of a piece. The place in the log stands at the last event of an entry
    /// that this client sees.
    fn write_waiting(&mut self, out: &mut BytesMut) {
        while let Some(entry) = self.waiting.front() {
            let last = entry.events.iter().rposition(|event| event.is_for(self.standing.grants()));
            while let Some(event) = entry.events.get(self.next_event) {
                if out.len() >= EVENT_PIECE_BYTES {
                    return;
                }
                if event.is_for(self.standing.grants()) {
                    write(out, &event.text, entry.position.filter(|_| last == Some(self.next_event)));
                }
                self.next_event += 1;
            }
            self.waiting.pop_front();
            self.next_event = 0;
        }
    }
}

fn write(out: &mut BytesMut, lines: &[u8], place: Option<Position>) {
    out.extend_from_slice(lines);
    if let Some(place) = place {
        out.extend_from_slice(format!("id: {place}\n").as_bytes());
    }
    out.extend_from_slice(b"\n");
}

type Making = Pin<Box<dyn Future<Output = Option<(Box<Stream>, Bytes)>> + Send>>;

/// The body of the answer.
pub(super) struct EventBody {
    idle: Option<Box<Stream>>,
    making: Option<Making>,
    connection: Arc<Connection>,
    app: Arc<App>,
}

impl EventBody {
    pub(super) fn new(stream: Stream, connection: Arc<Connection>) -> EventBody {
        let app = Arc::clone(&stream.app);
        EventBody { idle: Some(Box::new(stream)), making: None, connection, app }
    }
}

async fn make(mut stream: Box<Stream>) -> Option<(Box<Stream>, Bytes)> {
    let piece = stream.piece().await?;
    Some((stream, piece))
}

impl hyper::body::Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        if this.making.is_none() {
            let Some(stream) = this.idle.take() else { return Poll::Ready(None) };
            this.making = Some(Box::pin(make(stream)));
        }
        let Some(making) = &mut this.making else { return Poll::Ready(None) };
        let made = ready!(making.as_mut().poll(cx));
        this.making = None;
        // Each piece begins the time anew that an answer may take: this one has no end.
        this.connection.request_begins(this.app.clock.mono());
        Poll::Ready(made.map(|(stream, piece)| {
            this.idle = Some(stream);
            Ok(Frame::data(piece))
        }))
    }
}
