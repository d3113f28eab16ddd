//! What the server says about itself (`GET /api/v1/engine`), at one moment and between two.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Deserialize;

use super::Failure;
use crate::time::{Clock, MonoNanos, SystemClock};

const PATH: &str = "/api/v1/engine";
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Engine {
    process: Process,
    ingest: Ingest,
}

#[derive(Deserialize)]
struct Process {
    cpu_us: u64,
    resident_bytes: u64,
}

#[derive(Deserialize)]
struct Ingest {
    total: Counts,
}

#[derive(Deserialize)]
struct Counts {
    counters: BTreeMap<String, u64>,
    lag: Lag,
}

#[derive(Deserialize)]
struct Lag {
    max_us: u64,
    /// Largest value of the bucket, and how many are in it alone.
    buckets: Vec<(u64, u64)>,
}

/// The server at one moment.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub at: MonoNanos,
    pub cpu_us: u64,
    pub resident_bytes: u64,
    counters: BTreeMap<String, u64>,
    lag: BTreeMap<u64, u64>,
    lag_max_us: u64,
}

impl Reading {
    /// A count by its name in the server; zero for one that it does not have.
    pub(super) fn count(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// Sensors and gateways connected.
    pub(super) fn connected(&self) -> u64 {
        self.count("sensors") + self.count("gateways")
    }
}

/// What happened between two readings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Between<'r> {
    pub from: &'r Reading,
    pub to: &'r Reading,
}

impl Between<'_> {
    pub(super) fn count(&self, name: &str) -> u64 {
        self.to.count(name).saturating_sub(self.from.count(name))
    }

    pub(super) fn seconds(&self) -> f64 {
        self.to.at.since(self.from.at).as_secs_f64()
    }

    pub(super) fn cpu_us(&self) -> f64 {
        self.to.cpu_us.saturating_sub(self.from.cpu_us) as f64
    }

    /// The server's CPU for each of these.
    pub(super) fn cpu_us_per(&self, count: u64) -> Option<f64> {
        (count > 0).then(|| self.cpu_us() / count as f64)
    }

    /// The server's lag from the receipt of a packet to the end of its handling. Its buckets are up to 25 %
    /// wide, so values are right to that much; the largest is exact when it fell between these readings.
    pub(super) fn lag(&self) -> Histogram<u64> {
        let mut lag = Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("these bounds are valid");
        for (us, count) in &self.to.lag {
            let new = count - self.from.lag.get(us).copied().unwrap_or(0).min(*count);
            if new > 0 {
                lag.saturating_record_n((*us).min(self.to.lag_max_us).max(1), new);
            }
        }
        lag
    }
}

/// Asks a server.
pub(super) struct Meter {
    url: String,
    agent: ureq::Agent,
    token: Option<String>,
    clock: SystemClock,
}

impl Meter {
    pub(super) fn new(http: &str, token: Option<&str>, clock: SystemClock) -> Meter {
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build();
        Meter {
            url: format!("{}{PATH}", http.trim_end_matches('/')),
            agent: config.into(),
            token: token.map(str::to_owned),
            clock,
        }
    }

    pub(super) fn read(&self) -> Result<Reading, Failure> {
        let wrong = |error: ureq::Error| Failure::failed(format!("{}: {error}", self.url));
        let mut request = self.agent.get(&self.url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = request.call().map_err(wrong)?;
        let engine: Engine = response.body_mut().read_json().map_err(wrong)?;
        Ok(Reading {
            at: self.clock.mono(),
            cpu_us: engine.process.cpu_us,
            resident_bytes: engine.process.resident_bytes,
            counters: engine.ingest.total.counters,
            lag: engine.ingest.total.lag.buckets.into_iter().collect(),
            lag_max_us: engine.ingest.total.lag.max_us,
        })
    }

    /// Reads until it is as wanted, or the time is over; gives the last reading.
    pub(super) fn wait(
        &self,
        most: Duration,
        mut wanted: impl FnMut(&Reading) -> bool,
    ) -> Result<Reading, Failure> {
        let until = self.clock.mono().plus(most);
        loop {
            let reading = self.read()?;
            if wanted(&reading) || self.clock.mono() >= until {
                return Ok(reading);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(frames: u64, lag: &[(u64, u64)], lag_max_us: u64) -> Reading {
        Reading {
            at: MonoNanos(frames),
            cpu_us: frames * 10,
            resident_bytes: 0,
            counters: BTreeMap::from([("frames".to_owned(), frames)]),
            lag: lag.iter().copied().collect(),
            lag_max_us,
        }
    }

    #[test]
    fn only_what_is_new_counts() {
        let from = reading(100, &[(127, 100)], 120);
        let to = reading(300, &[(127, 199), (10_239, 101)], 10_000);
        let between = Between { from: &from, to: &to };
        assert_eq!(between.count("frames"), 200);
        assert_eq!(between.cpu_us_per(200), Some(10.0));
        assert_eq!(between.cpu_us_per(0), None);
        let lag = between.lag();
        assert_eq!(lag.len(), 200);
        assert!((126..=128).contains(&lag.value_at_quantile(0.25)));
        assert!((9_990..=10_010).contains(&lag.max()));
    }
}
