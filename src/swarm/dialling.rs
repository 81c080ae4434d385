//! Who is connected: whom to dial, whom to welcome, whom to drop, whom never to see again.
//!
//! Layer: decisions. A part of the swarm.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{
    Action, BanReason, DEPARTED_MAX, Decision, Dial, DropReason, End, Hello, Peer, Stuck,
    SuperSeed, Swarm,
};
use crate::address_book::HALF_OPEN_MAX;
use crate::picker::ConnId;
use crate::places::{self, Met, Need, USELESS};
use crate::wire::message::Message;

/// We starve when no block came for so long.
const STARVING: Duration = Duration::from_secs(2);

/// Two fifths of the places are for those who dial us, beyond so many. If all who come first dialled
/// each other until no place is left, who comes later would find none anywhere, and all that the first
/// know would reach the others through those few who have room.
const DIALLED: usize = 20;

/// But not if no block came for so long: nobody may be able to dial us.
const LONELY: Duration = Duration::from_secs(15);

impl Swarm {
    /// Dials as many addresses as there are places for.
    pub(super) fn dial(&mut self, now: Instant) {
        while !self.closing() && self.room_to_dial(now) && self.dials.len() < HALF_OPEN_MAX {
            let Some((addr, source)) = self.book.next(now) else { break };
            let conn = self.next_conn();
            if self.config.trace {
                let (failures, others) = self.book.queue(addr, now);
                let free = self.free_places();
                self.decide(|| Decision::Dial { conn, addr, source, failures, others, free });
            }
            self.dials.insert(conn, Dial { addr, incoming: false });
            self.actions.push(Action::Dial { conn, addr });
        }
        let taken = self.peers.len() + self.dials.len();
        if !self.closing() && self.places.call_for_more(taken, now) {
            self.actions.push(Action::MorePeers);
        }
    }

    /// Whether one more may be dialled: some places are for those who dial us.
    fn room_to_dial(&self, now: Instant) -> bool {
        let alone = !self.finished && self.last_block + LONELY + self.held_back() <= now;
        let kept = if alone { 0 } else { self.kept_places() };
        kept < self.free_places()
    }

    /// Places for those who dial us.
    fn kept_places(&self) -> usize {
        let max = self.config.max_peers;
        (max * 2 / 5).min(max.saturating_sub(DIALLED))
    }

    fn free_places(&self) -> usize {
        self.config.max_peers.saturating_sub(self.peers.len() + self.dials.len())
    }

    pub(super) fn next_conn(&mut self) -> ConnId {
        self.last_conn = self.last_conn.wrapping_add(1);
        ConnId(self.last_conn)
    }

    /// Somebody dialled us. Its number, if there is a place for it.
    pub fn incoming(&mut self, addr: SocketAddr, now: Instant) -> Option<ConnId> {
        let taken = self.peers.values().map(|peer| peer.addr);
        let taken = taken.chain(self.dials.values().map(|dial| dial.addr)).map(|addr| addr.ip());
        let welcome = self.book.welcomes(addr.ip()) && places::admits(addr.ip(), taken);
        if self.closing() || !welcome {
            return None;
        }
        if self.free_places() == 0 {
            self.places.turned_away(now);
            return None;
        }
        let conn = self.next_conn();
        // Until the handshake is done it takes a place like one that we dial.
        self.dials.insert(conn, Dial { addr, incoming: true });
        Some(conn)
    }

