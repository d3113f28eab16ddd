//! Durable logs, snapshots, checkpoints, history.
