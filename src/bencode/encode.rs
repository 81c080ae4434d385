//! The encoder: canonical bencode (BEP 3), with a dictionary's keys sorted as bytes.
//!
//! ```
//! use piecemeal::bencode::{self, Dictionary};
//! let info = Dictionary::new().int("length", 3).bytes("name", b"a");
//! let torrent = Dictionary::new().dict("info", info).bytes("announce", b"udp://t:1").done();
//! assert_eq!(torrent, b"d8:announce9:udp://t:14:infod6:lengthi3e4:name1:aee");
//! ```
//!
//! Layer: values.

use std::collections::BTreeMap;

/// An encoded integer.
pub fn int(value: i64) -> Vec<u8> {
    format!("i{value}e").into_bytes()
}

/// An encoded string.
pub fn bytes(value: &[u8]) -> Vec<u8> {
    let mut out = format!("{}:", value.len()).into_bytes();
    out.extend_from_slice(value);
    out
}

/// A list of values that are encoded already.
pub fn list<I: IntoIterator<Item = Vec<u8>>>(values: I) -> Vec<u8> {
    let mut out = vec![b'l'];
    for value in values {
        out.extend_from_slice(&value);
    }
    out.push(b'e');
    out
}

/// A dictionary, built key by key in any order. A key that is given twice has its last value.
#[derive(Debug, Clone, Default)]
pub struct Dictionary(BTreeMap<Vec<u8>, Vec<u8>>);

impl Dictionary {
    pub fn new() -> Dictionary {
        Dictionary::default()
    }

    /// A key whose value is encoded already.
    pub fn raw(mut self, key: impl AsRef<[u8]>, value: Vec<u8>) -> Dictionary {
        self.0.insert(key.as_ref().to_vec(), value);
        self
    }

    pub fn int(self, key: impl AsRef<[u8]>, value: i64) -> Dictionary {
        self.raw(key, int(value))
    }

    pub fn bytes(self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Dictionary {
        self.raw(key, bytes(value.as_ref()))
    }

    pub fn list<I>(self, key: impl AsRef<[u8]>, values: I) -> Dictionary
    where
        I: IntoIterator<Item = Vec<u8>>,
    {
        self.raw(key, list(values))
    }

    pub fn dict(self, key: impl AsRef<[u8]>, value: Dictionary) -> Dictionary {
        self.raw(key, value.done())
    }

    pub fn done(self) -> Vec<u8> {
        let mut out = vec![b'd'];
        for (key, value) in self.0 {
            out.extend_from_slice(&bytes(&key));
            out.extend_from_slice(&value);
        }
        out.push(b'e');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;

    #[test]
    fn what_is_encoded_decodes_and_is_sorted() {
        let encoded = Dictionary::new()
            .list("z", [int(i64::MIN), bytes(b"\xff")])
            .dict("ab", Dictionary::new())
            .bytes("B", "b")
            .int("", 0)
            .done();
        assert_eq!(encoded, b"d0:i0e1:B1:b2:abde1:zli-9223372036854775808e1:\xffee");
        let document = decode(&encoded).unwrap();
        assert_eq!(document.root().dict().unwrap().iter().count(), 4);
    }
}
