//! The real program as a process: started, watched by what it says and answers, ended by its own number.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fleetpulse::fleet::{Actor, Role};
use fleetpulse::server::access::token_commands;
use fleetpulse::server::data::DataDir;
use fleetpulse::time::{Clock, SystemClock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longer than anything takes on the slowest machine; a test that waits for so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks again and again until there is an answer.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let clock = SystemClock::start();
    let begin = clock.mono();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(clock.mono().since(begin) < PATIENCE, "never: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A started program. Killed when dropped, whatever state it is in.
pub struct Program {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Program {
    /// Starts `fleetpulse` with these arguments, in an environment without settings of its own.
    pub fn start<S: AsRef<str>>(arguments: &[S]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetpulse"));
        command.args(arguments.iter().map(AsRef::as_ref));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FLEETPULSE_") {
                command.env_remove(name);
            }
        }
        Program::of(command)
    }

    /// Starts this command.
    pub fn of(mut command: Command) -> Program {
        let streams = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = streams.spawn().expect("the program starts");
        let said = Arc::<Mutex<Vec<String>>>::default();
        let mut readers = vec![read(child.stdout.take().expect("piped"), &said)];
        readers.push(read(child.stderr.take().expect("piped"), &said));
        Program { child, said, readers }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("a process number"), signal).expect("the signal is sent");
    }

    /// Waits for its end; everything that it said is there then.
    pub fn wait(&mut self) -> ExitStatus {
        let status = until("the program ends", || self.child.try_wait().expect("waited for"));
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader");
        }
        status
    }

    /// Everything that it said so far, both streams line by line.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a line says what `look` looks for.
    pub fn until_said<T>(&mut self, what: &str, mut look: impl FnMut(&str) -> Option<T>) -> T {
        let mut seen = 0;
        until(&format!("the program says {what}"), || {
            let over = self.child.try_wait().expect("waited for").is_some();
            let said = self.said();
            let found = said[seen..].iter().find_map(|line| look(line));
            seen = said.len();
            assert!(found.is_some() || !over, "it ended without saying {what}: {said:#?}");
            found
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.said();
            for line in &said[said.len().saturating_sub(60)..] {
                tell(line);
            }
        }
    }
}

/// Shown by the test harness when the test fails.
#[expect(clippy::print_stderr, reason = "for people who read a failed test")]
pub fn tell(line: &str) {
    eprintln!("{line}");
}

fn read(stream: impl Read + Send + 'static, said: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let said = Arc::clone(said);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            said.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    })
}

/// Runs `fleetpulse` to its end.
pub fn run<S: AsRef<str>>(arguments: &[S]) -> (Option<i32>, Vec<String>) {
    let mut program = Program::start(arguments);
    (program.wait().code(), program.said())
}

/// A running `fleetpulse serve`.
pub struct Server {
    pub program: Program,
    pub ingest: SocketAddr,
    pub http: SocketAddr,
    token: String,
    agent: ureq::Agent,
}

/// An API token of an administrator, made in the data directory before the first start.
fn token(data: &Path) -> String {
    let kept = data.join("token-of-the-tests");
    if let Ok(token) = std::fs::read_to_string(&kept) {
        return token;
    }
    let clock = SystemClock::start();
    let mut opened = DataDir::open(data, Arc::new(clock)).expect("the data directory");
    let life = Duration::from_secs(86_400);
    let made = token_commands(&opened.register, "tests", Role::Administrator, life, clock.unix());
    let (commands, secret) = made.expect("a token");
    opened.apply(&commands, Actor::command_line("tests"), clock.unix()).expect("done");
    std::fs::write(&kept, &secret).expect("the token is kept");
    secret
}

/// The arguments of a server on free ports of loopback, with deadlines of seconds. Later settings win.
pub fn serve_arguments(data: &Path, settings: &[String]) -> Vec<String> {
    let mut arguments = vec!["serve".to_owned(), "--data-dir".to_owned(), data.display().to_string()];
    let usual = [
        "ingest.listen=127.0.0.1:0",
        "ingest.enrol_listen=127.0.0.1:0",
        "ingest.interval=1s",
        "ingest.drain_spread=1s",
        "http.listen=127.0.0.1:0",
        "health.policy=demo",
        "store.checkpoint_every=1s",
        "log.format=json",
    ];
    for setting in usual.map(str::to_owned).iter().chain(settings) {
        arguments.extend(["--set".to_owned(), setting.clone()]);
    }
    arguments
}

impl Server {
    /// Starts it on a data directory and waits until sensors can connect.
    pub fn start(data: &Path, settings: &[String]) -> Server {
        let token = token(data);
        let mut program = Program::start(&serve_arguments(data, settings));
        let (ingest, http) = program.until_said("that it is ready", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let address = |name: &str| line[name].as_str()?.parse::<SocketAddr>().ok();
            if line["message"] == "ready" { Some((address("ingest")?, address("http")?)) } else { None }
        });
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent = config.timeout_global(Some(Duration::from_secs(10))).build().into();
        Server { program, ingest, http, token, agent }
    }

    /// The setting that makes the next server listen where this one does.
    pub fn same_port(&self) -> String {
        format!("ingest.listen={}", self.ingest)
    }

    /// A GET: status and body; `None` when nobody answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let request = self.agent.get(format!("http://{}{path}", self.http));
        let request = request.header("Authorization", format!("Bearer {}", self.token));
        let mut answer = request.call().ok()?;
        let body = answer.body_mut().with_config().limit(64 << 20).read_to_string().ok()?;
        Some((answer.status().as_u16(), body))
    }

    /// A GET that must be answered well.
    pub fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).unwrap_or_else(|| panic!("{path}: no answer"));
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// All items of a paged list.
    pub fn items(&self, path: &str) -> Vec<Value> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let page = self.json(&format!("{path}{separator}limit=1000{cursor}"));
            items.extend(page["items"].as_array().expect("a list").iter().cloned());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return items,
            }
        }
    }

    /// One series of `/metrics`.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics")?;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        value.parse().ok()
    }

    /// Told to stop in good order; waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.program.signal(Signal::TERM);
        self.program.wait()
    }

    /// Killed, at once and without warning.
    pub fn kill(mut self) {
        self.program.signal(Signal::KILL);
        self.program.wait();
    }

    /// True when a log line has this message.
    pub fn logged(&self, message: &str) -> bool {
        let said = self.program.said();
        said.iter().any(|line| {
            serde_json::from_str::<Value>(line)
                .is_ok_and(|line| line["message"].as_str().is_some_and(|said| said.contains(message)))
        })
    }
}

/// A time of the API in milliseconds since 1970.
pub fn millis(time: &Value) -> i64 {
    let text = time.as_str().unwrap_or_else(|| panic!("a time: {time}"));
    text.parse::<jiff::Timestamp>().expect("RFC 3339").as_millisecond()
}

/// Times are told in whole milliseconds of wall time, and kept in nanoseconds of engine time: one time, told by
/// two runs of a server, differs by so much.
pub const GRAIN_MS: i64 = 2;
