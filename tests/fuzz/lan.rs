//! Targets: what strangers send to the local network's group.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use piecemeal::hash::Sha1;
use piecemeal::lsd::Rules;
use piecemeal::lsd::search::Search;

const OURS: Sha1 = Sha1([0x11; 20]);

pub fn searches() -> Vec<Vec<u8>> {
    let hex = "11".repeat(20);
    [
        format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\n\
             Infohash: {hex}\r\ncookie: 1a2b3c4d\r\n\r\n\r\n"
        ),
        format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: [ff15::efc0:988f]:6771\r\nPort: 6882\r\n\
             Infohash: {hex}\r\nInfohash: {}\r\n\r\n\r\n",
            "22".repeat(20)
        ),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// What is read can be written and read again; what is reported is the sender's own host; nothing
/// makes us announce twice in a minute.
pub fn search(datagram: &[u8]) -> bool {
    let now = Instant::now();
    let own = Search { port: 6881, info_hashes: vec![OURS], cookie: b"us".to_vec() };
    let mut rules = Rules::new(own, fastrand::Rng::with_seed(1), now);
    rules.announced(true, now);
    let from: SocketAddr = "192.0.2.7:6771".parse().expect("an address");
    let heard = rules.heard(from, datagram, now);
    let again = (0..100).filter(|_| rules.heard(from, datagram, now).is_some()).count();
    assert!(again < 10, "reported {again} times more");
    assert!(now + Duration::from_secs(60) <= rules.next(), "an announce too many");
    if let Some(addr) = heard {
        assert!(addr.ip() == from.ip() && addr.port() != 0, "{addr}");
    }
    let Some(search) = Search::parse(datagram) else { return false };
    assert!(search.port != 0 && (1..=32).contains(&search.info_hashes.len()));
    assert!(search.cookie.len() <= 64);
    let group = "239.192.152.143:6771".parse().expect("an address");
    let again = Search { info_hashes: search.info_hashes[..1].to_vec(), ..search };
    assert_eq!(Search::parse(&again.encode(group)), Some(again));
    true
}
