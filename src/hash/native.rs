//! SHA-1 by the processor's own instructions: the SHA extensions of x86-64.
//!
//! ```text
//! four rounds at a time:   abcd ──sha1rnds4── abcd'      w: four words of the message schedule
//!                          rotl(a, 30) + e + w ──sha1nexte── what the next four rounds add
//! schedule (FIPS 180-4):   w[g] = msg2(msg1(w[g-4], w[g-3]) ^ w[g-2], w[g-1])
//! ```
//!
//! Two to three times as fast as ordinary instructions. Most processors since 2017 have them; where
//! they are missing [`Native::new`] says so, and `sha1_smol` does the work.
//!
//! Layer: values. `unsafe` only to enter the function that needs the instructions.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_extract_epi32, _mm_set_epi32, _mm_sha1msg1_epu32,
    _mm_sha1msg2_epu32, _mm_sha1nexte_epu32, _mm_sha1rnds4_epu32, _mm_xor_si128,
};

use super::{BLOCK, INITIAL, Sha1, digest, padded};

/// A SHA-1 in progress.
#[derive(Clone)]
pub struct Native {
    state: [u32; 5],
    /// Bytes so far.
    length: u64,
    /// What does not fill a block yet: the first `length % 64` bytes of it.
    tail: [u8; BLOCK],
}

impl Native {
    /// `None` if this processor lacks the instructions.
    pub fn new() -> Option<Native> {
        let available = is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1");
        available.then_some(Native { state: INITIAL, length: 0, tail: [0; BLOCK] })
    }

    pub fn update(&mut self, mut bytes: &[u8]) {
        let filled = (self.length % BLOCK as u64) as usize;
        self.length += bytes.len() as u64;
        if filled != 0 {
            let n = bytes.len().min(BLOCK - filled);
            self.tail[filled..filled + n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if filled + n < BLOCK {
                return;
            }
            let block = self.tail;
            self.compress(&[block]);
        }
        let (blocks, rest) = bytes.as_chunks();
        self.compress(blocks);
        self.tail[..rest.len()].copy_from_slice(rest);
    }

    pub fn finish(mut self) -> Sha1 {
        let filled = (self.length % BLOCK as u64) as usize;
        let (last, used) = padded(&self.tail[..filled], self.length);
        self.compress(&last[..used]);
        digest(self.state)
    }

    #[allow(unsafe_code)]
    fn compress(&mut self, blocks: &[[u8; BLOCK]]) {
        // SAFETY: `new` has found that the processor has these instructions, and nothing else
        // makes a `Native`.
        unsafe { compress(&mut self.state, blocks) }
    }
}

#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
fn compress(state: &mut [u32; 5], blocks: &[[u8; BLOCK]]) {
    let [a, b, c, d, e] = state.map(u32::cast_signed);
    let mut abcd = _mm_set_epi32(a, b, c, d);
    let mut e = _mm_set_epi32(e, 0, 0, 0);
    for block in blocks {
        let mut w = [words(block, 0), words(block, 16), words(block, 32), words(block, 48)];
        // `before` is what the last four rounds began with; its `a` becomes the next `e`.
        let (first, mut before, mut add) = (abcd, abcd, _mm_add_epi32(e, w[0]));
        rounds::<0>(&mut abcd, &mut before, &mut add, &mut w);
        rounds::<1>(&mut abcd, &mut before, &mut add, &mut w);
        rounds::<2>(&mut abcd, &mut before, &mut add, &mut w);
        rounds::<3>(&mut abcd, &mut before, &mut add, &mut w);
        e = _mm_sha1nexte_epu32(before, e);
        abcd = _mm_add_epi32(abcd, first);
    }
    *state = [
        _mm_extract_epi32::<3>(abcd).cast_unsigned(),
        _mm_extract_epi32::<2>(abcd).cast_unsigned(),
        _mm_extract_epi32::<1>(abcd).cast_unsigned(),
        _mm_extract_epi32::<0>(abcd).cast_unsigned(),
        _mm_extract_epi32::<3>(e).cast_unsigned(),
    ];
}

/// Twenty rounds with one of the four functions and constants. `w` holds four groups of four words,
/// beginning with the group that is due; each used one is replaced by the one four groups on.
#[inline]
#[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
fn rounds<const F: i32>(
    abcd: &mut __m128i,
    before: &mut __m128i,
    add: &mut __m128i,
    w: &mut [__m128i; 4],
) {
    for _ in 0..5 {
        *before = *abcd;
        *abcd = _mm_sha1rnds4_epu32::<F>(*abcd, *add);
        let mixed = _mm_xor_si128(_mm_sha1msg1_epu32(w[0], w[1]), w[2]);
        *w = [w[1], w[2], w[3], _mm_sha1msg2_epu32(mixed, w[3])];
        *add = _mm_sha1nexte_epu32(*before, w[0]);
    }
}

/// Four words of a block, big-endian, the first one on top.
#[inline]
#[target_feature(enable = "sse2")]
fn words(block: &[u8; BLOCK], at: usize) -> __m128i {
    let word =
        |at: usize| i32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    _mm_set_epi32(word(at), word(at + 4), word(at + 8), word(at + 12))
}
