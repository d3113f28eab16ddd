//! What a sensor is and where its life stands.

/// What a sensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SensorType {
    /// OT sensor that reports to us.
    OtCloud,
    /// OT sensor that is managed locally and does not report.
    OtLocal,
    /// Enterprise-IoT sensor.
    EnterpriseIot,
}

/// Where its life stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lifecycle {
    /// Declared, never connected.
    PendingActivation,
    /// In use.
    Active,
    /// Waits for a new activation.
    PendingReactivation,
    /// Gone for ever.
    Deleted,
}
