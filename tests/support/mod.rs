//! The other side of every test: payloads and torrents, a tracker, seeders, bad peers, and the real
//! program as a child.
//!
//! Nothing here uses the crate's own wire or bencode code. What is written twice, by the protocol's
//! description, is a check; what is shared would be wrong on both sides at once.
//!
//! ```text
//! fixture   payload and .torrent, from a seed; folders that vanish
//! seeder    an honest peer that has everything, in memory; fast, or with a limit
//! hostile   the table of what bad peers do
//! netns     two machines of a test's own, joined by a cable
//! peer      a scripted peer: it says what a closure says
//! place     a torrent on disk and a folder for its data
//! tracker   HTTP and UDP, honest or not
//! run       a program as a child: output, exit code, time, memory, signals
//! ```

// Each test program uses its own part of this.
#![allow(dead_code)]

pub mod fixture;
pub mod hostile;
pub mod netns;
pub mod peer;
pub mod place;
pub mod run;
pub mod seeder;
pub mod tracker;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// A loopback address that no other test has, in this process or in another: so ports never
/// collide, whatever runs beside us.
pub fn own_ip() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    // 127.0.x.y is left to people, 127.255.x.y to broadcasts.
    let second = 1 + (u32::from(high) + (n >> 8)) % 250;
    Ipv4Addr::new(127, second as u8, low, (n % 254 + 1) as u8).into()
}

/// An address of one's own with a port that is free, also where somebody listens at all addresses.
pub fn free_addr() -> SocketAddr {
    let socket = TcpListener::bind((own_ip(), 0)).expect("a free port");
    socket.local_addr().expect("bound")
}
