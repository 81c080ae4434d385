//! Where the time went, peer by peer and of the whole run, from the messages of a capture.
//!
//! ```text
//! connected ├───────────────────────────────────────────────────────────┤
//! no interest ├──┤ it has nothing that we want, as far as we told it     ├──┤
//! choked         ├────────┤ we want something, and it answers nothing
//! waiting                 ├──────────────────┤ requests are with it
//! nothing asked                              ├───┤ it would answer
//! ```
//!
//! Of the whole run each moment goes to the best that any peer was doing: waiting for blocks, else
//! nothing asked, else choked, else nobody of interest.
//!
//! Layer: values.

use std::collections::{BTreeMap, HashMap};

use crate::capture::{Record, What};
use crate::printable::clipped;
use crate::units::size;
use crate::wire::message::{self, Message};

/// So many peers are remembered, and so many requests of each.
const PEERS_MAX: usize = 10_000;
const REQUESTS_MAX: usize = 4096;

/// Who left sooner, in microseconds, and had nothing to give or to get, is not worth a word.
const SHORT: u64 = 20_000;

/// What a peer is to us at a moment, the best first.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Waiting,
    NothingAsked,
    Choked,
    NoInterest,
}

/// Of every peer, by its number. Times in microseconds.
#[derive(Default)]
pub struct Times {
    peers: BTreeMap<u32, Peer>,
    /// How many peers are in each state now, and how long that was the best one.
    now: [usize; 4],
    spent: [u64; 4],
    first: Option<u64>,
    last: u64,
}

#[derive(Default)]
struct Peer {
    addr: String,
    first: u64,
    last: u64,
    unchoked_us: bool,
    interested: bool,
    ended: bool,
    spent: [u64; 4],
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
        self.peers.get(&conn).map_or("", |peer| &peer.addr)
    }

    /// Takes a record of a capture into account, in the order of time.
    pub fn record(&mut self, record: &Record) {
        let (conn, time) = (record.conn, record.time);
        match record.what {
            Some(What::Peer) => {
                let addr = record.payload.get(1..).unwrap_or_default();
                let addr = clipped(&String::from_utf8_lossy(addr), 60);
                self.pass(time);
                if self.peers.len() < PEERS_MAX && !self.peers.contains_key(&conn) {
                    let peer = Peer { addr, first: time, last: time, ..Peer::default() };
                    self.now[peer.state() as usize] += 1;
                    self.peers.insert(conn, peer);
                }
            }
            Some(what @ (What::FromPeer | What::ToPeer)) => {
                if let Some(message) = message::recorded(record.payload) {
                    self.change(conn, time, |peer| {
                        peer.message(what == What::FromPeer, &message, time);
                    });
                }
            }
            Some(What::End) => self.change(conn, time, |peer| peer.ended = true),
            _ => {}
        }
    }

    /// The time since the last record goes to the best of what there was.
    fn pass(&mut self, time: u64) {
        let passed = time.saturating_sub(*self.first.get_or_insert(time).max(&mut self.last));
        let best = self.now.iter().position(|count| *count != 0);
        self.spent[best.unwrap_or(State::NoInterest as usize)] += passed;
        self.last = self.last.max(time);
    }

    fn change(&mut self, conn: u32, time: u64, change: impl FnOnce(&mut Peer)) {
        self.pass(time);
        let Some(peer) = self.peers.get_mut(&conn).filter(|peer| !peer.ended) else { return };
        peer.pass(time);
        self.now[peer.state() as usize] -= 1;
        change(peer);
        if !peer.ended {
            self.now[peer.state() as usize] += 1;
        }
    }

    /// A sentence for each peer that mattered, with its number, and one for the whole run.
    pub fn sentences(&self) -> impl Iterator<Item = String> {
        let here = |(_, peer): &(&u32, &Peer)| {
            peer.bytes + peer.given != 0 || SHORT <= peer.last.saturating_sub(peer.first)
        };
        let of_peers = self
            .peers
            .iter()
            .filter(here)
            .map(|(conn, peer)| format!("#{conn} {}: {}", peer.addr, peer.sentence()));
        let whole = self.first.map(|first| {
            let [waiting, nothing, choked, none] = self.spent.map(seconds);
            format!(
                "the whole run, {:.3} s: {waiting:.3} s waiting for blocks of anybody, {nothing:.3} s with \
                 nothing asked though somebody would answer, {choked:.3} s choked by all of interest, \
                 {none:.3} s with nobody of interest",
                seconds(self.last - first)
            )
        });
        of_peers.chain(whole)
    }
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

