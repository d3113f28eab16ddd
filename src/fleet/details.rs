//! What people say of sites, zones and sensors beyond their name and place, and what activation left behind.
//!
//! A sensor's details lie behind one shared pointer: most sensors have little or nothing of them, and a row stays
//! small.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::health::PolicyPatch;
use crate::time::UnixMillis;

/// Health thresholds and heartbeat interval as said at one level: subscription, site, zone or sensor. The nearest
/// level that says a number wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Numbers of the rules.
    pub numbers: PolicyPatch,
    /// Heartbeat interval.
    pub interval: Option<Duration>,
}

impl Overrides {
    /// True when nothing is said.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.interval.is_none()
    }
}

/// Nobody is notified, and nothing is counted as unhealthy; verdicts go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mute {
    /// Until when; `None` = until somebody ends it.
    pub until: Option<UnixMillis>,
    /// Why, for the next person.
    pub reason: Arc<str>,
}

/// A planned time of work with the effect of a mute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its number among those of its place.
    pub id: u32,
    /// First instant.
    pub from: UnixMillis,
    /// First instant after it.
    pub until: UnixMillis,
    /// Why.
    pub reason: Arc<str>,
}

/// When a sensor or site is quiet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quiet {
    /// Muted by hand.
    pub mute: Option<Mute>,
    /// Maintenance windows, in order of their begin.
    pub windows: Vec<Window>,
}

impl Quiet {
    /// True when it never is.
    pub fn is_empty(&self) -> bool {
        self.mute.is_none() && self.windows.is_empty()
    }

    /// Whether it is quiet at this instant.
    pub fn holds(&self, at: UnixMillis) -> bool {
        self.mute.as_ref().is_some_and(|mute| mute.until.is_none_or(|until| at < until))
            || self.windows.iter().any(|window| window.from <= at && at < window.until)
    }

    /// The next instant after `at` at which [`Quiet::holds`] may say something else.
    pub fn next_change(&self, at: UnixMillis) -> Option<UnixMillis> {
        let mute = self.mute.iter().filter_map(|mute| mute.until);
        let windows = self.windows.iter().flat_map(|window| [window.from, window.until]);
        mute.chain(windows).filter(|&edge| edge > at).min()
    }
}

/// What people say of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteAbout {
    /// Key and value.
    pub tags: BTreeMap<Arc<str>, Arc<str>>,
    /// E-mail addresses, in the order given, each once.
    pub owners: Vec<Arc<str>>,
    /// Numbers said for all its sensors.
    pub policy: Overrides,
    /// When it is quiet, and all its sensors with it.
    pub quiet: Quiet,
}

/// How threat intelligence reaches a sensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ThreatIntelMode {
    /// Every new package, by itself.
    #[default]
    Automatic,
    /// When somebody pushes it.
    Manual,
}

impl ThreatIntelMode {
    /// All modes.
    pub const ALL: [ThreatIntelMode; 2] = [ThreatIntelMode::Automatic, ThreatIntelMode::Manual];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            ThreatIntelMode::Automatic => "automatic",
            ThreatIntelMode::Manual => "manual",
        }
    }
}

/// What people say of a sensor, and what activation left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SensorMore {
    /// Free text.
    pub notes: Arc<str>,
    /// How threat intelligence reaches it.
    pub threat_intel: ThreatIntelMode,
    /// Numbers said for it alone.
    pub policy: Overrides,
    /// When it is quiet.
    pub quiet: Quiet,
    /// Its activation file, the newest one.
    pub activation: Option<Activation>,
    /// Certificates that are good for it and did not run out yet, newest last.
    pub credentials: Vec<Credential>,
    /// Enrolments that were refused, newest last.
    pub attempts: Vec<Attempt>,
}

/// SHA-256 of a secret that is handed out once: whoever reads the register can't use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenHash(pub [u8; 32]);

/// An activation file: its token's hash and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Of the token in the file.
    pub token: TokenHash,
    /// Files made for this sensor so far, this one included. Making one voids those before.
    pub generation: u32,
    /// Tokens of files made before, newest last.
    pub voided: Vec<TokenHash>,
    /// When it was made.
    pub issued_at: UnixMillis,
    /// First instant at which it is void, if it was not used before.
    pub expires_at: UnixMillis,
    /// Who used it.
    pub used: Option<Used>,
}

/// An activation file was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// When.
    pub at: UnixMillis,
    /// SHA-256 of the public key that it was used for.
    pub key: [u8; 32],
    /// Network address.
    pub from: Option<Arc<str>>,
}

/// A certificate that is good for a sensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Serial number in hexadecimal digits.
    pub serial: Arc<str>,
    /// First instant.
    pub not_before: UnixMillis,
    /// Last instant.
    pub not_after: UnixMillis,
}

/// An enrolment that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When.
    pub at: UnixMillis,
    /// Network address.
    pub from: Arc<str>,
    /// The refusal's stable code.
    pub code: Arc<str>,
    /// What was wrong this time.
    pub detail: Arc<str>,
}
