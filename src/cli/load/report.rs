//! What came out, as one JSON object or as a table.

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Value, json};

use super::meter::{Between, Reading};
use super::{Load, Rate, Size};
use crate::sensor::load::Beaten;

/// One round of connecting.
#[derive(Clone, Debug)]
pub(super) struct Handshakes {
    pub made: u64,
    pub full: u64,
    pub failed: u64,
    pub seconds: f64,
    pub server_cpu_us: Option<f64>,
    pub client_cpu_us: Option<f64>,
}

impl Handshakes {
    fn per_second(&self) -> f64 {
        self.made as f64 / self.seconds.max(1e-9)
    }

    fn resumed(&self) -> u64 {
        self.made.saturating_sub(self.full)
    }

    fn json(&self) -> Value {
        json!({
            "handshakes": self.made, "full": self.full, "resumed": self.resumed(), "failed_tries": self.failed,
            "seconds": round(self.seconds), "handshakes_per_second": round(self.per_second()),
            "server_cpu_us_per_handshake": self.server_cpu_us.map(round),
            "client_cpu_us_per_handshake": self.client_cpu_us.map(round),
        })
    }
}

/// Resident memory of the server.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub empty_bytes: Option<u64>,
    pub registered: usize,
    pub before_bytes: u64,
    pub connected_bytes: u64,
    pub connections: u64,
    pub active_bytes: Option<u64>,
}

impl Memory {
    fn per_connection_kb(&self, bytes: u64) -> Option<f64> {
        let more = bytes.saturating_sub(self.before_bytes);
        (self.connections > 0).then(|| more as f64 / 1_024.0 / self.connections as f64)
    }

