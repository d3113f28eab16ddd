//! A monitored network: a virtual cable from this host into a network namespace of its own, and traffic on it.

use std::fs::{self, File};
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Namespaces of ours, followed by the number of the process that made each.
const PREFIX: &str = "fleetpulse-test-";
const NAMESPACES: &str = "/run/netns";
/// Benchmark addresses (RFC 2544), and only inside the namespace.
const ADDRESS: &str = "198.18.0.2/30";
const BROADCAST: &str = "198.18.0.3:9";
const PACKET_EVERY: Duration = Duration::from_millis(100);

/// The cable. Both ends go when it is dropped.
pub struct Wire {
    namespace: String,
    /// The end on this host.
    pub interface: String,
}

fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).output();
    let done = done.unwrap_or_else(|error| panic!("{error}: install iproute2; tests/run does"));
    let problem = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success(),
        "ip {arguments:?}: {problem}; grant root and network namespaces: tests/run says how"
    );
}

impl Wire {
    /// Lays the cable. Nothing is on it by itself: no address on this host, no IPv6 that looks for neighbours.
    pub fn lay() -> Wire {
        remove_left_behind();
        let process = std::process::id();
        let wire = Wire { namespace: format!("{PREFIX}{process}"), interface: format!("fpt{process}a") };
        let (there, far) = (wire.namespace.as_str(), format!("fpt{process}b"));
        ip(&["netns", "add", there]);
        ip(&["link", "add", &wire.interface, "type", "veth", "peer", "name", &far, "netns", there]);
        ip(&["link", "set", &wire.interface, "addrgenmode", "none"]);
        ip(&["-n", there, "link", "set", &far, "addrgenmode", "none"]);
        ip(&["-n", there, "addr", "add", ADDRESS, "brd", "+", "dev", &far]);
        ip(&["-n", there, "link", "set", &far, "up"]);
        ip(&["link", "set", &wire.interface, "up"]);
        wire
    }

    /// Packets from the far end, while it is told so.
    pub fn traffic(&self) -> Traffic {
        let namespace = File::open(Path::new(NAMESPACES).join(&self.namespace)).expect("the namespace");
        let (on, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let sent = Arc::new(AtomicU64::new(0));
        let (is_on, stopped, count) = (Arc::clone(&on), Arc::clone(&stop), Arc::clone(&sent));
        // The namespace is the thread's: the socket is born there, and everybody else stays here.
        let thread = std::thread::spawn(move || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), kind).expect("root");
            let socket = UdpSocket::bind("198.18.0.2:0").expect("a socket");
            socket.set_broadcast(true).expect("an option");
            while !stopped.load(Ordering::Relaxed) {
                if is_on.load(Ordering::Relaxed) && socket.send_to(&[0; 200], BROADCAST).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(PACKET_EVERY);
            }
        });
        Traffic { on, stop, sent, thread: Some(thread) }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // The cable goes with either end.
        let _ = Command::new("ip").args(["link", "del", &self.interface]).output();
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).output();
    }
}

/// What a run that was killed could not remove.
fn remove_left_behind() {
    let names = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    for name in names.map(|entry| entry.file_name().to_string_lossy().into_owned()) {
        let process = name.strip_prefix(PREFIX).and_then(|number| number.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

/// Packets on a cable.
pub struct Traffic {
    on: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    /// Lets packets flow, or not.
    pub fn set(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// Packets sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
