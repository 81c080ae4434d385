//! Announce URLs: which ones we use, and how they are written.
//!
//! A torrent's author picks the URLs, and our machine sends the requests: so an author could have us
//! call services that only we can reach. Rules against that: `http`, `https` and `udp` only; on our
//! own machine only a path that looks like a tracker's; and no redirect from outside to the inside.
//!
//! Layer: hands, but pure, except that [`is_inside`] looks names up.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};

use ureq::http::Uri;

use super::{Error, Result};
use crate::printable::clipped;

/// The longest URL that we use. HTTP servers refuse lines of more than 8 KiB, and ours grows.
const URL_LEN_MAX: usize = 4096;

/// How much of a strange URL is repeated to the user.
const SHOWN_MAX: usize = 120;

/// A tracker that we can ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Http(Uri),
    Udp(Place),
}

/// Where a UDP tracker is, and the rest of its URL, which BEP 41 sends along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    /// Empty, or begins with `/` or `?`.
    pub path_and_query: String,
}

impl Target {
    /// Reads an announce URL; the error says why it is of no use.
    pub fn parse(url: &str) -> Result<Target> {
        let url = escape_stray(url.trim());
        if URL_LEN_MAX < url.len() {
            return Err(unusable(&format!("longer than {URL_LEN_MAX} bytes")));
        }
        let text = url.split('#').next().unwrap_or_default();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(unusable("it is no URL"));
        };
        let scheme = scheme.to_ascii_lowercase();
        let uri = format!("{scheme}://{rest}").parse::<Uri>();
        let uri = uri.map_err(|_| unusable("it is no URL"))?;
        let host = uri.host().unwrap_or_default();
        if bare(host).is_empty() {
            return Err(unusable("it names no host"));
        }
        match scheme.as_str() {
            "http" | "https" => {
                check_http(&uri)?;
                Ok(Target::Http(uri))
            }
            "udp" => {
                let port = uri.port_u16().filter(|port| *port != 0);
                let port = port.ok_or_else(|| unusable("a UDP tracker needs a port"))?;
                // As it was written: the parser would add a "/" where there is none.
                let path_and_query = rest.find(['/', '?']).map_or("", |at| &rest[at..]).to_owned();
                Ok(Target::Udp(Place { host: bare(host).to_owned(), port, path_and_query }))
            }
            _ => Err(unusable(&format!("we do not speak {scheme}"))),
        }
    }
}

/// The rules for an http(s) address, whether a torrent or a redirect names it.
pub fn check_http(uri: &Uri) -> Result<()> {
    match uri.scheme_str() {
        Some("https") if !cfg!(feature = "tls") => {
            return Err(unusable("this build has no TLS"));
        }
        Some("http" | "https") => {}
        _ => return Err(unusable("only http and https are followed")),
    }
    let host = uri.host().unwrap_or_default();
    let port = uri.port().map(|port| port.as_u16());
    let has_port = uri.authority().is_some_and(|a| !a.as_str().ends_with(host));
    if port == Some(0) || (port.is_none() && has_port) {
        return Err(unusable("the port is not 1 to 65535"));
    }
    // A tracker's page is called `announce` by custom; a router's or a database's is not.
    let page = uri.path().rsplit('/').next().unwrap_or_default();
    if is_loopback(host) && !page.starts_with("announce") && !page.starts_with("scrape") {
        let why = "a tracker on this machine must have a path that ends in /announce";
        return Err(unusable(why));
    }
    Ok(())
}

/// Whether a host is this machine, as far as its name tells.
pub fn is_loopback(host: &str) -> bool {
    let host = bare(host);
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip.to_canonical().is_loopback() || ip.is_unspecified(),
        Err(_) => {
            let name = host.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// Whether a host is on this machine or in a private network. A name is looked up, since names may
/// point inside as well; one that has no address is not inside.
pub fn is_inside(uri: &Uri) -> bool {
    let host = bare(uri.host().unwrap_or_default());
    let port = uri.port_u16().unwrap_or(80);
    is_loopback(host)
        || (host, port).to_socket_addrs().is_ok_and(|mut found| found.any(|a| is_private(a.ip())))
}

fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let shared = Ipv4Addr::new(100, 64, 0, 0).to_bits() >> 22 == ip.to_bits() >> 22;
            shared
                || ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_unspecified()
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
        }
    }
}

/// The part of a URL that may be shown: paths and queries hold passkeys, and logs are published.
pub fn place(url: &str) -> String {
    let url = url.trim();
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A name and password before the host is a passkey as well.
    let host = authority.rsplit('@').next().unwrap_or_default();
    let shown = if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") };
    clipped(&shown, SHOWN_MAX)
}

