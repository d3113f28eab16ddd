//! Rounds, medians, and the ratios that the table of speed targets names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::Compare;
use crate::parties::{BATCH, Figures, Ground, Party, Row};
use crate::process::{pin, raise_files};

/// Server CPU of one party divided by that of another, at most so much.
const TARGETS: [(Row, Party, f64); 3] = [
    (Row::Fleet, Party::MosquittoQos0, 0.8),
    (Row::Fleet, Party::MosquittoQos1, 0.4),
    (Row::Gateways, Party::Quinn, 0.75),
];

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn run(mut compare: Compare) -> Result<(), String> {
    if compare.quick {
        (compare.connections, compare.gateways, compare.rounds, compare.seconds) = (100, 5, 1, 2);
    }
    if compare.cores.len() < 2 {
        return Err("--cores needs two: one for the servers, one for what drives them".into());
    }
    raise_files(compare.connections as u64 + 256)?;
    let folder = Folder(std::env::temp_dir().join(format!("fleetpulse-peers-{}", std::process::id())));
    std::fs::create_dir(&folder.0).map_err(|error| format!("{}: {error}", folder.0.display()))?;
    let rows: Vec<Row> = [(Row::Fleet, compare.no_fleet), (Row::Gateways, compare.no_gateways)]
        .into_iter()
        .filter(|(_, left_out)| !left_out)
        .map(|(row, _)| row)
        .collect();
    let ground = Ground::prepare(compare, &folder.0)?;
    pin(ground.compare.cores[1])?;
    let load = || std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    for row in rows {
        let mut all: BTreeMap<Party, Vec<Figures>> = BTreeMap::new();
        for round in 1..=ground.compare.rounds {
            for party in Party::ALL {
                let figures = ground.measure(party, row)?;
                eprintln!(
                    "peers: {row:?}, round {round}, {}: {:.3} us a message, {:.0} a second, {:.1} KB, {:.0} us a \
                     handshake, received {:.4}, driver late by {:.1} ms, load {}",
                    party.name(),
                    figures.us_per_message,
                    figures.messages_per_second,
                    figures.kb_per_connection,
                    figures.us_per_handshake,
                    figures.received_share,
                    figures.late_ms,
                    load().trim()
                );
                all.entry(party).or_default().push(figures);
            }
        }
        print(row, &ground, &all);
    }
    Ok(())
}

fn median(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print(row: Row, ground: &Ground, all: &BTreeMap<Party, Vec<Figures>>) {
    let compare = &ground.compare;
    match row {
        Row::Fleet => println!("\n{} TLS connections, one message a second each", compare.connections),
        Row::Gateways => {
            println!("\n{} TLS connections, {BATCH} messages at a time, as fast as it goes", compare.gateways)
        }
    }
    println!("medians of {} rounds of {} s; server CPU", compare.rounds, compare.seconds);
    println!(
        "{:<20} {:>14} {:>12} {:>16} {:>14}",
        "", "us a message", "a second", "us a handshake", "KB a connection"
    );
    for (party, figures) in all {
        println!(
            "{:<20} {:>14.3} {:>12.0} {:>16.0} {:>14.1}",
            party.name(),
            median(figures, |f| f.us_per_message),
            median(figures, |f| f.messages_per_second),
            median(figures, |f| f.us_per_handshake),
            median(figures, |f| f.kb_per_connection),
        );
    }
    for (of_row, party, most) in TARGETS {
        let (Some(ours), Some(theirs)) = (all.get(&Party::Fleetpulse), all.get(&party)) else { continue };
        if of_row != row {
            continue;
        }
        // Of each round by itself: what loaded the machine loaded both.
        let mut ratios: Vec<f64> =
            ours.iter().zip(theirs).map(|(a, b)| a.us_per_message / b.us_per_message).collect();
        ratios.sort_by(f64::total_cmp);
        let ratio = ratios[ratios.len() / 2];
        let verdict = if ratio <= most { "reached" } else { "missed" };
        println!("Fleetpulse / {}: {ratio:.2}, target at most {most}: {verdict}", party.name());
    }
}
