//! A server in this process, the program beside it, and a home of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use fleetpulse::config::Config;
use fleetpulse::fleet::Role;
use fleetpulse::server::Server;
use serde_json::Value;

use crate::export::rig::config;

/// A home, and the address that commands speak to.
pub struct Cli {
    home: tempfile::TempDir,
    url: String,
    variables: Vec<(String, String)>,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Cli {
    /// Of a server at this address.
    pub fn of(url: &str) -> Cli {
        Cli { home: tempfile::tempdir().unwrap(), url: url.to_owned(), variables: Vec::new() }
    }

    /// Another variable in its environment.
    pub fn with(mut self, name: &str, value: &str) -> Cli {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn profiles(&self) -> PathBuf {
        self.home().join(".config/fleetpulse/profiles.toml")
    }

    /// Runs a command.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, b"")
    }

    /// A command, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetpulse"));
        command.args(arguments).env_clear().env("HOME", self.home()).current_dir(self.home());
        if !self.url.is_empty() {
            command.env("FLEETPULSE_URL", &self.url);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command with this on its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = streams.spawn().expect("the program starts");
        // A command that needs no input may have ended already.
        let _ = child.stdin.take().expect("piped").write_all(input);
        let ended = child.wait_with_output().expect("it ends");
        Ran {
            code: ended.status.code().expect("no signal"),
            out: String::from_utf8(ended.stdout).expect("UTF-8"),
            err: String::from_utf8(ended.stderr).expect("UTF-8"),
        }
    }

    /// Runs a command that must go well; what it said.
    pub fn done(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        ran.out
    }

    /// Runs a command that must go well, for its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let said = self.done(&[arguments, &["--json"]].concat());
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"))
    }

    /// Runs a command that must end with this code; what it said on standard error.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
        ran.err
    }
}

/// A server, and commands that speak to it.
pub struct Rig {
    pub cli: Cli,
    pub server: Arc<Server>,
    folder: tempfile::TempDir,
}

impl Rig {
    pub fn start() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let server = Arc::new(Server::start(config(folder.path())).unwrap());
        let token = server.token_for("commands", Role::Administrator, Duration::from_secs(3_600)).unwrap();
        let cli = Cli::of(&format!("http://{}", server.http_addr())).with("FLEETPULSE_TOKEN", &token);
        Rig { cli, server, folder }
    }

    /// A server in which nobody is registered, and commands of somebody who is not signed in.
    pub fn start_without_users() -> Rig {
        Rig::start_without_users_as(|_| {})
    }

    /// The same with another configuration.
    pub fn start_without_users_as(change: impl FnOnce(&mut Config)) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        change(&mut config);
        let server = Arc::new(Server::start(config).unwrap());
        Rig { cli: Cli::of(""), server, folder }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Ends the server; its folder stays.
    pub fn stop(self) -> (Cli, tempfile::TempDir) {
        self.server.stop();
        (self.cli, self.folder)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.server.http_addr())
    }
}
