//! SHA-1, the only hash of BitTorrent v1 (BEP 3): pieces, the info dictionary, nothing else.
//!
//! Everything that is hashed goes through here, so that a faster way replaces one file. Two shapes:
//! [`Hasher`] takes a piece as its blocks arrive, [`Row`] takes several pieces side by side, which is
//! quicker where they are all there.
//!
//! ```text
//! message, 80, 00 …, length in bits (u64)      padded to whole blocks of 64 bytes (FIPS 180-4)
//! state: five words ──block──► state ──block──► …  the last one is the hash
//! ```
//!
//! Layer: values.

#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod native;

use std::fmt;

use crate::bitfield::Bitfield;
use crate::geometry::PieceIndex;

/// The bytes that SHA-1 takes in one step.
const BLOCK: usize = 64;

/// What every message begins with.
const INITIAL: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

/// The 20 bytes of a SHA-1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha1(pub [u8; 20]);

impl Sha1 {
    /// The hash that 40 hexadecimal digits stand for, in either case.
    pub fn from_hex(text: &str) -> Option<Sha1> {
        let text = text.as_bytes();
        let mut hash = [0; 20];
        if text.len() != 40 {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |d: u8| char::from(d).to_digit(16);
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Some(Sha1(hash))
    }
}

/// Forty hexadecimal digits.
impl fmt::Display for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Sha1({self})")
    }
}

/// The hashes of a torrent's pieces, in order: what its data is measured by.
#[derive(Clone, PartialEq, Eq)]
pub struct PieceHashes(Vec<Sha1>);

impl PieceHashes {
    /// Takes the `pieces` string of an info dictionary; `None` if it is no multiple of 20 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<PieceHashes> {
        let (hashes, rest) = bytes.as_chunks::<20>();
        rest.is_empty().then(|| PieceHashes(hashes.iter().map(|hash| Sha1(*hash)).collect()))
    }

    pub fn new(hashes: Vec<Sha1>) -> PieceHashes {
        PieceHashes(hashes)
    }

    pub fn as_slice(&self) -> &[Sha1] {
        &self.0
    }

    /// The token that a piece is verified, if `actual`, computed over its bytes, is its hash.
    pub fn check(&self, piece: PieceIndex, actual: Sha1) -> Option<Verified> {
        (self.0.get(piece as usize) == Some(&actual)).then_some(Verified(piece))
    }

    /// The token for a piece that a resume file vouches for: an earlier run checked its bytes, and
    /// the files have neither changed their sizes nor their times since.
    pub fn trust(&self, piece: PieceIndex) -> Option<Verified> {
        self.0.get(piece as usize).map(|_| Verified(piece))
    }
}

impl fmt::Debug for PieceHashes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "PieceHashes({} of them)", self.0.len())
    }
}

/// Proof that a piece's bytes matched its hash. Only [`PieceHashes`] makes one, and storage reads
/// for uploads only against one: so unverified bytes cannot be given to others, by type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified(PieceIndex);

impl Verified {
    pub fn piece(self) -> PieceIndex {
        self.0
    }
}

/// The verified pieces of a torrent: a set that only proof gets into, and that gives it out again.
#[derive(Debug, Clone)]
pub struct VerifiedSet(Bitfield);

impl VerifiedSet {
    /// An empty set for so many pieces.
    pub fn new(pieces: u32) -> VerifiedSet {
        VerifiedSet(Bitfield::new(pieces))
    }

    pub fn insert(&mut self, piece: Verified) {
        self.0.insert(piece.0);
    }

    /// The proof for a piece, if it is in the set.
    pub fn proof(&self, piece: PieceIndex) -> Option<Verified> {
        self.0.contains(piece).then_some(Verified(piece))
    }

    pub fn pieces(&self) -> &Bitfield {
        &self.0
    }
}

/// A SHA-1 in progress: bytes go in as they come, in order.
#[derive(Clone)]
pub struct Hasher(Way);

