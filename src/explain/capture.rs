//! Captures of `--trace-file` explained: the trace once more, and with `all` every field of every
//! message. The format is that of [`capture`](crate::capture).
//!
//! Layer: values.

use std::collections::HashMap;

use super::{Page, Result, hex, wire};
use crate::capture::{HEAD_LEN, HEADER_LEN, MAGIC, Record, What};
use crate::printable::{clipped, printable_bytes};
use crate::wire::message::{self, Message};

/// So many addresses of peers are remembered.
const PEERS_MAX: usize = 10_000;

/// How much of a line is shown, in characters.
const LINE_MAX: usize = 300;

pub fn explain(page: &mut Page) -> Result {
    if !page.input.starts_with(MAGIC) || page.left() < HEADER_LEN {
        return page.fail("expected the 36 bytes of a capture's header: PMTRACE1 …".to_owned());
    }
    let start = page.input[8..16].iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
    let meaning = format!(
        "of torrent {}, begun {}.{:06} s after 1970",
        hex(&page.input[16..36], 20),
        start / 1_000_000,
        start % 1_000_000
    );
    page.line(0, HEADER_LEN, "capture", meaning, "");
    page.at = HEADER_LEN;
    let mut peers = HashMap::new();
    while page.left() != 0 {
        let Some(record) = Record::read(page.rest()) else {
            let left = page.left();
            let what = "cut short".to_owned();
            page.line(page.at, left, "the end", what, "");
            return Ok(());
        };
        let len = HEAD_LEN + record.payload.len();
        self::record(page, &record, &mut peers)?;
        page.at += len;
    }
    Ok(())
}

fn record(page: &mut Page, record: &Record, peers: &mut HashMap<u32, String>) -> Result {
    let Record { conn, payload, .. } = *record;
    let peer = peers.get(&conn).map_or(String::new(), |addr| format!("{addr} "));
    let (mut meaning, mut rule) = (String::new(), "");
    match record.what {
        Some(What::Peer) => {
            let (how, addr) = payload.split_first().unwrap_or((&0, &[]));
            let addr = clipped(&String::from_utf8_lossy(addr), 60);
            let how = if *how == 0 { "we dialled it" } else { "it dialled us" };
            meaning = format!("#{conn} is {addr}: {how}");
            if peers.len() < PEERS_MAX {
                peers.insert(conn, addr);
            }
        }
        Some(what @ (What::FromPeer | What::ToPeer)) => {
            let arrow = if what == What::FromPeer { '←' } else { '→' };
            let said = if payload.first() == Some(&0x13) {
                rule = "BEP 3, peer protocol";
                "handshake".to_owned()
            } else {
                let message = message::recorded(payload);
                rule = message.as_ref().map_or("", |message| message::about(message.id()).2);
                message.as_ref().map_or("what is no message".to_owned(), Message::explained)
            };
            meaning = format!("#{conn} {peer}{arrow} {said}");
        }
        Some(What::Line) => {
            let text = printable_bytes(&payload[..payload.len().min(4 * LINE_MAX)]);
            let (topic, text) = text.split_once(' ').unwrap_or(("", &text));
            let who = if conn == 0 { String::new() } else { format!("#{conn} {peer}") };
            meaning = format!("{topic:<9} {who}{}", clipped(text, LINE_MAX));
        }
        Some(What::Lost) => {
            let count = payload.iter().take(8).fold(0, |n, &byte| n << 8 | u64::from(byte));
            meaning = format!("{count} records were dropped here: the disk was too slow");
        }
        None => meaning.push_str("a record of an unknown kind"),
    }
    let time = format!("{:9.3} s", record.time as f64 / 1e6);
    page.line(page.at, HEAD_LEN + payload.len(), &time, meaning, rule);
    if page.all && matches!(record.what, Some(What::FromPeer | What::ToPeer)) {
        let (at, end) = (page.at, page.end);
        (page.at, page.end) = (at + HEAD_LEN, at + HEAD_LEN + payload.len());
        page.depth += 1;
        let done = match payload.first() {
            Some(0x13) => wire::handshake(page),
            _ => wire::message(page, None),
        };
        page.depth -= 1;
        (page.at, page.end) = (at, end);
        done?;
    }
    Ok(())
}
