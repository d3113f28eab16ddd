//! The parties: how each is started, driven and measured.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fleetpulse::config::Config;
use fleetpulse::identity::{Authority, PeerIdentity, client_tls};
use fleetpulse::time::{Clock, SystemClock};
use fleetpulse::wire::frame::write_frame;
use fleetpulse::wire::heartbeat::{Heartbeat, inline};
use fleetpulse::wire::id::SensorId;

use crate::Compare;
use crate::process::Server;
use crate::protocol::Protocol;
use crate::tls::Fleet;

/// Messages of one write of a gateway.
pub const BATCH: usize = 64;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    Fleetpulse,
    Quinn,
    MosquittoQos0,
    MosquittoQos1,
    Nats,
}

impl Party {
    pub const ALL: [Party; 5] =
        [Party::Fleetpulse, Party::Quinn, Party::MosquittoQos0, Party::MosquittoQos1, Party::Nats];

    pub fn name(self) -> &'static str {
        match self {
            Party::Fleetpulse => "Fleetpulse",
            Party::Quinn => "quinn, discarding",
            Party::MosquittoQos0 => "Mosquitto QoS 0",
            Party::MosquittoQos1 => "Mosquitto QoS 1",
            Party::Nats => "NATS",
        }
    }

    fn protocol(self) -> Option<Protocol> {
        match self {
            Party::Fleetpulse | Party::Quinn => None,
            Party::MosquittoQos0 => Some(Protocol::MqttQos0),
            Party::MosquittoQos1 => Some(Protocol::MqttQos1),
            Party::Nats => Some(Protocol::Nats),
        }
    }
}

/// One row of the table of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// One message a second of each connection.
    Fleet,
    /// Batches as fast as they are taken.
    Gateways,
}

/// What one run gave.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub us_per_message: f64,
    pub messages_per_second: f64,
    pub us_per_handshake: f64,
    pub kb_per_connection: f64,
    /// Share of messages that were sent that the server counted; one that can't tell counts as all.
    pub received_share: f64,
    /// How late the driver was at worst, in milliseconds.
    pub late_ms: f64,
}

/// Everything that all parties share.
pub struct Ground {
    pub compare: Compare,
    data_dir: PathBuf,
    identities: PathBuf,
    folder: PathBuf,
    configs: Vec<Arc<rustls::ClientConfig>>,
    payload: Vec<u8>,
}

impl Ground {
    /// Certificates for everybody, and the register for those who have one.
    pub fn prepare(compare: Compare, folder: &Path) -> Result<Ground, String> {
        let data_dir = folder.join("data");
        let identities = folder.join("identities");
        let mut command = Command::new(&compare.fleetpulse);
        command.arg("load").arg("--prepare").arg(&identities).arg("--data-dir").arg(&data_dir);
        command.args(["--sensors", &compare.connections.to_string()]);
        command.args(["--gateways", &compare.gateways.to_string()]);
        command.args(["--sensors-per-gateway", &BATCH.to_string()]);
        let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
        if !status.success() {
            return Err(format!("{command:?}: {status}"));
        }
        let clock = SystemClock::start();
        let authority =
            Authority::open_or_create(&data_dir, clock.unix()).map_err(|error| error.to_string())?;
        // Writes the file that the brokers read.
        authority
            .server_certificate(&Config::default().ingest.server_names, clock.unix())
            .map_err(|error| error.to_string())?;
        let many = compare.connections.max(compare.gateways);
        let mut configs = Vec::with_capacity(many);
        for _ in 0..many {
            let life = Duration::from_secs(86_400);
            let identity = authority
                .issue(PeerIdentity::Sensor(SensorId::fresh()), life, clock.unix())
                .map_err(|error| error.to_string())?;
            let mut tls =
                client_tls(&identity, b"none", Arc::new(clock)).map_err(|error| error.to_string())?;
            tls.alpn_protocols.clear();
            configs.push(Arc::new(tls));
        }
        let mut payload = Vec::new();
        let heartbeat = Heartbeat { version: inline("26.2.0"), ..Heartbeat::default() };
        write_frame(&heartbeat, 0, &mut payload);
        Ok(Ground { compare, data_dir, identities, folder: folder.to_owned(), configs, payload })
    }

    /// One party, one row.
    pub fn measure(&self, party: Party, row: Row) -> Result<Figures, String> {
        match party.protocol() {
            None => self.quic(party, row),
            Some(protocol) => self.broker(protocol, row),
        }
        .map_err(|error| format!("{}: {error}", party.name()))
    }

    fn quic(&self, party: Party, row: Row) -> Result<Figures, String> {
        let mut command = if party == Party::Fleetpulse {
            let mut command = Command::new(&self.compare.fleetpulse);
            command.arg("serve").arg("--data-dir").arg(&self.data_dir);
            command.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
            for setting in ["ingest.enrol_listen=127.0.0.1:0", "log.format=json", "ingest.interval=1s"] {
                command.args(["--set", setting]);
            }
            command
        } else {
            let this = std::env::current_exe().map_err(|error| error.to_string())?;
            let mut command = Command::new(this);
            command.arg("sink").arg("--data-dir").arg(&self.data_dir);
            command
        };
        let mut server = Server::start(&mut command, self.compare.cores[0], None)?;
        let ready = server.ready()?;
        let at = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
        let mut load = Command::new(&self.compare.fleetpulse);
        load.args(["load", "--json", "--server", &at("ingest"), "--http", &format!("http://{}", at("http"))]);
        load.arg("--identities").arg(&self.identities);
        load.args(["--cores", &self.compare.cores[1].to_string()]);
        load.args([
            "--duration",
            &format!("{}s", self.compare.seconds),
            "--warm-up",
            &format!("{}s", self.warm_up()),
        ]);
        match row {
            Row::Fleet => load.args(["--sensors", &self.compare.connections.to_string()]),
            Row::Gateways => load.args(["--gateways", &self.compare.gateways.to_string(), "--rate", "most"]),
        };
        let output = load.stderr(Stdio::null()).output().map_err(|error| error.to_string())?;
        let json: serde_json::Value =
            serde_json::from_slice(&output.stdout).map_err(|error| format!("{load:?}: {error}"))?;
        let number = |path: &str| json.pointer(path).and_then(serde_json::Value::as_f64).unwrap_or(f64::NAN);
        Ok(Figures {
            us_per_message: number("/server_cpu_us_per_heartbeat"),
            messages_per_second: number("/heartbeats_per_second"),
            us_per_handshake: number("/server_cpu_us_per_handshake"),
            kb_per_connection: number("/rss_kb_per_connection"),
            received_share: number("/received") / number("/sent"),
            late_ms: json
                .pointer("/client_schedule_lag_us/max")
                .and_then(serde_json::Value::as_f64)
                .unwrap_or(0.0)
                / 1e3,
        })
    }

