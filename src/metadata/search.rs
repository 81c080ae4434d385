//! Who has the metadata: whom to dial, whom to welcome, what they say while nobody knows the torrent.
//!
//! ```text
//! dial ─► handshake ─► extended handshake: ut_metadata, metadata_size ─► [`Fetch`]
//!                      bitfield, have, unchoke, … : kept for the swarm
//! ```
//!
//! What a peer has cannot be used before the metadata is here, but it says so only once: all of it is
//! kept, within the limits of [`record`](super::record), and the swarm hears it when it takes the
//! connection over.
//!
//! Layer: decisions. Pure; the session carries out the actions, as it does for the swarm.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::fetch::{Fetch, Step};
use super::record::{RECORD_MAX, RECORDS_MAX, Record};
use crate::address_book::{AddressBook, HALF_OPEN_MAX, Source};
use crate::hash::Sha1;
use crate::picker::ConnId;
use crate::places::{self, Met, Need, Places};
use crate::swarm::{
    Action, BanReason, Budget, Decision, DropReason, End, Fact, Heard, Heir, Hello, Heritage,
    Order, QUEUE_MAX, makes_sense,
};
use crate::wire::extended::{self, Extended, Extension, Offer};
use crate::wire::handshake::PeerId;
use crate::wire::message::Message;
use crate::wire::metadata::Metadata;
use crate::wire::pex::Pex;

/// Messages that mean nothing here, of one peer.
const IDLE_TALK_MAX: u32 = 1_000;

/// What is looked for, and by whom.
#[derive(Debug, Clone)]
pub struct Wish {
    pub info_hash: Sha1,
    pub peer_id: PeerId,
    pub offer: Offer,
    /// Our handshakes announce the Fast extension, so that we have to say what we have: nothing.
    pub fast: bool,
    pub max_peers: usize,
    /// Give up after so long without a piece of it.
    pub stop_timeout: Option<Duration>,
    /// How many trackers will be asked, and whether the DHT and the local network will be.
    pub trackers: usize,
    pub dht: bool,
    pub lan: bool,
    pub trace: bool,
}

pub struct Search {
    pub(super) wish: Wish,
    pub(super) book: AddressBook,
    pub(super) peers: BTreeMap<ConnId, Peer>,
    /// Connections whose handshake is not done; whether they dialled us.
    pub(super) dials: BTreeMap<ConnId, (SocketAddr, bool)>,
    last_conn: u32,
    pub(super) fetch: Fetch,
    actions: Vec<Action>,
    found: Option<Vec<u8>>,
    /// The last piece of metadata, or the start.
    last_piece: Instant,
    places: Places,
    pub(super) heard: Heard,
}

/// A connected peer.
pub(super) struct Peer {
    hello: Hello,
    said: Extended,
    /// For the swarm.
    record: Record,
    idle_talk: u32,
    /// What it may tell of others.
    budget: Budget,
    told_port: bool,
    since: Instant,
    /// Its last piece of metadata, or when it came.
    useful: Instant,
}

impl Peer {
    fn met(&self) -> Met {
        let Hello { peer_id, addr, incoming, .. } = self.hello;
        Met { peer_id, addr, incoming, since: self.since }
    }
}

impl Search {
    pub fn new(wish: Wish, now: Instant) -> Search {
        Search {
            fetch: Fetch::new(wish.info_hash),
            heard: Heard::new(wish.trackers, wish.dht, wish.lan),
            wish,
            book: AddressBook::default(),
            peers: BTreeMap::new(),
            dials: BTreeMap::new(),
            last_conn: 0,
            actions: Vec::new(),
            found: None,
            last_piece: now,
            places: Places::new(now),
        }
    }

    /// Takes one fact. Those about pieces of data cannot come: nobody was asked for any.
    pub fn handle(&mut self, now: Instant, fact: Fact) {
        self.heard.take(&fact);
        match fact {
            Fact::Addresses { source, addrs } => {
                addrs.into_iter().for_each(|addr| _ = self.book.add(addr, source, now));
                self.dial(now);
            }
            Fact::Connected { conn, hello } => self.connected(conn, hello, now),
            Fact::Said { conn, messages } => {
                for message in messages {
                    self.take_message(conn, message, now);
                }
                self.ask(now);
            }
            Fact::Gone { conn, end } => {
                let reason = match end {
                    End::Lost(why) => DropReason::Gone(why),
                    End::Violation(rule) => DropReason::Violation(rule),
                };
                self.drop_peer(conn, reason, now);
                self.dial(now);
            }
            _ => {}
        }
    }

