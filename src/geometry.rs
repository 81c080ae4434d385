//! How a torrent is cut up (BEP 3): torrent > piece > block.
//!
//! ```text
//! the torrent's bytes  |-------- piece 0 --------|-------- piece 1 --------|-- piece 2 --|
//!                      |  16 KiB  |  16 KiB  |  …|                         | last, short |
//!                         block 0    block 1
//! ```
//!
//! A piece is what has a SHA-1, and may be a prime number of bytes long; a block is what one request
//! asks for: 16 KiB, or what is left at the end of a piece. A [`Span`] is a run of bytes inside one
//! piece, as requests and blocks name it on the wire.
//!
//! Layer: values. Pure arithmetic, checked where a number comes from outside.

use std::ops::Range;

/// The number of a piece, counted from 0. On the wire a `u32`.
pub type PieceIndex = u32;

/// What one request asks for. Larger requests are refused by many clients.
pub const BLOCK_LEN: u32 = 16 * 1024;

/// The longest piece we take. Clients agree on 16 MiB at most in practice; torrents of Terabytes
/// exist with 64 MiB and more.
pub const PIECE_LEN_MAX: u32 = 1 << 30;

/// The most pieces we take: 2 Mi, as libtorrent. A bitfield of 256 KiB, hashes of 40 MiB.
pub const PIECES_MAX: u32 = 2 << 20;

/// A run of bytes inside one piece: what `request`, `piece` and `cancel` carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    pub piece: PieceIndex,
    /// Offset in the piece, in bytes.
    pub begin: u32,
    /// In bytes; 1 to [`BLOCK_LEN`] for what we request.
    pub length: u32,
}

impl Span {
    /// At most `length` bytes of it, from `begin` on (counted from its own beginning).
    pub fn part(self, begin: u32, length: u32) -> Span {
        let begin = begin.min(self.length);
        let length = length.min(self.length - begin);
        Span { begin: self.begin + begin, length, ..self }
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "piece {} block {}", self.piece, self.begin / BLOCK_LEN)
    }
}

/// The sizes of a torrent, and all arithmetic on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    total_length: u64,
    piece_length: u32,
}

impl Geometry {
    /// `None` if the piece length is 0 or over [`PIECE_LEN_MAX`], or there are over [`PIECES_MAX`].
    pub fn new(total_length: u64, piece_length: u32) -> Option<Geometry> {
        if piece_length == 0 || PIECE_LEN_MAX < piece_length {
            return None;
        }
        let pieces = total_length.div_ceil(u64::from(piece_length));
        (pieces <= u64::from(PIECES_MAX)).then_some(Geometry { total_length, piece_length })
    }

    pub fn total_length(&self) -> u64 {
        self.total_length
    }

    /// The length of every piece but the last, in bytes.
    pub fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// How many pieces there are; 0 for a torrent without a byte.
    pub fn pieces(&self) -> u32 {
        // Fits: `new` has refused more than PIECES_MAX.
        self.total_length.div_ceil(u64::from(self.piece_length)) as u32
    }

    /// Where a piece begins in the torrent's bytes. The piece must exist.
    pub fn piece_offset(&self, piece: PieceIndex) -> u64 {
        assert!(piece < self.pieces(), "piece {piece} of {}", self.pieces());
        u64::from(piece) * u64::from(self.piece_length)
    }

    /// The length of one piece: only the last one may be shorter. The piece must exist.
    pub fn piece_len(&self, piece: PieceIndex) -> u32 {
        let left = self.total_length - self.piece_offset(piece);
        left.min(u64::from(self.piece_length)) as u32
    }

    /// How many blocks a piece has. The piece must exist.
    pub fn blocks(&self, piece: PieceIndex) -> u32 {
        self.piece_len(piece).div_ceil(BLOCK_LEN)
    }

    /// The span of one block. Piece and block must exist.
    pub fn block(&self, piece: PieceIndex, block: u32) -> Span {
        assert!(block < self.blocks(piece), "block {block} of piece {piece}");
        let begin = block * BLOCK_LEN;
        Span { piece, begin, length: BLOCK_LEN.min(self.piece_len(piece) - begin) }
    }

