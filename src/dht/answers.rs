//! What others ask, and what we answer (BEP 5, 32, 33, 42, 43).
//!
//! An answer goes to whoever is written on the question as its sender, and that may be forged. So it
//! is short: eight nodes and [`VALUES_LEN_MAX`] bytes of peers, some five times as long as the question;
//! [`guard`](super::guard) limits them all together.
//!
//! Layer: decisions. A part of [`Dht`].

use std::net::SocketAddr;
use std::time::Instant;

use super::{Action, Dht, K, PINGS_MAX, What, may_name};
use crate::hash::Sha1;
use crate::krpc::{Answer, Ask, Body, Contact, Message, NodeId, Query, Want, broken_question};

/// Bytes of peers in an answer: 40 of IPv4, 15 of IPv6.
const VALUES_LEN_MAX: usize = 320;

/// "Protocol error": arguments that make no sense.
const PROTOCOL_ERROR: i64 = 203;

/// "Method unknown".
const METHOD_UNKNOWN: i64 = 204;

impl Dht {
    pub(super) fn question(&mut self, from: SocketAddr, t: Vec<u8>, query: Query, now: Instant) {
        self.counters.questions += 1;
        if !self.guard.admits(from, now) {
            self.counters.flood += 1;
            return;
        }
        // Who asks and answers nobody does not want to be answered by ourselves either (BEP 43).
        if self.config.read_only {
            return;
        }
        let asker = Contact { id: query.id, addr: from };
        let body = match query.ask {
            Ask::Ping => self.nobody_in_particular(from),
            Ask::FindNode { target, want } => self.nodes_near(target, from, want),
            Ask::GetPeers { info_hash, want, scrape } => {
                self.peers_of(info_hash, from, want, scrape)
            }
            Ask::AnnouncePeer { info_hash, port, implied_port, token, seed } => {
                let port = if implied_port { from.port() } else { port };
                let peer = SocketAddr::new(from.ip(), port);
                self.take_announce(info_hash, peer, from, &token, seed, now)
            }
            // A method of the future with a target can be answered as find_node (BEP 5).
            Ask::Unknown { target: Some(target) } => self.nodes_near(target, from, Want::default()),
            Ask::Unknown { target: None } => refusal(METHOD_UNKNOWN, "method unknown"),
        };
        if self.reply(from, t, body, now) && !query.read_only {
            self.meet(asker, now);
        }
    }

    /// A packet that says nothing: if it was meant as a question, its asker is told what is wrong.
    pub(super) fn refuse_broken(&mut self, from: SocketAddr, packet: &[u8], now: Instant) {
        if let Some((t, rule)) = broken_question(packet).filter(|_| !self.config.read_only) {
            self.reply(from, t, refusal(PROTOCOL_ERROR, rule), now);
        }
    }

    /// Whether there was room for it in what we send.
    fn reply(&mut self, to: SocketAddr, transaction: Vec<u8>, body: Body, now: Instant) -> bool {
        let packet = Message { transaction, ip: Some(to), body }.encode();
        let may_go = self.guard.may_answer(packet.len(), now);
        if may_go {
            self.counters.answered += 1;
            self.actions.push(Action::Send { to, packet });
        } else {
            self.counters.flood += 1;
        }
        may_go
    }

    /// Somebody asked us something. A stranger gets into the table when he answers us in turn.
    fn meet(&mut self, asker: Contact, now: Instant) {
        let Some(side) = self.side(asker.addr) else { return };
        if !side.table.heard_of(asker, true, now) {
            return;
        }
        let pings = self.pending.values().filter(|pending| pending.what == What::Ping);
        let (count, known) = pings.fold((0, false), |(count, known), pending| {
            (count + 1, known || pending.to == asker.addr)
        });
        if count < PINGS_MAX && !known {
            self.ask(asker.addr, Some(asker.id), Ask::Ping, What::Ping, now);
        }
    }

    fn own(&self, addr: SocketAddr) -> NodeId {
        self.id(addr.is_ipv6()).unwrap_or(NodeId([0; 20]))
    }

    fn nobody_in_particular(&self, from: SocketAddr) -> Body {
        Body::Answer(Answer::of(self.own(from)))
    }

    fn nodes_near(&self, target: NodeId, from: SocketAddr, want: Want) -> Body {
        let lists = or_own_family(want, from);
        let nodes = self.closest(target, from, lists);
        Body::Answer(Answer { nodes, lists, ..Answer::of(self.own(from)) })
    }

    /// The nodes nearest to a target, of those families that were asked for.
    fn closest(&self, target: NodeId, from: SocketAddr, want: Want) -> Vec<Contact> {
        let mut nodes = Vec::new();
        for (side, wanted) in self.sides.iter().zip([want.v4, want.v6]) {
            if let Some(side) = side.as_ref().filter(|_| wanted) {
                nodes.extend(side.table.closest(target, K, true));
            }
        }
        nodes.retain(|node| may_name(from.ip(), node.addr.ip()));
        nodes
    }

    fn peers_of(&mut self, info_hash: Sha1, from: SocketAddr, want: Want, scrape: bool) -> Body {
        let mut answer = Answer::of(self.own(from));
        answer.token = Some(self.tokens.token(from.ip(), info_hash));
        answer.lists = or_own_family(want, from);
        answer.nodes = self.closest(info_hash.into(), from, answer.lists);
        if scrape {
            answer.filters = self.store.filters(info_hash);
        }
        // Filters are long enough without them.
        if answer.filters.is_none() {
            let max = VALUES_LEN_MAX / if from.is_ipv6() { 21 } else { 8 };
            answer.peers = self.store.some(info_hash, from.is_ipv6(), max, &mut self.rng);
            answer.peers.retain(|peer| may_name(from.ip(), peer.ip()));
        }
        Body::Answer(answer)
    }

    fn take_announce(
        &mut self,
        info_hash: Sha1,
        peer: SocketAddr,
        from: SocketAddr,
        token: &[u8],
        seed: bool,
        now: Instant,
    ) -> Body {
        if !self.tokens.is_good(token, from.ip(), info_hash) {
            self.counters.bad_token += 1;
            return refusal(PROTOCOL_ERROR, "bad token");
        }
        if peer.port() == 0 {
            return refusal(PROTOCOL_ERROR, "port 0");
        }
        // Where there is no room, another of the eight nodes may have some.
        self.store.announce(info_hash, peer, seed, now);
        self.nobody_in_particular(from)
    }
}

/// The lists of nodes that an answer has: those asked for, else that of the packet's family.
fn or_own_family(want: Want, from: SocketAddr) -> Want {
    match want {
        Want { v4: false, v6: false } => Want { v4: from.is_ipv4(), v6: from.is_ipv6() },
        want => want,
    }
}

fn refusal(code: i64, text: &str) -> Body {
    Body::Error { code, text: text.to_owned() }
}
