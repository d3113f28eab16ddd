//! The protocol as others meet it: vectors on disk, a C program, and a codec that knows only the field table.

use std::path::{Path, PathBuf};
use std::process::Command;

use fleetpulse::wire::fields::{Element, FIELDS, Field};
use fleetpulse::wire::frame::{BODY_BYTES, frames, read_frame, write_frame};
use fleetpulse::wire::heartbeat::{
    FLAG_BACKUP_DISABLED, FLAG_GOODBYE, FLAG_GOODBYE_RESTART, FLAG_LOCAL_OVERRIDE, Heartbeat, UNKNOWN_U16,
    inline,
};
use fleetpulse::wire::id::SensorId;
use serde_json::{Map, Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn vector_path(name: &str, extension: &str) -> PathBuf {
    root().join("tests/vectors/v1").join(format!("{name}.{extension}"))
}

fn sensor() -> SensorId {
    "0192f0c1-2f6e-7c3a-9d51-3b0f5c1e7a42".parse().expect("an id")
}

/// The frame that the C program writes too.
fn full() -> Heartbeat {
    Heartbeat {
        sensor_id: sensor().0,
        boot_id: 0x1122_3344_5566_7788,
        sequence: 123_456_789,
        sensor_clock_unix_us: 1_795_485_600_123_456,
        uptime_ms: 86_400_000,
        interval_ms: 10_000,
        flags: FLAG_LOCAL_OVERRIDE | FLAG_BACKUP_DISABLED,
        version: inline("22.1.4.8-r-6372aad"),
        profile: 3,
        update_stage: 4,
        update_percent: 57,
        ti_status: 2,
        backup_result: 5,
        ntp_state: 1,
        directory_configured: 3,
        directory_reachable: 2,
        endpoint_states: [1, 2, 3, 4, 5, 6, 1, 0],
        update_error: 4_711,
        interfaces_total: 6,
        interfaces_up: 5,
        interfaces_with_traffic: 4,
        update_target: inline("22.3.7"),
        rx_packets: 9_007_199_254_740_993,
        rx_bytes: 8_070_450_532_247_928_832,
        rx_dropped: 31_415,
        self_test_ran: 0xff,
        self_test_failed: 0x10,
        self_test_age_s: 3_600,
        backup_age_s: 86_399,
        ti_version: inline("2026-11-24"),
        devices: 9_876,
        alerts: 12,
        cpu_permille: 345,
        memory_permille: 678,
        disk_permille: [431, 872, 120, UNKNOWN_U16],
        temperature_decicelsius: -55,
        reserved: 0,
        rtt_us: 23_456,
        send_failures: 7,
        reconnects: 3,
        trust_generation: 2,
        settings_generation: 77,
    }
}

/// What was released as version 1. Never changed, only added to.
fn vectors() -> Vec<(&'static str, Heartbeat, u32)> {
    let base = Heartbeat { sensor_id: sensor().0, ..Heartbeat::default() };
    vec![
        ("least", base.clone(), 0),
        ("full", full(), 1_500),
        (
            "goodbye",
            Heartbeat { flags: FLAG_GOODBYE | FLAG_GOODBYE_RESTART, sequence: 42, ..base.clone() },
            0,
        ),
        (
            "largest",
            Heartbeat {
                boot_id: u64::MAX,
                sequence: u64::MAX,
                sensor_clock_unix_us: i64::MIN,
                uptime_ms: u64::MAX,
                interval_ms: u32::MAX,
                flags: u32::MAX,
                version: [b'9'; 32],
                update_target: inline("größte-Version-€"),
                ti_version: [b'~'; 16],
                rx_packets: u64::MAX,
                rx_bytes: u64::MAX,
                rx_dropped: u64::MAX,
                temperature_decicelsius: i16::MAX,
                settings_generation: u64::MAX,
                ..base
            },
            u32::MAX,
        ),
    ]
}

fn element_to_json(field: &Field, bytes: &[u8]) -> Value {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let number = u64::from_le_bytes(wide);
    match field.element {
        Element::I16 => json!(number as u16 as i16),
        Element::I64 => json!(number as i64),
        _ => json!(number),
    }
}

fn field_to_json(field: &Field, bytes: &[u8]) -> Value {
    match field.element {
        Element::Id => json!(uuid::Uuid::from_slice(bytes).expect("16 bytes").to_string()),
        Element::Text => {
            let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
            json!(std::str::from_utf8(&bytes[..end]).expect("text"))
        }
        _ if field.count == 1 => element_to_json(field, bytes),
        _ => bytes.chunks(field.element.bytes()).map(|bytes| element_to_json(field, bytes)).collect(),
    }
}

fn field_from_json(field: &Field, value: &Value, bytes: &mut [u8]) {
    match field.element {
        Element::Id => {
            let id = uuid::Uuid::parse_str(value.as_str().expect("id")).expect("id");
            bytes.copy_from_slice(id.as_bytes());
        }
        Element::Text => {
            let text = value.as_str().expect("text").as_bytes();
            bytes[..text.len()].copy_from_slice(text);
        }
        _ => {
            let one = [value.clone()];
            let values = value.as_array().map_or(&one[..], Vec::as_slice);
            assert_eq!(values.len(), field.count, "{}", field.name);
            for (value, bytes) in values.iter().zip(bytes.chunks_mut(field.element.bytes())) {
                let number = value.as_u64().unwrap_or_else(|| value.as_i64().expect("number") as u64);
                bytes.copy_from_slice(&number.to_le_bytes()[..bytes.len()]);
            }
        }
    }
}

/// Frame to JSON by the protocol page alone.
fn to_json(frame: &[u8]) -> Value {
    let body = &frame[16..];
    let fields: Map<String, Value> = FIELDS
        .iter()
        .map(|field| {
            let bytes = &body[field.offset..field.offset + field.bytes()];
            (field.name.to_owned(), field_to_json(field, bytes))
        })
        .collect();
    json!({
        "kind": frame[2],
        "schema": frame[3],
        "age_ms": u32::from_le_bytes([frame[8], frame[9], frame[10], frame[11]]),
        "appended_bytes": body.len() - BODY_BYTES,
        "body": fields,
    })
}

/// JSON to frame by the protocol page alone; appended bytes are 0xaa.
fn from_json(value: &Value) -> Vec<u8> {
    let number = |name: &str| value[name].as_u64().expect("number");
    let appended = number("appended_bytes") as usize;
    let mut frame = vec![0; 16 + BODY_BYTES + appended];
    frame[..2].copy_from_slice(b"FP");
    frame[2] = number("kind") as u8;
    frame[3] = number("schema") as u8;
    frame[4..6].copy_from_slice(&((BODY_BYTES + appended) as u16).to_le_bytes());
    frame[8..12].copy_from_slice(&(number("age_ms") as u32).to_le_bytes());
    for field in &FIELDS {
        let start = 16 + field.offset;
        field_from_json(field, &value["body"][field.name], &mut frame[start..start + field.bytes()]);
    }
    frame[16 + BODY_BYTES..].fill(0xaa);
    frame
}

/// Adds vectors that are not there yet, when asked to. Never touches one that is.
fn add_missing(name: &str, frame: &[u8]) {
    if std::env::var_os("FLEETPULSE_ADD_VECTORS").is_some() && !vector_path(name, "bin").exists() {
        std::fs::write(vector_path(name, "bin"), frame).expect("write");
        let text = serde_json::to_string_pretty(&to_json(frame)).expect("json");
        std::fs::write(vector_path(name, "json"), text + "\n").expect("write");
    }
}

fn load(name: &str) -> (Vec<u8>, Value) {
    let bytes = std::fs::read(vector_path(name, "bin")).expect("vector");
    let text = std::fs::read_to_string(vector_path(name, "json")).expect("its twin");
    (bytes, serde_json::from_str(&text).expect("json"))
}

#[test]
fn vectors_and_their_json_twins_are_the_same_both_ways() {
    for (name, heartbeat, age_ms) in vectors() {
        let mut written = Vec::new();
        write_frame(&heartbeat, age_ms, &mut written);
        add_missing(name, &written);
        let (bytes, twin) = load(name);
        assert_eq!(written, bytes, "{name}: what we write is what was released");
        assert_eq!(to_json(&bytes), twin, "{name}");
        assert_eq!(from_json(&twin), bytes, "{name}");
        let (frame, used) = read_frame(&bytes).expect(name);
        assert_eq!(used, bytes.len());
        assert_eq!(frame.header.age_ms, age_ms);
        assert_eq!(frame.known.to_heartbeat(), heartbeat, "{name}");
        assert_eq!(frame.to_heartbeat(), heartbeat, "{name}");
        assert!(!frame.appended && !frame.unknown_values);
    }
}

#[test]
fn a_newer_sensor_is_understood_as_far_as_we_know() {
    let mut newer = Vec::new();
    write_frame(&full(), 9, &mut newer);
    newer.extend_from_slice(&[0xaa; 12]);
    newer[3] = 2;
    newer[4..6].copy_from_slice(&((BODY_BYTES + 12) as u16).to_le_bytes());
    add_missing("newer-schema", &newer);
    let (bytes, twin) = load("newer-schema");
    assert_eq!(bytes, newer);
    assert_eq!(to_json(&bytes), twin);
    assert_eq!(from_json(&twin), bytes);
    let (frame, used) = read_frame(&bytes).expect("known prefix");
    assert_eq!(used, bytes.len());
    assert!(frame.appended);
    assert_eq!(frame.to_heartbeat(), full());
}

#[test]
fn no_vector_on_disk_is_left_untested() {
    let mut names: Vec<String> = std::fs::read_dir(root().join("tests/vectors/v1"))
        .expect("folder")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .map(|path| path.file_stem().expect("name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    let mut known: Vec<&str> = vectors().iter().map(|(name, ..)| *name).collect();
    known.push("newer-schema");
    known.sort_unstable();
    assert_eq!(names, known);
}

#[test]
fn a_c_program_that_knows_only_the_offsets_is_understood() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let program = folder.path().join("heartbeat");
    let compiled = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(root().join("tests/c/heartbeat.c"))
        .output()
        .expect("a C compiler called cc is needed to build this crate too");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let output = Command::new(&program).output().expect("run");
    assert!(output.status.success());
    let (frame, used) = read_frame(&output.stdout).expect("accepted");
    assert_eq!(used, output.stdout.len());
    assert_eq!(frame.to_heartbeat(), full());
    assert_eq!(output.stdout, load("full").0);
}

#[test]
fn all_vectors_in_one_datagram_are_read_in_order() {
    let mut datagram = Vec::new();
    for (_, heartbeat, age_ms) in vectors() {
        write_frame(&heartbeat, age_ms, &mut datagram);
    }
    let read: Vec<Heartbeat> =
        frames(&datagram).map(|frame| frame.expect("a vector").to_heartbeat()).collect();
    let expected: Vec<Heartbeat> = vectors().into_iter().map(|(_, heartbeat, _)| heartbeat).collect();
    assert_eq!(read, expected);
}
