//! Inputs made by hand, where a fuzzer would be slow to come: one for each kind of bad input, and long lists of
//! operations. `cargo run --example seeds` writes them into the corpora.

use fleetpulse::limits::FRAME_BODY_BYTES_MAX;
use fleetpulse::wire::control::{FromSensor, OperationRef, ToSensor, encode};
use fleetpulse::wire::enrol::{EnrolAnswer, EnrolRefusal, EnrolRequest};
use fleetpulse::wire::frame::write_frame;
use fleetpulse::wire::heartbeat::{FLAG_GOODBYE, Heartbeat, inline};
use fleetpulse::wire::id::SensorId;

use crate::gateway_stream::input;

const MUCH: &str = r#"
data_dir = "/var/lib/fleetpulse"
[ingest]
listen = "0.0.0.0:4433"
enrol_listen = "[::]:4434"
shards = 4
connections_per_shard = 100000
server_names = ["localhost", "127.0.0.1"]
receive_buffer_bytes = 4194304
interval = "10s"
drain_spread = "30s"
[http]
listen = "127.0.0.1:8080"
plain_beyond_loopback = false
[health]
cadence = "1s"
policy = "default"
versions_file = ""
[store]
checkpoint_every = "30s"
journal_keep = "90d"
sensors_max = 1048576
[log]
level = "info"
format = "text"
"#;

/// The seeds of a target: file name and bytes.
pub fn of(target: &str) -> Vec<(String, Vec<u8>)> {
    match target {
        "datagram" => named("", datagrams()),
        "gateway_stream" => gateway_streams(),
        "control_message" => named("", control_messages()),
        "config" => named("", configs()),
        "engine_operations" => engine_operations(),
        "signed_file" => named("", signed_files()),
        other => panic!("no target {other}"),
    }
}

