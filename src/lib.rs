//! piecemeal: a BitTorrent client to read, to watch and to use.
//!
#![doc = include_str!("ARCHITECTURE.md")]
#![deny(unsafe_code)]
// The source is the book: `make doc` shows the private parts too, and links lead there.
#![allow(rustdoc::private_intra_doc_links)]

// Values: bytes and numbers; no I/O, no threads.
pub mod bencode;
pub mod bitfield;
pub mod capture;
pub mod explain;
pub mod geometry;
pub mod hash;
pub mod hostport;
pub mod json;
pub mod krpc;
pub mod magnet;
pub mod metainfo;
pub mod order;
pub mod percent;
pub mod printable;
pub mod reach;
pub mod select;
pub mod stages;
pub mod udp_tracker;
pub mod units;
pub mod wire;

// Decisions: pure state, the time is an argument.
pub mod address_book;
pub mod blame;
pub mod choker;
pub mod dht;
pub mod metadata;
pub mod picker;
pub mod pipeline;
pub mod places;
pub mod rate;
pub mod registry;
pub mod swarm;

// Hands: one thread each.
pub mod assembler;
pub mod check;
pub mod create;
pub mod dht_node;
pub mod dial;
pub mod event;
pub mod limit;
pub mod listener;
pub mod lsd;
pub mod peer;
pub mod port_map;
pub mod proxy;
pub mod resume;
pub mod scout;
pub mod storage;
pub mod stream;
pub mod trace;
pub mod tracker;
pub mod tracker_server;
pub mod wait;
pub mod web;
pub mod webseed;

// Head: starts the hands, runs the loop.
pub mod session;

// Programs.
pub mod cli;
pub mod lab;
pub mod progress;
pub mod terminal;
