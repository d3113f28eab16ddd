//! The activation file: what a new sensor is told about itself and its server, and the one-time token by which the
//! server knows that it was told. And the response file, by which a sensor that never connects says that it was.
//!
//! Both are signed files ([`super::signed`]): the activation file by the authority, the response by the sensor's own
//! new key. The activation file carries the trust bundle, because its reader may have none. So its signature proves
//! that nothing in it was changed; that it comes from the right server is proven only to a reader who has the bundle,
//! or compares its fingerprint ([`ActivationFile::fingerprints`]), from elsewhere.

use serde::{Deserialize, Serialize};

use super::signed::{self, SignedError, from_base64url, sha256, to_base64url};
use super::trust::TrustBundle;
use crate::limits::ACTIVATION_FILE_BYTES_MAX;
use crate::time::UnixMillis;
use crate::wire::id::SensorId;

const KIND: &str = "activation";
const RESPONSE_KIND: &str = "activation-response";
const VERSION: u32 = 1;

/// What an activation file says.
#[derive(Clone, PartialEq, Eq)]
pub struct ActivationFile {
    /// Who the sensor will be.
    pub sensor: SensorId,
    /// What people call it.
    pub name: String,
    /// Its type: `ot-cloud`, `ot-local` or `enterprise-iot`.
    pub sensor_type: String,
    /// Name of its site.
    pub site: String,
    /// Name of its zone.
    pub zone: String,
    /// Where heartbeats go, as host:port, in the order in which they are tried.
    pub servers: Vec<String>,
    /// Where certificates are asked for, likewise.
    pub enrol: Vec<String>,
    /// The name in the servers' certificates.
    pub server_name: String,
    /// The trust bundle (PEM).
    pub trust: String,
    /// The one-time token.
    pub token: [u8; 32],
    /// When it was made.
    pub issued_at: UnixMillis,
    /// When it is void, unless used before.
    pub expires_at: UnixMillis,
    /// Of several files for this sensor only the one with the highest number is good.
    pub generation: u32,
}

/// Without the token: whoever has it can be the sensor.
impl std::fmt::Debug for ActivationFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ActivationFile").field("sensor", &self.sensor).finish_non_exhaustive()
    }
}

/// What a response file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivationResponse {
    /// Who it is from.
    pub sensor: SensorId,
    /// SHA-256 of the token of its activation file. The token itself stays with the sensor.
    pub token: [u8; 32],
    /// SHA-256 of the sensor's new public key, which signed the file.
    pub key: [u8; 32],
    /// The sensor's clock when it made the file.
    pub clock: UnixMillis,
    /// Version of the program that made it.
    pub agent_version: String,
}

/// Why an activation file, or a response to one, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActivationError {
    /// Forged, edited, or no signed file at all.
    #[error("the file can't be used: {0}")]
    Signed(#[from] SignedError),
    /// A signed file of another kind.
    #[error("this is a signed file, but no {wanted}: it is '{found}'")]
    Kind {
        /// What it should be.
        wanted: &'static str,
        /// What it is.
        found: String,
    },
    /// Made by a newer version.
    #[error("the file is of version {0}, and this program reads version {VERSION}; update it")]
    Version(u32),
    /// Something in it is missing or of the wrong form.
    #[error("the file can't be used: '{field}' is missing or wrong")]
    Field {
        /// Which.
        field: &'static str,
    },
    /// Past its date.
    #[error(
        "the file was good until {until}, and by this host's clock it is {now}; if that is right, download another file, \
         and if not, set the clock (NTP)"
    )]
    Expired {
        /// Its last instant.
        until: String,
        /// What this host's clock says.
        now: String,
    },
}

