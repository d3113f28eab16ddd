//! Values of single sensors, for Prometheus: one page of many sensors, written directly.
//!
//! A registry of them would hold 2 KB a sensor and take 1.5 µs a series (measured); here nothing is kept between
//! scrapes. A page is made in two steps. *Collecting* goes once through live state and copies what was asked for:
//! one text of labels a sensor, one whole number a value. *Writing* goes through that family by family, as the
//! format wants it, in pieces of some 64 KB, each made when the one before is sent; so a page of any length
//! costs what was collected (about 350 bytes a sensor) and one piece.
//!
//! Numbers are kept as whole multiples of a power of ten, which is what heartbeats say anyhow: writing one is a
//! few divisions by constants and nothing is rounded twice.

mod number;
mod page;
mod table;
#[cfg(test)]
mod tests;

pub use page::{SensorFilter, SensorPage};
pub use table::{PAGE_SENSORS, PAGE_TRUNCATED, SENSOR_METRICS, SensorMetric, sensor_families};
