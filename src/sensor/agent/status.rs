//! What the sensor's other software says about itself: a small JSON file that it keeps. Unknown keys are
//! refused, so that a typing error shows; what is left out is unknown.

use std::path::Path;

use serde::Deserialize;

use super::host::read_bounded;
use crate::limits::STATUS_FILE_BYTES_MAX;
use crate::wire::heartbeat::{TiStatus, UpdateStage};

/// The file's contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Status {
    /// Version of the software; stands before the configured one.
    pub version: Option<String>,
    /// Devices that are monitored.
    pub devices: u32,
    /// Open alerts.
    pub alerts: u32,
    /// Somebody changed settings by hand.
    pub local_override: bool,
    /// Software update.
    pub update: Update,
    /// Threat intelligence.
    pub threat_intelligence: ThreatIntelligence,
}

/// Software update.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Update {
    /// As in the heartbeat: idle, sending, ...
    pub stage: String,
    /// 0 to 100.
    pub percent: u8,
    /// Version that it leads to.
    pub target: String,
    /// The vendor's number.
    pub error: u16,
}

/// Threat intelligence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThreatIntelligence {
    /// Day it was built.
    pub version: String,
    /// As in the heartbeat: ok, update-available, ...
    pub status: String,
}

impl Status {
    /// Reads the file; `Err` says what is wrong with it.
    pub fn read(path: &Path) -> Result<Status, String> {
        let text = read_bounded(path, STATUS_FILE_BYTES_MAX).map_err(|error| error.to_string())?;
        Status::from_json(&text)
    }

    fn from_json(text: &str) -> Result<Status, String> {
        let status: Status = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if status.update.percent > 100 {
            return Err(format!("update.percent: '{}' is not valid; give 0 to 100", status.update.percent));
        }
        if !status.update.stage.is_empty() && status.stage().is_none() {
            return Err(format!("update.stage: '{}' is not a stage", status.update.stage));
        }
        let ti = &status.threat_intelligence.status;
        if !ti.is_empty() && status.ti().is_none() {
            return Err(format!("threat_intelligence.status: '{ti}' is not a status"));
        }
        Ok(status)
    }

    /// The update's stage.
    pub fn stage(&self) -> Option<UpdateStage> {
        UpdateStage::ALL.iter().copied().find(|stage| stage.as_str() == self.update.stage)
    }

    /// The threat intelligence's state.
    pub fn ti(&self) -> Option<TiStatus> {
        TiStatus::ALL.iter().copied().find(|status| status.as_str() == self.threat_intelligence.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_unknown() {
        assert_eq!(Status::from_json("{}"), Ok(Status::default()));
        let text = r#"{"devices": 7, "update": {"stage": "installing", "percent": 40, "target": "22.3.8"},
            "threat_intelligence": {"version": "2026-11-24", "status": "ok"}}"#;
        let status = Status::from_json(text).expect("valid");
        assert_eq!(
            (status.devices, status.stage(), status.ti()),
            (7, Some(UpdateStage::Installing), Some(TiStatus::Ok))
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, said) in [
            ("", "EOF"),
            ("{\"device\": 1}", "unknown field `device`"),
            ("{\"devices\": -1}", "u32"),
            ("{\"update\": {\"percent\": 101}}", "update.percent"),
            ("{\"update\": {\"stage\": \"paused\"}}", "update.stage: 'paused'"),
            ("{\"threat_intelligence\": {\"status\": \"old\"}}", "threat_intelligence.status: 'old'"),
        ] {
            let problem = Status::from_json(text).expect_err(text);
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }
}
