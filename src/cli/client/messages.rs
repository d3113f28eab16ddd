//! `fleetpulse messages`: what is wrong now, and what was.

use clap::{Args, Subcommand};

use super::cell::{Column, Show, text};
use super::find::{GATEWAY, Kind, SENSOR, SITE};
use super::http::Call;
use super::{Client, EXIT_CODES, Most, Remote, run};
use crate::cli::Failure;
use crate::cli::when::{rfc3339, time};
use crate::time::UnixMillis;

/// Flags of `messages`.
#[derive(Args)]
#[command(after_help = format!("\
Examples:
  fleetpulse messages list --severity critical
  fleetpulse messages list --site Lyon -o wide
  fleetpulse messages history --sensor \"pump station\" --from 2026-11-24T00:00:00Z -o csv

{EXIT_CODES}"))]
pub(in crate::cli) struct Messages {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Health messages that are active now, with what decided them
    List {
        #[command(flatten)]
        about: About,
        /// Only of this severity: critical, warning, lifecycle
        #[arg(long)]
        severity: Option<String>,
        #[command(flatten)]
        most: Most,
    },
    /// Every message that was raised or cleared, newest first
    History {
        #[command(flatten)]
        about: About,
        /// Not before this time (RFC 3339)
        #[arg(long, value_name = "TIME", value_parser = time)]
        from: Option<UnixMillis>,
        /// Before this time (RFC 3339)
        #[arg(long, value_name = "TIME", value_parser = time)]
        until: Option<UnixMillis>,
        #[command(flatten)]
        most: Most,
    },
}

#[derive(Args)]
struct About {
    /// Only of this sensor, by name or id
    #[arg(long, conflicts_with = "gateway")]
    sensor: Option<String>,
    /// Only of this gateway, by name or id
    #[arg(long)]
    gateway: Option<String>,
    /// Only of this site and its sensors, by name or id
    #[arg(long)]
    site: Option<String>,
    /// Only of this rule, such as disconnected
    #[arg(long)]
    code: Option<String>,
}

const ACTIVE: &[Column] = &[
    text("SEVERITY", "severity").show(Show::State),
    text("ABOUT", "subject.name"),
    text("SITE", "site.name"),
    text("MESSAGE", "title"),
    text("SINCE", "since").show(Show::Ago),
    text("EVIDENCE", "evidence"),
    text("CODE", "code").wide(),
    text("KIND", "subject.kind").wide(),
    text("ID", "subject.id").wide(),
    text("RAISED", "raised_at").show(Show::Time).wide(),
    text("MUTED", "muted").wide(),
    text("RECOMMENDATION", "recommendation").wide(),
];

const HISTORY: &[Column] = &[
    text("AT", "at").show(Show::Time),
    text("WHAT", "kind"),
    text("SEVERITY", "severity").show(Show::State),
    text("ABOUT", "subject.name"),
    text("SITE", "site.name"),
    text("MESSAGE", "title"),
    text("EVIDENCE", "evidence"),
    text("REASON", "reason").wide(),
    text("CODE", "code").wide(),
    text("KIND", "subject.kind").wide(),
    text("SUBJECT", "subject.id").wide(),
    text("SINCE", "since").show(Show::Time).wide(),
    text("MUTED", "muted").wide(),
    text("ID", "id").wide(),
];

impl Messages {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        let Messages { remote, action } = self;
        match action {
            Action::List { about, severity, most } => run(&remote, what, |client| {
                let call = about.narrow(client, Call::get("/api/v1/messages"))?.query("severity", severity);
                client.list(&call, ACTIVE, &most)
            }),
            Action::History { about, from, until, most } => run(&remote, what, |client| {
                let call = about.narrow(client, Call::get("/api/v1/messages/history"))?;
                let call = call.query("from", from.map(rfc3339)).query("until", until.map(rfc3339));
                client.list(&call, HISTORY, &most)
            }),
        }
    }
}

impl About {
    fn narrow(&self, client: &Client, mut call: Call) -> Result<Call, Failure> {
        let kinds: [(&str, &Option<String>, Kind); 3] = [
            ("sensor", &self.sensor, SENSOR),
            ("gateway", &self.gateway, GATEWAY),
            ("site", &self.site, SITE),
        ];
        for (name, wanted, kind) in kinds {
            let found = wanted.as_deref().map(|text| client.find(kind, text, &[])).transpose()?;
            call = call.query(name, found.map(|found| found.id));
        }
        Ok(call.query("code", self.code.as_ref()))
    }
}
