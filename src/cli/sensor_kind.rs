//! Types of sensors, as the command line has them.

use clap::ValueEnum;

use crate::live::SensorType;

/// A type of sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SensorKind {
    OtCloud,
    OtLocal,
    EnterpriseIot,
}

impl SensorKind {
    pub(super) fn sensor_type(self) -> SensorType {
        match self {
            SensorKind::OtCloud => SensorType::OtCloud,
            SensorKind::OtLocal => SensorType::OtLocal,
            SensorKind::EnterpriseIot => SensorType::EnterpriseIot,
        }
    }
}
