use proptest::prelude::*;

use super::*;
use crate::wire::heartbeat::{VERSION_BYTES, inline, inline_str};

fn sample(sequence: u64) -> Heartbeat {
    Heartbeat { sensor_id: [7; 16], sequence, version: inline("22.1.4.8-r-6372aad"), ..Heartbeat::default() }
}

fn bytes_of(heartbeat: &Heartbeat, age_ms: u32) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(heartbeat, age_ms, &mut out);
    out
}

/// A frame with one byte of it changed.
fn with(offset: usize, value: u8) -> Vec<u8> {
    let mut bytes = bytes_of(&sample(1), 0);
    bytes[offset] = value;
    bytes
}

fn refusal(bytes: &[u8]) -> Option<FrameError> {
    read_frame(bytes).err()
}

#[test]
fn what_is_written_is_read_back() {
    let bytes = bytes_of(&sample(9), 123);
    let (frame, used) = read_frame(&bytes).expect("our own frame");
    assert_eq!(used, HEARTBEAT_FRAME_BYTES);
    assert_eq!(frame.header.age_ms, 123);
    assert_eq!(frame.to_heartbeat(), sample(9));
    assert!(!frame.appended && !frame.unknown_values);
}

#[test]
fn each_flaw_of_a_header_has_its_own_error() {
    assert_eq!(refusal(&[]), Some(FrameError::Truncated));
    assert_eq!(refusal(&with(0, b'G')), Some(FrameError::Magic));
    assert_eq!(refusal(&with(2, 2)), Some(FrameError::Kind));
    assert_eq!(refusal(&with(3, 0)), Some(FrameError::SchemaZero));
    assert_eq!(refusal(&with(5, 0xff)), Some(FrameError::Oversized));
    assert_eq!(refusal(&with(12, 1)), Some(FrameError::Reserved));
    assert_eq!(refusal(&with(4, 200)), Some(FrameError::BodyShort));
    assert_eq!(refusal(&[0xff; 400]), Some(FrameError::Magic));
    assert!(read_frame(&with(6, 0xff)).is_ok(), "unknown flags are ignored");
}

#[test]
fn every_truncation_is_refused_as_one() {
    let bytes = bytes_of(&sample(1), 0);
    for length in 0..bytes.len() {
        assert_eq!(refusal(&bytes[..length]), Some(FrameError::Truncated), "at {length}");
    }
}

#[test]
fn a_version_one_body_is_never_longer_than_version_one() {
    let mut bytes = with(4, BODY_BYTES as u8 + 4);
    bytes.extend_from_slice(&[0; 4]);
    assert_eq!(refusal(&bytes), Some(FrameError::BodyInvalid));
    bytes[3] = 9;
    assert!(read_frame(&bytes).expect("a newer schema").0.appended);
}

#[test]
fn impossible_values_are_refused_by_name() {
    type Damage = fn(&mut Heartbeat);
    let cases: [(&str, Damage); 16] = [
        ("sensor_id", |h| h.sensor_id = [0; 16]),
        ("boot_id", |h| h.boot_id = 0),
        ("sequence", |h| h.sequence = 0),
        ("interval_ms", |h| h.interval_ms = 0),
        ("update_percent", |h| h.update_percent = 101),
        ("directory_reachable", |h| h.directory_reachable = 1),
        ("cpu_permille", |h| h.cpu_permille = 1_001),
        ("memory_permille", |h| h.memory_permille = 65_534),
        ("disk_permille", |h| h.disk_permille[3] = 1_001),
        ("interfaces_up", |h| h.interfaces_up = 1),
        ("interfaces_with_traffic", |h| h.interfaces_with_traffic = 1),
        ("version", |h| h.version[0] = 0xff),
        ("version", |h| h.version[31] = b'x'),
        ("version", |h| h.version = inline("22.3\n<script>")),
        ("update_target", |h| h.update_target = inline("a\u{7f}")),
        ("ti_version", |h| h.ti_version[0] = 0x1b),
    ];
    for (field, break_it) in cases {
        let mut heartbeat = sample(1);
        break_it(&mut heartbeat);
        let refused = refusal(&bytes_of(&heartbeat, 0));
        assert_eq!(refused, Some(FrameError::OutOfRange(field)));
        assert_eq!(refused.map(FrameError::label), Some("out_of_range"));
    }
}

