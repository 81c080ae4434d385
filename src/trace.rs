//! `--trace`: every message and every decision, one line each, with its reason; `--trace-file`: the
//! same in a compact file, for `decode`.
//!
//! ```text
//!    0.214 picker    #4 10.0.0.3:6881 request piece 17 block 3 of #4: rarest, 1 of 6 peers has it; …
//!    0.214 wire      #4 10.0.0.3:6881 → request piece 17 block 3 (16384 bytes): send me this block
//!    0.231 wire      #4 10.0.0.3:6881 ← piece piece 17 block 3 (16384 bytes): the bytes of a block, …
//!    seconds, topic, peer, direction, what, why or what it means; with `bytes` also the bytes
//! ```
//!
//! A filter is a list: topics, `bytes`, and `peer=IP` or `peer=IP:PORT` for one peer alone. What goes
//! into a file is not filtered.
//!
//! A [`Trace`] is a pointer that every thread has a copy of, or none. When it is off, a call is one
//! test: no line is made that nobody reads. A session has one, as long as the program lives.
//!
//! Layer: hands. Owns nothing; lines go to standard error, each in one write.

mod recorder;

use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::capture::{Record, What};
use crate::explain::hex;
use crate::peer::Link;
use crate::picker::ConnId;
use crate::printable::printable;
use crate::wire::handshake::{self, HANDSHAKE_LEN};
use crate::wire::message::Message;

use recorder::Intake;
pub use recorder::Recorder;

/// What can be traced, in the order of the bits. The names are those of `--trace=…`.
#[rustfmt::skip]
pub const TOPICS: [&str; 11] = [
    "wire", "picker", "choker", "swarm", "tracker", "assembler", "dht", "pex", "metadata", "lsd", "web",
];

/// With `bytes`, so many of a message are shown.
const BYTES_SHOWN: usize = 64;

#[derive(Debug, Clone, Copy)]
pub struct Trace {
    shared: Option<&'static Shared>,
    /// Whom a connection's own copy speaks of.
    addr: Option<SocketAddr>,
}

/// What all copies have in common.
#[derive(Debug)]
struct Shared {
    filter: Filter,
    start: Instant,
    file: Option<Intake>,
}

/// Which lines go to standard error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Filter {
    topics: u16,
    bytes: bool,
    /// Of this peer only: an address, with a port or without.
    peer: Option<String>,
}

/// Which way a message goes, seen from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

impl Filter {
    /// The error is the word that means nothing.
    fn parse(words: &str) -> Result<Filter, String> {
        let mut filter = Filter::default();
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match (word, word.strip_prefix("peer=")) {
                ("bytes", _) => filter.bytes = true,
                (_, Some(peer)) => filter.peer = Some(peer.to_owned()),
                _ => {
                    let bit = TOPICS.iter().position(|topic| *topic == word).ok_or(word)?;
                    filter.topics |= 1 << bit;
                }
            }
        }
        if filter.topics == 0 {
            filter.topics = (1 << TOPICS.len()) - 1;
        }
        Ok(filter)
    }

    fn has(&self, topic: &str) -> bool {
        let bit = TOPICS.iter().position(|known| *known == topic);
        bit.is_some_and(|bit| self.topics & (1 << bit) != 0)
    }

    fn shows(&self, topic: &str, addr: Option<SocketAddr>) -> bool {
        self.has(topic)
            && self.peer.as_ref().is_none_or(|peer| {
                addr.is_some_and(|addr| {
                    addr.to_string() == *peer || addr.ip().to_canonical().to_string() == *peer
                })
            })
    }
}

impl Trace {
    pub fn off() -> Trace {
        Trace { shared: None, addr: None }
    }

    /// A trace of what is in a comma-separated list; of all if it is empty. The error is the word
    /// that means nothing.
    pub fn of(filter: &str) -> Result<Trace, String> {
        Ok(Trace::new(Filter::parse(filter)?, None))
    }

    fn new(filter: Filter, file: Option<Intake>) -> Trace {
        // One a program: every thread may hold it, and nobody need count who still does.
        let shared = Box::leak(Box::new(Shared { filter, start: Instant::now(), file }));
        Trace { shared: Some(shared), addr: None }
    }

    /// The same, and all of it into a file too.
    pub fn recorded(self, recorder: &Recorder) -> Trace {
        let filter = self.shared.map(|shared| shared.filter.clone()).unwrap_or_default();
        Trace::new(filter, Some(recorder.intake()))
    }

