//! The peer wire explained: the handshake (BEP 3) and messages (BEP 3, 5, 6, 10).
//!
//! ```text
//! | 19 | "BitTorrent protocol" | reserved: 8 | info hash: 20 | peer id: 20 |      perhaps
//! | length: u32 | id: u8 | payload |   | length | id | payload |   …
//! ```
//!
//! Layer: values.

use super::{Field, Page, Result, Show, bencode, hex};
use crate::geometry::PIECES_MAX;
use crate::wire::handshake::{HANDSHAKE_LEN, PeerId, RESERVED_BITS, check_protocol};
use crate::wire::message::{about, allowed_length};

const HANDSHAKE: &str = "BEP 3, peer protocol";
const FRAME: &str = "BEP 3, peer messages";

/// The longest block that clients ever asked for.
const BLOCK_MAX: usize = 128 << 10;

/// The lengths (id included) that a message may have, whatever the torrent.
fn allowed(id: u8) -> std::ops::Range<usize> {
    match id {
        5 => 2..allowed_length(5, PIECES_MAX).end,
        7 => 10..9 + BLOCK_MAX + 1,
        id => allowed_length(id, 0),
    }
}

/// Whether all of the input is messages, at least one of an id that we know.
pub fn is_stream(input: &[u8]) -> bool {
    let (mut rest, mut known) = (input, false);
    while let Some((prefix, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*prefix) as usize;
        let Some((message, next)) = after.split_at_checked(length) else { return false };
        if let Some(&id) = message.first() {
            if about(id).0 == "unknown" || !allowed(id).contains(&length) {
                return false;
            }
            known = true;
        }
        rest = next;
    }
    known && rest.is_empty()
}

/// A handshake, if there is one (or has to be), and the messages that follow.
pub fn stream(page: &mut Page, handshake_first: bool) -> Result {
    if handshake_first || page.rest().starts_with(b"\x13") {
        handshake(page)?;
    }
    let mut number = 1;
    while page.left() != 0 {
        message(page, Some(number))?;
        number += 1;
    }
    Ok(())
}

pub fn handshake(page: &mut Page) -> Result {
    let at = page.at;
    if let Err(rule) = check_protocol(page.rest()) {
        return page.fail(rule.0);
    }
    if page.left() < HANDSHAKE_LEN {
        let left = page.left();
        return page.fail(format!("expected a handshake of 68 bytes, found {left} ({HANDSHAKE})"));
    }
    let client = PeerId(page.rest()[48..68].try_into().expect("20 bytes")).client();
    page.line(at, HANDSHAKE_LEN, "handshake", format!("from {client}"), HANDSHAKE);
    page.depth += 1;
    page.fields(
        &[
            Field(1, Show::Int, "pstrlen", "the length of the protocol's name"),
            Field(19, Show::Text, "pstr", "the protocol's name"),
        ],
        HANDSHAKE,
    )?;
    reserved(page)?;
    page.field(&Field(20, Show::Hex, "info hash", "the torrent, by its SHA-1"), HANDSHAKE)?;
    let id = page.take(20, "peer id", HANDSHAKE)?;
    let meaning = format!("{}, {client}", super::quoted(id));
    page.line(page.at - 20, 20, "peer id", meaning, "BEP 20");
    page.depth -= 1;
    Ok(())
}

/// The reserved bytes, with a line for each bit that is set.
fn reserved(page: &mut Page) -> Result {
    let at = page.at;
    let bytes = page.take(8, "reserved bytes", HANDSHAKE)?;
    let set: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
    let meaning = format!("{}, {set} extensions announced", hex(bytes, 8));
    page.line(at, 8, "reserved", meaning, HANDSHAKE);
    page.depth += 1;
    for (i, &byte) in bytes.iter().enumerate() {
        for bit in (0..8).map(|n| 0x80 >> n).filter(|bit| byte & bit != 0) {
            let known = RESERVED_BITS.iter().find(|(at, mask, ..)| (*at, *mask) == (i, bit));
            let (name, rule) = known.map_or(("unknown", ""), |(_, _, name, rule)| (name, rule));
            page.line(at + i, 1, name, format!("reserved[{i}] & 0x{bit:02x}"), rule);
        }
    }
    page.depth -= 1;
    Ok(())
}

