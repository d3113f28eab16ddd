//! Where the configuration of a command comes from: file, environment, flags.

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::client::VARIABLES;
use crate::config::{self, Config};

/// Where settings come from.
#[derive(Args)]
pub struct Settings {
    /// Configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE", env = "FLEETPULSE_CONFIG_FILE")]
    config: Option<PathBuf>,
    /// Set one key, stronger than file and environment; may be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Short for --set data_dir=DIR
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Short for --set ingest.listen=ADDR
    #[arg(long, global = true, value_name = "ADDR")]
    listen: Option<String>,
    /// Short for --set http.listen=ADDR
    #[arg(long, global = true, value_name = "ADDR")]
    http: Option<String>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.to_owned()))
        .ok_or_else(|| "write it as KEY=VALUE, e.g. health.cadence=1s".to_owned())
}

impl Settings {
    /// Default < file < environment < flags.
    pub fn load(&self) -> Result<Config, Failure> {
        let mut flags = self.set.clone();
        for (key, value) in
            [("data_dir", &self.data_dir), ("ingest.listen", &self.listen), ("http.listen", &self.http)]
        {
            flags.extend(value.iter().map(|value| (key.to_owned(), value.clone())));
        }
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name != "FLEETPULSE_CONFIG_FILE" && !VARIABLES.contains(&name.as_str()));
        config::from_sources(self.config.as_deref(), environment, &flags).map_err(Failure::config)
    }
}
