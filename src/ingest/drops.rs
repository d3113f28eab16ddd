//! Packets that the kernel dropped because our receive buffer was full, told apart from those that it dropped because
//! they were damaged.
//!
//! The socket's own count has both. So whoever sends datagrams with a wrong checksum, which takes neither a connection
//! nor a true address, would make us believe that we lose heartbeats: gaps would be forgiven and silence doubted for as
//! long as somebody likes. The count of full buffers is one for all sockets of the network namespace. So a drop is ours
//! as far as both have risen. Where that count can't be read every drop counts: it is better to doubt ourselves.
//!
//! Cost: two small files of `/proc`, read only when the socket's count rose, so at most once a tick and after a full
//! buffer was emptied.

use std::io;
use std::os::fd::AsFd;

use super::sockopt;

/// What one socket lost for want of room.
#[derive(Debug)]
pub(super) struct Drops {
    /// The socket's count at the last look.
    seen: u32,
    /// Drops of the last look that nothing explained: the socket counts a moment before the namespace does.
    unexplained: u64,
    /// The namespace's count when it was last read; `None` = it can't be.
    full: Option<u64>,
}

impl Drops {
    /// What came before this is not counted.
    pub(super) fn new(socket: &impl AsFd) -> Drops {
        Drops { seen: sockopt::receive_drops(socket).unwrap_or(0), unexplained: 0, full: full_buffers().ok() }
    }

    /// New ones since the last look.
    pub(super) fn look(&mut self, socket: &impl AsFd) -> u64 {
        let Ok(seen) = sockopt::receive_drops(socket) else { return 0 };
        let new = seen.wrapping_sub(std::mem::replace(&mut self.seen, seen));
        if new == 0 && self.unexplained == 0 {
            return 0;
        }
        self.explain(u64::from(new), full_buffers().ok())
    }

    fn explain(&mut self, new: u64, full: Option<u64>) -> u64 {
        let before = std::mem::replace(&mut self.full, full);
        let (Some(full), Some(before)) = (full, before) else {
            self.unexplained = 0;
            return new;
        };
        let explained = (self.unexplained + new).min(full.saturating_sub(before));
        self.unexplained = new.saturating_sub(explained);
        explained
    }
}

/// Datagrams dropped for want of room in this network namespace, of either IP version.
fn full_buffers() -> io::Result<u64> {
    let read = |path: &str| std::fs::read_to_string(path);
    // A kernel without IPv6 has no such file.
    let of_version_6 = read("/proc/net/snmp6").map_or(0, |text| full_of_version_6(&text));
    full_of_version_4(&read("/proc/net/snmp")?)
        .map(|drops| drops + of_version_6)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// A receive buffer that was full, and a limit of memory for all of them.
const FOR_WANT_OF_ROOM: [&str; 2] = ["RcvbufErrors", "MemErrors"];

/// A line of names and one of values. Older kernels do not have all of the names.
fn full_of_version_4(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let pairs = names.split_whitespace().zip(values.split_whitespace());
    let wanted = pairs.filter(|(name, _)| FOR_WANT_OF_ROOM.contains(name));
    let counts: Vec<u64> = wanted.filter_map(|(_, value)| value.parse().ok()).collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}

fn full_of_version_6(text: &str) -> u64 {
    let count = |line: &str| {
        let (name, value) = line.strip_prefix("Udp6")?.split_once(char::is_whitespace)?;
        FOR_WANT_OF_ROOM.contains(&name).then(|| value.trim().parse::<u64>().ok())?
    };
    text.lines().filter_map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let version_4 = "Ip: Forwarding DefaultTTL\nIp: 1 64\n\
            Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors\n\
            Udp: 54756743 12 837552 54756800 837521 0 5 0 3\nUdpLite: RcvbufErrors\nUdpLite: 99\n";
        assert_eq!(full_of_version_4(version_4), Some(837_524));
        assert_eq!(full_of_version_4("Udp: InDatagrams RcvbufErrors\nUdp: 1 7\n"), Some(7));
        for cut in ["", "Udp: RcvbufErrors\n", "Udp: InDatagrams\nUdp: 1\n", "Udp: RcvbufErrors\nUdp: x\n"] {
            assert_eq!(full_of_version_4(cut), None, "{cut:?}");
        }
        let version_6 = "Udp6InErrors                    \t0\nUdp6RcvbufErrors                \t40\n\
            Udp6InCsumErrors\t9\nUdp6MemErrors\t2\nUdpLite6RcvbufErrors\t7\nUdp6RcvbufErrors\n";
        assert_eq!(full_of_version_6(version_6), 42);
        assert!(full_buffers().is_ok(), "this kernel's own");
    }

    #[test]
    fn a_drop_is_ours_as_far_as_buffers_were_full() {
        let mut drops = Drops { seen: 0, unexplained: 0, full: Some(100) };
        assert_eq!(drops.explain(50, Some(100)), 0, "damaged ones");
        assert_eq!(drops.explain(50, Some(100)), 0, "and again");
        assert_eq!(drops.explain(30, Some(130)), 30, "full");
        assert_eq!(drops.explain(30, Some(1_130)), 30, "others lost more");
        assert_eq!(drops.explain(0, Some(2_130)), 0, "others alone");
        // The socket's count came first.
        assert_eq!(drops.explain(5, Some(2_130)), 0);
        assert_eq!(drops.explain(0, Some(2_135)), 5);
        assert_eq!(drops.explain(0, Some(2_140)), 0, "each once");
        // What can't be told apart is ours.
        assert_eq!(drops.explain(7, None), 7);
        assert_eq!(drops.explain(7, Some(2_140)), 7);
        assert_eq!(drops.explain(7, Some(2_140)), 0);
    }
}
