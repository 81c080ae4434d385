//! Peer messages (BEP 3) and those of the Fast extension (BEP 6).
//!
//! ```text
//! | length: u32 big-endian | id: u8 | payload: length - 1 bytes |        length 0 = keep-alive
//!
//! id  name            payload                    id  name            payload
//!  0  choke           -                           9  port            u16 (BEP 5)
//!  1  unchoke         -                          13  suggest piece   u32 index      } BEP 6
//!  2  interested      -                          14  have all        -              }
//!  3  not interested  -                          15  have none       -              }
//!  4  have            u32 index                  16  reject request  index begin len}
//!  5  bitfield        (pieces + 7) / 8 bytes     17  allowed fast    u32 index      }
//!  6  request         u32 index, begin, length   20  extended        u8 id, payload (BEP 10)
//!  7  piece           u32 index, begin, bytes
//!  8  cancel          u32 index, begin, length
//! ```
//!
//! Layer: values. [`parse`] reads from the front of a buffer, so a reader can take many bytes from
//! the socket at once and hand out what lies in them; tests need only bytes.

use std::fmt;
use std::ops::Range;

use super::{Violation, extended, violation};
use crate::geometry::{BLOCK_LEN, PIECES_MAX, PieceIndex, Span};

/// The length prefix.
const PREFIX_LEN: usize = 4;

/// What comes before the bytes of a block: length, id, index, begin.
pub const BLOCK_HEADER_LEN: usize = PREFIX_LEN + 9;

/// The longest extended message we read (BEP 10): BEP 9 sends 16 KiB and a small dictionary.
const EXTENDED_LEN_MAX: usize = 64 * 1024;

/// The longest message of an id that we do not know. It is read to be thrown away.
const UNKNOWN_LEN_MAX: usize = 64 * 1024;

/// One message. The bytes of a block are not in it: they go from the reader to the assembler, and
/// only their place is told to the swarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    KeepAlive,
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have(PieceIndex),
    Bitfield(Vec<u8>),
    Request(Span),
    /// BEP 3 calls it `piece`, although it carries one block of a piece.
    Block(Span),
    Cancel(Span),
    Port(u16),
    Suggest(PieceIndex),
    HaveAll,
    HaveNone,
    Reject(Span),
    AllowedFast(PieceIndex),
    Extended(u8, Vec<u8>),
    /// An id that we do not speak. Ignoring it is how the protocol leaves room to grow.
    Unknown(u8),
}

/// What lies at the front of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not a whole message yet: so many bytes are needed in all.
    Needs(usize),
    /// A message of so many bytes, prefix included.
    Message(Message, usize),
    /// A block; its bytes lie at this range of the buffer, and nothing is behind them.
    Block(Span, Range<usize>),
}

/// Reads the message at the front of `bytes`, of a torrent with so many pieces; `None`: nobody knows
/// yet, and a bitfield may have any length that makes sense. The length that a
/// stranger wrote is checked against what its id allows before anybody makes room for it.
pub fn parse(bytes: &[u8], pieces: impl Into<Option<u32>>) -> Result<Parsed, Violation> {
    let pieces = pieces.into();
    let Some(prefix) = bytes.first_chunk::<PREFIX_LEN>() else {
        return Ok(Parsed::Needs(PREFIX_LEN));
    };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length == 0 {
        return Ok(Parsed::Message(Message::KeepAlive, PREFIX_LEN));
    }
    let Some(&id) = bytes.get(PREFIX_LEN) else {
        // Even without the id: no message is longer than the longest of all.
        check_length(u8::MAX, length, length_max(pieces))?;
        return Ok(Parsed::Needs(PREFIX_LEN + 1));
    };
    check_length(id, length, allowed_length(id, pieces))?;
    let end = PREFIX_LEN + length;
    let Some(payload) = bytes.get(PREFIX_LEN + 1..end) else {
        return Ok(Parsed::Needs(end));
    };
    Ok(match (id, decode(id, payload)) {
        (_, Message::Block(span)) => Parsed::Block(span, BLOCK_HEADER_LEN..end),
        (_, message) => Parsed::Message(message, end),
    })
}

