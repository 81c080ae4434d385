//! The bytes of the UDP tracker protocol (BEP 15) and its URL option (BEP 41), all big-endian.
//!
//! ```text
//! connect   | magic: u64 | 0: u32 | transaction: u32 |                               16 bytes
//! announce  | connection: u64 | 1: u32 | transaction: u32 | info hash: 20 | peer id: 20 |
//!           | downloaded: u64 | left: u64 | uploaded: u64 | event: u32 | IP: u32 = 0 |
//!           | key: u32 | numwant: i32 | port: u16 | options |                         98 bytes + n
//! scrape    | connection: u64 | 2: u32 | transaction: u32 | info hash: 20 |           36 bytes
//!
//! connected | 0: u32 | transaction: u32 | connection: u64 |
//! announced | 1: u32 | transaction: u32 | interval: i32 | leechers | seeders | peers: n × 6 or 18 |
//! scraped   | 2: u32 | transaction: u32 | seeders: u32 | completed: u32 | leechers: u32 |
//! error     | 3: u32 | transaction: u32 | text |
//! ```
//!
//! Answers may be longer than this, never shorter.
//!
//! Layer: hands, but pure: no sockets here.

use std::net::SocketAddr;

use super::answer::{self, Family};
use super::{Announce, Answer, Error, Scrape};
use crate::hash::Sha1;
use crate::udp_tracker::{ANNOUNCE, CONNECT, ERROR, MAGIC, SCRAPE};

/// The most that one option of BEP 41 holds: its length is one byte. Longer paths take several.
const OPTION_LEN_MAX: usize = 255;

/// The most of a URL's path and query that we send: the request has to fit one packet everywhere
/// (1280 bytes, the least that IPv6 guarantees, minus headers and the 98 bytes of the announce).
const URL_DATA_MAX: usize = 1024;

/// What a request is about; what its answer must repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Action {
    Connect = CONNECT,
    Announce = ANNOUNCE,
    Scrape = SCRAPE,
}

/// An answer to the request it was decoded for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Connected(u64),
    Announced(Answer),
    Scraped(Scrape),
    /// The text, printable and clipped.
    Error(String),
}

pub fn connect(transaction: u32) -> Vec<u8> {
    header(MAGIC, Action::Connect, transaction)
}

/// `url_data` is the path and query of the announce URL; an empty one adds no option.
pub fn announce(
    connection: u64,
    transaction: u32,
    announce: &Announce,
    url_data: &[u8],
) -> Vec<u8> {
    let mut packet = header(connection, Action::Announce, transaction);
    packet.extend_from_slice(&announce.info_hash.0);
    packet.extend_from_slice(&announce.peer_id);
    packet.extend_from_slice(&announce.downloaded.to_be_bytes());
    packet.extend_from_slice(&announce.left.to_be_bytes());
    packet.extend_from_slice(&announce.uploaded.to_be_bytes());
    packet.extend_from_slice(&(announce.event as u32).to_be_bytes());
    // The sender's address of the packet is what counts; trackers ignore any other claim.
    packet.extend_from_slice(&0u32.to_be_bytes());
    packet.extend_from_slice(&announce.key.to_be_bytes());
    packet.extend_from_slice(&announce.numwant.to_be_bytes());
    packet.extend_from_slice(&announce.port.to_be_bytes());
    // A path cut in two is another path: one that does not fit is left out altogether.
    if url_data.len() <= URL_DATA_MAX {
        for part in url_data.chunks(OPTION_LEN_MAX) {
            packet.push(0x2);
            packet.push(part.len() as u8);
            packet.extend_from_slice(part);
        }
    }
    packet
}

pub fn scrape(connection: u64, transaction: u32, info_hash: Sha1) -> Vec<u8> {
    let mut packet = header(connection, Action::Scrape, transaction);
    packet.extend_from_slice(&info_hash.0);
    packet
}

fn header(connection: u64, action: Action, transaction: u32) -> Vec<u8> {
    let mut packet = connection.to_be_bytes().to_vec();
    packet.extend_from_slice(&(action as u32).to_be_bytes());
    packet.extend_from_slice(&transaction.to_be_bytes());
    packet
}

/// What a datagram says to our request. `None` for everything that is not the answer to it: too
/// short, another action, another transaction. That is noise or a forgery; the real one may follow.
pub fn decode(
    datagram: &[u8],
    action: Action,
    transaction: u32,
    from: SocketAddr,
) -> Option<Reply> {
    let (head, body) = datagram.split_first_chunk::<8>()?;
    let word = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).and_then(|word| Some(u32::from_be_bytes(word.try_into().ok()?)))
    };
    if word(head, 4)? != transaction {
        return None;
    }
    if word(head, 0)? == ERROR {
        return Some(Reply::Error(answer::text(body)));
    }
    if word(head, 0)? != action as u32 {
        return None;
    }
    Some(match action {
        Action::Connect => Reply::Connected(u64::from_be_bytes(*body.first_chunk::<8>()?)),
        Action::Announce => {
            let (counts, peers) = body.split_first_chunk::<12>()?;
            let family = if from.is_ipv6() { Family::V6 } else { Family::V4 };
            Reply::Announced(Answer {
                // Signed, so that a negative interval is seen as one and not as 136 years.
                interval: answer::interval(Some(i64::from(word(counts, 0)? as i32))),
                min_interval: None,
                peers: answer::peers(answer::compact(peers, family)),
                seeders: word(counts, 8),
                leechers: word(counts, 4),
                warning: None,
                tracker_id: None,
                external_ip: None,
            })
        }
        Action::Scrape => Reply::Scraped(Scrape {
            seeders: word(body, 0)?,
            completed: word(body, 4)?,
            leechers: word(body, 8)?,
        }),
    })
}

