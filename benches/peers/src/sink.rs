//! The least that a QUIC server on stock quinn can do: take the same connections with the same certificates,
//! read the same bytes, and throw them away. Tells about itself as `fleetpulse serve` does, so that
//! `fleetpulse load` drives it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use fleetpulse::config::Config;
use fleetpulse::export::ProcessFigures;
use fleetpulse::identity::{Authority, Keys, ServerTls};
use fleetpulse::limits;
use fleetpulse::time::{Clock, SystemClock};
use fleetpulse::wire::frame::HEARTBEAT_FRAME_BYTES;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, IdleTimeout, Incoming, TransportConfig, VarInt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[derive(Default)]
struct Counts {
    handshakes: AtomicU64,
    connected: AtomicI64,
    bytes: AtomicU64,
}

/// Runs until it is killed.
pub fn run(data_dir: &Path) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(serve(data_dir))
}

async fn serve(data_dir: &Path) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let clock = SystemClock::start();
    let authority = Authority::open_or_create(data_dir, clock.unix()).map_err(|error| text(&error))?;
    let keys = Keys::open_or_create(data_dir, Arc::new(clock)).map_err(|error| text(&error))?;
    let names = Config::default().ingest.server_names;
    let tls = ServerTls::build(&authority, &keys, &names, Arc::new(clock)).map_err(|error| text(&error))?;
    let crypto = QuicServerConfig::try_from(tls.main).map_err(|error| text(&error))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport()?));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").map_err(|error| text(&error))?;
    let runtime = quinn::default_runtime().ok_or("no runtime")?;
    let endpoint = Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, runtime)
        .map_err(|error| text(&error))?;
    let counts = Arc::new(Counts::default());
    let http = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(|error| text(&error))?;
    let (ingest, http_addr): (SocketAddr, SocketAddr) = (
        endpoint.local_addr().map_err(|error| text(&error))?,
        http.local_addr().map_err(|error| text(&error))?,
    );
    tokio::spawn(tell(http, Arc::clone(&counts)));
    eprintln!(
        "{}",
        serde_json::json!({ "message": "ready", "ingest": ingest.to_string(), "http": http_addr.to_string() })
    );
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(discard(incoming, Arc::clone(&counts)));
    }
    Ok(())
}

/// The settings that made quinn cheapest when it was measured, with windows as wide as the product's.
fn transport() -> Result<TransportConfig, String> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32(limits::STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(limits::GATEWAY_WINDOW_BYTES))
        .send_window(32 * 1_024)
        .crypto_buffer_size(limits::HANDSHAKE_BUFFER_BYTES)
        .datagram_send_buffer_size(16 * 1_024)
        .datagram_receive_buffer_size(Some(64 * 1_024))
        .mtu_discovery_config(None)
        .allow_spin(false)
        .max_idle_timeout(Some(
            IdleTimeout::try_from(Duration::from_secs(120)).map_err(|error| error.to_string())?,
        ));
    Ok(transport)
}

async fn discard(incoming: Incoming, counts: Arc<Counts>) {
    let Ok(connection) = incoming.await else { return };
    counts.handshakes.fetch_add(1, Ordering::Relaxed);
    counts.connected.fetch_add(1, Ordering::Relaxed);
    loop {
        tokio::select! {
            datagram = connection.read_datagram() => match datagram {
                Ok(datagram) => drop(counts.bytes.fetch_add(datagram.len() as u64, Ordering::Relaxed)),
                Err(_) => break,
            },
            stream = connection.accept_uni() => {
                let Ok(mut stream) = stream else { break };
                while let Ok(Some(chunk)) = stream.read_chunk(usize::MAX, true).await {
                    counts.bytes.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
                }
            }
        }
    }
    counts.connected.fetch_sub(1, Ordering::Relaxed);
}

/// `GET /api/v1/engine`, and the same whatever is asked.
async fn tell(listener: tokio::net::TcpListener, counts: Arc<Counts>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = [0; 2_048];
        if stream.read(&mut request).await.is_err() {
            continue;
        }
        let process = ProcessFigures::now();
        let body = serde_json::json!({
            "process": { "cpu_us": process.cpu.as_micros() as u64, "resident_bytes": process.resident_bytes },
            "ingest": { "total": {
                "counters": {
                    "frames": counts.bytes.load(Ordering::Relaxed) / HEARTBEAT_FRAME_BYTES as u64,
                    "handshakes": counts.handshakes.load(Ordering::Relaxed),
                    "sensors": counts.connected.load(Ordering::Relaxed),
                },
                "lag": { "max_us": 0, "buckets": [] },
            } },
        })
        .to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(body.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}
