//! Magnet links explained (BEP 9, 53), field by field.
//!
//! Layer: values.

use super::{Error, Page, Result, quoted};
use crate::magnet::Magnet;
use crate::percent;

const RULE: &str = "BEP 9, magnet URI format";

pub fn explain(page: &mut Page) -> Result {
    let Ok(link) = std::str::from_utf8(page.input) else {
        return page
            .fail(format!("expected the text of a magnet link, found binary data ({RULE})"));
    };
    let link = link.trim_end();
    if let Err(err) = Magnet::parse(link) {
        let at = link.find("xt").unwrap_or(0);
        return Err(Error { at, what: format!("{err} ({RULE})") });
    }
    let start = link.find('?').map_or(link.len(), |mark| mark + 1);
    page.line(0, start, "magnet link", link[..start].to_owned(), RULE);
    page.depth += 1;
    let mut at = start;
    for field in link[start..].split('&') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let plain = key.trim_start_matches("amp;").to_ascii_lowercase();
        let (meaning, rule) = match plain.split('.').next().unwrap_or_default() {
            "xt" => ("exact topic: the info hash, hex or base32", RULE),
            "dn" => ("display name, until the metadata is there", RULE),
            "tr" => ("a tracker", RULE),
            "x" if plain.starts_with("x.pe") => ("a peer to dial", RULE),
            "so" => ("the files wanted, counted from 0", "BEP 53, select only"),
            "ws" => ("a web seed", "BEP 19"),
            "xl" => ("the length in bytes; not used", ""),
            _ => ("ignored", ""),
        };
        if !field.is_empty() {
            let text = format!("{}, {meaning}", quoted(&percent::decode(value)));
            page.line(at, field.len(), key, text, rule);
        }
        at += field.len() + 1;
    }
    Ok(())
}