impl Peer {
    fn state(&self) -> State {
        match () {
            () if !self.asked.is_empty() => State::Waiting,
            () if !self.interested => State::NoInterest,
            () if !self.unchoked_us => State::Choked,
            () => State::NothingAsked,
        }
    }

    /// The time since the last message goes to what it was spent on.
    fn pass(&mut self, time: u64) {
        self.spent[self.state() as usize] += time.saturating_sub(self.last);
        self.last = self.last.max(time);
    }

    fn message(&mut self, from_it: bool, message: &Message, time: u64) {
        match (from_it, message) {
            (true, Message::Choke) => self.unchoked_us = false,
            (true, Message::Unchoke) => self.unchoked_us = true,
            (false, Message::Interested) => self.interested = true,
            (false, Message::NotInterested) => self.interested = false,
            (false, Message::Request(span)) if self.asked.len() < REQUESTS_MAX => {
                self.asked.insert((span.piece, span.begin), time);
            }
            (true, Message::Block(span)) => {
                if let Some(asked) = self.asked.remove(&(span.piece, span.begin)) {
                    self.latency += time.saturating_sub(asked);
                    self.blocks += 1;
                }
                self.bytes += u64::from(span.length);
            }
            (true, Message::Reject(span)) | (false, Message::Cancel(span)) => {
                self.asked.remove(&(span.piece, span.begin));
            }
            (false, Message::Block(span)) => self.given += u64::from(span.length),
            _ => {}
        }
    }

    fn sentence(&self) -> String {
        let [waiting, nothing, choked, none] = self.spent.map(seconds);
        let mean = self.latency.checked_div(self.blocks).unwrap_or(0) as f64 / 1e3;
        format!(
            "{:.3} s: {waiting:.3} s waiting for blocks, {choked:.3} s choked by it, {nothing:.3} s with \
             nothing asked, {none:.3} s not interested; {} blocks came, {mean:.1} ms after their request \
             on average; {} from it, {} to it",
            seconds(self.last.saturating_sub(self.first)),
            self.blocks,
            size(self.bytes),
            size(self.given)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Span;

    #[test]
    fn time_in_which_we_want_nothing_is_not_the_peers_fault() {
        let mut times = Times::default();
        let mut at = |ms: u64, what: What, message: Option<Message>| {
            let mut payload = Vec::new();
            message.iter().for_each(|message| message.encode(&mut payload));
            let (what, conn, time) = (Some(what), 1, 1000 * ms);
            times.record(&Record { what, conn, time, payload: &payload });
        };
        let span = Span { piece: 0, begin: 0, length: 16384 };
        at(0, What::Peer, None);
        at(1000, What::ToPeer, Some(Message::Interested));
        at(1500, What::FromPeer, Some(Message::Unchoke));
        at(1600, What::ToPeer, Some(Message::Request(span)));
        at(1800, What::ToPeer, Some(Message::Cancel(span)));
        at(2000, What::End, None);
        at(9000, What::FromPeer, Some(Message::Choke));
        let said: Vec<String> = times.sentences().collect();
        assert!(
            said[0].contains(
                "2.000 s: 0.200 s waiting for blocks, 0.500 s choked by it, 0.300 s with nothing \
                 asked, 1.000 s not interested"
            ),
            "{said:?}"
        );
        assert!(said[1].contains("the whole run, 9.000 s: 0.200 s waiting"), "{said:?}");
        assert!(said[1].ends_with("8.000 s with nobody of interest"), "{said:?}");
    }
}
