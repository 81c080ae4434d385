//! Room on the disk: how much there is, taking it before it is written to, where there is none.
//!
//! A page of a map that finds no room on the disk is a SIGBUS, which ends the process. So room is
//! reserved first, where "no space left" is an ordinary error. Not every file system can do that.
//!
//! Layer: hands. Owns nothing: every call gets its file.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Error};
use std::ops::Range;

/// How reserving went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Every byte has its place, and the file has its length.
    Reserved,
    /// The file system does not know how: the file must be written, not mapped.
    Unsupported,
}

/// Reserves room for all of a file, keeps what is in it, and makes it `length` bytes long if it was
/// shorter. On failure it is as long as before, so that a full disk is not left fuller.
#[cfg(target_os = "linux")]
pub fn reserve(file: &File, length: u64) -> io::Result<Room> {
    use std::os::fd::AsRawFd;
    let before = file.metadata()?.len();
    let size = i64::try_from(length).map_err(|_| Error::from_raw_os_error(libc::EFBIG))?;
    loop {
        // SAFETY: a plain system call on a descriptor that the caller holds open.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, size) } == 0 {
            return Ok(Room::Reserved);
        }
        let err = Error::last_os_error();
        match err.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL) => return Ok(Room::Unsupported),
            _ => {
                // Only what this call has appended is given back; an error here adds nothing.
                let _ = file.set_len(before);
                return Err(err);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub fn reserve(_: &File, _: u64) -> io::Result<Room> {
    Ok(Room::Unsupported)
}

/// How many bytes an ordinary user may still write to the disk that holds an open folder; `None`
/// where nobody says.
#[cfg(unix)]
// The fields' types differ from system to system.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
pub fn free(folder: std::os::fd::BorrowedFd) -> Option<u64> {
    use std::os::fd::AsRawFd;
    // SAFETY: `statvfs` is plain numbers, for which all zeros is a value.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is ours to write and outlives the call.
    let done = unsafe { libc::fstatvfs(folder.as_raw_fd(), &raw mut stat) };
    // A file system without blocks (some of FUSE) says 0 of 0: that is not "full".
    let known = done == 0 && stat.f_blocks != 0;
    known.then(|| u64::from(stat.f_bavail).saturating_mul(stat.f_frsize as u64))
}

/// Whether a range of a file has never been written: reading it would only give zeros.
#[cfg(target_os = "linux")]
pub fn is_hole(file: &File, range: Range<u64>) -> bool {
    use std::os::fd::AsRawFd;
    let Ok(from) = i64::try_from(range.start) else { return false };
    // SAFETY: a plain system call on a descriptor that the caller holds open; it moves the file's
    // position, which nobody uses: all reading names its offset.
    let data = unsafe { libc::lseek(file.as_raw_fd(), from, libc::SEEK_DATA) };
    match u64::try_from(data) {
        Ok(data) => range.end <= data,
        // ENXIO: no data from here to the end of the file, which lies behind the range.
        Err(_) => {
            Error::last_os_error().raw_os_error() == Some(libc::ENXIO)
                && file.metadata().is_ok_and(|data| range.end <= data.len())
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub fn is_hole(_: &File, _: Range<u64>) -> bool {
    false
}

/// Says that a range of a file will be read soon, so that it may be fetched in one go.
#[cfg(target_os = "linux")]
pub fn read_ahead(file: &File, range: Range<u64>) {
    use std::os::fd::AsRawFd;
    let (Ok(from), Ok(length)) =
        (i64::try_from(range.start), i64::try_from(range.end.saturating_sub(range.start)))
    else {
        return;
    };
    // SAFETY: a plain system call on a descriptor that the caller holds open. It is a hint: whether
    // it is followed makes no difference to what is read.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), from, length, libc::POSIX_FADV_WILLNEED) };
}

#[cfg(not(target_os = "linux"))]
pub fn read_ahead(_: &File, _: Range<u64>) {}

/// What trying to lock a file gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Ours until the file is closed.
    Ours,
    /// Somebody else's.
    Taken,
    /// This file system, or this system, has none.
    Unsupported,
}

/// Locks a file for as long as it is open, without waiting.
#[cfg(unix)]
pub fn lock(file: &File) -> Lock {
    use std::os::fd::AsRawFd;
    // SAFETY: a plain system call on a descriptor that the caller holds open.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
        0 => Lock::Ours,
        _ if Error::last_os_error().kind() == io::ErrorKind::WouldBlock => Lock::Taken,
        _ => Lock::Unsupported,
    }
}

#[cfg(not(unix))]
pub fn lock(_: &File) -> Lock {
    Lock::Unsupported
}

/// Waits until a whole file system has written out what it has.
#[cfg(target_os = "linux")]
pub fn sync(of: std::os::fd::BorrowedFd) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: a plain system call on a descriptor that the caller holds open.
    match unsafe { libc::syncfs(of.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}
