//! Ten thousand TLS connections from one thread that speak just enough of a broker's protocol: connect,
//! publish by the clock or as fast as it goes, answer pings, count acknowledgements.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::protocol::Protocol;

/// Handshakes at once, as `fleetpulse load` makes them.
const AT_ONCE: usize = 32;

type Writer = Arc<Mutex<WriteHalf<TlsStream<TcpStream>>>>;

/// What a driver counts.
#[derive(Debug, Default)]
pub struct Counts {
    pub sent: AtomicU64,
    pub acknowledged: AtomicU64,
    /// Longest time that a message was sent after it was due, in microseconds.
    pub late_us: AtomicU64,
}

/// Connections that are up.
pub struct Fleet {
    writers: Vec<Writer>,
    protocol: Protocol,
    pub counts: Arc<Counts>,
}

impl Fleet {
    /// Makes one connection for each configuration.
    pub async fn connect(
        protocol: Protocol,
        server: SocketAddr,
        configs: &[Arc<rustls::ClientConfig>],
    ) -> Result<Fleet, String> {
        let next = Arc::new(AtomicUsize::new(0));
        let configs: Arc<[Arc<rustls::ClientConfig>]> = configs.into();
        let counts = Arc::new(Counts::default());
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE {
            let (next, configs, counts) = (Arc::clone(&next), Arc::clone(&configs), Arc::clone(&counts));
            workers.spawn(async move {
                let mut made = Vec::new();
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(config) = configs.get(place) else { return Ok::<_, String>(made) };
                    made.push(one(protocol, server, Arc::clone(config), place, &counts).await?);
                }
            });
        }
        let mut writers = Vec::with_capacity(configs.len());
        while let Some(done) = workers.join_next().await {
            writers.extend(done.map_err(|error| error.to_string())??);
        }
        Ok(Fleet { writers, protocol, counts })
    }

    /// Each connection publishes once a second, at its own moment, until `until`.
    pub async fn beat(&self, payload: &[u8], until: Instant) -> Result<(), String> {
        let start = Instant::now();
        let count = self.writers.len();
        // A fixed shuffle: neighbours in time are not neighbours in the broker's memory.
        let order: Vec<usize> = (0..count).map(|place| place * 7_919 % count).collect();
        for round in 0.. {
            for (place, at) in order.iter().zip(0..) {
                let phase = Duration::from_secs(1).mul_f64(f64::from(at) / count as f64);
                let due = start + Duration::from_secs(round) + phase;
                let now = Instant::now();
                if now >= until {
                    return Ok(());
                }
                if due > now {
                    tokio::time::sleep_until(due.into()).await;
                }
                let late = Instant::now().saturating_duration_since(due).as_micros() as u64;
                self.counts.late_us.fetch_max(late, Ordering::Relaxed);
                let message =
                    self.protocol.publish(*place, self.counts.sent.load(Ordering::Relaxed), payload);
                let mut writer = self.writers[*place].lock().await;
                writer.write_all(&message).await.map_err(|error| error.to_string())?;
                writer.flush().await.map_err(|error| error.to_string())?;
                self.counts.sent.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Every connection publishes batches as fast as the broker takes them, until `until`.
    pub async fn flood(&self, payload: &[u8], batch: usize, until: Instant) -> Result<(), String> {
        let mut tasks = tokio::task::JoinSet::new();
        for (place, writer) in self.writers.iter().enumerate() {
            let mut messages = Vec::new();
            for number in 0..batch as u64 {
                messages.extend(self.protocol.publish(place, number, payload));
            }
            let (writer, counts) = (Arc::clone(writer), Arc::clone(&self.counts));
            tasks.spawn(async move {
                while Instant::now() < until {
                    let mut writer = writer.lock().await;
                    writer.write_all(&messages).await.map_err(|error| error.to_string())?;
                    writer.flush().await.map_err(|error| error.to_string())?;
                    drop(writer);
                    counts.sent.fetch_add(batch as u64, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
                Ok::<_, String>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|error| error.to_string())??;
        }
        Ok(())
    }
}

async fn one(
    protocol: Protocol,
    server: SocketAddr,
    config: Arc<rustls::ClientConfig>,
    place: usize,
    counts: &Arc<Counts>,
) -> Result<Writer, String> {
    let wrong = |what: &str, error: std::io::Error| format!("connection {place}, {what}: {error}");
    let mut tcp = TcpStream::connect(server).await.map_err(|error| wrong("TCP", error))?;
    tcp.set_nodelay(true).map_err(|error| wrong("TCP", error))?;
    protocol.before_tls(&mut tcp).await.map_err(|error| wrong("greeting", error))?;
    let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
    let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(|error| wrong("TLS", error))?;
    let (mut reader, mut writer) = split(tls);
    writer.write_all(&protocol.connect(place)).await.map_err(|error| wrong("CONNECT", error))?;
    writer.flush().await.map_err(|error| wrong("CONNECT", error))?;
    protocol.connected(&mut reader).await.map_err(|error| wrong("CONNECT", error))?;
    let writer = Arc::new(Mutex::new(writer));
    tokio::spawn(listen(protocol, reader, Arc::clone(&writer), Arc::clone(counts)));
    Ok(writer)
}

/// Reads what the broker says, as long as it says something.
async fn listen(
    protocol: Protocol,
    mut reader: ReadHalf<TlsStream<TcpStream>>,
    writer: Writer,
    counts: Arc<Counts>,
) {
    let mut buffer = [0; 512];
    while let Ok(length) = reader.read(&mut buffer).await {
        if length == 0 {
            return;
        }
        let heard = protocol.heard(&buffer[..length]);
        counts.acknowledged.fetch_add(heard.acknowledgements, Ordering::Relaxed);
        if let Some(answer) = heard.answer {
            let mut writer = writer.lock().await;
            if writer.write_all(answer).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
    }
}
