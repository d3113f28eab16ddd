//! Activation files: made for sensors that wait for activation, and the responses of those that never connect.

use std::sync::Arc;
use std::time::Duration;

use super::current::CurrentAuthority;
use super::fleet::{CommandError, FleetService};
use crate::fleet::{Activation, Actor, Batch, Change, Command, Register, Sensor, TokenHash};
use crate::identity::{
    ActivationError, ActivationFile, ActivationResponse, AuthorityError, file_name, sha256, to_base64url,
};
use crate::limits::ACTIVATION_LIFE;
use crate::live::SensorType;
use crate::time::UnixMillis;
use crate::wire::id::SensorId;

/// Where sensors find this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Main port, as host:port.
    pub servers: Vec<String>,
    /// Enrolment port, likewise.
    pub enrol: Vec<String>,
    /// The name in the server's certificate.
    pub server_name: String,
}

impl Endpoints {
    /// Of a server whose certificate has these names, on these ports. A name with a wildcard is no address.
    pub fn new(names: &[String], port: u16, enrol_port: u16) -> Endpoints {
        let hosts: Vec<&String> = names.iter().filter(|name| !name.contains('*')).collect();
        let at = |port: u16| {
            let address = |name: &&String| {
                if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") }
            };
            hosts.iter().map(address).collect()
        };
        let server_name = hosts.first().map(|name| (*name).clone()).unwrap_or_default();
        Endpoints { servers: at(port), enrol: at(enrol_port), server_name }
    }
}

/// An activation file, ready to be handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedFile {
    /// For whom.
    pub sensor: SensorId,
    /// A name for it, safe on any disk.
    pub name: String,
    /// The signed file.
    pub bytes: Vec<u8>,
    /// When it is void, unless used before.
    pub expires_at: UnixMillis,
    /// Which of the sensor's files it is; those before are void.
    pub generation: u32,
}

impl IssuedFile {
    /// One line to paste on the sensor's host, with the whole file in it.
    pub fn command(&self) -> String {
        // Through a pipe: what stands behind a program's name is shown to everybody on the host as long as it runs.
        format!("printf %s {} | fleetpulse agent activate --inline", to_base64url(&self.bytes))
    }
}

/// Why there is no activation file, or a response is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The register or the store.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The file could not be signed. Those before are void already; make another one.
    #[error("the activation file could not be signed: {0}")]
    Signing(#[from] AuthorityError),
    /// The response can't be used.
    #[error(transparent)]
    Response(#[from] ActivationError),
    /// A response of a sensor that connects.
    #[error(
        "the sensor is {0}, and enrols over the network: run `fleetpulse agent activate` without --offline"
    )]
    Connects(&'static str),
    /// No such sensor.
    #[error("the response is of sensor {0}, which is not in the register; was it made for another server?")]
    UnknownSensor(SensorId),
    /// What had to hold did not; who asked knows what.
    #[error("what had to hold did not")]
    Expected,
    /// The sensor's clock is ahead of ours, or behind its file.
    #[error(
        "the response is dated later than now, or before its activation file was made; set the clock of the sensor's \
         host, and make it again"
    )]
    ClockDrift,
}

impl IssueError {
    /// Its stable code.
    pub fn code(&self) -> &'static str {
        match self {
            IssueError::Command(CommandError::Refused(refusal)) => refusal.code.as_str(),
            IssueError::Command(_) => "store-unavailable",
            IssueError::Signing(_) => "signing-failed",
            IssueError::Response(error) => error.code(),
            IssueError::Connects(_) => "wrong-mode",
            IssueError::UnknownSensor(_) => "unknown-sensor",
            IssueError::Expected => "expected",
            IssueError::ClockDrift => "clock-drift",
        }
    }
}

/// Makes activation files and takes responses.
pub struct Activations {
    fleet: Arc<FleetService>,
    authority: Arc<CurrentAuthority>,
    endpoints: Endpoints,
    drift_max: Duration,
}

impl Activations {
    /// Over this register and authority, for sensors that find the server there.
    pub fn new(
        fleet: Arc<FleetService>,
        authority: Arc<CurrentAuthority>,
        endpoints: Endpoints,
        drift_max: Duration,
    ) -> Activations {
        Activations { fleet, authority, endpoints, drift_max }
    }

    /// Where sensors find the server.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Makes a file for a sensor that waits for activation. Files made before are void from then on.
    pub fn issue(&self, sensor: SensorId, actor: Actor, now: UnixMillis) -> Result<IssuedFile, IssueError> {
        let issued = self.issue_after(Vec::new(), &[sensor], actor, now)?;
        issued.into_iter().next().ok_or(IssueError::UnknownSensor(sensor))
    }

    /// Does `first` (adding the sensors, say) and makes a file for each of `sensors`: all of it in one durable batch,
    /// or nothing.
    pub fn issue_after(
        &self,
        first: Vec<Command>,
        sensors: &[SensorId],
        actor: Actor,
        now: UnixMillis,
    ) -> Result<Vec<IssuedFile>, IssueError> {
        self.issue_if(|_| Ok(()), first, sensors, actor, now)
    }