/// The lengths (id included) that a message may have.
pub fn allowed_length(id: u8, pieces: impl Into<Option<u32>>) -> Range<usize> {
    let pieces = pieces.into();
    let exactly = |n: usize| n..n + 1;
    match id {
        0..=3 | 14 | 15 => exactly(1),
        4 | 13 | 17 => exactly(5),
        5 => match pieces {
            Some(pieces) => exactly(1 + bitfield_len(pieces)),
            None => 2..1 + bitfield_len(PIECES_MAX) + 1,
        },
        6 | 8 | 16 => exactly(13),
        // An empty block answers no request of ours, and a longer one neither.
        7 => 10..9 + BLOCK_LEN as usize + 1,
        9 => exactly(3),
        20 => 2..EXTENDED_LEN_MAX + 1,
        _ => 1..UNKNOWN_LEN_MAX + 1,
    }
}

/// What the longest message of any id may be.
fn length_max(pieces: Option<u32>) -> Range<usize> {
    let bitfield = 1 + bitfield_len(pieces.unwrap_or(PIECES_MAX));
    1..EXTENDED_LEN_MAX.max(UNKNOWN_LEN_MAX).max(bitfield) + 1
}

fn bitfield_len(pieces: u32) -> usize {
    pieces.div_ceil(8) as usize
}

fn check_length(id: u8, length: usize, allowed: Range<usize>) -> Result<(), Violation> {
    if allowed.contains(&length) {
        return Ok(());
    }
    let (name, _, rule) = about(id);
    let (least, most) = (allowed.start, allowed.end - 1);
    let expected = if least == most { least.to_string() } else { format!("{least} to {most}") };
    violation(format!(
        "message {id} ({name}): expected a length of {expected}, found {length} ({rule})"
    ))
}

/// Reads a payload whose length has been checked.
fn decode(id: u8, payload: &[u8]) -> Message {
    let word = |at: usize| {
        let bytes = payload[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(bytes)
    };
    let span = || Span { piece: word(0), begin: word(4), length: word(8) };
    match id {
        0 => Message::Choke,
        1 => Message::Unchoke,
        2 => Message::Interested,
        3 => Message::NotInterested,
        4 => Message::Have(word(0)),
        5 => Message::Bitfield(payload.to_vec()),
        6 => Message::Request(span()),
        7 => Message::Block(Span {
            piece: word(0),
            begin: word(4),
            length: (payload.len() - 8) as u32,
        }),
        8 => Message::Cancel(span()),
        9 => Message::Port(u16::from_be_bytes([payload[0], payload[1]])),
        13 => Message::Suggest(word(0)),
        14 => Message::HaveAll,
        15 => Message::HaveNone,
        16 => Message::Reject(span()),
        17 => Message::AllowedFast(word(0)),
        20 => Message::Extended(payload[0], payload[1..].to_vec()),
        unknown => Message::Unknown(unknown),
    }
}

impl Message {
    /// Appends the message as it goes over the wire. Of a [`Message::Block`] only the header: its
    /// bytes come straight from the files.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::KeepAlive => out.extend_from_slice(&[0; PREFIX_LEN]),
            Message::Have(piece) | Message::Suggest(piece) | Message::AllowedFast(piece) => {
                head(out, self.id(), 4);
                out.extend_from_slice(&piece.to_be_bytes());
            }
            Message::Bitfield(bits) => {
                head(out, self.id(), bits.len() as u32);
                out.extend_from_slice(bits);
            }
            Message::Request(span) | Message::Cancel(span) | Message::Reject(span) => {
                head(out, self.id(), 12);
                for word in [span.piece, span.begin, span.length] {
                    out.extend_from_slice(&word.to_be_bytes());
                }
            }
            Message::Block(span) => {
                head(out, self.id(), 8 + span.length);
                out.extend_from_slice(&span.piece.to_be_bytes());
                out.extend_from_slice(&span.begin.to_be_bytes());
            }
            Message::Port(port) => {
                head(out, self.id(), 2);
                out.extend_from_slice(&port.to_be_bytes());
            }
            Message::Extended(id, payload) => {
                head(out, self.id(), 1 + payload.len() as u32);
                out.push(*id);
                out.extend_from_slice(payload);
            }
            bare => head(out, bare.id(), 0),
        }
    }

    /// The id byte. A keep-alive has none; 255 is nobody's.
    pub fn id(&self) -> u8 {
        match self {
            Message::KeepAlive => u8::MAX,
            Message::Choke => 0,
            Message::Unchoke => 1,
            Message::Interested => 2,
            Message::NotInterested => 3,
            Message::Have(_) => 4,
            Message::Bitfield(_) => 5,
            Message::Request(_) => 6,
            Message::Block(_) => 7,
            Message::Cancel(_) => 8,
            Message::Port(_) => 9,
            Message::Suggest(_) => 13,
            Message::HaveAll => 14,
            Message::HaveNone => 15,
            Message::Reject(_) => 16,
            Message::AllowedFast(_) => 17,
            Message::Extended(..) => 20,
            Message::Unknown(id) => *id,
        }
    }

    /// Whether only a peer that announced the Fast extension may send it.
    pub fn needs_fast(&self) -> bool {
        matches!(self.id(), 13..=17)
    }
}

