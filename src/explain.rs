//! What the bytes of the protocol mean: a tree of lines, each with the bytes it speaks of, what they
//! say, and the BEP that says so. `decode` prints it.
//!
//! ```text
//! bytes ──► kind: named, or guessed from how they begin ──► its module ──► Line, Line, … ──► sink
//!
//!   at  bytes           name: meaning                                                    rule
//!    0  13              length of the protocol's name: 19                      BEP 3, handshake
//!   20  00000000001…    reserved bytes                                         BEP 3, handshake
//!   25  10                extension protocol (BEP 10)                          BEP 10
//! ```
//!
//! | kind | what it explains | module |
//! |---|---|---|
//! | `bencode` | any bencode: torrents, resume data | `bencode` |
//! | `tracker` | the body of an HTTP tracker's answer, with or without the HTTP head | `bencode` |
//! | `krpc` | a packet of the DHT | `bencode` |
//! | `handshake` | 68 bytes, and whatever messages follow | `wire` |
//! | `messages` | a stream of peer messages | `wire` |
//! | `udp` | a packet to or from a UDP tracker | `udp` |
//! | `magnet` | a magnet link | `magnet` |
//! | `capture` | what `--trace-file` wrote | `capture` |
//!
//! Lines go out as they are made, so nothing is held; there are at most [`LINES_MAX`].
//!
//! Layer: values.

mod bencode;
mod capture;
mod magnet;
pub mod times;
mod udp;
mod wire;

use std::fmt::{self, Write};

pub use bencode::leftover;

use crate::printable::printable_bytes;

/// So many lines are made at most: a torrent may have millions of values, and nobody reads them.
pub const LINES_MAX: usize = 100_000;

/// How much of a text is shown, in characters.
const TEXT_MAX: usize = 60;

/// How many addresses of a compact list have a line each.
const LISTED_MAX: usize = 200;

/// One line of the tree. A line that is deeper than the one before is a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    pub depth: usize,
    /// Offset in the input, in bytes.
    pub at: usize,
    pub raw: &'a [u8],
    pub name: &'a str,
    pub meaning: String,
    /// The BEP and its section; empty where the name already has it.
    pub rule: &'static str,
}

/// Where the bytes stop making sense, and by which rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub at: usize,
    pub what: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.what)
    }
}

impl std::error::Error for Error {}

type Result<T = (), E = Error> = std::result::Result<T, E>;

/// What the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bencode,
    Tracker,
    Krpc,
    Handshake,
    Messages,
    Udp,
    Magnet,
    Capture,
}

/// The words of `--as`.
pub const KINDS: [(&str, Kind); 8] = [
    ("bencode", Kind::Bencode),
    ("tracker", Kind::Tracker),
    ("krpc", Kind::Krpc),
    ("handshake", Kind::Handshake),
    ("messages", Kind::Messages),
    ("udp", Kind::Udp),
    ("magnet", Kind::Magnet),
    ("capture", Kind::Capture),
];

impl Kind {
    /// The kind of bytes that can be nothing else. What is left is bencode, or nothing we know.
    pub fn guess(input: &[u8]) -> Kind {
        let link = input.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"magnet:"));
        match () {
            () if input.starts_with(b"\x13BitTorrent") => Kind::Handshake,
            () if input.starts_with(crate::capture::MAGIC) => Kind::Capture,
            () if input.starts_with(b"HTTP/1.") => Kind::Tracker,
            () if link => Kind::Magnet,
            () if crate::bencode::decode_prefix(input).is_ok() => bencode::guess(input),
            () if wire::is_stream(input) => Kind::Messages,
            () if udp::is_packet(input) => Kind::Udp,
            () => Kind::Bencode,
        }
    }

    /// Its word for `--as`.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether plain JSON says all there is to it.
    pub fn is_bencode(self) -> bool {
        matches!(self, Kind::Bencode | Kind::Tracker | Kind::Krpc)
    }
}

/// Explains some bytes, line by line. With `all`, the messages of a capture have their fields too.
pub fn explain<'a>(input: &'a [u8], kind: Kind, all: bool, sink: &mut dyn FnMut(Line)) -> Result {
    let mut page = Page { input, at: 0, end: input.len(), depth: 0, lines: 0, all, sink };
    match kind {
        Kind::Bencode | Kind::Tracker | Kind::Krpc => bencode::explain(&mut page, kind),
        Kind::Handshake => wire::stream(&mut page, true),
        Kind::Messages => wire::stream(&mut page, false),
        Kind::Udp => udp::explain(&mut page),
        Kind::Magnet => magnet::explain(&mut page),
        Kind::Capture => capture::explain(&mut page),
    }
}

/// How the number in a field is shown.
#[derive(Debug, Clone, Copy)]
enum Show {
    Int,
    Signed,
    Hex,
    Text,
    Ip,
}

/// One field of a fixed layout: bytes, how they are shown, name, meaning.
struct Field(usize, Show, &'static str, &'static str);

