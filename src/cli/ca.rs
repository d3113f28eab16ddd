//! `fleetpulse ca`: certificates and the register on a data directory that no server uses just now; what touches the
//! authority's files alone also works beside one.

mod rotate;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Failure;
use super::sensor_kind::SensorKind;
use super::settings::Settings;
use crate::config::duration;
use crate::fleet::{Actor, Command, Register};
use crate::identity::{ClientIdentity, PeerIdentity, Revocations, Revoked, Serial, file_name};
use crate::server::data::DataDir;
use crate::server::enlist::Enlistment;
use crate::server::enrolment::credential;
use crate::time::{Clock, SystemClock};
use crate::wire::id::{GatewayId, SensorId};

/// Flags of `ca`.
#[derive(Args)]
pub struct Ca {
    #[command(flatten)]
    settings: Settings,
    /// Print one JSON object a line instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make the authority if it is not there, and print where its trust bundle is
    Init,
    /// Register a sensor and issue its key and certificate
    AddSensor {
        /// What people call it; one of a kind in its site
        name: String,
        /// Site; made if it does not exist
        #[arg(long, default_value = "Main site")]
        site: String,
        /// Zone in the site; made if it does not exist
        #[arg(long, default_value = "Default")]
        zone: String,
        /// Type
        #[arg(long = "type", value_enum, default_value = "ot-cloud")]
        kind: SensorKind,
        #[command(flatten)]
        issue: Issuing,
    },
    /// Register a gateway and issue its key and certificate
    AddGateway {
        /// What people call it
        name: String,
        /// A site that it may speak for; may be repeated; made if it does not exist
        #[arg(long, required = true)]
        site: Vec<String>,
        #[command(flatten)]
        issue: Issuing,
    },
    /// Issue another key and certificate to a registered sensor or gateway
    Issue {
        /// Its id
        id: String,
        #[command(flatten)]
        issue: Issuing,
    },
    /// Move a sensor to another zone, and so maybe to another site
    Move {
        /// Its id
        id: String,
        /// Site; made if it does not exist
        #[arg(long)]
        site: String,
        /// Zone in the site; made if it does not exist
        #[arg(long, default_value = "Default")]
        zone: String,
    },
    /// Delete a sensor or gateway; its certificates are good for nothing any more
    Delete {
        /// Its id
        id: String,
    },
    /// Revoke certificates; a running server takes note at its next reload (SIGHUP) or start
    Revoke {
        /// Serial numbers as `ca` printed them
        #[arg(required = true)]
        serial: Vec<String>,
    },
    /// Make another intermediate, signed by the root, whose key must be here; certificates of the one before stay good
    RotateIntermediate,
    /// Replace the root, in three steps, while the fleet stays connected
    RotateRoot {
        #[command(subcommand)]
        step: rotate::RootStep,
    },
    /// Show the roots, who signs, and how far a rotation is
    Status,
    /// List what is registered
    List,
}

#[derive(Args)]
struct Issuing {
    /// Folder for certificate.pem, key.pem and trust.pem; default: named after the sensor, here
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// How long the certificate is good
    #[arg(long, default_value = "90d", value_parser = duration::parse)]
    life: Duration,
}

impl Ca {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.settings.load()?;
        let clock = SystemClock::start();
        // Revoking must work while a server runs, so it touches nothing but the list.
        if let Action::Revoke { serial } = &self.action {
            let serials: Vec<Revoked> = serial
                .iter()
                .map(|text| text.parse().map(|serial: Serial| serial.into()))
                .collect::<Result<_, _>>()
                .map_err(|error: crate::identity::BadSerial| Failure::usage(error))?;
            let revocations = Revocations::open(&config.data_dir).map_err(Failure::failed)?;
            let new = revocations.revoke(&serials, clock.unix()).map_err(Failure::failed)?;
            say(self.json, &format!("{new} newly revoked"), serde_json::json!({ "newly_revoked": new }));
            return Ok(());
        }
        match self.action {
            Action::RotateIntermediate => {
                return rotate::intermediate(&config.data_dir, clock.unix(), self.json);
            }
            Action::RotateRoot { step } => {
                return rotate::root(&config.data_dir, step, clock.unix(), self.json);
            }
            Action::Status => return rotate::status(&config.data_dir, self.json),
            _ => {}
        }
        let data = DataDir::open(&config.data_dir, Arc::new(clock)).map_err(Failure::failed)?;
        Work { data, clock, json: self.json }.run(self.action)
    }
}

struct Work {
    data: DataDir,
    clock: SystemClock,
    json: bool,
}

