//! What must hold for every action of the swarm, whatever it was told.
//!
//! A second, simpler account of the same connections: kept from the facts that go in and the
//! actions that come out, and compared with what the swarm says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use piecemeal::bitfield::Bitfield;
use piecemeal::geometry::{Geometry, PieceIndex, Span};
use piecemeal::picker::ConnId;
use piecemeal::swarm::{Action, Decision, Fact, Order, Status, Swarm};
use piecemeal::wire::extended::dont_have;
use piecemeal::wire::message::Message;

pub struct Rules {
    geometry: Geometry,
    max_peers: usize,
    may_give_up: bool,
    have: Bitfield,
    conns: BTreeMap<ConnId, Conn>,
    /// Those that are gone.
    left: BTreeSet<ConnId>,
    /// Addresses from which we were dialled.
    dialled_us: BTreeSet<SocketAddr>,
    /// Addresses that we had dialled and that are never to be dialled again.
    banned: BTreeSet<SocketAddr>,
    pub finished: bool,
    pub gave_up: bool,
}

/// A connection, from its dial to its end.
struct Conn {
    addr: SocketAddr,
    incoming: bool,
    connected: bool,
    fast: bool,
    has: Bitfield,
    choking: bool,
    interested: bool,
    /// What we are to it: whether it wants something of us, and whether we choke it.
    wants: bool,
    choked: bool,
    allowed: Vec<PieceIndex>,
    asked: Vec<Span>,
    /// What its last words ended: until all of them are taken, such a block may still be cancelled.
    released: Vec<Span>,
}

impl Rules {
    pub fn new(geometry: Geometry, max_peers: usize, may_give_up: bool, have: Bitfield) -> Rules {
        Rules {
            geometry,
            max_peers,
            may_give_up,
            have,
            conns: BTreeMap::new(),
            left: BTreeSet::new(),
            dialled_us: BTreeSet::new(),
            banned: BTreeSet::new(),
            finished: false,
            gave_up: false,
        }
    }

    /// Somebody dialled us and was given this number, or we dial.
    pub fn opened(&mut self, conn: ConnId, addr: SocketAddr, incoming: bool) {
        assert!(!self.left.contains(&conn), "{conn} is used twice");
        if incoming {
            self.dialled_us.insert(addr);
        }
        let fresh = Conn {
            addr,
            incoming,
            connected: false,
            fast: false,
            has: Bitfield::new(self.geometry.pieces()),
            choking: true,
            interested: false,
            wants: false,
            choked: true,
            allowed: Vec::new(),
            asked: Vec::new(),
            released: Vec::new(),
        };
        assert!(self.conns.insert(conn, fresh).is_none(), "{conn} is used twice");
        assert!(self.conns.len() <= self.max_peers, "more than {} connections", self.max_peers);
    }

    /// To be called before the swarm is told.
    pub fn told(&mut self, fact: &Fact) {
        match fact {
            Fact::Connected { conn, hello } => {
                if let Some(conn) = self.conns.get_mut(conn) {
                    (conn.connected, conn.fast) = (true, hello.reserved.fast());
                }
            }
            Fact::Said { conn, messages } => {
                if let Some(conn) = self.conns.get_mut(conn).filter(|conn| conn.connected) {
                    conn.released.clear();
                    messages.iter().for_each(|message| conn.hears(message, &self.geometry));
                }
            }
            Fact::Stored { piece } => drop(self.have.insert(*piece)),
            _ => {}
        }
    }

    /// To be called with each action, in order.
    pub fn done(&mut self, action: &Action) {
        match action {
            Action::Dial { conn, addr } => {
                let twice = self.conns.values().find(|conn| conn.addr == *addr && !conn.incoming);
                assert!(twice.is_none(), "{addr} is dialled twice at a time");
                assert!(addr.port() != 0 && !addr.ip().is_unspecified(), "{addr} is dialled");
                assert!(!self.banned.contains(addr), "{addr} is banned and dialled");
                assert!(!self.finished, "{addr} is dialled when all is done");
                self.opened(*conn, *addr, false);
            }
            Action::Tell { conn, order } => {
                let peer = self.conns.get_mut(conn).filter(|conn| conn.connected);
                let peer = peer.unwrap_or_else(|| panic!("{conn} is no peer: {order:?}"));
                match order {
                    Order::Say(message) => peer.is_told(message, &self.have),
                    Order::Haves(pieces) => pieces
                        .iter()
                        .for_each(|piece| peer.is_told(&Message::Have(piece), &self.have)),
                    Order::Ask(spans) => {
                        assert!(!self.finished && !spans.is_empty());
                        spans
                            .iter()
                            .for_each(|span| peer.is_asked(*span, &self.geometry, &self.have));
                    }
                    Order::Upload(span) => {
                        assert!(!peer.choked, "{span} for one that we choke");
                        assert!(self.geometry.contains(*span) && self.have.contains(span.piece));
                        assert!(span.length <= 128 * 1024, "{span:?}");
                    }
                    Order::Withdraw(_) | Order::WithdrawAll | Order::Metadata { .. } => {}
                }
            }
            Action::HangUp { conn } => {
                assert!(self.conns.remove(conn).is_some(), "{conn} is hung up on twice");
                self.left.insert(*conn);
            }
            Action::MorePeers | Action::DhtNode { .. } | Action::Done => {}
            Action::Fetch { .. } | Action::CutFetch { .. } => panic!("there is no web seed"),
            Action::Finished => {
                assert!(!self.finished && self.have.is_full());
                self.finished = true;
            }
            Action::GiveUp => {
                assert!(self.may_give_up && !self.finished);
                self.gave_up = true;
            }
            Action::Decided(decision) => self.decided(decision),
        }
    }

