//! Tests of the sensor part over its real surface.