fn head(out: &mut Vec<u8>, id: u8, payload: u32) {
    out.extend_from_slice(&(1 + payload).to_be_bytes());
    out.push(id);
}

/// What a message is called, what it tells whom it is sent to, and where that is written.
#[rustfmt::skip]
pub fn about(id: u8) -> (&'static str, &'static str, &'static str) {
    const PEER: &str = "BEP 3, peer messages";
    const FAST: &str = "BEP 6, Fast extension";
    match id {
        0 => ("choke", "no request will be answered until the unchoke", PEER),
        1 => ("unchoke", "requests will be answered from now on", PEER),
        2 => ("interested", "you have pieces that I lack", PEER),
        3 => ("not interested", "you have nothing that I lack", PEER),
        4 => ("have", "I have verified this piece", PEER),
        5 => ("bitfield", "the pieces that I have, one bit each, the first in the highest bit", PEER),
        6 => ("request", "send me this block", PEER),
        7 => ("piece", "the bytes of a block, as requested", PEER),
        8 => ("cancel", "I do not need this block any more", PEER),
        9 => ("port", "my DHT node listens at this UDP port", "BEP 5, BitTorrent protocol extension"),
        13 => ("suggest piece", "this piece is cheap for me to send", FAST),
        14 => ("have all", "I have every piece", FAST),
        15 => ("have none", "I have no piece yet", FAST),
        16 => ("reject request", "this request will not be answered", FAST),
        17 => ("allowed fast", "this piece you may request even while I choke you", FAST),
        20 => ("extended", "a message of an extension", "BEP 10, extension messages"),
        _ => ("unknown", "an id that no BEP we know defines: ignored", PEER),
    }
}

fn name(id: u8) -> &'static str {
    about(id).0
}

/// A message as a capture holds it: whole, but of a `piece` only the header. `None` if it is none.
pub fn recorded(bytes: &[u8]) -> Option<Message> {
    let (prefix, rest) = bytes.split_first_chunk::<PREFIX_LEN>()?;
    let length = u32::from_be_bytes(*prefix) as usize;
    if length == 0 {
        return Some(Message::KeepAlive);
    }
    let (&id, payload) = rest.split_first()?;
    match (id, decode_checked(id, payload)?) {
        (7, Message::Block(span)) => {
            let length = u32::try_from(length).ok()?.checked_sub(9)?;
            Some(Message::Block(Span { length, ..span }))
        }
        (_, message) => (rest.len() == length).then_some(message),
    }
}

/// Reads a payload of any torrent's.
fn decode_checked(id: u8, payload: &[u8]) -> Option<Message> {
    let right = match id {
        5 => true,
        7 => 8 <= payload.len(),
        _ => allowed_length(id, 0).contains(&(1 + payload.len())),
    };
    right.then(|| decode(id, payload))
}

