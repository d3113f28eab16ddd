//! `fleetpulse jobs`: changes of many sensors, under way and finished.

use clap::{Args, Subcommand};
use serde_json::json;

use super::cell::{Column, Show, text};
use super::http::{Call, Method};
use super::{Client, EXIT_CODES, Most, Remote, run};
use crate::cli::Failure;

/// Flags of `jobs`.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub(in crate::cli) struct Jobs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// One's own changes, newest first; a restart of the server forgets them
    List,
    /// One change
    Get {
        /// Its id
        job: uuid::Uuid,
    },
    /// What became of each sensor of a change
    Items {
        /// Its id
        job: uuid::Uuid,
        #[command(flatten)]
        most: Most,
    },
    /// End a change that is under way; what was done stays
    Cancel {
        /// Its id
        job: uuid::Uuid,
    },
}

const PATH: &str = "/api/v1/jobs";

const JOBS: &[Column] = &[
    text("ID", "id"),
    text("ACTION", "action"),
    text("STATE", "state").show(Show::State),
    text("DONE", "done"),
    text("REFUSED", "refused"),
    text("OF", "total"),
    text("BEGUN", "created_at").show(Show::Ago),
    text("ENDED", "finished_at").show(Show::Time).wide(),
    text("ERROR", "error").wide(),
];

const ITEMS: &[Column] = &[
    text("SENSOR", "id"),
    text("OUTCOME", "outcome"),
    text("CODE", "code"),
    text("WHY", "detail"),
    text("FIELD", "field").wide(),
    text("RIGHT", "valid").wide(),
];

impl Jobs {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        run(&self.remote, what, |client: &mut Client| match self.action {
            Action::List => {
                let body = client.http.call(&Call::get(PATH))?.body;
                client.rows(body["items"].as_array().map_or(&[], Vec::as_slice), JOBS)
            }
            Action::Get { job } => client.show(&Call::get(format!("{PATH}/{job}")), JOBS),
            Action::Items { job, most } => {
                client.list(&Call::get(format!("{PATH}/{job}/items")), ITEMS, &most)
            }
            Action::Cancel { job } => {
                client.http.call(&Call::new(Method::Delete, format!("{PATH}/{job}")))?;
                client.done(&format!("job {job} is told to end"), &json!({ "id": job }))
            }
        })
    }
}
