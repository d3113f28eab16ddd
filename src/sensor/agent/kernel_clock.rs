//! Does anything keep this host's clock right? Every time service (chrony, ntpd, systemd-timesyncd, PTP)
//! tells the kernel, so the kernel is asked, not one of them.
//!
//! No safe crate of ours wraps `adjtimex`, hence the one unsafe block of the sensor's side.

/// Whether the kernel takes its clock for synchronised; `None` where it can't be asked.
#[expect(unsafe_code, reason = "adjtimex has no safe wrapper")]
pub(super) fn is_synchronised() -> Option<bool> {
    // SAFETY: `timex` is a C struct of integers only, for which all bits zero is a value.
    let mut answer: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a whole `timex` that lives through the call; with `modes` zero the kernel sets
    // nothing and only fills the struct in, for which no privilege is needed.
    let state = unsafe { libc::adjtimex(&mut answer) };
    (state >= 0).then_some(state != libc::TIME_ERROR && answer.status & libc::STA_UNSYNC == 0)
}
