//! KRPC: the messages of the DHT (BEP 5; IPv6: BEP 32; scrape: BEP 33; addresses: BEP 42; read-only:
//! BEP 43). One bencoded dictionary is one UDP packet.
//!
//! ```text
//! every message  t: what ties an answer to its question    y: "q", "r" or "e"    v: the client
//! question  "q"  q: method       a: { id, … }              ro: 1 if the asker answers nobody
//! answer    "r"  r: { id, … }                              ip: the asker's address as we see it
//! error     "e"  e: [201 generic | 202 server | 203 protocol | 204 method unknown, text]
//!
//! ping           a: id                                     r: id
//! find_node      a: id, target, want                       r: id, nodes, nodes6
//! get_peers      a: id, info_hash, want, scrape            r: id, token, nodes, nodes6, values,
//!                                                             BFsd, BFpe
//! announce_peer  a: id, info_hash, port, implied_port,     r: id
//!                   token, seed
//!
//! nodes   | id: 20 | IPv4: 4  | port: 2 |*        values  [ | IPv4: 4 or IPv6: 16 | port: 2 |, … ]
//! nodes6  | id: 20 | IPv6: 16 | port: 2 |*        want    [ "n4", "n6" ]
//! ```
//!
//! Layer: values. Knows no sockets and no time; nothing it returns is longer than the packet was.

mod encode;
mod explained;
mod id;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::bencode::{self, Dict, Value};
use crate::hash::Sha1;
use crate::printable::clipped;
use crate::reach::can_be_dialled;

pub use encode::write_nodes;
pub use id::{Distance, NodeId};

/// The longest packet that is looked at: what fits an Ethernet frame. Longer ones would come in
/// fragments, and no honest node sends them.
pub const PACKET_LEN_MAX: usize = 1500;

/// The longest `t` that we repeat. Clients use 2 to 8 bytes; a long one would only make our answers
/// longer.
pub const TRANSACTION_LEN_MAX: usize = 20;

/// The longest token that we keep and send back. Clients make 4 to 20 bytes.
pub const TOKEN_LEN_MAX: usize = 64;

/// Nodes taken from one list: twice what BEP 5 asks for.
pub const NODES_MAX: usize = 16;

/// A bloom filter of BEP 33: its bytes.
pub const FILTER_LEN: usize = 256;

/// Our own `v`: two letters and a version (BEP 20's letters).
pub const VERSION: &[u8; 4] = b"PM\x01\x00";

/// A node, as others name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Contact {
    pub id: NodeId,
    pub addr: SocketAddr,
}

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `t`: chosen by the asker, repeated by who answers; at most [`TRANSACTION_LEN_MAX`] bytes.
    pub transaction: Vec<u8>,
    /// `ip`: the receiver's address as the sender sees it (BEP 42).
    pub ip: Option<SocketAddr>,
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Query(Query),
    Answer(Answer),
    Error { code: i64, text: String },
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The asker's id.
    pub id: NodeId,
    /// The asker answers nobody, and belongs in nobody's table (BEP 43).
    pub read_only: bool,
    pub ask: Ask,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    Ping,
    FindNode {
        target: NodeId,
        want: Want,
    },
    GetPeers {
        info_hash: Sha1,
        want: Want,
        /// How many are there? (BEP 33)
        scrape: bool,
    },
    AnnouncePeer {
        info_hash: Sha1,
        /// Where peers can dial the asker. Not looked at with `implied_port`.
        port: u16,
        /// The port that the packet came from is the one: it is right behind a NAT too.
        implied_port: bool,
        token: Vec<u8>,
        /// The asker has everything (BEP 33).
        seed: bool,
    },
    /// A method that is not of BEP 5. With a target it can be answered like `find_node`.
    Unknown {
        target: Option<NodeId>,
    },
}

/// Which lists of nodes the asker would like (BEP 32). Neither: that of the packet's own family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Want {
    pub v4: bool,
    pub v6: bool,
}

/// An answer: which of these there are depends on the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Who answers.
    pub id: NodeId,
    /// `nodes` and `nodes6`, at most [`NODES_MAX`] of each.
    pub nodes: Vec<Contact>,
    /// Which of the two are written though they be empty: those that were asked for (BEP 32).
    pub lists: Want,
    /// `values`: peers of the torrent.
    pub peers: Vec<SocketAddr>,
    /// The right to announce to this node.
    pub token: Option<Vec<u8>>,
    /// `BFsd` and `BFpe`: the seeds and the other peers that it knows of, counted (BEP 33).
    pub filters: Option<Box<[[u8; FILTER_LEN]; 2]>>,
}

