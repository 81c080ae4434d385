//! Magnet links (BEP 9): a torrent's hash, and who may know more.
//!
//! ```text
//! magnet:?xt=urn:btih:<40 hex or 32 base32 digits>    the info hash
//!   &dn=name                  what to call it until the metadata is there
//!   &tr=url                   a tracker; repeated, also as tr.1, tr.2
//!   &ws=url                   a web seed (BEP 19)
//!   &x.pe=host:port           a peer
//!   &so=0,2,4-6               the files wanted, counted from 0 (BEP 53)
//! ```
//!
//! Values are percent-encoded. Links come from web pages, so what has no meaning here is skipped and
//! not refused; only a link without a usable hash is. `urn:btmh:` is the hash of a v2 torrent.
//!
//! Layer: values.

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;

use crate::hash::Sha1;
use crate::hostport::HostPort;
use crate::metainfo::{path, url};
use crate::order;
use crate::percent;

/// The highest file number that `so` may name. No torrent that we take has as many files, and a
/// list of them stays small.
const SELECT_MAX: u32 = 1_000_000;

/// What a magnet link says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Magnet {
    pub info_hash: Sha1,
    /// Made safe: one path component.
    pub name: Option<String>,
    /// In the order of the link, without doubles; each is a tier of its own.
    pub trackers: Vec<String>,
    pub web_seeds: Vec<String>,
    pub peers: Vec<HostPort>,
    /// The files wanted, counted from 0, in rising order; `None`: all.
    pub select: Option<Vec<RangeInclusive<u32>>>,
}

/// Why a magnet link is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    NoMagnet,
    /// It only has the hash of a v2 torrent.
    V2Only,
    NoHash,
    Hash(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::NoMagnet => write!(f, "a magnet link begins with magnet:?"),
            Error::V2Only => write!(
                f,
                "a magnet link for BitTorrent v2 only (urn:btmh, BEP 52); v1 links have urn:btih"
            ),
            Error::NoHash => write!(f, "the magnet link has no xt=urn:btih:<info hash>"),
            Error::Hash(given) => write!(
                f,
                "the info hash {given} of the magnet link is neither 40 hex nor 32 base32 digits"
            ),
        }
    }
}

impl std::error::Error for Error {}

impl Magnet {
    /// A link that holds nothing but the hash.
    pub fn new(info_hash: Sha1) -> Magnet {
        let (trackers, web_seeds, peers) = Default::default();
        Magnet { info_hash, name: None, trackers, web_seeds, peers, select: None }
    }

    /// Whether a text is meant as a magnet link.
    pub fn is_link(text: &str) -> bool {
        text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:"))
    }

    pub fn parse(link: &str) -> Result<Magnet, Error> {
        let link = link.trim();
        let query = if Magnet::is_link(link) { &link[7..] } else { return Err(Error::NoMagnet) };
        // Some programs write magnet://? or magnet:/?
        let query = query.trim_start_matches('/').strip_prefix('?').ok_or(Error::NoMagnet)?;
        let mut hash = Err(Error::NoHash);
        let mut magnet = Magnet::new(Sha1([0; 20]));
        for field in query.split('&') {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            // `&amp;` is what is left of a link that was copied out of a page's source.
            let key = key.strip_prefix("amp;").unwrap_or(key).to_ascii_lowercase();
            let coded = value;
            let value = percent::decode(value);
            match without_number(&key) {
                "xt" => hash = better(hash, exact_topic(&value)),
                "dn" => magnet.name = magnet.name.take().or_else(|| display_name(coded)),
                "tr" => magnet.trackers.extend(url::tracker(&value)),
                "ws" => magnet.web_seeds.extend(url::web_seed(&value)),
                "x.pe" => magnet.peers.extend(text(&value).and_then(|text| text.parse().ok())),
                "so" => magnet.select = text(&value).and_then(selection).or(magnet.select),
                _ => {}
            }
        }
        magnet.info_hash = hash?;
        without_doubles(&mut magnet.trackers);
        without_doubles(&mut magnet.web_seeds);
        without_doubles(&mut magnet.peers);
        Ok(magnet)
    }
}

