//! Who sent the bad block (what libtorrent calls smart ban).
//!
//! A piece that fails its hash may hold blocks of several peers, and the hash does not say which one
//! is wrong. So the hash of each block is kept, with its sender; when the piece has been fetched
//! again and matches, the blocks are compared: whose block differs, lied. The others are innocent.
//!
//! ```text
//! piece 7, failed:    block 0 of #3: 9f…   block 1 of #5: 02…   block 2 of #3: c4…
//! piece 7, verified:  block 0        9f…   block 1        77…   block 2        c4…    #5 is guilty
//! ```
//!
//! Layer: decisions. Pure; owned by the assembler, which has the bytes at hand.

use std::collections::VecDeque;

use crate::geometry::PieceIndex;
use crate::hash::Sha1;
use crate::order;
use crate::picker::ConnId;

/// Failed pieces that are remembered. An attacker who makes more of them at the same time is found
/// by one of these; each costs at most 24 bytes a block.
const FAILURES_MAX: usize = 64;

/// One attempt at a piece that failed.
struct Failure {
    piece: PieceIndex,
    blocks: Vec<(ConnId, Sha1)>,
}

#[derive(Default)]
pub struct Blame {
    failures: VecDeque<Failure>,
}

impl Blame {
    /// Whether a verified piece should be compared at all: nearly never.
    pub fn concerns(&self, piece: PieceIndex) -> bool {
        self.failures.iter().any(|failure| failure.piece == piece)
    }

    /// A piece failed; these are its blocks, in order. The oldest failure is forgotten for it if
    /// there are too many.
    pub fn failed(&mut self, piece: PieceIndex, blocks: Vec<(ConnId, Sha1)>) {
        if FAILURES_MAX <= self.failures.len() {
            self.failures.pop_front();
        }
        self.failures.push_back(Failure { piece, blocks });
    }

    /// A piece matched; these are the hashes of its blocks, in order. Returns who sent others.
    pub fn verified(&mut self, piece: PieceIndex, blocks: &[Sha1]) -> Vec<ConnId> {
        let mut guilty: Vec<ConnId> = self
            .failures
            .iter()
            .filter(|failure| failure.piece == piece)
            .flat_map(|failure| failure.blocks.iter().zip(blocks))
            .filter(|((_, sent), right)| sent != *right)
            .map(|((conn, _), _)| *conn)
            .collect();
        order::sort(&mut guilty);
        guilty.dedup();
        self.failures.retain(|failure| failure.piece != piece);
        guilty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u8) -> Sha1 {
        Sha1([n; 20])
    }

    #[test]
    fn only_those_who_sent_other_bytes_are_guilty() {
        let (a, b, c) = (ConnId(1), ConnId(2), ConnId(3));
        let mut blame = Blame::default();
        blame.failed(7, vec![(a, hash(0)), (b, hash(66)), (a, hash(2))]);
        blame.failed(7, vec![(c, hash(0)), (c, hash(1)), (b, hash(66))]);
        blame.failed(8, vec![(a, hash(66))]);
        assert!(blame.concerns(7) && !blame.concerns(9));
        assert_eq!(blame.verified(7, &[hash(0), hash(1), hash(2)]), [b]);
        assert!(!blame.concerns(7) && blame.concerns(8));
        assert_eq!(blame.verified(8, &[hash(0)]), [a]);
    }

    #[test]
    fn the_oldest_failures_are_forgotten() {
        let mut blame = Blame::default();
        for piece in 0..2 * FAILURES_MAX as u32 {
            blame.failed(piece, vec![(ConnId(1), hash(1))]);
        }
        assert!(!blame.concerns(0) && blame.concerns(FAILURES_MAX as u32));
    }
}
