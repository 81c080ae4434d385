//! The torrent's bytes on disk: memory maps with two ends, like a channel.
//!
//! ```text
//!  assembler ──► Writing ──► [ one map per file, room reserved ] ──► Reading ──► writers to peers
//!                one, &mut     pads: dropped, read as zeros          one each, wants `Verified`
//! ```
//!
//! [`Writing`] is not `Clone` and lives in the assembler's thread. A [`Reading`] is cloned for every
//! thread that uploads, and gives bytes only against the token that a matched hash creates: so
//! unverified bytes cannot be uploaded, by type. No lock is needed between them: a verified piece is
//! never written again ([`Writing::seal`]), and an unverified one is never read by others.
//!
//! Rules:
//! * Nothing outside the [`Layout`]'s folder is touched; links below it are not followed.
//! * Room is reserved before it is mapped, so a full disk is an error and not a SIGBUS; where it
//!   cannot be reserved, or mapped, the same two ends write and read the file itself.
//! * What is there is never cut: a file longer than the torrent says is an error.
//! * Files that are not wanted are neither made nor touched: what they share with wanted ones is kept
//!   [`aside`].
//! * A file is opened when its first byte is written. Empty files and their folders are made at the
//!   start, since no byte will ever ask for them.
//! * Whoever writes holds the resume file (`.HASH.piecemeal`) locked and empty: a second writer is
//!   refused, and a resume file that is not empty means that nobody has written since.
//!
//! Speed, in CPU seconds of the writing thread for 1 GiB in blocks of 16 KiB on ext4 (Linux 6.18, a
//! virtual machine with other work on it; nine runs of each by turns, after one that does not count):
//!
//! | how | median | from, to |
//! |---|---|---|
//! | reserved map, a fault where it is touched | 0.36 | 0.26, 1.87 |
//! | reserved map, `MADV_POPULATE_WRITE` for a window, then copies | 0.27 | 0.26, 0.95 |
//! | `pwrite` of each block | 0.22 | 0.21, 0.85 |
//!
//! So windows are populated just before their first block ([`WARM_LEN`]). It has a second use: where
//! a file was cut short, populating is an error and not a SIGBUS. Another thread that populates ahead
//! left 0.10 s/GiB to this one and took 0.16–0.22 itself (five runs); it was not worth a second owner
//! of the maps. `pwrite` alone is no slower than a map, but bytes that came out of order would have
//! to be copied back for hashing.
//!
//! Layer: hands. `unsafe` is here (and in the dispatch of `hash`) only.

mod aside;
mod backing;
mod bus_error;
#[cfg(all(test, target_os = "linux"))]
mod disk_tests;
#[cfg(test)]
pub mod fixture;
pub mod folder;
mod layout;
mod open;
pub mod pipe;
mod reading;
pub mod room;
#[cfg(all(test, unix))]
mod tests;
mod writing;

pub use aside::Aside;
pub use backing::{READ_STEP, read_exact_at};
pub use layout::{Layout, Part};
pub use open::{open, open_with};
pub use reading::{Reading, Slices, zeros};
pub use writing::{WARM_LEN, Writing};
