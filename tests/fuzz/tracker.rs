//! Targets: what trackers answer, over HTTP and UDP, and their addresses.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use piecemeal::hash::Sha1;
use piecemeal::tracker::answer::{self, PEERS_MAX};
use piecemeal::tracker::packet::{self, Action, Reply};
use piecemeal::tracker::{Answer, Error, Target, place};

const HASH: Sha1 = Sha1(*b"aaaaaaaaaaaaaaaaaaaa");

pub fn answers() -> Vec<Vec<u8>> {
    [
        b"d8:completei5e10:incompletei3e8:intervali1800e12:min intervali900e5:peers12:\
          \x7f\0\0\x01\x1a\xe1\x01\x02\x03\x04\x1a\xe16:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\
          \0\0\0\x01\x1a\xe110:tracker id3:abc15:warning message4:slow11:external ip4:\x01\x02\x03\x04e"
            .as_slice(),
        b"d8:intervali60e5:peersld2:ip7:1.2.3.47:peer id20:bbbbbbbbbbbbbbbbbbbb4:porti5eed2:ip3:::1\
          4:porti6eeee",
        b"d14:failure reason7:go away8:retry ini5ee",
        b"d14:failure reason7:go away8:retry in5:nevere",
        b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei1e10:downloadedi2e10:incompletei3eeee",
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}

/// Peers are few, different and can be dialled; intervals are within limits; words are printable.
pub fn http(body: &[u8]) -> bool {
    let announced = answer::announce(body);
    match &announced {
        Ok(answer) => sensible(answer),
        Err(error) => sensible_error(error),
    }
    if let Err(error) = answer::scrape(body, HASH) {
        sensible_error(&error);
    }
    announced.is_ok()
}

fn sensible(answer: &Answer) {
    for interval in [Some(answer.interval), answer.min_interval].into_iter().flatten() {
        let seconds = interval.as_secs();
        assert!((30..=86_400).contains(&seconds), "an interval of {seconds} s");
    }
    assert!(answer.peers.len() <= PEERS_MAX);
    let mut seen = HashSet::new();
    for peer in &answer.peers {
        assert!(seen.insert(peer), "{peer} comes twice");
        let ip = peer.ip();
        assert!(peer.port() != 0 && !ip.is_unspecified() && !ip.is_multicast(), "{peer}");
    }
    printable(answer.warning.as_deref().unwrap_or_default());
    assert!(answer.tracker_id.as_ref().is_none_or(|id| id.len() <= 512));
}

fn sensible_error(error: &Error) {
    printable(&error.to_string());
    if let Error::Refused { retry_in: Some(pause), .. } = error {
        assert!(*pause <= Duration::from_secs(86_400), "a pause of {pause:?}");
    }
}

fn printable(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.chars().count() <= 2_000, "{} characters", text.chars().count());
}

const TRANSACTION: u32 = 0x0102_0304;

/// The first byte says to which request the rest is the answer.
pub fn datagrams() -> Vec<Vec<u8>> {
    let of = |kind: u8, action: u32, body: &[u8]| {
        [&[kind][..], &action.to_be_bytes(), &TRANSACTION.to_be_bytes(), body].concat()
    };
    let counts = b"\0\0\x07\x08\0\0\0\x03\0\0\0\x05";
    let v4 = b"\x7f\0\0\x01\x1a\xe1\x01\x02\x03\x04\x1a\xe1";
    let v6 = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1";
    vec![
        of(0, 0, b"\x01\x02\x03\x04\x05\x06\x07\x08"),
        of(1, 1, &[&counts[..], v4].concat()),
        of(4, 1, &[&counts[..], v6].concat()),
        of(2, 2, b"\0\0\0\x01\0\0\0\x02\0\0\0\x03"),
        of(1, 3, b"go away"),
    ]
}

/// Only what repeats our action and number is an answer.
pub fn udp(input: &[u8]) -> bool {
    let Some((kind, datagram)) = input.split_first() else { return false };
    let action = [Action::Connect, Action::Announce, Action::Scrape][usize::from(kind % 3)];
    let from = if kind % 6 < 3 { "192.0.2.1:80" } else { "[2001:db8::1]:80" };
    let from: SocketAddr = from.parse().expect("an address");
    let Some(reply) = packet::decode(datagram, action, TRANSACTION, from) else {
        return false;
    };
    assert_eq!(datagram[4..8], TRANSACTION.to_be_bytes());
    let repeated = u32::from_be_bytes(datagram[..4].try_into().expect("four bytes"));
    match &reply {
        Reply::Error(text) => {
            assert_eq!(repeated, 3);
            printable(text);
        }
        Reply::Announced(answer) => {
            assert_eq!(repeated, action as u32);
            sensible(answer);
            assert!(answer.peers.iter().all(|peer| from.is_ipv6() || peer.is_ipv4()));
        }
        Reply::Connected(_) | Reply::Scraped(_) => assert_eq!(repeated, action as u32),
    }
    printable(&packet::unexpected(&reply).to_string());
    true
}

pub fn urls() -> Vec<Vec<u8>> {
    [
        "http://user:word@t.example:6969/announce?passkey=1&x=y#z",
        "https://127.0.0.1/announce",
        " UDP://t.example:80/dir?a=b",
        "udp://[2001:db8::1]:6969/announce",
        "http://[::ffff:127.0.0.1]:1/announce.php",
        "wss://t.example/",
    ]
    .map(|url| url.as_bytes().to_vec())
    .to_vec()
}

/// What is taken has a host and a port; what is shown has no control characters.
pub fn url(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    printable(&place(&text));
    match Target::parse(&text) {
        Ok(Target::Udp(place)) => {
            assert!(place.port != 0 && !place.host.is_empty(), "{place:?}");
            let rest = &place.path_and_query;
            assert!(rest.is_empty() || rest.starts_with(['/', '?']), "{place:?}");
            let sent = format!("{}{rest}", place.host);
            assert!(sent.bytes().all(|byte| byte.is_ascii_graphic()), "{place:?}");
        }
        Ok(Target::Http(uri)) => {
            assert!(matches!(uri.scheme_str(), Some("http" | "https")), "{uri}");
            assert!(uri.host().is_some_and(|host| !host.is_empty()), "{uri}");
        }
        Err(error) => {
            printable(&error.to_string());
            return false;
        }
    }
    true
}
