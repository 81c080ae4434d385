//! Peers that tell of other peers (BEP 11, `ut_pex`).
//!
//! ```text
//! | length | 20 | id | d 5:added …  7:added.f …  6:added6 …  8:added6.f …  7:dropped …  8:dropped6 … e |
//!
//! added, dropped      | 4 bytes IPv4 | u16 port | … big-endian, who has come and gone since the last
//! added6, dropped6    | 16 bytes IPv6 | u16 port | …
//! added.f, added6.f   one byte of flags for each of the added
//!   0x01 prefers encryption   0x02 fetches nothing   0x04 uTP   0x08 holepunch   0x10 was dialled
//! ```
//!
//! Layer: values.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Violation, violation};
use crate::bencode::{self, Dict, Dictionary};

/// It fetches nothing: a seed, or one that has all it wants (BEP 21).
pub const UPLOAD_ONLY: u8 = 0x02;

/// Whoever tells of it has dialled it, so it can be reached.
pub const REACHABLE: u8 = 0x10;

/// What a trace says of the flags.
const FLAGS: [(u8, &str); 5] = [
    (0x01, " encrypts"),
    (UPLOAD_ONLY, " fetches nothing"),
    (0x04, " uTP"),
    (0x08, " holepunch"),
    (REACHABLE, " reachable"),
];

/// So many addresses of a message are in a trace.
const SHOWN: usize = 4;

/// Addresses of each kind that are read of one message. BEP 11 allows 50 in any but the first.
pub const ADDED_MAX: usize = 200;

/// One message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pex {
    /// Each with its flags.
    pub added: Vec<(SocketAddr, u8)>,
    pub dropped: Vec<SocketAddr>,
}

impl Pex {
    /// Reads a payload. Lists that are too long are cut; an address that is cut short, or has
    /// port 0, is left out. What is no dictionary breaks the protocol.
    pub fn parse(payload: &[u8]) -> Result<Pex, Violation> {
        let document = match bencode::decode_prefix(payload) {
            Ok((document, _)) => document,
            Err(err) => return violation(format!("ut_pex: {err} (BEP 11)")),
        };
        let Some(root) = document.root().dict() else {
            return violation("ut_pex that is no dictionary (BEP 11)".to_owned());
        };
        let added = flagged(root, "added", "added.f", v4);
        let added6 = flagged(root, "added6", "added6.f", v6);
        let dropped = flagged(root, "dropped", "", v4).chain(flagged(root, "dropped6", "", v6));
        Ok(Pex {
            added: added.chain(added6).take(ADDED_MAX).collect(),
            dropped: dropped.map(|(addr, _)| addr).take(ADDED_MAX).collect(),
        })
    }

    /// What it says and means, for a trace.
    pub fn explained(&self) -> String {
        let (added, dropped) = (self.added.len(), self.dropped.len());
        let mut text = format!("ut_pex, {added} added");
        for (n, (addr, flags)) in self.added.iter().take(SHOWN).enumerate() {
            text += if n == 0 { " (" } else { ", " };
            text += &addr.to_string();
            for (flag, word) in FLAGS {
                text += if flags & flag != 0 { word } else { "" };
            }
        }
        text += match added {
            0 => "",
            1..=SHOWN => ")",
            _ => ", …)",
        };
        text + &format!(", {dropped} dropped: peers of mine that came and left (BEP 11)")
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let (mut v4, mut v6) = <(Lists, Lists)>::default();
        for &(addr, flags) in &self.added {
            let lists = if addr.is_ipv4() { &mut v4 } else { &mut v6 };
            push(&mut lists.added, addr);
            lists.flags.push(flags);
        }
        for &addr in &self.dropped {
            push(if addr.is_ipv4() { &mut v4.dropped } else { &mut v6.dropped }, addr);
        }
        let mut message = Dictionary::new()
            .bytes("added", v4.added)
            .bytes("added.f", v4.flags)
            .bytes("dropped", v4.dropped);
        if !v6.added.is_empty() {
            message = message.bytes("added6", v6.added).bytes("added6.f", v6.flags);
        }
        if !v6.dropped.is_empty() {
            message = message.bytes("dropped6", v6.dropped);
        }
        message.done()
    }
}

