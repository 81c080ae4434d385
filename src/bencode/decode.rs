//! The decoder: bytes in, a tape of tokens out. One loop with a small stack of its own.
//!
//! Layer: values.

use super::{Error, Rule, Token};

/// How deep values may nest. Real torrents need 5; a v2 file tree needs two levels a folder. 100 is
/// libtorrent's limit.
pub const DEPTH_MAX: usize = 100;

/// How many values one input may have: libtorrent's limit. A torrent of 100,000 files has 900,000.
/// The tape of 3 million is 36 MB.
pub const TOKENS_MAX: usize = 3_000_000;

/// The longest input: 2 Mi pieces (`geometry::PIECES_MAX`) are 40 MiB of hashes, and a list of
/// 100,000 files is 10 MiB or so. Offsets on the tape are 32 bits wide because of it.
pub const INPUT_LEN_MAX: usize = 64 << 20;

const _: () = assert!(TOKENS_MAX < INPUT_LEN_MAX && INPUT_LEN_MAX <= u32::MAX as usize);
const _: () = assert!(crate::geometry::PIECES_MAX as usize * 20 < INPUT_LEN_MAX);

/// A list or dictionary whose end has not been seen yet.
struct Open {
    token: usize,
    expects: Expects,
}

#[derive(Clone, Copy, PartialEq)]
enum Expects {
    Item,
    Key,
    Value,
}

/// Decodes the one value that the input begins with; there is at least one token.
pub(super) fn tokens(input: &[u8]) -> Result<Vec<Token>, Error> {
    if INPUT_LEN_MAX < input.len() {
        return Err(Error { at: 0, rule: Rule::InputLen(input.len()) });
    }
    let mut tokens: Vec<Token> = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    loop {
        let err = |rule| Err(Error { at, rule });
        let Some(&first) = input.get(at) else { return err(Rule::End) };
        let expects = open.last().map_or(Expects::Item, |inner| inner.expects);
        if first == b'e' {
            let Some(inner) = open.pop() else { return err(Rule::Start(first)) };
            if expects == Expects::Value {
                return err(Rule::KeyWithoutValue);
            }
            at += 1;
            let next = tokens.len() as u32;
            let token = &mut tokens[inner.token];
            (token.end, token.next) = (at as u32, next);
        } else {
            if expects == Expects::Key && !first.is_ascii_digit() {
                return err(Rule::Key(first));
            }
            if tokens.len() == TOKENS_MAX {
                return err(Rule::Tokens);
            }
            if let Some(inner) = open.last_mut() {
                inner.expects = match expects {
                    Expects::Item => Expects::Item,
                    Expects::Key => Expects::Value,
                    Expects::Value => Expects::Key,
                };
            }
            let end = match first {
                b'i' => int_end(input, at)?,
                b'0'..=b'9' => string_end(input, at)?,
                b'l' | b'd' if open.len() == DEPTH_MAX => return err(Rule::Depth),
                b'l' | b'd' => {
                    let expects = if first == b'd' { Expects::Key } else { Expects::Item };
                    open.push(Open { token: tokens.len(), expects });
                    // The true end is written when the `e` comes.
                    at + 1
                }
                other => return err(Rule::Start(other)),
            };
            let next = tokens.len() as u32 + 1;
            tokens.push(Token { start: at as u32, end: end as u32, next });
            at = end;
        }
        if open.is_empty() {
            return Ok(tokens);
        }
    }
}

/// Where the integer that begins at `start` with `i` ends.
fn int_end(input: &[u8], start: usize) -> Result<usize, Error> {
    let err = |rule| Err(Error { at: start, rule });
    let minus = input.get(start + 1) == Some(&b'-');
    let first = start + 1 + usize::from(minus);
    let mut at = first;
    while input.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    match input.get(at) {
        None => return Err(Error { at, rule: Rule::End }),
        Some(b'e') => {}
        Some(&other) => return Err(Error { at, rule: Rule::IntDigit(other) }),
    }
    match &input[first..at] {
        [] => err(Rule::IntEmpty),
        [b'0'] if minus => err(Rule::IntMinusZero),
        [b'0', _, ..] => err(Rule::IntLeadingZero),
        _ if parse_int(&input[start + 1..at]).is_none() => err(Rule::IntRange),
        _ => Ok(at + 1),
    }
}

/// Where the string that begins at `start` with a digit ends.
fn string_end(input: &[u8], start: usize) -> Result<usize, Error> {
    let err = |rule| Err(Error { at: start, rule });
    let mut at = start;
    let mut len: usize = 0;
    while let Some(digit) = input.get(at).filter(|b| b.is_ascii_digit()) {
        // Saturates: nothing is as long as that, so the check below refuses it.
        len = len.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
        at += 1;
    }
    match input.get(at) {
        None => return Err(Error { at, rule: Rule::End }),
        Some(b':') => {}
        Some(&other) => return Err(Error { at, rule: Rule::LengthDigit(other) }),
    }
    if input[start] == b'0' && at - start != 1 {
        return err(Rule::LengthLeadingZero);
    }
    let left = input.len() - (at + 1);
    if left < len {
        return err(Rule::LengthRange { left });
    }
    Ok(at + 1 + len)
}

