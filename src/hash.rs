//! SHA-1, the only hash of BitTorrent v1 (BEP 3): pieces, the info dictionary, nothing else.
//!
//! Everything that is hashed goes through here, so that a faster way replaces one file. Two shapes:
//! [`Hasher`] takes a piece as its blocks arrive, [`sha1_each`] takes several pieces at once.
//!
//! Layer: values.

#[cfg(target_arch = "x86_64")]
mod native;

use std::fmt;

use crate::geometry::PieceIndex;

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
            Way::Native(native) => Sha1(native.finish()),
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

/// The SHA-1 of each of several messages (pieces, blocks), in their order.
pub fn sha1_each(messages: &[&[u8]]) -> Vec<Sha1> {
    messages.iter().map(|message| sha1(message)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_fips_180() {
        let check = |message: &[u8], hex: &str| {
            assert_eq!(sha1(message).to_string(), hex);
            assert_eq!(Sha1::from_hex(hex), Some(sha1(message)));
            assert_eq!(sha1_each(&[message, message]), [sha1(message); 2]);
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

    #[test]
    fn hex_that_is_no_hash() {
        assert_eq!(Sha1::from_hex(&"0".repeat(39)), None);
        assert_eq!(Sha1::from_hex(&"g".repeat(40)), None);
        assert_eq!(Sha1::from_hex(&"+0".repeat(20)), None);
    }
}