#[test]
fn values_of_a_newer_version_read_as_unknown() {
    let newer =
        Heartbeat { profile: 200, update_stage: 8, ntp_state: 3, endpoint_states: [7; 8], ..sample(1) };
    let bytes = bytes_of(&newer, 0);
    let (frame, _) = read_frame(&bytes).expect("tolerated");
    assert!(frame.unknown_values);
    let read = frame.to_heartbeat();
    assert_eq!((read.profile, read.update_stage, read.ntp_state), (0, 0, 3));
    assert_eq!(read.endpoint_states, [0; 8]);
}

#[test]
fn a_datagram_goes_on_after_a_bad_body_and_ends_at_lost_framing() {
    let mut datagram = bytes_of(&sample(1), 0);
    datagram.extend(with(3, 0));
    datagram.extend(bytes_of(&sample(2), 0));
    datagram.extend_from_slice(b"rubbish");
    let read: Vec<_> =
        frames(&datagram).map(|frame| frame.map(|frame| frame.known.sequence.to_native())).collect();
    assert_eq!(read, [Ok(1), Err(FrameError::SchemaZero), Ok(2), Err(FrameError::Magic)]);
}

#[test]
fn a_thousand_frames_in_a_datagram_are_sixteen_and_one_refusal() {
    let datagram = bytes_of(&sample(1), 0).repeat(1_000);
    let read: Vec<_> = frames(&datagram).collect();
    assert_eq!(read.len(), FRAMES_PER_DATAGRAM_MAX + 1);
    assert_eq!(read.iter().filter(|frame| frame.is_ok()).count(), FRAMES_PER_DATAGRAM_MAX);
    assert!(matches!(read.last(), Some(Err(FrameError::TooMany))));
}

#[test]
fn relays_add_the_time_they_held_a_frame() {
    let mut bytes = bytes_of(&sample(1), 5);
    assert!(add_age(&mut bytes, 1_000) && add_age(&mut bytes, 1));
    assert_eq!(read_frame(&bytes).expect("frame").0.header.age_ms, 1_006);
    assert!(add_age(&mut bytes, u32::MAX));
    assert_eq!(read_frame(&bytes).expect("frame").0.header.age_ms, u32::MAX);
    assert!(set_age(&mut bytes, 3));
    assert_eq!(read_frame(&bytes).expect("frame").0.header.age_ms, 3);
    assert!(!set_age(&mut [0; 40], 1) && !add_age(&mut bytes[..10], 1));
}

#[test]
fn a_stream_that_lost_its_framing_stays_lost() {
    let mut stream = StreamFrames::new();
    let mut count = 0;
    assert_eq!(stream.push(b"GET / HTTP/1.1", |_| count += 1), Err(FrameError::Magic));
    assert_eq!(stream.push(&bytes_of(&sample(1), 0), |_| count += 1), Err(FrameError::Magic));
    assert_eq!((count, stream.unfinished()), (0, 0));
}

#[test]
fn labels_and_indices_agree() {
    assert_eq!(FrameError::TooMany.index() + 1, FrameError::LABELS.len());
    assert_eq!(FrameError::OutOfRange("x").label(), "out_of_range");
}

