//! Tests of the simulation part over its real surface.