    fn decided(&mut self, decision: &Decision) {
        let text = decision.to_string();
        assert!(!text.chars().any(char::is_control), "{text:?}");
        match decision {
            // It may be asked for the same blocks again.
            Decision::Snub { conn, blocks, .. } => {
                let conn = self.conns.get_mut(conn).expect("a peer");
                assert!(*blocks != 0);
                conn.asked.clear();
            }
            // One that dialled us is banned by its host: its port says nothing.
            Decision::Ban { addr, .. } if !self.dialled_us.contains(addr) => {
                self.banned.insert(*addr);
            }
            _ => {}
        }
    }

    /// What the swarm says of itself is what we know of it.
    pub fn compare(&self, swarm: &Swarm, status: &Status) {
        let missing = (0..self.geometry.pieces()).filter(|&piece| !self.have.contains(piece));
        let left: u64 = missing.map(|piece| u64::from(self.geometry.piece_len(piece))).sum();
        assert_eq!(swarm.left(), left);
        assert_eq!(swarm.have(), &self.have);
        assert_eq!(self.finished, self.have.is_full());
        let connected = self.conns.values().filter(|conn| conn.connected).count();
        assert_eq!(status.connected, connected);
        assert_eq!(status.dialling, self.conns.len() - connected);
        let unchoking = self.conns.values().filter(|conn| conn.connected && !conn.choking).count();
        assert_eq!(status.unchoking, unchoking);
        let total = self.geometry.total_length();
        assert!(total - left <= status.done_bytes && status.done_bytes <= total, "{status:?}");
        assert!(status.wasted <= status.downloaded, "{status:?}");
        assert_eq!(status.downloaded, swarm.downloaded());
        assert!(status.download_rate.is_finite() && 0.0 <= status.download_rate, "{status:?}");
        if let Some(stuck) = &status.stuck {
            assert!(!stuck.to_string().chars().any(char::is_control), "{stuck}");
        }
        for (id, conn) in self.conns.iter().filter(|(_, conn)| conn.connected) {
            let wanted = conn.has.iter().any(|piece| !self.have.contains(piece));
            assert_eq!(conn.interested, wanted, "whether {id} interests us");
        }
    }
}

impl Conn {
    /// What it says counts from now on. (If it breaks a rule, it is hung up on next.)
    fn hears(&mut self, message: &Message, geometry: &Geometry) {
        let pieces = geometry.pieces();
        match message {
            Message::Choke => {
                self.choking = true;
                if !self.fast {
                    self.released.append(&mut self.asked);
                }
            }
            Message::Unchoke => self.choking = false,
            Message::Interested => self.wants = true,
            Message::NotInterested => self.wants = false,
            Message::Have(piece) if *piece < pieces => drop(self.has.insert(*piece)),
            Message::Bitfield(bits) => {
                self.has = Bitfield::from_wire(bits, pieces).unwrap_or(self.has.clone())
            }
            Message::Extended(3, piece) => {
                let piece = dont_have(piece).ok().filter(|&piece| piece < pieces);
                let _ = piece.is_some_and(|piece| self.has.remove(piece));
            }
            Message::HaveAll if self.fast => self.has = Bitfield::full(pieces),
            Message::HaveNone if self.fast => self.has = Bitfield::new(pieces),
            Message::AllowedFast(piece) if self.fast => self.allowed.push(*piece),
            Message::Block(span) => drop(self.answers(*span)),
            Message::Reject(span) if self.fast && self.answers(*span) && self.choking => {
                self.allowed.retain(|&piece| piece != span.piece);
            }
            _ => {}
        }
    }

    fn answers(&mut self, span: Span) -> bool {
        let at = self.asked.iter().position(|asked| *asked == span);
        at.map(|at| self.asked.remove(at)).is_some()
    }

    fn is_told(&mut self, message: &Message, have: &Bitfield) {
        assert!(self.fast || !message.needs_fast(), "{message} without Fast");
        match message {
            Message::Interested | Message::NotInterested => {
                let interested = *message == Message::Interested;
                assert_ne!(self.interested, interested, "{message}, twice");
                self.interested = interested;
            }
            Message::Have(piece) => assert!(have.contains(*piece), "{message}"),
            Message::Bitfield(bits) => assert_eq!(bits, have.as_bytes()),
            Message::HaveAll => assert!(have.is_full()),
            Message::HaveNone => assert!(have.is_empty()),
            Message::Cancel(span) => {
                let known = self.answers(*span) || self.released.contains(span);
                assert!(known, "{message}, never asked");
            }
            Message::Reject(_) | Message::Extended(..) => {}
            Message::Unchoke | Message::Choke => {
                let choked = *message == Message::Choke;
                assert_ne!(self.choked, choked, "{message}, twice");
                assert!(choked || self.wants, "unchoked, and it wants nothing");
                self.choked = choked;
            }
            other => panic!("we never say {other}"),
        }
    }

    fn is_asked(&mut self, span: Span, geometry: &Geometry, have: &Bitfield) {
        assert!(geometry.contains(span) && geometry.block_index(span).is_some(), "{span:?}");
        assert!(!have.contains(span.piece), "{span}, which we have");
        assert!(self.has.contains(span.piece), "{span}, which the peer has not");
        assert!(!self.choking || self.allowed.contains(&span.piece), "{span} of one that chokes");
        assert!(self.interested, "{span} of one that we are not interested in");
        assert!(!self.asked.contains(&span), "{span} twice of the same peer");
        self.asked.push(span);
    }
}