fn named(prefix: &str, seeds: Vec<(&str, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    seeds.into_iter().map(|(name, bytes)| (format!("{prefix}{name}"), bytes)).collect()
}

fn beat(number: u64, sequence: u64) -> Heartbeat {
    Heartbeat {
        sensor_id: SensorId::from_number(number).0,
        boot_id: 7,
        sequence,
        sensor_clock_unix_us: 1_795_478_400_000_000,
        uptime_ms: sequence.saturating_mul(1_000),
        interval_ms: 1_000,
        version: inline("22.1.4.8-r-6372aad"),
        ..Heartbeat::default()
    }
}

fn frame(heartbeat: &Heartbeat, age_ms: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(heartbeat, age_ms, &mut bytes);
    bytes
}

fn frames(sequences: impl IntoIterator<Item = u64>) -> Vec<u8> {
    sequences.into_iter().flat_map(|sequence| frame(&beat(11, sequence), 0)).collect()
}

/// A frame of a schema that has more fields than this version knows.
fn newer_schema(more: usize) -> Vec<u8> {
    let mut bytes = frame(&beat(11, 1), 0);
    bytes.resize(bytes.len() + more, 0xa5);
    let body = u16::try_from(bytes.len() - 16).expect("a short body");
    bytes[3] = 2;
    bytes[4..6].copy_from_slice(&body.to_le_bytes());
    bytes
}

fn with(offset: usize, value: u8) -> Vec<u8> {
    let mut bytes = frames([1]);
    bytes[offset] = value;
    bytes
}

fn datagrams() -> Vec<(&'static str, Vec<u8>)> {
    let extreme = Heartbeat {
        boot_id: u64::MAX,
        sequence: u64::MAX,
        sensor_clock_unix_us: i64::MIN,
        uptime_ms: u64::MAX,
        interval_ms: u32::MAX,
        flags: u32::MAX,
        rx_packets: u64::MAX,
        rx_bytes: u64::MAX,
        rx_dropped: u64::MAX,
        devices: u32::MAX,
        backup_age_s: u32::MAX - 1,
        ..beat(11, 1)
    };
    let counters_back = [frame(&Heartbeat { rx_packets: 5_000, ..beat(11, 1) }, 0), frames([2])].concat();
    let goodbye = Heartbeat { flags: FLAG_GOODBYE, ..beat(11, 3) };
    let years_ahead = Heartbeat { sensor_clock_unix_us: 4_000_000_000_000_000, ..beat(11, 2) };
    vec![
        ("empty", Vec::new()),
        ("one", frames([1])),
        ("four", frames(1..=4)),
        ("duplicate-and-reordered", frames([3, 1, 3, 2, 2])),
        ("sequence-goes-backwards", frames([1_000, 1])),
        ("sequence-jumps", frames([1, 1 << 60])),
        ("another-boot", [frames([9]), frame(&Heartbeat { boot_id: 8, ..beat(11, 1) }, 0)].concat()),
        ("thousand-frames", frames(1..=1_000)),
        ("truncated", frames([1])[..100].to_vec()),
        ("truncated-in-the-second", frames([1, 2])[..300].to_vec()),
        ("header-alone", frames([1])[..16].to_vec()),
        ("all-ones", vec![0xff; 1_200]),
        ("all-zeros", vec![0; 300]),
        ("all-ones-in-a-body", [&frames([1])[..16], &[0xff; 248]].concat()),
        ("newer-schema", newer_schema(40)),
        ("newer-schema-then-ours", [newer_schema(8), frames([2])].concat()),
        ("newest-schema-largest-body", newer_schema(FRAME_BODY_BYTES_MAX - 248)),
        ("oversized", with(5, 0xff)),
        ("no-magic", with(0, b'G')),
        ("another-kind", with(2, 2)),
        ("schema-zero", with(3, 0)),
        ("reserved-bytes", with(12, 1)),
        ("body-short", with(4, 200)),
        ("unknown-enumerations", frame(&Heartbeat { profile: 200, update_stage: 99, ..beat(11, 1) }, 0)),
        ("impossible-percentage", frame(&Heartbeat { update_percent: 101, ..beat(11, 1) }, 0)),
        ("text-that-is-none", frame(&Heartbeat { version: [0xff; 32], ..beat(11, 1) }, 0)),
        ("extreme-numbers", frame(&extreme, 0)),
        ("clock-years-ahead", [frames([1]), frame(&years_ahead, 0)].concat()),
        ("too-old", frame(&beat(11, 1), u32::MAX)),
        ("counters-go-backwards", counters_back),
        ("goodbye", [frames([2]), frame(&goodbye, 0)].concat()),
        ("of-somebody-else", [frames([1]), frame(&beat(12, 1), 0)].concat()),
    ]
}

fn gateway_streams() -> Vec<(String, Vec<u8>)> {
    let many: Vec<u8> = (0..24).flat_map(|number| frame(&beat(8 + number, 1), 5)).collect();
    let slips: Vec<u8> = (1..=40).flat_map(|sequence| frame(&beat(9, sequence), 0)).collect();
    let mut seeds = vec![
        ("many-sensors".to_owned(), input(&[7, 0, 250], &many)),
        ("byte-by-byte".to_owned(), input(&[1], &frames(1..=3))),
        ("frame-by-frame".to_owned(), input(&[132, 132], &frames(1..=4))),
        ("cut-in-the-header".to_owned(), input(&[5, 255, 9], &frames(1..=3))),
        ("ends-inside-a-frame".to_owned(), input(&[100], &frames(1..=2)[..500])),
        ("over-its-budget".to_owned(), input(&[200], &slips)),
        ("over-its-budget-then-garbage".to_owned(), input(&[255], &[slips, vec![0xff; 40]].concat())),
        ("empty-chunks".to_owned(), input(&[0], &frames([1]))),
        ("no-stream".to_owned(), input(&[3], &[])),
    ];
    for (name, bytes) in datagrams().into_iter().filter(|(_, bytes)| bytes.len() <= 2_000) {
        seeds.push((format!("datagram-{name}"), input(&[60, 1], &bytes)));
    }
    seeds
}

fn control_messages() -> Vec<(&'static str, Vec<u8>)> {
    let of = OperationRef { operation: u64::MAX, offset: 3 };
    let none = OperationRef::default();
    let body = |bytes: Vec<u8>| bytes[4..].to_vec();
    let reason = "no room: ünïcödé".to_owned();
    vec![
        ("set-interval", body(encode(&ToSensor::SetInterval { of, interval_ms: 1_000 }))),
        ("come-back", body(encode(&ToSensor::ComeBack { of, after_ms: u32::MAX }))),
        ("ping", body(encode(&ToSensor::Ping { of: none }))),
        ("done", body(encode(&FromSensor::Done { of }))),
        ("refused", body(encode(&FromSensor::Refused { of, reason }))),
        ("not-understood", body(encode(&FromSensor::NotUnderstood { of: none }))),
        ("renew", body(encode(&ToSensor::Renew { of }))),
        ("csr", body(encode(&FromSensor::Csr { of, csr: vec![0x30; 64] }))),
        (
            "certificate",
            body(encode(&ToSensor::Certificate { of, chain_pem: Some("chain".into()), trust_pem: None })),
        ),
        ("enrol-activate", body(encode(&activate()))),
        ("enrol-renew", body(encode(&renew()))),
        ("enrol-enrolled", body(encode(&enrolled()))),
        ("enrol-refused", body(encode(&EnrolRefusal::ClockDrift.answer("12 h behind")))),
        // A chain of 2^64 - 1 certificates.
        ("enrol-endless-chain", [&[0x82, 0x01, 0x85, 0x9b][..], &[0xff; 8]].concat()),
        ("with-its-length", encode(&ToSensor::Ping { of })),
        ("length-too-long", vec![0xff; 4]),
        ("all-ones", vec![0xff; 64]),
        ("empty", Vec::new()),
        // An array of 2^64 - 1 items, a text of as many bytes, arrays in arrays.
        ("endless-array", [&[0x9b][..], &[0xff; 8]].concat()),
        ("endless-text", [&[0x82, 0x01, 0x82, 0x82, 0x00, 0x00, 0x7b][..], &[0xff; 8]].concat()),
        ("deep", vec![0x81; 4_000]),
        ("unknown-variant", vec![0x82, 0x18, 0x63, 0x80]),
        ("newer-field", vec![0x82, 0x02, 0x83, 0x82, 0x01, 0x02, 0x03, 0x81, 0x04]),
        ("indefinite", vec![0x9f, 0x02, 0x9f, 0x9f, 0x01, 0x02, 0xff, 0xff, 0xff]),
        ("tagged", vec![0xc1, 0x82, 0x02, 0x81, 0x82, 0x01, 0x02]),
    ]
}

fn activate() -> EnrolRequest {
    let (token, csr) = ([7; 32], vec![0x30; 200]);
    EnrolRequest::Activate { token, csr, clock_unix_ms: 1_795_478_400_000, agent_version: "22.3.7".into() }
}

fn renew() -> EnrolRequest {
    EnrolRequest::Renew {
        chain: vec![vec![0x30; 40].into(), vec![0x31; 30].into()],
        csr: vec![0x30; 50],
        clock_unix_ms: i64::MIN,
        signature: vec![1; 64],
        agent_version: "1".into(),
    }
}

fn enrolled() -> EnrolAnswer {
    let (chain_pem, trust_pem) = ("chain".into(), "trust".into());
    EnrolAnswer::Enrolled { id: [9; 16], chain_pem, trust_pem, trust_generation: u32::MAX }
}

fn configs() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        ("much", text(MUCH)),
        ("empty", Vec::new()),
        ("unknown-key", text("[ingest]\nlisen = \"0.0.0.0:1\"")),
        ("unknown-section", text("[nothing]\nx = 1")),
        ("wrong-type", text("[ingest]\nshards = \"many\"")),
        ("negative", text("[ingest]\nshards = -1")),
        ("table-for-a-value", text("[ingest.shards]\nx = 1")),
        ("list-for-a-value", text("[ingest]\nshards = [1, 2]")),
        ("date", text("data_dir = 2026-11-24T01:02:03Z")),
        ("not-a-number", text("[ingest]\nshards = nan")),
        ("not-toml", text("[[")),
        ("not-utf8", vec![b'x', b'=', b'"', 0xff, 0xfe, b'"']),
        ("quotes-in-a-path", text("data_dir = 'a\"b\\c'")),
        ("line-feed-in-a-path", text("data_dir = \"a\\nb\\u007f\\u0085\"")),
        ("line-feed-in-a-key", text("\"a\\nb\" = 1")),
        ("sums-of-durations", text("[store]\njournal_keep = \"1d23h59m59s999ms\"")),
        ("overflowing-duration", text("[store]\njournal_keep = \"213503982335d\"")),
        ("names", text("[ingest]\nserver_names = [\"a.example\", \"*.b.example\", \"::1\"]")),
        ("two-ports-in-one", text("[ingest]\nlisten = \"[::1]:9\"\nenrol_listen = \"[::1]:9\"")),
        ("plain-http", text("[http]\nlisten = \"0.0.0.0:80\"\nplain_beyond_loopback = true")),
        ("filter", text("[log]\nlevel = \"info,fleetpulse::ingest=debug\"\nformat = \"json\"")),
        ("filter-with-a-span", text("[log]\nlevel = \"[{a=\\\"b\\\"}]=info\"")),
        ("versions-file", text("[health]\nversions_file = \"versions.toml\"\npolicy = \"demo\"")),
        ("flags", text("\0ingest.shards=3\0health.cadence=2s\0ingest.server_names=a.example, 10.0.0.1")),
        ("flag-without-a-value", text("\0ingest.shards\0\0=\0")),
    ]
}

