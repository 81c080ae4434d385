//! Bencode (BEP 3): the notation of torrents, of trackers' answers, of the DHT and of extensions.
//!
//! ```text
//! i42e              the integer 42            no leading zero, no -0; within 64 bits, signed
//! 4:spam            the four bytes "spam"     any bytes; text is UTF-8 by custom only
//! l4:spami42ee      a list: "spam", 42
//! d3:fooi1ee        a dictionary: foo = 1     keys are strings, sorted
//! ```
//!
//! Decoding copies nothing. It leaves a *tape*: one token per value, in the order of the input,
//! and each knows which bytes it is and where the next value that is not inside it begins.
//!
//! ```text
//! input   d 3:foo l i1e i2e e e            tape   0 dict  next 5
//!         0 1     2 3   4                         1  foo  next 2
//!                                                 2  list next 5
//!                                                 3   1   next 4
//!                                                 4   2   next 5
//! ```
//!
//! So nothing here recurses, not even a drop, however deep the input is; skipping a list of 100,000
//! files is one step; and every value has its raw bytes, which is what an info hash is made of.
//!
//! What strangers get wrong, and what is done about it (as in libtorrent): keys that are not sorted
//! are taken; of a key that comes twice the first counts; bytes after the value are the caller's
//! affair ([`decode()`] refuses them, [`decode_prefix`] says where they begin). All else is refused.
//!
//! Layer: values.

mod decode;
mod encode;

use std::fmt;

pub use decode::{DEPTH_MAX, INPUT_LEN_MAX, TOKENS_MAX};
pub use encode::{Dictionary, bytes, int, list};

/// A decoded value together with the bytes it was decoded from.
#[derive(Debug)]
pub struct Document<'a> {
    input: &'a [u8],
    tokens: Vec<Token>,
}

/// One value on the tape.
#[derive(Debug, Clone, Copy)]
struct Token {
    /// Where its bytes begin in the input.
    start: u32,
    /// Where they end.
    end: u32,
    /// The token after it and all that is inside it.
    next: u32,
}

/// Decodes one value that is all of the input.
pub fn decode(input: &[u8]) -> Result<Document<'_>, Error> {
    let (document, len) = decode_prefix(input)?;
    match input.len() - len {
        0 => Ok(document),
        extra => Err(Error { at: len, rule: Rule::Trailing(extra) }),
    }
}

/// Decodes the value that the input begins with, and says how many bytes it takes. (The data of a
/// metadata piece follows its dictionary, BEP 9.)
pub fn decode_prefix(input: &[u8]) -> Result<(Document<'_>, usize), Error> {
    let tokens = decode::tokens(input)?;
    let len = tokens[0].end as usize;
    Ok((Document { input, tokens }, len))
}

impl Document<'_> {
    /// The outermost value.
    pub fn root(&self) -> Value<'_> {
        Value { input: self.input, tokens: &self.tokens, index: 0 }
    }
}

/// A value in a [`Document`]. A pointer: copy it freely.
#[derive(Clone, Copy)]
pub struct Value<'d> {
    input: &'d [u8],
    tokens: &'d [Token],
    index: u32,
}

/// What a [`Value`] is.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'d> {
    Int(i64),
    Bytes(&'d [u8]),
    List(List<'d>),
    Dict(Dict<'d>),
}

impl<'d> Value<'d> {
    pub fn kind(self) -> Kind<'d> {
        let raw = self.raw();
        match raw[0] {
            b'i' => Kind::Int(decode::checked_int(&raw[1..raw.len() - 1])),
            b'l' => Kind::List(List(self)),
            b'd' => Kind::Dict(Dict(self)),
            _ => {
                // The decoder has seen a length and a colon here.
                let colon = raw.iter().position(|&b| b == b':').unwrap_or(0);
                Kind::Bytes(&raw[colon + 1..])
            }
        }
    }

    /// The bytes of this value as they were received.
    pub fn raw(self) -> &'d [u8] {
        let token = self.token();
        &self.input[token.start as usize..token.end as usize]
    }

    /// Where this value begins in the input.
    pub fn at(self) -> usize {
        self.token().start as usize
    }

    pub fn int(self) -> Option<i64> {
        if let Kind::Int(int) = self.kind() { Some(int) } else { None }
    }

    pub fn bytes(self) -> Option<&'d [u8]> {
        if let Kind::Bytes(bytes) = self.kind() { Some(bytes) } else { None }
    }

    /// A string that is UTF-8.
    pub fn str(self) -> Option<&'d str> {
        self.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    pub fn list(self) -> Option<List<'d>> {
        if let Kind::List(list) = self.kind() { Some(list) } else { None }
    }

    pub fn dict(self) -> Option<Dict<'d>> {
        if let Kind::Dict(dict) = self.kind() { Some(dict) } else { None }
    }

    fn token(self) -> Token {
        self.tokens[self.index as usize]
    }

    /// The values directly inside this one; of a dictionary, keys and values by turns.
    fn children(self) -> impl Iterator<Item = Value<'d>> {
        let end = self.token().next;
        let mut index = self.index + 1;
        std::iter::from_fn(move || {
            let child = (index < end).then_some(Value { index, ..self })?;
            index = child.token().next;
            Some(child)
        })
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&crate::printable::printable_bytes(self.raw()))
    }
}

/// A list in a [`Document`].
#[derive(Debug, Clone, Copy)]
pub struct List<'d>(Value<'d>);