    /// As [`Activations::issue_after`], if `still` holds when it is done.
    pub fn issue_if(
        &self,
        still: impl FnOnce(&Register) -> Result<(), IssueError>,
        first: Vec<Command>,
        sensors: &[SensorId],
        actor: Actor,
        now: UnixMillis,
    ) -> Result<Vec<IssuedFile>, IssueError> {
        let expires_at = now.plus(ACTIVATION_LIFE);
        // 256 bits of the system's randomness: a token is not guessed.
        let tokens: Vec<(SensorId, [u8; 32])> =
            sensors.iter().map(|&sensor| (sensor, rand::random())).collect();
        let mut commands = first;
        commands.extend(tokens.iter().map(|(id, token)| Command::IssueActivation {
            id: *id,
            token: TokenHash(sha256(token)),
            expires_at,
        }));
        let batch = self.fleet.apply_if(still, &commands, actor, now)?;
        tokens
            .iter()
            .filter_map(|(id, token)| Some((issued(&batch, *id)?, token)))
            .map(|(sensor, token)| self.file(sensor, *token, now, expires_at))
            .collect()
    }

    fn file(
        &self,
        sensor: &Sensor,
        token: [u8; 32],
        now: UnixMillis,
        expires_at: UnixMillis,
    ) -> Result<IssuedFile, IssueError> {
        let (zone, site) = {
            let register = self.fleet.register();
            let zone = register.zone(sensor.zone).map(|zone| zone.name.to_string());
            (
                zone.unwrap_or_default(),
                register.site_of(sensor).map(|site| site.name.to_string()).unwrap_or_default(),
            )
        };
        let generation = sensor.more.activation.as_ref().map_or(1, |activation| activation.generation);
        let authority = self.authority.get();
        let file = ActivationFile {
            sensor: sensor.id,
            name: sensor.name.to_string(),
            sensor_type: sensor.kind.as_str().to_owned(),
            site,
            zone,
            servers: self.endpoints.servers.clone(),
            enrol: self.endpoints.enrol.clone(),
            server_name: self.endpoints.server_name.clone(),
            trust: authority.trust_pem().to_owned(),
            token,
            issued_at: now,
            expires_at,
            generation,
        };
        let name = format!("{}-activation.json", name_in_headers(&sensor.name));
        let bytes = authority.sign_file(&name, ActivationFile::MEDIA_TYPE, &file.payload(), now)?;
        Ok(IssuedFile { sensor: sensor.id, name, bytes, expires_at, generation })
    }

    /// Takes the response file of a sensor that never connects, which becomes active by it.
    pub fn accept_response(
        &self,
        bytes: &[u8],
        actor: Actor,
        now: UnixMillis,
    ) -> Result<SensorId, IssueError> {
        let response = ActivationResponse::read(bytes)?;
        self.accept_if(|_| Ok(()), &response, actor, now)?;
        Ok(response.sensor)
    }

    /// Takes a response that was read, if `still` holds when it is done.
    pub fn accept_if(
        &self,
        still: impl FnOnce(&Register) -> Result<(), IssueError>,
        response: &ActivationResponse,
        actor: Actor,
        now: UnixMillis,
    ) -> Result<(), IssueError> {
        let acceptable = |register: &Register| {
            still(register)?;
            let unknown = IssueError::UnknownSensor(response.sensor);
            let sensor = register.sensor(response.sensor).ok_or(unknown)?;
            if sensor.kind != SensorType::OtLocal {
                return Err(IssueError::Connects(sensor.kind.as_str()));
            }
            let file = sensor.more.activation.as_ref().filter(|file| file.token.0 == response.token);
            let behind = |file: &Activation| response.clock < file.issued_at.minus(self.drift_max);
            if response.clock > now.plus(self.drift_max) || file.is_some_and(behind) {
                return Err(IssueError::ClockDrift);
            }
            Ok(())
        };
        let command = Command::Activate {
            id: response.sensor,
            token: TokenHash(response.token),
            key: response.key,
            credential: None,
            from: actor.from.clone(),
        };
        self.fleet.apply_if(acceptable, &[command], actor, now).map(drop)
    }
}

/// The sensor as a batch left it.
fn issued(batch: &Batch, id: SensorId) -> Option<&Sensor> {
    let after = batch.changes.iter().rev().filter_map(|change| match change {
        Change::Sensor(edit) => edit.after.as_ref(),
        _ => None,
    });
    let mut of_it = after.filter(|sensor| sensor.id == id);
    of_it.next()
}

/// A sensor's name as that of a file, which HTTP headers carry too.
fn name_in_headers(name: &str) -> String {
    file_name(name, "sensor", |c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_addresses_of_all_names_but_wildcards() {
        let names = ["fleet.example", "*.fleet.example", "192.0.2.1", "2001:db8::1"].map(str::to_owned);
        let endpoints = Endpoints::new(&names, 4_433, 4_434);
        assert_eq!(endpoints.servers, ["fleet.example:4433", "192.0.2.1:4433", "[2001:db8::1]:4433"]);
        assert_eq!(endpoints.enrol[2], "[2001:db8::1]:4434");
        assert_eq!(endpoints.server_name, "fleet.example");
    }

    #[test]
    fn a_file_is_named_after_its_sensor_and_nothing_else() {
        assert_eq!(name_in_headers("press 4"), "press-4");
        assert_eq!(name_in_headers("../../etc/passwd"), "------etc-passwd");
        assert_eq!(name_in_headers("プレス"), "sensor");
    }
}