/// The input, how far it has been read, and where the lines go.
struct Page<'a, 's> {
    input: &'a [u8],
    at: usize,
    /// What is behind this belongs to somebody else.
    end: usize,
    depth: usize,
    lines: usize,
    all: bool,
    sink: &'s mut dyn FnMut(Line),
}

impl<'a> Page<'a, '_> {
    /// A line about some bytes; nothing is read by it.
    fn line(&mut self, at: usize, len: usize, name: &str, meaning: String, rule: &'static str) {
        self.lines += 1;
        let raw = self.input.get(at..at + len).unwrap_or_default();
        let line = match self.lines {
            ..LINES_MAX => Line { depth: self.depth, at, raw, name, meaning, rule },
            LINES_MAX => {
                let meaning = format!("only the first {LINES_MAX} lines are shown");
                Line { depth: 0, at, raw: b"", name: "and more", meaning, rule: "" }
            }
            _ => return,
        };
        (self.sink)(line);
    }

    fn left(&self) -> usize {
        self.end - self.at
    }

    fn rest(&self) -> &'a [u8] {
        &self.input[self.at..self.end]
    }

    /// The next bytes, which must be there.
    fn take(&mut self, len: usize, what: &str, rule: &str) -> Result<&'a [u8]> {
        if self.left() < len {
            let left = self.left();
            return self.fail(format!("expected {what} of {len} bytes, found {left} ({rule})"));
        }
        self.at += len;
        Ok(&self.input[self.at - len..self.at])
    }

    fn fail<T>(&self, what: String) -> Result<T> {
        Err(Error { at: self.at, what })
    }

    /// Reads the fields of a layout, each with its line; gives their numbers.
    fn fields(&mut self, fields: &[Field], rule: &'static str) -> Result<Vec<u64>> {
        fields.iter().map(|field| self.field(field, rule)).collect()
    }

    fn field(&mut self, field: &Field, rule: &'static str) -> Result<u64> {
        let &Field(len, show, name, meaning) = field;
        let at = self.at;
        let bytes = self.take(len, name, rule)?;
        let number = bytes.iter().take(8).fold(0, |n, &byte| n << 8 | u64::from(byte));
        let mut text = match show {
            Show::Int => number.to_string(),
            Show::Signed => (number as u32 as i32).to_string(),
            Show::Hex => hex(bytes, bytes.len()),
            Show::Text => quoted(bytes),
            Show::Ip => (number as u32).to_be_bytes().map(|byte| byte.to_string()).join("."),
        };
        if !meaning.is_empty() {
            text = format!("{text}, {meaning}");
        }
        self.line(at, len, name, text, rule);
        Ok(number)
    }

    /// The addresses of a compact list, a line each.
    fn compact(&mut self, bytes: &[u8], at: usize, ip_len: usize, rule: &'static str) {
        let entry = ip_len + 2;
        for (i, one) in bytes.chunks(entry).enumerate() {
            let (at, left) = (at + i * entry, bytes.len() - i * entry);
            if i == LISTED_MAX {
                self.line(at, 0, "and more", format!("{} addresses", left / entry), "");
                break;
            }
            let meaning = match address(one, ip_len) {
                Some(address) => address,
                None => format!("{} bytes, cut short: an entry has {entry}", one.len()),
            };
            self.line(at, one.len(), "address", meaning, rule);
        }
    }
}

/// An address and a port in network order.
fn address(bytes: &[u8], ip_len: usize) -> Option<String> {
    let (ip, port) = bytes.split_at_checked(ip_len)?;
    let port = u16::from_be_bytes(port.try_into().ok()?);
    let ip: std::net::IpAddr = match ip_len {
        4 => <[u8; 4]>::try_from(ip).ok()?.into(),
        _ => <[u8; 16]>::try_from(ip).ok()?.into(),
    };
    Some(std::net::SocketAddr::new(ip, port).to_string())
}

/// At most so many bytes as hexadecimal digits, with `…` where more follow.
pub fn hex(bytes: &[u8], max: usize) -> String {
    let mut text = String::with_capacity(2 * bytes.len().min(max) + 3);
    for byte in bytes.iter().take(max) {
        let _ = write!(text, "{byte:02x}");
    }
    if max < bytes.len() {
        text.push('…');
    }
    text
}

/// Bytes as text in quotes, if they are that; else as hexadecimal digits. Long ones are cut.
fn quoted(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(4 * TEXT_MAX)];
    // A character that the cut goes through does not make a text binary.
    let is_text = match std::str::from_utf8(cut) {
        Ok(text) => !text.contains(|c: char| c.is_control() && !c.is_whitespace()),
        Err(err) => err.error_len().is_none() && cut.len() < bytes.len(),
    };
    if !is_text {
        return hex(bytes, 24);
    }
    let text = printable_bytes(cut);
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("\"{}…\"", &text[..end]),
        None if cut.len() < bytes.len() => format!("\"{text}…\""),
        None => format!("\"{text}\""),
    }
}

#[cfg(test)]
mod tests;
