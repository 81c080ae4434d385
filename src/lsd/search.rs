//! The one message of local service discovery (BEP 14), as text in a datagram.
//!
//! ```text
//! BT-SEARCH * HTTP/1.1␍␊
//! Host: 239.192.152.143:6771␍␊       the group it is sent to; [ff15::efc0:988f]:6771 for IPv6
//! Port: 6881␍␊                       where its sender takes connections
//! Infohash: 40 hex digits␍␊          may come several times
//! cookie: anything␍␊                 optional: by this a client knows what it has sent itself
//! ␍␊␍␊
//! ```
//!
//! Names of fields are compared without regard to case, spaces around values do not count, other
//! fields and the version of HTTP are ignored: clients differ in all of them.
//!
//! Layer: hands, but only bytes.

use std::net::SocketAddr;

use crate::hash::Sha1;

/// The longest datagram that is read: BEP 14 wants them to be under 1,400 bytes.
pub const DATAGRAM_MAX: usize = 1500;

/// Info hashes of one datagram that are looked at; there is no room for more in 1,400 bytes.
const HASHES_MAX: usize = 32;

/// The longest cookie that is kept of a stranger. Clients use 8 to 32 letters.
const COOKIE_MAX: usize = 64;

/// What somebody looks for, and where it can be dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Never 0.
    pub port: u16,
    /// At least one.
    pub info_hashes: Vec<Sha1>,
    /// Empty if there is none.
    pub cookie: Vec<u8>,
}

impl Search {
    /// Reads a datagram; `None` if it is anything else, or lacks a port or a hash.
    pub fn parse(datagram: &[u8]) -> Option<Search> {
        let datagram = datagram.get(..DATAGRAM_MAX).unwrap_or(datagram);
        let mut lines = datagram.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        if !lines.next()?.get(..9)?.eq_ignore_ascii_case(b"BT-SEARCH") {
            return None;
        }
        let (mut port, mut info_hashes, mut cookie) = (0, Vec::new(), Vec::new());
        for line in lines.take_while(|line| !line.is_empty()) {
            let colon = line.iter().position(|&byte| byte == b':')?;
            let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
            let text = || std::str::from_utf8(value).ok();
            if name.eq_ignore_ascii_case(b"port") {
                port = text()?.parse().ok()?;
            } else if name.eq_ignore_ascii_case(b"infohash") && info_hashes.len() < HASHES_MAX {
                info_hashes.push(Sha1::from_hex(text()?)?);
            } else if name.eq_ignore_ascii_case(b"cookie") && value.len() <= COOKIE_MAX {
                cookie = value.to_vec();
            }
        }
        (port != 0 && !info_hashes.is_empty()).then_some(Search { port, info_hashes, cookie })
    }

    /// The datagram, to be sent to this group.
    pub fn encode(&self, group: SocketAddr) -> Vec<u8> {
        let mut text = format!("BT-SEARCH * HTTP/1.1\r\nHost: {group}\r\nPort: {}\r\n", self.port);
        for info_hash in &self.info_hashes {
            text += &format!("Infohash: {info_hash}\r\n");
        }
        let mut bytes = text.into_bytes();
        if !self.cookie.is_empty() {
            bytes.extend([b"cookie: ", self.cookie.as_slice(), b"\r\n"].concat());
        }
        bytes.extend(b"\r\n\r\n");
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(port: u16, hashes: &[u8], cookie: &[u8]) -> Search {
        let info_hashes = hashes.iter().map(|&byte| Sha1([byte; 20])).collect();
        Search { port, info_hashes, cookie: cookie.to_vec() }
    }

    #[track_caller]
    fn check(text: &str, expected: Option<Search>) {
        assert_eq!(Search::parse(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn as_libtorrent_aria2_and_transmission_write_it() {
        let hex = "11".repeat(20);
        let ours = search(6881, &[0x11], b"abc");
        let text = format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\n\
             Infohash: {hex}\r\ncookie: abc\r\n\r\n\r\n"
        );
        assert_eq!(ours.encode("239.192.152.143:6771".parse().unwrap()), text.as_bytes());
        check(&text, Some(ours.clone()));
        check(&text.to_lowercase(), Some(ours.clone()));
        check(&text.replace("\r\n", "\n"), Some(ours.clone()));
        check(&text.replace("cookie: abc\r\n", "X: y\r\n"), Some(search(6881, &[0x11], b"")));
        let two = format!("BT-SEARCH * HTTP/1.1\nInfohash:{hex}\nInfohash: {hex}\nPort:1\n\n");
        check(&two, Some(search(1, &[0x11, 0x11], b"")));
        check(text.trim_end(), Some(ours));
    }

    #[test]
    fn what_is_not_it() {
        let hex = "11".repeat(20);
        let start = "BT-SEARCH * HTTP/1.1\r\n";
        for bad in [
            String::new(),
            "BT-SEARCH".to_owned(),
            format!("M-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: {hex}\r\n\r\n"),
            format!("{start}Port: 0\r\nInfohash: {hex}\r\n\r\n"),
            format!("{start}Port: 65536\r\nInfohash: {hex}\r\n\r\n"),
            format!("{start}Port: -1\r\nInfohash: {hex}\r\n\r\n"),
            format!("{start}Port: 1\r\n\r\n"),
            format!("{start}Port: 1\r\nInfohash: {}\r\n\r\n", &hex[1..]),
            format!("{start}Port: 1\r\n\r\nInfohash: {hex}\r\n"),
            format!("{start}Port 1\r\nInfohash: {hex}\r\n"),
        ] {
            check(&bad, None);
        }
        let many = format!("{start}Port: 1\r\n{}", format!("Infohash: {hex}\r\n").repeat(1000));
        let read = Search::parse(many.as_bytes());
        assert!(read.is_none_or(|search| search.info_hashes.len() <= HASHES_MAX));
    }
}
