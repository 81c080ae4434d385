//! Bencode explained: torrents (BEP 3), answers of trackers, packets of the DHT (BEP 5), and what
//! extensions say (BEP 9, 10, 11).
//!
//! ```text
//! d 8:announce 35:http://… 4:info d … e e       a line a value: its bytes, and under its key what it is
//! ```
//!
//! What a key means depends on where it is: each [`KEYS`] row says for which kinds of input it holds.
//!
//! Layer: values.

use super::{Error, Kind, Page, Result, hex, quoted};
use crate::bencode::{self, DEPTH_MAX, Dict, Value};

/// Where a key has a meaning.
const TORRENT: u8 = 1;
const TRACKER: u8 = 2;
const KRPC: u8 = 4;
pub const HANDSHAKE: u8 = 8;
pub const MESSAGE: u8 = 16;
/// In the `a` or `r` of a packet of the DHT.
const ARGS: u8 = 32;

/// How a value is shown.
#[derive(Clone, Copy, PartialEq)]
enum As {
    /// A number, or text, or hexadecimal digits.
    Plain,
    /// So many hashes of 20 bytes.
    Hashes,
    /// Addresses, with an IP of so many bytes.
    Peers(usize),
    /// The same with 20 bytes of node id before each.
    Nodes(usize),
    Ip,
}
use As::{Hashes, Ip, Nodes, Peers, Plain};

const BENCODING: &str = "BEP 3, bencoding";
const B3: &str = "BEP 3, metainfo files";
const INFO: &str = "BEP 3, info dictionary";
const ANSWER: &str = "BEP 3, trackers";
const COMPACT: &str = "BEP 23, compact peer lists";
const DHT: &str = "BEP 5, KRPC protocol";
const ADDR: &str = "BEP 5, contact encoding";
const B10: &str = "BEP 10, handshake message";
const B9: &str = "BEP 9, extension message";
const B11: &str = "BEP 11, peer exchange";
const V2: &str = "BEP 52, BitTorrent v2";
const BLOOM: &str = "BEP 33, DHT scrapes";
const STORE: &str = "BEP 44, storing arbitrary data";
const SAMPLE: &str = "BEP 51, infohash indexing";
/// What trackers and clients agree on without a BEP.
const NO_BEP: &str = "in no BEP";

