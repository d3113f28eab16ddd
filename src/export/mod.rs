//! Metrics and messages for other systems.
