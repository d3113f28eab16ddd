//! Certificates, revocation, signed files.
