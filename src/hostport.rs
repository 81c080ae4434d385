//! A host and a port as people and torrents write them: `192.0.2.7:6881`, `[2001:db8::7]:6881`,
//! `router.example.org:6881`. Nothing is resolved here.
//!
//! Layer: values.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The longest host name that DNS can carry (RFC 1035), in bytes.
const HOST_LEN_MAX: usize = 253;

/// Somewhere to connect to: an address, or a name that is still to be looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name, or an address without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

impl HostPort {
    /// `None` if the host is empty, too long or has a character no host name has, or the port is
    /// not 1 to 65535.
    pub fn new(host: &str, port: i64) -> Option<HostPort> {
        let port = u16::try_from(port).ok().filter(|&port| port != 0)?;
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        let valid = host.parse::<Ipv6Addr>().is_ok() || host.chars().all(is_name);
        let fits = (1..=HOST_LEN_MAX).contains(&host.len());
        (valid && fits).then(|| HostPort { host: host.to_owned(), port })
    }
}

impl FromStr for HostPort {
    type Err = ();

    fn from_str(text: &str) -> Result<HostPort, ()> {
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let host = match host.strip_prefix('[') {
            Some(bracketed) => bracketed.strip_suffix(']').ok_or(())?,
            // Without brackets nobody can tell the port of an IPv6 address from its last group.
            None if host.contains(':') => return Err(()),
            None => host,
        };
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = if digits { port.parse().map_err(|_| ())? } else { return Err(()) };
        HostPort::new(host, port).ok_or(())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_address_and_what_is_not() {
        for good in ["127.0.0.1:6881", "[2001:db8::1]:1", "router.example.org:65535"] {
            assert_eq!(good.parse::<HostPort>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            ":",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:65536",
            "a:-1",
            "a:+1",
            "2001:db8::1:6881",
            "[::1:6881",
            "a b:1",
            "a/b:1",
            "a\x1b:1",
            "a:99999999999999999999",
        ] {
            assert_eq!(bad.parse::<HostPort>(), Err(()), "{bad:?}");
        }
    }
}
