//! The stage of a run: a server started as `serve` starts one, the scenario's fleet in its register, and
//! the simulated fleet connected to it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::ToSpan;

use super::Failure;
use super::folder::Folder;
use super::script::Script;
use crate::cli::serve::start_failure;
use crate::config::Config;
use crate::fleet::{Actor, Command};
use crate::health::Subject;
use crate::identity::PeerIdentity;
use crate::limits::COMMANDS_PER_BATCH_MAX;
use crate::live::{Lifecycle, SensorType};
use crate::sensor::sim::{
    Fleet, FleetConfig, OLD_VERSION, Plan, PlannedSensor, SETTINGS_GENERATION, SensorKind, Standing, VERSION,
};
use crate::server::Server;
use crate::server::enlist::Enlistment;
use crate::time::{Clock, MonoNanos, UnixMillis};

/// The zone of every simulated sensor.
const ZONE: &str = "Default";
/// The version table in the data directory.
const VERSIONS_FILE: &str = "demo-versions.toml";

/// The configuration of a demonstration's server.
pub fn config(
    script: &Script,
    folder: &Folder,
    listen: SocketAddr,
    http: SocketAddr,
    today: UnixMillis,
) -> Config {
    let mut config = Config { data_dir: folder.path().to_owned(), ..Config::default() };
    config.ingest.listen = listen;
    config.ingest.enrol_listen = SocketAddr::new(listen.ip(), 0);
    config.ingest.interval = script.plan.interval;
    config.http.listen = http;
    config.health.policy = "demo".into();
    config.health.settings_generation = SETTINGS_GENERATION;
    config.health.threat_intel_newest = Some(date(today).to_string());
    config.health.versions_file = Some(folder.path().join(VERSIONS_FILE));
    // Everything that the scenario does is news for a real server and none here.
    config.log.level = "error".into();
    config
}

/// Releases around today, so that a demonstration shows the same in ten years: what healthy sensors run came out
/// lately, and the old version has been out of support for long.
pub fn version_table(today: UnixMillis) -> String {
    let today = date(today);
    let rows = [
        (OLD_VERSION, today.saturating_sub(36.months()), today.saturating_sub(24.months())),
        (VERSION, today.saturating_sub(2.months()), today.saturating_add(12.months())),
    ];
    let row = |(version, released, until): (&str, jiff::civil::Date, jiff::civil::Date)| {
        let until = until.strftime("%Y-%m");
        format!(
            "[[release]]\nversion = \"{version}\"\nreleased = \"{released}\"\nsupported_until = \"{until}\"\n"
        )
    };
    rows.map(row).join("\n")
}

fn date(at: UnixMillis) -> jiff::civil::Date {
    let instant = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    jiff::tz::Offset::UTC.to_datetime(instant).date()
}

/// Starts the server in the folder.
pub fn start_server(config: Config, today: UnixMillis) -> Result<Arc<Server>, Failure> {
    let path = config.data_dir.join(VERSIONS_FILE);
    std::fs::write(&path, version_table(today))
        .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
    Server::start(config).map(Arc::new).map_err(start_failure)
}

/// Puts the fleet into the register; gives the instant before and the names of what messages can be about.
pub fn enlist(server: &Server, plan: &Plan) -> Result<(MonoNanos, HashMap<Subject, String>), Failure> {
    let registered = server.clock().mono();
    for batch in commands(server, plan).chunks(COMMANDS_PER_BATCH_MAX) {
        server.apply(batch, Actor::command_line("demo")).map_err(Failure::failed)?;
    }
    Ok((registered, names(server, plan)))
}

fn commands(server: &Server, plan: &Plan) -> Vec<Command> {
    let register = server.fleet().register();
    let mut enlistment = Enlistment::new(&register);
    for sensor in &plan.sensors {
        let lifecycle = match sensor.standing {
            Standing::Active => Lifecycle::Active,
            Standing::PendingActivation => Lifecycle::PendingActivation,
            Standing::PendingReactivation => Lifecycle::PendingReactivation,
        };
        enlistment.sensor_as(lifecycle, sensor.id, &sensor.name, type_of(sensor), &sensor.site, ZONE);
    }
    for gateway in &plan.gateways {
        let sites: Vec<_> = gateway.sites.iter().map(String::as_str).collect();
        enlistment.gateway(gateway.id, &gateway.name, &sites);
    }
    enlistment.into_commands()
}

fn type_of(sensor: &PlannedSensor) -> SensorType {
    match sensor.kind {
        SensorKind::OtCloud => SensorType::OtCloud,
        SensorKind::EnterpriseIot => SensorType::EnterpriseIot,
    }
}

/// Sensors, gateways and sites as the scenario names them.
fn names(server: &Server, plan: &Plan) -> HashMap<Subject, String> {
    let register = server.fleet().register();
    let mut names = HashMap::new();
    for sensor in &plan.sensors {
        names.insert(Subject::Sensor(sensor.id), sensor.name.clone());
        let site = register.sensor(sensor.id).and_then(|sensor| register.site_of(sensor));
        if let Some(site) = site {
            names.entry(Subject::Site(site.id)).or_insert_with(|| sensor.site.clone());
        }
    }
    names.extend(plan.gateways.iter().map(|gateway| (Subject::Gateway(gateway.id), gateway.name.clone())));
    names
}

/// Starts the simulated fleet; it connects by itself. Inside a tokio runtime.
pub fn start_fleet(server: &Arc<Server>, plan: &Plan) -> Result<Fleet, Failure> {
    let clock = server.clock();
    let authority = Arc::clone(server);
    let issue = move |identity: PeerIdentity, life: Duration| {
        authority.authority().issue(identity, life, clock.unix()).map_err(|error| error.to_string())
    };
    let address = reachable(server.ingest_addr());
    let sensors = plan.sensors.len();
    let config = FleetConfig::new(address.to_string(), "localhost", clock, Arc::new(issue), sensors);
    Fleet::start(plan.clone(), config).map_err(Failure::failed)
}

/// Where a listener on every address of the machine is reached from the machine itself.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        named => named,
    };
    SocketAddr::new(ip, listen.port())
}