/// Bytes as in a query: all that is not unreserved (RFC 3986) becomes `%XX`.
pub fn percent_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// A URL as people write them, with what no URL may hold (blanks, letters outside ASCII, quotes)
/// escaped; what is escaped already stays as it is.
pub fn escape_stray(url: &str) -> String {
    let mut text = String::with_capacity(url.len());
    for &byte in url.as_bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// An IPv6 address without its brackets.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Without the URL: whoever shows this knows it, and how much of it may be seen.
fn unusable(why: &str) -> Error {
    Error::Failed(clipped(why, SHOWN_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(host: &str, port: u16, rest: &str) -> Target {
        Target::Udp(Place { host: host.into(), port, path_and_query: rest.into() })
    }

    #[test]
    fn udp_urls() {
        let check = |url: &str, target| assert_eq!(Target::parse(url), Ok(target), "{url}");
        check("udp://t.example:80", udp("t.example", 80, ""));
        check(" UDP://t.example:80/ ", udp("t.example", 80, "/"));
        check("udp://[::1]:6969/announce", udp("::1", 6969, "/announce"));
        check("udp://t.example:80/dir?a=b&c=d#x", udp("t.example", 80, "/dir?a=b&c=d"));
        check("udp://t.example:80?a=b/c", udp("t.example", 80, "?a=b/c"));
        check("udp://t.example:80/a b|é", udp("t.example", 80, "/a%20b%7C%C3%A9"));
    }

    #[test]
    fn urls_of_no_use_say_why() {
        let long = format!("http://t.example/{}", "a".repeat(URL_LEN_MAX));
        for (url, why) in [
            ("", "no URL"),
            ("announce", "no URL"),
            ("udp://t.example", "needs a port"),
            ("udp://t.example:0/announce", "needs a port"),
            ("udp://t.example:99999", "needs a port"),
            ("http://t.example:99999/announce", "port is not"),
            ("http://t.example:0/announce", "port is not"),
            ("http:///announce", "no URL"),
            ("udp://[]:80/announce", "no host"),
            ("http://[]/announce", "no host"),
            ("wss://t.example/announce", "we do not speak wss"),
            ("file:///etc/passwd", ""),
            ("http://127.0.0.1:8080/admin?stop", "must have a path"),
            ("http://localhost/", "must have a path"),
            ("http://[::ffff:127.0.0.1]/", "must have a path"),
            (&long, "longer than 4096"),
        ] {
            let error = Target::parse(url).expect_err(url).to_string();
            assert!(error.contains(why), "{url}: {error}");
        }
    }

    #[test]
    fn http_urls_that_are_fine() {
        for url in [
            "http://t.example/announce?passkey=1",
            "http://t.example:6969",
            "http://127.0.0.1:6969/announce",
            "http://localhost/key/announce.php",
            "http://user:word@t.example/announce",
        ] {
            assert!(matches!(Target::parse(url), Ok(Target::Http(_))), "{url}");
        }
        assert_eq!(Target::parse("https://t.example/announce").is_ok(), cfg!(feature = "tls"));
    }

    #[test]
    fn what_is_inside() {
        for (url, inside) in [
            ("http://127.0.0.9/", true),
            ("http://10.1.2.3/", true),
            ("http://100.64.0.1/", true),
            ("http://100.128.0.1/", false),
            ("http://169.254.169.254/", true),
            ("http://[::1]/", true),
            ("http://[fd00::1]/", true),
            ("http://[::ffff:192.168.1.1]/", true),
            ("http://0.0.0.0/", true),
            ("http://192.0.2.1/", false),
            ("http://[2001:db8::1]/", false),
        ] {
            assert_eq!(is_inside(&url.parse().unwrap()), inside, "{url}");
        }
    }

    #[test]
    fn passkeys_are_not_shown() {
        assert_eq!(place("https://u:p@t.example:8/key/announce?k=1"), "https://t.example:8");
        assert_eq!(place("udp://t.example:80?k=1"), "udp://t.example:80");
        assert_eq!(place("\x1b[31m"), "\\u{1b}[31m");
    }

    #[test]
    fn every_byte_is_escaped_as_it_should() {
        assert_eq!(percent_encode(b"aZ09-._~"), "aZ09-._~");
        assert_eq!(percent_encode(b"\x00 +/%\xff\n"), "%00%20%2B%2F%25%FF%0A");
    }
}
