//! What a load needs of the machine, checked before anything is made.

use super::{Failure, Size};

/// Memory of one connection on this side: QUIC, TLS with its own certificate, schedule (measured, rounded up).
const CLIENT_BYTES: u64 = 72 * 1_024;
/// Memory of one connection and its registered sensor in a server that is started here, while it shakes hands.
const SERVER_BYTES: u64 = 32 * 1_024;
/// Files of both sides: sockets, store, log. Connections share sockets, so their number does not count.
const FILES: u64 = 128;

/// Says what is needed; an error when it is not there.
pub(super) fn check(size: Size, own_server: bool) -> Result<String, Failure> {
    let server = if own_server { SERVER_BYTES } else { 0 };
    let wanted = size.connections() as u64 * (CLIENT_BYTES + server) + size.registered() as u64 * 1_024;
    let (wanted_mb, free_mb) = (wanted / 1_048_576 + 64, available_mb());
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = files.current.unwrap_or(u64::MAX);
    if most < FILES {
        return Err(Failure::failed(format!(
            "{FILES} open files are needed and {most} are allowed; raise it with `ulimit -n {FILES}`"
        )));
    }
    if let Some(free_mb) = free_mb
        && free_mb < wanted_mb
    {
        return Err(Failure::failed(format!(
            "about {wanted_mb} MB of memory are needed and {free_mb} MB are free; take fewer sensors"
        )));
    }
    let free = free_mb.map_or("an unknown amount".to_owned(), |free| format!("{free} MB"));
    Ok(format!(
        "needs about {wanted_mb} MB of memory ({free} free) and {FILES} open files ({most} allowed; connections share sockets)"
    ))
}

fn available_mb() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1_024)
}