    /// The block that holds a byte of the torrent, which must exist.
    pub fn block_at(&self, offset: u64) -> Span {
        // Both fit: the first by PIECES_MAX, the second is below the piece length.
        let piece = (offset / u64::from(self.piece_length)) as PieceIndex;
        self.block(piece, (offset % u64::from(self.piece_length)) as u32 / BLOCK_LEN)
    }

    /// Whether a span named by a stranger lies inside an existing piece and is not empty.
    pub fn contains(&self, span: Span) -> bool {
        span.piece < self.pieces()
            && span.length != 0
            && span
                .begin
                .checked_add(span.length)
                .is_some_and(|end| end <= self.piece_len(span.piece))
    }

    /// The number of the block that a span is, if it is exactly one of our blocks.
    pub fn block_index(&self, span: Span) -> Option<u32> {
        let block = span.begin / BLOCK_LEN;
        (self.contains(span) && self.block(span.piece, block) == span).then_some(block)
    }

    /// Where a span lies in the torrent's bytes. It must be contained.
    pub fn bytes(&self, span: Span) -> Range<u64> {
        let start = self.piece_offset(span.piece) + u64::from(span.begin);
        start..start + u64::from(span.length)
    }

    /// The span that is one whole piece. The piece must exist.
    pub fn whole(&self, piece: PieceIndex) -> Span {
        Span { piece, begin: 0, length: self.piece_len(piece) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_piece_and_its_last_block_are_short() {
        let g = Geometry::new(100_000, 40_000).unwrap();
        assert_eq!((g.pieces(), g.piece_len(0), g.piece_len(2)), (3, 40_000, 20_000));
        assert_eq!((g.blocks(0), g.blocks(2)), (3, 2));
        assert_eq!(g.block(0, 2), Span { piece: 0, begin: 32_768, length: 7_232 });
        assert_eq!(g.block(2, 1), Span { piece: 2, begin: 16_384, length: 3_616 });
        assert_eq!(g.bytes(g.block(2, 1)), 96_384..100_000);
        assert_eq!((g.block_at(0), g.block_at(39_999)), (g.block(0, 0), g.block(0, 2)));
        assert_eq!((g.block_at(80_000), g.block_at(99_999)), (g.block(2, 0), g.block(2, 1)));
    }

    #[test]
    fn sizes_at_the_limits() {
        assert_eq!(Geometry::new(0, 16_384).unwrap().pieces(), 0);
        assert_eq!(Geometry::new(1, 1).unwrap().pieces(), 1);
        assert!(Geometry::new(1, 0).is_none());
        assert!(Geometry::new(u64::MAX, PIECE_LEN_MAX).is_none());
        assert!(Geometry::new(1, PIECE_LEN_MAX + 1).is_none());
        assert!(Geometry::new(u64::from(PIECES_MAX) + 1, 1).is_none());
    }

    #[test]
    fn a_strangers_span_is_contained_only_inside_a_piece() {
        let g = Geometry::new(100_000, 40_000).unwrap();
        let span = |piece, begin, length| Span { piece, begin, length };
        for (s, inside) in [
            (span(0, 0, 1), true),
            (span(0, 39_999, 1), true),
            (span(0, 39_999, 2), false),
            (span(2, 0, 20_000), true),
            (span(2, 0, 20_001), false),
            (span(3, 0, 1), false),
            (span(0, 0, 0), false),
            (span(0, u32::MAX, u32::MAX), false),
            (span(u32::MAX, 0, 1), false),
        ] {
            assert_eq!(g.contains(s), inside, "{s:?}");
        }
        assert_eq!(g.block_index(span(0, 16_384, 16_384)), Some(1));
        assert_eq!(g.block_index(span(0, 16_384, 16_383)), None);
        assert_eq!(g.block_index(span(0, 1, 16_384)), None);
    }
}
