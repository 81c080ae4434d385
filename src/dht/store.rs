//! The peers that were announced to us, by torrent (BEP 5), and how many they are (BEP 33).
//!
//! ```text
//! filter   2048 bits; for each address two of them are set, which SHA1(address) chooses:
//!          bit (h[0] | h[1] << 8) % 2048, bit (h[2] | h[3] << 8) % 2048
//! ```
//!
//! All of it is bounded: torrents, peers of one, peers of all. Where there is no room, the torrent
//! with the fewest peers gives way, since others know it as well.
//!
//! Layer: decisions.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::hash::{Sha1, sha1};
use crate::krpc::FILTER_LEN;
use crate::reach::{Reach, reach};

/// As in libtorrent. A node is near some hundreds of the torrents of the real DHT.
const TORRENTS_MAX: usize = 2000;
const PEERS_MAX: usize = 500;

/// Peers of all torrents together: about 1 MiB.
const ALL_PEERS_MAX: usize = 20_000;

/// Peers with one address in one torrent: several people may share one, but not hundreds.
const SAME_IP_MAX: usize = 8;

/// Who has not announced again for so long is gone: announces come every 15 to 30 minutes.
const PEER_AGE: Duration = Duration::from_secs(45 * 60);

#[derive(Debug)]
struct Peer {
    addr: SocketAddr,
    seed: bool,
    announced: Instant,
}

#[derive(Debug, Default)]
pub struct Store {
    torrents: HashMap<Sha1, Vec<Peer>>,
    /// Of all torrents.
    peers: usize,
}

impl Store {
    /// A peer has announced itself. False if there is no room for it.
    pub fn announce(&mut self, torrent: Sha1, addr: SocketAddr, seed: bool, now: Instant) -> bool {
        let fresh = Peer { addr, seed, announced: now };
        let known = self.torrents.get_mut(&torrent);
        if let Some(peers) = known {
            if let Some(peer) = peers.iter_mut().find(|peer| peer.addr == addr) {
                *peer = fresh;
                return true;
            }
            let same = peers.iter().filter(|peer| peer.addr.ip() == addr.ip()).count();
            let public = reach(addr.ip()) == Reach::Everywhere;
            if PEERS_MAX <= peers.len() || (public && SAME_IP_MAX <= same) {
                return false;
            }
        } else if TORRENTS_MAX <= self.torrents.len() {
            self.evict();
        }
        if ALL_PEERS_MAX <= self.peers {
            self.evict();
        }
        self.torrents.entry(torrent).or_default().push(fresh);
        self.peers += 1;
        true
    }

    fn evict(&mut self) {
        let smallest = self.torrents.iter().min_by_key(|(hash, peers)| (peers.len(), hash.0));
        if let Some(hash) = smallest.map(|(hash, _)| *hash) {
            self.peers -= self.torrents.remove(&hash).map_or(0, |peers| peers.len());
        }
    }

    /// Forgets those that have not announced for too long.
    pub fn expire(&mut self, now: Instant) {
        self.torrents.retain(|_, peers| {
            peers.retain(|peer| now < peer.announced + PEER_AGE);
            !peers.is_empty()
        });
        self.peers = self.torrents.values().map(Vec::len).sum();
    }

    /// Some peers of a torrent and of one family, at random.
    pub fn some(
        &self,
        torrent: Sha1,
        v6: bool,
        max: usize,
        rng: &mut fastrand::Rng,
    ) -> Vec<SocketAddr> {
        let peers = self.torrents.get(&torrent).into_iter().flatten();
        let family = peers.map(|peer| peer.addr).filter(|addr| addr.is_ipv6() == v6);
        let mut some: Vec<SocketAddr> = family.collect();
        rng.shuffle(&mut some);
        some.truncate(max);
        some
    }

    /// The seeds and the other peers as filters, if there are any (BEP 33).
    pub fn filters(&self, torrent: Sha1) -> Option<Box<[[u8; FILTER_LEN]; 2]>> {
        let mut filters = Box::new([[0; FILTER_LEN]; 2]);
        for peer in self.torrents.get(&torrent)? {
            insert(&mut filters[usize::from(!peer.seed)], peer.addr.ip());
        }
        Some(filters)
    }

