//! What our own address is, by the word of others (BEP 42, `ip`).
//!
//! Each network (/24, /64) has one voice; [`NEEDED`] that agree are believed. Whoever lies gives us
//! an id that fits another address, which costs us some trust of others and nothing else.
//!
//! Layer: decisions.

use std::net::IpAddr;

use super::bucket::network;

/// Voices that must agree.
const NEEDED: usize = 4;

/// Addresses that are in the running. A symmetric NAT may have several.
const CANDIDATES_MAX: usize = 8;

#[derive(Debug, Default)]
pub struct Votes(Vec<(IpAddr, Vec<IpAddr>)>);

impl Votes {
    /// One more voice. The address, when it is believed; then it begins anew.
    pub fn vote(&mut self, for_ip: IpAddr, by: IpAddr) -> Option<IpAddr> {
        let (Some(voice), Some(_)) = (network(by), network(for_ip)) else { return None };
        let same_family = for_ip.is_ipv4() == by.is_ipv4();
        if !same_family || self.0.iter().any(|(_, voices)| voices.contains(&voice)) {
            return None;
        }
        match self.0.iter().position(|(ip, _)| *ip == for_ip) {
            Some(at) => self.0[at].1.push(voice),
            None if self.0.len() < CANDIDATES_MAX => self.0.push((for_ip, vec![voice])),
            None => self.0.clear(),
        }
        let elected = self.0.iter().find(|(_, voices)| NEEDED <= voices.len())?.0;
        self.0.clear();
        Some(elected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_networks_must_agree() {
        let mut votes = Votes::default();
        let mut vote = |ip: &str, by: &str| votes.vote(ip.parse().unwrap(), by.parse().unwrap());
        assert_eq!(vote("8.8.8.8", "9.9.1.1"), None);
        assert!((1..200).all(|n| vote("8.8.8.8", &format!("9.9.1.{n}")).is_none()), "one network");
        assert!((1..9).all(|n| vote("8.8.8.8", &format!("127.0.{n}.1")).is_none()), "ourselves");
        assert!((1..9).all(|n| vote("10.0.0.1", &format!("9.{n}.1.1")).is_none()), "not public");
        assert!((1..9).all(|n| vote("2001:db8::1", &format!("9.{n}.1.1")).is_none()));
        assert_eq!(vote("8.8.4.4", "9.9.2.1"), None);
        assert_eq!([vote("8.8.8.8", "9.9.3.1"), vote("8.8.8.8", "9.9.4.1")], [None, None]);
        assert_eq!(vote("8.8.8.8", "9.9.5.1"), Some("8.8.8.8".parse().unwrap()));
    }
}