impl Work {
    fn run(mut self, action: Action) -> Result<(), Failure> {
        match action {
            Action::Init => self.say(
                &format!("authority ready; sensors trust {}", self.trust_path().display()),
                serde_json::json!({ "trust_bundle": self.trust_path() }),
            ),
            Action::AddSensor { name, site, zone, kind, issue } => {
                let id = SensorId::fresh();
                let mut plan = Enlistment::new(&self.data.register);
                plan.sensor(id, &name, kind.sensor_type(), &site, &zone);
                self.apply(plan.into_commands())?;
                self.issue(PeerIdentity::Sensor(id), &name, issue)?;
            }
            Action::AddGateway { name, site, issue } => {
                let id = GatewayId::fresh();
                let sites: Vec<&str> = site.iter().map(String::as_str).collect();
                let mut plan = Enlistment::new(&self.data.register);
                plan.gateway(id, &name, &sites);
                self.apply(plan.into_commands())?;
                self.issue(PeerIdentity::Gateway(id), &name, issue)?;
            }
            Action::Issue { id, issue } => {
                let (identity, name) = self.find(&id)?;
                self.issue(identity, &name, issue)?;
            }
            Action::Move { id, site, zone } => {
                let PeerIdentity::Sensor(sensor) = self.find(&id)?.0 else {
                    return Err(Failure::usage("only sensors are moved; give a gateway other sites instead"));
                };
                let mut plan = Enlistment::new(&self.data.register);
                let site = plan.site(&site);
                let zone = plan.zone(site, &zone);
                let mut commands = plan.into_commands();
                commands.push(Command::MoveSensor { id: sensor, zone });
                self.apply(commands)?;
                self.say("moved", serde_json::json!({ "moved": id }));
            }
            Action::Delete { id } => {
                let command = match self.find(&id)?.0 {
                    PeerIdentity::Sensor(id) => Command::DeleteSensor { id },
                    PeerIdentity::Gateway(id) => Command::DeleteGateway { id },
                };
                self.apply(vec![command])?;
                self.say("deleted", serde_json::json!({ "deleted": id }));
            }
            Action::Revoke { .. }
            | Action::RotateIntermediate
            | Action::RotateRoot { .. }
            | Action::Status => {
                unreachable!("done before the data directory was opened")
            }
            Action::List => list(&self.data.register, self.json),
        }
        Ok(())
    }

    fn trust_path(&self) -> PathBuf {
        self.data.path.join("identity").join("trust.pem")
    }

    fn apply(&mut self, commands: Vec<Command>) -> Result<(), Failure> {
        let actor = Actor::command_line("ca");
        self.data.apply(&commands, actor, self.clock.unix()).map(drop).map_err(Failure::failed)
    }

    fn find(&self, text: &str) -> Result<(PeerIdentity, String), Failure> {
        let register: &Register = &self.data.register;
        let sensor = text.parse().ok().and_then(|id: SensorId| register.sensor(id));
        let gateway = text.parse().ok().and_then(|id: GatewayId| register.gateway(id));
        match (sensor, gateway) {
            (Some(sensor), _) => Ok((PeerIdentity::Sensor(sensor.id), sensor.name.to_string())),
            (None, Some(gateway)) => Ok((PeerIdentity::Gateway(gateway.id), gateway.name.to_string())),
            (None, None) => Err(Failure::failed(format!(
                "`{text}` is not registered; `fleetpulse ca list` shows what is"
            ))),
        }
    }

    fn issue(&mut self, identity: PeerIdentity, name: &str, issue: Issuing) -> Result<(), Failure> {
        let folder =
            issue.out.unwrap_or_else(|| PathBuf::from(file_name(name, "identity", char::is_alphanumeric)));
        let made: ClientIdentity =
            self.data.authority.issue(identity, issue.life, self.clock.unix()).map_err(Failure::failed)?;
        let leaf = made.leaf().map_err(Failure::failed)?;
        // Known first, so that it can be taken back; then handed out.
        if let PeerIdentity::Sensor(id) = identity {
            self.apply(vec![Command::RecordCredential { id, credential: credential(&leaf) }])?;
        }
        made.write(&folder).map_err(Failure::failed)?;
        let id = match identity {
            PeerIdentity::Sensor(id) => id.to_string(),
            PeerIdentity::Gateway(id) => id.to_string(),
        };
        self.say(
            &format!("{identity}\n  serial {}\n  files in {}", leaf.serial, folder.display()),
            serde_json::json!({
                "id": id, "identity": identity.to_string(), "serial": leaf.serial.to_string(), "folder": folder,
            }),
        );
        Ok(())
    }

    fn say(&self, text: &str, json: serde_json::Value) {
        say(self.json, text, json);
    }
}

/// Prints what is registered.
pub(super) fn list(register: &Register, as_json: bool) {
    for sensor in register.sensors() {
        let zone = register.zone(sensor.zone).map(|zone| zone.name.to_string()).unwrap_or_default();
        let site = register.site_of(sensor).map(|site| site.name.to_string()).unwrap_or_default();
        say(
            as_json,
            &format!("sensor   {}  {}  {site} / {zone}  {}", sensor.id, sensor.kind.as_str(), sensor.name),
            serde_json::json!({
                "kind": "sensor", "id": sensor.id.to_string(), "name": &*sensor.name, "type": sensor.kind.as_str(),
                "site": site, "zone": zone,
            }),
        );
    }
    for gateway in register.gateways() {
        say(
            as_json,
            &format!("gateway  {}  {} sites  {}", gateway.id, gateway.sites.len(), gateway.name),
            serde_json::json!({
                "kind": "gateway", "id": gateway.id.to_string(), "name": &*gateway.name,
                "sites": gateway.sites.iter().map(|site| site.to_string()).collect::<Vec<_>>(),
            }),
        );
    }
}

fn say(as_json: bool, text: &str, json: serde_json::Value) {
    if as_json { println!("{json}") } else { println!("{text}") }
}
