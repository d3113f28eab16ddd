//! The run itself, phase by phase: connect, beat, reconnect, each between two readings of the server.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::child::{Scratch, ServerProcess};
use super::crew::Crew;
use super::enlist::{Enlisted, enlist};
use super::meter::{Between, Meter, Reading};
use super::report::{Beats, Handshakes, Memory, Report};
use super::{Failure, Load, Rate, Size, cores, identities, needs, say};
use crate::cli::client::token_for;
use crate::sensor::load::{GatewayRate, LoadTarget};
use crate::server::data::DataDir;
use crate::time::{Clock, SystemClock};

/// Time for the last packets of a phase to be counted.
const SETTLE: Duration = Duration::from_secs(10);
/// A connection at rest: tickets delivered, acknowledgements sent.
const REST: Duration = Duration::from_millis(1_500);

/// A server to drive.
struct Side {
    process: Option<ServerProcess>,
    meter: Meter,
    /// Resident memory of the server with nothing registered.
    empty_bytes: Option<u64>,
    // After the process in drop order: the folder goes last.
    _scratch: Option<Scratch>,
}

pub(super) fn run(load: &Load, size: Size) -> Result<(), Failure> {
    let clock = SystemClock::start();
    let (mut side, target, peers, size) = match (&load.server, &load.http, &load.identities) {
        (Some(server), Some(http), Some(folder)) => {
            let asked = (load.sensors, (load.gateways > 0).then_some(load.gateways));
            // Who asks for one kind gets that kind.
            let asked = match asked {
                (None, None) => (None, None),
                (sensors, gateways) => (Some(sensors.unwrap_or(0)), Some(gateways.unwrap_or(0))),
            };
            let (peers, size) = identities::read(folder, asked.0, asked.1)?;
            say(&needs::check(size, false)?);
            cores::pin(&load.cores)?;
            let token = token_for(http, load.token_file.as_deref())?;
            let side = Side {
                process: None,
                meter: Meter::new(http, token.as_deref(), clock),
                empty_bytes: None,
                _scratch: None,
            };
            (side, target(load, *server, clock), peers, size)
        }
        _ => {
            say(&needs::check(size, true)?);
            let (side, peers) = own_server(load, size, clock)?;
            let server = side.process.as_ref().map(|process| process.ingest);
            let server = server.ok_or_else(|| Failure::failed("the server did not start"))?;
            cores::pin(load.cores.get(1..).unwrap_or_default())?;
            (side, target(load, server, clock), peers, size)
        }
    };
    let peers = peers.into_iter().map(|enlisted| enlisted.peer).collect();
    let crew = Crew::start(load.threads, &target, peers)?;
    let mut report = Report::new(load, size);
    let mut work = Work { load, size, side: &mut side, crew: &crew, clock };
    work.first_connections(&mut report)?;
    if !load.duration.is_zero() {
        work.beats(&mut report)?;
    }
    if load.reconnect {
        work.storm(&mut report)?;
    }
    work.totals(&mut report)?;
    crew.disconnect()?;
    drop(crew);
    drop(side);
    report.print(load.json);
    if report.complete() { Ok(()) } else { Err(Failure::failed(report.what_is_missing())) }
}

fn target(load: &Load, server: std::net::SocketAddr, clock: SystemClock) -> LoadTarget {
    let server_name = load.server_name.clone();
    LoadTarget { server, server_name, clock, handshakes_at_once: load.handshakes }
}

/// Registers, issues, starts.
fn own_server(load: &Load, size: Size, clock: SystemClock) -> Result<(Side, Vec<Enlisted>), Failure> {
    let (scratch, data_dir): (Option<Scratch>, PathBuf) = match &load.data_dir {
        Some(folder) => (None, folder.clone()),
        None => {
            let scratch = Scratch::new()?;
            let path = scratch.path().join("data");
            (Some(scratch), path)
        }
    };
    let core = load.cores.first().copied();
    // A folder that is new shows what a server takes with nothing in it.
    let empty_bytes = if scratch.is_some() {
        let empty = ServerProcess::start(&data_dir, load.interval, &load.set, core)?;
        Some(rested(&Meter::new(&empty.http, None, clock))?.resident_bytes)
    } else {
        None
    };
    let mut data = DataDir::open(&data_dir, Arc::new(clock)).map_err(Failure::failed)?;
    let peers = enlist(&mut data, size, clock)?;
    drop(data);
    let process = ServerProcess::start(&data_dir, load.interval, &load.set, core)?;
    let meter = Meter::new(&process.http, None, clock);
    Ok((Side { process: Some(process), meter, empty_bytes, _scratch: scratch }, peers))
}

/// A reading of a server that has finished starting.
fn rested(meter: &Meter) -> Result<Reading, Failure> {
    std::thread::sleep(REST);
    meter.read()
}

/// CPU time of this process, in microseconds.
fn own_cpu_us() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 * 1e6 + used.tv_nsec as f64 / 1e3
}

struct Work<'a> {
    load: &'a Load,
    size: Size,
    side: &'a mut Side,
    crew: &'a Crew,
    clock: SystemClock,
}

