//! Whether anybody still reads a pipe: who waits for bytes to write into it would never know.
//!
//! Layer: hands. Here because `unsafe` is.

#![allow(unsafe_code)]

use std::fs::File;

/// Whether the reading end of a pipe (or socket) has been closed. Of anything else: no.
#[cfg(unix)]
pub fn reader_left(file: &File) -> bool {
    use std::os::fd::AsRawFd;
    let mut poll = libc::pollfd { fd: file.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one `pollfd`, which is ours and outlives the call; the descriptor is held open.
    let found = unsafe { libc::poll(&raw mut poll, 1, 0) };
    found == 1 && poll.revents & libc::POLLERR != 0
}

#[cfg(not(unix))]
pub fn reader_left(_: &File) -> bool {
    false
}
