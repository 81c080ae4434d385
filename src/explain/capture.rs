//! Captures of `--trace-file` explained: the trace once more, and with `all` every field of every
//! message. The format is that of [`capture`](crate::capture).
//!
//! Layer: values.

use super::times::Times;
use super::{Page, Result, hex, wire};
use crate::capture::{HEAD_LEN, HEADER_LEN, MAGIC, Record, What};
use crate::printable::{clipped, printable_bytes};
use crate::wire::{handshake, message};

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
    let mut times = Times::default();
    while page.left() != 0 {
        let Some(record) = Record::read(page.rest()) else {
            page.line(page.at, page.left(), "the end", broken(page.rest()), "");
            break;
        };
        let len = HEAD_LEN + record.payload.len();
        self::record(page, &record, &mut times)?;
        page.at += len;
    }
    page.at = page.end;
    for sentence in times.sentences() {
        page.line(page.end, 0, "where the time went", sentence, "");
    }
    Ok(())
}

/// What is said of bytes that are no whole record.
fn broken(rest: &[u8]) -> String {
    let Some(head) = rest.first_chunk::<HEAD_LEN>() else {
        let left = rest.len();
        return format!("cut short: expected {HEAD_LEN} bytes of a record's head, found {left}");
    };
    let claims = head[13..].iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
    format!(
        "cut short, or damaged: a record of kind {} claims {claims} bytes, {} are left",
        head[0],
        rest.len() - HEAD_LEN
    )
}

fn record(page: &mut Page, record: &Record, times: &mut Times) -> Result {
    let Record { conn, payload, .. } = *record;
    let peer = match times.addr(conn) {
        "" => String::new(),
        addr => format!("{addr} "),
    };
    times.record(record);
    let mut rule = "";
    let meaning;
    match record.what {
        Some(What::Peer) => {
            let (how, addr) = payload.split_first().unwrap_or((&0, &[]));
            let addr = clipped(&String::from_utf8_lossy(addr), 60);
            let how = if *how == 0 { "we dialled it" } else { "it dialled us" };
            meaning = format!("#{conn} is {addr}: {how}");
        }
        Some(what @ (What::FromPeer | What::ToPeer)) => {
            let arrow = if what == What::FromPeer { '←' } else { '→' };
            let said = match (payload.try_into(), message::recorded(payload)) {
                (Ok(handshake), None) => {
                    rule = "BEP 3, peer protocol";
                    handshake::explained(handshake)
                }
                (_, Some(message)) => {
                    rule = message::about(message.id()).2;
                    message.explained()
                }
                _ => format!("{} bytes that are no message: damaged", payload.len()),
            };
            meaning = format!("#{conn} {peer}{arrow} {said}");
        }
        Some(What::Line) => {
            let text = printable_bytes(&payload[..payload.len().min(4 * LINE_MAX)]);
            let (topic, text) = text.split_once(' ').unwrap_or(("", &text));
            // A line that names the peer itself need not have it twice.
            let known = conn == 0 || text.contains(peer.trim());
            let who = if known { String::new() } else { format!("#{conn} {peer}") };
            meaning = format!("{topic:<9} {who}{}", clipped(text, LINE_MAX));
        }
        Some(What::Lost) => {
            let count = payload.iter().take(8).fold(0, |n, &byte| n << 8 | u64::from(byte));
            meaning = format!("{count} records were dropped here: the disk was too slow");
        }
        Some(What::End) => meaning = format!("#{conn} {peer}is no more"),
        None => {
            let kind = page.input[page.at];
            meaning = format!("a record of kind {kind}, which is not known: damaged, or newer");
        }
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