/// How it is computed: by the processor's own instructions where it has them.
#[derive(Clone)]
enum Way {
    #[cfg(target_arch = "x86_64")]
    Native(native::Native),
    Portable(sha1_smol::Sha1),
}

impl Hasher {
    pub fn new() -> Hasher {
        #[cfg(target_arch = "x86_64")]
        if let Some(native) = native::Native::new() {
            return Hasher(Way::Native(native));
        }
        Hasher::portable()
    }

    fn portable() -> Hasher {
        Hasher(Way::Portable(sha1_smol::Sha1::new()))
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            #[cfg(target_arch = "x86_64")]
            Way::Native(native) => native.update(bytes),
            Way::Portable(portable) => portable.update(bytes),
        }
    }

    pub fn finish(self) -> Sha1 {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Way::Native(native) => native.finish(),
            Way::Portable(portable) => Sha1(portable.digest().bytes()),
        }
    }
}

impl Default for Hasher {
    fn default() -> Hasher {
        Hasher::new()
    }
}

/// The SHA-1 of some bytes.
pub fn sha1(bytes: &[u8]) -> Sha1 {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.finish()
}

fn blocks(bytes: &[u8]) -> &[[u8; BLOCK]] {
    let (blocks, rest) = bytes.as_chunks();
    assert!(rest.is_empty(), "{} bytes are no whole blocks", bytes.len());
    blocks
}

/// The last blocks of a message of `length` bytes, one or two of them: what is left of it, a one bit,
/// zeros, the length in bits.
fn padded(rest: &[u8], length: u64) -> ([[u8; BLOCK]; 2], usize) {
    let mut last = [[0; BLOCK]; 2];
    last[0][..rest.len()].copy_from_slice(rest);
    last[0][rest.len()] = 0x80;
    let used = if rest.len() < BLOCK - 8 { 1 } else { 2 };
    last[used - 1][BLOCK - 8..].copy_from_slice(&length.wrapping_mul(8).to_be_bytes());
    (last, used)
}

fn digest(state: [u32; 5]) -> Sha1 {
    let mut hash = [0; 20];
    for (bytes, word) in hash.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    Sha1(hash)
}

/// Several messages of one length, hashed in lockstep: together where the processor is quicker so.
pub struct Row {
    way: Together,
    /// Bytes of each message so far.
    length: u64,
}

enum Together {
    #[cfg(target_arch = "x86_64")]
    Lanes(Box<lanes::Lanes>),
    OneByOne(Vec<Hasher>),
}

impl Row {
    /// How many messages are best given to one row.
    pub fn width() -> usize {
        #[cfg(target_arch = "x86_64")]
        if let Some(width) = lanes::width() {
            return width;
        }
        1
    }

    /// A row for so many messages, at most [`width`](Row::width).
    pub fn new(messages: usize) -> Row {
        // With half of the lanes empty they are no quicker.
        let wide = (Row::width() < 2 * messages).then(|| Row::in_lanes(Row::width())).flatten();
        let one_by_one = || Together::OneByOne(vec![Hasher::new(); messages]);
        wide.unwrap_or_else(|| Row { way: one_by_one(), length: 0 })
    }

