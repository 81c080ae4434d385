//! Packets of a UDP tracker explained (BEP 15, 41), in both directions.
//!
//! A request has its action behind eight bytes of connection id, an answer begins with it; nothing
//! in a packet says which of both it is, so lengths and the magic number of `connect` decide.
//!
//! Layer: values.

use super::{Field, Page, Result, Show, quoted};
use crate::udp_tracker::MAGIC;

const RULE: &str = "BEP 15, UDP tracker protocol";

const TRANSACTION: Field = Field(4, Show::Hex, "transaction id", "the answer repeats it");
const ACTION: [&str; 4] = ["connect", "announce", "scrape", "error"];
const INFO_HASH: Field = Field(20, Show::Hex, "info hash", "the torrent");

/// Which packet it is, as far as lengths and numbers tell.
#[derive(Clone, Copy)]
enum Packet {
    Request(u32),
    Answer(u32),
}

fn kind(packet: &[u8]) -> Option<Packet> {
    let word = |at: usize| {
        let bytes = packet.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let magic = packet.first_chunk::<8>().is_some_and(|id| u64::from_be_bytes(*id) == MAGIC);
    match (packet.len(), word(8)) {
        (16.., Some(0)) if magic => return Some(Packet::Request(0)),
        (98.., Some(1)) => return Some(Packet::Request(1)),
        (len @ 36.., Some(2)) if (len - 16) % 20 == 0 => return Some(Packet::Request(2)),
        _ => {}
    }
    match (packet.len(), word(0)?) {
        (16.., 0) | (20.., 1) | (8.., 2 | 3) => word(0).map(Packet::Answer),
        _ => None,
    }
}

/// Whether it could be such a packet, strictly: much else begins with small numbers.
pub fn is_packet(packet: &[u8]) -> bool {
    match (kind(packet), packet.len()) {
        (Some(Packet::Request(_)), _) | (Some(Packet::Answer(0)), 16) => true,
        (Some(Packet::Answer(1)), len) => (len - 20) % 6 == 0 || (len - 20) % 18 == 0,
        (Some(Packet::Answer(2)), len) => 8 < len && (len - 8) % 12 == 0,
        (Some(Packet::Answer(3)), _) => std::str::from_utf8(&packet[8..]).is_ok(),
        _ => false,
    }
}

pub fn explain(page: &mut Page) -> Result {
    let Some(kind) = kind(page.input) else {
        let len = page.input.len();
        let what = format!(
            "expected a packet of a UDP tracker: action 0 to 3 in bytes 0-3 (an answer) or 8-11 (a \
             request), 16, 98 or 36 bytes at least; found {len} bytes that are none ({RULE})"
        );
        return page.fail(what);
    };
    let (action, which) = match kind {
        Packet::Request(action) => (action, "request"),
        Packet::Answer(action) => (action, "answer"),
    };
    let name = ACTION[action as usize];
    let (len, meaning) = (page.input.len(), which.to_owned());
    page.line(0, len, name, meaning, RULE);
    page.depth += 1;
    let action_field = Field(4, Show::Int, "action", name);
    match kind {
        Packet::Request(action) => {
            let id = match action {
                0 => Field(8, Show::Hex, "protocol id", "the magic number of BEP 15"),
                _ => Field(8, Show::Hex, "connection id", "from the answer to connect"),
            };
            page.fields(&[id, action_field, TRANSACTION], RULE)?;
            request(page, action)?;
        }
        Packet::Answer(action) => {
            page.fields(&[action_field, TRANSACTION], RULE)?;
            answer(page, action)?;
        }
    }
    if page.left() != 0 {
        let left = page.left();
        page.line(page.at, left, "surplus", format!("{left} bytes, ignored"), RULE);
    }
    Ok(())
}

fn request(page: &mut Page, action: u32) -> Result {
    match action {
        1 => {
            let fields = [
                INFO_HASH,
                Field(20, Show::Text, "peer id", ""),
                Field(8, Show::Int, "downloaded", "bytes"),
                Field(8, Show::Int, "left", "bytes; 0 makes it a seed"),
                Field(8, Show::Int, "uploaded", "bytes"),
                Field(4, Show::Int, "event", "0 none, 1 completed, 2 started, 3 stopped"),
                Field(4, Show::Ip, "IP address", "0.0.0.0: where this packet comes from"),
                Field(4, Show::Hex, "key", "knows the client by this if its address changes"),
                Field(4, Show::Signed, "num_want", "peers wanted; -1: as many as is usual"),
                Field(2, Show::Int, "port", "where it listens"),
            ];
            page.fields(&fields, RULE)?;
            options(page)
        }
        2 => {
            while page.left() != 0 {
                page.field(&INFO_HASH, RULE)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The options behind an announce (BEP 41).
fn options(page: &mut Page) -> Result {
    const RULE: &str = "BEP 41, UDP tracker extensions";
    while let Some(&kind) = page.rest().first() {
        let at = page.at;
        page.at += 1;
        match kind {
            0 => {
                page.line(at, 1, "end of options", "0".to_owned(), RULE);
                return Ok(());
            }
            1 => page.line(at, 1, "no operation", "1".to_owned(), RULE),
            _ => {
                let len = usize::from(page.take(1, "the length of an option,", RULE)?[0]);
                let data = page.take(len, "an option", RULE)?;
                let name = if kind == 2 { "URL data" } else { "unknown option" };
                let meaning = format!("{}, the URL's path and query", quoted(data));
                page.line(at, 2 + len, name, meaning, RULE);
            }
        }
    }
    Ok(())
}

fn answer(page: &mut Page, action: u32) -> Result {
    match action {
        0 => {
            let id = Field(8, Show::Hex, "connection id", "good for 60 s in further requests");
            page.field(&id, RULE)?;
        }
        1 => {
            let fields = [
                Field(4, Show::Signed, "interval", "seconds until the next announce"),
                Field(4, Show::Int, "leechers", "peers that lack something"),
                Field(4, Show::Int, "seeders", "peers that have everything"),
            ];
            page.fields(&fields, RULE)?;
            let (at, peers) = (page.at, page.rest());
            // Over IPv6 entries have 18 bytes, and only the packet's sender tells that.
            let ip_len = if peers.len() % 6 != 0 || peers.len() % 18 == 0 && looks_v6(peers) {
                16
            } else {
                4
            };
            let count = peers.len() / (ip_len + 2);
            page.line(at, peers.len(), "peers", format!("{count} addresses"), RULE);
            page.depth += 1;
            page.compact(peers, at, ip_len, RULE);
            page.depth -= 1;
            page.at = page.end;
        }
        2 => {
            let fields = [
                Field(4, Show::Int, "seeders", "peers that have everything"),
                Field(4, Show::Int, "completed", "downloads so far"),
                Field(4, Show::Int, "leechers", "peers that lack something"),
            ];
            while page.left() != 0 {
                page.fields(&fields, RULE)?;
            }
        }
        _ => {
            let message = page.rest();
            page.line(page.at, message.len(), "message", quoted(message), RULE);
            page.at = page.end;
        }
    }
    Ok(())
}

/// Whether entries of 18 bytes begin with what addresses of the IPv6 internet begin with.
fn looks_v6(peers: &[u8]) -> bool {
    peers.chunks(18).all(|entry| matches!(entry[0], 0x20..=0x3f | 0xfc..=0xfe | 0))
}
