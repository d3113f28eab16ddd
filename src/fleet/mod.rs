//! The register as a pure model.
