//! Captures: what `--trace-file` writes and `decode` explains. All numbers big-endian.
//!
//! ```text
//! | "PMTRACE1" | start: u64, µs since 1970 | info hash: 20 |                  36 bytes, once
//! | kind: u8 | connection: u32 | time: u64, µs since start | length: u32 | payload |   records
//!
//! kind          connection  payload
//! 1  peer       its number  0 we dialled it, 1 it dialled us: u8 | its address, as text
//! 2  from peer  its number  what it sent: a handshake (68 bytes) or one message, length prefix and
//!                           all; of `piece` only the first 13 bytes, not the block
//! 3  to peer    its number  what we sent, likewise
//! 4  line       0 or a peer a line of the trace: topic, a space, the text (UTF-8)
//! 5  lost       0           so many records were dropped before this one: u64
//! 6  end        its number  nothing: the connection is no more
//! ```
//!
//! A record of an unknown kind is to be skipped. A file that ends inside a record was cut off.
//!
//! Layer: values.

/// How every capture begins; the digit is the version.
pub const MAGIC: &[u8; 8] = b"PMTRACE1";

pub const HEADER_LEN: usize = 36;

/// What comes before the payload of a record.
pub const HEAD_LEN: usize = 17;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Peer = 1,
    FromPeer = 2,
    ToPeer = 3,
    Line = 4,
    Lost = 5,
    End = 6,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// `None`: a kind to come.
    pub what: Option<What>,
    pub conn: u32,
    /// Since the start, in microseconds.
    pub time: u64,
    pub payload: &'a [u8],
}

/// The header of a capture that begins at this time, in microseconds since 1970.
pub fn header(start: u64, info_hash: &[u8; 20]) -> Vec<u8> {
    [&MAGIC[..], &start.to_be_bytes(), info_hash].concat()
}

impl<'a> Record<'a> {
    pub fn to_bytes(what: What, conn: u32, time: u64, payload: &[&[u8]]) -> Vec<u8> {
        let len: usize = payload.iter().map(|part| part.len()).sum();
        let mut bytes = Vec::with_capacity(HEAD_LEN + len);
        bytes.push(what as u8);
        bytes.extend_from_slice(&conn.to_be_bytes());
        bytes.extend_from_slice(&time.to_be_bytes());
        bytes.extend_from_slice(&(len as u32).to_be_bytes());
        payload.iter().for_each(|part| bytes.extend_from_slice(part));
        bytes
    }

    /// The record that the bytes begin with. `None`: they end inside it.
    pub fn read(bytes: &'a [u8]) -> Option<Record<'a>> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_LEN>()?;
        let word = |at: usize| head[at..at + 4].iter().fold(0, |n, &byte| n << 8 | u32::from(byte));
        let what = [What::Peer, What::FromPeer, What::ToPeer, What::Line, What::Lost, What::End];
        Some(Record {
            what: what.into_iter().find(|what| *what as u8 == head[0]),
            conn: word(1),
            time: u64::from(word(5)) << 32 | u64::from(word(9)),
            payload: rest.get(..word(13) as usize)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_cut_is_seen() {
        let bytes = Record::to_bytes(What::ToPeer, 7, u64::MAX - 1, &[b"ab", b"c"]);
        let record =
            Record { what: Some(What::ToPeer), conn: 7, time: u64::MAX - 1, payload: b"abc" };
        assert_eq!(Record::read(&bytes), Some(record));
        (0..bytes.len()).for_each(|len| assert_eq!(Record::read(&bytes[..len]), None));
        let huge = [&bytes[..13], &[0xff; 8]].concat();
        assert_eq!(Record::read(&huge), None);
        assert_eq!(header(1, &[0; 20]).len(), HEADER_LEN);
    }
}
