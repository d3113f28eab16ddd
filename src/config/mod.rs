//! Settings as written, and the configuration as used.
