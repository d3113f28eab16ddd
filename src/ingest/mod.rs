//! The QUIC server.
