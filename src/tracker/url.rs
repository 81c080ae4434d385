//! Announce URLs: which ones we use, and how they are written.
//!
//! A torrent's author picks the URLs, and our machine sends the requests: so an author could have us
//! call services that only we can reach. Rules against that: `http`, `https` and `udp` only; inside
//! this network only a path that looks like a tracker's; and no redirect from outside to the inside.
//!
//! Layer: hands, but pure.

use ureq::http::Uri;

use super::{Error, Result};
use crate::printable::clipped;
use crate::web::{self, bare, escape_stray};

pub use crate::web::place;

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
                web::check(&uri).map_err(|why| unusable(&why))?;
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

/// What may be asked for inside this network. A tracker's page is called `announce` by custom; a
/// router's or a database's is not.
pub fn check_inside(uri: &Uri) -> std::result::Result<(), String> {
    let page = uri.path().rsplit('/').next().unwrap_or_default();
    if page.starts_with("announce") || page.starts_with("scrape") {
        return Ok(());
    }
    Err("a tracker inside this network must have a path that ends in /announce".to_owned())
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
            (&long, "longer than 4096"),
        ] {
            let error = Target::parse(url).expect_err(url).to_string();
            assert!(error.contains(why), "{url}: {error}");
        }
    }

    #[test]
    fn pages_of_trackers() {
        for (page, is_fine) in [
            ("announce", true),
            ("key/announce.php?k=1", true),
            ("scrape?info_hash=x", true),
            ("", false),
            ("admin?stop=/announce", false),
            ("announce/admin", false),
        ] {
            let uri = format!("http://10.0.0.1/{page}").parse().unwrap();
            assert_eq!(check_inside(&uri).is_ok(), is_fine, "{page}");
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
}
