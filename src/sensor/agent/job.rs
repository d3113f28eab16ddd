//! Configured commands: self-tests and backup. No shell, no input, no output, a timeout that ends the whole
//! process group; what counts is the exit code.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::config::Job;
use crate::wire::heartbeat::BackupResult;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With this exit code.
    Code(i32),
    /// By a signal.
    Signal,
    /// It took too long and was killed.
    TimedOut,
    /// It could not be started.
    NotStarted,
}

impl Ended {
    /// Exit code 0.
    pub(super) fn is_good(self) -> bool {
        self == Ended::Code(0)
    }

    /// What it means for a backup: 0 good, 3 not found, 4 unreadable, 5 network, 6 no room, else failed.
    pub(super) fn backup_result(self) -> BackupResult {
        match self {
            Ended::Code(0) => BackupResult::Ok,
            Ended::Code(3) => BackupResult::NotFound,
            Ended::Code(4) => BackupResult::Unreadable,
            Ended::Code(5) => BackupResult::Network,
            Ended::Code(6) => BackupResult::NoRoom,
            _ => BackupResult::Failed,
        }
    }
}

/// Runs it once.
pub(super) async fn run(job: &Job) -> Ended {
    let Some((program, arguments)) = job.command.split_first() else { return Ended::NotStarted };
    let started = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            tracing::warn!(job = job.name, %error, "command can't be started");
            return Ended::NotStarted;
        }
    };
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    match tokio::time::timeout(job.timeout, child.wait()).await {
        Ok(Ok(status)) => {
            group.0 = None;
            status.code().map_or(Ended::Signal, Ended::Code)
        }
        Ok(Err(error)) => {
            tracing::warn!(job = job.name, %error, "command is lost");
            Ended::Signal
        }
        Err(_) => {
            drop(group);
            let _ = child.wait().await;
            Ended::TimedOut
        }
    }
}

/// A command with everything that it started; killed when dropped, so that neither a timeout nor the end of
/// the agent leaves anything behind. Emptied once the command was waited for: its number may be another's.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn job(script: &str) -> Job {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        Job {
            name: "test".to_owned(),
            command,
            every: Duration::from_secs(60),
            timeout: Duration::from_secs(20),
        }
    }

    #[tokio::test]
    async fn the_exit_code_counts() {
        assert!(run(&job("exit 0")).await.is_good());
        assert_eq!(run(&job("exit 6")).await.backup_result(), BackupResult::NoRoom);
        assert_eq!(run(&job("exit 9")).await.backup_result(), BackupResult::Failed);
        assert_eq!(run(&job("kill -9 $$")).await, Ended::Signal);
        let nothing = Job { command: vec!["/no/such/program".to_owned()], ..job("") };
        assert_eq!(run(&nothing).await, Ended::NotStarted);
    }

    /// A command that starts another one and waits for it, and the file where the other's number is.
    fn hanging(folder: &tempfile::TempDir) -> (Job, std::path::PathBuf) {
        let file = folder.path().join("child");
        let script = format!("sleep 1000 & echo $! > '{0}.new' && mv '{0}.new' '{0}'; wait", file.display());
        (job(&script), file)
    }

    async fn is_gone(file: &std::path::Path) -> bool {
        let child: i32 = std::fs::read_to_string(file).expect("started").trim().parse().expect("a number");
        for _ in 0..100 {
            // Killed; whoever inherits it has to bury it.
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ") {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().expect("folder");
        let (hanging, file) = hanging(&folder);
        assert_eq!(run(&Job { timeout: Duration::from_millis(500), ..hanging }).await, Ended::TimedOut);
        assert!(is_gone(&file).await, "the child lives on");
    }

    #[tokio::test]
    async fn the_end_of_the_agent_ends_commands_with_their_children() {
        let folder = tempfile::tempdir().expect("folder");
        let (hanging, file) = hanging(&folder);
        let running = tokio::spawn(async move { run(&hanging).await });
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.abort();
        assert!(running.await.expect_err("aborted").is_cancelled());
        assert!(is_gone(&file).await, "the child lives on");
    }
}