#[rustfmt::skip]
const KEYS: &[(u8, &str, As, &str, &str)] = &[
    (TORRENT, "announce", Plain, "the tracker", B3),
    (TORRENT, "announce-list", Plain, "tiers of trackers", "BEP 12"),
    (TORRENT, "info", Plain, "what is in the torrent; the SHA-1 of these bytes is the info hash", INFO),
    (TORRENT, "name", Plain, "the file's name, or the folder's", INFO),
    (TORRENT, "piece length", Plain, "bytes in every piece but the last", INFO),
    (TORRENT, "pieces", Hashes, "the SHA-1 of each piece, 20 bytes each", INFO),
    (TORRENT, "length", Plain, "the file's bytes", INFO),
    (TORRENT, "files", Plain, "the files, one after the other in the pieces", INFO),
    (TORRENT, "path", Plain, "folders and the file's name", INFO),
    (TORRENT, "private", Plain, "1: peers from the trackers only", "BEP 27"),
    (TORRENT, "attr", Plain, "p padding, x executable, h hidden, l symlink", "BEP 47"),
    (TORRENT, "symlink path", Plain, "where the link leads", "BEP 47"),
    (TORRENT, "url-list", Plain, "web seeds", "BEP 19"),
    (TORRENT, "httpseeds", Plain, "web seeds of another kind", "BEP 17"),
    (TORRENT, "nodes", Plain, "DHT nodes to begin with", "BEP 5, torrent file extensions"),
    (TORRENT, "comment", Plain, "a comment", NO_BEP),
    (TORRENT, "created by", Plain, "the program that made it", NO_BEP),
    (TORRENT, "creation date", Plain, "seconds since 1970", NO_BEP),
    (TORRENT, "source", Plain, "makes the info hash another one", NO_BEP),
    (TORRENT, "meta version", Plain, "2: there is a v2 part", V2),
    (TORRENT, "file tree", Plain, "the files of the v2 part", V2),
    (TORRENT, "pieces root", Plain, "root of the file's hash tree", V2),
    (TORRENT, "", Plain, "what is above is a file: its length, its hashes", V2),
    (TORRENT, "piece layers", Plain, "hashes of the pieces of each file", V2),
    (TORRENT, "sha1", Plain, "the SHA-1 of the file", "BEP 47"),
    (TORRENT, "similar", Plain, "info hashes of torrents that share files", "BEP 38"),
    (TORRENT, "collections", Plain, "torrents of the same name may share files", "BEP 38"),
    (TORRENT, "update-url", Plain, "where a newer torrent is", "BEP 39"),
    (TORRENT, "originator", Plain, "the certificate of who signs updates", "BEP 39"),
    (TORRENT, "encoding", Plain, "how texts are encoded; UTF-8 by BEP 3", NO_BEP),
    (TORRENT, "md5sum", Plain, "the MD5 of the file", NO_BEP),
    (TRACKER, "interval", Plain, "seconds until the next announce", ANSWER),
    (TRACKER, "min interval", Plain, "never announce sooner than after these seconds", NO_BEP),
    (TRACKER, "complete", Plain, "seeds", "BEP 48, scrape; of an announce in no BEP"),
    (TRACKER, "incomplete", Plain, "peers that lack something", "BEP 48, scrape; of an announce in no BEP"),
    (TRACKER, "downloaded", Plain, "how often it was downloaded to the end", "BEP 48, scrape"),
    (TRACKER, "files", Plain, "the torrents asked for, by info hash", "BEP 48, scrape"),
    (TRACKER, "peers", Peers(4), "who has it", COMPACT),
    (TRACKER, "peers6", Peers(16), "who has it, over IPv6", "BEP 7, IPv6 tracker extension"),
    (TRACKER, "peer id", Plain, "what the peer calls itself", ANSWER),
    (TRACKER, "ip", Plain, "the peer's address", ANSWER),
    (TRACKER, "port", Plain, "where the peer listens", ANSWER),
    (TRACKER, "failure reason", Plain, "no, and why", ANSWER),
    (TRACKER, "warning message", Plain, "yes, but", NO_BEP),
    (TRACKER, "tracker id", Plain, "to be sent back with the next announce", NO_BEP),
    (TRACKER, "retry in", Plain, "minutes, or never", "BEP 31, failure retry"),
    (TRACKER, "external ip", Ip, "how the tracker sees us", "BEP 24"),
    (KRPC, "t", Plain, "transaction id, which the answer repeats", DHT),
    (KRPC, "y", Plain, "q a query, r a response, e an error", DHT),
    (KRPC, "q", Plain, "what is asked: ping, find_node, get_peers, announce_peer; BEP 44: get, put; BEP 51: sample_infohashes", DHT),
    (KRPC, "a", Plain, "the arguments of the query", DHT),
    (KRPC, "r", Plain, "the response", DHT),
    (KRPC, "e", Plain, "error: 201 generic, 202 server, 203 protocol, 204 unknown method, 205 and up: BEP 44; a text", DHT),
    (KRPC, "v", Plain, "the client and its version", DHT),
    (ARGS, "id", Plain, "the node that says this", DHT),
    (ARGS, "target", Plain, "the id that is looked for", DHT),
    (ARGS, "info_hash", Plain, "the torrent", DHT),
    (ARGS, "token", Plain, "to be shown with announce_peer", DHT),
    (ARGS, "port", Plain, "where the peer listens", DHT),
    (ARGS, "implied_port", Plain, "1: at the port this packet comes from", DHT),
    (ARGS, "nodes", Nodes(4), "the nodes nearest to it that it knows", ADDR),
    (ARGS, "nodes6", Nodes(16), "the nodes nearest to it, over IPv6", "BEP 32"),
    (ARGS, "values", Plain, "peers of the torrent", ADDR),
    (ARGS, "want", Plain, "n4, n6: nodes of which family", "BEP 32"),
    (KRPC, "ro", Plain, "1: do not put me into your table", "BEP 43"),
    (KRPC, "ip", Peers(4), "how the node sees the asker", "BEP 42"),
    (ARGS, "scrape", Plain, "1: tell how many have it, too", BLOOM),
    (ARGS, "noseed", Plain, "1: no seeds among the peers", BLOOM),
    (ARGS, "seed", Plain, "1: it announces a seed", BLOOM),
    (ARGS, "BFsd", Plain, "Bloom filter of the seeds' addresses, 256 bytes", BLOOM),
    (ARGS, "BFpe", Plain, "Bloom filter of the other peers' addresses, 256 bytes", BLOOM),
    (ARGS, "v", Plain, "the value that is stored", STORE),
    (ARGS, "k", Plain, "the public key of who may change the value, 32 bytes", STORE),
    (ARGS, "salt", Plain, "tells several values of one key apart", STORE),
    (ARGS, "seq", Plain, "the version of the value; only a higher one replaces it", STORE),
    (ARGS, "cas", Plain, "replace the value only if this is its version", STORE),
    (ARGS, "sig", Plain, "the signature of the value, 64 bytes", STORE),
    (ARGS, "samples", Hashes, "info hashes that the node has peers of", SAMPLE),
    (ARGS, "num", Plain, "of so many info hashes that it has", SAMPLE),
    (ARGS, "interval", Plain, "seconds until the node has other samples", SAMPLE),
    (HANDSHAKE, "m", Plain, "extensions, and under which id to send each; 0 switches it off", B10),
    (HANDSHAKE, "v", Plain, "the client and its version", B10),
    (HANDSHAKE, "p", Plain, "the port it listens at", B10),
    (HANDSHAKE, "reqq", Plain, "requests that it takes at a time", B10),
    (HANDSHAKE, "yourip", Ip, "how it sees you", B10),
    (HANDSHAKE, "ipv4", Ip, "its IPv4 address", B10),
    (HANDSHAKE, "ipv6", Ip, "its IPv6 address", B10),
    (HANDSHAKE, "metadata_size", Plain, "bytes of the info dictionary", "BEP 9, extension header"),
    (HANDSHAKE, "upload_only", Plain, "1: it fetches nothing", "BEP 21"),
    (HANDSHAKE, "ut_metadata", Plain, "the info dictionary, for magnet links", "BEP 9, extension header"),
    (HANDSHAKE, "ut_pex", Plain, "peers tell each other of peers", B11),
    (HANDSHAKE, "lt_donthave", Plain, "a piece is not there any more", "BEP 54"),
    (HANDSHAKE, "ut_holepunch", Plain, "a third peer helps two behind routers", "BEP 55"),
    (HANDSHAKE, "share_mode", Plain, "it wants to give more than it takes", NO_BEP),
    (MESSAGE, "msg_type", Plain, "0 request, 1 data, 2 reject", B9),
    (MESSAGE, "piece", Plain, "which 16 KiB of the info dictionary", B9),
    (MESSAGE, "total_size", Plain, "bytes of all of it", B9),
    (MESSAGE, "added", Peers(4), "peers it is connected to", B11),
    (MESSAGE, "added.f", Plain, "a byte of flags for each of added", B11),
    (MESSAGE, "added6", Peers(16), "peers it is connected to, over IPv6", B11),
    (MESSAGE, "added6.f", Plain, "a byte of flags for each of added6", B11),
    (MESSAGE, "dropped", Peers(4), "peers it is not connected to any more", B11),
    (MESSAGE, "dropped6", Peers(16), "the same over IPv6", B11),
];

