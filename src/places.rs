//! The places for connections: who gets one, and who has to give it up. The same rules for the search
//! for metadata and for the swarm.
//!
//! * **One address has a few places only** ([`admits`]), and does not wait for more.
//! * **One client has one place** ([`Met`]). Of two connections to it, which both may have dialled at
//!   once, both ends must close the same one.
//! * **Who is of no use makes room for who waits** ([`Places`]): soon for an address that was never
//!   tried, later and one at a time for those that failed before or knock at our door, since these
//!   may be the honest one, or of no use again.
//! * **While most places are free, trackers are asked for more peers.**
//!
//! Layer: decisions. Pure; owned by whoever owns the connections.

use std::cmp::Ordering;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::address_book::AddressBook;
use crate::order;
use crate::picker::ConnId;
use crate::reach::{Reach, customer, reach};
use crate::swarm::Hello;
use crate::wire::handshake::PeerId;

/// Two connections between the same two clients that begin within so long were dialled by both at
/// once. It is longer than a handshake takes, so that both ends see it alike.
pub const CROSSWISE: Duration = Duration::from_secs(5);

/// A peer that gives nothing keeps its place so long when another address waits for it.
pub const USELESS: Duration = Duration::from_secs(45);

/// One that never gave anything, while nobody does: fifty silent peers must not keep the one honest
/// peer out.
const USELESS_WHILE_STARVING: Duration = Duration::from_secs(3);

/// The same, and who waits is no new address but one that failed before, or one that dialled us: it
/// may be the honest one, or of no use again.
const USELESS_FOR_ANOTHER_TRY: Duration = Duration::from_secs(12);

/// One that takes nothing of a seed keeps its place so long when somebody else waits for one.
const IDLE: Duration = Duration::from_secs(120);

/// Places that one customer may have: an IPv4 address, or the /64 of an IPv6 one. Several clients
/// behind one router find room in it, and nobody can fill fifty places from one machine.
pub const EACH_MAX: usize = 8;

/// How often, and how many at once, places are made for others.
const EVICTION_EVERY: Duration = Duration::from_secs(1);
const EVICTIONS: usize = 10;

/// Trackers are asked for more peers when there are fewer connections than this.
const PEERS_ENOUGH: usize = 8;

/// How often trackers are asked for more; they may hold it back longer (`min interval`).
const CALL_FOR_PEERS: Duration = Duration::from_secs(30);

/// How long one that dialled us in vain is thought to try again.
const KNOCKS_AGAIN: Duration = Duration::from_secs(30);

/// Whether one more that dials us from this address may have a place, while these have one. Those on
/// our own machine or network have no limit: they could hurt us more simply, and many may live behind
/// one address there (a cluster's gateway, containers).
pub fn admits(ip: IpAddr, taken: impl IntoIterator<Item = IpAddr>) -> bool {
    let whose = customer(ip);
    let same = taken.into_iter().filter(|other| customer(*other) == whose);
    reach(ip) != Reach::Everywhere || same.count() < EACH_MAX
}

/// A peer that has a place.
#[derive(Debug, Clone, Copy)]
pub struct Met {
    pub peer_id: PeerId,
    pub addr: SocketAddr,
    /// It dialled us.
    pub incoming: bool,
    pub since: Instant,
}

impl Met {
    /// Whether a new connection leads to the same client. An id alone proves nothing, since anybody
    /// can copy it, and keep the one it belongs to out that way: it must come from the same host. On
    /// the local network a host has several addresses, one of each kind, and is heard at all of them
    /// (BEP 14).
    pub fn is_twin_of(&self, new: &Hello) -> bool {
        let kind = |addr: SocketAddr| (addr.is_ipv6(), addr.ip().is_loopback());
        let local = [self.addr, new.addr].iter().all(|addr| reach(addr.ip()) != Reach::Everywhere);
        let same_host =
            self.addr.ip() == new.addr.ip() || local && kind(self.addr) != kind(new.addr);
        self.peer_id == new.peer_id && same_host
    }

    /// Whether this is the one of two connections to the same client that ends; we are `ours`. Both
    /// ends must come to the same answer. One that is older has blocks on the way, and stays.
    pub fn gives_way_to(&self, new: &Hello, ours: PeerId, now: Instant) -> bool {
        let by = |addr: SocketAddr| (!addr.ip().is_loopback(), addr.is_ipv6());
        let is_worse = match by(new.addr).cmp(&by(self.addr)) {
            Ordering::Equal if self.incoming == new.incoming => false,
            Ordering::Equal => new.incoming == (ours < new.peer_id),
            other => other.is_lt(),
        };
        is_worse && now < self.since + CROSSWISE
    }
}

/// How much we need the peers that we have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing comes.
    Starving,
    Fed,
    /// We have everything, and give.
    Nothing,
}

/// Places that are to be made for those that wait.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// How long a peer must have been of no use.
    pub limit: Duration,
    count: usize,
}

/// When somebody waited for a place in vain, when places were last made, and when more peers were
/// last called for.
#[derive(Debug)]
pub struct Places {
    turned_away: Option<Instant>,
    last_eviction: Instant,
    last_call: Instant,
}

impl Places {
    pub fn new(now: Instant) -> Places {
        Places { turned_away: None, last_eviction: now, last_call: now }
    }

    /// Whether trackers are to be asked for more peers now, so many places being taken.
    pub fn call_for_more(&mut self, taken: usize, now: Instant) -> bool {
        let call = taken < PEERS_ENOUGH && self.last_call + CALL_FOR_PEERS <= now;
        if call {
            self.last_call = now;
        }
        call
    }

    /// Somebody dialled us and found no place.
    pub fn turned_away(&mut self, now: Instant) {
        self.turned_away = Some(now);
    }

    /// The places that are wanted now, all being taken. `None`: nobody waits for one, or it is too
    /// soon after the last ones. Peers that choke us need time to give us a turn, so for anybody but
    /// a stranger only one has to go at a time, and only while we starve.
    pub fn wanted(&mut self, need: Need, book: &AddressBook, now: Instant) -> Option<Wanted> {
        if now < self.last_eviction + EVICTION_EVERY {
            return None;
        }
        let knocks = self.turned_away.is_some_and(|when| now < when + KNOCKS_AGAIN);
        let untried = book.has_untried(now);
        let (limit, count) = match need {
            Need::Nothing if knocks || untried => (IDLE, EVICTIONS),
            Need::Starving if untried => (USELESS_WHILE_STARVING, EVICTIONS),
            Need::Starving if knocks || book.has_ready(now) => (USELESS_FOR_ANOTHER_TRY, 1),
            Need::Fed if untried => (USELESS, EVICTIONS),
            _ => return None,
        };
        self.last_eviction = now;
        Some(Wanted { limit, count })
    }
}

impl Wanted {
    /// Who has to go, of those that were useless for too long: those that were for longest.
    pub fn worst(&self, mut useless: Vec<(Duration, ConnId)>) -> Vec<(Duration, ConnId)> {
        order::sort(&mut useless);
        useless.into_iter().rev().take(self.count).collect()
    }
}
