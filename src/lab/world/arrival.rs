//! What happens to bytes that arrive: messages go to the swarm, blocks are put together and hashed.
//!
//! Layer: programs. A part of the world.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Event, Fact, Item, Moment, World};
use crate::geometry::{PieceIndex, Span};
use crate::picker::ConnId;
use crate::wire::message::Message;

/// From the last block of a piece to its verdict.
const HASHING: Duration = Duration::from_millis(2);

impl World {
    pub(super) fn deliver(&mut self, link: usize, side: usize, items: Vec<Item>, len: usize) {
        let (node, conn) = (self.links[link].nodes[side], self.links[link].conns[side]);
        if !self.nodes[node].conns.contains_key(&conn) {
            return;
        }
        self.links[link].pipes[1 - side].in_flight -= len;
        self.fill(link, 1 - side);
        let mut messages = Vec::new();
        for item in items {
            match item {
                Item::Message(message) => messages.push(message),
                Item::Block(span, bad) => {
                    let asked = &mut self.links[link].pipes[side].asked;
                    if let Some(at) = asked.iter().position(|asked| *asked == span) {
                        asked.remove(at);
                        messages.push(Message::Block(span));
                        self.nodes[node].received += u64::from(span.length);
                        self.nodes[node].first_block.get_or_insert(self.now);
                        let from = self.links[link].nodes[1 - side];
                        self.note(Moment::Block { from, to: node, bytes: span.length });
                        self.assemble(node, conn, span, bad);
                    }
                }
            }
        }
        self.facts.push_back((node, Fact::Said { conn, messages }));
    }

    fn assemble(&mut self, node: usize, conn: ConnId, span: Span, bad: bool) {
        if self.have(node).is_none_or(|have| have.contains(span.piece)) {
            return;
        }
        let blocks = self.geometry.blocks(span.piece) as usize;
        let block = self.geometry.block_index(span).expect("a block") as usize;
        let partial = &mut self.nodes[node].partial;
        let partial = partial.entry(span.piece).or_insert_with(|| vec![None; blocks]);
        if partial[block].is_none() {
            partial[block] = Some((conn, bad));
            if partial.iter().all(Option::is_some) {
                self.at(self.now + HASHING, Event::Hashed { node, piece: span.piece });
            }
        }
    }

    pub(super) fn hashed(&mut self, node: usize, piece: PieceIndex) {
        let Some(blocks) = self.nodes[node].partial.remove(&piece) else { return };
        let blocks: Vec<(ConnId, bool)> = blocks.into_iter().flatten().collect();
        let bad = blocks.iter().filter(|(_, bad)| *bad).map(|(conn, _)| *conn);
        let bad: BTreeSet<ConnId> = bad.collect();
        if bad.is_empty() {
            self.note(Moment::Stored { node, piece });
            self.spread.insert(piece);
            if self.spread.is_full() && self.out.is_none() {
                self.out = Some((self.now, self.nodes[0].sent));
            }
            self.facts.push_back((node, Fact::Stored { piece }));
            for conn in self.nodes[node].blame.remove(&piece).unwrap_or_default() {
                self.facts.push_back((node, Fact::Guilty { conn, piece }));
            }
        } else {
            self.note(Moment::Corrupt { node, piece });
            let senders = blocks.iter().map(|(conn, _)| *conn).collect();
            self.nodes[node].blame.entry(piece).or_default().extend(bad);
            self.facts.push_back((node, Fact::Corrupt { piece, senders }));
        }
    }
}