/// The link. Its peers and its selection are those of a moment, but nothing is lost.
impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "magnet:?xt=urn:btih:{}", self.info_hash)?;
        let mut field =
            |key, value: &str| write!(f, "&{key}={}", percent::encode(value.as_bytes()));
        self.name.iter().try_for_each(|name| field("dn", name))?;
        self.trackers.iter().try_for_each(|url| field("tr", url))?;
        self.web_seeds.iter().try_for_each(|url| field("ws", url))?;
        self.peers.iter().try_for_each(|peer| write!(f, "&x.pe={peer}"))?;
        for (i, range) in self.select.iter().flatten().enumerate() {
            f.write_str(if i == 0 { "&so=" } else { "," })?;
            write!(f, "{}", range.start())?;
            if range.start() != range.end() {
                write!(f, "-{}", range.end())?;
            }
        }
        Ok(())
    }
}

/// The key without the number that tells repeated keys apart: `tr.1` is `tr`.
fn without_number(key: &str) -> &str {
    match key.rsplit_once('.') {
        Some((plain, number)) if number.bytes().all(|b| b.is_ascii_digit()) => plain,
        _ => key,
    }
}

/// The info hash in the value of `xt`.
fn exact_topic(value: &[u8]) -> Result<Sha1, Error> {
    let topic = String::from_utf8_lossy(value);
    let topic = topic.trim();
    let urn = |prefix: &str| {
        let start = topic.get(..prefix.len())?;
        start.eq_ignore_ascii_case(prefix).then(|| &topic[prefix.len()..])
    };
    if let Some(digits) = urn("urn:btih:") {
        let hash = Sha1::from_hex(digits).or_else(|| from_base32(digits));
        return hash.ok_or_else(|| Error::Hash(crate::printable::clipped(digits, 60)));
    }
    Err(if urn("urn:btmh:").is_some() { Error::V2Only } else { Error::NoHash })
}

/// Of two topics of one link the first that can be used; of two errors the one that says more.
fn better(old: Result<Sha1, Error>, new: Result<Sha1, Error>) -> Result<Sha1, Error> {
    match (&old, &new) {
        (Ok(_), _) | (Err(_), Err(Error::NoHash)) => old,
        _ => new,
    }
}

/// The hash that 32 digits of base32 (RFC 4648, either case) stand for.
fn from_base32(text: &str) -> Option<Sha1> {
    let mut hash = [0; 20];
    if text.len() != 32 {
        return None;
    }
    // Eight digits of five bits are five bytes.
    for (bytes, digits) in hash.chunks_exact_mut(5).zip(text.as_bytes().chunks_exact(8)) {
        let mut bits: u64 = 0;
        for digit in digits {
            let value = match digit.to_ascii_uppercase() {
                letter @ b'A'..=b'Z' => letter - b'A',
                digit @ b'2'..=b'7' => digit - b'2' + 26,
                _ => return None,
            };
            bits = bits << 5 | u64::from(value);
        }
        bytes.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(Sha1(hash))
}

/// The name, safe for a disk. Many programs write a space as `+` here, and only here; a plus is `%2B`.
fn display_name(coded: &str) -> Option<String> {
    let spaced = percent::decode(&coded.replace('+', " "));
    (!spaced.trim_ascii().is_empty()).then(|| path::component(&spaced))
}

/// The ranges of `so`, sorted and joined; parts that are no ranges are skipped.
fn selection(text: &str) -> Option<Vec<RangeInclusive<u32>>> {
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if plain { digits.parse().ok().filter(|&n| n <= SELECT_MAX) } else { None }
    };
    let mut ranges: Vec<(u32, u32)> = text
        .split(',')
        .map(|part| part.split_once('-').unwrap_or((part, part)))
        .filter_map(|(first, last)| number(first).zip(number(last)))
        .filter(|(first, last)| first <= last)
        .collect();
    order::sort(&mut ranges);
    let mut joined: Vec<RangeInclusive<u32>> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some(range) if first <= range.end() + 1 => {
                *range = *range.start()..=last.max(*range.end());
            }
            _ => joined.push(first..=last),
        }
    }
    (!joined.is_empty()).then_some(joined)
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().map(str::trim)
}