/// The error that an answer to the wrong question would be; [`decode`] lets none through.
pub fn unexpected(reply: &Reply) -> Error {
    match reply {
        Reply::Error(reason) => Error::Refused { reason: reason.clone(), retry_in: None },
        _ => Error::Failed("the answer belongs to another question".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::Event;

    const V4: &str = "192.0.2.1:80";
    const V6: &str = "[2001:db8::1]:80";

    #[test]
    fn requests_byte_by_byte() {
        assert_eq!(connect(0x01020304), b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0\x01\x02\x03\x04");
        let told = Announce {
            info_hash: Sha1([b'h'; 20]),
            peer_id: [b'p'; 20],
            port: 0x1ae1,
            uploaded: 3,
            downloaded: 1,
            left: 2,
            event: Event::Started,
            numwant: u32::MAX,
            key: 0x0a0b0c0d,
            tracker_id: None,
        };
        let expected = [
            b"\0\0\0\0\0\0\0\x09\0\0\0\x01\0\0\0\x08".as_slice(),
            &[b'h'; 20],
            &[b'p'; 20],
            b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03",
            b"\0\0\0\x02\0\0\0\0\x0a\x0b\x0c\x0d\xff\xff\xff\xff\x1a\xe1",
        ]
        .concat();
        assert_eq!(expected.len(), 98);
        assert_eq!(announce(9, 8, &told, b""), expected);
        // The example of BEP 41.
        let options = announce(9, 8, &told, b"/dir?a=b&c=d").split_off(98);
        assert_eq!(options, b"\x02\x0c/dir?a=b&c=d");
        let options = announce(9, 8, &told, &[b'x'; 300]).split_off(98);
        assert_eq!((options.len(), options[1], &options[257..259]), (304, 255, &b"\x02\x2d"[..]));
        assert_eq!(announce(9, 8, &told, &[b'x'; 1025]).len(), 98);
        let expected = [b"\0\0\0\0\0\0\0\x09\0\0\0\x02\0\0\0\x08".as_slice(), &[b'h'; 20]];
        assert_eq!(scrape(9, 8, told.info_hash), expected.concat());
    }

    #[track_caller]
    fn check(datagram: &[u8], action: Action, from: &str, expected: Option<Reply>) {
        assert_eq!(decode(datagram, action, 8, from.parse().unwrap()), expected);
    }

    #[test]
    fn answers_and_what_only_looks_like_one() {
        let connected = b"\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x09";
        check(connected, Action::Connect, V4, Some(Reply::Connected(9)));
        check(
            &[connected.as_slice(), b"more"].concat(),
            Action::Connect,
            V4,
            Some(Reply::Connected(9)),
        );
        check(connected, Action::Announce, V4, None);
        check(b"\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x09", Action::Connect, V4, None);
        (0..16).for_each(|len| check(&connected[..len], Action::Connect, V4, None));

        let scraped = b"\0\0\0\x02\0\0\0\x08\0\0\0\x01\0\0\0\x02\0\0\0\x03";
        let counts = Scrape { seeders: 1, completed: 2, leechers: 3 };
        check(scraped, Action::Scrape, V4, Some(Reply::Scraped(counts)));
        (0..20).for_each(|len| check(&scraped[..len], Action::Scrape, V4, None));

        let error = b"\0\0\0\x03\0\0\0\x08no\x1b";
        check(error, Action::Announce, V4, Some(Reply::Error("no\\u{1b}".to_owned())));
        check(&error[..8], Action::Announce, V4, Some(Reply::Error(String::new())));
        check(&error[..7], Action::Announce, V4, None);
    }

    #[test]
    fn the_family_of_the_packet_is_that_of_its_peers() {
        let announced = |interval: &[u8; 4], peers: &[u8]| {
            let counts = b"\0\0\0\x03\0\0\0\x01";
            [b"\0\0\0\x01\0\0\0\x08", interval.as_slice(), counts, peers].concat()
        };
        let answer = |datagram: &[u8], from: &str| match decode(
            datagram,
            Action::Announce,
            8,
            from.parse().unwrap(),
        ) {
            Some(Reply::Announced(answer)) => answer,
            other => panic!("{other:?}"),
        };
        let from_v4 = answer(&announced(b"\0\0\x07\x08", b"\x01\x02\x03\x04\0\x05\x01\x02"), V4);
        assert_eq!(from_v4.peers, ["1.2.3.4:5".parse().unwrap()]);
        assert_eq!((from_v4.seeders, from_v4.leechers), (Some(1), Some(3)));
        let v6 = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1";
        let from_v6 = answer(&announced(b"\xff\xff\xff\xff", v6), V6);
        assert_eq!(from_v6.peers, ["[2001:db8::1]:6881".parse().unwrap()]);
        assert_eq!((from_v4.interval.as_secs(), from_v6.interval.as_secs()), (1800, 1800));
        (0..20).for_each(|len| check(&announced(&[0; 4], b"")[..len], Action::Announce, V4, None));
    }
}
