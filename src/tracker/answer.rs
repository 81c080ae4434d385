//! What a tracker answers, made safe to use (BEP 3, 7, 23, 24, 31, 48).
//!
//! ```text
//! announce  d 8:complete i5e  10:incomplete i3e  8:interval i1800e  12:min interval i900e
//!             5:peers  n × | IPv4: 4 | port: u16 |      or  l d 2:ip … 4:port … e … e
//!             6:peers6 n × | IPv6: 16 | port: u16 |  e
//! refusal   d 14:failure reason …  8:retry in i5e (minutes, or "never") e
//! scrape    d 5:files d 20:(info hash) d 8:complete … 10:downloaded … 10:incomplete … e e e
//! ```
//!
//! Fields that make no sense count as missing: a tracker that errs in one number may still know
//! peers. What is refused is what is no dictionary.
//!
//! Layer: hands, but pure: bytes in, values out.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::{Answer, Error, Result, Scrape};
use crate::bencode::{self, Dict, Document, Kind, List, Rule};
use crate::hash::Sha1;
use crate::printable::clipped;
use crate::reach::can_be_dialled;

/// The most peers taken from one answer: twenty times the connections we make. A list of 100,000 is
/// an attempt to have us attack somebody, or to fill our memory.
pub const PEERS_MAX: usize = 1000;

/// What every tracker uses that says nothing.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(30 * 60);

/// No tracker is asked more often than this without an event, even if it says so.
const INTERVAL_MIN: Duration = Duration::from_secs(30);

/// A longer pause would be as good as silence.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How many characters of a tracker's text are shown.
const TEXT_MAX: usize = 200;

/// The longest tracker id that is sent back; it becomes part of a URL.
const TRACKER_ID_MAX: usize = 512;

/// How many numbers of more than 64 bits are replaced before an answer counts as garbage.
const REPAIRS_MAX: usize = 8;

/// Reads the answer to an announce.
pub fn announce(body: &[u8]) -> Result<Answer> {
    let body = repaired(body);
    let document = decode(&body)?;
    let root = dictionary(&document)?;
    let found = listed(root.list("peers"))
        .chain(compact(root.bytes("peers").unwrap_or_default(), Family::V4))
        .chain(compact(root.bytes("peers6").unwrap_or_default(), Family::V6));
    let count = |key| root.int(key).and_then(|count| u32::try_from(count).ok());
    Ok(Answer {
        interval: interval(root.int("interval")),
        min_interval: root.int("min interval").map(|seconds| interval(Some(seconds))),
        peers: peers(found),
        seeders: count("complete"),
        leechers: count("incomplete"),
        warning: root.bytes("warning message").map(text),
        tracker_id: root
            .bytes("tracker id")
            .filter(|id| id.len() <= TRACKER_ID_MAX)
            .map(<[u8]>::to_vec),
        external_ip: root.bytes("external ip").and_then(ip),
    })
}

/// Reads the answer to a scrape of one torrent.
pub fn scrape(body: &[u8], info_hash: Sha1) -> Result<Scrape> {
    let body = repaired(body);
    let document = decode(&body)?;
    let files = dictionary(&document)?.dict("files");
    let file = files
        .and_then(|files| files.iter().find(|(hash, _)| *hash == info_hash.0))
        .and_then(|(_, file)| file.dict())
        .ok_or_else(|| Error::Failed("it does not know this torrent".to_owned()))?;
    let count = |key| file.int(key).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    Ok(Scrape {
        seeders: count("complete"),
        leechers: count("incomplete"),
        completed: count("downloaded"),
    })
}

/// An answer whose integers all fit. A tracker that sends an interval of 2⁶³ errs in a number that
/// we would cut down anyway; the decoder rightly refuses it.
fn repaired(body: &[u8]) -> Cow<'_, [u8]> {
    let mut body = Cow::Borrowed(body);
    for _ in 0..REPAIRS_MAX {
        let at = match bencode::decode_prefix(&body) {
            Err(e) if e.rule == Rule::IntRange => e.at,
            _ => break,
        };
        let rest = body.get(at..).unwrap_or_default();
        let Some(len) = rest.iter().position(|&byte| byte == b'e') else { break };
        let most: &[u8] = if rest.get(1) == Some(&b'-') { b"i-1" } else { b"i4294967295" };
        body.to_mut().splice(at..at + len, most.iter().copied());
    }
    body
}

