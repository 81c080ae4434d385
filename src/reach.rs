//! What an IP address tells by itself: from where it can be reached, whether anybody can be there at
//! all, and whose it is.
//!
//! ```text
//! 127.0.0.0/8  ::1  unspecified                                this machine
//! 10.0.0.0/8  172.16.0.0/12  192.168.0.0/16 (RFC 1918)         a private network
//! 100.64.0.0/10 (RFC 6598)  fc00::/7 (RFC 4193)                  likewise
//! 169.254.0.0/16  fe80::/10 (link-local)                         likewise
//! all others                                                   everywhere
//! ```
//!
//! An IPv4 address in the clothes of IPv6 (`::ffff:…`) is judged as what it is.
//!
//! Layer: values.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// From where an address can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// From this machine only.
    Machine,
    /// From a private network.
    Network,
    Everywhere,
}

pub fn reach(ip: IpAddr) -> Reach {
    let ip = ip.to_canonical();
    let (machine, network) = match ip {
        IpAddr::V4(ip) => {
            // 100.64.0.0/10, between a provider and its customers.
            let shared = ip.to_bits() >> 22 == Ipv4Addr::new(100, 64, 0, 0).to_bits() >> 22;
            (ip.is_loopback(), ip.is_private() || ip.is_link_local() || shared)
        }
        IpAddr::V6(ip) => (ip.is_loopback(), ip.is_unique_local() || ip.is_unicast_link_local()),
    };
    // Who dials no address at all gets this machine.
    match (machine || ip.is_unspecified(), network) {
        (true, _) => Reach::Machine,
        (_, true) => Reach::Network,
        _ => Reach::Everywhere,
    }
}

/// Whether an address is that of one host, which a packet or a connection can go to.
pub fn is_a_host(ip: IpAddr) -> bool {
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// Whether a packet or a connection to an address makes sense at all.
pub fn can_be_dialled(addr: SocketAddr) -> bool {
    addr.port() != 0 && is_a_host(addr.ip())
}

/// What one customer of a provider has, as an address to count by: an IPv4 address, or the /64 of an
/// IPv6 one.
pub fn customer(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

/// Where a socket of ours is found from this machine: a knock there wakes who waits at it. One that
/// listens at all addresses has no other name for itself.
pub fn at_home(addr: SocketAddr) -> SocketAddr {
    let home = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(home, addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn from_where_addresses_are_reached() {
        for (text, expected) in [
            ("127.0.0.9", Reach::Machine),
            ("::1", Reach::Machine),
            ("0.0.0.0", Reach::Machine),
            ("::", Reach::Machine),
            ("::ffff:127.0.0.1", Reach::Machine),
            ("::ffff:0.0.0.0", Reach::Machine),
            ("10.1.2.3", Reach::Network),
            ("172.31.0.1", Reach::Network),
            ("100.64.0.1", Reach::Network),
            ("169.254.169.254", Reach::Network),
            ("fd00::1", Reach::Network),
            ("fe80::1", Reach::Network),
            ("::ffff:192.168.1.1", Reach::Network),
            ("172.32.0.1", Reach::Everywhere),
            ("100.128.0.1", Reach::Everywhere),
            ("192.0.2.1", Reach::Everywhere),
            ("2001:db8::1", Reach::Everywhere),
        ] {
            assert_eq!(reach(ip(text)), expected, "{text}");
        }
    }

    #[test]
    fn where_nobody_can_be() {
        for bad in ["10.0.0.1:0", "0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "[::]:1"] {
            assert!(!can_be_dialled(bad.parse().unwrap()), "{bad}");
        }
        assert!(["10.0.0.1:1", "[::1]:65535"].iter().all(|a| can_be_dialled(a.parse().unwrap())));
    }

    #[test]
    fn whose_an_address_is() {
        let same = |a, b| customer(ip(a)) == customer(ip(b));
        assert!(same("2001:db8::1", "2001:db8::2") && !same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1") && !same("192.0.2.1", "192.0.2.2"));
        assert_eq!(customer(ip("::1")), ip("::1"));
    }

    #[test]
    fn where_a_socket_is_found() {
        let home = |text: &str| at_home(text.parse().unwrap()).to_string();
        assert_eq!(home("0.0.0.0:7"), "127.0.0.1:7");
        assert_eq!(home("[::]:7"), "[::1]:7");
        assert_eq!(home("127.0.0.9:7"), "127.0.0.9:7");
    }
}
