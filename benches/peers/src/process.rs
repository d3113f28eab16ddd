//! Server processes: started on a core of their own, measured from outside, ended by their id.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Moves this thread to one core; everything that it starts from now on inherits that.
pub fn pin(core: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|error| format!("core {core}: {error}"))
}

/// As many open files as the system allows, for this process and those that it starts.
pub fn raise_files(needed: u64) -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    if most < needed {
        return Err(format!("{needed} open files are needed and {most} are allowed; raise `ulimit -Hn`"));
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .map_err(|error| format!("open files: {error}"))
}

/// A server at work.
pub struct Server {
    child: Child,
    pid: i32,
}

impl Server {
    /// Starts it on this core. Its output goes to a file, or to the reader that [`Server::lines`] gives.
    pub fn start(command: &mut Command, core: usize, log: Option<&Path>) -> Result<Server, String> {
        let shown = format!("{command:?}");
        command.stdin(Stdio::null());
        match log {
            Some(path) => {
                let file =
                    std::fs::File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
                let other = file.try_clone().map_err(|error| error.to_string())?;
                command.stdout(file).stderr(other);
            }
            None => {
                command.stdout(Stdio::null()).stderr(Stdio::piped());
            }
        }
        let before = sched_getaffinity(None).map_err(|error| error.to_string())?;
        pin(core)?;
        let child = command.spawn();
        let _ = sched_setaffinity(None, &before);
        let child = child.map_err(|error| format!("{shown}: {error}"))?;
        let pid = i32::try_from(child.id()).map_err(|error| error.to_string())?;
        Ok(Server { child, pid })
    }

    /// The value of `name` in the first line of its log (JSON) that says "ready".
    pub fn ready(&mut self) -> Result<serde_json::Value, String> {
        let stderr = self.child.stderr.take().ok_or("its output goes elsewhere")?;
        let mut lines = BufReader::new(stderr).lines();
        while let Some(Ok(line)) = lines.next() {
            if let Ok(value) = serde_json::from_str::<serde_json::Value>(&line)
                && value["message"] == "ready"
            {
                // Whatever it says later is read and thrown away, so that it never waits for us.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(value);
            }
        }
        Err("the server ended before it was ready".into())
    }

    /// CPU time of all its threads, in microseconds.
    pub fn cpu_us(&self) -> Result<f64, String> {
        let folder = format!("/proc/{}/task", self.pid);
        let mut nanos = 0.0;
        for task in std::fs::read_dir(&folder).map_err(|error| format!("{folder}: {error}"))?.flatten() {
            let Ok(text) = std::fs::read_to_string(task.path().join("schedstat")) else { continue };
            nanos += text.split(' ').next().and_then(|first| first.parse::<f64>().ok()).unwrap_or(0.0);
        }
        Ok(nanos / 1e3)
    }

    /// Resident memory, in bytes.
    pub fn resident(&self) -> Result<f64, String> {
        let path = format!("/proc/{}/status", self.pid);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let kb: f64 = line.trim().trim_end_matches("kB").trim().parse().map_err(|_| "VmRSS".to_owned())?;
        Ok(kb * 1_024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = kill_process(pid, Signal::TERM);
        }
        for _ in 0..500 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
