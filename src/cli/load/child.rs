//! The server that `load` starts: this program again, as `serve`, on free loopback ports.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use super::{Failure, cores, say};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Warnings of the server that are shown; the rest would only scroll the first away.
const WARNINGS_MAX: usize = 10;

/// A folder of our own that goes with us.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Scratch, Failure> {
        let path = std::env::temp_dir().join(format!("fleetpulse-load-{:016x}", rand::random::<u64>()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Failure::failed(format!("{}: {error}; set TMPDIR", path.display())))?;
        Ok(Scratch(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing to be done about it, and nothing depends on it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Where it can be reached.
#[derive(Clone, Debug, Deserialize)]
struct Ready {
    message: String,
    ingest: SocketAddr,
    http: SocketAddr,
}

/// The running server; dropping it ends it.
pub(super) struct ServerProcess {
    child: Child,
    pub ingest: SocketAddr,
    pub http: String,
    last_lines: Receiver<String>,
}

impl ServerProcess {
    /// Starts it and waits until sensors can connect.
    pub(super) fn start(
        data_dir: &Path,
        interval: Duration,
        settings: &[String],
        core: Option<usize>,
    ) -> Result<ServerProcess, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::failed(format!("this program can't be found: {error}")))?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--data-dir").arg(data_dir);
        command.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        for setting in ["ingest.enrol_listen=127.0.0.1:0", "log.format=json", "log.level=info"] {
            command.args(["--set", setting]);
        }
        command.arg("--set").arg(format!("ingest.interval={}", crate::config::duration::format(interval)));
        settings.iter().for_each(|setting| {
            command.args(["--set", setting]);
        });
        // What is configured for the server of this machine is not meant for this one.
        std::env::vars_os().map(|(name, _)| name).for_each(|name| {
            if name.to_string_lossy().starts_with("FLEETPULSE_") {
                command.env_remove(name);
            }
        });
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let before = rustix::thread::sched_getaffinity(None);
        cores::pin(core.as_slice())?;
        let child = command.spawn();
        if let Ok(before) = before {
            let _ = rustix::thread::sched_setaffinity(None, &before);
        }
        let mut child =
            child.map_err(|error| Failure::failed(format!("the server can't be started: {error}")))?;
        let (ready, when_ready) = bounded(1);
        let (last, last_lines) = bounded(16);
        if let Some(stderr) = child.stderr.take() {
            std::thread::spawn(move || watch(stderr, &ready, &last));
        }
        let mut server =
            ServerProcess { child, ingest: ([127, 0, 0, 1], 0).into(), http: String::new(), last_lines };
        match when_ready.recv_timeout(START_TIMEOUT) {
            Ok(ready) => {
                server.ingest = ready.ingest;
                server.http = format!("http://{}", ready.http);
                Ok(server)
            }
            Err(_) => {
                server.end();
                let lines: Vec<String> = server.last_lines.try_iter().collect();
                Err(Failure::failed(format!("the server did not start: {}", lines.join(" | "))))
            }
        }
    }

    /// Ends it in good order; by force when that takes too long.
    pub(super) fn end(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        if let Some(pid) = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0)) {
            // Fails only when it is gone already.
            let _ = kill_process(pid, Signal::TERM);
        }
        for _ in 0..STOP_TIMEOUT.as_millis() / 20 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// An error when it ended by itself.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => {
                let lines: Vec<String> = self.last_lines.try_iter().collect();
                Err(Failure::failed(format!("the server ended: {}", lines.join(" | "))))
            }
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads the log: finds where the server listens, shows its first warnings, keeps the last lines.
fn watch(
    stderr: ChildStderr,
    ready: &crossbeam::channel::Sender<Ready>,
    last: &crossbeam::channel::Sender<String>,
) {
    let mut warnings = 0;
    let mut recent: VecDeque<String> = VecDeque::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if let Ok(found) = serde_json::from_str::<Ready>(&line)
            && found.message == "ready"
        {
            let _ = ready.try_send(found);
            continue;
        }
        if line.contains("\"WARN\"") || line.contains("\"ERROR\"") {
            warnings += 1;
            if warnings <= WARNINGS_MAX {
                say(&format!("server: {line}"));
            }
        }
        recent.push_back(line);
        if recent.len() > 4 {
            recent.pop_front();
        }
    }
    for line in recent {
        let _ = last.try_send(line);
    }
}
