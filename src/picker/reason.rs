//! Why a block was asked for.
//!
//! Layer: decisions. A part of the picker.

use std::time::Duration;

/// Why a block was chosen: told by `--trace`, tested by the scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The piece is begun, and this peer is at it.
    Finish,
    /// The piece is begun by others.
    Join,
    /// One of the first pieces: any will do.
    Random,
    /// The peer suggests it, and alone has it.
    Suggested,
    /// So many of the peers have it, none is rarer.
    Rarest { have: u32, peers: u32 },
    /// The next in order.
    InOrder,
    /// In order, and others hold it up for a while.
    Urgent { due: Duration },
    /// Nothing is left unasked; this block is owed by somebody else for a while.
    Endgame { due: Duration },
    /// This peer has nothing else that we lack.
    Help { due: Duration },
    /// The piece failed its hash; it is fetched from one peer alone to find out who lied.
    Suspect,
    /// Nobody is at these pieces, and they lie side by side.
    Gap,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Reason::Finish => f.write_str("the piece is begun with this peer"),
            Reason::Join => f.write_str("the piece is begun, finish it first"),
            Reason::Random => f.write_str("one of the first pieces, at random"),
            Reason::Suggested => f.write_str("suggested by the peer, which alone has it"),
            Reason::Rarest { have, peers } => write!(f, "rarest, {have} of {peers} peers have it"),
            Reason::InOrder => f.write_str("the next in order"),
            Reason::Urgent { due } => {
                write!(f, "next in order, asked elsewhere {} ms ago", due.as_millis())
            }
            Reason::Endgame { due } => {
                write!(f, "endgame, asked elsewhere {} ms ago", due.as_millis())
            }
            Reason::Help { due } => {
                write!(f, "nothing else to ask of it, asked elsewhere {} ms ago", due.as_millis())
            }
            Reason::Suspect => f.write_str("the piece failed its hash, so from one peer alone"),
            Reason::Gap => f.write_str("side by side, and nobody is at them"),
        }
    }
}
