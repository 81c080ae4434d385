//! What to make of what a peer says (BEP 3, BEP 6).
//!
//! A message is taken in any order and at any time: no bitfield need come first, or at all. What
//! breaks a rule of the protocol ends the connection; what only means nothing is counted, and too
//! much of it ends the connection too ([`IDLE_TALK_MAX`]).
//!
//! Layer: decisions. A part of the swarm.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Action, Decision, DropReason, Peer, Swarm};
use crate::bitfield::Bitfield;
use crate::geometry::{PieceIndex, Span};
use crate::picker::{Arrival, ConnId};
use crate::wire::message::Message;

/// Messages without meaning that a peer may send between two blocks: `have` of what it has told,
/// `choke` while it chokes, requests that we cannot answer.
const IDLE_TALK_MAX: u32 = 1_000;

/// What a bitfield counts that comes again.
const IDLE_BITFIELD: u32 = 100;

/// Messages of one peer that cost a pass over all pieces. They are never forgiven, since blocks
/// between them cost it less than they cost us; an honest peer sends one or two in its life.
const PASSES_MAX: u32 = 32;

/// How many pieces a peer may offer to a choked one (BEP 6 speaks of ten).
const ALLOWED_FAST_MAX: usize = 64;

/// How many pieces a peer may suggest; of more the oldest are forgotten (libtorrent: 16).
const SUGGESTED_MAX: usize = 16;

/// Refused requests in a row before a peer is given up.
const REFUSED_MAX: u32 = 500;

/// A rule was broken; the text names it.
pub(super) type Broken = String;

impl Swarm {
    pub(super) fn said(&mut self, conn: ConnId, messages: Vec<Message>, now: Instant) {
        for message in messages {
            let Some(peer) = self.peers.get(&conn) else { return };
            if IDLE_TALK_MAX < peer.idle_talk || PASSES_MAX < peer.passes {
                return self.drop_peer(conn, DropReason::Flood, now);
            }
            if let Err(rule) = self.take_message(conn, message, now) {
                return self.drop_peer(conn, DropReason::Violation(rule), now);
            }
        }
        if std::mem::take(&mut self.choice_is_due) {
            self.choose(now);
        }
        self.drop_seeds(now);
        let Some(peer) = self.peers.get(&conn) else { return };
        if REFUSED_MAX < peer.refused {
            let requests = peer.refused;
            return self.drop_peer(conn, DropReason::Refuses { requests }, now);
        }
        // One that refuses is asked again with the next tick, not at once and for ever.
        if peer.refused == 0 {
            self.ask(conn, now);
        }
    }

    fn take_message(&mut self, conn: ConnId, message: Message, now: Instant) -> Result<(), Broken> {
        let pieces = self.picker.geometry().pieces();
        let peer = self.peers.get_mut(&conn).expect("checked by the caller");
        if message.needs_fast() && !peer.fast {
            return Err(format!("{message} without the Fast extension (BEP 6)"));
        }
        match message {
            Message::Block(span) => self.block(conn, span, now),
            Message::Choke => self.choked(conn, now),
            Message::Unchoke => {
                peer.idle_talk += u32::from(!peer.choking);
                peer.choking = false;
            }
            Message::Have(piece) if pieces <= piece => {
                return Err(format!("have {piece} of a torrent of {pieces} pieces (BEP 3)"));
            }
            Message::Have(piece) => self.has(conn, piece, now),
            Message::Bitfield(bits) => match Bitfield::from_wire(&bits, pieces) {
                Some(has) => self.has_these(conn, has),
                None => {
                    return Err(format!("bitfield with spare bits set, {pieces} pieces (BEP 3)"));
                }
            },
            Message::HaveAll => self.has_these(conn, Bitfield::full(pieces)),
            Message::HaveNone => self.has_these(conn, Bitfield::new(pieces)),
            Message::Reject(span) => self.rejected(conn, span),
            Message::AllowedFast(piece) if pieces <= piece => {
                return Err(format!("allowed fast {piece} of {pieces} pieces (BEP 6)"));
            }
            Message::AllowedFast(piece) => {
                let known = peer.allowed_fast.contains(&piece);
                if known || ALLOWED_FAST_MAX <= peer.allowed_fast.len() {
                    peer.idle_talk += 1;
                } else {
                    peer.allowed_fast.push(piece);
                }
            }
            Message::Request(span) => self.requested(conn, span, now),
            Message::Cancel(span) => self.cancelled(conn, span, now),
            Message::Interested => self.wants(conn, true),
            Message::NotInterested => self.wants(conn, false),
            Message::Suggest(piece) if pieces <= piece => {
                return Err(format!("suggest {piece} of {pieces} pieces (BEP 6)"));
            }
            Message::Suggest(piece) => {
                peer.idle_talk += 1;
                if SUGGESTED_MAX <= peer.suggested.len() {
                    peer.suggested.remove(0);
                }
                peer.suggested.push(piece);
                peer.suggests = true;
            }
            Message::Port(port) => {
                // Once: it is counted as idle talk, like hints that we do not need.
                if !peer.told_port && self.config.dht_ports != [None; 2] {
                    let addr = SocketAddr::new(peer.addr.ip(), port);
                    self.actions.push(Action::DhtNode { addr });
                }
                peer.told_port = true;
                peer.idle_talk += 1;
            }
            Message::Extended(id, payload) => self.extended(conn, id, &payload, now)?,
            // What we do not need, and what we do not know.
            Message::Unknown(_) | Message::KeepAlive => peer.idle_talk += 1,
        }
        Ok(())
    }

