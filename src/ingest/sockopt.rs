//! The two socket options that no safe crate offers.

#![expect(unsafe_code, reason = "setsockopt and getsockopt by hand; see each SAFETY")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use socket2::SockFilter;

/// Attaches a classic BPF filter that picks the socket of a SO_REUSEPORT group.
pub fn attach_reuseport_filter(socket: &impl AsFd, filter: &[SockFilter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: filter.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: the descriptor is open (borrowed through AsFd). `program` is a valid sock_fprog for the
    // length given, and points at `len` instructions (SockFilter is repr(transparent) over sock_filter)
    // that outlive the call; the kernel copies them and writes nothing.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Packets that the kernel dropped on this socket since it was opened: its receive buffer was full, or their
/// checksum was wrong.
pub fn receive_drops(socket: &impl AsFd) -> io::Result<u32> {
    let mut memory = [0_u32; 9];
    let mut length = size_of_val(&memory) as libc::socklen_t;
    // SAFETY: the descriptor is open (borrowed through AsFd). The kernel writes at most `length` bytes,
    // which is the size of `memory`, and any bytes are a valid u32.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            memory.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    // Place 8 is SK_MEMINFO_DROPS (linux/sock_diag.h).
    if answer == 0 { Ok(memory[8]) } else { Err(io::Error::last_os_error()) }
}
