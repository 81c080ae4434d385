//! How far the search for the metadata is, in numbers and in words: what it waits for.
//!
//! Layer: decisions.

use std::fmt;

use super::Search;
use crate::swarm::Stuck;
use crate::units::count;

/// How far the search is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Pieces of the metadata, of so many; 0 while nobody has said how long it is.
    pub have: u32,
    pub pieces: u32,
    /// The peers that are asked for them.
    pub from: usize,
    pub connected: usize,
    pub known: usize,
    /// Why there is nobody to ask.
    pub stuck: Option<Stuck>,
    /// Who has not answered yet that may know others.
    pub silent: String,
}

impl Search {
    pub fn progress(&self) -> Progress {
        let (have, pieces, from) = self.fetch.progress();
        Progress {
            have,
            pieces,
            from,
            connected: self.peers.len(),
            known: self.book.known(),
            stuck: self
                .peers
                .is_empty()
                .then(|| self.heard.why_nobody(&self.book, self.dials.len())),
            silent: self.heard.said(true),
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let peers = |n: usize| count(n as u64, "peer");
        match &self.stuck {
            Some(stuck) => write!(f, "metadata: no peer yet: {stuck}"),
            None if self.from == 0 => {
                write!(f, "metadata: {} connected, none offers it yet", peers(self.connected))?;
                if self.silent.is_empty() { Ok(()) } else { write!(f, "; {}", self.silent) }
            }
            None => {
                let Progress { have, pieces, from, .. } = self;
                write!(
                    f,
                    "metadata: {have} of {} from {}",
                    count((*pieces).into(), "piece"),
                    peers(*from)
                )
            }
        }
    }
}
