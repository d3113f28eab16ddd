//! Tests of the ingest part over its real surface.