impl Work<'_> {
    fn alive(&mut self) -> Result<(), Failure> {
        self.side.process.as_mut().map_or(Ok(()), ServerProcess::check)
    }

    fn first_connections(&mut self, report: &mut Report) -> Result<(), Failure> {
        let before = rested(&self.side.meter)?;
        say(&format!("connecting {}", self.size.connections()));
        report.handshakes = Some(self.connect(&before)?);
        let after = rested(&self.side.meter)?;
        let connections = after.connected().saturating_sub(before.connected());
        report.start = Some(before.clone());
        report.memory = Memory {
            empty_bytes: self.side.empty_bytes,
            registered: self.size.registered(),
            before_bytes: before.resident_bytes,
            connected_bytes: after.resident_bytes,
            connections,
            active_bytes: None,
        };
        Ok(())
    }

    /// Connects all and measures it.
    fn connect(&mut self, before: &Reading) -> Result<Handshakes, Failure> {
        let counts = &self.crew.counts;
        let full = counts.full_handshakes.load(Ordering::Relaxed);
        let failed = counts.failed.load(Ordering::Relaxed);
        let cpu = own_cpu_us();
        let connected = self.crew.connect()?;
        let own_cpu_us = own_cpu_us() - cpu;
        let wanted = before.connected() + connected.up as u64;
        let after = self.side.meter.wait(SETTLE, |reading| reading.connected() >= wanted)?;
        self.alive()?;
        if connected.up < self.size.connections() {
            let reason = connected.last_error.as_deref().unwrap_or("unknown");
            return Err(Failure::failed(format!(
                "{} of {} connections came up; the last failure: {reason}",
                connected.up,
                self.size.connections()
            )));
        }
        let between = Between { from: before, to: &after };
        let made = between.count("handshakes");
        Ok(Handshakes {
            made,
            full: self.crew.counts.full_handshakes.load(Ordering::Relaxed) - full,
            failed: self.crew.counts.failed.load(Ordering::Relaxed) - failed,
            seconds: connected.took.as_secs_f64(),
            server_cpu_us: between.cpu_us_per(made),
            client_cpu_us: (made > 0).then(|| own_cpu_us / made as f64),
        })
    }

    fn beats(&mut self, report: &mut Report) -> Result<(), Failure> {
        let load = self.load;
        let gateways = match load.rate {
            Rate::Most => GatewayRate::Most,
            Rate::PerSecond(rate) => GatewayRate::PerGateway(rate / self.size.gateways.max(1) as f64),
        };
        let (counts, meter) = (&self.crew.counts, &self.side.meter);
        let pause = |length: Duration| std::thread::sleep(length);
        let measured = || {
            pause(load.warm_up);
            let (from, cpu) = (meter.read()?, own_cpu_us());
            let sent = counts.sent.load(Ordering::Relaxed);
            counts.measuring.store(true, Ordering::Relaxed);
            pause(load.duration);
            counts.measuring.store(false, Ordering::Relaxed);
            let sent = counts.sent.load(Ordering::Relaxed) - sent;
            let own = own_cpu_us() - cpu;
            Ok((from, meter.read()?, own, sent))
        };
        say(&format!("beating for {:?} after {:?}", load.duration, load.warm_up));
        let ((from, to, client_cpu_us, sent), beaten) =
            self.crew.while_beating(load.interval, gateways, measured)?;
        self.alive()?;
        let between = Between { from: &from, to: &to };
        report.beats = Some(Beats::new(between, sent, client_cpu_us, beaten));
        report.memory.active_bytes = Some(to.resident_bytes);
        Ok(())
    }

    fn storm(&mut self, report: &mut Report) -> Result<(), Failure> {
        say(if self.load.resume { "reconnecting with tickets" } else { "reconnecting" });
        let gone = self.size.connections() as u64;
        let before = self.side.meter.read()?;
        self.crew.disconnect()?;
        if !self.load.resume {
            self.crew.forget_tickets()?;
        }
        let target = before.connected().saturating_sub(gone);
        self.side.meter.wait(SETTLE, |reading| reading.connected() <= target)?;
        let before = rested(&self.side.meter)?;
        report.storm = Some(self.connect(&before)?);
        // Every sensor is heard again.
        self.crew.beat_once(self.load.interval)?;
        Ok(())
    }

    /// Waits for the last frames and sets what was sent beside what was received.
    fn totals(&mut self, report: &mut Report) -> Result<(), Failure> {
        let sent = self.crew.counts.sent.load(Ordering::Relaxed);
        let start = report.start.as_ref().map_or(0, |start| start.count("frames"));
        let mut last = (u64::MAX, self.clock.mono());
        let clock = self.clock;
        let quiet = |reading: &Reading| {
            let frames = reading.count("frames");
            if frames != last.0 {
                last = (frames, clock.mono());
            }
            // Whatever did not come within a second was lost.
            frames.saturating_sub(start) >= sent || clock.mono().since(last.1) > Duration::from_secs(1)
        };
        let end = self.side.meter.wait(SETTLE, quiet)?;
        self.alive()?;
        report.sent = sent;
        report.not_sent = self.crew.counts.not_sent.load(Ordering::Relaxed);
        report.received = end.count("frames").saturating_sub(start);
        report.end = Some(end);
        Ok(())
    }
}