/// One message; its line, and one for each field.
pub fn message(page: &mut Page, number: Option<usize>) -> Result {
    let at = page.at;
    let prefix = page.take(4, "the length of a message,", FRAME)?;
    let length = u32::from_be_bytes(prefix.try_into().expect("4 bytes")) as usize;
    let nth = number.map_or(String::new(), |n| format!("message {n}, "));
    let Some(&id) = page.rest().first().filter(|_| length != 0) else {
        if length != 0 {
            return page.fail(format!("expected {length} bytes of a message, found 0 ({FRAME})"));
        }
        page.line(at, 4, "keep-alive", format!("{nth}still here"), FRAME);
        return Ok(());
    };
    let (name, meaning, rule) = about(id);
    let allowed = allowed(id);
    if !allowed.contains(&length) {
        let (least, most) = (allowed.start, allowed.end - 1);
        let expected = match least == most {
            true => least.to_string(),
            false => format!("{least} to {most}"),
        };
        page.at = at;
        // How long a bitfield, a block or an extension's message may be is our own limit.
        if most < length && matches!(id, 5 | 7 | 20) {
            let what = format!("message {id} ({name}): {length} bytes, our limit is {most}");
            return page.fail(what);
        }
        let what =
            format!("message {id} ({name}): expected a length of {expected}, found {length}");
        return page.fail(format!("{what} ({rule})"));
    }
    // A capture leaves the bytes of blocks out.
    let length = if number.is_none() && id == 7 { length.min(page.left().max(9)) } else { length };
    if page.left() < length {
        let left = page.left();
        return page.fail(format!("{name}: expected {length} bytes, found {left} ({rule})"));
    }
    page.line(at, 4 + length, name, format!("{nth}{meaning}"), rule);
    let end = std::mem::replace(&mut page.end, page.at + length);
    page.depth += 1;
    page.line(at, 4, "length", format!("{length} bytes follow"), FRAME);
    page.line(at + 4, 1, "id", id.to_string(), rule);
    page.at += 1;
    let done = payload(page, id, rule);
    page.depth -= 1;
    (page.at, page.end) = (page.end, end);
    done
}

const INDEX: Field = Field(4, Show::Int, "index", "the piece, counted from 0");
const BEGIN: Field = Field(4, Show::Int, "begin", "where in the piece, in bytes");
const LENGTH: Field = Field(4, Show::Int, "length", "bytes, 16384 or the rest of the piece");

fn payload(page: &mut Page, id: u8, rule: &'static str) -> Result {
    let fields: &[Field] = match id {
        4 | 13 | 17 => &[INDEX],
        6 | 8 | 16 => &[INDEX, BEGIN, LENGTH],
        7 => &[INDEX, BEGIN],
        9 => &[Field(2, Show::Int, "port", "UDP")],
        _ => &[],
    };
    page.fields(fields, rule)?;
    let (at, rest) = (page.at, page.rest());
    match id {
        5 => {
            let set: u32 = rest.iter().map(|byte| byte.count_ones()).sum();
            let most = 8 * rest.len();
            let meaning = format!("{set} pieces of at most {most}; spare bits at the end are 0");
            page.line(at, rest.len(), "bits", meaning, rule);
        }
        7 if rest.is_empty() => {}
        7 => page.line(at, rest.len(), "block", format!("{} bytes of data", rest.len()), rule),
        20 => return extended(page),
        _ if rest.is_empty() => {}
        _ => page.line(at, rest.len(), "payload", format!("{} bytes", rest.len()), ""),
    }
    Ok(())
}

/// What an extension says is bencode, but for some; which extension, only the handshake tells.
fn extended(page: &mut Page) -> Result {
    const RULE: &str = "BEP 10, extension messages";
    let id = page.rest()[0];
    let meaning = match id {
        0 => "0, the extended handshake".to_owned(),
        id => format!("{id}, by the receiver's table m in its extended handshake"),
    };
    page.line(page.at, 1, "extended id", meaning, RULE);
    page.at += 1;
    let rest = page.rest();
    if id != 0 && rest.first() != Some(&b'd') {
        // lt_donthave and upload_only are not bencode.
        page.line(page.at, rest.len(), "payload", hex(rest, 24), RULE);
        return Ok(());
    }
    let len = bencode::value(page, if id == 0 { bencode::HANDSHAKE } else { bencode::MESSAGE })?;
    let data = rest.len() - len;
    if data != 0 {
        let meaning = format!("{data} bytes of the info dictionary");
        page.line(page.at + len, data, "data", meaning, "BEP 9, extension message");
    }
    Ok(())
}