fn without_doubles<T: Clone + Eq + std::hash::Hash>(list: &mut Vec<T>) {
    let mut seen = HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
    const BASE32: &str = "YEX6DQDLXISUVHOJ6UM3GNNKPQJWPKEK";

    /// The link with this hash and these fields, written out again.
    #[track_caller]
    fn check(fields: &str, expected: &str) {
        let magnet = Magnet::parse(&format!("magnet:?xt=urn:btih:{HEX}{fields}")).unwrap();
        let written = magnet.to_string();
        assert_eq!(written, format!("magnet:?xt=urn:btih:{HEX}{expected}"));
        assert_eq!(Magnet::parse(&written), Ok(magnet));
    }

    #[test]
    fn fields_are_read_and_written() {
        check("", "");
        check("&dn=my%20file+%281%29.iso", "&dn=my%20file%20%281%29.iso");
        check("&dn=C%2B%2B+notes%20a%2Bb", "&dn=C%2B%2B%20notes%20a%2Bb");
        check("&dn=caf%E9", "&dn=caf%25E9");
        check("&dn=..%2f..%2Fevil%00", "&dn=.._.._evil_");
        check("&dn&tr&ws&x.pe&so&&=", "");
        check(
            "&tr=udp://t:1&tr.1=http%3A%2F%2Fa+b&TR=udp://t:1",
            "&tr=udp%3A%2F%2Ft%3A1&tr=http%3A%2F%2Fa%2Bb",
        );
        check(
            "&tr=ftp://x&ws=file:///etc&ws=http://w&amp;ws=http://v",
            "&ws=http%3A%2F%2Fw&ws=http%3A%2F%2Fv",
        );
        check(
            "&x.pe=127.0.0.1%3A6881&x.pe=[::1]:1&x.pe=h:0&x.pe=a",
            "&x.pe=127.0.0.1:6881&x.pe=[::1]:1",
        );
        check("&so=4-6,0,2,5,7,8-6,a,-1,2-,-,1-99999999999", "&so=0,2,4-7");
        check("&dn=100%&xl=5&as=x", "&dn=100%25");
    }

    #[test]
    fn a_usable_hash_is_all_it_takes() {
        let hash = Sha1::from_hex(HEX);
        for good in [
            &format!("magnet:?xt=urn:btih:{BASE32}"),
            &format!("MAGNET:?xt=urn:btih:{}", BASE32.to_lowercase()),
            &format!(" magnet://?dn=x&xt.1=urn%3Abtih%3A{HEX}\n"),
            &format!("magnet:?xt=urn:sha1:X&xt=urn:btih:{HEX}&xt=urn:btih:{}", "0".repeat(40)),
            &format!("magnet:?xt=urn:btmh:1220{}&xt=urn:btih:{HEX}", "0".repeat(64)),
        ] {
            assert_eq!(Magnet::parse(good).map(|magnet| magnet.info_hash).ok(), hash, "{good}");
        }
        let refused = |link: &str| Magnet::parse(link).unwrap_err();
        assert_eq!(refused("http://a"), Error::NoMagnet);
        assert_eq!(refused("magnet:"), Error::NoMagnet);
        assert_eq!(refused("magnet:?"), Error::NoHash);
        assert_eq!(refused("magnet:?xt=urn:sha1:X"), Error::NoHash);
        assert_eq!(refused(&format!("magnet:?xt=urn:btmh:1220{}", "0".repeat(64))), Error::V2Only);
        for digits in
            ["", "é", &HEX[1..], &BASE32[1..], &BASE32.replace('Y', "1"), &HEX.replace('c', "g")]
        {
            let link = format!("magnet:?xt=urn:btih:{digits}&xt=urn:x");
            assert_eq!(refused(&link), Error::Hash(digits.to_owned()));
        }
    }
}