    fn per_registered_kb(&self) -> Option<f64> {
        let more = self.before_bytes.saturating_sub(self.empty_bytes?);
        (self.registered > 0).then(|| more as f64 / 1_024.0 / self.registered as f64)
    }
}

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Percentiles {
    p50: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Percentiles {
    fn of(values: &Histogram<u64>) -> Percentiles {
        Percentiles {
            p50: values.value_at_quantile(0.5),
            p99: values.value_at_quantile(0.99),
            p999: values.value_at_quantile(0.999),
            max: values.max(),
        }
    }
}

/// The measured time.
#[derive(Clone, Debug)]
pub(super) struct Beats {
    seconds: f64,
    sent: u64,
    received: u64,
    server_cpu_us: f64,
    client_cpu_us: f64,
    packets: u64,
    packets_sent: u64,
    batches: u64,
    turns: u64,
    kernel_drops: u64,
    lag: Percentiles,
    schedule_lag: Percentiles,
    round_trip: Percentiles,
}

impl Beats {
    pub(super) fn new(between: Between<'_>, sent: u64, client_cpu_us: f64, beaten: Beaten) -> Beats {
        Beats {
            seconds: between.seconds(),
            sent,
            received: between.count("frames"),
            server_cpu_us: between.cpu_us(),
            client_cpu_us,
            packets: between.count("packets"),
            packets_sent: between.count("sent"),
            batches: between.count("batches"),
            turns: between.count("turns"),
            kernel_drops: between.count("kernel_drops"),
            lag: Percentiles::of(&between.lag()),
            schedule_lag: Percentiles::of(&beaten.schedule_lag),
            round_trip: Percentiles::of(&beaten.round_trip),
        }
    }

    fn per_heartbeat(&self, amount: f64) -> Option<f64> {
        (self.received > 0).then(|| amount / self.received as f64)
    }

    fn percent(&self, cpu_us: f64) -> f64 {
        cpu_us / 1e4 / self.seconds.max(1e-9)
    }
}

/// Everything that is reported.
pub(super) struct Report {
    mode: Value,
    pub start: Option<Reading>,
    pub end: Option<Reading>,
    pub handshakes: Option<Handshakes>,
    pub memory: Memory,
    pub beats: Option<Beats>,
    pub storm: Option<Handshakes>,
    pub sent: u64,
    pub not_sent: u64,
    pub received: u64,
}

impl Report {
    pub(super) fn new(load: &Load, size: Size) -> Report {
        let mode = json!({
            "sensors": size.sensors, "gateways": size.gateways,
            "sensors_per_gateway": if size.gateways > 0 { size.sensors_per_gateway } else { 0 },
            "interval_ms": load.interval.as_millis() as u64,
            "rate": match load.rate {
                _ if size.gateways == 0 => Value::Null,
                Rate::Most => "most".into(),
                Rate::PerSecond(rate) => rate.into(),
            },
            "threads": load.threads, "cores": load.cores, "own_server": load.server.is_none(),
        });
        Report {
            mode,
            start: None,
            end: None,
            handshakes: None,
            memory: Memory::default(),
            beats: None,
            storm: None,
            sent: 0,
            not_sent: 0,
            received: 0,
        }
    }

    /// Everything that was sent was received.
    pub(super) fn complete(&self) -> bool {
        // More may come from others: the server counts for everybody.
        self.received >= self.sent
    }

    pub(super) fn what_is_missing(&self) -> String {
        let drops = self.end.as_ref().map_or(0, |end| end.count("kernel_drops"));
        format!(
            "{} frames were sent and {} received; the kernel dropped {drops} packets for want of receive buffer \
             (raise net.core.rmem_max, or send less)",
            self.sent, self.received
        )
    }

    pub(super) fn print(&self, as_json: bool) {
        if as_json { println!("{}", self.json()) } else { self.table() }
    }

    fn json(&self) -> Value {
        let beats = self.beats.as_ref();
        let per = |amount: fn(&Beats) -> f64| beats.and_then(|b| b.per_heartbeat(amount(b))).map(round);
        let memory = &self.memory;
        json!({
            "mode": self.mode,
            "sent": self.sent, "received": self.received, "not_sent": self.not_sent,
            "lag_us": beats.map(|b| b.lag),
            "client_schedule_lag_us": beats.map(|b| b.schedule_lag),
            "round_trip_us": beats.map(|b| b.round_trip),
            "heartbeats_per_second": beats.map(|b| round(b.received as f64 / b.seconds)),
            "server_cpu_us_per_heartbeat": per(|b| b.server_cpu_us),
            "client_cpu_us_per_heartbeat": per(|b| b.client_cpu_us),
            "rss_kb_per_connection": memory.per_connection_kb(memory.connected_bytes).map(round),
            "rss_kb_per_connection_active":
                memory.active_bytes.and_then(|bytes| memory.per_connection_kb(bytes)).map(round),
            "rss_kb_per_registered_sensor": memory.per_registered_kb().map(round),
            "handshakes_per_second": self.handshakes.as_ref().map(|h| round(h.per_second())),
            "server_cpu_us_per_handshake":
                self.handshakes.as_ref().and_then(|h| h.server_cpu_us).map(round),
            "connect": self.handshakes.as_ref().map(Handshakes::json),
            "reconnect": self.storm.as_ref().map(Handshakes::json),
            "window": beats.map(|b| json!({
                "seconds": round(b.seconds), "sent": b.sent, "received": b.received,
                "server_cpu_percent": round(b.percent(b.server_cpu_us)),
                "client_cpu_percent": round(b.percent(b.client_cpu_us)),
                "packets": b.packets, "packets_sent": b.packets_sent, "receive_batches": b.batches,
                "turns": b.turns, "kernel_drops": b.kernel_drops,
            })),
            "server_resident_bytes": {
                "empty": memory.empty_bytes, "registered": memory.before_bytes,
                "connected": memory.connected_bytes, "active": memory.active_bytes,
            },
        })
    }

    fn table(&self) {
        let line = |what: &str, value: String| println!("{what:<34} {value}");
        let number = |value: Option<f64>, unit: &str| {
            value.map_or("-".to_owned(), |value| format!("{} {unit}", round(value)))
        };
        line("frames sent / received", format!("{} / {}", self.sent, self.received));
        if self.not_sent > 0 {
            line("due and not sent", self.not_sent.to_string());
        }
        for (what, handshakes) in [("connect", &self.handshakes), ("reconnect", &self.storm)] {
            let Some(h) = handshakes else { continue };
            let kind = if h.resumed() > h.full { "resumed" } else { "full" };
            line(
                &format!("{what}: {} handshakes, {kind}", h.made),
                format!("{:.0} a second over {:.2} s", h.per_second(), h.seconds),
            );
            line("  server CPU for one", number(h.server_cpu_us, "us"));
            line("  client CPU for one", number(h.client_cpu_us, "us"));
        }
        let memory = &self.memory;
        line(
            "server memory for a connection",
            number(memory.per_connection_kb(memory.connected_bytes), "KB"),
        );
        line("  while beating", number(memory.active_bytes.and_then(|m| memory.per_connection_kb(m)), "KB"));
        line("  for a registered sensor", number(memory.per_registered_kb(), "KB"));
        let Some(b) = &self.beats else { return };
        line("heartbeats", format!("{:.0} a second for {:.1} s", b.received as f64 / b.seconds, b.seconds));
        for (what, cpu_us) in [("server", b.server_cpu_us), ("client", b.client_cpu_us)] {
            let per = number(b.per_heartbeat(cpu_us), "us");
            line(&format!("  {what} CPU for one"), format!("{per}, {:.1} % of a core", b.percent(cpu_us)));
        }
        for (what, p) in [
            ("  lag in the server", b.lag),
            ("  lag of this side's schedule", b.schedule_lag),
            ("  heartbeat and back", b.round_trip),
        ] {
            line(what, format!("p50 {} p99 {} p99.9 {} max {} us", p.p50, p.p99, p.p999, p.max));
        }
    }
}

/// Three digits behind the point are more than is known.
fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
