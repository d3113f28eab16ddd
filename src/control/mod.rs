//! Brings connected sensors to their desired state.
