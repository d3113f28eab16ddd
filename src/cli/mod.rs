//! One file a subcommand. Arguments in, exit code out; the work itself is in the modules above.
//!
//! Exit codes: 0 done, 1 the work failed (or `--check` found something), 3 refused by the server, 4 not signed in or
//! not allowed, 5 the server can't be reached, 64 wrong usage (`EX_USAGE`), 65 a file that is not what it should be
//! (`EX_DATAERR`), 78 wrong configuration (`EX_CONFIG`).
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the command line")]

mod agent;
mod ca;
mod client;
mod completion;
mod demo;
mod load;
mod logging;
mod paint;
mod recover;
mod sensor_kind;
mod serve;
mod settings;
mod store;
mod verify;
mod when;

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

/// What scripts tell ends apart by; the two large ones are those of `sysexits.h`.
pub mod exit {
    /// The work failed, or a check found something.
    pub const FAILED: u8 = 1;
    /// The server refused it, or there is no such thing.
    pub const REFUSED: u8 = 3;
    /// Not signed in, or without the right.
    pub const NOT_ALLOWED: u8 = 4;
    /// The server can't be reached.
    pub const UNREACHABLE: u8 = 5;
    /// Wrong usage.
    pub const USAGE: u8 = 64;
    /// A file that was given is not what it should be.
    pub const DATA: u8 = 65;
    /// Wrong configuration.
    pub const CONFIG: u8 = 78;
}

#[derive(Parser)]
#[command(
    name = "fleetpulse",
    version,
    about = "Knows at any second which of your network sensors are alive, blind, overloaded, outdated or lying.",
    after_help = "Start with `fleetpulse demo`: a server, a simulated fleet over real QUIC, and where to look."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show it all: a server, a simulated fleet with scripted faults, and how right the verdicts were
    Demo(demo::Demo),
    /// Run the server
    Serve(serve::Serve),
    /// Report this host to a server: its monitored interfaces, load, disks, clock and what it can reach
    Agent(agent::Agent),
    /// Make certificates, and register sensors and gateways, while no server runs on the data directory
    Ca(ca::Ca),
    /// Back a data directory up, restore it, check it, show how it was
    Store(store::StoreCommand),
    /// Give a user a new password, while no server runs: when the only one is forgotten
    Recover(recover::Recover),
    /// Drive a server with many sensors and gateways, and say what it cost
    Load(Box<load::Load>),
    /// Check that a file was signed by the server and is unchanged
    Verify(verify::Verify),
    /// Make the first administrator with the link that the server printed, and sign in
    Setup(client::Setup),
    /// Sign in at a server, and keep a token in a profile
    Login(client::Login),
    /// Make the profile's token void
    Logout(client::Logout),
    /// Who am I for the server, and what may I do
    Whoami(client::Whoami),
    /// Change one's own password
    Password(client::ChangePassword),
    /// The fleet in numbers
    Fleet(client::Fleet),
    /// List, onboard, edit, move, mute and delete sensors
    Sensors(Box<client::Sensors>),
    /// Places: owners, tags, maintenance windows
    Sites(Box<client::Sites>),
    /// Segments of sites
    Zones(client::Zones),
    /// Who owns sites and sensors
    Subscriptions(client::Subscriptions),
    /// Relays, and the sites that each speaks for
    Gateways(client::Gateways),
    /// Health thresholds and heartbeat intervals of a subscription, site, zone or sensor
    Policy(client::Policy),
    /// What is wrong now, and what was
    Messages(client::Messages),
    /// Changes of many sensors, under way and finished
    Jobs(client::Jobs),
    /// What firewalls must let through, from the server's configuration at work
    Endpoints(client::Endpoints),
    /// Follow what happens, as it happens
    Events(client::Events),
    /// Who may sign in, and do what
    Users(client::Users),
    /// Secrets for programs
    Tokens(client::Tokens),
    /// Who did what, when and from where, with what it changed
    Audit(client::Audit),
    /// Make, list and download backups of a running server
    Backup(client::Backup),
    /// Print a script that completes commands and flags in a shell
    Completion(completion::Completion),
}

/// Why a subcommand failed: the exit code and one message that says what to do.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    /// The same for programs.
    document: Option<serde_json::Value>,
}

impl Failure {
    /// With one of the exit codes ([`exit`]).
    fn of(code: u8, message: impl ToString) -> Failure {
        Failure { code, message: message.to_string(), document: None }
    }

