//! `--trace`: every message and every decision, one line each, with its reason.
//!
//! ```text
//!    0.214 picker    request piece 17 block 3 of #4: rarest, 1 of 6 peers has it
//!    0.214 wire      #4 → request piece 17 block 3 (16384 bytes)
//!    0.231 wire      #4 ← piece piece 17 block 3 (16384 bytes)
//! ```
//!
//! A [`Trace`] is two words that every thread has a copy of. When it is off, a call is one test of
//! a bit: no line is made that nobody reads.
//!
//! Layer: hands. Owns nothing; lines go to standard error, each in one write.

use std::fmt::Display;
use std::io::Write;
use std::time::Instant;

use crate::picker::ConnId;
use crate::printable::printable;
use crate::wire::message::Message;

/// What can be traced, in the order of the bits. The names are those of `--trace=…`.
pub const TOPICS: [&str; 7] = ["wire", "picker", "choker", "swarm", "tracker", "assembler", "dht"];

const WIRE: u8 = 1;

#[derive(Debug, Clone, Copy)]
pub struct Trace {
    topics: u8,
    start: Instant,
}

/// Which way a message goes, seen from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

impl Trace {
    pub fn off() -> Trace {
        Trace { topics: 0, start: Instant::now() }
    }

    /// A trace of the topics in a comma-separated list; of all if it is empty. The error is the
    /// word that is no topic.
    pub fn of(filter: &str) -> Result<Trace, String> {
        let words = filter.split(',').map(str::trim).filter(|word| !word.is_empty());
        let mut topics = 0;
        for word in words {
            let bit = TOPICS.iter().position(|topic| *topic == word).ok_or(word)?;
            topics |= 1 << bit;
        }
        let all = (1 << TOPICS.len()) - 1;
        Ok(Trace { topics: if topics == 0 { all } else { topics }, start: Instant::now() })
    }

    pub fn is_on(&self) -> bool {
        self.topics != 0
    }

    /// A message of a peer or to a peer.
    pub fn message(&self, direction: Direction, conn: ConnId, message: &Message) {
        if self.topics & WIRE != 0 {
            let arrow = if direction == Direction::In { '←' } else { '→' };
            self.line("wire", &format_args!("{conn} {arrow} {message}"));
        }
    }

    /// What happened or was decided, under one of [`TOPICS`].
    pub fn about(&self, topic: &str, what: &dyn Display) {
        let bit = TOPICS.iter().position(|known| *known == topic);
        if bit.is_some_and(|bit| self.topics & (1 << bit) != 0) {
            self.line(topic, what);
        }
    }

    fn line(&self, topic: &str, what: &dyn Display) {
        let time = self.start.elapsed().as_secs_f64();
        let line = format!("{time:9.3} {topic:<9} {}\n", printable(&what.to_string()));
        // Nobody to read it is no reason to stop.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_topics() {
        assert_eq!(Trace::of("").unwrap().topics, 0b111_1111);
        assert_eq!(Trace::of("wire, tracker").unwrap().topics, 0b1_0001);
        assert_eq!(Trace::of("wire,wires").unwrap_err(), "wires");
        assert!(!Trace::off().is_on());
    }
}
