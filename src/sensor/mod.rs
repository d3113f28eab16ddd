//! The other end: client library, agent, simulated fleet.
