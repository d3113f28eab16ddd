//! Tests of the wire_live part over its real surface.
