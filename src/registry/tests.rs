//! The registry in virtual time.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use super::*;

const HASH: Sha1 = Sha1([7; 20]);

/// A registry and a clock that is moved by hand.
struct Bench {
    registry: Registry,
    now: Instant,
}

impl Bench {
    fn new(limits: Limits) -> Bench {
        let now = Instant::now();
        let home = vec!["192.168.1.5".parse().unwrap()];
        Bench { registry: Registry::open(limits, home, now, Rng::with_seed(1)), now }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.registry.expire(self.now);
    }

    fn try_say(&mut self, announce: &Announce) -> Result<Answer, Refusal> {
        self.registry.announce(announce, self.now)
    }

    #[track_caller]
    fn say(&mut self, announce: &Announce) -> Answer {
        self.try_say(announce).unwrap()
    }

    #[track_caller]
    fn counts(&self, seeds: u32, leechers: u32, completed: u32) {
        let expected = Counts { seeds, leechers, completed };
        assert_eq!(self.registry.scrape(HASH).unwrap_or_default(), expected);
        let totals = self.registry.totals();
        assert_eq!((totals.seeds, totals.leechers), (seeds as usize, leechers as usize));
        assert_eq!(totals.peers, (seeds + leechers) as usize);
    }
}

/// Limits without rates, so that tables are short.
fn usual() -> Limits {
    Limits { peers_per_address: 3, ..Limits::default() }
}

fn leecher(address: &str) -> Announce {
    let address: SocketAddr = address.parse().unwrap();
    let mut peer_id = [0; 20];
    let text = address.to_string();
    text.bytes().zip(&mut peer_id).for_each(|(from, to)| *to = from);
    Announce {
        info_hash: HASH,
        peer_id,
        key: 1,
        address,
        source: address.ip(),
        complete: false,
        event: Event::Regular,
        numwant: 50,
        both_families: true,
    }
}

fn seed(address: &str) -> Announce {
    Announce { complete: true, ..leecher(address) }
}

fn numbered(n: u32) -> String {
    format!("{}:1", Ipv4Addr::from_bits(0x0b00_0000 + n))
}

fn addresses(answer: &Answer) -> Vec<String> {
    let mut all: Vec<String> = answer.peers.iter().map(|p| p.address.to_string()).collect();
    all.sort();
    all
}

#[test]
fn peers_come_complete_and_go() {
    let mut bench = Bench::new(usual());
    assert_eq!(addresses(&bench.say(&leecher("11.0.0.1:1"))), [""; 0]);
    assert_eq!(addresses(&bench.say(&seed("11.0.0.2:1"))), ["11.0.0.1:1"]);
    bench.counts(1, 1, 0);
    let done = Announce { event: Event::Completed, ..seed("11.0.0.1:1") };
    bench.say(&done);
    bench.say(&done);
    bench.counts(2, 0, 1);
    // A newcomer that only says so does not count.
    bench.say(&Announce { event: Event::Completed, ..seed("11.0.0.3:1") });
    bench.counts(3, 0, 1);
    let gone = Announce { event: Event::Stopped, ..seed("11.0.0.2:1") };
    assert_eq!(addresses(&bench.say(&gone)), [""; 0]);
    bench.say(&gone);
    bench.counts(2, 0, 1);
}

#[test]
fn nobody_ends_somebody_else() {
    let mut bench = Bench::new(usual());
    bench.say(&leecher("11.0.0.1:1"));
    let stopped = Announce { event: Event::Stopped, ..leecher("11.0.0.1:1") };
    bench.say(&Announce { key: 2, peer_id: [0; 20], ..stopped.clone() });
    bench.say(&Announce { address: "11.0.0.1:2".parse().unwrap(), ..stopped.clone() });
    bench.say(&Announce { address: "11.0.0.2:1".parse().unwrap(), ..stopped.clone() });
    bench.counts(0, 1, 0);
    bench.say(&stopped);
    bench.counts(0, 0, 0);
    // aria2 has another key each time.
    bench.say(&leecher("11.0.0.1:1"));
    bench.say(&Announce { key: 2, ..stopped });
    bench.counts(0, 0, 0);
}

