//! Assembles threads, channels, journal, drain, reload.
