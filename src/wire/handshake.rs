//! The handshake (BEP 3), with the bits that announce extensions (BEP 4, 5, 6, 10).
//!
//! ```text
//! |19| "BitTorrent protocol" | reserved: 8 bytes | info hash: 20 | peer id: 20 |   68 bytes
//!                              reserved[5] & 0x10  extension protocol (BEP 10)
//!                              reserved[7] & 0x04  Fast extension (BEP 6)
//!                              reserved[7] & 0x01  DHT (BEP 5)
//! ```
//!
//! Layer: values.

use std::fmt;

use super::{Violation, violation};
use crate::hash::Sha1;
use crate::printable::printable_bytes;

/// Every handshake is as long as this.
pub const HANDSHAKE_LEN: usize = 68;

const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// What a peer says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    pub reserved: Reserved,
    pub info_hash: Sha1,
    pub peer_id: PeerId,
}

impl Handshake {
    pub fn to_bytes(&self) -> [u8; HANDSHAKE_LEN] {
        let mut bytes = [0; HANDSHAKE_LEN];
        bytes[..20].copy_from_slice(PROTOCOL);
        bytes[20..28].copy_from_slice(&self.reserved.0);
        bytes[28..48].copy_from_slice(&self.info_hash.0);
        bytes[48..].copy_from_slice(&self.peer_id.0);
        bytes
    }

    pub fn from_bytes(bytes: &[u8; HANDSHAKE_LEN]) -> Result<Handshake, Violation> {
        check_protocol(bytes)?;
        let part = |at: usize| bytes[at..at + 20].try_into().expect("20 bytes");
        Ok(Handshake {
            reserved: Reserved(bytes[20..28].try_into().expect("8 bytes")),
            info_hash: Sha1(part(28)),
            peer_id: PeerId(part(48)),
        })
    }
}

/// Whether the bytes that have come so far can become a handshake. Asked after each read, so that a
/// web server or an encrypted connection (MSE) is recognised by its first bytes, not by a time-out.
pub fn check_protocol(start: &[u8]) -> Result<(), Violation> {
    let n = start.len().min(PROTOCOL.len());
    if start[..n] != PROTOCOL[..n] {
        return violation(format!(
            "handshake begins with \"{}\", expected \\x13BitTorrent protocol (BEP 3)",
            printable_bytes(&start[..n])
        ));
    }
    Ok(())
}

/// The eight bytes in which a peer says which extensions it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// Sets the bit of the Fast extension (BEP 6).
    pub fn with_fast(mut self) -> Reserved {
        self.0[7] |= 0x04;
        self
    }

    /// Sets the bit of the DHT (BEP 5), if we are a node of it.
    pub fn with_dht(mut self, dht: bool) -> Reserved {
        self.0[7] |= u8::from(dht);
        self
    }

    /// Sets the bit of the extension protocol (BEP 10).
    pub fn with_extended(mut self) -> Reserved {
        self.0[5] |= 0x10;
        self
    }

    /// The Fast extension (BEP 6): have all, have none, reject, suggest, allowed fast.
    pub fn fast(self) -> bool {
        self.0[7] & 0x04 != 0
    }

    /// The extension protocol (BEP 10).
    pub fn extended(self) -> bool {
        self.0[5] & 0x10 != 0
    }

    /// The DHT (BEP 5): the peer takes a `port` message.
    pub fn dht(self) -> bool {
        self.0[7] & 0x01 != 0
    }
}

/// The 20 bytes by which a client calls itself, new for each run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub [u8; 20]);

impl PeerId {
    /// An id of our own: `-PM0100-` (BEP 20) and twelve random letters and digits.
    pub fn random(rng: &mut fastrand::Rng) -> PeerId {
        let mut id = *b"-PM0100-............";
        id[8..].fill_with(|| rng.alphanumeric() as u8);
        PeerId(id)
    }

    /// The client's name and version, as far as the id tells (BEP 20): `-TR4060-` is "Transmission
    /// 4.0.6.0". Clients that name themselves otherwise are shown by their first bytes.
    pub fn client(&self) -> String {
        let id = &self.0;
        if id[0] != b'-' || id[7] != b'-' || !id[1..7].iter().all(u8::is_ascii_alphanumeric) {
            return match id[0] {
                b'M' if id[1].is_ascii_digit() => {
                    format!("Mainline {}", printable_bytes(&id[1..7]))
                }
                _ => printable_bytes(&id[..8]),
            };
        }
        let name = match &id[1..3] {
            b"PM" => "piecemeal",
            b"A2" => "aria2",
            b"TR" => "Transmission",
            b"LT" => "libtorrent (Rasterbar)",
            b"lt" => "libTorrent (rTorrent)",
            b"qB" => "qBittorrent",
            b"DE" => "Deluge",
            b"UT" => "µTorrent",
            b"WW" | b"WD" => "WebTorrent",
            b"rQ" => "rqbit",
            b"AZ" => "Vuze",
            b"BT" => "BitTorrent",
            b"GT" => "anacrolix/torrent",
            b"RN" => "rain",
            other => return format!("{} {}", printable_bytes(other), version(&id[3..7])),
        };
        format!("{name} {}", version(&id[3..7]))
    }
}

/// Four digits with dots between; letters stand for 10 and more.
fn version(digits: &[u8]) -> String {
    let number = |d: &u8| char::from(*d).to_digit(36).map_or("?".to_owned(), |n| n.to_string());
    digits.iter().map(number).collect::<Vec<_>>().join(".")
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "PeerId({})", printable_bytes(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let ours = Handshake {
            reserved: Reserved::default().with_fast(),
            info_hash: Sha1([7; 20]),
            peer_id: PeerId::random(&mut fastrand::Rng::with_seed(1)),
        };
        let bytes = ours.to_bytes();
        assert_eq!(&bytes[..21], b"\x13BitTorrent protocol\0");
        assert_eq!(Handshake::from_bytes(&bytes), Ok(ours.clone()));
        assert!(ours.reserved.fast() && !ours.reserved.extended() && !ours.reserved.dht());
        assert!(ours.reserved.with_extended().extended());
    }

    #[test]
    fn another_protocol_is_recognised_by_its_first_bytes() {
        assert!(check_protocol(b"").is_ok() && check_protocol(b"\x13Bit").is_ok());
        let said = check_protocol(b"HTTP/1.1 400 \x1b[31m").unwrap_err().to_string();
        assert!(said.contains("HTTP/1.1 400 \\u{1b}[31m"), "{said}");
    }

    #[test]
    fn clients_by_their_ids() {
        let name = |id: &[u8; 20]| PeerId(*id).client();
        assert_eq!(name(b"-TR4060-abcdefghijkl"), "Transmission 4.0.6.0");
        assert_eq!(name(b"-LT20B1-abcdefghijkl"), "libtorrent (Rasterbar) 2.0.11.1");
        assert_eq!(name(b"M7-9-2--abcdefghijkl"), "Mainline 7-9-2-");
        assert_eq!(name(b"\0\0\0\0\0\0\0\0abcdefghijkl").len(), 8 * "\\u{0}".len());
    }
}