    /// The handshake with a peer is done. `told`: it knows already that we have nothing.
    pub(super) fn connected(&mut self, conn: ConnId, hello: Hello, told: bool, now: Instant) {
        if self.dials.remove(&conn).is_none() {
            return;
        }
        let addr = hello.addr;
        if hello.peer_id == self.config.peer_id {
            self.announce(Decision::Ban { addr, reason: BanReason::Ourselves });
            self.book.ban(addr);
            return self.refuse(conn, &hello, DropReason::Ourselves, now);
        }
        let twin = self.twin_of(&hello);
        if let Some((of, met)) = twin
            && !met.gives_way_to(&hello, self.config.peer_id, now)
        {
            return self.refuse(conn, &hello, DropReason::Duplicate { of }, now);
        }
        let pieces = self.picker.geometry().pieces();
        let mut peer = Peer::new(addr, hello.incoming, hello.peer_id, pieces, now);
        peer.fast = hello.reserved.fast();
        peer.speaks_extended = hello.reserved.extended();
        let client = hello.peer_id.client();
        self.announce(Decision::Welcome { conn, addr, client, incoming: hello.incoming });
        if let Some(state) = self.super_seed.as_mut().filter(|state| state.is_hiding()) {
            state.welcome(conn, pieces, now);
        }
        let fast = peer.fast;
        let dht_port = self.config.dht_ports[usize::from(addr.is_ipv6())];
        let dht_port = dht_port.filter(|_| hello.reserved.dht());
        self.rationing.iter_mut().for_each(|state| state.welcome(conn, now));
        // What it is told now is what we have: nothing of that is news to it.
        self.tell_news(now);
        self.peers.insert(conn, peer);
        self.say_extended(conn);
        if !told {
            self.say_what_we_have(conn, fast);
        }
        if let Some(port) = dht_port {
            self.tell(conn, Message::Port(port));
        }
        // Only now: the place that becomes free is the other one's, not this one's too.
        if let Some((other, _)) = twin {
            self.drop_peer(other, DropReason::Duplicate { of: conn }, now);
        }
    }

    /// The first message: what we have. Nothing says it shorter when that is nothing; with the Fast
    /// extension it must be said (BEP 6).
    fn say_what_we_have(&mut self, conn: ConnId, fast: bool) {
        let have = self.have();
        let hides = self.super_seed.as_ref().is_some_and(SuperSeed::is_hiding);
        let message = match (fast, hides || have.is_empty(), have.is_full()) {
            (true, true, _) => Message::HaveNone,
            (true, _, true) => Message::HaveAll,
            (false, true, _) => return,
            _ => Message::Bitfield(have.as_bytes().to_vec()),
        };
        self.tell(conn, message);
    }

    /// A connection to the same client.
    fn twin_of(&self, hello: &Hello) -> Option<(ConnId, Met)> {
        let met = |peer: &Peer| {
            let &Peer { id, addr, incoming, since, .. } = peer;
            Met { peer_id: id, addr, incoming, since }
        };
        let mut peers = self.peers.iter().map(|(&conn, peer)| (conn, met(peer)));
        peers.find(|(_, met)| met.is_twin_of(hello))
    }

    /// Ends a connection that has not become a peer.
    fn refuse(&mut self, conn: ConnId, hello: &Hello, reason: DropReason, now: Instant) {
        let addr = hello.addr;
        if !hello.incoming {
            self.book.failed(addr, &reason.to_string(), false, now);
        }
        self.announce(Decision::Drop { conn, addr, reason });
        self.actions.push(Action::HangUp { conn });
    }

    /// A dial failed, or a connection has ended.
    pub(super) fn gone(&mut self, conn: ConnId, end: End, now: Instant) {
        let reason = match end {
            End::Lost(why) => DropReason::Gone(why),
            End::Violation(rule) => DropReason::Violation(rule),
        };
        if let Some(Dial { addr, incoming }) = self.dials.remove(&conn) {
            if !incoming {
                self.book.failed(addr, &reason.to_string(), false, now);
            }
            self.announce(Decision::Drop { conn, addr, reason });
            self.actions.push(Action::HangUp { conn });
            self.dial(now);
        } else {
            self.drop_peer(conn, reason, now);
        }
    }

