//! What strangers may ask: limits against those who flood us, and those who use us to flood others.
//!
//! * [`QUESTIONS_MAX`] from one address in [`WINDOW`]; who asks more is not heard for [`BLOCKED_FOR`].
//!   An address is an IPv4 address, the /64 of an IPv6 one, and on our own machine or network an
//!   address with its port, since many nodes may live there.
//! * All answers together are [`ANSWERS_RATE`] bytes a second: who forges the sender's address makes
//!   us send that much at most, to however many victims.
//!
//! Layer: decisions.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::reach::{Reach, customer, reach};

/// Five a second, as libtorrent has it: a look-up asks a node once or twice.
const QUESTIONS_MAX: u32 = 50;
const WINDOW: Duration = Duration::from_secs(10);

const BLOCKED_FOR: Duration = Duration::from_secs(5 * 60);

/// Addresses that are counted, or blocked, at a time. Beyond them there is a flood from everywhere,
/// against which only the rate of all answers helps.
const COUNTED_MAX: usize = 4096;

/// Bytes a second, and at once. A node in the real DHT is asked 10 to 50 questions a second, and an
/// answer has 300 bytes.
const ANSWERS_RATE: f64 = 16_384.0;
const ANSWERS_BURST: f64 = 65_536.0;

type Asker = (IpAddr, u16);

#[derive(Debug)]
pub struct Guard {
    window: Instant,
    asked: HashMap<Asker, u32>,
    blocked: HashMap<Asker, Instant>,
    /// Bytes that may go out now, as of then.
    allowance: f64,
    counted: Instant,
}

impl Guard {
    pub fn new(now: Instant) -> Guard {
        let (asked, blocked) = Default::default();
        Guard { window: now, asked, blocked, allowance: ANSWERS_BURST, counted: now }
    }

    /// Whether anything is heard from an address, but answers to our own questions.
    pub fn hears(&mut self, from: SocketAddr, now: Instant) -> bool {
        let asker = asker(from);
        match self.blocked.get(&asker) {
            Some(until) if now < *until => false,
            Some(_) => {
                self.blocked.remove(&asker);
                true
            }
            None => true,
        }
    }

    /// Counts a question, or what should have been one; false if it is one too many.
    pub fn admits(&mut self, from: SocketAddr, now: Instant) -> bool {
        if self.window + WINDOW <= now {
            self.window = now;
            self.asked.clear();
        }
        let asker = asker(from);
        if COUNTED_MAX <= self.asked.len() && !self.asked.contains_key(&asker) {
            return true;
        }
        let count = self.asked.entry(asker).or_default();
        *count += 1;
        if *count <= QUESTIONS_MAX {
            return true;
        }
        self.blocked.retain(|_, until| now < *until);
        if self.blocked.len() < COUNTED_MAX {
            self.blocked.insert(asker, now + BLOCKED_FOR);
        }
        false
    }

    /// Whether an answer of so many bytes may go out.
    pub fn may_answer(&mut self, bytes: usize, now: Instant) -> bool {
        let time = now.saturating_duration_since(self.counted).as_secs_f64();
        self.allowance = (self.allowance + time * ANSWERS_RATE).min(ANSWERS_BURST);
        self.counted = now;
        if self.allowance < bytes as f64 {
            return false;
        }
        self.allowance -= bytes as f64;
        true
    }
}

fn asker(from: SocketAddr) -> Asker {
    match from.ip() {
        ip if reach(ip) == Reach::Everywhere => (customer(ip), 0),
        ip => (ip, from.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_asks_too_much_is_not_heard_for_a_while() {
        let start = Instant::now();
        let mut guard = Guard::new(start);
        let flooder = addr("8.8.8.8:1");
        let admitted = (0..1000).filter(|_| guard.admits(flooder, start)).count();
        assert_eq!(admitted, QUESTIONS_MAX as usize);
        assert!(!guard.hears(addr("8.8.8.8:2"), start) && guard.hears(addr("8.8.8.9:1"), start));
        assert!(!guard.hears(flooder, start + BLOCKED_FOR - Duration::from_secs(1)));
        assert!(guard.hears(flooder, start + BLOCKED_FOR));
        assert!(guard.admits(flooder, start + BLOCKED_FOR));
    }

    #[test]
    fn a_steady_asker_is_heard_and_a_neighbour_on_this_machine_is_another() {
        let start = Instant::now();
        let mut guard = Guard::new(start);
        for n in 0..3000 {
            assert!(guard.admits(addr("8.8.8.8:1"), start + Duration::from_millis(250) * n), "{n}");
        }
        assert!(!(0..60).all(|_| guard.admits(addr("127.0.0.1:1"), start)));
        assert!(
            !guard.hears(addr("127.0.0.1:1"), start) && guard.hears(addr("127.0.0.1:2"), start)
        );
        assert!(!(0..60).all(|_| guard.admits(addr("[2001:db8::1]:1"), start)));
        assert!(!guard.hears(addr("[2001:db8::2]:1"), start), "one customer");
    }

    #[test]
    fn a_flood_from_everywhere_costs_bounded_memory_and_bounded_bytes() {
        let start = Instant::now();
        let mut guard = Guard::new(start);
        let mut bytes = 0;
        for n in 0..100_000u32 {
            // Ten seconds of it.
            let now = start + Duration::from_micros(100) * n;
            let from = (std::net::Ipv4Addr::from_bits(0x0b00_0000 + n), 1).into();
            assert!(guard.hears(from, now) && guard.admits(from, now));
            bytes += if guard.may_answer(300, now) { 300 } else { 0 };
        }
        assert!(guard.asked.len() <= COUNTED_MAX);
        assert!(bytes as f64 <= ANSWERS_BURST + 10.0 * ANSWERS_RATE, "{bytes} bytes");
    }
}
