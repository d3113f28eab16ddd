//! Lists of the API over a real server: filters, orders, pages while the fleet changes, files, event streams.

mod events;
mod events_access;
mod files;
pub mod follow;
mod places;
mod sensors;
mod world;
