//! KRPC messages as bytes (BEP 5).
//!
//! Layer: values.

use std::net::{IpAddr, SocketAddr};

use super::{Answer, Ask, Body, Contact, Message, Query, VERSION, Want};
use crate::bencode::{self, Dictionary};

impl Message {
    /// The packet. It ends with our own `v`.
    pub fn encode(&self) -> Vec<u8> {
        let mut root = Dictionary::new().bytes("t", &self.transaction).bytes("v", VERSION);
        if let Some(ip) = self.ip {
            root = root.bytes("ip", compact(ip));
        }
        match &self.body {
            Body::Query(query) => {
                if query.read_only {
                    root = root.int("ro", 1);
                }
                root.bytes("y", "q").bytes("q", query.ask.name()).dict("a", arguments(query))
            }
            Body::Answer(answer) => root.bytes("y", "r").dict("r", values(answer)),
            Body::Error { code, text } => root
                .bytes("y", "e")
                .list("e", [bencode::int(*code), bencode::bytes(text.as_bytes())]),
        }
        .done()
    }
}

fn arguments(query: &Query) -> Dictionary {
    let a = Dictionary::new().bytes("id", query.id.0);
    match &query.ask {
        Ask::Ping | Ask::Unknown { target: None } => a,
        Ask::Unknown { target: Some(target) } => a.bytes("target", target.0),
        Ask::FindNode { target, want } => wanted(a.bytes("target", target.0), *want),
        Ask::GetPeers { info_hash, want, scrape } => {
            let a = wanted(a.bytes("info_hash", info_hash.0), *want);
            if *scrape { a.int("scrape", 1) } else { a }
        }
        Ask::AnnouncePeer { info_hash, port, implied_port, token, seed } => a
            .bytes("info_hash", info_hash.0)
            .int("port", i64::from(*port))
            .int("implied_port", i64::from(*implied_port))
            .bytes("token", token)
            .int("seed", i64::from(*seed)),
    }
}

fn wanted(a: Dictionary, want: Want) -> Dictionary {
    let named = [(want.v4, "n4"), (want.v6, "n6")];
    let names = named.iter().filter(|(wanted, _)| *wanted);
    let names: Vec<_> = names.map(|(_, name)| bencode::bytes(name.as_bytes())).collect();
    if names.is_empty() { a } else { a.list("want", names) }
}

fn values(answer: &Answer) -> Dictionary {
    let mut r = Dictionary::new().bytes("id", answer.id.0);
    for (key, v6, wanted) in [("nodes", false, answer.lists.v4), ("nodes6", true, answer.lists.v6)]
    {
        let list = write_nodes(&answer.nodes, v6);
        if wanted || !list.is_empty() {
            r = r.bytes(key, list);
        }
    }
    if !answer.peers.is_empty() {
        r = r.list("values", answer.peers.iter().map(|peer| bencode::bytes(&compact(*peer))));
    }
    if let Some(token) = &answer.token {
        r = r.bytes("token", token);
    }
    if let Some(filters) = &answer.filters {
        r = r.bytes("BFsd", filters[0]).bytes("BFpe", filters[1]);
    }
    r
}

/// The list of those nodes that are of one family.
pub fn write_nodes(nodes: &[Contact], v6: bool) -> Vec<u8> {
    let of_family = nodes.iter().filter(|node| node.addr.is_ipv6() == v6);
    of_family.flat_map(|node| [&node.id.0[..], &compact(node.addr)].concat()).collect()
}

/// Six bytes, or eighteen.
pub(super) fn compact(addr: SocketAddr) -> Vec<u8> {
    let mut bytes = match addr.ip().to_canonical() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend_from_slice(&addr.port().to_be_bytes());
    bytes
}
