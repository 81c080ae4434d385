//! When to announce on the local network, and what to make of what is heard there (BEP 14).
//!
//! * We announce at the start, then every [`EVERY`].
//! * Somebody new is answered with an announce of our own, so that it need not wait for the next
//!   one; but we never announce twice within [`PAUSE_MIN`], and many who answer do not do so at once.
//!   A new cookie at a known address is somebody new: a client that was started again.
//! * Where it could not be sent (an IPv6 address is not ready in its first second) it is tried again
//!   soon, a few times.
//! * Who is heard is reported each time, since it is there now and can be dialled; who speaks all the
//!   time only once in [`REPORT_EVERY`]. A host, and all hosts, may name so many addresses at most.
//!
//! Layer: hands, but pure: time is an argument.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::search::Search;
use crate::hash::Sha1;

/// BEP 14 leaves it open; libtorrent and Transmission have 5 and 4 minutes.
const EVERY: Duration = Duration::from_secs(300);

/// BEP 14: no more than one announce a minute.
const PAUSE_MIN: Duration = Duration::from_secs(60);

/// Answers are spread over so long: everybody heard the same question.
const SPREAD: Duration = Duration::from_secs(2);

/// The pause before what could not be sent is tried again; it doubles, so often.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRIES_MAX: u32 = 5;

/// Who has not been heard for so long is somebody new: three announces were lost.
const FORGET_AFTER: Duration = Duration::from_secs(3 * 300);

/// Reports of one address: so many a second on average, and some more at once, for a client that is
/// started, done and started again. Each may cost a dial.
const REPORT_EVERY: Duration = Duration::from_secs(1);
const REPORTS_AHEAD: Duration = Duration::from_secs(4);

/// Addresses that are remembered: a large office. A flood of made-up ones ends here.
const HEARD_MAX: usize = 200;

/// Addresses of one host: so many clients run there at most.
const HEARD_OF_HOST_MAX: usize = 8;

pub struct Rules {
    search: Search,
    next: Instant,
    last: Option<Instant>,
    /// Sends in a row that failed.
    failures: u32,
    heard: HashMap<SocketAddr, Heard>,
    rng: fastrand::Rng,
}

/// What is remembered of an address.
struct Heard {
    last: Instant,
    /// Its cookie's hash: two runs of a client differ in it.
    cookie: u64,
    /// When a report is due again, if each took [`REPORT_EVERY`].
    reported_until: Instant,
}

impl Rules {
    /// The first announce is due at once. `search` is what we announce, cookie included.
    pub fn new(search: Search, rng: fastrand::Rng, now: Instant) -> Rules {
        Rules { search, next: now, last: None, failures: 0, heard: HashMap::new(), rng }
    }

    pub fn search(&self) -> &Search {
        &self.search
    }

    /// When the next announce is due.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// The announce that was due has gone out, everywhere or not.
    pub fn announced(&mut self, everywhere: bool, now: Instant) {
        self.last = Some(now);
        self.failures = if everywhere { 0 } else { self.failures + 1 };
        self.next = now + EVERY;
        if (1..=RETRIES_MAX).contains(&self.failures) {
            self.next = now + RETRY_FIRST * (1 << (self.failures - 1));
        }
    }

