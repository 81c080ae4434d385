//! SHA-1 of several messages side by side: one message a lane of the processor's wide registers.
//!
//! ```text
//! lane          0        1        2             7  (15)
//! register w0   piece 8  piece 9  piece 10  …   piece 15      word 0 of each one's block
//! register w1                                                 word 1
//! ```
//!
//! The eighty rounds of SHA-1 depend on each other, so one message leaves most of a processor idle.
//! Eight or sixteen of them do not depend on each other, and one instruction serves them all: on the
//! machine this was written on (AMD Zen 5) sixteen lanes of AVX-512 hash 4.0 GiB/s and eight of AVX2
//! 2.4, where the SHA instructions do 2.0 and `sha1_smol` 0.9.
//!
//! Layer: values. `unsafe` to use the instructions, after [`Lanes::new`] has found that they are there.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_add_epi32, _mm256_and_si256, _mm256_or_si256, _mm256_slli_epi32,
    _mm256_srli_epi32, _mm256_xor_si256, _mm512_add_epi32, _mm512_and_si512, _mm512_rol_epi32,
    _mm512_xor_si512,
};
use std::mem::transmute;

use super::{BLOCK, INITIAL};

/// Words in a block, which the message schedule replaces one by one.
const WORDS: usize = 16;

/// Messages of one length, in lockstep. Only [`Lanes::new`] makes one: that it exists proves that the
/// processor has the instructions.
pub struct Lanes(State);

enum State {
    Eight([[u32; 8]; 5]),
    Sixteen([[u32; 16]; 5]),
}

/// How many messages this processor hashes side by side; `None` if it is quicker with one after
/// another.
pub fn width() -> Option<usize> {
    if is_x86_feature_detected!("avx512f") {
        return Some(16);
    }
    let quick = is_x86_feature_detected!("sha") || !is_x86_feature_detected!("avx2");
    (!quick).then_some(8)
}

impl Lanes {
    /// Eight or sixteen; `None` if this processor lacks the instructions.
    pub fn new(width: usize) -> Option<Lanes> {
        let state = match width {
            8 if is_x86_feature_detected!("avx2") => State::Eight(INITIAL.map(|word| [word; 8])),
            16 if is_x86_feature_detected!("avx512f") => {
                State::Sixteen(INITIAL.map(|word| [word; 16]))
            }
            _ => return None,
        };
        Some(Lanes(state))
    }

    /// Takes the next blocks of each message: as many of every one, and not more messages than
    /// [`width`].
    pub fn compress(&mut self, messages: &[&[[u8; BLOCK]]]) {
        match &mut self.0 {
            // SAFETY: `new` has found AVX2, and nothing else makes these.
            State::Eight(state) => unsafe { eight(state, &filled(messages)) },
            // SAFETY: likewise, AVX-512F.
            State::Sixteen(state) => unsafe { sixteen(state, &filled(messages)) },
        }
    }

    /// The five words that the message in a lane has come to.
    pub fn state(&self, lane: usize) -> [u32; 5] {
        match &self.0 {
            State::Eight(state) => state.map(|words| words[lane]),
            State::Sixteen(state) => state.map(|words| words[lane]),
        }
    }
}

/// Lanes without a message hash the first one once more.
fn filled<'a, const N: usize>(messages: &[&'a [[u8; BLOCK]]]) -> [&'a [[u8; BLOCK]]; N] {
    let same = messages.iter().all(|message| message.len() == messages[0].len());
    assert!(messages.len() <= N && same, "{} messages in {N} lanes", messages.len());
    std::array::from_fn(|lane| *messages.get(lane).unwrap_or(&messages[0]))
}

#[target_feature(enable = "avx2")]
fn eight(state: &mut [[u32; 8]; 5], messages: &[&[[u8; BLOCK]]; 8]) {
    compress::<__m256i, 8>(state, messages);
}

#[target_feature(enable = "avx512f")]
fn sixteen(state: &mut [[u32; 16]; 5], messages: &[&[[u8; BLOCK]]; 16]) {
    compress::<__m512i, 16>(state, messages);
}