/// What a dictionary is, by its keys.
pub fn guess(input: &[u8]) -> Kind {
    let Ok((document, _)) = bencode::decode_prefix(input) else { return Kind::Bencode };
    let Some(root) = document.root().dict() else { return Kind::Bencode };
    let has = |keys: &[&str]| keys.iter().any(|key| root.get(key).is_some());
    match () {
        () if has(&["y"]) && has(&["q", "r", "e"]) => Kind::Krpc,
        () if has(&["info", "announce"]) => Kind::Bencode,
        () if has(&["peers", "peers6", "interval", "failure reason", "files"]) => Kind::Tracker,
        () => Kind::Bencode,
    }
}

pub fn explain(page: &mut Page, kind: Kind) -> Result {
    if page.input.starts_with(b"HTTP/1.") {
        http_head(page)?;
    }
    let context = match kind {
        Kind::Tracker => TRACKER,
        Kind::Krpc => KRPC,
        _ if is_extended_handshake(page.rest()) => HANDSHAKE,
        _ => TORRENT,
    };
    let len = value(page, context)?;
    page.at += len;
    let extra = page.left();
    if extra != 0 && page.rest().trim_ascii().is_empty() {
        page.line(page.at, extra, "white space", "ignored".to_owned(), "");
    } else if extra != 0 {
        return page.fail(leftover(page.rest()));
    }
    Ok(())
}

/// What is said of bytes behind the value.
pub fn leftover(rest: &[u8]) -> String {
    let text = quoted(rest);
    format!("the value ends here, and {} more bytes follow: {text}", rest.len())
}

fn is_extended_handshake(input: &[u8]) -> bool {
    let document = bencode::decode_prefix(input);
    let root = document.as_ref().ok().and_then(|(document, _)| document.root().dict());
    root.is_some_and(|root| root.dict("m").is_some() && root.get("info").is_none())
}

/// The lines of an HTTP answer before its body.
fn http_head(page: &mut Page) -> Result {
    while page.left() != 0 {
        let (at, rest) = (page.at, page.rest());
        let len = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |end| end + 1);
        let line = rest[..len].trim_ascii();
        page.at += len;
        let name = match at {
            _ if line.is_empty() => return Ok(()),
            0 => "status",
            _ => "header",
        };
        page.line(at, len, name, quoted(line), "RFC 9112");
    }
    Ok(())
}

