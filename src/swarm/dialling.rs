//! Who is connected: whom to dial, whom to welcome, whom to drop, whom never to see again.
//!
//! Layer: decisions. A part of the swarm.

use std::cmp::Ordering;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{
    Action, BanReason, DEPARTED_MAX, Decision, Dial, DropReason, End, Hello, Peer, Stuck,
    SuperSeed, Swarm,
};
use crate::address_book::HALF_OPEN_MAX;
use crate::picker::ConnId;
use crate::reach::{Reach, reach};
use crate::wire::message::Message;

/// Trackers are asked for more peers when there are fewer connections than this.
const PEERS_ENOUGH: usize = 8;

/// How often trackers are asked for more; they may hold it back longer (`min interval`).
const CALL_FOR_PEERS: Duration = Duration::from_secs(30);

/// A peer that gives nothing keeps its place so long when another address waits for it.
const USELESS: Duration = Duration::from_secs(45);

/// One that never gave anything, while nobody does: fifty silent peers must not keep the one honest
/// peer out. Who gave is not suspected so soon: it may be our disk that pauses, or our network.
const USELESS_WHILE_STARVING: Duration = Duration::from_secs(3);

/// One that takes nothing of a seed keeps its place so long when somebody else waits for one.
const IDLE: Duration = Duration::from_secs(120);

/// The same while we starve, and who waits is no new address but one that failed before, or one
/// that dialled us: it may be the honest one, or of no use again.
const USELESS_FOR_ANOTHER_TRY: Duration = Duration::from_secs(12);

/// We starve when no block came for so long.
const STARVING: Duration = Duration::from_secs(2);

/// How often, and how many at once, places are made for others.
const EVICTION_EVERY: Duration = Duration::from_secs(1);
const EVICTIONS: usize = 10;

/// Two connections between the same two clients that begin within so long were dialled by both at
/// once. It is longer than a handshake takes, so that both ends see it alike.
pub const CROSSWISE: Duration = Duration::from_secs(5);

/// How long one that dialled us in vain is thought to try again.
const KNOCKS_AGAIN: Duration = Duration::from_secs(30);

