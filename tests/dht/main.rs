//! The DHT, from outside: ten thousand nodes in virtual time, and one on a real socket between liars.
//!
//! `DHT_NODES=100000 DHT_TORRENTS=1000 cargo test --release --test dht -- --nocapture` plays more.

mod hostile;
mod program;
mod simulation;
#[path = "../support/mod.rs"]
mod support;
mod world;
