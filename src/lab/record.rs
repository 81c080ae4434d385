//! What happened in a run: for the live view, the page that replays it, and the sums at the end.
//!
//! Layer: programs. Owned by the world while it plays.

use std::time::Duration;

use crate::geometry::PieceIndex;
use crate::picker::ConnId;
use crate::swarm::Decision;

/// Decisions that are kept: a run of some minutes has thousands, and each is a line to read.
const DECISIONS_MAX: usize = 20_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    Joined {
        node: usize,
    },
    Left {
        node: usize,
    },
    /// A block came, of use or not.
    Block {
        from: usize,
        to: usize,
        bytes: u32,
    },
    /// The piece matched its hash.
    Stored {
        node: usize,
        piece: PieceIndex,
    },
    /// The piece did not.
    Corrupt {
        node: usize,
        piece: PieceIndex,
    },
    Finished {
        node: usize,
    },
    /// A decision of a node, about another one perhaps, in words.
    Decided {
        node: usize,
        about: Option<usize>,
        text: String,
    },
}

#[derive(Debug, Default)]
pub struct Record {
    /// Whether anything is written down at all.
    pub kept: bool,
    /// In the order in which they happened.
    pub moments: Vec<(Duration, Moment)>,
    pub decisions: usize,
}

impl Record {
    pub fn note(&mut self, at: Duration, moment: Moment) {
        if self.kept {
            self.moments.push((at, moment));
        }
    }

    /// Keeps a decision that says something about a peer; which block is asked of whom is too much.
    pub fn decided<'a>(
        &mut self,
        at: Duration,
        node: usize,
        decision: &Decision,
        node_of: impl Fn(ConnId) -> Option<(usize, &'a str)>,
    ) {
        let conn = match decision {
            Decision::Unchoke { conn, .. }
            | Decision::Choke { conn, .. }
            | Decision::Snub { conn, .. }
            | Decision::Drop { conn, .. } => Some(*conn),
            Decision::Ban { .. } | Decision::Corrupt { .. } => None,
            _ => return,
        };
        if self.decisions < DECISIONS_MAX {
            self.decisions += 1;
            let text = decision.to_string();
            // Our number for a connection means nothing to who looks from above.
            let (about, text) = match conn.and_then(|conn| Some((conn, node_of(conn)?))) {
                Some((conn, (about, name))) => (Some(about), text.replace(&conn.to_string(), name)),
                None => (None, text),
            };
            self.note(at, Moment::Decided { node, about, text });
        }
    }

    /// The end of the run.
    pub fn end(&self) -> Duration {
        self.moments.last().map_or(Duration::ZERO, |(at, _)| *at)
    }
}
