//! Tests of the export part over its real surface.
