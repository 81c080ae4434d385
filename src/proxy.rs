//! A SOCKS5 proxy (RFC 1928, 1929): somebody who dials for us, and whose address the world then sees.
//!
//! ```text
//! us    | 5 | how many | methods: 0 none, 2 name and password |
//! proxy | 5 | method |
//! us    | 1 | length, name | length, password |              only for method 2
//! proxy | 1 | 0 |
//! us    | 5 | 1 (connect) | 0 | 1 or 4 | address: 4 or 16 bytes | port: u16 |
//! proxy | 5 | 0, or why not | 0 | 1, 3 or 4 | its own address | port |
//! ```
//!
//! From then on the connection is one to the peer. A proxy carries TCP that we dial: with one, nobody
//! is dialled past it, nothing goes over UDP, and we do not listen.
//!
//! Layer: hands. Runs on the thread of whoever dials. Owns nothing but the proxy's address.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use socket2::{Domain, SockAddr, Socket};

use crate::hostport::HostPort;
use crate::percent;

/// How long each step may take: the proxy has to dial too.
const STEP_TIMEOUT: Duration = Duration::from_secs(15);

/// Where such proxies listen by custom.
const PORT: u16 = 1080;

const VERSION: u8 = 5;

/// The longest name or password (RFC 1929: one byte for the length).
const CREDENTIAL_MAX: usize = 255;

#[derive(Clone)]
pub struct Proxy {
    addr: SocketAddr,
    /// Name and password.
    login: Option<(Vec<u8>, Vec<u8>)>,
    /// The same for HTTP: names are looked up by the proxy, not by us.
    http: ureq::Proxy,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        // The password is nobody's business.
        write!(f, "Proxy({})", self.addr)
    }
}

impl Proxy {
    /// `socks5://[name:password@]host[:port]`, or only `host:port`. Looks the name up.
    pub fn parse(text: &str) -> Result<Proxy> {
        let lower = text.to_ascii_lowercase();
        let rest = match lower.split_once("://") {
            Some(("socks5" | "socks5h", rest)) => &text[text.len() - rest.len()..],
            Some(_) => bail!("expected socks5://HOST:PORT"),
            None => text,
        };
        let rest = rest.trim_end_matches('/');
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let login = login.map(|login| {
            let (name, password) = login.split_once(':').unwrap_or((login, ""));
            (percent::decode(name), percent::decode(password))
        });
        if let Some((name, password)) = &login
            && (name.is_empty() || CREDENTIAL_MAX < name.len().max(password.len()))
        {
            bail!("name and password have at most {CREDENTIAL_MAX} bytes");
        }
        let place: Result<HostPort, ()> = place.parse().or(format!("{place}:{PORT}").parse());
        let Ok(HostPort { host, port }) = place else { bail!("expected socks5://HOST:PORT") };
        let found = (host.as_str(), port).to_socket_addrs().context("no such proxy")?.next();
        let addr = found.context("no such proxy: its name has no address")?;
        let login_part =
            rest.rsplit_once('@').map_or(String::new(), |(login, _)| format!("{login}@"));
        // The `h` leaves names to the proxy: a look-up of ours would tell others what we are after.
        let http = ureq::Proxy::new(&format!("socks5h://{login_part}{addr}"))?;
        Ok(Proxy { addr, login, http })
    }

    /// The same proxy, for HTTP requests.
    pub fn http(&self) -> ureq::Proxy {
        self.http.clone()
    }

    /// The kind of socket that can reach it.
    pub fn domain(&self) -> Domain {
        Domain::for_address(self.addr)
    }

    /// Connects a socket to a peer through the proxy; `timeout` is for the way to the proxy.
    pub fn connect(&self, socket: &Socket, peer: SocketAddr, timeout: Duration) -> io::Result<()> {
        socket.connect_timeout(&SockAddr::from(self.addr), timeout)?;
        socket.set_read_timeout(Some(STEP_TIMEOUT))?;
        socket.set_write_timeout(Some(STEP_TIMEOUT))?;
        self.negotiate(&mut &*socket, peer)?;
        // What follows has time-outs of its own.
        socket.set_write_timeout(None)
    }

