//! Live state of every sensor, lock-free.
