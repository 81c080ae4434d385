//! Node ids: their distance (BEP 5), and how they are tied to addresses (BEP 42).
//!
//! ```text
//! distance   a XOR b, as a number: the more leading bits are equal, the nearer
//!
//! id         | 21 bits of CRC32C(address, r) | random ……………………………………… | r |    20 bytes
//! address    IPv4 & 03 0f 3f ff, IPv6 (first 8 bytes) & 01 03 07 0f 1f 3f 7f ff; r in the top 3 bits
//! ```
//!
//! So nobody can choose where in the DHT to stand: an address gives eight places, and a whole /24
//! of them hardly more.
//!
//! Layer: values.

use std::fmt;
use std::net::IpAddr;

use crate::hash::Sha1;

/// The 20 bytes by which a node is known, or a place in the DHT that is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 20]);

/// How far two ids are from each other; comparable.
pub type Distance = [u8; 20];

impl NodeId {
    pub fn random(rng: &mut fastrand::Rng) -> NodeId {
        let mut id = [0; 20];
        rng.fill(&mut id);
        NodeId(id)
    }

    /// A random id that fits an address (BEP 42).
    pub fn for_ip(ip: IpAddr, rng: &mut fastrand::Rng) -> NodeId {
        let mut id = NodeId::random(rng).0;
        let sum = checksum(ip, id[19]).to_be_bytes();
        id[0] = sum[0];
        id[1] = sum[1];
        id[2] = sum[2] & 0xf8 | id[2] & 0x07;
        NodeId(id)
    }

    /// Whether the id is one of those that belong to an address.
    pub fn fits(self, ip: IpAddr) -> bool {
        let sum = checksum(ip, self.0[19]).to_be_bytes();
        self.0[..2] == sum[..2] && self.0[2] & 0xf8 == sum[2] & 0xf8
    }

    pub fn distance(self, other: NodeId) -> Distance {
        std::array::from_fn(|i| self.0[i] ^ other.0[i])
    }

    /// How many leading bits two ids have in common: 0 to 160.
    pub fn common_bits(self, other: NodeId) -> u32 {
        let distance = self.distance(other);
        let zeros = distance.iter().take_while(|&&byte| byte == 0).count();
        zeros as u32 * 8 + distance.get(zeros).map_or(0, |byte| byte.leading_zeros())
    }

    /// A random id that has exactly so many leading bits in common with this one.
    pub fn random_sharing(self, bits: u32, rng: &mut fastrand::Rng) -> NodeId {
        let mut id = NodeId::random(rng).0;
        for bit in 0..=bits.min(159) as usize {
            let (byte, mask) = (bit / 8, 0x80 >> (bit % 8));
            // Equal up to the last of them, which differs.
            let wanted = (self.0[byte] & mask) ^ if bit as u32 == bits { mask } else { 0 };
            id[byte] = id[byte] & !mask | wanted;
        }
        NodeId(id)
    }
}

/// The part of an id that an address determines, in the upper 21 bits.
fn checksum(ip: IpAddr, r: u8) -> u32 {
    let mut bytes = [0; 8];
    let masked = |octets: &[u8], mask: u64, out: &mut [u8; 8]| {
        let mask = mask.to_be_bytes();
        let used = &mask[8 - octets.len()..];
        out.iter_mut().zip(octets).zip(used).for_each(|((out, octet), mask)| *out = octet & mask);
    };
    let len = match ip.to_canonical() {
        IpAddr::V4(ip) => {
            masked(&ip.octets(), 0x030f_3fff, &mut bytes);
            4
        }
        IpAddr::V6(ip) => {
            masked(&ip.octets()[..8], 0x0103_070f_1f3f_7fff, &mut bytes);
            8
        }
    };
    bytes[0] |= (r & 7) << 5;
    crc32c(&bytes[..len])
}

/// CRC-32C (Castagnoli), bit by bit: it is computed for eight bytes now and then.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

/// A torrent's place in the DHT is its info hash.
impl From<Sha1> for NodeId {
    fn from(hash: Sha1) -> NodeId {
        NodeId(hash.0)
    }
}

/// Forty hexadecimal digits.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        Sha1(self.0).fmt(f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of BEP 42, `r` being the last byte.
    #[test]
    fn ids_belong_to_addresses() {
        for (ip, id) in [
            ("124.31.75.21", "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
            ("21.75.31.124", "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
            ("65.23.51.170", "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
            ("84.124.73.14", "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
            ("43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
        ] {
            let id = NodeId(Sha1::from_hex(id).unwrap().0);
            assert!(id.fits(ip.parse().unwrap()), "{ip}");
            assert!(!id.fits("8.8.8.8".parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn an_id_made_for_an_address_fits_it() {
        let mut rng = fastrand::Rng::with_seed(1);
        for ip in ["198.51.100.7", "2001:db8:1:2::3", "::ffff:198.51.100.7"] {
            let ip: IpAddr = ip.parse().unwrap();
            for _ in 0..100 {
                assert!(NodeId::for_ip(ip, &mut rng).fits(ip), "{ip}");
            }
        }
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let id = NodeId::for_ip(ip("2001:db8:1:2::3"), &mut rng);
        assert!(id.fits(ip("2001:db8:1:2::4")), "the network counts, not the host");
    }

    #[test]
    fn distance_and_common_bits() {
        let mut rng = fastrand::Rng::with_seed(2);
        let own = NodeId::random(&mut rng);
        for bits in [0, 1, 7, 8, 21, 159] {
            let other = own.random_sharing(bits, &mut rng);
            assert_eq!(own.common_bits(other), bits);
        }
        assert_eq!((own.common_bits(own), own.distance(own)), (160, [0; 20]));
        let (near, far) = (own.random_sharing(9, &mut rng), own.random_sharing(8, &mut rng));
        assert!(own.distance(near) < own.distance(far));
    }
}
