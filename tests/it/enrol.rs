//! From an activation file to a sensor that reports, and its certificates after that: a real server, the real agent.

#[path = "enrol/rig.rs"]
mod rig;

#[path = "enrol/activation.rs"]
mod activation;
#[path = "enrol/life.rs"]
mod life;
#[path = "enrol/renewal.rs"]
mod renewal;
#[path = "enrol/revocation.rs"]
mod revocation;
#[path = "enrol/rotation.rs"]
mod rotation;