    /// A datagram came. The address to dial, if it is of a peer of our torrent.
    pub fn heard(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) -> Option<SocketAddr> {
        let search = Search::parse(datagram)?;
        let ours: Sha1 = self.search.info_hashes[0];
        if search.cookie == self.search.cookie || !search.info_hashes.contains(&ours) {
            return None;
        }
        // A copy with the new port: of an IPv6 address it keeps the interface.
        let mut addr = from;
        addr.set_port(search.port);
        let mut hasher = DefaultHasher::new();
        search.cookie.hash(&mut hasher);
        let cookie = hasher.finish();
        let is_known = |heard: &Heard| heard.cookie == cookie && now < heard.last + FORGET_AFTER;
        let is_new = !self.heard.get(&addr).is_some_and(is_known);
        if !self.heard.contains_key(&addr) {
            self.heard.retain(|_, heard| now < heard.last + FORGET_AFTER);
            let of_host = self.heard.keys().filter(|known| known.ip() == addr.ip()).count();
            if HEARD_MAX <= self.heard.len() || HEARD_OF_HOST_MAX <= of_host {
                return None;
            }
        }
        let new = Heard { last: now, cookie, reported_until: now };
        let heard = self.heard.entry(addr).or_insert(new);
        (heard.last, heard.cookie) = (now, cookie);
        if is_new {
            let spread = SPREAD.mul_f64(self.rng.f64());
            let allowed = self.last.map_or(now, |last| last + PAUSE_MIN);
            self.next = self.next.min(allowed.max(now + spread));
        }
        let busy_until = heard.reported_until.max(now);
        (busy_until <= now + REPORTS_AHEAD).then(|| {
            heard.reported_until = busy_until + REPORT_EVERY;
            addr
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn search(port: u16, hash: u8, cookie: &[u8]) -> Search {
        Search { port, info_hashes: vec![Sha1([hash; 20])], cookie: cookie.to_vec() }
    }

    fn says(port: u16, hash: u8, cookie: &[u8]) -> Vec<u8> {
        search(port, hash, cookie).encode(addr("239.192.152.143:6771"))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn rules(now: Instant) -> Rules {
        Rules::new(search(6881, 1, b"us"), fastrand::Rng::with_seed(1), now)
    }

    #[test]
    fn at_the_start_and_every_five_minutes() {
        let start = Instant::now();
        let mut rules = rules(start);
        assert_eq!(rules.next(), start);
        rules.announced(true, start);
        assert_eq!(rules.next(), start + EVERY);
    }

    #[test]
    fn what_could_not_be_sent_is_tried_again_a_few_times() {
        let mut now = Instant::now();
        let mut rules = rules(now);
        for pause in [1, 2, 4, 8, 16, 300] {
            rules.announced(false, now);
            assert_eq!(rules.next(), now + seconds(pause));
            now = rules.next();
        }
        rules.announced(true, now);
        assert_eq!(rules.next(), now + EVERY);
    }

    #[test]
    fn a_stranger_is_answered_once_and_not_within_a_minute() {
        let start = Instant::now();
        let mut rules = rules(start);
        rules.announced(true, start);
        let (from, at) = (addr("192.0.2.7:6771"), Some(addr("192.0.2.7:7000")));
        let now = start + seconds(10);
        assert_eq!(rules.heard(from, &says(7000, 1, b"x"), now), at);
        assert_eq!(rules.next(), start + PAUSE_MIN);
        rules.announced(true, start + PAUSE_MIN);
        // Its next regular announce is no question; but it says that it can be dialled.
        assert_eq!(rules.heard(from, &says(7000, 1, b"x"), now + EVERY), at);
        assert_eq!(rules.next(), start + PAUSE_MIN + EVERY);
        let later = now + EVERY + FORGET_AFTER;
        rules.announced(true, later - PAUSE_MIN);
        assert!(rules.heard(from, &says(7000, 1, b"x"), later).is_some(), "back again");
        assert!((later..=later + SPREAD).contains(&rules.next()));
    }

    #[test]
    fn a_client_that_was_started_again_is_somebody_new() {
        let start = Instant::now();
        let mut rules = rules(start);
        let (from, at) = (addr("192.0.2.7:6771"), Some(addr("192.0.2.7:7000")));
        assert_eq!(rules.heard(from, &says(7000, 1, b"first"), start), at);
        rules.announced(true, start);
        let now = start + PAUSE_MIN;
        assert_eq!(rules.heard(from, &says(7000, 1, b"second"), now), at);
        assert!((now..=now + SPREAD).contains(&rules.next()), "and is answered");
        // Who says nothing but that costs a dial a second at most.
        let cookie = |n: u32| n.to_string().into_bytes();
        let reports = (0..10_000)
            .filter(|n| rules.heard(from, &says(7000, 1, &cookie(*n)), now + seconds(2)).is_some());
        assert_eq!(reports.count(), 5);
        assert_eq!(rules.heard(from, &says(7000, 1, b"x"), now + seconds(3)), at);
    }

    #[test]
    fn ourselves_and_other_torrents_are_nobody() {
        let now = Instant::now();
        let mut rules = rules(now);
        let from = addr("192.0.2.7:6771");
        assert_eq!(rules.heard(from, &says(6881, 1, b"us"), now), None);
        assert_eq!(rules.heard(from, &says(6881, 2, b"x"), now), None);
        assert_eq!(rules.heard(from, b"hello", now), None);
        let link_local = addr("[fe80::1%2]:6771");
        let peer = rules.heard(link_local, &says(6881, 1, b""), now);
        assert_eq!(peer, Some(addr("[fe80::1%2]:6881")));
    }

    #[test]
    fn a_flood_ends_at_the_limits() {
        let now = Instant::now();
        let mut rules = rules(now);
        let one = (1..1000)
            .filter_map(|port| rules.heard(addr("192.0.2.7:6771"), &says(port, 1, b"x"), now));
        assert_eq!(one.count(), HEARD_OF_HOST_MAX);
        let many = (0..10_000u32).filter_map(|n| {
            let from = SocketAddr::from(((0x0a00_0000 + n).to_be_bytes(), 6771));
            rules.heard(from, &says(6881, 1, b"x"), now)
        });
        assert_eq!(many.count(), HEARD_MAX - HEARD_OF_HOST_MAX);
        let later = now + FORGET_AFTER;
        assert!(rules.heard(addr("192.0.2.9:6771"), &says(6881, 1, b"x"), later).is_some());
    }
}