fn any_heartbeat() -> impl Strategy<Value = Heartbeat> {
    let id = any::<[u8; 16]>().prop_filter("an id", |id| id != &[0; 16]);
    let numbers = (id, 1_u64.., 1_u64.., any::<i64>(), any::<u64>(), 1_u32.., any::<u32>());
    let codes = (0..9_u8, 0..8_u8, 0..=100_u8, 0..5_u8, 0..7_u8, 0..4_u8, prop::array::uniform8(0..7_u8));
    let counters = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>(), any::<i16>(), 0..=1_000_u16);
    let texts = ("[ -~]{0,32}", "\\PC{0,10}");
    (numbers, codes, counters, texts).prop_map(|(numbers, codes, counters, texts)| Heartbeat {
        sensor_id: numbers.0,
        boot_id: numbers.1,
        sequence: numbers.2,
        sensor_clock_unix_us: numbers.3,
        uptime_ms: numbers.4,
        interval_ms: numbers.5,
        flags: numbers.6,
        profile: codes.0,
        update_stage: codes.1,
        update_percent: codes.2,
        ti_status: codes.3,
        backup_result: codes.4,
        ntp_state: codes.5,
        endpoint_states: codes.6,
        rx_packets: counters.0,
        rx_bytes: counters.1,
        rx_dropped: counters.2,
        devices: counters.3,
        temperature_decicelsius: counters.4,
        cpu_permille: counters.5,
        version: inline(&texts.0),
        update_target: inline(&texts.1),
        ..Heartbeat::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_heartbeat_survives_the_way(heartbeat in any_heartbeat(), age_ms: u32) {
        let bytes = bytes_of(&heartbeat, age_ms);
        let (frame, used) = read_frame(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(used, bytes.len());
        prop_assert_eq!(frame.header.age_ms, age_ms);
        prop_assert_eq!(frame.to_heartbeat(), heartbeat);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..1_200)) {
        let _ = read_frame(&bytes);
        prop_assert!(frames(&bytes).count() <= FRAMES_PER_DATAGRAM_MAX + 1);
    }

    /// Damage to a real frame: it is read or refused, and what is read holds what a reader relies on.
    #[test]
    fn damaged_frames_never_panic(hits in prop::collection::vec((0..HEARTBEAT_FRAME_BYTES, any::<u8>()), 0..6)) {
        let mut bytes = bytes_of(&sample(1), 0);
        for (offset, value) in hits {
            bytes[offset] = value;
        }
        if let Ok((frame, used)) = read_frame(&bytes) {
            prop_assert_eq!(used, bytes.len());
            let read = frame.to_heartbeat();
            prop_assert!(read.update_percent <= 100 && inline_str(&read.version).is_some());
            prop_assert!(usize::from(read.update_stage) < UpdateStage::ALL.len());
        }
    }

    /// Eight bytes at a time says the same as one character at a time.
    #[test]
    fn the_fast_text_check_is_the_slow_one(
        text in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>(), 0x1e..0x22_u8, 0x7d..0x82_u8], VERSION_BYTES),
        end in 0..=VERSION_BYTES,
    ) {
        let mut padded = text.clone();
        padded[end..].fill(0);
        for field in [text, padded] {
            let slow = inline_str(&field).is_some_and(|text| !text.chars().any(char::is_control));
            prop_assert_eq!(is_text(&field), slow, "{:?}", field);
        }
    }

    /// However a stream is cut into chunks, the same frames come out, and no more than one is kept.
    #[test]
    fn chunking_makes_no_difference(
        ages in prop::collection::vec(any::<u32>(), 1..8),
        bad in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(1_usize..700, 0..40),
    ) {
        let mut whole = Vec::new();
        for (number, age_ms) in ages.iter().enumerate() {
            write_frame(&sample(number as u64 + 1), *age_ms, &mut whole);
        }
        // One frame of an unknown kind: refused, and the stream goes on.
        whole[bad.index(ages.len()) * HEARTBEAT_FRAME_BYTES + 2] = 77;
        let mut expected = Vec::new();
        StreamFrames::new()
            .push(&whole, |frame| expected.push(frame.map(|frame| (frame.known.sequence.to_native(), frame.header.age_ms))))
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(expected.len(), ages.len());
        let mut stream = StreamFrames::new();
        let mut read = Vec::new();
        let mut rest = whole.as_slice();
        for cut in cuts.iter().copied().chain(std::iter::repeat(1)) {
            if rest.is_empty() {
                break;
            }
            let (chunk, later) = rest.split_at(cut.min(rest.len()));
            rest = later;
            stream
                .push(chunk, |frame| read.push(frame.map(|frame| (frame.known.sequence.to_native(), frame.header.age_ms))))
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert!(stream.unfinished() < HEARTBEAT_FRAME_BYTES);
        }
        prop_assert_eq!(stream.unfinished(), 0);
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn arbitrary_streams_never_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40)) {
        let mut stream = StreamFrames::new();
        for chunk in chunks {
            // Half of them start like a frame.
            let _ = stream.push(if chunk.len() % 2 == 0 { b"FP" } else { b"" }, |_| ());
            let _ = stream.push(&chunk, |_| ());
            prop_assert!(stream.unfinished() <= FRAME_BYTES_MAX);
        }
    }
}
