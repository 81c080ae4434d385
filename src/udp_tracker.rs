//! The numbers of the UDP tracker protocol (BEP 15): for both of its ends, and for who explains it.
//! The packets are drawn in the client's half, [`tracker`](crate::tracker).
//!
//! Layer: values.

/// What the first packet opens with, where others have their connection id: so that a tracker can
/// tell it from noise.
pub const MAGIC: u64 = 0x417_2710_1980;

/// The action of a request, and of the answer to it.
pub const CONNECT: u32 = 0;
pub const ANNOUNCE: u32 = 1;
pub const SCRAPE: u32 = 2;

/// Only in answers.
pub const ERROR: u32 = 3;