    #[cfg(target_arch = "x86_64")]
    fn in_lanes(width: usize) -> Option<Row> {
        let lanes = lanes::Lanes::new(width)?;
        Some(Row { way: Together::Lanes(Box::new(lanes)), length: 0 })
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn in_lanes(_: usize) -> Option<Row> {
        None
    }

    /// What comes next of each message, in their order: as much of every one, and whole blocks.
    pub fn update(&mut self, parts: &[&[u8]]) {
        self.length += parts.first().map_or(0, |part| part.len() as u64);
        match &mut self.way {
            #[cfg(target_arch = "x86_64")]
            Together::Lanes(lanes) => {
                lanes.compress(&parts.iter().map(|part| blocks(part)).collect::<Vec<_>>());
            }
            Together::OneByOne(hashers) => {
                hashers.iter_mut().zip(parts).for_each(|(hasher, part)| hasher.update(part));
            }
        }
    }

    /// Takes the end of each message, as much of every one. Their hashes, in their order.
    pub fn finish(mut self, ends: &[&[u8]]) -> Vec<Sha1> {
        let whole = ends.first().map_or(0, |end| end.len() / BLOCK * BLOCK);
        self.update(&ends.iter().map(|end| &end[..whole]).collect::<Vec<_>>());
        let rest = ends.iter().map(|end| &end[whole..]);
        match self.way {
            #[cfg(target_arch = "x86_64")]
            Together::Lanes(mut lanes) => {
                let length = self.length + rest.clone().next().map_or(0, |rest| rest.len() as u64);
                let last: Vec<_> = rest.map(|rest| padded(rest, length)).collect();
                lanes.compress(&last.iter().map(|(last, used)| &last[..*used]).collect::<Vec<_>>());
                (0..last.len()).map(|lane| digest(lanes.state(lane))).collect()
            }
            Together::OneByOne(hashers) => {
                let ended = |(mut hasher, rest): (Hasher, &[u8])| {
                    hasher.update(rest);
                    hasher.finish()
                };
                hashers.into_iter().zip(rest).map(ended).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_fips_180() {
        let check = |message: &[u8], hex: &str| {
            assert_eq!(sha1(message).to_string(), hex);
            assert_eq!(Sha1::from_hex(hex), Some(sha1(message)));
            assert_eq!(Row::new(1).finish(&[message]), [sha1(message)]);
        };
        check(b"", "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        check(b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d");
        check(&[b'a'; 1_000_000], "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    }

    #[test]
    fn every_way_gives_the_same_for_every_length_and_cut() {
        let bytes: Vec<u8> = (0..1000u32).map(|n| (n * 7 + n / 251) as u8).collect();
        for len in (0..200).chain([500, 1000]) {
            for step in [1, 3, 63, 64, 65, 1000] {
                let (mut hasher, mut portable) = (Hasher::new(), Hasher::portable());
                for part in bytes[..len].chunks(step) {
                    hasher.update(part);
                    portable.update(part);
                }
                assert_eq!(hasher.finish(), portable.finish(), "{len} bytes by {step}");
            }
        }
    }

    /// Rows of every size and kind that this processor can do, with the messages in parts.
    #[test]
    fn side_by_side_is_as_one_by_one() {
        let bytes: Vec<u8> = (0..40_000u32).map(|n| (n * 7 + n / 251) as u8).collect();
        let check = |mut row: Row, messages: usize, len: usize, step: usize| {
            let all: Vec<&[u8]> = (0..messages).map(|n| &bytes[n * 97..][..len]).collect();
            let begun = len.saturating_sub(1) / step * step;
            for at in (0..begun).step_by(step) {
                row.update(&all.iter().map(|m| &m[at..at + step]).collect::<Vec<_>>());
            }
            let hashes = row.finish(&all.iter().map(|m| &m[begun..]).collect::<Vec<_>>());
            let alone: Vec<Sha1> = all.iter().map(|message| sha1(message)).collect();
            assert_eq!(hashes, alone, "{messages} of {len} bytes by {step}");
        };
        for messages in 1..=16 {
            for len in [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 1000, 2048] {
                for step in [64, 192, 4096] {
                    check(Row::new(messages), messages, len, step);
                    for width in [8, 16].into_iter().filter(|width| messages <= *width) {
                        let row = Row::in_lanes(width);
                        row.into_iter().for_each(|row| check(row, messages, len, step));
                    }
                }
            }
        }
    }

    #[test]
    fn hex_that_is_no_hash() {
        assert_eq!(Sha1::from_hex(&"0".repeat(39)), None);
        assert_eq!(Sha1::from_hex(&"g".repeat(40)), None);
        assert_eq!(Sha1::from_hex(&"+0".repeat(20)), None);
    }
}
