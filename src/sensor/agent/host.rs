//! What `/proc` and `/sys` say at once: interfaces, CPU, memory, temperature, partitions.
//!
//! Counters are kept as sums of differences, so that a reloaded driver or a recreated interface, whose counters
//! start from zero again, never makes ours go backwards. All reads are bounded.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::limits::{PROC_FILE_BYTES_MAX, TEMPERATURE_SENSORS_MAX};
use crate::wire::heartbeat::{UNKNOWN_I16, UNKNOWN_U16};

/// Where the host's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPaths {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
}

impl Default for HostPaths {
    fn default() -> HostPaths {
        HostPaths::under(Path::new("/"))
    }
}

impl HostPaths {
    /// `proc` and `sys` in this folder.
    pub fn under(root: &Path) -> HostPaths {
        HostPaths { proc: root.join("proc"), sys: root.join("sys") }
    }

    /// Network interfaces that are there now, by name.
    pub fn interfaces(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.sys.join("class/net")).into_iter().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// Counters of one interface, as the kernel keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counters {
    packets: u64,
    bytes: u64,
    dropped: u64,
}

/// Monitored interfaces together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// How many are configured. One that the host does not have counts too: it is watched and sees nothing, and
    /// a sensor whose only interface is gone must not look like one that has nothing to watch.
    pub total: u16,
    /// How many have a link.
    pub up: u16,
    /// How many received packets since the last look.
    pub with_traffic: u16,
    /// Packets received since the agent's start.
    pub packets: u64,
    /// Bytes received since the agent's start.
    pub bytes: u64,
    /// Packets lost by kernel or hardware since the agent's start.
    pub dropped: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct CpuTimes {
    busy: u64,
    all: u64,
}

/// Looks at the host; keeps what the next look is compared with.
#[derive(Debug)]
pub struct Host {
    paths: HostPaths,
    names: Vec<String>,
    last: Vec<Option<Counters>>,
    sums: Counters,
    cpu_times: Option<CpuTimes>,
    cpu_permille: u16,
}

impl Host {
    /// Takes the first look: traffic and CPU use count from here.
    pub fn new(paths: HostPaths, interfaces: &[String]) -> Host {
        let mut host = Host {
            paths,
            names: interfaces.to_vec(),
            last: vec![None; interfaces.len()],
            sums: Counters::default(),
            cpu_times: None,
            cpu_permille: UNKNOWN_U16,
        };
        host.interfaces();
        host.cpu_permille();
        host
    }

    /// The monitored interfaces now. All counters come from one file; the link from two small ones each.
    pub fn interfaces(&mut self) -> Interfaces {
        let table = read_bounded(&self.paths.proc.join("net/dev"), PROC_FILE_BYTES_MAX).unwrap_or_default();
        let (mut up, mut with_traffic) = (0, 0);
        for (name, last) in self.names.iter().zip(&mut self.last) {
            let Some(now) = counters_of(&table, name) else {
                *last = None;
                continue;
            };
            if link_is_up(&self.paths.sys.join("class/net").join(name)) {
                up += 1;
            }
            if let Some(before) = last.replace(now) {
                let packets = grown(before.packets, now.packets);
                self.sums.packets += packets;
                self.sums.bytes += grown(before.bytes, now.bytes);
                self.sums.dropped += grown(before.dropped, now.dropped);
                with_traffic += u16::from(packets > 0);
            }
        }
        let Counters { packets, bytes, dropped } = self.sums;
        let total = u16::try_from(self.names.len()).unwrap_or(u16::MAX);
        Interfaces { total, up, with_traffic, packets, bytes, dropped }
    }

    /// CPU use since the last look, per mille of all cores.
    pub fn cpu_permille(&mut self) -> u16 {
        let text = read_bounded(&self.paths.proc.join("stat"), PROC_FILE_BYTES_MAX).unwrap_or_default();
        let Some(now) = cpu_times(&text) else { return UNKNOWN_U16 };
        if let Some(before) = self.cpu_times {
            let all = now.all.saturating_sub(before.all);
            // Two looks within one tick of the kernel's clock: the last answer still stands.
            if all == 0 {
                return self.cpu_permille;
            }
            self.cpu_permille = permille(now.busy.saturating_sub(before.busy), all);
        }
        self.cpu_times = Some(now);
        self.cpu_permille
    }

    /// Memory that is not available to programs, per mille.
    pub fn memory_permille(&self) -> u16 {
        let text = read_bounded(&self.paths.proc.join("meminfo"), PROC_FILE_BYTES_MAX).unwrap_or_default();
        let value = |key: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        match (value("MemTotal:"), value("MemAvailable:")) {
            (Some(total), Some(available)) if total > 0 => permille(total.saturating_sub(available), total),
            _ => UNKNOWN_U16,
        }
    }
}