impl Answer {
    /// Nothing but who answers.
    pub fn of(id: NodeId) -> Answer {
        let (nodes, lists, peers) = Default::default();
        Answer { id, nodes, lists, peers, token: None, filters: None }
    }
}

impl Ask {
    /// The method's name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Ask::Ping => "ping",
            Ask::FindNode { .. } => "find_node",
            Ask::GetPeers { .. } => "get_peers",
            Ask::AnnouncePeer { .. } => "announce_peer",
            Ask::Unknown { .. } => "an unknown method",
        }
    }
}

/// Why a packet is no message of the DHT, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    TooLong(usize),
    Bencode(bencode::Error),
    /// The value that breaks the rule begins at this byte.
    Rule {
        at: usize,
        rule: &'static str,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::TooLong(len) => write!(f, "{len} bytes, the limit is {PACKET_LEN_MAX}"),
            Error::Bencode(err) => write!(f, "{err}"),
            Error::Rule { at, rule } => write!(f, "at byte {at}: {rule}"),
        }
    }
}

impl std::error::Error for Error {}

impl Message {
    /// Reads one packet. What is optional and makes no sense is left out; what a message cannot be
    /// understood without is an error.
    pub fn decode(packet: &[u8]) -> Result<Message, Error> {
        if PACKET_LEN_MAX < packet.len() {
            return Err(Error::TooLong(packet.len()));
        }
        // Some clients send bytes after the dictionary.
        let (document, _) = bencode::decode_prefix(packet).map_err(Error::Bencode)?;
        let root = document.root().dict().ok_or(rule(0, "a message is a dictionary (BEP 5)"))?;
        let t = root.get("t").ok_or(rule(0, "a message has a transaction id, t (BEP 5)"))?;
        let transaction = match t.bytes() {
            Some(bytes) if (1..=TRANSACTION_LEN_MAX).contains(&bytes.len()) => bytes.to_vec(),
            _ => return Err(rule(t.at(), "the transaction id is 1 to 20 bytes")),
        };
        let body = match root.bytes("y") {
            Some(b"q") => Body::Query(query(root)?),
            Some(b"r") => Body::Answer(answer(root)?),
            Some(b"e") => error(root),
            _ => return Err(rule(0, "y says what a message is: q, r or e (BEP 5)")),
        };
        let ip = root.bytes("ip").and_then(compact_addr);
        Ok(Message { transaction, ip, body })
    }
}

fn rule(at: usize, rule: &'static str) -> Error {
    Error::Rule { at, rule }
}

/// The transaction id of a question that breaks a rule, and the rule: its asker can be told so.
pub fn broken_question(packet: &[u8]) -> Option<(Vec<u8>, &'static str)> {
    let Err(Error::Rule { rule, .. }) = Message::decode(packet) else { return None };
    let (document, _) = bencode::decode_prefix(packet).ok()?;
    let root = document.root().dict().filter(|root| root.bytes("y") == Some(b"q"))?;
    let fits = |t: &&[u8]| (1..=TRANSACTION_LEN_MAX).contains(&t.len());
    Some((root.bytes("t").filter(fits)?.to_vec(), rule))
}

fn query(root: Dict) -> Result<Query, Error> {
    let a = root.dict("a").ok_or(rule(0, "a question has arguments, a (BEP 5)"))?;
    let id = needed_id(a, "id")?;
    let flag = |dict: Dict, key: &str| dict.int(key).is_some_and(|flag| flag != 0);
    let ask = match root.bytes("q") {
        Some(b"ping") => Ask::Ping,
        Some(b"find_node") => Ask::FindNode { target: needed_id(a, "target")?, want: want(a) },
        Some(b"get_peers") => Ask::GetPeers {
            info_hash: Sha1(needed_id(a, "info_hash")?.0),
            want: want(a),
            scrape: flag(a, "scrape"),
        },
        Some(b"announce_peer") => Ask::AnnouncePeer {
            info_hash: Sha1(needed_id(a, "info_hash")?.0),
            port: a.int("port").and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
            implied_port: flag(a, "implied_port"),
            token: token(a).ok_or(rule(0, "announce_peer has a token of 1 to 64 bytes (BEP 5)"))?,
            seed: flag(a, "seed"),
        },
        Some(_) => Ask::Unknown { target: an_id(a, "target").or_else(|| an_id(a, "info_hash")) },
        None => return Err(rule(0, "a question has a method, q (BEP 5)")),
    };
    Ok(Query { id, read_only: flag(root, "ro"), ask })
}