fn decode(body: &[u8]) -> Result<Document<'_>> {
    // Line ends and debugging output after the answer are common enough.
    bencode::decode_prefix(body).map(|(document, _)| document).map_err(|e| {
        let what = if body.is_empty() { "an empty answer" } else { "the answer is not bencode" };
        Error::Failed(format!("{what}: {e}"))
    })
}

fn dictionary<'d>(document: &'d Document<'d>) -> Result<Dict<'d>> {
    let root = document.root().dict();
    let root = root.ok_or_else(|| Error::Failed("the answer is no dictionary".to_owned()))?;
    match root.bytes("failure reason") {
        Some(reason) => Err(Error::Refused { reason: text(reason), retry_in: retry_in(root) }),
        None => Ok(root),
    }
}

/// BEP 31: minutes, as a number or in digits, or the word never.
fn retry_in(root: Dict) -> Option<Duration> {
    let minutes = match root.get("retry in")?.kind() {
        Kind::Int(minutes) => minutes,
        Kind::Bytes(b"never") => i64::MAX,
        Kind::Bytes(digits) => std::str::from_utf8(digits).ok()?.parse().ok()?,
        Kind::List(_) | Kind::Dict(_) => return None,
    };
    Some(Duration::from_secs(u64::try_from(minutes).ok()?.saturating_mul(60)).min(INTERVAL_MAX))
}

/// A tracker's interval, in seconds, within our limits.
pub fn interval(seconds: Option<i64>) -> Duration {
    match seconds.map(u64::try_from) {
        Some(Ok(seconds @ 1..)) => Duration::from_secs(seconds).clamp(INTERVAL_MIN, INTERVAL_MAX),
        _ => INTERVAL_DEFAULT,
    }
}

/// A tracker's words, fit for a terminal.
pub fn text(bytes: &[u8]) -> String {
    clipped(&String::from_utf8_lossy(bytes), TEXT_MAX)
}

/// How long the addresses of a compact list are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(addr: SocketAddr) -> Family {
        if addr.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub fn other(self) -> Family {
        if self == Family::V4 { Family::V6 } else { Family::V4 }
    }
}

/// The addresses of a compact list. A last one that is cut short is ignored.
pub fn compact(bytes: &[u8], family: Family) -> impl Iterator<Item = SocketAddr> {
    let ip_len = if family == Family::V4 { 4 } else { 16 };
    bytes.chunks_exact(ip_len + 2).filter_map(move |entry| {
        let (address, port) = entry.split_at_checked(ip_len)?;
        Some(SocketAddr::new(ip(address)?, u16::from_be_bytes(port.try_into().ok()?)))
    })
}

/// The addresses of a list of dictionaries. Names are left out: looking up names that strangers
/// choose is not for us.
fn listed(list: Option<List>) -> impl Iterator<Item = SocketAddr> {
    list.into_iter().flat_map(List::iter).filter_map(|peer| {
        let peer = peer.dict()?;
        let ip: IpAddr = peer.str("ip")?.parse().ok()?;
        Some(SocketAddr::new(ip, u16::try_from(peer.int("port")?).ok()?))
    })
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes))))
}

