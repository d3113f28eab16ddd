//! A simulated fleet on a server: registered, connected, and playing a scenario until it is dropped.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use fleetpulse::fleet::{Actor, Command};
use fleetpulse::live::{Lifecycle, SensorType};
use fleetpulse::sensor::sim::{Fleet, FleetConfig, Plan, Scenario, SensorKind, Standing};
use fleetpulse::server::Server;
use fleetpulse::server::enlist::Enlistment;
use tokio::sync::oneshot;

use crate::scenario::small;

/// A site of another type, and faults that last until the fleet is dropped.
const LASTING: &str = "
    [[site]]
    name = 'office'
    type = 'enterprise-iot'
    sensors = 2
    [[fault]]
    kind = 'silence'
    site = 'north'
    sensors = '1'
    from_s = 1
    [[fault]]
    kind = 'disk_full'
    site = 'north'
    sensors = '2-4'
    from_s = 1
    [[fault]]
    kind = 'self_test_failed'
    site = 'north'
    sensors = '4'
    from_s = 1
    [[fault]]
    kind = 'gateway_silent'
    gateway = 'relay'
    from_s = 1
";

/// A scenario of faults that last: these, and more.
pub fn lasting(more: &str) -> String {
    small("faults that last", 600, &[LASTING, more])
}

/// A fleet that reports.
pub struct Running {
    pub plan: Plan,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Registers and connects the sensors of a scenario; returns when all are connected.
    pub fn start(server: &Arc<Server>, scenario: &str) -> Running {
        let plan = Plan::new(&Scenario::parse(scenario).unwrap(), None).unwrap();
        server.apply(&commands(server, &plan), Actor::command_line("test")).unwrap();
        let issue = {
            let (server, clock) = (Arc::clone(server), server.clock());
            move |identity, life| {
                let now = fleetpulse::time::Clock::unix(&clock);
                server.authority().issue(identity, life, now).map_err(|error| error.to_string())
            }
        };
        let config = FleetConfig::new(
            server.ingest_addr().to_string(),
            "localhost",
            server.clock(),
            Arc::new(issue),
            plan.sensors.len(),
        );
        let (stop, stopped) = oneshot::channel();
        let (ready, connected) = std::sync::mpsc::sync_channel(1);
        let playing = plan.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let mut fleet = Fleet::start(playing, config).unwrap();
                let count = fleet.connected(Duration::from_secs(60)).await;
                ready.send((count, fleet.stats().wanted)).unwrap();
                tokio::select! {
                    played = fleet.play(|_, _| ()) => played.unwrap(),
                    _ = stopped => {}
                }
                fleet.stop().await;
            });
        });
        let (connected, wanted) = connected.recv().unwrap();
        assert_eq!(connected, wanted);
        Running { plan, stop: Some(stop), thread: Some(thread) }
    }

    /// The id of a planned sensor, as text.
    pub fn sensor(&self, name: &str) -> String {
        let found = self.plan.sensors.iter().find(|sensor| sensor.name == name);
        found.unwrap_or_else(|| panic!("{name} of {:?}", self.plan.sensors)).id.to_string()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the fleet failed");
    }
}

fn commands(server: &Server, plan: &Plan) -> Vec<Command> {
    let register = server.fleet().register();
    let mut enlistment = Enlistment::new(&register);
    for sensor in &plan.sensors {
        let kind = match sensor.kind {
            SensorKind::OtCloud => SensorType::OtCloud,
            SensorKind::EnterpriseIot => SensorType::EnterpriseIot,
        };
        let lifecycle = match sensor.standing {
            Standing::Active => Lifecycle::Active,
            Standing::PendingActivation => Lifecycle::PendingActivation,
            Standing::PendingReactivation => Lifecycle::PendingReactivation,
        };
        enlistment.sensor_as(lifecycle, sensor.id, &sensor.name, kind, &sensor.site, "line 1");
    }
    for gateway in &plan.gateways {
        let sites: Vec<&str> = gateway.sites.iter().map(String::as_str).collect();
        enlistment.gateway(gateway.id, &gateway.name, &sites);
    }
    enlistment.into_commands()
}