/// As many blocks of each message as there are of the first.
#[inline(always)]
fn compress<V: Words<N>, const N: usize>(
    state: &mut [[u32; N]; 5],
    messages: &[&[[u8; BLOCK]]; N],
) {
    let mut words = [[0; N]; WORDS];
    for at in 0..messages[0].len() {
        for (lane, message) in messages.iter().enumerate() {
            let (block, _) = message[at].as_chunks();
            for (word, bytes) in words.iter_mut().zip(block) {
                word[lane] = u32::from_be_bytes(*bytes);
            }
        }
        let mut w = [V::from(words[0]); WORDS];
        w.iter_mut().zip(&words).for_each(|(w, words)| *w = V::from(*words));
        let mut s = [V::from(state[0]); 5];
        s.iter_mut().zip(&*state).for_each(|(s, words)| *s = V::from(*words));
        twenty::<V, N, 0>(&mut s, &mut w, 0x5a82_7999, |b, c, d| d.xor(b.and(c.xor(d))));
        twenty::<V, N, 20>(&mut s, &mut w, 0x6ed9_eba1, |b, c, d| b.xor(c).xor(d));
        twenty::<V, N, 40>(&mut s, &mut w, 0x8f1b_bcdc, |b, c, d| b.and(c).xor(d.and(b.xor(c))));
        twenty::<V, N, 60>(&mut s, &mut w, 0xca62_c1d6, |b, c, d| b.xor(c).xor(d));
        for (words, s) in state.iter_mut().zip(s) {
            *words = V::from(*words).add(s).into();
        }
    }
}

/// Twenty rounds, with one of the four functions and constants.
#[inline(always)]
fn twenty<V: Words<N>, const N: usize, const FROM: usize>(
    s: &mut [V; 5],
    w: &mut [V; WORDS],
    constant: u32,
    f: impl Fn(V, V, V) -> V,
) {
    let k = V::from([constant; N]);
    let [mut a, mut b, mut c, mut d, mut e] = *s;
    // By five, so that nothing has to move: what was `a` is called `b` in the next round.
    for t in (FROM..FROM + 20).step_by(5) {
        round(f(b, c, d), a, &mut b, &mut e, k, w, t);
        round(f(a, b, c), e, &mut a, &mut d, k, w, t + 1);
        round(f(e, a, b), d, &mut e, &mut c, k, w, t + 2);
        round(f(d, e, a), c, &mut d, &mut b, k, w, t + 3);
        round(f(c, d, e), b, &mut c, &mut a, k, w, t + 4);
    }
    *s = [a, b, c, d, e];
}

/// Round `t`: `e` becomes the new `a`. From the sixteenth on, the schedule makes its word first.
#[inline(always)]
fn round<V: Words<N>, const N: usize>(
    f: V,
    a: V,
    b: &mut V,
    e: &mut V,
    k: V,
    w: &mut [V; WORDS],
    t: usize,
) {
    if WORDS <= t {
        let before = |n: usize| w[(t - n) % WORDS];
        let mixed = before(3).xor(before(8)).xor(before(14).xor(before(16)));
        w[t % WORDS] = mixed.rotated::<1, 31>();
    }
    *e = a.rotated::<5, 27>().add(f).add(e.add(k).add(w[t % WORDS]));
    *b = b.rotated::<30, 2>();
}

/// A word of each message. All of it is inlined into [`eight`] and [`sixteen`], because the
/// instructions exist only there.
trait Words<const N: usize>: Copy {
    fn from(words: [u32; N]) -> Self;
    fn into(self) -> [u32; N];
    fn add(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn and(self, other: Self) -> Self;
    /// To the left by `LEFT` bits; `RIGHT` is the rest of the 32.
    fn rotated<const LEFT: i32, const RIGHT: i32>(self) -> Self;
}

/// The functions of [`Words`], each one instruction.
macro_rules! words {
    ($lanes:literal, $add:ident, $xor:ident, $and:ident) => {
        #[inline(always)]
        fn from(words: [u32; $lanes]) -> Self {
            // SAFETY: both are so many words, whose bits may be anything.
            unsafe { transmute(words) }
        }

        #[inline(always)]
        fn into(self) -> [u32; $lanes] {
            // SAFETY: as above.
            unsafe { transmute(self) }
        }

        #[inline(always)]
        fn add(self, other: Self) -> Self {
            // SAFETY: only called below `eight` or `sixteen`, where the instruction exists.
            unsafe { $add(self, other) }
        }

        #[inline(always)]
        fn xor(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { $xor(self, other) }
        }

        #[inline(always)]
        fn and(self, other: Self) -> Self {
            // SAFETY: as above.
            unsafe { $and(self, other) }
        }
    };
}

impl Words<8> for __m256i {
    words!(8, _mm256_add_epi32, _mm256_xor_si256, _mm256_and_si256);

    #[inline(always)]
    fn rotated<const LEFT: i32, const RIGHT: i32>(self) -> Self {
        // SAFETY: only called below `eight`, where the instructions exist.
        unsafe {
            _mm256_or_si256(_mm256_slli_epi32::<LEFT>(self), _mm256_srli_epi32::<RIGHT>(self))
        }
    }
}

impl Words<16> for __m512i {
    words!(16, _mm512_add_epi32, _mm512_xor_si512, _mm512_and_si512);

    #[inline(always)]
    fn rotated<const LEFT: i32, const RIGHT: i32>(self) -> Self {
        // SAFETY: only called below `sixteen`, where the instruction exists.
        unsafe { _mm512_rol_epi32::<LEFT>(self) }
    }
}
