//! A set of pieces as BEP 3 sends it: one bit a piece, the highest bit of the first byte is piece 0.
//!
//! ```text
//! byte 0          byte 1
//! 7 6 5 4 3 2 1 0 7 6 5 …      bit 7 of byte 0 = piece 0; bits past the last piece are zero
//! ```
//!
//! Layer: values.

use crate::geometry::PieceIndex;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bitfield {
    bytes: Vec<u8>,
    len: u32,
    /// How many bits are set, kept so that "is it complete?" costs nothing.
    count: u32,
}

impl Bitfield {
    /// A set for `len` pieces, empty.
    pub fn new(len: u32) -> Bitfield {
        Bitfield { bytes: vec![0; len.div_ceil(8) as usize], len, count: 0 }
    }

    /// A set with every piece in it.
    pub fn full(len: u32) -> Bitfield {
        let mut all = Bitfield { bytes: vec![0xff; len.div_ceil(8) as usize], len, count: len };
        if !len.is_multiple_of(8) {
            *all.bytes.last_mut().expect("len is not 0") = 0xff << (8 - len % 8);
        }
        all
    }

    /// A set with these pieces in it, of `len`. They must exist.
    pub fn with(len: u32, pieces: impl IntoIterator<Item = PieceIndex>) -> Bitfield {
        let mut set = Bitfield::new(len);
        for piece in pieces {
            set.insert(piece);
        }
        set
    }

    /// Takes the payload of a `bitfield` message. `None` if it has the wrong length or a spare bit
    /// is set: BEP 3 says to drop the connection then.
    pub fn from_wire(bytes: &[u8], len: u32) -> Option<Bitfield> {
        if bytes.len() != len.div_ceil(8) as usize {
            return None;
        }
        if !len.is_multiple_of(8) && bytes.last()? & (0xff >> (len % 8)) != 0 {
            return None;
        }
        let count = bytes.iter().map(|byte| byte.count_ones()).sum();
        Some(Bitfield { bytes: bytes.to_vec(), len, count })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many pieces the torrent has, in the set or not.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// How many pieces are in the set.
    pub fn count(&self) -> u32 {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn is_full(&self) -> bool {
        self.count == self.len
    }

    /// Whether a piece is in the set; a piece that does not exist is not.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        piece < self.len && self.bytes[(piece / 8) as usize] & (0x80 >> (piece % 8)) != 0
    }

    /// Adds a piece; true if it was not there. The piece must exist.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        assert!(piece < self.len, "piece {piece} of {}", self.len);
        let fresh = !self.contains(piece);
        self.bytes[(piece / 8) as usize] |= 0x80 >> (piece % 8);
        self.count += u32::from(fresh);
        fresh
    }

    /// Removes a piece; true if it was there. The piece must exist.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        assert!(piece < self.len, "piece {piece} of {}", self.len);
        let there = self.contains(piece);
        self.bytes[(piece / 8) as usize] &= !(0x80 >> (piece % 8));
        self.count -= u32::from(there);
        there
    }

    /// The pieces in the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        (0..self.len).filter(|&piece| self.contains(piece))
    }

    /// The pieces that are in both sets, in order. Sets of millions that have few in common are
    /// compared in microseconds: many bytes at once.
    pub fn common<'a>(&'a self, other: &'a Bitfield) -> impl Iterator<Item = PieceIndex> + 'a {
        self.common_from(other, 0)
    }

    /// The same, from a piece on.
    pub fn common_from<'a>(
        &'a self,
        other: &'a Bitfield,
        begin: PieceIndex,
    ) -> impl Iterator<Item = PieceIndex> + 'a {
        const STEP: usize = 64;
        let steps = self.bytes.chunks(STEP).zip(other.bytes.chunks(STEP)).enumerate();
        let steps = steps.skip(begin as usize / (STEP * 8));
        let some =
            steps.filter(|(_, (a, b))| a.iter().zip(*b).fold(0, |any, (a, b)| any | a & b) != 0);
        some.flat_map(move |(step, _)| {
            let first = ((step * STEP * 8) as u32).max(begin);
            let end = (((step + 1) * STEP * 8) as u32).min(self.len).min(other.len);
            (first..end).filter(move |&piece| self.contains(piece) && other.contains(piece))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bit_is_the_first_piece() {
        let mut set = Bitfield::new(10);
        assert!(set.insert(0) && set.insert(9) && !set.insert(9));
        assert_eq!(set.as_bytes(), [0b1000_0000, 0b0100_0000]);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 9]);
        assert!(set.remove(0) && !set.remove(0));
        assert_eq!(set.count(), 1);
    }

    #[test]
    fn spare_bits_and_wrong_lengths_are_refused() {
        assert!(Bitfield::from_wire(&[0xff, 0xc0], 10).unwrap().is_full());
        assert!(Bitfield::from_wire(&[0xff, 0xe0], 10).is_none());
        assert!(Bitfield::from_wire(&[0xff], 10).is_none());
        assert!(Bitfield::from_wire(&[0xff, 0xc0, 0], 10).is_none());
        assert!(Bitfield::from_wire(&[], 0).unwrap().is_full());
        assert_eq!(Bitfield::full(10), Bitfield::from_wire(&[0xff, 0xc0], 10).unwrap());
        assert_eq!(Bitfield::full(16).as_bytes(), [0xff, 0xff]);
    }

    #[test]
    fn what_two_sets_have_in_common() {
        let a = Bitfield::with(5_000, (0..5_000).step_by(3));
        let b = Bitfield::with(5_000, (0..5_000).filter(|piece| *piece > 4_000 && piece % 7 == 0));
        let both: Vec<u32> = (4_001..5_000).filter(|piece| piece % 21 == 0).collect();
        assert_eq!(a.common(&b).collect::<Vec<_>>(), both);
        assert_eq!(Bitfield::new(9).common(&Bitfield::full(9)).next(), None);
    }
}