    /// Torrents and peers.
    pub fn len(&self) -> (usize, usize) {
        (self.torrents.len(), self.peers)
    }
}

fn insert(filter: &mut [u8; FILTER_LEN], ip: IpAddr) {
    let hash = match ip {
        IpAddr::V4(ip) => sha1(&ip.octets()),
        IpAddr::V6(ip) => sha1(&ip.octets()),
    };
    for pair in hash.0[..4].chunks_exact(2) {
        let bit = usize::from(u16::from_le_bytes([pair[0], pair[1]])) % (FILTER_LEN * 8);
        filter[bit / 8] |= 1 << (bit % 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const HASH: Sha1 = Sha1([1; 20]);

    fn addr(n: u32) -> SocketAddr {
        (Ipv4Addr::from_bits(0x0800_0000 + n), 1).into()
    }

    #[test]
    fn what_is_announced_is_told_until_it_is_old() {
        let (mut store, now) = (Store::default(), Instant::now());
        let mut rng = fastrand::Rng::with_seed(1);
        assert!(store.announce(HASH, addr(1), false, now));
        assert!(store.announce(HASH, addr(1), true, now), "again, as a seed");
        assert!(store.announce(HASH, "[2001:db8::1]:1".parse().unwrap(), false, now));
        assert_eq!(store.some(HASH, false, 9, &mut rng), [addr(1)]);
        assert_eq!((store.some(HASH, true, 9, &mut rng).len(), store.len()), (1, (1, 2)));
        assert!(store.some(Sha1([2; 20]), false, 9, &mut rng).is_empty());
        store.announce(HASH, addr(2), false, now + PEER_AGE / 2);
        store.expire(now + PEER_AGE);
        assert_eq!(store.some(HASH, false, 9, &mut rng), [addr(2)]);
        store.expire(now + 2 * PEER_AGE);
        assert_eq!(store.len(), (0, 0));
    }

    #[test]
    fn nothing_grows_without_bound() {
        let (mut store, now) = (Store::default(), Instant::now());
        let kept = (0..1000).filter(|&n| store.announce(HASH, addr(n), false, now)).count();
        assert_eq!(kept, PEERS_MAX);
        let ports = (1..100)
            .filter(|&port| store.announce(Sha1([2; 20]), ([8, 8, 8, 8], port).into(), false, now));
        assert_eq!(ports.count(), SAME_IP_MAX);
        for n in 0..30_000u32 {
            let mut hash = [0; 20];
            hash[..4].copy_from_slice(&(n / 12).to_be_bytes());
            store.announce(Sha1(hash), addr(n), false, now);
            let (torrents, peers) = store.len();
            assert!(torrents <= TORRENTS_MAX && peers <= ALL_PEERS_MAX, "{torrents}, {peers}");
        }
        assert_eq!(
            store.some(HASH, false, 999, &mut fastrand::Rng::with_seed(1)).len(),
            PEERS_MAX,
            "many outlive few"
        );
        assert_eq!(store.some(HASH, false, 40, &mut fastrand::Rng::with_seed(1)).len(), 40);
    }

    /// The example of BEP 33.
    #[test]
    fn filters_are_those_of_the_standard() {
        let mut filter = [0; FILTER_LEN];
        (0..=255).for_each(|n| insert(&mut filter, [192, 0, 2, n].into()));
        let base = "2001:db8::".parse::<Ipv6Addr>().unwrap().to_bits();
        (0..=0x3e7).for_each(|n| insert(&mut filter, Ipv6Addr::from_bits(base + n).into()));
        let hex: String = filter[..16].iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(hex, "F6C3F5EAA07FFD91BDE89F777F26FB2B");
        let unset = filter.iter().map(|byte| byte.count_zeros()).sum::<u32>() as f64 / 2048.0;
        let size = unset.ln() / (2.0 * (1.0 - 1.0 / 2048.0f64).ln());
        assert!((size - 1224.93).abs() < 0.01, "{size}");
    }
}
