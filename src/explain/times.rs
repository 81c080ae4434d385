//! Where the time went, peer by peer, from the messages of a capture.
//!
//! ```text
//! connected ├──────────────────────────────────────────────┤
//! choked    ├────────┤ until its unchoke           ├───────┤     it answers nothing
//! waiting            ├──────────────────┤                      requests are with it
//! ```
//!
//! Layer: values.

use std::collections::{BTreeMap, HashMap};

use crate::units::size;
use crate::wire::message::Message;

/// So many peers are remembered, and so many requests of each.
const PEERS_MAX: usize = 10_000;
const REQUESTS_MAX: usize = 4096;

/// Who left sooner, in microseconds, and had nothing to give or to get, is not worth a word.
const SHORT: u64 = 20_000;

/// Of every peer, by its number. Times in microseconds.
#[derive(Default)]
pub struct Times(BTreeMap<u32, Peer>);

#[derive(Default)]
struct Peer {
    addr: String,
    first: u64,
    last: u64,
    unchoked_us: bool,
    choked: u64,
    waiting: u64,
    /// When each block was asked for.
    asked: HashMap<(u32, u32), u64>,
    blocks: u64,
    bytes: u64,
    /// Of all blocks together, from request to arrival.
    latency: u64,
    given: u64,
}

impl Times {
    pub fn addr(&self, conn: u32) -> &str {
        self.0.get(&conn).map_or("", |peer| &peer.addr)
    }

    pub fn begins(&mut self, conn: u32, addr: String, time: u64) {
        if self.0.len() < PEERS_MAX {
            self.0.insert(conn, Peer { addr, first: time, last: time, ..Peer::default() });
        }
    }

    pub fn message(&mut self, conn: u32, from_it: bool, message: &Message, time: u64) {
        let Some(peer) = self.0.get_mut(&conn) else { return };
        peer.pass(time);
        match (from_it, message) {
            (true, Message::Choke) => peer.unchoked_us = false,
            (true, Message::Unchoke) => peer.unchoked_us = true,
            (false, Message::Request(span)) if peer.asked.len() < REQUESTS_MAX => {
                peer.asked.insert((span.piece, span.begin), time);
            }
            (true, Message::Block(span)) => {
                if let Some(asked) = peer.asked.remove(&(span.piece, span.begin)) {
                    peer.latency += time.saturating_sub(asked);
                    peer.blocks += 1;
                }
                peer.bytes += u64::from(span.length);
            }
            (true, Message::Reject(span)) | (false, Message::Cancel(span)) => {
                peer.asked.remove(&(span.piece, span.begin));
            }
            (false, Message::Block(span)) => peer.given += u64::from(span.length),
            _ => {}
        }
    }

    /// A sentence for each peer that mattered, with its number.
    pub fn sentences(&self) -> impl Iterator<Item = String> {
        let here = |(_, peer): &(&u32, &Peer)| {
            peer.bytes + peer.given != 0 || SHORT <= peer.last.saturating_sub(peer.first)
        };
        self.0
            .iter()
            .filter(here)
            .map(|(conn, peer)| format!("#{conn} {}: {}", peer.addr, peer.sentence()))
    }
}

impl Peer {
    /// The time since the last message goes to what it was spent on.
    fn pass(&mut self, time: u64) {
        let passed = time.saturating_sub(self.last);
        if !self.asked.is_empty() {
            self.waiting += passed;
        } else if !self.unchoked_us {
            self.choked += passed;
        }
        self.last = self.last.max(time);
    }

    fn sentence(&self) -> String {
        let seconds = |us: u64| us as f64 / 1e6;
        let whole = self.last.saturating_sub(self.first);
        let idle = whole.saturating_sub(self.waiting + self.choked);
        let mean = self.latency.checked_div(self.blocks).unwrap_or(0) as f64 / 1e3;
        format!(
            "{:.3} s: {:.3} s waiting for blocks, {:.3} s choked by it, {:.3} s with nothing asked; \
             {} blocks came, {mean:.1} ms after their request on average; {} from it, {} to it",
            seconds(whole),
            seconds(self.waiting),
            seconds(self.choked),
            seconds(idle),
            self.blocks,
            size(self.bytes),
            size(self.given)
        )
    }
}