/// The value at the front of what is left: its lines; how long it is. Nothing is read by it.
pub fn value(page: &mut Page, context: u8) -> Result<usize> {
    let (input, base) = (page.rest(), page.at);
    let (document, len) = bencode::decode_prefix(input)
        .map_err(|err| Error { at: base + err.at, what: err.rule.to_string() })?;
    let walk = Walk { base, context };
    walk.value(page, "value", document.root(), None);
    Ok(len)
}

struct Walk {
    /// Where the value begins in the input.
    base: usize,
    context: u8,
}

impl Walk {
    /// A value and what is in it. It calls itself at most as deep as the decoder lets values nest.
    fn value(&self, page: &mut Page, name: &str, value: Value, key: Option<&[u8]>) {
        assert!(page.depth <= 2 * DEPTH_MAX, "the decoder refuses what is deeper");
        let known = key.and_then(|key| {
            KEYS.iter().find(|row| row.0 & self.context != 0 && row.1.as_bytes() == key)
        });
        let &(_, _, show, meaning, rule) = known.unwrap_or(&(0, "", Plain, "", BENCODING));
        let mut text = match value.kind() {
            bencode::Kind::Int(int) => int.to_string(),
            bencode::Kind::Bytes(bytes) => bytes_text(bytes, show),
            bencode::Kind::List(list) => format!("list of {}", list.iter().count()),
            bencode::Kind::Dict(dict) => dict_text(dict),
        };
        if !meaning.is_empty() {
            text = format!("{text}; {meaning}");
        }
        let (at, raw) = (self.base + value.at(), value.raw());
        page.line(at, raw.len(), name, text, rule);
        page.depth += 1;
        match value.kind() {
            bencode::Kind::Bytes(bytes) => {
                self.parts(page, at + raw.len(), bytes, (show, rule), key)
            }
            bencode::Kind::List(list) => {
                for (i, item) in list.iter().enumerate() {
                    // What is in a list means what the list means, but for lists of dictionaries.
                    self.value(page, &i.to_string(), item, key.filter(|key| *key == b"values"));
                }
            }
            bencode::Kind::Dict(dict) => {
                let context = match key {
                    Some(b"a" | b"r") if self.context == KRPC => ARGS,
                    _ => self.context,
                };
                for (key, item) in dict.iter() {
                    let name = quoted(key);
                    let name = if key.is_empty() { &name } else { name.trim_matches('"') };
                    Walk { context, ..*self }.value(page, name, item, Some(key));
                }
            }
            bencode::Kind::Int(_) => {}
        }
        page.depth -= 1;
    }

    /// The addresses in a string that ends at `end`.
    fn parts(
        &self,
        page: &mut Page,
        end: usize,
        bytes: &[u8],
        (show, rule): (As, &'static str),
        key: Option<&[u8]>,
    ) {
        let at = end - bytes.len();
        match (show, bytes.len()) {
            (Peers(ip_len), _) => page.compact(bytes, at, ip_len, rule),
            (_, 6) if key == Some(b"values") => page.compact(bytes, at, 4, ADDR),
            (_, 18) if key == Some(b"values") => page.compact(bytes, at, 16, ADDR),
            (Nodes(ip_len), _) => {
                for (i, node) in bytes.chunks(20 + ip_len + 2).enumerate() {
                    let contact = node.get(20..).and_then(|c| super::address(c, ip_len));
                    let id = hex(&node[..node.len().min(20)], 20);
                    let meaning = format!("{} {id}", contact.as_deref().unwrap_or("cut short,"));
                    page.line(at + i * (22 + ip_len), node.len(), "node", meaning, ADDR);
                }
            }
            _ => {}
        }
    }
}

fn bytes_text(bytes: &[u8], show: As) -> String {
    let len = bytes.len();
    match show {
        Hashes if len.is_multiple_of(20) => format!("{} hashes", len / 20),
        Hashes => format!("{len} bytes, no multiple of 20"),
        Peers(ip) => format!("{} addresses", len / (ip + 2)),
        Nodes(ip) => format!("{} nodes", len / (ip + 22)),
        Ip => match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
            (Ok(v4), _) => std::net::Ipv4Addr::from(v4).to_string(),
            (_, Ok(v6)) => std::net::Ipv6Addr::from(v6).to_string(),
            _ => quoted(bytes),
        },
        Plain => quoted(bytes),
    }
}

fn dict_text(dict: Dict) -> String {
    let (mut count, mut last, mut sorted) = (0, None, true);
    for (key, _) in dict.iter() {
        sorted &= last < Some(key);
        (count, last) = (count + 1, Some(key));
    }
    let note = if sorted { "" } else { ", its keys not in order, or one twice (BEP 3: sorted)" };
    format!("dictionary of {count}{note}")
}