#[test]
fn who_is_told_of_whom() {
    let mut bench = Bench::new(usual());
    let all = ["11.0.0.1:1", "11.0.0.2:1", "[2001:db8::1]:1"];
    all.iter().for_each(|address| drop(bench.say(&leecher(address))));
    bench.say(&seed("11.0.0.9:1"));
    bench.say(&Announce { peer_id: leecher(all[0]).peer_id, ..leecher("[2001:db8::2]:1") });
    let check = |bench: &mut Bench, asker: &Announce, expected: &[&str]| {
        assert_eq!(addresses(&bench.say(asker)), expected, "{}", asker.address);
    };
    // Neither itself nor its other address; the other family too.
    check(&mut bench, &leecher(all[0]), &["11.0.0.2:1", "11.0.0.9:1", "[2001:db8::1]:1"]);
    let over_udp = Announce { both_families: false, ..leecher(all[0]) };
    check(&mut bench, &over_udp, &["11.0.0.2:1", "11.0.0.9:1"]);
    // No seeds to a seed.
    let others = ["11.0.0.1:1", "11.0.0.2:1", "[2001:db8::1]:1", "[2001:db8::2]:1"];
    check(&mut bench, &seed("11.0.0.8:1"), &others);
    check(&mut bench, &Announce { numwant: 0, ..leecher(all[1]) }, &[]);
    let port_0 = leecher("11.0.0.7:0");
    assert_eq!(bench.say(&port_0).peers.len(), 6);
    bench.counts(2, 4, 0);
}

#[test]
fn a_large_swarm_is_told_in_random_parts() {
    let mut bench = Bench::new(usual());
    for n in 0..1000 {
        bench.say(&leecher(&numbered(n)));
        bench.say(&seed(&numbered(5000 + n)));
    }
    let mut told = HashSet::new();
    for _ in 0..200 {
        let answer = bench.say(&leecher(&numbered(0)));
        let parts: HashSet<String> = addresses(&answer).into_iter().collect();
        assert_eq!(parts.len(), 50, "each is told once");
        assert!(!parts.contains(&numbered(0)));
        told.extend(parts);
    }
    // Each of 2,000 was left out with a chance of 0.975²⁰⁰: some thirteen were.
    assert!(1900 < told.len(), "{}", told.len());
    let asker = Announce { numwant: usize::MAX, ..leecher(&numbered(0)) };
    assert_eq!(bench.say(&asker).peers.len(), 200);
}

#[test]
fn peers_that_stay_away_are_forgotten() {
    let mut bench = Bench::new(usual());
    let interval = u64::from(bench.say(&leecher("11.0.0.1:1")).interval);
    assert_eq!(interval, 120);
    bench.say(&seed("11.0.0.2:1"));
    bench.wait(interval);
    bench.say(&seed("11.0.0.2:1"));
    bench.wait(interval + 60);
    bench.counts(1, 1, 0);
    bench.wait(1);
    bench.counts(1, 0, 0);
    bench.wait(2 * interval);
    bench.counts(0, 0, 0);
    assert_eq!(bench.registry.totals().swarms, 0);
    let Ledger { index, .. } = &bench.registry.ledger;
    assert!(index.is_empty() && bench.registry.ledger.guard.held([11, 0, 0, 2].into()) == 0);
}

#[test]
fn the_interval_grows_with_the_peers() {
    let limits = Limits { announces_per_second: 1, interval_max: 200, ..usual() };
    let mut bench = Bench::new(limits);
    let intervals = (0..300).map(|n| bench.say(&leecher(&numbered(n))).interval);
    let intervals: Vec<u32> = intervals.collect();
    assert_eq!([intervals[0], intervals[149], intervals[299]], [120, 150, 200]);
}

