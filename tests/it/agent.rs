//! Tests of the agent part over its real surface.
