//! `fleetpulse agent activate`: from an activation file to a sensor that can start.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::cli::paint::clean;
use crate::cli::{Failure, exit, logging, verify};
use crate::config::{Log, LogFormat};
use crate::identity::{
    ActivationError, ActivationFile, ClientIdentity, IdentityFolder, PeerIdentity, TrustBundle, file_name,
    from_base64url,
};
use crate::limits::{ACTIVATION_FILE_BYTES_MAX, CERTIFICATE_BACKDATE};
use crate::sensor::{EnrolFailure, Enrolment, Socket, respond_offline};
use crate::time::{Clock, SystemClock, UnixMillis};

/// The configuration that is written beside the identity.
pub(super) const CONFIG: &str = "agent.toml";
const RESPONSE: &str = "activation-response.json";

/// Flags of `agent activate`.
#[derive(Args)]
#[command(after_help = "\
The key is made here and never leaves this host. Exit code 0: the sensor can start. 3: the server refused; 5: it could \
not be reached; the message says what to do. 65: the file is no activation file, was changed, or is too old. The same \
file can be used again on this host with the same --out, should something have broken off.")]
pub(super) struct Activate {
    /// The activation file; - reads it from standard input
    #[arg(value_name = "FILE", required_unless_present = "inline")]
    file: Option<PathBuf>,
    /// Standard input is the activation file as base64url, as in the command that the server gives to paste
    #[arg(long, conflicts_with = "file")]
    inline: bool,
    /// Folder for key, certificate, trust bundle and agent.toml; default: named after the sensor, here
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Trust bundle that you have from elsewhere: proves that the file is from your server
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Ask nobody: make the key, and a response file for an operator to upload (for sensors of type ot-local)
    #[arg(long)]
    offline: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Activate {
    pub(super) fn run(self) -> Result<(), Failure> {
        logging::start(&Log { level: "warn".to_owned(), format: LogFormat::Text });
        let clock = SystemClock::start();
        let outcome = self.activate(clock);
        match outcome {
            Ok(said) => {
                if self.json {
                    println!("{said}");
                }
                Ok(())
            }
            Err(Refused { code, failure }) => {
                if self.json {
                    println!("{}", serde_json::json!({ "code": code, "detail": failure.message }));
                }
                Err(failure)
            }
        }
    }

    fn activate(&self, clock: SystemClock) -> Result<serde_json::Value, Refused> {
        let bytes = self.bytes()?;
        let trust = self.trust.as_deref().map(TrustBundle::read).transpose().map_err(Failure::failed)?;
        let file = ActivationFile::read(&bytes, trust.as_ref(), clock.unix())?;
        let out = self
            .out
            .clone()
            .unwrap_or_else(|| PathBuf::from(file_name(&file.name, "identity", char::is_alphanumeric)));
        let folder = IdentityFolder::new(std::path::absolute(&out).map_err(Failure::failed)?);
        self.tell(&format!(
            "sensor {:?} ({}), {}, of {:?} / {:?}",
            file.name, file.sensor, file.sensor_type, file.site, file.zone
        ));
        for fingerprint in file.fingerprints() {
            self.tell(&format!("root of the server, SHA-256 {fingerprint}"));
        }
        if self.offline {
            return self.offline(&file, &folder, clock);
        }
        if file.sensor_type == "ot-local" {
            return Err(Refused {
                code: "sensor-type",
                failure: Failure::usage(
                    "this sensor is ot-local and never connects; run again with --offline, and let an operator upload the response",
                ),
            });
        }
        // A configuration that can't be taken over is told before the file is used up.
        let config = config_with(&file, folder.path())?;
        let identity = match made_with(&file, folder.path(), clock.unix()) {
            Some(identity) => {
                self.tell("this folder holds the certificate that the file is good for");
                identity
            }
            None => self.online(&file, &folder, clock)?,
        };
        write(&folder.path().join(CONFIG), &config)?;
        let leaf = identity.leaf().map_err(Failure::failed)?;
        let until = jiff::Timestamp::from_millisecond(leaf.not_after.0).map_err(Failure::failed)?;
        let shown = folder.path().display();
        self.tell(&format!("activated; the certificate is good until {until:.0} and renewed by itself"));
        self.tell(&format!("start it: fleetpulse agent --identity {shown} --interface NAME"));
        Ok(serde_json::json!({
            "sensor": file.sensor.to_string(), "name": file.name, "folder": folder.path(),
            "config": folder.path().join(CONFIG), "serial": leaf.serial.to_string(), "not_after": format!("{until:.3}"),
        }))
    }

    fn online(
        &self,
        file: &ActivationFile,
        folder: &IdentityFolder,
        clock: SystemClock,
    ) -> Result<ClientIdentity, Refused> {
        let enrolment = Enrolment::of_file(file)?;
        self.tell(&format!("asking {} for a certificate", enrolment.servers.join(", ")));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
        runtime.block_on(async {
            let socket =
                Socket::bind().map_err(|error| Failure::failed(format!("no UDP socket: {error}")))?;
            Ok(enrolment.activate(file, folder, &socket, clock).await?)
        })
    }

    fn offline(
        &self,
        file: &ActivationFile,
        folder: &IdentityFolder,
        clock: SystemClock,
    ) -> Result<serde_json::Value, Refused> {
        let response = respond_offline(file, folder, clock.unix()).map_err(Failure::failed)?;
        let path = folder.path().join(RESPONSE);
        write(&path, &response)?;
        self.tell(&format!(
            "carry {} to the server: upload it on the sensor's page or with the API",
            path.display()
        ));
        Ok(serde_json::json!({
            "sensor": file.sensor.to_string(), "name": file.name, "folder": folder.path(), "response": path,
        }))
    }

    fn bytes(&self) -> Result<Vec<u8>, Refused> {
        match self.file.as_deref() {
            Some(path) if path != Path::new("-") => Ok(verify::read(path)?),
            // As base64url it is a third longer.
            _ if self.inline => {
                let text = standard_input(ACTIVATION_FILE_BYTES_MAX * 4 / 3 + 4)?;
                let text = std::str::from_utf8(&text).ok().map(str::trim);
                Ok(text.and_then(from_base64url).ok_or_else(|| {
                    Failure::data("this is not the whole text that the server gave; copy the command again")
                })?)
            }
            _ => Ok(standard_input(ACTIVATION_FILE_BYTES_MAX)?),
        }
    }

    fn tell(&self, line: &str) {
        if !self.json {
            println!("{}", clean(line));
        }
    }
}

/// Standard input, to one byte beyond what it may have.
fn standard_input(most: usize) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(most as u64 + 1).read_to_end(&mut bytes).map_err(Failure::failed)?;
    Ok(bytes)
}

