//! One announce or scrape over HTTP (BEP 3, 23, 48).
//!
//! ```text
//! GET /announce?info_hash=%12…&peer_id=-PM…&port=6881&uploaded=0&downloaded=0&left=9&compact=1…
//! ◄── 200, a bencoded dictionary; see `answer`
//! ```
//!
//! Redirects are followed by our own [`client`](crate::web::client), with the rules of `url`. Some
//! trackers say no with a status of 400 or 403 and the reason in a proper answer: so the body is
//! looked at before the status.
//!
//! Layer: hands. Runs on a call thread; owns nothing for longer than a call. The body is read up to a
//! limit and not beyond, whatever the headers announce.

use std::fmt::Write;
use std::io::Read;
use std::time::Instant;

use ureq::RequestBuilder;
use ureq::http::{StatusCode, Uri};
use ureq::typestate::WithoutBody;

use super::url;
use super::{Announce, Answer, Error, Event, Leash, Limits, Result, Scrape, answer};
use crate::dial::Dialler;
use crate::hash::Sha1;
use crate::percent;
use crate::web;
use crate::web::client::{Client, Failure};

/// The most bytes of an answer: 170,000 compact peers, a hundred times what anybody needs.
pub const BODY_MAX: usize = 1 << 20;

/// A client whose requests can be interrupted from outside.
pub fn client(dialler: &Dialler) -> Client {
    // A call is over with its answer: a kept connection may be closing when it is used again.
    Client::new(web::config(dialler.proxy.as_ref()).max_idle_connections(0), dialler)
}

pub fn announce(url: &Uri, announce: &Announce, limits: &Limits, leash: &Leash) -> Result<Answer> {
    let url = with_query(url, &announce_query(announce))?;
    let (status, body) = get(url, limits, leash)?;
    judge(status, answer::announce(&body))
}

/// BEP 48: where the last part of the path begins with `announce`, `scrape` takes its place.
pub fn scrape(url: &Uri, info_hash: Sha1, limits: &Limits, leash: &Leash) -> Result<Scrape> {
    let query = format!("info_hash={}", percent::encode(&info_hash.0));
    let url = with_query(&scrape_url(url)?, &query)?;
    let (status, body) = get(url, limits, leash)?;
    judge(status, answer::scrape(&body, info_hash))
}

fn announce_query(announce: &Announce) -> String {
    let mut query = format!(
        "info_hash={}&peer_id={}&port={}&uploaded={}&downloaded={}&left={}&compact=1&numwant={}&key={:08X}",
        percent::encode(&announce.info_hash.0),
        percent::encode(&announce.peer_id),
        announce.port,
        announce.uploaded,
        announce.downloaded,
        announce.left,
        announce.numwant,
        announce.key,
    );
    if announce.event != Event::None {
        let _ = write!(query, "&event={}", announce.event);
    }
    if let Some(id) = &announce.tracker_id {
        let _ = write!(query, "&trackerid={}", percent::encode(id));
    }
    query
}

/// Adds to the query that an announce URL may already have (a passkey, often).
fn with_query(url: &Uri, query: &str) -> Result<Uri> {
    let url = url.to_string();
    let joint = match url.split_once('?') {
        None => "?",
        Some((_, present)) if present.is_empty() || present.ends_with('&') => "",
        Some(_) => "&",
    };
    format!("{url}{joint}{query}").parse().map_err(|e| failed(format!("its URL: {e}")))
}

fn scrape_url(url: &Uri) -> Result<Uri> {
    let (scheme, host) = (url.scheme_str().unwrap_or("http"), url.authority());
    let page_at = url.path().rfind('/').map_or(0, |slash| slash + 1);
    let (folder, page) = url.path().split_at(page_at);
    let Some(rest) = page.strip_prefix("announce") else {
        return Err(failed("it cannot be scraped: its path does not end in /announce".to_owned()));
    };
    let query = url.query().map_or(String::new(), |query| format!("?{query}"));
    format!("{scheme}://{}{folder}scrape{rest}{query}", host.map_or("", |host| host.as_str()))
        .parse()
        .map_err(|e| failed(format!("its URL: {e}")))
}