impl ActivationError {
    /// Its stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            ActivationError::Signed(error) => error.code(),
            ActivationError::Kind { .. } => "not-an-activation-file",
            ActivationError::Version(_) => "activation-version",
            ActivationError::Field { .. } => "activation-field",
            ActivationError::Expired { .. } => "activation-expired",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Document {
    kind: String,
    version: u32,
    sensor: SensorDocument,
    servers: Vec<String>,
    enrol: Vec<String>,
    server_name: String,
    trust: String,
    token: String,
    issued_at: String,
    expires_at: String,
    generation: u32,
}

#[derive(Serialize, Deserialize)]
struct SensorDocument {
    id: String,
    name: String,
    r#type: String,
    site: String,
    zone: String,
}

#[derive(Serialize, Deserialize)]
struct ResponseDocument {
    kind: String,
    version: u32,
    sensor: String,
    token_sha256: String,
    clock: String,
    agent_version: String,
}

#[derive(Deserialize)]
struct AnyDocument {
    kind: String,
    version: u32,
}

/// Reads a document of one kind; says what it is when it is another.
fn document<'a, T: Deserialize<'a>>(
    payload: &'a [u8],
    media_type: &str,
    wanted: (&'static str, &'static str),
) -> Result<T, ActivationError> {
    let (kind, called) = wanted;
    let any: AnyDocument = serde_json::from_slice(payload).map_err(|_| {
        let found: String = media_type.chars().filter(|c| !c.is_control()).take(100).collect();
        ActivationError::Kind { wanted: called, found }
    })?;
    if any.kind != kind {
        let found = any.kind.chars().filter(|c| !c.is_control()).take(100).collect();
        return Err(ActivationError::Kind { wanted: called, found });
    }
    if any.version != VERSION {
        return Err(ActivationError::Version(any.version));
    }
    serde_json::from_slice(payload).map_err(|_| ActivationError::Field { field: "payload" })
}

fn written(at: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(at.0).map(|at| format!("{at:.3}")).unwrap_or_default()
}

fn time(text: &str, field: &'static str) -> Result<UnixMillis, ActivationError> {
    let at: jiff::Timestamp = text.parse().map_err(|_| ActivationError::Field { field })?;
    Ok(UnixMillis(at.as_millisecond()))
}

fn bytes32(text: &str, field: &'static str) -> Result<[u8; 32], ActivationError> {
    let bytes = from_base64url(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.ok_or(ActivationError::Field { field })
}

fn bounded(bytes: &[u8]) -> Result<(), ActivationError> {
    let long = bytes.len() > ACTIVATION_FILE_BYTES_MAX;
    if long { Err(SignedError::TooLong(bytes.len()).into()) } else { Ok(()) }
}

/// The trust bundle that an activation file brings along. Nothing of it is proven.
pub fn read_trust(bytes: &[u8]) -> Result<TrustBundle, ActivationError> {
    bounded(bytes)?;
    let parts = signed::take_apart(bytes)?;
    let found: Document = document(&parts.payload, &parts.header.cty, (KIND, "activation file"))?;
    TrustBundle::from_pem(&found.trust).map_err(|_| ActivationError::Field { field: "trust" })
}

impl ActivationFile {
    /// Its media type.
    pub const MEDIA_TYPE: &str = "application/vnd.fleetpulse.activation+json";

    /// The content, to be signed.
    pub fn payload(&self) -> Vec<u8> {
        let document = Document {
            kind: KIND.to_owned(),
            version: VERSION,
            sensor: SensorDocument {
                id: self.sensor.to_string(),
                name: self.name.clone(),
                r#type: self.sensor_type.clone(),
                site: self.site.clone(),
                zone: self.zone.clone(),
            },
            servers: self.servers.clone(),
            enrol: self.enrol.clone(),
            server_name: self.server_name.clone(),
            trust: self.trust.clone(),
            token: to_base64url(&self.token),
            issued_at: written(self.issued_at),
            expires_at: written(self.expires_at),
            generation: self.generation,
        };
        serde_json::to_vec(&document).expect("texts and numbers")
    }

    /// Reads a file and checks it: signed by an authority of `trust` (without one: of the bundle in the file),
    /// unchanged, an activation file, in date.
    pub fn read(
        bytes: &[u8],
        trust: Option<&TrustBundle>,
        now: UnixMillis,
    ) -> Result<ActivationFile, ActivationError> {
        bounded(bytes)?;
        let brought;
        let trust = match trust {
            Some(trust) => trust,
            None => {
                brought = read_trust(bytes)?;
                &brought
            }
        };
        let signed = signed::verify(bytes, trust, now)?;
        let found: Document = document(&signed.payload, &signed.media_type, (KIND, "activation file"))?;
        let file = ActivationFile {
            sensor: found.sensor.id.parse().map_err(|_| ActivationError::Field { field: "sensor.id" })?,
            token: bytes32(&found.token, "token")?,
            issued_at: time(&found.issued_at, "issued_at")?,
            expires_at: time(&found.expires_at, "expires_at")?,
            name: found.sensor.name,
            sensor_type: found.sensor.r#type,
            site: found.sensor.site,
            zone: found.sensor.zone,
            servers: found.servers,
            enrol: found.enrol,
            server_name: found.server_name,
            trust: found.trust,
            generation: found.generation,
        };
        TrustBundle::from_pem(&file.trust).map_err(|_| ActivationError::Field { field: "trust" })?;
        if file.expires_at < now {
            return Err(ActivationError::Expired { until: written(file.expires_at), now: written(now) });
        }
        Ok(file)
    }

    /// Fingerprints of the roots that it brings along (SHA-256, hexadecimal), for people to compare.
    pub fn fingerprints(&self) -> Vec<String> {
        let roots = TrustBundle::from_pem(&self.trust).map(|bundle| bundle.roots).unwrap_or_default();
        roots.iter().map(|root| sha256(root).iter().map(|byte| format!("{byte:02x}")).collect()).collect()
    }
}

impl ActivationResponse {
    /// Its media type.
    pub const MEDIA_TYPE: &str = "application/vnd.fleetpulse.activation-response+json";

    /// The content, to be signed with the sensor's key.
    #[cfg(any(feature = "server", feature = "sensor"))]
    pub fn payload(file: &ActivationFile, clock: UnixMillis) -> Vec<u8> {
        let document = ResponseDocument {
            kind: RESPONSE_KIND.to_owned(),
            version: VERSION,
            sensor: file.sensor.to_string(),
            token_sha256: to_base64url(&sha256(&file.token)),
            clock: written(clock),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        serde_json::to_vec(&document).expect("texts and numbers")
    }

    /// Reads a response: unchanged since it was signed with the key in it. Whose key that is, the token's hash says.
    pub fn read(bytes: &[u8]) -> Result<ActivationResponse, ActivationError> {
        bounded(bytes)?;
        let signed = signed::verify_self_signed(bytes)?;
        let found: ResponseDocument =
            document(&signed.payload, &signed.media_type, (RESPONSE_KIND, "response to an activation file"))?;
        if found.agent_version.len() > crate::limits::ENROL_VERSION_BYTES_MAX {
            return Err(ActivationError::Field { field: "agent_version" });
        }
        Ok(ActivationResponse {
            sensor: found.sensor.parse().map_err(|_| ActivationError::Field { field: "sensor" })?,
            token: bytes32(&found.token_sha256, "token_sha256")?,
            key: signed.key,
            clock: time(&found.clock, "clock")?,
            agent_version: found.agent_version,
        })
    }
}
