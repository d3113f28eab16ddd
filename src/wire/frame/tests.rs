use super::*;
use crate::wire::heartbeat::inline;

fn sample() -> Heartbeat {
    Heartbeat {
        sensor_id: [7; 16],
        sequence: 9,
        version: inline("22.1.4.8-r-6372aad"),
        ..Heartbeat::default()
    }
}

fn bytes_of(heartbeat: &Heartbeat, age_ms: u32) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(heartbeat, age_ms, &mut out);
    out
}

#[test]
fn what_is_written_is_read_back() {
    let bytes = bytes_of(&sample(), 123);
    let (frame, used) = read_frame(&bytes).expect("our own frame");
    assert_eq!(used, HEARTBEAT_FRAME_BYTES);
    assert_eq!(frame.header.age_ms, 123);
    assert_eq!(frame.to_heartbeat(), sample());
    assert!(!frame.appended);
}