    fn warm_up(&self) -> u64 {
        (self.compare.seconds / 3).max(1)
    }

    fn broker(&self, protocol: Protocol, row: Row) -> Result<Figures, String> {
        let (mut command, address) = self.broker_command(protocol)?;
        let log = self.folder.join(format!("{protocol:?}.log"));
        let server = Server::start(&mut command, self.compare.cores[0], Some(&log))?;
        wait_for(address)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(self.drive(&server, protocol, address, row))
    }

    async fn drive(
        &self,
        server: &Server,
        protocol: Protocol,
        address: SocketAddr,
        row: Row,
    ) -> Result<Figures, String> {
        let rest = || tokio::time::sleep(Duration::from_millis(1_500));
        let count = match row {
            Row::Fleet => self.compare.connections,
            Row::Gateways => self.compare.gateways,
        };
        rest().await;
        let (cpu, memory) = (server.cpu_us()?, server.resident()?);
        let fleet = Fleet::connect(protocol, address, &self.configs[..count]).await?;
        let us_per_handshake = (server.cpu_us()? - cpu) / count as f64;
        rest().await;
        let kb_per_connection = (server.resident()? - memory) / 1_024.0 / count as f64;

        let warm_up = Duration::from_secs(self.warm_up());
        let length = Duration::from_secs(self.compare.seconds);
        let until = Instant::now() + warm_up + length + Duration::from_millis(200);
        let counts = Arc::clone(&fleet.counts);
        // Acknowledged messages are those that the broker handled; without acknowledgements, those that it let us send.
        let handled = || match protocol {
            Protocol::MqttQos1 => counts.acknowledged.load(Ordering::Relaxed),
            Protocol::MqttQos0 | Protocol::Nats => counts.sent.load(Ordering::Relaxed),
        };
        let window = async {
            tokio::time::sleep(warm_up).await;
            counts.late_us.store(0, Ordering::Relaxed);
            let (cpu, before, at) = (server.cpu_us()?, handled(), Instant::now());
            tokio::time::sleep(length).await;
            let (cpu, count, took) = (server.cpu_us()? - cpu, handled() - before, at.elapsed().as_secs_f64());
            Ok::<_, String>((cpu, count as f64, took))
        };
        let send = async {
            match row {
                Row::Fleet => fleet.beat(&self.payload, until).await,
                Row::Gateways => fleet.flood(&self.payload, BATCH, until).await,
            }
        };
        let (window, sent) = tokio::join!(window, send);
        sent?;
        let (cpu, count, took) = window?;
        Ok(Figures {
            us_per_message: cpu / count,
            messages_per_second: count / took,
            us_per_handshake,
            kb_per_connection,
            received_share: 1.0,
            late_ms: match row {
                Row::Fleet => fleet.counts.late_us.load(Ordering::Relaxed) as f64 / 1e3,
                Row::Gateways => 0.0,
            },
        })
    }

    fn broker_command(&self, protocol: Protocol) -> Result<(Command, SocketAddr), String> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(|error| error.to_string())?;
        let identity = self.data_dir.join("identity");
        let (trust, server) = (identity.join("trust.pem"), identity.join("server.pem"));
        let (trust, server) = (trust.display(), server.display());
        let path = self.folder.join(format!("{protocol:?}.conf"));
        let (program, text) = match protocol {
            Protocol::MqttQos0 | Protocol::MqttQos1 => (
                "mosquitto",
                format!(
                    "listener {} 127.0.0.1\nuser root\nallow_anonymous true\npersistence false\nsys_interval 0\n\
                     log_type error\nmax_connections -1\ntls_version tlsv1.3\ncafile {trust}\ncertfile {server}\n\
                     keyfile {server}\nrequire_certificate true\nset_tcp_nodelay true\n",
                    port.port()
                ),
            ),
            Protocol::Nats => (
                "nats-server",
                format!(
                    "listen: \"127.0.0.1:{}\"\nmax_connections: 65536\ntls {{\n cert_file: \"{server}\"\n key_file: \"{server}\"\n \
                     ca_file: \"{trust}\"\n verify: true\n timeout: 30\n}}\n",
                    port.port()
                ),
            ),
        };
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        // Debian puts brokers where only root's path looks.
        let found = ["/usr/sbin", "/usr/bin", "/usr/local/bin"].map(|folder| Path::new(folder).join(program));
        let program =
            found.into_iter().find(|path| path.exists()).ok_or(format!("{program} is not installed"))?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&path);
        Ok((command, port))
    }
}

fn wait_for(address: SocketAddr) -> Result<(), String> {
    for _ in 0..500 {
        if std::net::TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("nobody listens on {address}"))
}
