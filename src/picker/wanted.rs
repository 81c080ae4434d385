//! Some pieces only: which are wanted, and what is missing of them.
//!
//! What is not wanted is not in the order of rarity, so it is never begun; all that is counted counts
//! wanted pieces.
//!
//! Layer: decisions. A part of the picker.

use super::Picker;
use crate::bitfield::Bitfield;
use crate::geometry::PieceIndex;

impl Picker {
    /// Only these pieces are fetched; before anything has been picked.
    pub fn wanting(mut self, wanted: Bitfield) -> Picker {
        assert_eq!(wanted.len(), self.geometry.pieces(), "a bitfield of this torrent");
        let others = (0..wanted.len()).filter(|&piece| !wanted.contains(piece));
        others.for_each(|piece| self.rarity.remove(piece));
        self.wanted = wanted;
        self.count_missing();
        self
    }

    pub(super) fn count_missing(&mut self) {
        let len = |piece: PieceIndex| u64::from(self.geometry.piece_len(piece));
        self.wanted_bytes = self.wanted.iter().map(len).sum();
        let missing: Vec<PieceIndex> = self.wanted.iter().filter(|&p| self.lacks(p)).collect();
        self.missing = missing.len() as u32;
        self.missing_bytes = missing.into_iter().map(len).sum();
    }

    /// Whether a piece is wanted and not verified yet.
    pub fn lacks(&self, piece: PieceIndex) -> bool {
        self.wanted.contains(piece) && !self.have.contains(piece)
    }

    /// How many pieces are wanted, and of these: missing. The same in bytes.
    pub fn wanted(&self) -> (u32, u32) {
        (self.wanted.count(), self.missing)
    }

    pub fn wanted_bytes(&self) -> (u64, u64) {
        (self.wanted_bytes, self.missing_bytes)
    }

    /// The first piece that we lack and no connected peer has.
    pub fn unavailable(&self) -> Option<PieceIndex> {
        let lacking = (0..self.geometry.pieces()).filter(|&piece| self.lacks(piece));
        lacking.into_iter().find(|&piece| self.availability(piece) == 0)
    }
}
