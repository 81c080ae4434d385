//! The metadata of a torrent, from peer to peer (BEP 9, `ut_metadata`): what a magnet link lacks.
//!
//! ```text
//! | length | 20 | id | d 8:msg_type i0e 5:piece i3e e |                                    request
//! | length | 20 | id | d 8:msg_type i1e 5:piece i3e 10:total_size i70000e e | bytes … |    data
//! | length | 20 | id | d 8:msg_type i2e 5:piece i3e e |                                    reject
//! ```
//!
//! The info dictionary is cut into pieces of 16 KiB, of which the last may be shorter. Whether they
//! are the right ones shows only when all are there: their SHA-1 is the info hash.
//!
//! Layer: values.

use super::{Violation, violation};
use crate::bencode::{self, Dictionary};

/// The metadata we take and serve is no longer. 400,000 pieces of 20 bytes each have room in it, and
/// it is what a stranger can make us hold.
pub const METADATA_LEN_MAX: usize = 8 << 20;

/// The length of every piece of it but the last.
pub const METADATA_PIECE_LEN: usize = 16 << 10;

/// Into how many pieces so many bytes of metadata are cut.
pub fn pieces(size: usize) -> u32 {
    size.div_ceil(METADATA_PIECE_LEN) as u32
}

/// Where a piece lies in metadata of `size` bytes; `None` if there is no such piece.
pub fn range(piece: u32, size: usize) -> Option<std::ops::Range<usize>> {
    let start = (piece as usize).checked_mul(METADATA_PIECE_LEN).filter(|&start| start < size)?;
    Some(start..size.min(start + METADATA_PIECE_LEN))
}

/// One message of the extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Metadata<'a> {
    Request {
        piece: u32,
    },
    Data {
        piece: u32,
        /// Of the whole metadata, as the peer says; 0 if it does not.
        total_size: u32,
        bytes: &'a [u8],
    },
    Reject {
        piece: u32,
    },
    /// A `msg_type` to come. BEP 9: "must be ignored".
    Unknown,
}

impl Metadata<'_> {
    /// Reads a payload. A piece number that no metadata has becomes the highest one.
    pub fn parse(payload: &[u8]) -> Result<Metadata<'_>, Violation> {
        let (document, len) = match bencode::decode_prefix(payload) {
            Ok(decoded) => decoded,
            Err(err) => return violation(format!("ut_metadata: {err} (BEP 9)")),
        };
        let Some(root) = document.root().dict() else {
            return violation("a ut_metadata message without a dictionary (BEP 9)".to_owned());
        };
        let number = |key| root.int(key).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let Some(kind) = root.int("msg_type") else {
            return violation("a ut_metadata message without msg_type (BEP 9)".to_owned());
        };
        let piece = number("piece");
        Ok(match (kind, piece) {
            (0..=2, None) => {
                return violation("a ut_metadata message without piece (BEP 9)".to_owned());
            }
            (0, Some(piece)) => Metadata::Request { piece },
            (1, Some(piece)) => {
                let total_size = number("total_size").unwrap_or(0);
                Metadata::Data { piece, total_size, bytes: &payload[len..] }
            }
            (2, Some(piece)) => Metadata::Reject { piece },
            _ => Metadata::Unknown,
        })
    }

    /// What it says and means, for a trace.
    pub fn explained(&self) -> String {
        let (what, means) = match *self {
            Metadata::Request { piece } => (
                format!("request of metadata piece {piece}"),
                "send me these 16 KiB of the info dictionary",
            ),
            Metadata::Data { piece, total_size, bytes } => {
                let (of, n) = (pieces(total_size as usize), bytes.len());
                let what =
                    format!("data, metadata piece {piece} of {of}, {n} of {total_size} bytes");
                (what, "a part of the info dictionary")
            }
            Metadata::Reject { piece } => {
                (format!("reject of metadata piece {piece}"), "I do not send it")
            }
            Metadata::Unknown => ("of an unknown type".to_owned(), "ignored"),
        };
        format!("ut_metadata {what}: {means} (BEP 9)")
    }

    /// The payload of the message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let head =
            |kind, piece| Dictionary::new().int("msg_type", kind).int("piece", i64::from(piece));
        match *self {
            Metadata::Request { piece } => head(0, piece).done(),
            Metadata::Data { piece, total_size, bytes } => {
                let head = head(1, piece).int("total_size", i64::from(total_size));
                let mut payload = head.done();
                payload.extend_from_slice(bytes);
                payload
            }
            Metadata::Reject { piece } => head(2, piece).done(),
            Metadata::Unknown => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for message in [
            Metadata::Request { piece: 3 },
            Metadata::Data { piece: 0, total_size: 34_256, bytes: b"xxxxxxxx" },
            Metadata::Reject { piece: 0 },
        ] {
            assert_eq!(Metadata::parse(&message.to_bytes()), Ok(message.clone()));
        }
        let request = Metadata::Request { piece: 0 }.to_bytes();
        assert_eq!(request, b"d8:msg_typei0e5:piecei0ee", "as BEP 9 has it");
    }

    #[test]
    fn what_breaks_the_rules_is_told_from_what_is_new() {
        assert_eq!(Metadata::parse(b"d8:msg_typei9ee"), Ok(Metadata::Unknown));
        let far = Metadata::Request { piece: u32::MAX };
        assert_eq!(Metadata::parse(b"d8:msg_typei0e5:piecei-1ee"), Ok(far));
        for bad in [&b""[..], b"le", b"de", b"d8:msg_typei1ee", b"d8:msg_type1:15:piecei0ee"] {
            assert!(Metadata::parse(bad).is_err());
        }
    }

    #[test]
    fn pieces_are_16_kib_and_the_last_is_the_rest() {
        assert_eq!((pieces(1), pieces(16_384), pieces(16_385)), (1, 1, 2));
        assert_eq!(range(1, 20_000), Some(16_384..20_000));
        assert_eq!((range(2, 20_000), range(u32::MAX, 20_000), range(0, 0)), (None, None, None));
    }
}