/// A failure with its stable code.
struct Refused {
    code: &'static str,
    failure: Failure,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Refused {
        Refused { code: "failed", failure }
    }
}

impl From<ActivationError> for Refused {
    fn from(error: ActivationError) -> Refused {
        let failure = Failure::data(format!("{error} [{}]", error.code()));
        Refused { code: error.code(), failure }
    }
}

impl From<EnrolFailure> for Refused {
    fn from(error: EnrolFailure) -> Refused {
        let code = match &error {
            EnrolFailure::Refused { .. } => error.refusal().map_or("refused", |refusal| refusal.label()),
            EnrolFailure::Unreachable { .. } => "unreachable",
            EnrolFailure::Answer(_) => "bad-answer",
            EnrolFailure::NoServer => "no-server",
            EnrolFailure::Identity(_) | EnrolFailure::Client(_) => "failed",
        };
        let exit = match &error {
            EnrolFailure::Refused { .. } => exit::REFUSED,
            EnrolFailure::Unreachable { .. } => exit::UNREACHABLE,
            _ => exit::FAILED,
        };
        Refused { code, failure: Failure::of(exit, error) }
    }
}

/// The identity in the folder, when this file made it: it is the sensor's, in date, and younger than the file. Then only
/// what comes after the certificate is left to do.
fn made_with(file: &ActivationFile, folder: &Path, now: UnixMillis) -> Option<ClientIdentity> {
    let identity = ClientIdentity::read(folder).ok().filter(ClientIdentity::key_fits)?;
    let leaf = identity.leaf().ok()?;
    let made = leaf.not_before.plus(CERTIFICATE_BACKDATE);
    // The certificate's date has no milliseconds.
    let younger = made.plus(Duration::from_secs(1)) > file.issued_at;
    (leaf.identity == PeerIdentity::Sensor(file.sensor) && leaf.in_date(now) && younger).then_some(identity)
}

/// What the agent needs to start; what else a configuration from before says stays.
fn config_with(file: &ActivationFile, folder: &Path) -> Result<Vec<u8>, Failure> {
    let path = folder.join(CONFIG);
    let wrong = |error: String| {
        Failure::config(format!("{}: {error}; mend or remove it, and activate again", path.display()))
    };
    let mut table: toml::Table = match std::fs::read_to_string(&path) {
        Ok(text) => text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => toml::Table::new(),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let list = |values: &[String]| toml::Value::from(values.to_vec());
    table.insert("servers".to_owned(), list(&file.servers));
    table.insert("enrol_servers".to_owned(), list(&file.enrol));
    table.insert("server_name".to_owned(), file.server_name.clone().into());
    table.insert("identity_dir".to_owned(), folder.to_string_lossy().into_owned().into());
    Ok(table.to_string().into_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, bytes)
        .map_err(|error| Failure::failed(format!("{}: {error}; give another --out", path.display())))
}