    pub fn is_on(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether lines of it go to standard error.
    pub fn is_shown(&self) -> bool {
        self.shared.is_some_and(|shared| shared.filter.topics != 0)
    }

    /// The copy for one connection, which begins here.
    pub fn of_peer(self, link: &Link) -> Trace {
        if let Some((shared, file)) =
            self.shared.and_then(|shared| Some((shared, shared.file.as_ref()?)))
        {
            let incoming = [u8::from(link.incoming)];
            let addr = link.addr.to_string();
            file.put(What::Peer, link.conn.0, shared.start, &[&incoming, addr.as_bytes()]);
        }
        Trace { addr: Some(link.addr), ..self }
    }

    /// The connection is no more; a dial that failed may never have been one.
    pub fn ends(&self, conn: ConnId) {
        if let Some((shared, file)) =
            self.shared.and_then(|shared| Some((shared, shared.file.as_ref()?)))
        {
            file.put(What::End, conn.0, shared.start, &[]);
        }
    }

    /// What somebody in the lab decided, by its name and at a time of its own.
    pub fn about_node(&self, time: Duration, topic: &str, node: &str, what: &str) {
        let Some(shared) = self.shared else { return };
        let filter = &shared.filter;
        if filter.has(topic) && filter.peer.as_ref().is_none_or(|peer| peer == node) {
            shared.line_at(time, topic, &format!("{node}: {what}"));
        }
    }

    /// A line at the end, which is about all of it.
    pub fn ending(&self, line: &str) {
        let _ = writeln!(std::io::stderr(), "{}", printable(line));
    }

    /// A message of a peer or to a peer, and how it goes over the wire (of a block, the header).
    pub fn message(&self, direction: Direction, conn: ConnId, message: &Message, raw: &[u8]) {
        if let Some(shared) = self.shared {
            self.wire(shared, direction, conn, &|| message.explained(), raw);
        }
    }

    pub fn handshake(&self, direction: Direction, conn: ConnId, raw: &[u8; HANDSHAKE_LEN]) {
        if let Some(shared) = self.shared {
            self.wire(shared, direction, conn, &|| handshake::explained(raw), raw);
        }
    }

    fn wire(
        &self,
        shared: &Shared,
        direction: Direction,
        conn: ConnId,
        what: &dyn Fn() -> String,
        raw: &[u8],
    ) {
        let (arrow, record) = match direction {
            Direction::In => ('←', What::FromPeer),
            Direction::Out => ('→', What::ToPeer),
        };
        if let Some(file) = &shared.file {
            file.put(record, conn.0, shared.start, &[raw]);
        }
        if shared.filter.shows("wire", self.addr) {
            let bytes = match shared.filter.bytes {
                true => format!(" | {}", hex(raw, BYTES_SHOWN)),
                false => String::new(),
            };
            let peer = peer(Some(conn), self.addr);
            shared.line("wire", &format!("{peer}{arrow} {}{bytes}", what()));
        }
    }

    /// What happened or was decided, under one of [`TOPICS`].
    pub fn about(&self, topic: &str, what: &dyn Display) {
        self.about_peer(topic, None, None, what);
    }

    /// As [`about`](Self::about), of one peer.
    pub fn about_peer(
        &self,
        topic: &str,
        conn: Option<ConnId>,
        addr: Option<SocketAddr>,
        what: &dyn Display,
    ) {
        let Some(shared) = self.shared else { return };
        if let Some(file) = &shared.file {
            let (conn, text) = (conn.map_or(0, |conn| conn.0), what.to_string());
            file.put(What::Line, conn, shared.start, &[topic.as_bytes(), b" ", text.as_bytes()]);
        }
        if shared.filter.shows(topic, addr) {
            let what = what.to_string();
            // A line that names the peer itself need not have it twice.
            let known = addr.is_some_and(|addr| what.contains(&addr.to_string()));
            let peer = if known { String::new() } else { peer(conn, addr) };
            shared.line(topic, &(peer + &what));
        }
    }
}

impl Shared {
    fn line(&self, topic: &str, what: &str) {
        self.line_at(self.start.elapsed(), topic, what);
    }

    fn line_at(&self, time: Duration, topic: &str, what: &str) {
        let time = time.as_secs_f64();
        let line = format!("{time:9.3} {topic:<9} {}\n", printable(what));
        // Nobody to read it is no reason to stop.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// Who it is about, with a space behind.
fn peer(conn: Option<ConnId>, addr: Option<SocketAddr>) -> String {
    match (conn, addr) {
        (Some(conn), Some(addr)) => format!("{conn} {addr} "),
        (Some(conn), None) => format!("{conn} "),
        (None, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_topics_and_a_peer() {
        let filter = |words: &str| Filter::parse(words).unwrap();
        assert_eq!(filter("").topics, 0b111_1111_1111);
        assert_eq!(filter("wire, tracker,bytes").topics, 0b1_0001);
        assert_eq!(Trace::of("wire,wires").unwrap_err(), "wires");
        assert!(!Trace::off().is_on());
        let one = filter("picker,peer=10.0.0.3");
        let addr = |text: &str| Some(text.parse().unwrap());
        assert!(one.shows("picker", addr("10.0.0.3:1")) && !one.shows("wire", addr("10.0.0.3:1")));
        assert!(one.shows("picker", addr("[::ffff:10.0.0.3]:1")));
        assert!(!one.shows("picker", addr("10.0.0.4:1")) && !one.shows("picker", None));
        assert!(filter("peer=[::1]:7").shows("swarm", addr("[::1]:7")));
    }
}