    /// It told of one more piece.
    fn has(&mut self, conn: ConnId, piece: PieceIndex, now: Instant) {
        let peer = self.peers.get_mut(&conn).expect("known");
        peer.told_pieces = true;
        if !peer.has.insert(piece) {
            peer.idle_talk += 1;
            return;
        }
        peer.passes += u32::from(peer.has.is_full());
        self.picker.peer_has(&peer.has, piece);
        peer.wanted += u32::from(self.picker.lacks(piece));
        self.update_interest(conn);
        self.spare(conn, piece, now);
    }

    /// This peer is the second to have a piece: the first, if it has others that nobody else has,
    /// is asked for one of those instead. A seed that has to send each piece once only is what the
    /// speed of a crowd depends on.
    fn spare(&mut self, conn: ConnId, piece: PieceIndex, now: Instant) {
        let only = |other| {
            let owes =
                |peer: &Peer| peer.has.contains(piece) && self.picker.is_only_source(&peer.has);
            other != conn && self.peers.get(&other).is_some_and(owes)
        };
        let spared = self.picker.spared(piece, only);
        for &(other, span) in &spared {
            self.cancel(other, span);
            self.picker.released(other, span);
        }
        if let Some(&(other, _)) = spared.first() {
            self.ask(other, now);
        }
    }

    /// It told all that it has.
    fn has_these(&mut self, conn: ConnId, has: Bitfield) {
        let peer = self.peers.get_mut(&conn).expect("known");
        if peer.told_pieces {
            peer.idle_talk += IDLE_BITFIELD;
        }
        peer.passes += 1;
        peer.told_pieces = true;
        self.picker.peer_left(&peer.has);
        self.picker.peer_came(&has);
        peer.wanted = has.iter().filter(|&piece| self.picker.lacks(piece)).count() as u32;
        peer.has = has;
        self.update_interest(conn);
    }

    /// Tells a peer whether we want anything of it, when that has changed.
    pub(super) fn update_interest(&mut self, conn: ConnId) {
        let peer = self.peers.get_mut(&conn).expect("known");
        let wanted = peer.wanted;
        if peer.interested == (wanted != 0) {
            return;
        }
        peer.interested = wanted != 0;
        if wanted != 0 {
            self.tell(conn, Message::Interested);
            self.decide(|| Decision::Interest { conn, pieces: wanted });
        } else {
            self.tell(conn, Message::NotInterested);
            self.decide(|| Decision::NoInterest { conn });
        }
    }

    /// It will send nothing more of what it was asked for. With the Fast extension it says so of
    /// each request; without it, `choke` says so of all.
    fn choked(&mut self, conn: ConnId, now: Instant) {
        let peer = self.peers.get_mut(&conn).expect("known");
        // To choke and unchoke without a block between is to play with us.
        peer.idle_talk += 1;
        peer.choking = true;
        if !peer.fast {
            self.release_all(conn, now);
        }
    }

    /// It refuses a request.
    fn rejected(&mut self, conn: ConnId, span: Span) {
        let peer = self.peers.get_mut(&conn).expect("known");
        if peer.answered(span).is_none() {
            peer.idle_talk += 1;
            return;
        }
        // While it chokes us this is only the list of what it will not send now.
        peer.refused += u32::from(!peer.choking);
        if peer.choking {
            peer.allowed_fast.retain(|&piece| piece != span.piece);
        }
        self.picker.released(conn, span);
    }

    /// A block that it was asked for is here (its bytes are on their way to the assembler).
    fn block(&mut self, conn: ConnId, span: Span, now: Instant) {
        let peer = self.peers.get_mut(&conn).expect("known");
        let asked = peer.answered(span);
        if let Some(asked) = asked {
            peer.pipeline.arrived(asked, now, span.length);
        }
        if peer.asked.is_empty() {
            peer.pipeline.idle(now);
        }
        peer.received += u64::from(span.length);
        peer.merit += f64::from(span.length);
        peer.down.add(u64::from(span.length), now);
        (peer.waiting_since, peer.last_block, peer.snubbed) = (now, Some(now), None);
        (peer.refused, peer.idle_talk) = (0, 0);
        if let Some(asked) = asked {
            let after = now.saturating_duration_since(asked.at);
            self.decide(|| Decision::Came { conn, span, after });
        }
        self.arrived(conn, span, now);
    }

    /// A block is here, from whomever.
    pub(super) fn arrived(&mut self, conn: ConnId, span: Span, now: Instant) {
        self.last_block = now;
        self.totals.downloaded += u64::from(span.length);
        self.totals.down.add(u64::from(span.length), now);
        match self.picker.arrived(conn, span) {
            Arrival::Fresh { also_asked } => {
                also_asked.into_iter().for_each(|other| self.cancel(other, span));
            }
            Arrival::Duplicate => self.totals.wasted += u64::from(span.length),
        }
    }
}
