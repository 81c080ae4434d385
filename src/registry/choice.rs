//! Whom an asker is told: a random few of its swarm, the useful ones.
//!
//! ```text
//! asker      is told
//! seed       leechers                    a seed has nothing to get from a seed
//!            but where there are none, a few seeds: some clients that have a magnet link only say
//!            that nothing is left (aria2, rqbit)
//! leecher    both, as they come; but at least a quarter of the places goes to each kind
//! ```
//!
//! Its own family first, then the other one, if the answer has room for it. In a crowd each peer is
//! equally likely: we begin anywhere and go round in steps of a length that shares no factor with
//! the crowd's, which meets everybody once and needs no list of whom we met.
//!
//! Layer: decisions.

use std::net::{IpAddr, SocketAddr};

use fastrand::Rng;

use super::{Announce, Peer, Swarm, Told};
use crate::reach::{Reach, reach};

/// The most peers of a crowd that are looked at for one place in the answer: where nearly all are
/// out of the asker's reach, finding the others is not worth more.
const LOOKS_PER_SEAT: usize = 8;

/// How many seeds a lonely seed is told of: enough for the metadata, and few dials in vain.
const SEEDS_FOR_A_SEED: usize = 5;

pub fn choose(
    swarm: &Swarm,
    asker: &Announce,
    numwant_max: usize,
    home: &[IpAddr],
    rng: &mut Rng,
) -> Vec<Told> {
    let mut chosen = Vec::new();
    let wanted = asker.numwant.min(numwant_max);
    let own_family = asker.address.is_ipv6();
    let families = if asker.both_families { 2 } else { 1 };
    for v6 in [own_family, !own_family].into_iter().take(families) {
        let (seeds, leechers) = (swarm.crowd(true, v6), swarm.crowd(false, v6));
        let room = wanted - chosen.len();
        let of_seeds = match asker.complete && leechers.is_empty() {
            true => room.min(SEEDS_FOR_A_SEED),
            false => seats(asker.complete, room, seeds.len(), leechers.len()),
        };
        // What one kind leaves empty, because the asker is of that kind itself, the other takes.
        take(seeds, of_seeds, asker, home, rng, &mut chosen);
        let room = wanted - chosen.len();
        take(leechers, room, asker, home, rng, &mut chosen);
    }
    // Clients dial from the top, and seeds would be dialled by all.
    rng.shuffle(&mut chosen);
    chosen
}

/// How many of `room` places go to seeds. The leechers take the rest.
fn seats(asker_complete: bool, room: usize, seeds: usize, leechers: usize) -> usize {
    if asker_complete {
        return 0;
    }
    let all = seeds + leechers;
    if all <= room {
        return seeds;
    }
    let quarter = room / 4;
    let share = (room * seeds).div_ceil(all).clamp(quarter, room - quarter);
    // Too few of one kind: the other may have its places.
    share.min(seeds).max(room.saturating_sub(leechers))
}

fn take(
    crowd: &[Peer],
    count: usize,
    asker: &Announce,
    home: &[IpAddr],
    rng: &mut Rng,
    into: &mut Vec<Told>,
) {
    // The same client may be here with its other family's address too.
    let other = |peer: &&Peer| peer.address != asker.address && peer.peer_id != asker.peer_id;
    let told = |peer: &Peer| {
        let address = address_for(peer.address, asker.source, home)?;
        Some(Told { address, peer_id: peer.peer_id })
    };
    let looks = count.saturating_mul(LOOKS_PER_SEAT);
    let found = round(crowd.len(), rng).take(looks).filter_map(|at| crowd.get(at));
    into.extend(found.filter(other).filter_map(told).take(count));
}

/// Every number below `len` once, in an order of which there are about `len`² / 2.
fn round(len: usize, rng: &mut Rng) -> impl Iterator<Item = usize> + use<> {
    let (mut at, mut step) = (0, 1);
    if 1 < len {
        at = rng.usize(..len);
        step = rng.usize(1..len);
        while gcd(step, len) != 1 {
            step = rng.usize(1..len);
        }
    }
    (0..len).map(move |_| {
        let found = at;
        // Without the sum, which might not fit.
        at = if at >= len - step { at - (len - step) } else { at + step };
        found
    })
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The address by which somebody at `source` reaches a peer; `None` if there is none.
fn address_for(peer: SocketAddr, source: IpAddr, home: &[IpAddr]) -> Option<SocketAddr> {
    match (reach(peer.ip()), reach(source)) {
        (theirs, ours) if theirs >= ours => Some(peer),
        (Reach::Machine, ours) => {
            let here = |ip: &&IpAddr| ip.is_ipv6() == peer.is_ipv6() && reach(**ip) >= ours;
            home.iter().find(here).map(|ip| SocketAddr::new(*ip, peer.port()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_meets_everybody_once() {
        let mut rng = Rng::with_seed(1);
        for len in [0, 1, 2, 3, 6, 7, 210, 1024] {
            let mut met: Vec<usize> = round(len, &mut rng).collect();
            met.sort_unstable();
            assert_eq!(met, (0..len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn places_of_seeds() {
        let check = |complete, room, seeds, leechers, expected| {
            let found = seats(complete, room, seeds, leechers);
            assert_eq!(found, expected, "{complete} {room} {seeds} {leechers}");
        };
        check(true, 50, 100, 100, 0);
        check(false, 50, 20, 20, 20);
        check(false, 40, 100, 100, 20);
        check(false, 40, 1000, 10, 30);
        check(false, 40, 1000, 1, 39);
        check(false, 40, 3, 1000, 3);
        check(false, 40, 100, 10_000, 10);
        check(false, 0, 5, 5, 0);
        check(false, 1, 5, 5, 1);
    }

    #[test]
    fn addresses_within_reach() {
        let home = ["192.168.1.5".parse().unwrap(), "2001:db8::5".parse().unwrap()];
        let check = |peer: &str, source: &str, expected: Option<&str>| {
            let found = address_for(peer.parse().unwrap(), source.parse().unwrap(), &home);
            assert_eq!(found, expected.map(|text| text.parse().unwrap()), "{peer} for {source}");
        };
        check("127.0.0.1:1", "127.0.0.9", Some("127.0.0.1:1"));
        check("10.0.0.1:1", "127.0.0.1", Some("10.0.0.1:1"));
        check("10.0.0.1:1", "192.168.1.7", Some("10.0.0.1:1"));
        check("10.0.0.1:1", "198.51.100.1", None);
        check("198.51.100.2:1", "198.51.100.1", Some("198.51.100.2:1"));
        // A peer on the tracker's machine, seen from its network and from far away.
        check("127.0.0.1:1", "192.168.1.7", Some("192.168.1.5:1"));
        check("127.0.0.1:1", "198.51.100.1", None);
        check("[::1]:1", "2001:db8::9", Some("[2001:db8::5]:1"));
    }
}