/// The status and body of the page where the redirects end.
fn get(url: Uri, limits: &Limits, leash: &Leash) -> Result<(StatusCode, Vec<u8>)> {
    let deadline = Instant::now() + limits.whole;
    let explain = |e: ureq::Error| explain(e, limits, leash);
    let in_time = |request: RequestBuilder<WithoutBody>| {
        let left = deadline.saturating_duration_since(Instant::now());
        let config = request.config().timeout_global(Some(left));
        config.timeout_connect(Some(limits.connect)).timeout_resolve(Some(limits.connect)).build()
    };
    let found = leash.client.get(url, None, url::check_inside, &in_time);
    let mut response = found
        .map_err(|failure| match failure {
            Failure::Forbidden(why) => failed(why),
            Failure::Call(e) => explain(e),
        })?
        .response;
    let mut body = Vec::new();
    // One byte more than the limit tells that there is more.
    let mut reader = response.body_mut().as_reader().take(BODY_MAX as u64 + 1);
    reader.read_to_end(&mut body).map_err(|e| explain(e.into()))?;
    if BODY_MAX < body.len() {
        return Err(failed(format!("an answer of over {BODY_MAX} bytes, the limit")));
    }
    Ok((response.status(), body))
}

/// With a bad status only a refusal counts: its reason tells more than the status does.
fn judge<T>(status: StatusCode, answer: Result<T>) -> Result<T> {
    match answer {
        Err(Error::Refused { .. }) => answer,
        answer if status.is_success() => answer,
        _ => Err(failed(format!("HTTP status {}", status.as_u16()))),
    }
}

fn explain(error: ureq::Error, limits: &Limits, leash: &Leash) -> Error {
    if leash.is_cut() {
        return Error::Abandoned;
    }
    failed(web::explain(error, limits.connect, limits.whole))
}

fn failed(why: String) -> Error {
    Error::Failed(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn the_query_of_an_announce() {
        let mut announce = Announce {
            info_hash: Sha1(*b"\x00\x01 &=%+/aZ09-._~\xff\xfe\x7f\x80"),
            peer_id: *b"-PM0100-abcdefghijkl",
            port: 6881,
            uploaded: 1,
            downloaded: u64::MAX,
            left: 3,
            event: Event::None,
            numwant: 50,
            key: 0xab,
            tracker_id: None,
        };
        let expected = "info_hash=%00%01%20%26%3D%25%2B%2FaZ09-._~%FF%FE%7F%80\
            &peer_id=-PM0100-abcdefghijkl&port=6881&uploaded=1&downloaded=18446744073709551615\
            &left=3&compact=1&numwant=50&key=000000AB";
        assert_eq!(announce_query(&announce), expected);
        announce.event = Event::Paused;
        assert_eq!(announce_query(&announce), format!("{expected}&event=paused"));
        announce.event = Event::Started;
        announce.tracker_id = Some(b"a&b".to_vec());
        assert_eq!(announce_query(&announce), format!("{expected}&event=started&trackerid=a%26b"));
    }

    #[test]
    fn a_query_joins_the_one_that_is_there() {
        let check = |url: &str, expected: &str| {
            assert_eq!(with_query(&uri(url), "q=1").unwrap().to_string(), expected);
        };
        check("http://t/announce", "http://t/announce?q=1");
        check("http://t/announce?", "http://t/announce?q=1");
        check("http://t/announce?k=2", "http://t/announce?k=2&q=1");
        check("http://t/announce?k=2&", "http://t/announce?k=2&q=1");
        check("http://t", "http://t/?q=1");
        check("http://u:p@t?k", "http://u:p@t/?k&q=1");
    }

    #[test]
    fn where_a_scrape_goes() {
        let check = |url: &str, expected: Option<&str>| {
            let scrape = scrape_url(&uri(url)).ok().map(|url| url.to_string());
            assert_eq!(scrape.as_deref(), expected);
        };
        // The examples of BEP 48.
        check("http://t/announce", Some("http://t/scrape"));
        check("http://t/x/announce", Some("http://t/x/scrape"));
        check("http://t/announce.php", Some("http://t/scrape.php"));
        check("http://t/announce?x2%0644", Some("http://t/scrape?x2%0644"));
        check("http://t/a", None);
        check("http://t/x%064announce", None);
        check("http://t/announce?x=2/4", Some("http://t/scrape?x=2/4"));
    }
}
