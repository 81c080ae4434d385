//! piecemeal: a BitTorrent client, one torrent at a time, one thread per peer.

#![deny(unsafe_code)]
#![warn(missing_docs)]
#![allow(missing_docs)]

// Values: bytes and numbers; no I/O, no threads.
pub mod bitfield;
pub mod geometry;
pub mod hash;
pub mod json;
pub mod printable;
pub mod wire;

// Decisions: pure state, the time is an argument.
pub mod address_book;
pub mod picker;
pub mod pipeline;
pub mod rate;
pub mod swarm;

// Programs.
pub mod cli;