#[test]
fn limits_are_named_and_do_not_touch_who_is_here() {
    let mut bench = Bench::new(Limits { peers: 5, swarms: 2, ..usual() });
    for port in 1..=3 {
        bench.say(&leecher(&format!("11.0.0.1:{port}")));
    }
    let refused = |bench: &mut Bench, announce: &Announce, why: &str| {
        assert_eq!(bench.try_say(announce).unwrap_err().to_string(), why);
    };
    let fourth = leecher("11.0.0.1:4");
    refused(&mut bench, &fourth, "too many peers at your address: 3 is the limit");
    let other = |byte, address: &str| Announce { info_hash: Sha1([byte; 20]), ..leecher(address) };
    bench.say(&other(1, "11.0.0.2:1"));
    refused(&mut bench, &other(2, "11.0.0.2:1"), "this tracker is full: it has 2 torrents");
    bench.say(&leecher("11.0.0.2:1"));
    refused(&mut bench, &leecher("11.0.0.3:1"), "this tracker is full: it has 5 peers");
    bench.say(&leecher("11.0.0.1:1"));
    // Those who go make room, and a stopped or port 0 needs none.
    bench.say(&leecher("11.0.0.3:0"));
    bench.say(&Announce { event: Event::Stopped, ..leecher("11.0.0.1:1") });
    bench.say(&leecher("11.0.0.3:1"));
}

#[test]
fn only_what_is_listed_is_served() {
    let mut bench = Bench::new(usual());
    bench.registry = bench.registry.only([HASH]);
    bench.say(&leecher("11.0.0.1:1"));
    let other = Announce { info_hash: Sha1([1; 20]), ..leecher("11.0.0.1:1") };
    assert_eq!(bench.try_say(&other), Err(Refusal::NotServed));
    bench.wait(10_000);
    assert_eq!(bench.registry.scrape(HASH), Some(Counts::default()));
    assert_eq!(bench.registry.scrape(other.info_hash), None);
}

#[test]
fn a_peer_beside_the_tracker_is_told_by_the_machines_address() {
    let mut bench = Bench::new(usual());
    bench.say(&seed("127.0.0.1:6881"));
    assert_eq!(addresses(&bench.say(&leecher("127.0.0.2:1"))), ["127.0.0.1:6881"]);
    assert_eq!(
        addresses(&bench.say(&leecher("192.168.1.9:1"))),
        ["192.168.1.5:1", "192.168.1.5:6881"]
    );
    assert_eq!(addresses(&bench.say(&leecher("198.51.100.1:1"))), [""; 0]);
}

/// Whatever is said, in whatever order: the index, the crowds and the sums agree.
#[test]
fn the_books_balance() {
    let mut bench = Bench::new(Limits { peers: 60, peers_per_address: 30, ..usual() });
    let mut rng = Rng::with_seed(5);
    for _ in 0..20_000 {
        let event = [Event::Regular, Event::Completed, Event::Stopped][rng.usize(..3)];
        let announce = Announce {
            info_hash: Sha1([rng.u8(..4); 20]),
            event,
            complete: rng.bool(),
            ..leecher(&format!("11.0.0.{}:{}", rng.u8(..5), rng.u8(..12)))
        };
        let _ = bench.try_say(&announce);
        if rng.u8(..) == 0 {
            bench.wait(rng.u64(..300));
        }
    }
    let Registry { swarms, ledger, .. } = &bench.registry;
    let mut peers = 0;
    for swarm in swarms.values() {
        for (number, crowd) in swarm.crowds.iter().enumerate() {
            for (at, peer) in crowd.iter().enumerate() {
                let place = ledger.index[&(swarm.id, peer.address)];
                assert_eq!((place.kind.number(), place.at as usize), (number, at));
                peers += 1;
            }
        }
    }
    assert_eq!((peers, ledger.totals.iter().sum()), (ledger.index.len(), peers));
    let held: u32 = (0..5).map(|n| ledger.guard.held([11, 0, 0, n].into())).sum();
    assert_eq!(held as usize, peers);
}