/// Fill of the partition that holds a path, as `df` shows it. May hang with a dead network disk: call it from a
/// thread of its own.
pub fn disk_permille(path: &Path) -> u16 {
    let Ok(stat) = rustix::fs::statvfs(path) else { return UNKNOWN_U16 };
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    match used.saturating_add(stat.f_bavail) {
        0 => UNKNOWN_U16,
        all => permille(used, all),
    }
}

/// The hottest CPU sensor in tenths of a degree.
pub fn temperature_decicelsius(paths: &HostPaths) -> i16 {
    let chips = ["coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal", "cpu"];
    let mut hottest: Option<i64> = None;
    let mut see = |path: &Path| {
        let milli = read_bounded(path, 64).ok().and_then(|text| text.trim().parse::<i64>().ok());
        // Chips answer nonsense while they wake up.
        hottest = hottest.max(milli.filter(|milli| (-40_000..=150_000).contains(milli)));
    };
    for chip in entries(&paths.sys.join("class/hwmon")) {
        let name = read_bounded(&chip.join("name"), 64).unwrap_or_default();
        if chips.contains(&name.trim()) {
            let inputs = entries(&chip).into_iter().filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("temp") && name.ends_with("_input")
            });
            inputs.for_each(|path| see(&path));
        }
    }
    for zone in entries(&paths.sys.join("class/thermal")) {
        let kind = read_bounded(&zone.join("type"), 64).unwrap_or_default();
        if ["x86_pkg_temp", "cpu-thermal", "cpu_thermal", "soc-thermal"].contains(&kind.trim()) {
            see(&zone.join("temp"));
        }
    }
    hottest.and_then(|milli| i16::try_from(milli / 100).ok()).unwrap_or(UNKNOWN_I16)
}

/// Reads a small text file whole; more than `most` bytes are an error, since a cut table would lie.
pub(super) fn read_bounded(path: &Path, most: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(most + 1).read_to_string(&mut text)?;
    if text.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {most} bytes")));
    }
    Ok(text)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(list) = std::fs::read_dir(folder) else { return Vec::new() };
    list.filter_map(|entry| Some(entry.ok()?.path())).take(TEMPERATURE_SENSORS_MAX).collect()
}

/// A line of `/proc/net/dev`: bytes, packets, errors, drops (those of the hardware included), ...
fn counters_of(table: &str, name: &str) -> Option<Counters> {
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    let mut fields = line.split_ascii_whitespace().map(|field| field.parse::<u64>());
    let mut next = || fields.next()?.ok();
    let (bytes, packets, _errors, dropped, overruns) = (next()?, next()?, next()?, next()?, next()?);
    Some(Counters { packets, bytes, dropped: dropped.saturating_add(overruns) })
}

fn link_is_up(folder: &Path) -> bool {
    let state = read_bounded(&folder.join("operstate"), 64).unwrap_or_default();
    match state.trim() {
        "up" => true,
        // Drivers that do not keep the state still know whether there is a carrier.
        "unknown" => read_bounded(&folder.join("carrier"), 64).is_ok_and(|carrier| carrier.trim() == "1"),
        _ => false,
    }
}

/// user nice system idle iowait irq softirq steal (guest time is in user already).
fn cpu_times(text: &str) -> Option<CpuTimes> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let mut times = [0_u64; 8];
    for (time, field) in times.iter_mut().zip(line.split_ascii_whitespace()) {
        *time = field.parse().ok()?;
    }
    let all = times.iter().fold(0_u64, |sum, time| sum.saturating_add(*time));
    let idle = times[3].saturating_add(times[4]);
    (all > 0).then_some(CpuTimes { busy: all - idle.min(all), all })
}

fn grown(before: u64, now: u64) -> u64 {
    if now >= before { now - before } else { now }
}