/// Operations without a meaning, by a generator (splitmix64): they reach more than a fuzzer does in a minute.
fn engine_operations() -> Vec<(String, Vec<u8>)> {
    let random = |seed: u64, length: usize| -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        };
        (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect()
    };
    (1..=12).map(|seed| (format!("random-{seed:02}"), random(seed, 1_600))).collect()
}

const CSR: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIG5MGICAQAwADBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNef0pCK/fH2YsNE
LFBnGoFU/Uqc43XygqqdDYMmu/OZ/uYHRTvBIEIKya97wR5y2ZhPtoQ+z9DMSP41
eAOGcoKgADAKBggqhkjOPQQDAgNHADBEAiBMNAq8kNyowTTBl4DzQv8WQWiTTqYk
pMK2gywEEe4QzQIgQWQ76uDSy1iNd7CliCIuaEb2vKi7OBPsSGTWLu1gl0Y=
-----END CERTIFICATE REQUEST-----
";
const CSR_OF_ANOTHER: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIIBIjCBygIBADAQMQ4wDAYDVQQDDAVvdGhlcjBZMBMGByqGSM49AgEGCCqGSM49
AwEHA0IABNef0pCK/fH2YsNELFBnGoFU/Uqc43XygqqdDYMmu/OZ/uYHRTvBIEIK
ya97wR5y2ZhPtoQ+z9DMSP41eAOGcoKgWDBWBgkqhkiG9w0BCQ4xSTBHMEUGA1Ud
EQQ+MDyGOnVybjpmbGVldHB1bHNlOnNlbnNvcjowMDAwMDAwMC0wMDAwLTQwMDAt
ODAwMC0wMDAwMDAwMDAwMDEwCgYIKoZIzj0EAwIDRwAwRAIgAr2a2gyjQ8xjHZ2X
Y/igRqKXlv17y6D6AYU/B6Zm6MECIHeD4nycl875qIx99NRzNIQ2lPMIy9MMZN4d
abN5wS+g
-----END CERTIFICATE REQUEST-----
";
const CSR_OF_ANOTHER_CURVE: &str = "\
-----BEGIN CERTIFICATE REQUEST-----
MIH2MH8CAQAwADB2MBAGByqGSM49AgEGBSuBBAAiA2IABFOPZ5kT1joMH8eU/nyI
PCIS/esom0DSJHhOP1+rofHaOCCkBSxk1Gr8LjSUp4jkPtyuLI5RQYAo1r5Y34M4
nxOqE9PU9vcSgXjvmlxJGE6rSp179qs38SNzBHCJk/KaRaAAMAoGCCqGSM49BAMC
A2cAMGQCLzXZlD06/wYfBXvBPA9zKMGsjaGPFH31KS6hQm3oMOJ6tm4L/jE6xzA5
8H1/C7WcAjEAt5RCTccY7322rfHqacV/zYhwbF3Gq1IYJKj+u9DKN1gpYuObVqcR
wHPCmyl6KsOv
-----END CERTIFICATE REQUEST-----
";
const ACTIVATION: &str = r#"{"kind":"activation","version":1,"sensor":{"id":"00000000-0000-4000-8000-000000000001",
"name":"pump","type":"ot-cloud","site":"Lyon","zone":"Line 3"},"servers":["fleet.example:4433"],"enrol":["fleet.example:4434"],
"server_name":"fleet.example","trust":"generation: 2\n-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
"token":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","issued_at":"2026-11-24T00:00:00.000Z",
"expires_at":"2026-12-08T00:00:00.000Z","generation":1}"#;
const RESPONSE: &str = r#"{"kind":"activation-response","version":1,"sensor":"00000000-0000-4000-8000-000000000001",
"token_sha256":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","clock":"2026-11-24T00:00:00.000Z","agent_version":"0.1.0"}"#;

