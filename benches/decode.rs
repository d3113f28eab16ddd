//! Reading frames: what the header, archive and range checks cost. `cargo bench --bench decode`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fleetpulse::wire::frame::{StreamFrames, frames, read_frame, write_frame};
use fleetpulse::wire::heartbeat::{Heartbeat, inline};

fn sample(sequence: u64) -> Heartbeat {
    Heartbeat {
        sensor_id: [7; 16],
        sequence,
        version: inline("22.1.4.8-r-6372aad"),
        update_target: inline("22.3.7"),
        ti_version: inline("2026-11-24"),
        rx_packets: sequence * 1_000,
        ..Heartbeat::default()
    }
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    let mut one = Vec::new();
    write_frame(&sample(1), 0, &mut one);
    group.throughput(Throughput::Elements(1));
    group.bench_function("frame", |bench| {
        bench.iter(|| read_frame(black_box(&one)).map(|(frame, _)| frame.known.sequence.to_native()));
    });
    let mut malformed = one.clone();
    malformed[16 + 90] = 101;
    group.bench_function("refused", |bench| bench.iter(|| read_frame(black_box(&malformed)).is_err()));
    group.bench_function("write", |bench| {
        let heartbeat = sample(1);
        let mut buffer = Vec::with_capacity(512);
        bench.iter(|| {
            buffer.clear();
            write_frame(black_box(&heartbeat), 3, &mut buffer);
            buffer.len()
        });
    });

    let mut many = Vec::new();
    for sequence in 1..=4_096 {
        write_frame(&sample(sequence), 0, &mut many);
    }
    group.throughput(Throughput::Elements(4));
    let datagram = &many[..one.len() * 4];
    group.bench_function("datagram_of_4", |bench| {
        bench.iter(|| {
            frames(black_box(datagram)).flatten().map(|frame| frame.known.sequence.to_native()).sum::<u64>()
        });
    });
    group.throughput(Throughput::Elements(4_096));
    group.bench_function("stream_in_1200_byte_chunks", |bench| {
        bench.iter(|| {
            let mut stream = StreamFrames::new();
            let mut sum = 0;
            for chunk in black_box(&many).chunks(1_200) {
                let framed = stream.push(chunk, |frame| {
                    sum += frame.map_or(0, |frame| frame.known.sequence.to_native());
                });
                assert!(framed.is_ok());
            }
            sum
        });
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
