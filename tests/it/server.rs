//! Tests of the server part over its real surface.
