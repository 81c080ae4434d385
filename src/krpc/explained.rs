//! What a message of the DHT says and means, for a trace.
//!
//! Layer: values.

use super::{Answer, Ask, Body, Message};
use crate::explain::hex;
use crate::units::count;

impl Message {
    /// One line; `t` ties an answer to its question.
    pub fn explained(&self) -> String {
        let t = hex(&self.transaction, super::TRANSACTION_LEN_MAX);
        let said = match &self.body {
            Body::Query(query) => format!("query {}", explained_query(&query.ask)),
            Body::Answer(answer) => explained_answer(answer),
            Body::Error { code, text } => format!("error {code}, it does not answer: {text}"),
        };
        format!("t {t}, {said}")
    }
}

fn explained_query(ask: &Ask) -> String {
    let name = ask.name();
    match ask {
        Ask::Ping => format!("{name}: are you there?"),
        Ask::FindNode { target, .. } => format!("{name} {target}: which nodes are nearest to it?"),
        Ask::GetPeers { info_hash, .. } => {
            format!("{name} {info_hash}: who has this torrent, and which nodes are nearer to it?")
        }
        Ask::AnnouncePeer { info_hash, port, implied_port, .. } => {
            let at =
                if *implied_port { "this very port".to_owned() } else { format!("port {port}") };
            format!("{name} {info_hash}: I have this torrent, dial me at {at}")
        }
        Ask::Unknown { .. } => format!("{name}: of no BEP that we speak"),
    }
}

fn explained_answer(answer: &Answer) -> String {
    let Answer { id, nodes, peers, token, .. } = answer;
    let token = if token.is_some() { ", a token (the right to announce here)" } else { "" };
    let (nodes, peers) = (count(nodes.len() as u64, "node"), count(peers.len() as u64, "peer"));
    format!("answer of node {id}: {nodes}, {peers}{token}")
}
