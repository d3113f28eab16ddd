//! Tests of the demo part over its real surface.