/// What is written of one family.
#[derive(Default)]
struct Lists {
    added: Vec<u8>,
    flags: Vec<u8>,
    dropped: Vec<u8>,
}

fn push(list: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip() {
        IpAddr::V4(ip) => list.extend(ip.octets()),
        IpAddr::V6(ip) => list.extend(ip.octets()),
    }
    list.extend(addr.port().to_be_bytes());
}

/// Reads an address; what is left behind it.
type ReadIp = fn(&[u8]) -> Option<(IpAddr, &[u8])>;

/// The addresses under a key, with the flags under another, or none.
fn flagged<'a>(
    root: Dict<'a>,
    key: &str,
    flags: &str,
    read: ReadIp,
) -> impl Iterator<Item = (SocketAddr, u8)> + 'a {
    let mut rest = root.bytes(key).unwrap_or_default();
    let mut flags = root.bytes(flags).unwrap_or_default().iter();
    let entries = std::iter::from_fn(move || {
        let (ip, after) = read(rest)?;
        let (port, after) = after.split_first_chunk()?;
        rest = after;
        let flags = flags.next().copied().unwrap_or(0);
        Some((SocketAddr::new(ip, u16::from_be_bytes(*port)), flags))
    });
    entries.filter(|(addr, _)| addr.port() != 0)
}

fn v4(bytes: &[u8]) -> Option<(IpAddr, &[u8])> {
    let (ip, rest) = bytes.split_first_chunk::<4>()?;
    Some((Ipv4Addr::from(*ip).into(), rest))
}

fn v6(bytes: &[u8]) -> Option<(IpAddr, &[u8])> {
    let (ip, rest) = bytes.split_first_chunk::<16>()?;
    Some((Ipv6Addr::from(*ip).into(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let message = Pex {
            added: vec![(addr("10.0.0.7:6881"), REACHABLE), (addr("[2001:db8::7]:1"), UPLOAD_ONLY)],
            dropped: vec![addr("10.0.0.8:6881"), addr("[2001:db8::8]:6881")],
        };
        assert_eq!(Pex::parse(&message.to_bytes()), Ok(message));
        let one = Pex { added: vec![(addr("1.2.3.4:258"), 0)], dropped: Vec::new() };
        assert_eq!(
            one.to_bytes(),
            b"d5:added6:\x01\x02\x03\x04\x01\x027:added.f1:\x007:dropped0:e"
        );
    }

    #[test]
    fn odd_lists_are_read_as_far_as_they_make_sense() {
        let nothing = Pex::default();
        for odd in
            ["de", "d5:addedlee", "d5:added5:abcdee", "d5:added6:abcd\0\0e", "d6:added66:abcdefe"]
        {
            assert_eq!(Pex::parse(odd.as_bytes()), Ok(nothing.clone()), "{odd:?}");
        }
        // Flags that are missing are none; a last address that is cut short is left out.
        let cut = Pex::parse(
            b"d5:added14:\x01\x02\x03\x04\0\x01\x01\x02\x03\x05\0\x02\x01\x027:added.f1:\x10e",
        );
        let both = vec![(addr("1.2.3.4:1"), REACHABLE), (addr("1.2.3.5:2"), 0)];
        assert_eq!(cut.unwrap().added, both);
        let many = bencode::bytes(&[1; 6 * 10_000]);
        let many = Pex::parse(&Dictionary::new().raw("added", many).done()).unwrap();
        assert_eq!(many.added.len(), ADDED_MAX);
        for bad in [&b""[..], b"le", b"i1e", b"5:added", b"d5:added"] {
            assert!(Pex::parse(bad).is_err());
        }
    }
}
