//! piecemeal: a BitTorrent client, one torrent at a time, one thread per peer.

#![deny(unsafe_code)]
#![warn(missing_docs)]
#![allow(missing_docs)]

// Values: bytes and numbers; no I/O, no threads.
pub mod bencode;
pub mod bitfield;
pub mod geometry;
pub mod hash;
pub mod hostport;
pub mod json;
pub mod magnet;
pub mod metainfo;
pub mod printable;
pub mod units;

// Hands: one thread each.
pub mod check;
pub mod create;
pub mod resume;
pub mod storage;

// Programs.
pub mod cli;
