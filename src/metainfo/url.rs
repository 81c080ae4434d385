//! The addresses in a torrent or a magnet link: trackers (BEP 3, 12, 15) and web seeds (BEP 19).
//!
//! A stranger wrote them, so only schemes that this field may have get through: never `file:`.
//!
//! Layer: values.

use std::collections::HashSet;

use crate::bencode::{Dict, Kind, Value};

/// Trackers. `ws` and `wss` are those of browsers: they are shown, but not spoken here.
const TRACKER_SCHEMES: [&str; 5] = ["http", "https", "udp", "ws", "wss"];

const WEB_SEED_SCHEMES: [&str; 2] = ["http", "https"];

/// The longest address, in bytes. HTTP servers take 8 KiB at most.
const URL_LEN_MAX: usize = 8 << 10;

/// The address of a tracker, without the white space around it.
pub fn tracker(raw: &[u8]) -> Option<String> {
    with_scheme(raw, &TRACKER_SCHEMES).map(str::to_owned)
}

/// The address of a web seed, without the white space around it. Spaces inside, which people forget
/// to escape, are escaped.
pub fn web_seed(raw: &[u8]) -> Option<String> {
    with_scheme(raw, &WEB_SEED_SCHEMES).map(|url| url.replace(' ', "%20"))
}

/// The tiers of `announce-list` (BEP 12), or `announce` where that has none. No tracker comes twice.
pub(super) fn tiers(root: Dict) -> Vec<Vec<String>> {
    let mut seen = HashSet::new();
    let mut tiers = Vec::new();
    let tier_lists = root.list("announce-list").map(|list| list.iter().filter_map(Value::list));
    for list in tier_lists.into_iter().flatten() {
        let urls = list.iter().filter_map(|url| tracker(url.bytes()?));
        let tier: Vec<String> = urls.filter(|url| seen.insert(url.clone())).collect();
        if !tier.is_empty() {
            tiers.push(tier);
        }
    }
    if tiers.is_empty() {
        tiers.extend(root.bytes("announce").and_then(tracker).map(|url| vec![url]));
    }
    tiers
}

/// `url-list` (BEP 19): one string, or a list of strings.
pub(super) fn web_seeds(root: Dict) -> Vec<String> {
    let mut seen = HashSet::new();
    let all: Vec<&[u8]> = match root.get("url-list").map(Value::kind) {
        Some(Kind::Bytes(one)) => vec![one],
        Some(Kind::List(list)) => list.iter().filter_map(Value::bytes).collect(),
        _ => Vec::new(),
    };
    let mut urls: Vec<String> = all.into_iter().filter_map(web_seed).collect();
    urls.retain(|url| seen.insert(url.clone()));
    urls
}

fn with_scheme<'a>(raw: &'a [u8], schemes: &[&str]) -> Option<&'a str> {
    let url = std::str::from_utf8(raw).ok()?.trim();
    let (scheme, rest) = url.split_once("://")?;
    let known = schemes.iter().any(|known| known.eq_ignore_ascii_case(scheme));
    let valid = !rest.is_empty() && !url.contains(char::is_control) && url.len() <= URL_LEN_MAX;
    (known && valid).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bencode::decode;

    #[test]
    fn tiers_without_doubles_junk_and_strange_schemes() {
        let check = |torrent: &str, expected: &[&[&str]]| {
            let document = decode(torrent.as_bytes()).unwrap();
            assert_eq!(tiers(document.root().dict().unwrap()), expected, "{torrent}");
        };
        check("d8:announce10:http://a/xe", &[&["http://a/x"]]);
        check("d8:announce12:\r\n udp://a:1e", &[&["udp://a:1"]]);
        check("d8:announce7:file://13:announce-listlleee", &[]);
        check("d8:announce8:http://a13:announce-listllel0:eee", &[&["http://a"]]);
        check(
            "d8:announce8:http://a13:announce-listll8:http://b7:udp://cel8:http://bei7el6:wss://eee",
            &[&["http://b", "udp://c"]],
        );
    }

    #[test]
    fn web_seeds_in_both_forms() {
        let check = |torrent: &str, expected: &[&str]| {
            let document = decode(torrent.as_bytes()).unwrap();
            assert_eq!(web_seeds(document.root().dict().unwrap()), expected, "{torrent}");
        };
        check("d8:url-list12:http://a/b ce", &["http://a/b%20c"]);
        check("d8:url-listl8:http://ai1e11:file:///etc8:http://aee", &["http://a"]);
        check("d8:url-list0:e", &[]);
    }
}