fn permille(part: u64, whole: u64) -> u16 {
    let permille = (u128::from(part) * 1_000 + u128::from(whole) / 2) / u128::from(whole.max(1));
    u16::try_from(permille).unwrap_or(1_000).min(1_000)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HEAD: &str = "Inter-|   Receive                                                |  Transmit\n \
        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n";

    fn fake(net: &str, stat: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("inside")).expect("folders");
            fs::write(path, text).expect("file");
        };
        write("proc/net/dev", &format!("{HEAD}{net}"));
        write("proc/stat", stat);
        write("proc/meminfo", "MemTotal:       1000 kB\nMemFree: 10 kB\nMemAvailable:    250 kB\n");
        write("sys/class/net/eth1/operstate", "up\n");
        write("sys/class/net/eth2/operstate", "down\n");
        write("sys/class/net/tap0/operstate", "unknown\n");
        write("sys/class/net/tap0/carrier", "1\n");
        write("sys/class/hwmon/hwmon0/name", "coretemp\n");
        write("sys/class/hwmon/hwmon0/temp1_input", "41500\n");
        write("sys/class/hwmon/hwmon0/temp2_input", "62300\n");
        write("sys/class/hwmon/hwmon1/name", "nvme\n");
        write("sys/class/hwmon/hwmon1/temp1_input", "80000\n");
        root
    }

    fn host(root: &tempfile::TempDir) -> Host {
        let names = ["eth1", "eth2", "tap0", "gone"].map(str::to_owned);
        Host::new(HostPaths::under(root.path()), &names)
    }

    const NET: &str = "  eth1: 1000 10 0 2 1 0 0 0 5 5 0 0 0 0 0 0\n eth2:500 5 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n  \
        tap0: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n eth11: 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7\n";

    #[test]
    fn traffic_counts_from_the_start_and_survives_a_reset_counter() {
        let root = fake(NET, "cpu  0 0 0 100\n");
        let mut host = host(&root);
        assert_eq!(host.interfaces(), Interfaces { total: 4, up: 2, ..Interfaces::default() });

        let more = NET.replace("1000 10 0 2 1", "1600 14 0 5 1");
        fs::write(root.path().join("proc/net/dev"), &more).expect("file");
        let seen = host.interfaces();
        assert_eq!((seen.packets, seen.bytes, seen.dropped, seen.with_traffic), (4, 600, 3, 1));
        assert_eq!(host.interfaces().with_traffic, 0);

        let reset = NET.replace("1000 10 0 2 1", "30 3 0 1 0");
        fs::write(root.path().join("proc/net/dev"), reset).expect("file");
        let seen = host.interfaces();
        assert_eq!((seen.packets, seen.bytes, seen.dropped, seen.with_traffic), (7, 630, 4, 1));
    }

    #[test]
    fn an_interface_that_goes_away_and_comes_back_is_counted_from_its_return() {
        let root = fake(NET, "");
        let mut host = host(&root);
        fs::write(root.path().join("proc/net/dev"), HEAD).expect("file");
        assert_eq!(host.interfaces(), Interfaces { total: 4, ..Interfaces::default() });
        fs::write(root.path().join("proc/net/dev"), format!("{HEAD}{NET}")).expect("file");
        assert_eq!(host.interfaces().packets, 0);
    }

    #[test]
    fn cpu_use_is_of_the_time_between_two_looks() {
        let root = fake(NET, "cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 1 1 1\n");
        let mut host = host(&root);
        assert_eq!(host.cpu_permille(), UNKNOWN_U16);
        fs::write(root.path().join("proc/stat"), "cpu  125 0 100 750 125 0 0 0 50 0\n").expect("file");
        assert_eq!(host.cpu_permille(), 250);
        assert_eq!(host.cpu_permille(), 250);
    }

    #[test]
    fn memory_and_temperature_are_read_and_nothing_is_made_up() {
        let root = fake(NET, "");
        assert_eq!(host(&root).memory_permille(), 750);
        assert_eq!(temperature_decicelsius(&HostPaths::under(root.path())), 623);
        let empty = tempfile::tempdir().expect("folder");
        let paths = HostPaths::under(empty.path());
        assert_eq!(temperature_decicelsius(&paths), UNKNOWN_I16);
        let mut nothing = Host::new(paths, &["eth1".to_owned()]);
        assert_eq!(nothing.interfaces(), Interfaces { total: 1, ..Interfaces::default() });
        assert_eq!((nothing.cpu_permille(), nothing.memory_permille()), (UNKNOWN_U16, UNKNOWN_U16));
        assert_eq!(disk_permille(&empty.path().join("missing")), UNKNOWN_U16);
        assert!(disk_permille(empty.path()) <= 1_000);
    }

    #[test]
    fn nonsense_in_the_kernels_files_is_unknown() {
        for net in ["eth1:", "eth1: a b c d e", "eth1 1 2 3 4 5", "eth1: 99999999999999999999 1 1 1 1"] {
            assert_eq!(host(&fake(net, "cpu  x\n")).interfaces().up, 0, "{net}");
        }
        assert_eq!(permille(u64::MAX, u64::MAX), 1_000);
        assert_eq!(permille(7, 0), 1_000);
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let root = fake(NET, "");
        assert!(read_bounded(&root.path().join("proc/net/dev"), 10).is_err());
    }
}
