//! The query of an HTTP announce or scrape (BEP 3, 7, 23, 48), checked.
//!
//! ```text
//! /announce ? info_hash=%..20 & peer_id=%..20 & port=6881 & uploaded=0 & downloaded=0 & left=0
//!             event=started|completed|stopped   compact=0|1   no_peer_id=1   numwant=50   key=...
//! /scrape   ? info_hash=%..20 & info_hash=%..20 ...
//! ```
//!
//! What names the torrent and the peer must be right; any other field that makes no sense counts as
//! missing. Fields that we do not know are skipped. A `+` is a plus: hashes are bytes, not text.
//!
//! Layer: hands, but pure: text in, values out.

use std::net::SocketAddr;

use super::keeper::{Report, Via};
use super::known_as;
use crate::hash::Sha1;
use crate::percent;
use crate::registry::{Announce, Event};

/// Peers for those who do not say how many they want.
pub const NUMWANT: usize = 50;

/// Torrents in one scrape: as many as fit a UDP packet (BEP 15).
pub const SCRAPE_MAX: usize = 74;

/// An announce and how it wants its answer.
#[derive(Debug)]
pub struct HttpAnnounce {
    pub announce: Announce,
    pub report: Report,
    /// BEP 23: addresses as bytes, unless it is asked for dictionaries.
    pub compact: bool,
    pub peer_ids: bool,
}

/// Reads an announce; the error tells the client what is wrong.
pub fn announce(path: &str, query: &str, from: SocketAddr) -> Result<HttpAnnounce, String> {
    let get = |key: &str| field(query, key);
    let number = |key: &str| text(get(key)?).and_then(|text| text.parse::<u64>().ok());
    let info_hash = Sha1(twenty("info_hash", get("info_hash"))?);
    let peer_id = twenty("peer_id", get("peer_id"))?;
    let port = text(get("port").ok_or("port is missing")?).and_then(|text| text.parse().ok());
    let port: u16 = port.ok_or("port is not 0 to 65535")?;
    let event = match get("event").as_deref() {
        Some(b"started") => Event::Started,
        Some(b"completed") => Event::Completed,
        Some(b"stopped") => Event::Stopped,
        _ => Event::Regular,
    };
    let claimed = get("ip").and_then(text).and_then(|text| text.parse().ok());
    let left = number("left");
    let announce = Announce {
        info_hash,
        peer_id,
        key: key(get("key").unwrap_or_default().as_slice()),
        address: known_as(from, claimed, port),
        source: from.ip().to_canonical(),
        complete: left == Some(0),
        event,
        numwant: number("numwant")
            .map_or(NUMWANT, |wanted| usize::try_from(wanted).unwrap_or(usize::MAX)),
        both_families: true,
    };
    let (uploaded, downloaded) = (number("uploaded"), number("downloaded"));
    let report = Report {
        via: Via::Http,
        uploaded: uploaded.unwrap_or(0),
        downloaded: downloaded.unwrap_or(0),
        left,
        path: path.to_owned(),
    };
    let compact = get("compact").as_deref() != Some(b"0");
    let peer_ids = get("no_peer_id").as_deref() != Some(b"1");
    Ok(HttpAnnounce { announce, report, compact, peer_ids })
}

/// Reads a scrape; no hash at all asks for every torrent.
pub fn scrape(query: &str) -> Result<Vec<Sha1>, String> {
    let values = fields(query).filter(|(key, _)| *key == "info_hash");
    let hashes: Vec<Sha1> = values
        .take(SCRAPE_MAX + 1)
        .map(|(key, value)| Ok(Sha1(twenty(key, Some(percent::decode(value)))?)))
        .collect::<Result<_, String>>()?;
    if SCRAPE_MAX < hashes.len() {
        return Err(format!("more than {SCRAPE_MAX} torrents in one scrape, the limit"));
    }
    Ok(hashes)
}

fn fields(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|field| field.split_once('=').unwrap_or((field, "")))
}

/// The first field of that name, decoded.
fn field(query: &str, name: &str) -> Option<Vec<u8>> {
    fields(query).find(|(key, _)| *key == name).map(|(_, value)| percent::decode(value))
}

fn text(bytes: Vec<u8>) -> Option<String> {
    String::from_utf8(bytes).ok()
}

fn twenty(key: &str, value: Option<Vec<u8>>) -> Result<[u8; 20], String> {
    let value = value.ok_or_else(|| format!("{key} is missing"))?;
    let len = value.len();
    value.try_into().map_err(|_| format!("{key} has {len} bytes, it must have 20"))
}

/// A key is any text, by custom eight hexadecimal digits. We only compare: four bytes will do (FNV-1a).
fn key(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(16_777_619))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "info_hash=%00%ffcdefghijklmnopqrst";
    const ID: &str = "peer_id=-PM0001-abcdefghijkl";

    fn read(query: &str, from: &str) -> Result<HttpAnnounce, String> {
        announce("/announce", query, from.parse().unwrap())
    }

    #[test]
    fn a_usual_announce() {
        let query = format!("{HASH}&{ID}&port=6881&left=0&event=completed&numwant=9&compact=0");
        let HttpAnnounce { announce, compact, peer_ids, .. } =
            read(&query, "[::ffff:198.51.100.1]:9").unwrap();
        assert_eq!(&announce.info_hash.0[..3], b"\0\xffc");
        assert_eq!(announce.address.to_string(), "198.51.100.1:6881");
        assert!(announce.complete && !compact && peer_ids);
        assert_eq!((announce.event, announce.numwant), (Event::Completed, 9));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let check = |query: &str, why: &str| {
            assert_eq!(read(query, "198.51.100.1:9").unwrap_err(), why, "{query}");
        };
        check("", "info_hash is missing");
        check("info_hash=abc", "info_hash has 3 bytes, it must have 20");
        check(HASH, "peer_id is missing");
        check(&format!("{HASH}&{ID}"), "port is missing");
        check(&format!("{HASH}&{ID}&port=65536"), "port is not 0 to 65535");
        check(&format!("{HASH}&{ID}&port=%ff"), "port is not 0 to 65535");
        // All else has a default.
        let odd = format!("{HASH}&{ID}&port=1&left=-1&numwant=x&event=%00&key=%ff&ip=::&&=&a");
        let announce = read(&odd, "198.51.100.1:9").unwrap().announce;
        assert!(!announce.complete);
        assert_eq!((announce.event, announce.numwant), (Event::Regular, NUMWANT));
    }

    #[test]
    fn who_may_name_another_address() {
        let check = |from: &str, claim: &str, address: &str| {
            let query = format!("{HASH}&{ID}&port=7&ip={claim}");
            assert_eq!(read(&query, from).unwrap().announce.address.to_string(), address);
        };
        check("198.51.100.1:9", "203.0.113.1", "198.51.100.1:7");
        check("127.0.0.1:9", "203.0.113.1", "203.0.113.1:7");
        check("10.0.0.1:9", "2001:db8::1", "[2001:db8::1]:7");
        check("10.0.0.1:9", "127.0.0.1", "10.0.0.1:7");
        check("10.0.0.1:9", "0.0.0.0", "10.0.0.1:7");
        check("10.0.0.1:9", "example.org", "10.0.0.1:7");
    }

    #[test]
    fn scrapes() {
        assert_eq!(scrape("").unwrap(), []);
        assert_eq!(scrape(&format!("{HASH}&x=1&{HASH}")).unwrap().len(), 2);
        assert!(scrape("info_hash=1").unwrap_err().contains("1 bytes"));
        assert!(scrape(&[HASH; 75].join("&")).unwrap_err().contains("more than 74"));
    }
}
