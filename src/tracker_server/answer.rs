//! What a tracker answers over HTTP, in bencode (BEP 3, 7, 23, 24, 48); and compact addresses, which
//! UDP has too.
//!
//! ```text
//! announce  d 8:complete i5e  11:external ip 4:…  10:incomplete i3e  8:interval i120e
//!             12:min interval i30e  5:peers n × | IPv4 | port: u16 |  6:peers6 n × | IPv6 | port |  e
//! refusal   d 14:failure reason …  e
//! scrape    d 5:files d 20:(info hash) d 8:complete … 10:downloaded … 10:incomplete … e e e
//! ```
//!
//! Layer: hands, but pure: values in, bytes out.

use std::net::{IpAddr, SocketAddr};

use crate::bencode::Dictionary;
use crate::hash::Sha1;
use crate::registry::{Answer, Counts, Told};

pub fn announce(answer: &Answer, source: IpAddr, compact: bool, peer_ids: bool) -> Vec<u8> {
    let dictionary = Dictionary::new()
        .int("complete", answer.counts.seeds.into())
        .int("incomplete", answer.counts.leechers.into())
        .int("downloaded", answer.counts.completed.into())
        .int("interval", answer.interval.into())
        .int("min interval", answer.min_interval.into())
        .bytes("external ip", octets(source));
    if !compact {
        let peers = answer.peers.iter().map(|peer| listed(peer, peer_ids));
        return dictionary.list("peers", peers).done();
    }
    let of = |v6| answer.peers.iter().map(|peer| peer.address).filter(move |a| a.is_ipv6() == v6);
    // `peers` is there even when it is empty: clients look for it.
    let dictionary = dictionary.bytes("peers", of(false).flat_map(packed).collect::<Vec<u8>>());
    let v6: Vec<u8> = of(true).flat_map(packed).collect();
    if v6.is_empty() { dictionary } else { dictionary.bytes("peers6", v6) }.done()
}

pub fn refusal(reason: &str) -> Vec<u8> {
    Dictionary::new().bytes("failure reason", reason).done()
}

/// Torrents that nobody is known to be in are left out, as opentracker does.
pub fn scrape(counts: &[(Sha1, Option<Counts>)]) -> Vec<u8> {
    let known = counts.iter().filter_map(|(hash, counts)| Some((hash, (*counts)?)));
    let files = known.fold(Dictionary::new(), |files, (hash, counts)| {
        let file = Dictionary::new()
            .int("complete", counts.seeds.into())
            .int("downloaded", counts.completed.into())
            .int("incomplete", counts.leechers.into());
        files.dict(hash.0, file)
    });
    Dictionary::new().dict("files", files).done()
}

/// An address as 6 or 18 bytes.
pub fn packed(address: SocketAddr) -> Vec<u8> {
    let mut bytes = octets(address.ip());
    bytes.extend_from_slice(&address.port().to_be_bytes());
    bytes
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn listed(peer: &Told, peer_ids: bool) -> Vec<u8> {
    let entry = Dictionary::new()
        .bytes("ip", peer.address.ip().to_string())
        .int("port", peer.address.port().into());
    if peer_ids { entry.bytes("peer id", peer.peer_id) } else { entry }.done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations() {
        let told = |address: &str| Told { address: address.parse().unwrap(), peer_id: [b'x'; 20] };
        let peers = vec![told("1.2.3.4:258"), told("[::1]:5")];
        let counts = Counts { seeds: 1, leechers: 2, completed: 3 };
        let answer = Answer { interval: 120, min_interval: 30, counts, peers };
        let source = "1.2.3.5".parse().unwrap();
        let head = "d8:completei1e10:downloadedi3e11:external ip4:\x01\x02\x03\x05\
            10:incompletei2e8:intervali120e12:min intervali30e5:peers";
        let check = |compact, peer_ids, tail: &[u8]| {
            let found = announce(&answer, source, compact, peer_ids);
            assert_eq!(
                found.escape_ascii().to_string(),
                [head.as_bytes(), tail].concat().escape_ascii().to_string()
            );
        };
        check(
            true,
            true,
            b"6:\x01\x02\x03\x04\x01\x026:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x05e",
        );
        check(false, false, b"ld2:ip7:1.2.3.44:porti258eed2:ip3:::14:porti5eeee");
        check(
            false,
            true,
            b"ld2:ip7:1.2.3.47:peer id20:xxxxxxxxxxxxxxxxxxxx4:porti258ee\
              d2:ip3:::17:peer id20:xxxxxxxxxxxxxxxxxxxx4:porti5eeee",
        );
    }

    #[test]
    fn scrapes_leave_out_what_is_unknown() {
        let counts = Counts { seeds: 1, leechers: 2, completed: 3 };
        let found = scrape(&[(Sha1([b'a'; 20]), Some(counts)), (Sha1([b'b'; 20]), None)]);
        assert_eq!(
            found,
            b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei1e10:downloadedi3e10:incompletei2eeee"
        );
        assert_eq!(refusal("no"), b"d14:failure reason2:noe");
    }
}
