//! Tests of the store part over its real surface.