impl Swarm {
    /// Dials as many addresses as there are places for.
    pub(super) fn dial(&mut self, now: Instant) {
        while !self.closing() && self.free_places() != 0 && self.dials.len() < HALF_OPEN_MAX {
            let Some((addr, source)) = self.book.next(now) else { break };
            let conn = self.next_conn();
            self.dials.insert(conn, Dial { addr, incoming: false });
            self.decide(|| Decision::Dial { conn, addr, source });
            self.actions.push(Action::Dial { conn, addr });
        }
        let few = self.peers.len() + self.dials.len() < PEERS_ENOUGH;
        if few && self.last_call_for_peers + CALL_FOR_PEERS <= now && !self.closing() {
            self.last_call_for_peers = now;
            self.actions.push(Action::MorePeers);
        }
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
        if self.closing() || !self.book.welcomes(addr.ip()) {
            return None;
        }
        if self.free_places() == 0 {
            self.turned_away = Some(now);
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
        let twin = self.duplicate_of(&hello);
        if let Some(other) = twin {
            // Both ends must close the same one of two connections that were dialled crosswise. One
            // that is older has blocks on the way, and stays.
            let twin = &self.peers[&other];
            let by = |addr: SocketAddr| (!addr.ip().is_loopback(), addr.is_ipv6());
            let keep_new = match by(addr).cmp(&by(twin.addr)) {
                Ordering::Equal if twin.incoming == hello.incoming => false,
                Ordering::Equal => hello.incoming == (self.config.peer_id < hello.peer_id),
                other => other.is_lt(),
            };
            if !keep_new || twin.since + CROSSWISE <= now {
                return self.refuse(conn, &hello, DropReason::Duplicate { of: other }, now);
            }
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
        self.peers.insert(conn, peer);
        self.say_extended(conn);
        if !told {
            self.say_what_we_have(conn, fast);
        }
        if let Some(port) = dht_port {
            self.tell(conn, Message::Port(port));
        }
        // Only now: the place that becomes free is the other one's, not this one's too.
        if let Some(other) = twin {
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

    /// A connection to the same client. An id alone proves nothing, since anybody can copy it, and
    /// keep the one it belongs to out that way: it must come from the same host. On the local
    /// network a host has several addresses, one of each kind, and is heard at all of them (BEP 14).
    fn duplicate_of(&self, hello: &Hello) -> Option<ConnId> {
        let same_host = |one: SocketAddr, other: SocketAddr| {
            let kind = |addr: SocketAddr| (addr.is_ipv6(), addr.ip().is_loopback());
            let local = [one, other].iter().all(|addr| reach(addr.ip()) != Reach::Everywhere);
            one.ip() == other.ip() || local && kind(one) != kind(other)
        };
        let same = |peer: &Peer| peer.id == hello.peer_id && same_host(peer.addr, hello.addr);
        self.peers.iter().find(|(_, peer)| same(peer)).map(|(&conn, _)| conn)
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
        if !peer.incoming {
            self.book.failed(peer.addr, &reason.to_string(), peer.received != 0, now);
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
            return self.drop_web_seed(conn, reason.to_string());
        }
        let known = self.peers.get(&conn).map(|peer| (peer.addr, peer.incoming));
        let left = || self.departed.iter().find(|left| left.0 == conn).map(|left| (left.1, left.2));
        let Some((addr, incoming)) = known.or_else(left) else { return };
        self.announce(Decision::Ban { addr, reason });
        if incoming {
            self.book.ban_incoming(addr.ip());
        } else {
            self.book.ban(addr);
        }
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
        let due = self.last_eviction + EVICTION_EVERY <= now;
        if !due || self.free_places() != 0 || self.closing() {
            return;
        }
        let Some((limit, places)) = self.places_wanted(now) else { return };
        self.last_eviction = now;
        let useless = |(&conn, peer): (&ConnId, &Peer)| {
            let (since, limit) = match peer.last_block {
                _ if self.finished => (self.idle_since(conn, peer)?, IDLE),
                Some(_) => (peer.useless_since()?, USELESS),
                None => (peer.useless_since()?, limit),
            };
            let age = now.saturating_duration_since(since);
            (limit + self.held_back() <= age).then_some((age, conn))
        };
        let mut useless: Vec<(Duration, ConnId)> = self.peers.iter().filter_map(useless).collect();
        useless.sort_unstable();
        for (after, conn) in useless.into_iter().rev().take(places) {
            self.drop_peer(conn, DropReason::Useless { after }, now);
        }
    }

    /// Since when a peer of a seed takes nothing. `None`: it does, or waits for its turn.
    fn idle_since(&self, conn: ConnId, peer: &Peer) -> Option<Instant> {
        let waits = peer.wants && !self.choker.is_unchoked(conn);
        let asks = !peer.queue.is_empty() || !peer.held.is_empty();
        (!waits && !asks).then(|| peer.last_sent.max(peer.since))
    }

    /// How useless a peer must have been to give its place to those that wait, and how many places
    /// are wanted at once; `None` if nobody waits. Peers that choke us need time to give us a turn,
    /// so for anybody but a stranger only one has to go at a time, and only while we starve.
    fn places_wanted(&self, now: Instant) -> Option<(Duration, usize)> {
        let starving = self.last_block + STARVING + self.held_back() <= now;
        let knocks = self.turned_away.is_some_and(|when| now < when + KNOCKS_AGAIN);
        if self.finished {
            return (knocks || self.book.has_untried(now)).then_some((IDLE, EVICTIONS));
        }
        match (starving, self.book.has_untried(now)) {
            (true, true) => Some((USELESS_WHILE_STARVING, EVICTIONS)),
            (false, true) => Some((USELESS, EVICTIONS)),
            (true, false) if knocks || self.book.has_ready(now) => {
                Some((USELESS_FOR_ANOTHER_TRY, 1))
            }
            _ => None,
        }
    }

    /// Why there is nobody to ask, if that is so.
    pub(super) fn why_nobody(&self) -> Stuck {
        let (failed, example) = self.book.failures();
        let known = self.book.known();
        if self.dials.len() > failed || (!self.dials.is_empty() && known == 0) {
            return Stuck::Dialling { dials: self.dials.len() };
        }
        if known != 0 {
            return Stuck::NoneReachable { known, error: example.map(str::to_owned) };
        }
        let dht = self.config.dht_ports != [None; 2];
        match (self.config.trackers, self.tracker_answers) {
            (_, 0) if self.dht_answered => Stuck::NobodyInDht,
            (0, _) if dht => Stuck::NoDhtNodeAnswered,
            (0, _) => Stuck::NobodyToAsk,
            (_, 0) => Stuck::NoTrackerAnswered {
                failed: self.tracker_failures,
                error: self.tracker_error.clone(),
            },
            _ => Stuck::NoPeersKnown,
        }
    }
}
