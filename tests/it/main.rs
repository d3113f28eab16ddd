//! Integration tests: the real parts together. One binary, so that it is linked once.

mod agent;
mod api;
mod cli;
mod demo;
mod enrol;
mod export;
mod http;
mod ingest;
mod list;
mod load;
mod process;
mod scenario;
mod sensor;
mod server;
mod simulation;
mod small_disk;
mod store;
mod store_files;
mod wire_live;
