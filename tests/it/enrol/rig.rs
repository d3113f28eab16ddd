//! A server in this process, its sensors' folders, and the real agent beside them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fleetpulse::config::Config;
use fleetpulse::fleet::{Actor, Attempt, Command, Sensor};
use fleetpulse::identity::{ActivationFile, Authority, ClientKey, IdentityFolder};
use fleetpulse::ingest::EnrolOutcome;
use fleetpulse::live::{Lifecycle, SensorType};
use fleetpulse::sensor::{EnrolFailure, Enrolment, Socket};
use fleetpulse::server::Server;
use fleetpulse::server::activation::IssuedFile;
use fleetpulse::server::enlist::Enlistment;
use fleetpulse::time::{Clock, SystemClock, UnixMillis};
use fleetpulse::wire::enrol::{EnrolAnswer, EnrolRefusal, EnrolRequest, decode, encode};
use fleetpulse::wire::id::SensorId;

use crate::process::{Program, until};

pub const DAY: Duration = Duration::from_secs(86_400);

pub struct Rig {
    pub folder: tempfile::TempDir,
    pub server: Server,
}

pub fn config(folder: &Path) -> Config {
    let mut config = Config { data_dir: folder.join("data"), ..Config::default() };
    config.ingest.listen = ([127, 0, 0, 1], 0).into();
    config.ingest.enrol_listen = ([127, 0, 0, 1], 0).into();
    config.ingest.shards = 2;
    config.ingest.interval = Duration::from_millis(200);
    config.http.listen = ([127, 0, 0, 1], 0).into();
    config
}

impl Rig {
    pub fn new() -> Rig {
        Rig::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Rig {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = config(folder.path());
        change(&mut config);
        // An installation that has been there for a while, so that certificates of last month fit in.
        let long_ago = SystemClock::start().unix().minus(400 * DAY);
        Authority::open_or_create(&config.data_dir, long_ago).expect("an authority");
        Rig { server: Server::start(config).expect("a server"), folder }
    }

    pub fn now(&self) -> UnixMillis {
        self.server.clock().unix()
    }

    pub fn apply(&self, commands: &[Command]) {
        self.server.apply(commands, Actor::command_line("test")).expect("done");
    }

    /// A sensor that waits for activation.
    pub fn onboard(&self, name: &str, kind: SensorType) -> SensorId {
        let id = SensorId::fresh();
        let commands = {
            let register = self.server.fleet().register();
            let mut plan = Enlistment::new(&register);
            plan.sensor_as(Lifecycle::PendingActivation, id, name, kind, "Lyon", "Line 1");
            plan.into_commands()
        };
        self.apply(&commands);
        id
    }

    pub fn issue(&self, id: SensorId) -> IssuedFile {
        self.server.activations().issue(id, Actor::command_line("test"), self.now()).expect("issued")
    }

    /// Onboards, and writes the file to disk.
    pub fn file(&self, name: &str) -> (SensorId, PathBuf) {
        let id = self.onboard(name, SensorType::OtCloud);
        (id, self.write(&self.issue(id)))
    }

    pub fn write(&self, issued: &IssuedFile) -> PathBuf {
        let path = self.folder.path().join(format!("{}-{}", issued.generation, issued.name));
        std::fs::write(&path, &issued.bytes).expect("written");
        path
    }

    pub fn sensor(&self, id: SensorId) -> Sensor {
        self.server.fleet().register().sensor(id).expect("registered").clone()
    }

    pub fn attempts(&self, id: SensorId) -> Vec<Attempt> {
        self.sensor(id).more.attempts.clone()
    }

    pub fn received(&self, id: SensorId) -> u64 {
        self.server.live().snapshot_of(id).map_or(0, |snapshot| snapshot.received)
    }

    pub fn is_connected(&self, id: SensorId) -> bool {
        self.server.live().snapshot_of(id).is_some_and(|snapshot| snapshot.owner.is_some())
    }

    /// Waits for more heartbeats than there were.
    pub fn until_heartbeats(&self, id: SensorId) {
        let before = self.received(id);
        until("heartbeats", || (self.received(id) > before + 2).then_some(()));
    }

    pub fn outcomes(&self, refusal: EnrolRefusal) -> u64 {
        let counters = self.server.ingest().counters();
        counters.enrolment.snapshot().enrolments_as(EnrolOutcome::Refused(refusal))
    }

    pub fn out(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The agent, with the configuration that activation wrote.
    pub fn agent(&self, out: &str) -> Program {
        Program::start(&["agent", "--identity", out, "--log-level", "debug"])
    }

    /// Activates in this process: for what the program's clock or key would not do.
    pub fn activate(&self, file: &ActivationFile, folder: &IdentityFolder) -> Result<(), EnrolFailure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let socket = Socket::bind().expect("a socket");
            let enrolment = Enrolment::of_file(file)?;
            enrolment.activate(file, folder, &socket, self.server.clock()).await.map(drop)
        })
    }

    /// One request as it is, and the answer.
    pub fn ask(&self, request: &EnrolRequest) -> EnrolAnswer {
        self.ask_bytes(&encode(request))
    }

    pub fn ask_bytes(&self, bytes: &[u8]) -> EnrolAnswer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let trust = self.server.authority().trust().clone();
            let tls = fleetpulse::identity::enrol_tls(&trust, std::sync::Arc::new(self.server.clock()));
            let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls.expect("TLS")).expect("QUIC");
            let config = quinn::ClientConfig::new(std::sync::Arc::new(crypto));
            let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket");
            let connecting = endpoint.connect_with(config, self.server.enrol_addr(), "localhost");
            let connection = connecting.expect("an address").await.expect("a connection");
            let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
            let _ = send.write_all(bytes).await;
            let _ = send.finish();
            let answer = receive.read_to_end(100_000).await.expect("an answer");
            connection.close(quinn::VarInt::from_u32(0), b"");
            decode(&answer[4..]).expect("readable")
        })
    }

    /// What the activation file of `issued` says.
    pub fn read(&self, issued: &IssuedFile) -> ActivationFile {
        let authority = self.server.authority();
        ActivationFile::read(&issued.bytes, Some(authority.trust()), self.now()).expect("readable")
    }

    pub fn request(&self, token: [u8; 32], key: &ClientKey) -> EnrolRequest {
        EnrolRequest::Activate {
            token,
            csr: key.request().expect("a request"),
            clock_unix_ms: self.now().0,
            agent_version: "test".into(),
        }
    }
}

pub fn refusal(answer: &EnrolAnswer) -> Option<(EnrolRefusal, &str)> {
    match answer {
        EnrolAnswer::Refused { code, detail } => Some((EnrolRefusal::from_code(*code)?, detail)),
        EnrolAnswer::Enrolled { .. } => None,
    }
}