/// Peers that could be dialled, each once, in the order of the tracker, which puts the best first.
pub fn peers(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut seen = HashSet::new();
    found
        .map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()))
        .filter(|address| can_be_dialled(*address) && seen.insert(*address))
        .take(PEERS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(body: &[u8]) -> Answer {
        announce(body).unwrap_or_else(|e| panic!("{}: {e}", body.escape_ascii()))
    }

    #[test]
    fn intervals_that_no_tracker_should_send() {
        let check = |value: &str, seconds: u64| {
            let body = format!("d8:interval{value}e");
            assert_eq!(ok(body.as_bytes()).interval.as_secs(), seconds, "{value}");
        };
        check("i1800e", 1800);
        check("i0e", 1800);
        check("i-1e", 1800);
        check("4:soon", 1800);
        check("i1e", 30);
        check("i9223372036854775807e", 86_400);
        check("i9223372036854775808e", 86_400);
        check("i-99999999999999999999e", 1800);
        assert_eq!(ok(b"de").interval.as_secs(), 1800);
        assert_eq!(ok(b"d8:intervali60e12:min intervali1ee").min_interval.unwrap().as_secs(), 30);
    }

    #[test]
    fn lists_of_peers() {
        let check = |peers: &[u8], expected: &[&str]| {
            let body = [b"d8:intervali1800e".as_slice(), peers, b"e"].concat();
            let found: Vec<_> = ok(&body).peers.iter().map(SocketAddr::to_string).collect();
            assert_eq!(found, expected, "{}", peers.escape_ascii());
        };
        check(b"5:peers0:", &[]);
        check(b"5:peersi7e", &[]);
        // Of two and a half entries two count; twice the same is once.
        check(b"5:peers15:\x7f\0\0\x01\x1a\xe1\x7f\0\0\x01\x1a\xe1\x7f\0\0", &["127.0.0.1:6881"]);
        // Port 0, 0.0.0.0, 224.0.0.1, 255.255.255.255.
        check(b"5:peers12:\x7f\0\0\x01\0\0\0\0\0\0\0\x01", &[]);
        check(b"5:peers12:\xe0\0\0\x01\0\x01\xff\xff\xff\xff\0\x01", &[]);
        check(
            b"5:peers6:\x01\x02\x03\x04\0\x056:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1",
            &["1.2.3.4:5", "[2001:db8::1]:6881"],
        );
        // An IPv4 address in IPv6 notation is the same peer.
        check(b"6:peers618:\0\0\0\0\0\0\0\0\0\0\xff\xff\x01\x02\x03\x04\0\x05", &["1.2.3.4:5"]);
        check(
            b"5:peersld2:ip7:1.2.3.44:porti5eed2:ip3:::14:porti6eei7ed2:ip1:a4:porti5ee\
              d2:ip7:1.2.3.44:porti-1eed2:ip7:1.2.3.44:porti65536eed4:porti1eee",
            &["1.2.3.4:5", "[::1]:6"],
        );
    }

    #[test]
    fn a_list_without_end_is_cut() {
        let entries: Vec<u8> = (0..170_000u32)
            .flat_map(|n| [1, (n >> 16) as u8, (n >> 8) as u8, n as u8, 1, 1])
            .collect();
        let body = bencode::Dictionary::new().bytes("peers", entries).done();
        assert_eq!(ok(&body).peers.len(), PEERS_MAX);
    }

    #[test]
    fn all_other_fields() {
        let answer = ok(b"d8:completei5e11:external ip4:\x01\x02\x03\x0410:incompletei-3e\
            10:tracker id3:a\0b15:warning message5:a\x1b[2Je\r\n");
        assert_eq!((answer.seeders, answer.leechers), (Some(5), None));
        assert_eq!(answer.external_ip, Some(Ipv4Addr::new(1, 2, 3, 4).into()));
        assert_eq!(answer.tracker_id.as_deref(), Some(&b"a\0b"[..]));
        assert_eq!(answer.warning.as_deref(), Some("a\\u{1b}[2J"));
    }

    #[test]
    fn refusals_and_garbage() {
        let check = |body: &[u8], why: &str, minutes: Option<u64>| {
            let error = announce(body).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            let Error::Refused { retry_in, .. } = error else { return assert_eq!(minutes, None) };
            assert_eq!(retry_in, minutes.map(|m| Duration::from_secs(m * 60)));
        };
        check(b"d14:failure reason3:\x1b[me", "refuses: \\u{1b}[m", None);
        check(b"d14:failure reason1:x8:retry ini5ee", "refuses: x", Some(5));
        check(b"d14:failure reason1:x8:retry in1:7e", "refuses: x", Some(7));
        check(b"d14:failure reason1:x8:retry in5:nevere", "refuses: x", Some(24 * 60));
        check(b"d14:failure reason1:x8:retry ini-5ee", "refuses: x", None);
        check(b"", "an empty answer", None);
        check(
            b"<html>",
            "not bencode: at byte 0: expected i, l, d or a digit, which begin a value, found '<'",
            None,
        );
        check(b"le", "no dictionary", None);
        check(&[b'l'; 100_000], "deeper than 100", None);
        let long = [b"d14:failure reason500:".as_slice(), &[b'x'; 500], b"e"].concat();
        assert!(announce(&long).unwrap_err().to_string().len() < 250);
    }

    #[test]
    fn scrapes() {
        let body = |hash: &[u8]| {
            [b"d5:filesd20:", hash, b"d8:completei1e10:downloadedi2e10:incompletei3eeee"].concat()
        };
        let hash = Sha1([0xff; 20]);
        let expected = Scrape { seeders: 1, leechers: 3, completed: 2 };
        assert_eq!(scrape(&body(&hash.0), hash), Ok(expected));
        assert!(scrape(&body(&[0; 20]), hash).is_err());
        assert!(scrape(b"d5:filesde5:flagsdee", hash).is_err());
        assert!(matches!(scrape(b"d14:failure reason2:noe", hash), Err(Error::Refused { .. })));
    }
}
