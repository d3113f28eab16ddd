//! Mutes and maintenance windows, of sensors and sites alike.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Client;
use super::cell::{Column, Show, text};
use super::http::{Call, Method};
use crate::cli::Failure;
use crate::config::duration;
use crate::time::{Clock, SystemClock, UnixMillis};

/// For how long, and why.
#[derive(Args)]
pub(super) struct MuteFor {
    /// For so long, such as 2h or 3d [default: until somebody ends it]
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse, conflicts_with = "until")]
    length: Option<Duration>,
    /// Until this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Why, for the next person
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

impl MuteFor {
    pub(super) fn body(&self) -> Result<Value, Failure> {
        let until = match (self.length, &self.until) {
            (Some(length), _) => Some(after(SystemClock::start().unix(), length)?),
            (None, until) => until.clone(),
        };
        Ok(json!({ "until": until, "reason": self.reason }))
    }
}

/// A time so much later, as the API takes it.
pub(super) fn after(from: UnixMillis, length: Duration) -> Result<String, Failure> {
    let at = jiff::Timestamp::from_millisecond(from.plus(length).0);
    at.map(|at| at.to_string()).map_err(|_| Failure::usage("that is too far away"))
}

/// The time so long ago, as the API takes it.
pub(super) fn before_now(length: Duration) -> Result<String, Failure> {
    let at = jiff::Timestamp::from_millisecond(SystemClock::start().unix().minus(length).0);
    at.map(|at| at.to_string()).map_err(|_| Failure::usage("that is too long ago"))
}

/// What is done to the windows of something.
#[derive(Subcommand)]
pub(super) enum Windows {
    /// Those that did not end yet
    List,
    /// Plan one
    Add {
        /// From this time on (RFC 3339) [default: now]
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Until this time (RFC 3339)
        #[arg(long, value_name = "TIME", required_unless_present = "length", conflicts_with = "length")]
        until: Option<String>,
        /// For so long, such as 2h
        #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
        length: Option<Duration>,
        /// Why, for the next person
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Remove one
    Remove {
        /// Its number in the list
        number: u32,
    },
}

const WINDOWS: &[Column] = &[
    text("NUMBER", "id"),
    text("FROM", "from").show(Show::Time),
    text("UNTIL", "until").show(Show::Time),
    text("REASON", "reason"),
];

impl Windows {
    /// `path` is that of the thing whose windows they are.
    pub(super) fn run(self, client: &mut Client, path: &str) -> Result<(), Failure> {
        let path = format!("{path}/windows");
        match self {
            Windows::List => {
                let body = client.http.call(&Call::get(path))?.body;
                client.rows(body["items"].as_array().map_or(&[], Vec::as_slice), WINDOWS)
            }
            Windows::Add { from, until, length, reason } => {
                let begin = match &from {
                    Some(text) => {
                        let at = text.parse::<jiff::Timestamp>();
                        let at = at.map_err(|_| {
                            Failure::usage("--from is no time: write it as 2026-11-24T16:00:00Z")
                        })?;
                        UnixMillis(at.as_millisecond())
                    }
                    None => SystemClock::start().unix(),
                };
                let until = match (until, length) {
                    (Some(until), _) => until,
                    (None, length) => after(begin, length.unwrap_or_default())?,
                };
                let body = json!({ "from": after(begin, Duration::ZERO)?, "until": until, "reason": reason });
                let document = client.http.call(&Call::new(Method::Post, path).json(body))?.body;
                let number = &document["id"];
                client.done(&format!("window {number} is planned"), &document)
            }
            Windows::Remove { number } => {
                client.http.call(&Call::new(Method::Delete, format!("{path}/{number}")))?;
                client.done(&format!("window {number} is removed"), &json!({ "removed": number }))
            }
        }
    }
}