    /// Does what is due because time has passed. To be called as often as the swarm's.
    pub fn tick(&mut self, now: Instant) {
        self.evict(now);
        self.dial(now);
        self.ask(now);
        let waited = now.saturating_duration_since(self.last_piece);
        if self.wish.stop_timeout.is_some_and(|limit| limit <= waited) && self.found.is_none() {
            self.actions.push(Action::GiveUp);
        }
    }

    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// The info dictionary, once it is here.
    pub fn found(&mut self) -> Option<Vec<u8>> {
        self.found.take()
    }

    /// Hands everything over to the swarm.
    pub fn bequeath(&mut self) -> Heritage {
        let (dials, peers) = (std::mem::take(&mut self.dials), std::mem::take(&mut self.peers));
        let heir = |(conn, peer): (ConnId, Peer)| Heir {
            conn,
            hello: peer.hello,
            messages: peer.record.into_messages(),
        };
        Heritage {
            book: std::mem::take(&mut self.book),
            last_conn: self.last_conn,
            dials: dials
                .into_iter()
                .map(|(conn, (addr, incoming))| (conn, addr, incoming))
                .collect(),
            peers: peers.into_iter().map(heir).collect(),
        }
    }

    fn free_places(&self) -> usize {
        self.wish.max_peers.saturating_sub(self.peers.len() + self.dials.len())
    }

    fn dial(&mut self, now: Instant) {
        while self.found.is_none() && self.free_places() != 0 && self.dials.len() < HALF_OPEN_MAX {
            let Some((addr, source)) = self.book.next(now) else { break };
            let conn = self.next_conn();
            let (failures, others) = self.book.queue(addr, now);
            let free = self.free_places();
            self.decide(Decision::Dial { conn, addr, source, failures, others, free });
            self.dials.insert(conn, (addr, false));
            self.actions.push(Action::Dial { conn, addr });
        }
        if self.places.call_for_more(self.peers.len() + self.dials.len(), now) {
            self.actions.push(Action::MorePeers);
        }
    }

    fn next_conn(&mut self) -> ConnId {
        self.last_conn = self.last_conn.wrapping_add(1);
        ConnId(self.last_conn)
    }

    /// Somebody dialled us. Its number, if there is a place for it.
    pub fn incoming(&mut self, addr: SocketAddr, now: Instant) -> Option<ConnId> {
        let taken = self.peers.values().map(|peer| peer.hello.addr);
        let taken = taken.chain(self.dials.values().map(|dial| dial.0)).map(|addr| addr.ip());
        if !self.book.welcomes(addr.ip()) || !places::admits(addr.ip(), taken) {
            return None;
        }
        if self.free_places() == 0 {
            self.places.turned_away(now);
            return None;
        }
        let conn = self.next_conn();
        self.dials.insert(conn, (addr, true));
        Some(conn)
    }

    fn connected(&mut self, conn: ConnId, hello: Hello, now: Instant) {
        if !self.dials.contains_key(&conn) {
            return;
        }
        let addr = hello.addr;
        if hello.peer_id == self.wish.peer_id {
            self.decide(Decision::Ban { addr, reason: BanReason::Ourselves });
            self.book.ban(addr);
            return self.drop_peer(conn, DropReason::Ourselves, now);
        }
        let mut peers = self.peers.iter().map(|(&conn, peer)| (conn, peer.met()));
        if let Some((of, met)) = peers.find(|(_, met)| met.is_twin_of(&hello)) {
            if !met.gives_way_to(&hello, self.wish.peer_id, now) {
                return self.drop_peer(conn, DropReason::Duplicate { of }, now);
            }
            self.drop_peer(of, DropReason::Duplicate { of: conn }, now);
        }
        self.dials.remove(&conn);
        let (incoming, client) = (hello.incoming, hello.peer_id.client());
        self.decide(Decision::Welcome { conn, addr, client, incoming });
        if hello.reserved.extended() {
            let payload = self.wish.offer.to_bytes(addr.ip(), QUEUE_MAX, false);
            self.tell(conn, Message::Extended(extended::HANDSHAKE, payload));
        }
        if self.wish.fast && hello.reserved.fast() {
            // With the Fast extension it must be said (BEP 6).
            self.tell(conn, Message::HaveNone);
        }
        let said = Extended::default();
        let peer = Peer {
            budget: Budget::new(now),
            told_port: false,
            hello,
            said,
            record: Record::default(),
            idle_talk: 0,
            since: now,
            useful: now,
        };
        self.peers.insert(conn, peer);
    }