    /// Ends a connection: what it owes is asked of others at once.
    pub(super) fn drop_peer(&mut self, conn: ConnId, reason: DropReason, now: Instant) {
        let Some(peer) = self.peers.remove(&conn) else { return };
        for (span, _) in &peer.asked {
            self.picker.released(conn, *span);
        }
        self.picker.peer_left(&peer.has);
        self.choker.gone(conn);
        self.accounts.close(&peer);
        if let Some(state) = &mut self.super_seed {
            state.gone(conn);
        }
        self.rationing.iter_mut().for_each(|state| state.gone(conn));
        match reason {
            _ if peer.incoming => {}
            DropReason::Seeds => self.book.rests(peer.addr, now),
            _ => self.book.failed(peer.addr, &reason.to_string(), peer.received != 0, now),
        }
        if DEPARTED_MAX <= self.departed.len() {
            self.departed.pop_front();
        }
        self.departed.push_back((conn, peer.addr, peer.incoming));
        self.announce(Decision::Drop { conn, addr: peer.addr, reason });
        self.actions.push(Action::HangUp { conn });
        self.ask_everybody(now);
        self.choose(now);
        self.dial(now);
    }

    /// Never again: it lied, and that is proved.
    pub(super) fn ban(&mut self, conn: ConnId, reason: BanReason, now: Instant) {
        if self.web_seeds.contains_key(&conn) {
            return match reason {
                BanReason::SentCorruptPiece(piece) | BanReason::SentCorruptBlock(piece) => {
                    self.web_seed_lied(conn, piece, reason.to_string());
                }
                _ => self.drop_web_seed(conn, reason.to_string()),
            };
        }
        let known = self.peers.get(&conn).map(|peer| (peer.addr, peer.incoming));
        let left = || self.departed.iter().find(|left| left.0 == conn).map(|left| (left.1, left.2));
        let Some((addr, incoming)) = known.or_else(left) else { return };
        self.announce(Decision::Ban { addr, reason });
        self.book.ban_peer(addr, incoming);
        // One that has left may be back already, under another number.
        let back = |peer: &Peer| match incoming {
            true => peer.incoming && peer.addr.ip() == addr.ip(),
            false => peer.addr == addr,
        };
        let back = self.peers.iter().filter(|(_, peer)| back(peer)).map(|(&conn, _)| conn);
        let again: Vec<ConnId> = if known.is_none() { back.collect() } else { vec![conn] };
        again.into_iter().for_each(|conn| self.drop_peer(conn, DropReason::Banned, now));
    }

    /// Makes places for those that wait for one, at the cost of peers that give nothing.
    pub(super) fn evict(&mut self, now: Instant) {
        // Above the places that we fill ourselves there is room for who dials us.
        let free = self.free_places();
        let full = free == 0 || (free == self.kept_places() && !self.room_to_dial(now));
        if !full || self.closing() {
            return;
        }
        let need = match self.last_block + STARVING + self.held_back() <= now {
            _ if self.finished => Need::Nothing,
            true => Need::Starving,
            false => Need::Fed,
        };
        let Some(wanted) = self.places.wanted(need, &self.book, now) else { return };
        let useless = |(&conn, peer): (&ConnId, &Peer)| {
            let (since, limit) = match peer.last_block {
                _ if self.finished => (self.idle_since(conn, peer)?, wanted.limit),
                // Not suspected so soon: it may be our disk that pauses, or our network.
                Some(_) => (peer.useless_since()?, USELESS),
                None => (peer.useless_since()?, wanted.limit),
            };
            let age = now.saturating_duration_since(since);
            (limit + self.held_back() <= age).then_some((age, conn))
        };
        let useless = self.peers.iter().filter_map(useless).collect();
        for (after, conn) in wanted.worst(useless) {
            self.drop_peer(conn, DropReason::Useless { after }, now);
        }
    }

    /// Since when a peer of a seed takes nothing. `None`: it does, or waits for its turn.
    fn idle_since(&self, conn: ConnId, peer: &Peer) -> Option<Instant> {
        let waits = peer.wants && !self.choker.is_unchoked(conn);
        let asks = !peer.queue.is_empty() || !peer.held.is_empty();
        (!waits && !asks).then(|| peer.last_sent.max(peer.since))
    }

    /// Why there is nobody to ask, if that is so.
    pub(super) fn why_nobody(&self) -> Stuck {
        self.heard.why_nobody(&self.book, self.dials.len())
    }
}
