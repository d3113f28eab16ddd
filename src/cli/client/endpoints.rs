//! `fleetpulse endpoints`: what firewalls must let through.

use clap::Args;

use super::cell::{Column, text};
use super::download::{Form, Keep};
use super::http::Call;
use super::{EXIT_CODES, Remote, run};
use crate::cli::Failure;

/// Flags of `endpoints`.
#[derive(Args)]
#[command(after_help = format!("\
Made from the server's configuration at work. Nobody ever connects to a sensor.

Examples:
  fleetpulse endpoints
  fleetpulse endpoints --type ot-cloud -o csv
  fleetpulse endpoints --out endpoints.csv

{EXIT_CODES}"))]
pub(in crate::cli) struct Endpoints {
    #[command(flatten)]
    remote: Remote,
    /// Only what sensors of this type need: ot-cloud, ot-local, enterprise-iot
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    #[command(flatten)]
    keep: Keep,
}

const COLUMNS: &[Column] = &[
    text("PURPOSE", "purpose"),
    text("FROM", "from"),
    text("TO", "to"),
    text("PROTOCOL", "protocol"),
    text("PORT", "port"),
    text("HOSTS", "hosts"),
    text("REQUIRED", "required"),
    text("DIRECTION", "direction").wide(),
    text("APPLICATION", "application").wide(),
    text("LISTENS ON", "listens_on").wide(),
    text("SENSOR TYPES", "sensor_types").wide(),
    text("NOTE", "note").wide(),
];

impl Endpoints {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        run(&self.remote, what, |client| {
            let call = Call::get("/api/v1/endpoints").query("type", self.kind.as_ref());
            if let Some(out) = self.keep.out() {
                return client.keep(&call, out, &[Form::Csv, Form::Json]);
            }
            let document = client.http.call(&call)?.body;
            client.rows(document["items"].as_array().map_or(&[][..], Vec::as_slice), COLUMNS)
        })
    }
}