/// The integer that some digits, which [`int_end`] has checked, stand for.
pub(super) fn checked_int(digits: &[u8]) -> i64 {
    parse_int(digits).expect("checked when the tape was made")
}

fn parse_int(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::*;

    #[track_caller]
    fn check(input: &[u8], expected: Result<usize, (usize, Rule)>) {
        let result = decode(input).map(|document| document.tokens.len());
        assert_eq!(result.map_err(|err| (err.at, err.rule)), expected);
    }

    #[test]
    fn what_bep_3_allows() {
        check(b"i0e", Ok(1));
        check(b"i-1e", Ok(1));
        check(b"i9223372036854775807e", Ok(1));
        check(b"i-9223372036854775808e", Ok(1));
        check(b"0:", Ok(1));
        check(b"3:1:a", Ok(1));
        check(b"le", Ok(1));
        check(b"lle0:dei-1ee", Ok(5));
        check(b"d0:0:2:\xff\xfei1ee", Ok(5));
        check(b"d1:bi1e1:ai2e1:ai3ee", Ok(7));
    }

    #[test]
    fn what_bep_3_does_not_allow() {
        check(b"", Err((0, Rule::End)));
        check(b"i-0e", Err((0, Rule::IntMinusZero)));
        check(b"li1ei007ee", Err((4, Rule::IntLeadingZero)));
        check(b"i-05e", Err((0, Rule::IntLeadingZero)));
        check(b"ie", Err((0, Rule::IntEmpty)));
        check(b"i-e", Err((0, Rule::IntEmpty)));
        check(b"i5-e", Err((2, Rule::IntDigit(b'-'))));
        check(b"i+5e", Err((1, Rule::IntDigit(b'+'))));
        check(b"i--5e", Err((2, Rule::IntDigit(b'-'))));
        check(b"i9223372036854775808e", Err((0, Rule::IntRange)));
        check(b"i5", Err((2, Rule::End)));
        check(b"I5E", Err((0, Rule::Start(b'I'))));
        check(b"-1:", Err((0, Rule::Start(b'-'))));
        check(b"5hello", Err((1, Rule::LengthDigit(b'h'))));
        check(b"5", Err((1, Rule::End)));
        check(b"05:hello", Err((0, Rule::LengthLeadingZero)));
        check(b"4:abc", Err((0, Rule::LengthRange { left: 3 })));
        check(b"99999999999999999999999:abc", Err((0, Rule::LengthRange { left: 3 })));
        check(b"li1e", Err((4, Rule::End)));
        check(b"lee", Err((2, Rule::Trailing(1))));
        check(b"e", Err((0, Rule::Start(b'e'))));
        check(b"d1:ae", Err((4, Rule::KeyWithoutValue)));
        check(b"di1ei2ee", Err((1, Rule::Key(b'i'))));
        check(b"d", Err((1, Rule::End)));
        check(b" i1e", Err((0, Rule::Start(b' '))));
    }

    #[test]
    fn limits_hold_and_nothing_recurses() {
        let nested = |depth: usize| [vec![b'l'; depth], vec![b'e'; depth]].concat();
        check(&nested(DEPTH_MAX), Ok(DEPTH_MAX));
        check(&nested(DEPTH_MAX + 1), Err((DEPTH_MAX, Rule::Depth)));
        check(&nested(1_000_000), Err((DEPTH_MAX, Rule::Depth)));
        check(&b"d1:a".repeat(1_000_000), Err((4 * DEPTH_MAX, Rule::Depth)));
        let wide = |items: usize| [b"l".to_vec(), b"0:".repeat(items), b"e".to_vec()].concat();
        check(&wide(TOKENS_MAX - 1), Ok(TOKENS_MAX));
        check(&wide(TOKENS_MAX), Err((1 + 2 * (TOKENS_MAX - 1), Rule::Tokens)));
        let long = vec![b'1'; INPUT_LEN_MAX + 1];
        check(&long, Err((0, Rule::InputLen(INPUT_LEN_MAX + 1))));
    }

    #[test]
    fn every_cut_of_a_good_value_is_an_error() {
        let good = b"d4:infod6:lengthi12e4:name1:x6:pieces3:abce4:listll1:aei-3eee";
        decode(good).unwrap();
        for len in 0..good.len() {
            assert!(decode(&good[..len]).is_err(), "{len}");
        }
    }
}