fn answer(root: Dict) -> Result<Answer, Error> {
    let r = root.dict("r").ok_or(rule(0, "an answer has values, r (BEP 5)"))?;
    let mut nodes = Vec::new();
    take_nodes(r.get("nodes"), false, &mut nodes)?;
    take_nodes(r.get("nodes6"), true, &mut nodes)?;
    // A packet has no room for more than some two hundred.
    let values = r.list("values");
    let peers = values.map_or(Vec::new(), |list| {
        list.iter().filter_map(|value| compact_addr(value.bytes()?)).collect()
    });
    let filter = |key: &str| <[u8; FILTER_LEN]>::try_from(r.bytes(key)?).ok();
    let filters = filter("BFsd").zip(filter("BFpe"));
    let filters = filters.map(|(seeds, peers)| Box::new([seeds, peers]));
    let lists = Want::default();
    Ok(Answer { id: needed_id(r, "id")?, nodes, lists, peers, token: token(r), filters })
}

/// An error is a list, a number and a text; both are only shown.
fn error(root: Dict) -> Body {
    let mut list = root.list("e").into_iter().flat_map(|list| list.iter());
    let code = list.next().and_then(Value::int).unwrap_or(0);
    let text = list.next().and_then(Value::bytes).unwrap_or_default();
    Body::Error { code, text: clipped(&String::from_utf8_lossy(text), 80) }
}

fn an_id(dict: Dict, key: &str) -> Option<NodeId> {
    dict.bytes(key)?.try_into().ok().map(NodeId)
}

fn needed_id(dict: Dict, key: &str) -> Result<NodeId, Error> {
    let at = dict.get(key).map_or(0, Value::at);
    let what = match key {
        "id" => "an id is 20 bytes (BEP 5)",
        "target" => "a target is 20 bytes (BEP 5)",
        _ => "an info hash is 20 bytes (BEP 5)",
    };
    an_id(dict, key).ok_or(rule(at, what))
}

fn token(dict: Dict) -> Option<Vec<u8>> {
    let fits = |token: &&[u8]| (1..=TOKEN_LEN_MAX).contains(&token.len());
    dict.bytes("token").filter(fits).map(<[u8]>::to_vec)
}

fn want(a: Dict) -> Want {
    let mut want = Want::default();
    for family in a.list("want").into_iter().flat_map(|list| list.iter()) {
        want.v4 |= family.bytes() == Some(b"n4");
        want.v6 |= family.bytes() == Some(b"n6");
    }
    want
}

/// Takes a list of nodes. One without a port cannot be asked, and is left out.
fn take_nodes(list: Option<Value>, v6: bool, out: &mut Vec<Contact>) -> Result<(), Error> {
    let Some(list) = list else { return Ok(()) };
    let nodes = read_nodes(list.bytes().unwrap_or_default(), v6, NODES_MAX);
    let rule = rule(list.at(), "a node is 26 bytes in nodes, 38 in nodes6 (BEP 5, BEP 32)");
    out.extend(nodes.ok_or(rule)?);
    Ok(())
}

/// Reads a list of nodes of one family, at most so many of them. `None` if its length is not that of
/// whole nodes.
pub fn read_nodes(bytes: &[u8], v6: bool, max: usize) -> Option<Vec<Contact>> {
    let len = if v6 { 38 } else { 26 };
    let node = |node: &[u8]| {
        let (id, addr) = node.split_first_chunk::<20>()?;
        Some(Contact { id: NodeId(*id), addr: compact_addr(addr)? })
    };
    let whole = bytes.len().is_multiple_of(len);
    whole.then(|| bytes.chunks_exact(len).take(max).filter_map(node).collect())
}

/// Six bytes or eighteen. `None` for other lengths, and where nobody can be: port 0, no address.
fn compact_addr(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match ip.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?).into(),
        // An IPv4 address in the clothes of IPv6 cannot be sent to from an IPv6 socket.
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?))
            .filter(|ip| ip.to_ipv4_mapped().is_none())?
            .into(),
        _ => return None,
    };
    let addr = SocketAddr::new(ip, u16::from_be_bytes(*port));
    can_be_dialled(addr).then_some(addr)
}