    fn negotiate(&self, stream: &mut (impl Read + Write), peer: SocketAddr) -> io::Result<()> {
        let method = if self.login.is_some() { 2 } else { 0 };
        stream.write_all(&[VERSION, 1, method])?;
        match bytes::<2>(stream)? {
            [VERSION, chosen] if chosen == method => {}
            [VERSION, 255] if method == 0 => return refused("it wants a name and a password"),
            [VERSION, _] => return refused("it does not take a name and a password"),
            _ => return refused("it is no SOCKS5 proxy"),
        }
        if let Some((name, password)) = &self.login {
            // Both were measured when they were read.
            let mut login = vec![1, name.len() as u8];
            login.extend(name);
            login.push(password.len() as u8);
            login.extend(password);
            stream.write_all(&login)?;
            if bytes::<2>(stream)?[1] != 0 {
                return refused("wrong name or password");
            }
        }
        stream.write_all(&request(peer))?;
        let [version, code, _, family] = bytes::<4>(stream)?;
        if version != VERSION {
            return refused("it is no SOCKS5 proxy");
        }
        if code != 0 {
            return refused(reason(code));
        }
        // The address it dials from: of no interest, but it has to be read away.
        let len = match family {
            1 => 4,
            4 => 16,
            3 => usize::from(bytes::<1>(stream)?[0]),
            _ => return refused("its answer has an address of an unknown kind"),
        };
        let mut rest = [0; 255 + 2];
        stream.read_exact(&mut rest[..len + 2])
    }
}

fn request(peer: SocketAddr) -> Vec<u8> {
    let mut request = vec![VERSION, 1, 0];
    match peer {
        SocketAddr::V4(peer) => {
            request.push(1);
            request.extend(peer.ip().octets());
        }
        SocketAddr::V6(peer) => {
            request.push(4);
            request.extend(peer.ip().octets());
        }
    }
    request.extend(peer.port().to_be_bytes());
    request
}

fn bytes<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The code of an answer in words (RFC 1928, section 6).
fn reason(code: u8) -> &'static str {
    match code {
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "the way there is too long",
        7 => "it does not dial for others",
        8 => "it cannot reach this kind of address",
        _ => "it failed",
    }
}

fn refused<T>(why: &str) -> io::Result<T> {
    Err(io::Error::other(format!("the proxy: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both directions of a conversation that is written down beforehand.
    struct Script {
        says: io::Cursor<Vec<u8>>,
        heard: Vec<u8>,
    }

    impl Read for Script {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            self.says.read(to)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the proxy hears, or why it comes to nothing.
    fn play(proxy: &str, peer: &str, says: &[u8]) -> Result<Vec<u8>, String> {
        let mut script = Script { says: io::Cursor::new(says.to_vec()), heard: Vec::new() };
        let proxy = Proxy::parse(proxy).expect("a proxy");
        let peer = peer.parse().expect("an address");
        proxy.negotiate(&mut script, peer).map_err(|err| err.to_string())?;
        assert_eq!(script.says.position(), says.len() as u64, "something was left unread");
        Ok(script.heard)
    }

    #[test]
    fn without_and_with_a_password() {
        let heard = play("127.0.0.1:9", "1.2.3.4:258", b"\x05\0\x05\0\0\x01\x09\x09\x09\x09\0\0");
        assert_eq!(heard.unwrap(), b"\x05\x01\0\x05\x01\0\x01\x01\x02\x03\x04\x01\x02");
        let says = b"\x05\x02\x01\0\x05\0\0\x03\x02ab\0\0";
        let heard = play("socks5://a%3a:p%40w@127.0.0.1", "[::1]:80", says).unwrap();
        assert_eq!(heard[..3], *b"\x05\x01\x02");
        assert_eq!(heard[3..11], *b"\x01\x02a:\x03p@w");
        assert_eq!(heard[11..15], *b"\x05\x01\0\x04");
    }

    #[test]
    fn refusals_are_told_in_words() {
        let said = |says: &[u8]| play("127.0.0.1:9", "1.2.3.4:5", says).unwrap_err();
        assert_eq!(said(b"\x05\xff"), "the proxy: it wants a name and a password");
        assert_eq!(said(b"HTTP/1.1 400"), "the proxy: it is no SOCKS5 proxy");
        assert_eq!(said(b"\x05\0\x05\x05\0\x01"), "the proxy: connection refused");
        assert_eq!(
            said(b"\x05\0\x05\0\0\x07"),
            "the proxy: its answer has an address of an unknown kind"
        );
        assert!(said(b"\x05").contains("fill"), "cut short");
    }

    #[test]
    fn what_names_a_proxy() {
        let addr = |text: &str| Proxy::parse(text).map(|proxy| proxy.addr.to_string()).ok();
        assert_eq!(addr("127.0.0.1:9050").as_deref(), Some("127.0.0.1:9050"));
        assert_eq!(addr("SOCKS5H://127.0.0.1/").as_deref(), Some("127.0.0.1:1080"));
        assert_eq!(addr("socks5://u:p@[::1]:7").as_deref(), Some("[::1]:7"));
        assert_eq!(addr("http://127.0.0.1:8080"), None);
        assert_eq!(addr("socks5://:p@127.0.0.1:7"), None);
        assert_eq!(addr(""), None);
    }
}
