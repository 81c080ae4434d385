//! Where multicasts go: the interfaces of this machine, found without `unsafe`.
//!
//! ```text
//! IPv4   an interface is named by an address of ours on it     Linux: /proc/net/fib_trie
//! IPv6   by its number                                         Linux: /proc/net/if_inet6
//! ```
//!
//! Elsewhere the operating system chooses one. Loopback is one like others: two clients on a machine
//! without a network find each other there.
//!
//! Layer: hands. Owns nothing.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most interfaces that we speak at: a machine with many bridges and tunnels has less.
const INTERFACES_MAX: usize = 32;

/// How much of a table is read: a router's table of routes is larger, its own addresses come early
/// or not at all.
const TABLE_MAX: u64 = 1 << 20;

/// How an interface is named to the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// One of its addresses; unspecified: the system's choice.
    V4(Ipv4Addr),
    /// Its number; 0: the system's choice.
    V6(u32),
}

/// The interfaces to use for a family, or only that of the address at which we listen.
pub fn list(is_ipv6: bool, listen: Option<IpAddr>) -> Vec<Interface> {
    let only = listen.filter(|ip| !ip.is_unspecified());
    if listen.is_some_and(|ip| ip.is_ipv6() != is_ipv6) {
        return Vec::new();
    }
    let mut found: Vec<Interface> = match only {
        Some(IpAddr::V4(ip)) => vec![Interface::V4(ip)],
        Some(IpAddr::V6(ip)) => {
            let has = v6_addresses(&table("/proc/net/if_inet6")).find(|&(_, of)| of == ip);
            vec![Interface::V6(has.map_or(0, |(number, _)| number))]
        }
        None if is_ipv6 => {
            let table = table("/proc/net/if_inet6");
            v6_addresses(&table).map(|(number, _)| Interface::V6(number)).collect()
        }
        None => v4_addresses(&table("/proc/net/fib_trie")).map(Interface::V4).collect(),
    };
    if found.is_empty() {
        found.push(if is_ipv6 { Interface::V6(0) } else { Interface::V4(Ipv4Addr::UNSPECIFIED) });
    }
    let mut seen = Vec::new();
    found.retain(|one| {
        !seen.contains(one) && seen.len() < INTERFACES_MAX && {
            seen.push(*one);
            true
        }
    });
    found
}

/// The addresses of this machine that are of use from elsewhere, loopback among them; none where the
/// system has no table of them.
pub fn addresses(is_ipv6: bool) -> impl Iterator<Item = IpAddr> {
    let routes = if is_ipv6 { String::new() } else { table("/proc/net/fib_trie") };
    let numbers = if is_ipv6 { table("/proc/net/if_inet6") } else { String::new() };
    let v4: Vec<IpAddr> = v4_addresses(&routes).map(IpAddr::V4).collect();
    let v6 = v6_addresses(&numbers).map(|(_, ip)| ip).filter(|ip| !ip.is_unicast_link_local());
    let v6: Vec<IpAddr> = v6.map(IpAddr::V6).collect();
    v4.into_iter().chain(v6)
}

fn table(path: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(TABLE_MAX).read_to_string(&mut text);
    }
    text
}

/// Our own addresses in a table of routes: an address, and below it that it is local and whole.
fn v4_addresses(table: &str) -> impl Iterator<Item = Ipv4Addr> {
    let mut last = None;
    table.lines().filter_map(move |line| match line.trim() {
        "/32 host LOCAL" => last,
        line => {
            last = line.strip_prefix("|-- ").and_then(|ip| ip.parse().ok()).or(last);
            None
        }
    })
}

/// 32 hex digits, the interface's number in hex, and more that does not concern us.
fn v6_addresses(table: &str) -> impl Iterator<Item = (u32, Ipv6Addr)> {
    table.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let ip = u128::from_str_radix(words.next()?, 16).ok()?;
        let number = u32::from_str_radix(words.next()?, 16).ok()?;
        Some((number, ip.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_tables() {
        let routes = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
                      |-- 127.0.0.0\n  /8 host LOCAL\n |-- 127.0.0.1\n /32 host LOCAL\n\
                      |-- 192.0.2.0\n /24 link UNICAST\n |-- 192.0.2.2\n    /32 host LOCAL\n\
                      |-- 192.0.2.255\n /32 link BROADCAST\n";
        let found: Vec<Ipv4Addr> = v4_addresses(routes).collect();
        assert_eq!(found, [Ipv4Addr::LOCALHOST, Ipv4Addr::new(192, 0, 2, 2)]);
        let table = "fd000000000000000000000000000002 04 40 00 82     eth0\nrubbish\n";
        let found: Vec<_> = v6_addresses(table).collect();
        assert_eq!(found, [(4, "fd00::2".parse().unwrap())]);
    }

    #[test]
    fn who_listens_at_one_address_speaks_there_only() {
        let home = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(list(false, home), [Interface::V4(Ipv4Addr::LOCALHOST)]);
        assert_eq!(list(true, home), []);
        assert!(!list(false, None).is_empty());
    }
}
