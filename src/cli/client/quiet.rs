//! Mutes and maintenance windows, of sensors and sites alike.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Client;
use super::cell::{Column, Show, text};
use super::http::{Call, Method};
use crate::cli::Failure;
use crate::cli::when::{rfc3339, time};
use crate::config::duration;
use crate::time::{Clock, SystemClock, UnixMillis};

/// For how long.
#[derive(Args)]
struct Span {
    /// For so long, such as 2h or 3d
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse, conflicts_with = "until")]
    length: Option<Duration>,
    /// Until this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<UnixMillis>,
}

impl Span {
    /// Its end, when it begins there.
    fn end(&self, from: UnixMillis) -> Result<Option<String>, Failure> {
        let length = self.length.map(|length| after(from, length)).transpose()?;
        Ok(length.or(self.until.map(rfc3339)))
    }
}

/// For how long, and why.
#[derive(Args)]
#[command(after_help = "Without --for and --until it holds until somebody ends it.")]
pub(super) struct MuteFor {
    #[command(flatten)]
    span: Span,
    /// Why, for the next person
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

impl MuteFor {
    pub(super) fn body(&self) -> Result<Value, Failure> {
        let until = self.span.end(SystemClock::start().unix())?;
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

/// A window to be.
#[derive(Args)]
pub(super) struct NewWindow {
    /// From this time on (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<UnixMillis>,
    #[command(flatten)]
    span: Span,
    /// Why, for the next person
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

impl NewWindow {
    pub(super) fn body(&self) -> Result<Value, Failure> {
        let begin = self.from.unwrap_or_else(|| SystemClock::start().unix());
        let Some(until) = self.span.end(begin)? else {
            return Err(Failure::usage("say how long the window is, with --for or --until"));
        };
        Ok(json!({ "from": rfc3339(begin), "until": until, "reason": self.reason }))
    }
}

/// What is done to the windows of something.
#[derive(Subcommand)]
pub(super) enum Windows {
    /// Those that did not end yet
    List,
    /// Plan one
    Add(NewWindow),
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
            Windows::Add(window) => {
                let call = Call::new(Method::Post, path).json(window.body()?);
                let document = client.http.call(&call)?.body;
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