impl Message {
    /// The message, and what it means to whom it is sent.
    pub fn explained(&self) -> String {
        match self {
            Message::KeepAlive => "keep-alive: still here".to_owned(),
            Message::Extended(id, payload) => {
                format!("{self}: {}", extended::explained(*id, payload))
            }
            message => format!("{message}: {}", about(message.id()).1),
        }
    }
}

/// For a trace: the name, and what is in it.
impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Message::KeepAlive => f.write_str("keep-alive"),
            Message::Have(piece) | Message::Suggest(piece) | Message::AllowedFast(piece) => {
                write!(f, "{} {piece}", name(self.id()))
            }
            Message::Bitfield(bits) => {
                let set: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
                write!(f, "bitfield, {set} pieces")
            }
            Message::Request(span)
            | Message::Block(span)
            | Message::Cancel(span)
            | Message::Reject(span) => {
                write!(f, "{} {span} ({} bytes)", name(self.id()), span.length)
            }
            Message::Port(port) => write!(f, "port {port}"),
            Message::Extended(id, payload) => write!(f, "extended {id} ({} bytes)", payload.len()),
            Message::Unknown(id) => write!(f, "unknown message {id}, ignored"),
            bare => f.write_str(name(bare.id())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECES: u32 = 12;

    fn span(piece: u32, begin: u32, length: u32) -> Span {
        Span { piece, begin, length }
    }

    #[test]
    fn every_message_is_read_as_it_was_written() {
        for message in [
            Message::KeepAlive,
            Message::Choke,
            Message::Unchoke,
            Message::Interested,
            Message::NotInterested,
            Message::Have(258),
            Message::Bitfield(vec![0xff, 0xf0]),
            Message::Request(span(1, 16_384, 16_384)),
            Message::Cancel(span(1, 16_384, 16_384)),
            Message::Port(6881),
            Message::Suggest(3),
            Message::HaveAll,
            Message::HaveNone,
            Message::Reject(span(u32::MAX, 0, u32::MAX)),
            Message::AllowedFast(7),
            Message::Extended(0, b"de".to_vec()),
            Message::Unknown(99),
        ] {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            for cut in 0..bytes.len() {
                let parsed = parse(&bytes[..cut], PIECES);
                assert!(
                    matches!(parsed, Ok(Parsed::Needs(n)) if n > cut),
                    "{message:?} cut at {cut}"
                );
            }
            let len = bytes.len();
            bytes.push(0xff);
            assert_eq!(parse(&bytes, PIECES), Ok(Parsed::Message(message, len)));
        }
    }

    #[test]
    fn a_block_is_told_by_its_place() {
        let mut bytes = Vec::new();
        Message::Block(span(2, 16_384, 5)).encode(&mut bytes);
        assert_eq!(bytes, b"\0\0\0\x0e\x07\0\0\0\x02\0\0\x40\0");
        bytes.extend_from_slice(b"bytes and more");
        assert_eq!(parse(&bytes, PIECES), Ok(Parsed::Block(span(2, 16_384, 5), 13..18)));
    }

    #[test]
    fn lengths_are_refused_before_anything_is_read() {
        let refused = |bytes: &[u8]| parse(bytes, PIECES).unwrap_err().to_string();
        assert!(refused(b"\xff\xff\xff\xff").contains("4294967295"));
        assert!(refused(b"\x80\0\0\0\x07").contains("2147483648"));
        assert!(refused(b"\0\0\0\x02\x05").contains("bitfield"));
        assert!(refused(b"\0\0\x40\x0a\x07").contains("piece"));
        for id in [0, 1, 2, 3, 4, 6, 8, 9, 13, 14, 15, 16, 17] {
            for length in [2, 4, 6, 12, 14] {
                assert!(parse(&[0, 0, 0, length, id], PIECES).is_err(), "{length} bytes of {id}");
            }
        }
        assert!(parse(b"\0\0\0\x01\x07", PIECES).is_err());
        assert!(parse(b"\0\0\0\x09\x07", PIECES).is_err());
        assert!(parse(b"\0\0\0\x01\x14", PIECES).is_err());
    }
}