    fn take_message(&mut self, conn: ConnId, message: Message, now: Instant) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        let (speaks, fast) = (peer.hello.reserved.extended(), peer.hello.reserved.fast());
        let kept = match message {
            Message::Extended(extended::HANDSHAKE, ref payload) if speaks => {
                match Extended::parse(payload) {
                    Ok(said) => peer.said.update(said),
                    Err(rule) => return self.drop_peer(conn, DropReason::Violation(rule.0), now),
                }
                let id = peer.said.id(Extension::Metadata);
                match peer.said.metadata_size.filter(|_| id.is_some()) {
                    Some(size) => self.fetch.offered(conn, size, now),
                    None => self.fetch.gone(conn),
                }
                Some(message)
            }
            Message::Extended(id, payload) if speaks && id == Extension::Metadata as u8 => {
                return self.metadata(conn, &payload, now);
            }
            Message::Extended(id, payload) if speaks && id == Extension::Pex as u8 => {
                return self.hears_of(conn, &payload, now);
            }
            // A node of the DHT (BEP 5): it may know who has the torrent.
            Message::Port(port) => {
                if self.wish.dht && !std::mem::replace(&mut peer.told_port, true) {
                    let addr = SocketAddr::new(peer.hello.addr.ip(), port);
                    self.actions.push(Action::DhtNode { addr });
                }
                None
            }
            // Nothing was asked for, nothing else was offered.
            Message::Extended(..) => None,
            Message::Request(_) | Message::Cancel(_) | Message::Unknown(_) => None,
            Message::Block(_) | Message::Reject(_) => None,
            message if message.needs_fast() && !(fast && self.wish.fast) => {
                let rule = format!("{message} without the Fast extension (BEP 6)");
                return self.drop_peer(conn, DropReason::Violation(rule), now);
            }
            message => Some(message),
        };
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        let is_idle = kept.is_none_or(|message| peer.record.keep(message));
        peer.idle_talk += u32::from(is_idle);
        if IDLE_TALK_MAX < peer.idle_talk || RECORD_MAX < peer.record.bytes() {
            self.drop_peer(conn, DropReason::Flood, now);
        }
        let of_all = |peers: &BTreeMap<ConnId, Peer>| -> usize {
            peers.values().map(|peer| peer.record.bytes()).sum()
        };
        // Who said most has to go, and not who came last: that may be the one that we need.
        while RECORDS_MAX < of_all(&self.peers)
            && let Some((&loudest, _)) =
                self.peers.iter().max_by_key(|(_, peer)| peer.record.bytes())
        {
            self.drop_peer(loudest, DropReason::Flood, now);
        }
    }

    /// It tells of other peers (BEP 11); who is not the first of whom it tells may be the seed.
    fn hears_of(&mut self, conn: ConnId, payload: &[u8], now: Instant) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        peer.idle_talk += 1;
        let from = peer.hello.addr.ip();
        if !self.wish.offer.pex {
            return;
        }
        if IDLE_TALK_MAX < peer.idle_talk {
            return self.drop_peer(conn, DropReason::Flood, now);
        }
        match Pex::parse(payload) {
            Ok(Pex { mut added, .. }) => {
                added.truncate(peer.budget.spend(added.len(), now));
                let added = added.into_iter().filter(|(addr, _)| makes_sense(addr.ip(), from));
                added.for_each(|(addr, _)| _ = self.book.add(addr, Source::Pex, now));
                self.dial(now);
            }
            Err(rule) => self.drop_peer(conn, DropReason::Violation(rule.0), now),
        }
    }

    /// A message of `ut_metadata`.
    fn metadata(&mut self, conn: ConnId, payload: &[u8], now: Instant) {
        let message = match Metadata::parse(payload) {
            Ok(message) => message,
            Err(rule) => return self.drop_peer(conn, DropReason::Violation(rule.0), now),
        };
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        let steps = match message {
            Metadata::Data { piece, total_size, bytes } => {
                let before = self.fetch.progress().0;
                let steps = self.fetch.data(conn, piece, total_size, bytes, now);
                if steps.as_ref().is_ok_and(|steps| !steps.is_empty())
                    || self.fetch.progress().0 != before
                {
                    (peer.useful, self.last_piece) = (now, now);
                } else {
                    peer.idle_talk += 1;
                }
                steps
            }
            Metadata::Reject { piece } => {
                peer.idle_talk += 1;
                Ok(self.fetch.rejected(conn, piece, now).into_iter().collect())
            }
            Metadata::Request { piece } => {
                peer.idle_talk += 1;
                if let Some(id) = peer.said.id(Extension::Metadata) {
                    let reject = Metadata::Reject { piece }.to_bytes();
                    self.tell(conn, Message::Extended(id, reject));
                }
                Ok(Vec::new())
            }
            Metadata::Unknown => {
                peer.idle_talk += 1;
                Ok(Vec::new())
            }
        };
        match steps {
            Ok(steps) => self.carry_out(steps, now),
            Err(rule) => self.drop_peer(conn, DropReason::Violation(rule), now),
        }
        if self.peers.get(&conn).is_some_and(|peer| IDLE_TALK_MAX < peer.idle_talk) {
            self.drop_peer(conn, DropReason::Flood, now);
        }
    }

    fn ask(&mut self, now: Instant) {
        if self.found.is_none() {
            let steps = self.fetch.tick(now);
            self.carry_out(steps, now);
        }
    }

    fn carry_out(&mut self, steps: Vec<Step>, now: Instant) {
        for step in steps {
            match step {
                Step::Ask { conn, piece } => {
                    let said = self.peers.get(&conn).map(|peer| &peer.said);
                    if let Some(id) = said.and_then(|said| said.id(Extension::Metadata)) {
                        let request = Metadata::Request { piece }.to_bytes();
                        self.tell(conn, Message::Extended(id, request));
                    }
                }
                Step::Drop { conn, why } => self.drop_peer(conn, DropReason::Gone(why), now),
                Step::Ban { conn } => self.ban(conn, now),
                Step::Done(info) => self.found = Some(info),
            }
        }
    }

    fn ban(&mut self, conn: ConnId, now: Instant) {
        let Some(peer) = self.peers.get(&conn) else { return };
        let (addr, incoming) = (peer.hello.addr, peer.hello.incoming);
        let reason = BanReason::SentCorruptMetadata;
        self.actions.push(Action::Decided(Decision::Ban { addr, reason }));
        self.book.ban_peer(addr, incoming);
        self.drop_peer(conn, DropReason::Banned, now);
    }

    /// Ends a connection, at whatever stage it is.
    fn drop_peer(&mut self, conn: ConnId, reason: DropReason, now: Instant) {
        let (addr, incoming) = match (self.peers.remove(&conn), self.dials.remove(&conn)) {
            (Some(peer), _) => (peer.hello.addr, peer.hello.incoming),
            (None, Some(dial)) => dial,
            (None, None) => return,
        };
        self.fetch.gone(conn);
        if !incoming {
            self.book.failed(addr, &reason.to_string(), false, now);
        }
        self.decide(Decision::Drop { conn, addr, reason });
        self.actions.push(Action::HangUp { conn });
    }

    /// Makes places for those that wait for one, at the cost of peers that give nothing. We starve
    /// until the last piece is here: what comes may be a liar's.
    fn evict(&mut self, now: Instant) {
        if self.free_places() != 0 {
            return;
        }
        let Some(wanted) = self.places.wanted(Need::Starving, &self.book, now) else { return };
        let age = |peer: &Peer| now.saturating_duration_since(peer.useful);
        let ages = self.peers.iter().map(|(&conn, peer)| (age(peer), conn));
        let useless = ages.filter(|(age, _)| wanted.limit <= *age).collect();
        for (after, conn) in wanted.worst(useless) {
            self.drop_peer(conn, DropReason::Useless { after }, now);
        }
    }

    fn tell(&mut self, conn: ConnId, message: Message) {
        self.actions.push(Action::Tell { conn, order: Order::Say(message) });
    }

    /// Notes a decision, if anybody wants to know or it matters.
    fn decide(&mut self, decision: Decision) {
        if self.wish.trace || decision.matters() {
            self.actions.push(Action::Decided(decision));
        }
    }
}
