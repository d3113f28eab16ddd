//! Which core runs whom. A process hands its own set of cores to those that it starts, so the server is
//! started while this thread stands on the server's core; no thread of it ever runs elsewhere.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::Failure;

/// Refuses cores that this process may not use, and a list too short for two sides.
pub(super) fn check(cores: &[usize], remote: bool) -> Result<(), Failure> {
    if cores.is_empty() {
        return Ok(());
    }
    let mine = sched_getaffinity(None).map_err(|error| Failure::failed(format!("cores: {error}")))?;
    let usable: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| mine.is_set(*core)).collect();
    if let Some(wrong) = cores.iter().find(|core| !usable.contains(core)) {
        return Err(Failure::usage(format!("--cores names {wrong}; this process may use {usable:?}")));
    }
    if !remote && cores.len() < 2 {
        return Err(Failure::usage("--cores needs two: the first for the server, the others for this side"));
    }
    Ok(())
}

/// Moves this thread, and those that it starts from now on. An empty list leaves it where it is.
pub(super) fn pin(cores: &[usize]) -> Result<(), Failure> {
    if cores.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).map_err(|error| Failure::failed(format!("cores {cores:?}: {error}")))
}