fn signed_files() -> Vec<(&'static str, Vec<u8>)> {
    use crate::signed_file as which;
    let of = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    let skeleton = r#"{"payload":"e30","protected":"eyJhbGciOiJFUzI1NiJ9","signature":"AAAA"}"#;
    let part = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    vec![
        ("csr", of(which::CSR, CSR.as_bytes())),
        ("csr-of-another", of(which::CSR, CSR_OF_ANOTHER.as_bytes())),
        ("csr-of-another-curve", of(which::CSR, CSR_OF_ANOTHER_CURVE.as_bytes())),
        ("file", of(which::FILE, skeleton.as_bytes())),
        ("activation", of(which::ACTIVATION, ACTIVATION.as_bytes())),
        ("activation-late", of(which::ACTIVATION, ACTIVATION.replace("2026-12", "2025-12").as_bytes())),
        (
            "activation-newer",
            of(which::ACTIVATION, ACTIVATION.replace("\"version\":1", "\"version\":2").as_bytes()),
        ),
        ("response", of(which::RESPONSE, RESPONSE.as_bytes())),
        ("response-as-activation", of(which::ACTIVATION, RESPONSE.as_bytes())),
        ("claim", of(which::CLAIM, &[part(b"0\x00"), part(b"statement"), part(b"signature")].concat())),
    ]
}