impl<'d> List<'d> {
    pub fn iter(self) -> impl Iterator<Item = Value<'d>> {
        self.0.children()
    }

    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

/// A dictionary in a [`Document`]. The look-ups give `None` for a key that is not there and for one
/// whose value is of another type: strangers' optional fields are used where they make sense.
#[derive(Debug, Clone, Copy)]
pub struct Dict<'d>(Value<'d>);

impl<'d> Dict<'d> {
    /// Keys and values in the order of the input, doubles included.
    pub fn iter(self) -> impl Iterator<Item = (&'d [u8], Value<'d>)> {
        let mut children = self.0.children();
        std::iter::from_fn(move || {
            let key = children.next()?.bytes()?;
            Some((key, children.next()?))
        })
    }

    /// The value of a key; if the key comes twice, of its first.
    pub fn get(self, key: &str) -> Option<Value<'d>> {
        self.iter().find(|(k, _)| *k == key.as_bytes()).map(|(_, value)| value)
    }

    pub fn int(self, key: &str) -> Option<i64> {
        self.get(key).and_then(Value::int)
    }

    pub fn bytes(self, key: &str) -> Option<&'d [u8]> {
        self.get(key).and_then(Value::bytes)
    }

    pub fn str(self, key: &str) -> Option<&'d str> {
        self.get(key).and_then(Value::str)
    }

    pub fn list(self, key: &str) -> Option<List<'d>> {
        self.get(key).and_then(Value::list)
    }

    pub fn dict(self, key: &str) -> Option<Dict<'d>> {
        self.get(key).and_then(Value::dict)
    }

    /// The bytes of the whole dictionary as they were received.
    pub fn raw(self) -> &'d [u8] {
        self.0.raw()
    }
}

/// Why some bytes are not bencode, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    /// Offset in the input, in bytes.
    pub at: usize,
    pub rule: Rule,
}

/// A rule of BEP 3 that was broken, or a limit of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The input ends inside a value.
    End,
    /// A value begins with `i`, `l`, `d` or a digit.
    Start(u8),
    /// Only digits, and perhaps one minus in front, stand between `i` and `e`.
    IntDigit(u8),
    IntEmpty,
    IntLeadingZero,
    IntMinusZero,
    IntRange,
    /// Only digits stand before a string's colon.
    LengthDigit(u8),
    LengthLeadingZero,
    /// A string claims more bytes than there are.
    LengthRange {
        left: usize,
    },
    Key(u8),
    KeyWithoutValue,
    Trailing(usize),
    Depth,
    Tokens,
    InputLen(usize),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.rule)
    }
}

/// What was expected, what is there, and who says so.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut found = |expected: &str, byte: u8| {
            write!(f, "expected {expected}, found '{}' (BEP 3)", byte.escape_ascii())
        };
        match *self {
            Rule::Start(b) => found("i, l, d or a digit, which begin a value", b),
            Rule::IntDigit(b) => found("a digit or e in an integer", b),
            Rule::LengthDigit(b) => found("a digit or : in the length of a string", b),
            Rule::Key(b) => found("a key, which is a string, or e", b),
            Rule::End => f.write_str("expected more of a value, found the end (BEP 3)"),
            Rule::IntEmpty => f.write_str("expected a digit in an integer, found none (BEP 3)"),
            Rule::IntLeadingZero => f.write_str("an integer with a leading zero (BEP 3)"),
            Rule::IntMinusZero => f.write_str("expected i0e, found the integer -0 (BEP 3)"),
            Rule::IntRange => f.write_str("an integer of more than 64 bits"),
            Rule::LengthLeadingZero => f.write_str("a string's length with a leading zero (BEP 3)"),
            Rule::LengthRange { left } => {
                write!(f, "a string longer than the {left} bytes that are left (BEP 3)")
            }
            Rule::KeyWithoutValue => f.write_str("expected the value of a key, found e (BEP 3)"),
            Rule::Trailing(extra) => write!(f, "expected the end, found {extra} more bytes"),
            Rule::Depth => write!(f, "nested deeper than {DEPTH_MAX} levels, the limit"),
            Rule::Tokens => write!(f, "more than {TOKENS_MAX} values, the limit"),
            Rule::InputLen(len) => write!(f, "{len} bytes, the limit is {INPUT_LEN_MAX}"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_is_read_by_key_and_type() {
        let input = b"d1:al1:x2:yze1:bi-7e1:cd1:d0:e1:bi9ee";
        let document = decode(input).unwrap();
        let root = document.root().dict().unwrap();
        assert_eq!(root.int("b"), Some(-7), "the first of two counts");
        assert_eq!((root.int("a"), root.int("z")), (None, None));
        assert_eq!(root.dict("c").unwrap().str("d"), Some(""));
        let a: Vec<_> = root.list("a").unwrap().iter().map(|v| v.str().unwrap()).collect();
        assert_eq!(a, ["x", "yz"]);
        assert_eq!(root.get("c").unwrap().raw(), b"d1:d0:e");
        assert_eq!(root.get("c").unwrap().at(), 23);
        assert_eq!(root.iter().count(), 4);
        assert_eq!(root.raw(), input);
    }

    #[test]
    fn a_prefix_says_where_it_ends() {
        let (document, len) = decode_prefix(b"d5:piecei0eeDATA").unwrap();
        assert_eq!((document.root().raw(), len), (&b"d5:piecei0ee"[..], 12));
        let error = decode(b"i1e\n").unwrap_err();
        assert_eq!(error.to_string(), "at byte 3: expected the end, found 1 more bytes");
    }
}
