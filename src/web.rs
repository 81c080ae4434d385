//! What all HTTP clients in here share: which addresses are used, where a redirect may lead, and how
//! a call is interrupted.
//!
//! A torrent's author picks the addresses of trackers and web seeds, and our machine sends the
//! requests: so an author could have us call services that only we can reach. Rules against that:
//! `http` and `https` only; no redirect from outside to the inside of this network, or from https to
//! http; and inside it only what the kind of address lets in: a tracker's page, a web seed without a
//! query. [`client`] keeps them by what it connects to.
//!
//! Layer: hands.

pub mod client;
mod transport;

use std::convert::Infallible;
use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use ureq::config::ConfigBuilder;
use ureq::http::Uri;
use ureq::typestate::AgentScope;

use crate::printable::clipped;
use crate::proxy::Proxy;
use crate::reach::{Reach, reach};

use client::Client;

/// How we introduce ourselves; some servers let only known clients in, and then know whom to add.
pub const USER_AGENT: &str = concat!("piecemeal/", env!("CARGO_PKG_VERSION"));

/// The most bytes of an answer's headers; proxies and cookies take a few KiB.
const HEADERS_MAX: usize = 64 * 1024;

/// One moves a server to https, one to another name; more than this is a loop.
pub const REDIRECTS_MAX: u32 = 5;

/// Names a file of certificates, as OpenSSL and curl have it.
#[cfg(feature = "tls")]
const CERTIFICATES: &str = "SSL_CERT_FILE";

/// How much of a strange URL is repeated to the user.
const SHOWN_MAX: usize = 120;

/// How much of an error from below is shown.
const WHY_MAX: usize = 200;

/// What every client has in common: the user's proxy, or else the environment's; redirects that we
/// follow ourselves.
pub fn config(proxy: Option<&Proxy>) -> ConfigBuilder<AgentScope> {
    let config = ureq::Agent::config_builder();
    let config = match proxy {
        Some(proxy) => config.proxy(Some(proxy.http())),
        None => config,
    };
    #[cfg(feature = "tls")]
    let config = match authorities() {
        Ok(Some(certificates)) => {
            let tls = ureq::tls::TlsConfig::builder().root_certs(certificates.into());
            config.tls_config(tls.build())
        }
        // What cannot be read was said when we began.
        _ => config,
    };
    config
        .user_agent(USER_AGENT)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_response_header_size(HEADERS_MAX)
}

/// The certificates of those whom the user trusts instead of Mozilla's list: a private authority.
#[cfg(feature = "tls")]
fn authorities() -> Result<Option<Vec<ureq::tls::Certificate<'static>>>, String> {
    let Some(path) = std::env::var_os(CERTIFICATES).filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let shown = clipped(&path.to_string_lossy(), SHOWN_MAX);
    let text = std::fs::read_to_string(&path)
        .map_err(|e| format!("{CERTIFICATES}: cannot read {shown}: {}", io_text(&e)))?;
    // RFC 7468; what is said between the certificates does not count.
    let parts = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    let bodies = parts.filter_map(|part| part.split("-----END").next());
    let found = bodies.map(|body| ureq::tls::Certificate::from_der(&base64(body)).to_owned());
    let found: Vec<_> = found.collect();
    if found.is_empty() {
        return Err(format!("{CERTIFICATES}: {shown} has no certificate (PEM)"));
    }
    Ok(Some(found))
}

