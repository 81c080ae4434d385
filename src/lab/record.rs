//! What happened in a run: for the live view, the page that replays it, and the sums at the end.
//!
//! Layer: programs. Owned by the world while it plays.

use std::time::Duration;

use crate::geometry::PieceIndex;
use crate::picker::ConnId;
use crate::swarm::Decision;
use crate::trace::Trace;

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

#[derive(Debug)]
pub struct Record {
    /// Whether anything is written down at all.
    pub kept: bool,
    /// In the order in which they happened.
    pub moments: Vec<(Duration, Moment)>,
    pub decisions: usize,
    /// Who watches: it is told every decision, whether it is kept or not.
    pub trace: Trace,
}

impl Record {
    pub fn new(kept: bool, trace: Trace) -> Record {
        Record { kept, moments: Vec::new(), decisions: 0, trace }
    }

    pub fn note(&mut self, at: Duration, moment: Moment) {
        if self.kept {
            self.moments.push((at, moment));
        }
    }

    /// Tells the trace, and keeps a decision that says something about a peer; which block is asked of whom is too much.
    pub fn decided<'a>(
        &mut self,
        at: Duration,
        (node, name): (usize, &str),
        decision: &Decision,
        node_of: impl Fn(ConnId) -> Option<(usize, &'a str)>,
    ) {
        let known = decision.peer().0.and_then(|conn| Some((conn, node_of(conn)?)));
        // Our number for a connection means nothing to who looks from above.
        let text = || match known {
            Some((conn, (_, other))) => decision.to_string().replace(&conn.to_string(), other),
            None => decision.to_string(),
        };
        if self.trace.is_on() {
            self.trace.about_node(at, decision.topic(), name, &text());
        }
        let is_kept = matches!(
            decision,
            Decision::Unchoke { .. }
                | Decision::Choke { .. }
                | Decision::Snub { .. }
                | Decision::Drop { .. }
                | Decision::Ban { .. }
                | Decision::Corrupt { .. }
        );
        if is_kept && self.decisions < DECISIONS_MAX {
            self.decisions += 1;
            let about = known.map(|(_, (about, _))| about);
            self.note(at, Moment::Decided { node, about, text: text() });
        }
    }

    /// The end of the run.
    pub fn end(&self) -> Duration {
        self.moments.last().map_or(Duration::ZERO, |(at, _)| *at)
    }
}
