//! What this process has used, finer than the kernel's clock ticks: a load test divides it by heartbeats.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU and memory of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessFigures {
    /// CPU time of all its threads, in user code and in the kernel.
    pub cpu: Duration,
    /// Memory that is resident; zero where the system does not say.
    pub resident_bytes: u64,
}

impl ProcessFigures {
    /// As the kernel has it now.
    pub fn now() -> ProcessFigures {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = u64::try_from(used.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(used.tv_nsec).unwrap_or(0);
        ProcessFigures { cpu: Duration::new(seconds, nanos), resident_bytes: resident_bytes().unwrap_or(0) }
    }
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen() {
        let before = ProcessFigures::now();
        let mut sum = 0_u64;
        while ProcessFigures::now().cpu == before.cpu {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(before.resident_bytes > 100_000, "{before:?}");
    }
}