/// What base64 stands for (RFC 4648); what is no letter of it is passed over.
#[cfg(feature = "tls")]
fn base64(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for letter in text.bytes() {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        (bits, count) = (bits << 6 | u32::from(six), count + 6);
        if 8 <= count {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// Whether the environment's proxy, if there is one, can be used: one that cannot would be passed by,
/// and with it whatever it is to hide. (Of no interest, if `proxy` is false.) The same of its
/// certificates.
pub fn check_environment(proxy: bool) -> Result<(), String> {
    #[cfg(feature = "tls")]
    authorities()?;
    if !proxy {
        return Ok(());
    }
    // As `ureq` looks for it.
    for name in ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"] {
        for name in [name.to_owned(), name.to_ascii_lowercase()] {
            let Some(proxy) = std::env::var_os(&name).filter(|proxy| !proxy.is_empty()) else {
                continue;
            };
            // Not its text: a password may be in it.
            return match proxy.to_str().map(ureq::Proxy::new) {
                Some(Ok(_)) => Ok(()),
                _ => Err(format!("{name}: expected http://HOST:PORT or socks5://HOST:PORT")),
            };
        }
    }
    Ok(())
}

/// The rules for any http(s) address.
pub fn check(uri: &Uri) -> Result<(), String> {
    match uri.scheme_str() {
        Some("https") if !cfg!(feature = "tls") => {
            return Err("this build has no TLS".to_owned());
        }
        Some("http" | "https") => {}
        _ => return Err("only http and https are followed".to_owned()),
    }
    let host = uri.host().unwrap_or_default();
    let port = uri.port().map(|port| port.as_u16());
    let has_port = uri.authority().is_some_and(|a| !a.as_str().ends_with(host));
    if port == Some(0) || (port.is_none() && has_port) {
        return Err("the port is not 1 to 65535".to_owned());
    }
    Ok(())
}

/// Whether a host is this machine, as far as its name tells.
pub fn is_loopback(host: &str) -> bool {
    let host = bare(host);
    match host.parse::<IpAddr>() {
        Ok(ip) => reach(ip) == Reach::Machine,
        Err(_) => {
            let name = host.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
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
pub fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Where a redirect leads, if it may. Whether it leads inside shows when the client gets there.
fn redirected(from: &Uri, location: &str) -> Result<Uri, String> {
    let scheme = from.scheme_str().unwrap_or("http");
    let host = from.authority().map_or("", |host| host.as_str());
    let location = escape_stray(location.trim());
    let location_scheme = location.split_once("://").map(|(scheme, _)| scheme);
    let absolute = if location_scheme.is_some_and(|s| !s.contains(['/', '?'])) {
        location.clone()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{host}{folder}/{location}")
    };
    let absolute = absolute.split('#').next().unwrap_or_default();
    let to: Uri = absolute.parse().map_err(|_| "it is no web address".to_owned())?;
    check(&to)?;
    if scheme == "https" && to.scheme_str() != Some("https") {
        return Err("not from https to http".to_owned());
    }
    Ok(to)
}

/// What went wrong with a call, in a few words; `connect` and `whole` are the times it was given.
pub fn explain(error: ureq::Error, connect: Duration, whole: Duration) -> String {
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect) => format!("no connection within {connect:?}"),
        ureq::Error::Timeout(ureq::Timeout::Resolve) => {
            format!("no address for its name within {connect:?}")
        }
        ureq::Error::Timeout(_) => format!("no whole answer within {whole:?}"),
        ureq::Error::HostNotFound => "no address for its name".to_owned(),
        ureq::Error::LargeResponseHeader(..) => {
            format!("headers of over {HEADERS_MAX} bytes, the limit")
        }
        ureq::Error::Io(e) => io_text(&e),
        e => tls_text(&e.to_string()),
    }
}

/// What a library says of TLS, without the names of its types.
fn tls_text(text: &str) -> String {
    let Some((_, why)) = text.split_once("invalid peer certificate: ") else {
        return clipped(text, WHY_MAX);
    };
    let why = match why {
        _ if why.starts_with("UnknownIssuer") => {
            "nobody whom we know has signed its certificate (SSL_CERT_FILE names others)"
        }
        _ if why.contains("CaUsedAsEndEntity") => "its certificate is an authority's own",
        _ if why.starts_with("NotValidForName") => "its certificate is for another name",
        _ if why.contains(['(', '{']) || !why.contains(' ') => "its certificate is not valid",
        _ => why,
    };
    clipped(why, WHY_MAX)
}

/// What a system's error is called here: as every message, in lower case, without its number.
pub fn io_text(e: &io::Error) -> String {
    match e.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset".to_owned(),
        ErrorKind::UnexpectedEof => "the connection ended in the middle of the answer".to_owned(),
        ErrorKind::NetworkUnreachable => "the network is unreachable".to_owned(),
        ErrorKind::HostUnreachable => "the host is unreachable".to_owned(),
        ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => {
            let text = e.to_string();
            // The standard library has no kind for this one.
            let lookup = text.strip_prefix("failed to lookup address information: ");
            let text = lookup.map_or(text.clone(), |why| format!("no address for its name: {why}"));
            tls_text(&text)
        }
    }
}

/// What a call is held by. Dropping it interrupts the call wherever that is possible; a name look-up
/// or a TCP connect in progress run into their own time-outs.
pub struct Hold {
    client: Client,
    /// `Some` until the drop.
    line: Option<Sender<Infallible>>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        // First the line, so that the call knows why its socket closes.
        self.line = None;
        self.client.shutdown();
    }
}

/// The call's end of it.
pub struct Leash {
    pub client: Client,
    line: Receiver<Infallible>,
}

impl Leash {
    /// Whether the caller has let go.
    pub fn is_cut(&self) -> bool {
        self.line.try_recv() == Err(TryRecvError::Disconnected)
    }
}

/// Two ends for a client: who keeps the first can interrupt what is done with the second.
pub fn leash(client: Client) -> (Hold, Leash) {
    // Never carries anything: only its end is of interest.
    let (sender, line) = bounded(1);
    (Hold { client: client.clone(), line: Some(sender) }, Leash { client, line })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn passkeys_are_not_shown() {
        assert_eq!(place("https://u:p@t.example:8/key/announce?k=1"), "https://t.example:8");
        assert_eq!(place("udp://t.example:80?k=1"), "udp://t.example:80");
        assert_eq!(place("\x1b[31m"), "\\u{1b}[31m");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn base64_is_read_whatever_the_lines() {
        for (text, bytes) in [("Zg==", &b"f"[..]), ("Zm8=", b"fo"), ("Zm\r\n9v\n", b"foo")] {
            assert_eq!(base64(text), bytes);
        }
        assert_eq!(base64("+/+/"), [0xfb, 0xff, 0xbf]);
    }

    #[test]
    fn tls_is_explained_without_the_names_of_types() {
        for (text, said) in [
            ("invalid peer certificate: UnknownIssuer", "nobody whom we know has signed"),
            ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", "authority's own"),
            ("io: invalid peer certificate: Other(OtherError(X { y: 1 }))", "is not valid"),
            ("invalid peer certificate: BadEncoding", "is not valid"),
            ("invalid peer certificate: certificate expired: yesterday", "expired: yesterday"),
            ("received fatal alert: HandshakeFailure", "received fatal alert: HandshakeFailure"),
        ] {
            let shown = tls_text(text);
            assert!(shown.contains(said), "{shown}");
        }
    }

    #[test]
    fn where_redirects_lead() {
        let lead = |from: &str, location: &str, expected: std::result::Result<&str, &str>| match (
            redirected(&uri(from), location),
            expected,
        ) {
            (Ok(to), Ok(expected)) => assert_eq!(to.to_string(), expected),
            (Err(e), Err(expected)) => {
                assert!(e.contains(expected), "{location}: {e}");
            }
            (got, _) => panic!("{from} to {location}: {got:?}"),
        };
        let from = "http://192.0.2.1/x/announce?k=1";
        lead(from, "http://192.0.2.2/a", Ok("http://192.0.2.2/a"));
        lead(from, "/a?b#c", Ok("http://192.0.2.1/a?b"));
        lead(from, "a?u=http://z", Ok("http://192.0.2.1/x/a?u=http://z"));
        lead(from, "//192.0.2.3/a", Ok("http://192.0.2.3/a"));
        lead(from, "file:///etc/passwd", Err("no web address"));
        lead(from, "udp://192.0.2.2:80/announce", Err("only http and https"));
        lead("https://192.0.2.1/announce", "http://192.0.2.1/announce", Err("https to http"));
        lead(from, "http://[", Err("no web address"));
        lead(from, "\x1b[2J", Ok("http://192.0.2.1/x/%1B[2J"));
    }
}
