//! A gateway's stream, any bytes in any chunks: the same comes out whatever the chunks are.
//!
//! Input: the number of chunk sizes, the sizes (used in turn), the stream.

use arbitrary::{Arbitrary, Unstructured};
use fleetpulse::ingest::CountersSnapshot;
use fleetpulse::limits::FRAME_BYTES_MAX;
use fleetpulse::live::Observed;
use fleetpulse::wire::close::CloseCode;
use fleetpulse::wire::frame::{FrameError, Header, StreamFrames, read_frame};
use fleetpulse::wire::id::SensorId;

use crate::world::{World, check_snapshot};

/// A stream and how it arrives.
struct Cut<'d> {
    sizes: Vec<u8>,
    stream: &'d [u8],
}

impl<'d> Arbitrary<'d> for Cut<'d> {
    fn arbitrary(input: &mut Unstructured<'d>) -> arbitrary::Result<Cut<'d>> {
        let count = usize::from(u8::arbitrary(input)?).min(input.len());
        let sizes = input.bytes(count)?.to_vec();
        Ok(Cut { sizes, stream: input.bytes(input.len())? })
    }
}

/// The input that [`run`] takes apart again.
pub fn input(sizes: &[u8], stream: &[u8]) -> Vec<u8> {
    let count = u8::try_from(sizes.len()).expect("few sizes");
    [&[count], sizes, stream].concat()
}

pub fn run(data: &[u8]) {
    let Ok(cut) = Cut::arbitrary(&mut Unstructured::new(data)) else { return };
    let whole = [cut.stream];
    let bytes: Vec<&[u8]> = cut.stream.chunks(1).collect();
    let chunks = chunks(&cut);
    let expected = frames_of(&whole);
    assert_eq!(frames_of(&chunks), expected, "in chunks");
    assert_eq!(frames_of(&bytes), expected, "byte by byte");
    assert_eq!(one_after_the_other(cut.stream), expected.frames, "read without a stream");

    let ids: Vec<SensorId> = expected.frames.iter().flatten().map(|(_, body)| id_of(body)).collect();
    let expected = session_of(&whole, &ids);
    assert_eq!(session_of(&chunks, &ids), expected, "session, in chunks");
    assert_eq!(session_of(&bytes, &ids), expected, "session, byte by byte");
}

fn chunks<'d>(cut: &Cut<'d>) -> Vec<&'d [u8]> {
    let mut chunks = Vec::new();
    let mut rest = cut.stream;
    let mut sizes = cut.sizes.iter().cycle();
    // Empty chunks are possible; only ever empty ones would not end.
    let endless = cut.sizes.iter().all(|&size| size == 0);
    while !rest.is_empty() {
        let size = if endless { rest.len() } else { sizes.next().map_or(rest.len(), |&size| size.into()) };
        let (chunk, left) = rest.split_at(size.min(rest.len()));
        chunks.push(chunk);
        rest = left;
    }
    chunks
}

fn id_of(body: &[u8]) -> SensorId {
    SensorId(*body.first_chunk().expect("a body begins with the id"))
}

type Read = Result<(Header, Vec<u8>), FrameError>;

#[derive(Debug, PartialEq)]
struct Frames {
    frames: Vec<Read>,
    end: Result<(), FrameError>,
    unfinished: usize,
}

fn frames_of(chunks: &[&[u8]]) -> Frames {
    let mut stream = StreamFrames::new();
    let mut frames = Vec::new();
    for (number, chunk) in chunks.iter().enumerate() {
        let end = stream.push(chunk, |frame| {
            frames.push(frame.map(|frame| (frame.header, frame.body.to_vec())));
        });
        assert!(stream.unfinished() < FRAME_BYTES_MAX, "a whole frame is handed out");
        if end.is_err() {
            assert!(end.is_err_and(FrameError::loses_framing));
            for later in &chunks[number..] {
                stream.push(later, |_| panic!("a frame after the framing was lost")).expect_err("lost");
            }
            return Frames { frames, end, unfinished: stream.unfinished() };
        }
    }
    Frames { frames, end: Ok(()), unfinished: stream.unfinished() }
}

/// The same frames by the reader of single ones.
fn one_after_the_other(mut stream: &[u8]) -> Vec<Read> {
    let mut frames = Vec::new();
    while !stream.is_empty() {
        match fleetpulse::wire::frame::frame_length(stream) {
            Ok(Some(length)) if length <= stream.len() => {
                let read = read_frame(&stream[..length]);
                frames.push(read.map(|(frame, _)| (frame.header, frame.body.to_vec())));
                stream = &stream[length..];
            }
            _ => break,
        }
    }
    frames
}

#[derive(Debug, PartialEq)]
struct Outcome {
    closed: Result<(), CloseCode>,
    counts: CountersSnapshot,
    received: Vec<(SensorId, u64, u64)>,
}

fn session_of(chunks: &[&[u8]], ids: &[SensorId]) -> Outcome {
    let world = World::new();
    world.register(ids.iter().copied());
    let mut session = world.gateway();
    let mut closed = Ok(());
    for chunk in chunks {
        closed = session.stream(chunk, &world.env());
        if closed.is_err() {
            break;
        }
    }
    if closed.is_ok() {
        closed = session.stream_ended(&world.env());
    }
    world.handled();
    let counts = world.counters.snapshot();
    assert_eq!(counts.observed_as(Observed::Busy) + counts.observed_as(Observed::StaleSlot), 0);
    let snapshots = world.snapshots();
    snapshots.iter().for_each(check_snapshot);
    let mut received: Vec<_> = snapshots.iter().map(|it| (it.id, it.received, it.lost)).collect();
    received.sort_unstable();
    Outcome { closed, counts, received }
}
