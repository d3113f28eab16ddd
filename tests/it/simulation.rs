//! A seeded world of sensors, networks and accidents, the real live state and engine fed with real frames, and
//! an oracle: a different, simple judge that sees the same deliveries and must agree after every sweep.
//!
//! One second of world time is one sweep, so agreement after every sweep is "nothing false, nothing missed,
//! nothing later than one cadence". No sockets, no clock: a seed replays exactly.
//!
//! More: `FLEETPULSE_SIM_SENSORS=10000 FLEETPULSE_SIM_SEEDS=100 cargo test --release --test it simulation`.

#![expect(clippy::print_stderr, reason = "a failing seed must be named")]

mod oracle;
mod world;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use world::{Run, Totals};

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run_seeds(first: u64, seeds: u64, sensors: usize, seconds: u64) -> Totals {
    let next = std::sync::atomic::AtomicU64::new(first);
    let failed = std::sync::atomic::AtomicU64::new(0);
    let last_panic = std::sync::Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let one_thread = || {
        let mut totals = Totals::default();
        loop {
            let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if seed >= first + seeds {
                return totals;
            }
            match catch_unwind(AssertUnwindSafe(|| Run::new(seed, sensors).go(seconds))) {
                Ok(run) => totals.add(&run),
                Err(panic) => {
                    eprintln!(
                        "seed {seed} fails: FLEETPULSE_SIM_SEED={seed} FLEETPULSE_SIM_SEEDS=1 \
                         FLEETPULSE_SIM_SENSORS={sensors} FLEETPULSE_SIM_SECONDS={seconds} \
                         cargo test --test it simulation"
                    );
                    failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    last_panic.lock().expect("no panic inside").replace(panic);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(one_thread)).collect();
        let mut totals = Totals::default();
        for worker in workers {
            totals.add(&worker.join().expect("panics are caught inside"));
        }
        if let Some(panic) = last_panic.lock().expect("no panic inside").take() {
            eprintln!("{} of {seeds} seeds fail", failed.load(std::sync::atomic::Ordering::Relaxed));
            resume_unwind(panic);
        }
        totals
    })
}

#[test]
fn no_verdict_is_false_or_missed_or_late_in_a_world_of_accidents() {
    let sensors = number("FLEETPULSE_SIM_SENSORS", 60) as usize;
    let seeds = number("FLEETPULSE_SIM_SEEDS", 100);
    let seconds = number("FLEETPULSE_SIM_SECONDS", 600);
    let totals = run_seeds(number("FLEETPULSE_SIM_SEED", 1), seeds, sensors, seconds);
    eprintln!("{seeds} seeds of {sensors} sensors and {seconds} s: {totals:?}");
    if seeds >= 100 {
        totals.assert_everything_happened();
    }
}
