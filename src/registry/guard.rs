//! What one address may do: limits against those who would fill the registry or wear it out.
//!
//! An address is an IPv4 address or the /64 of an IPv6 one, which is what one customer gets. Those
//! on our own machine and in private networks have no limits: they could hurt us more simply, and a
//! whole network may stand behind one of them.
//!
//! Layer: decisions.

use std::collections::HashMap;
use std::net::IpAddr;

use super::Refusal;
use crate::reach::{Reach, customer, reach};

/// Questions are counted over so many seconds, then all over again.
pub const WINDOW: u32 = 10;

/// Addresses whose questions are counted at a time. Beyond them there is a flood from everywhere,
/// against which counting does not help; memory stays bounded.
const COUNTED_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub struct Guard {
    /// How many peers an address has in the registry; never 0.
    held: HashMap<IpAddr, u32>,
    /// How many questions it asked in this window.
    asked: HashMap<IpAddr, u32>,
    window: u32,
}

impl Guard {
    pub fn admit(&mut self, source: IpAddr, second: u32, limit: u32) -> Result<(), Refusal> {
        if self.window != second / WINDOW {
            self.window = second / WINDOW;
            self.asked.clear();
        }
        let source = customer(source);
        let full = COUNTED_MAX <= self.asked.len() && !self.asked.contains_key(&source);
        if full || reach(source) != Reach::Everywhere {
            return Ok(());
        }
        let count = self.asked.entry(source).or_default();
        *count = count.saturating_add(1);
        if *count <= limit { Ok(()) } else { Err(Refusal::TooManyQuestions(limit)) }
    }

    /// How many peers an address has.
    pub fn held(&self, ip: IpAddr) -> u32 {
        self.held.get(&customer(ip)).copied().unwrap_or(0)
    }

    pub fn hold(&mut self, ip: IpAddr) {
        if reach(ip) == Reach::Everywhere {
            *self.held.entry(customer(ip)).or_default() += 1;
        }
    }

    pub fn release(&mut self, ip: IpAddr) {
        let ip = customer(ip);
        if let Some(count) = self.held.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn questions_are_counted_by_customer_and_window() {
        let mut guard = Guard::default();
        let mut ask = |ip: &str, second| guard.admit(ip.parse().unwrap(), second, 2).is_ok();
        assert_eq!([0, 1, 9].map(|second| ask("198.51.100.1", second)), [true, true, false]);
        assert!(ask("198.51.100.2", 9) && ask("198.51.100.1", 10));
        let hosts = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"];
        assert_eq!(hosts.map(|ip| ask(ip, 10)), [true, true, false, true]);
        let free = ["127.0.0.1", "::1", "192.168.1.2", "fd00::1"];
        assert!((0..9).all(|_| free.iter().all(|ip| ask(ip, 10))));
    }

    #[test]
    fn peers_are_counted_until_they_go() {
        let mut guard = Guard::default();
        let ip = "198.51.100.1".parse().unwrap();
        guard.hold(ip);
        guard.hold(ip);
        guard.release(ip);
        assert_eq!(guard.held(ip), 1);
        guard.release(ip);
        guard.release(ip);
        assert_eq!((guard.held(ip), guard.held.len()), (0, 0));
    }

    #[test]
    fn a_flood_from_everywhere_costs_bounded_memory() {
        let mut guard = Guard::default();
        for n in 0..100_000u32 {
            assert!(guard.admit(Ipv4Addr::from_bits(0x0b00_0000 + n).into(), 0, 5).is_ok());
        }
        assert_eq!(guard.asked.len(), COUNTED_MAX);
    }
}