    /// The work failed.
    fn failed(message: impl ToString) -> Failure {
        Failure::of(exit::FAILED, message)
    }

    /// The command line is wrong.
    fn usage(message: impl ToString) -> Failure {
        Failure::of(exit::USAGE, message)
    }

    /// The configuration is wrong.
    fn config(message: impl ToString) -> Failure {
        Failure::of(exit::CONFIG, message)
    }

    /// A file is not what it should be.
    fn data(message: impl ToString) -> Failure {
        Failure::of(exit::DATA, message)
    }

    /// Something that programs are told too.
    fn told(code: u8, message: String, document: serde_json::Value) -> Failure {
        Failure { code, message, document: Some(document) }
    }

    /// Whether the server refused it with one of these codes.
    fn is_problem(&self, codes: &[&str]) -> bool {
        let code = self.document.as_ref().and_then(|document| document["code"].as_str());
        code.is_some_and(|code| codes.contains(&code))
    }

    /// The same end, told after what happened before it.
    fn before(mut self, text: &str) -> Failure {
        self.message = format!("{text}\n{}", self.message);
        if let Some(document) = self.document.as_mut().and_then(serde_json::Value::as_object_mut) {
            document.insert("done_before".to_owned(), text.into());
        }
        self
    }

    /// An end without a word, and in order: nobody reads any more.
    fn quiet() -> Failure {
        Failure { code: 0, message: String::new(), document: None }
    }

    /// Says it as one JSON object.
    fn into_json(self) -> Failure {
        if self.message.is_empty() {
            return self;
        }
        let code = match self.code {
            exit::USAGE => "usage",
            exit::CONFIG => "configuration",
            exit::DATA => "bad-file",
            _ => "failed",
        };
        let document =
            self.document.unwrap_or_else(|| serde_json::json!({ "code": code, "detail": self.message }));
        Failure { message: document.to_string(), document: None, ..self }
    }
}

/// What a command is called in messages: its words, such as `sensors list`.
fn called(matches: &ArgMatches) -> String {
    let mut words = Vec::new();
    let mut level = matches;
    while let Some((word, inside)) = level.subcommand() {
        words.push(word);
        level = inside;
    }
    words.join(" ")
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let matches = Arguments::command().try_get_matches();
    let parsed = matches.and_then(|matches| Ok((called(&matches), Arguments::from_arg_matches(&matches)?)));
    let (what, arguments) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let wrong = error.use_stderr();
            // Help and version go to standard output; a closed pipe there is nobody's fault.
            let _ = error.print();
            return if wrong { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match arguments.command {
        Command::Demo(demo) => demo.run(),
        Command::Serve(serve) => serve.run(),
        Command::Agent(agent) => agent.run(),
        Command::Ca(ca) => ca.run(),
        Command::Store(store) => store.run(),
        Command::Recover(recover) => recover.run(),
        Command::Load(load) => load.run(),
        Command::Verify(verify) => verify.run(),
        Command::Setup(setup) => setup.run(),
        Command::Login(login) => login.run(),
        Command::Logout(logout) => logout.run(),
        Command::Whoami(whoami) => whoami.run(&what),
        Command::Password(password) => password.run(&what),
        Command::Fleet(fleet) => fleet.run(&what),
        Command::Sensors(sensors) => sensors.run(&what),
        Command::Sites(sites) => sites.run(&what),
        Command::Zones(zones) => zones.run(&what),
        Command::Subscriptions(subscriptions) => subscriptions.run(&what),
        Command::Gateways(gateways) => gateways.run(&what),
        Command::Policy(policy) => policy.run(&what),
        Command::Messages(messages) => messages.run(&what),
        Command::Jobs(jobs) => jobs.run(&what),
        Command::Endpoints(endpoints) => endpoints.run(&what),
        Command::Events(events) => events.run(&what),
        Command::Users(users) => users.run(&what),
        Command::Tokens(tokens) => tokens.run(&what),
        Command::Audit(audit) => audit.run(&what),
        Command::Backup(backup) => backup.run(&what),
        Command::Completion(completion) => completion.run(&mut Arguments::command()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            match failure.message.as_str() {
                "" => {}
                json if json.starts_with('{') => eprintln!("{json}"),
                // Line by line: what it repeats may be from a file or a server that nobody trusts.
                message => {
                    let lines: Vec<String> = message.lines().map(paint::clean).collect();
                    eprintln!("fleetpulse: {}", lines.join("\n"));
                }
            }
            ExitCode::from(failure.code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
