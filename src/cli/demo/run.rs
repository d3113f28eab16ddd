//! One run from the first certificate to the truth table.
//!
//! The fleet is registered, then it connects, then the script begins. While it plays, one task looks at journal
//! and engine four times a second and shows what it sees. In the end the server stops first: then the
//! journal is complete, and the table is made from all of it.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::Failure;
use super::late::Lateness;
use super::report::Outcome;
use super::screen::Display;
use super::script::Script;
use super::stage;
use super::view::Moment;
use super::watch::Watch;
use crate::sensor::sim::{Fleet, FleetStats};
use crate::server::Server;
use crate::time::{Clock, MonoNanos};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A fleet has this long to connect, and so much more for each of its sensors: ten times what a handshake costs.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
const CONNECT_PATIENCE_EACH: Duration = Duration::from_millis(10);
/// Time for the engine to have heard every sensor, once all are connected.
const HEARD_PATIENCE: Duration = Duration::from_secs(20);
/// The clients have this long to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Told to end: Ctrl-C, SIGTERM, and the end of the terminal that a screen is drawn on.
pub struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Interrupt {
    /// From now on signals are heard here. Inside a tokio runtime.
    pub fn listen(on_screen: bool) -> Result<Interrupt, Failure> {
        let on = |kind| signal(kind).map_err(|e| Failure::failed(format!("cannot watch for signals: {e}")));
        // Without a screen a run may be meant to outlive its terminal (nohup).
        let hangup = if on_screen { Some(on(SignalKind::hangup())?) } else { None };
        Ok(Interrupt {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup,
        })
    }

    /// Waits for the next one.
    pub async fn told(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

/// How a run ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// With its script.
    WithTheScript,
    /// Not at all: it serves until somebody stops it.
    WhenTold,
}

/// One run.
pub struct Run<'r> {
    /// What is played.
    pub script: &'r Script,
    /// Where.
    pub server: Arc<Server>,
    /// How it ends.
    pub ends: Ends,
    /// Where it shows itself.
    pub display: &'r mut Display,
}

impl Run<'_> {
    /// Plays it all. The server is stopped when this returns.
    pub async fn perform(mut self, interrupt: &mut Interrupt) -> Result<Outcome, Failure> {
        let tap = self.server.tap().map_err(Failure::failed)?;
        let watch = RefCell::new(Watch::new(Arc::clone(&self.server), tap));
        let (registered, names) = stage::enlist(&self.server, &self.script.plan)?;
        watch.borrow_mut().registered(registered, names);
        let lateness = Lateness::default();
        let measuring = tokio::spawn(lateness.clone().measure(self.server.clock()));
        let mut fleet = stage::start_fleet(&self.server, &self.script.plan)?;
        let connected = tokio::select! {
            connected = self.connect(&fleet, &watch) => connected,
            () = interrupt.told() => Err(Failure::failed("interrupted before the fleet was connected")),
        };
        if let Err(failure) = connected {
            self.stop(fleet).await;
            return Err(failure);
        }
        watch.borrow_mut().start();
        lateness.forget();
        let interrupted = self.play(&mut fleet, &watch, interrupt).await?;
        let end = self.server.clock().mono();
        for played in fleet.played() {
            watch.borrow_mut().note(*played);
        }
        let latest = lateness.latest();
        measuring.abort();
        let stats = self.stop(fleet).await;
        Ok(watch.into_inner().outcome(self.script, interrupted, end, stats, latest))
    }

    /// Until every sensor is connected and was heard by the engine.
    async fn connect(&mut self, fleet: &Fleet, watch: &RefCell<Watch>) -> Result<(), Failure> {
        let wanted = fleet.stats().wanted;
        let patience = CONNECT_PATIENCE + CONNECT_PATIENCE_EACH * self.script.plan.sensors.len() as u32;
        let mut tick = ticks();
        let connecting = fleet.connected(patience);
        tokio::pin!(connecting);
        let connected = loop {
            tokio::select! {
                connected = &mut connecting => break connected,
                _ = tick.tick() => self.look(watch, Moment::Connecting(wanted)),
            }
        };
        if connected < wanted {
            let seconds = patience.as_secs();
            return Err(Failure::failed(format!(
                "only {connected} of {wanted} connections were up after {seconds} s; take fewer --sensors, \
                 or a machine that is less busy"
            )));
        }
        let last = self.server.clock().mono().plus(HEARD_PATIENCE);
        while !watch.borrow().all_heard() && self.server.clock().mono() < last {
            tick.tick().await;
            self.look(watch, Moment::Connecting(wanted));
        }
        Ok(())
    }

    /// Plays the script and what comes after it; true when somebody ended it before the script was over.
    async fn play(
        &mut self,
        fleet: &mut Fleet,
        watch: &RefCell<Watch>,
        interrupt: &mut Interrupt,
    ) -> Result<bool, Failure> {
        let length = self.script.plan.duration;
        let held = || watch.borrow_mut().held(length);
        let playing = fleet.play_held(held, |_, played| watch.borrow_mut().note(*played));
        tokio::pin!(playing);
        let mut tick = ticks();
        let mut moment = Moment::Playing;
        loop {
            tokio::select! {
                played = &mut playing, if moment == Moment::Playing => {
                    played.map_err(Failure::failed)?;
                    if self.ends == Ends::WithTheScript {
                        return Ok(false);
                    }
                    moment = Moment::Serving;
                    self.display.say("The scenario is over; serving on until Ctrl-C.");
                }
                _ = tick.tick() => self.look(watch, moment),
                () = interrupt.told() => return Ok(moment == Moment::Playing),
            }
        }
    }

    fn look(&mut self, watch: &RefCell<Watch>, moment: Moment) {
        let now: MonoNanos = self.server.clock().mono();
        watch.borrow_mut().look();
        if self.display.is_due(now) {
            let view = watch.borrow().view(self.script, moment);
            self.display.show(&view, now);
        }
    }

    /// The server first, so that nobody is judged for leaving; then the fleet.
    async fn stop(&mut self, fleet: Fleet) -> FleetStats {
        let stats = fleet.stats();
        let server = Arc::clone(&self.server);
        if tokio::task::spawn_blocking(move || server.stop()).await.is_err() {
            tracing::error!("stopping the server panicked");
        }
        if tokio::time::timeout(STOP_PATIENCE, fleet.stop()).await.is_err() {
            tracing::warn!("not all simulated sensors stopped in time; they end with this process");
        }
        stats
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
