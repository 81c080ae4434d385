//! Peer exchange (BEP 11): what peers tell us of others, and what we tell them.
//!
//! * We tell of those who are connected and can be dialled: whom we dialled ourselves, and whoever
//!   has told us where it listens (BEP 10, `p`). A peer is told soon after it has come, and then who
//!   has come and gone since, every [`PAUSE`] at most; nothing at all where nothing has changed.
//! * A peer may name [`BUDGET_FIRST`] addresses, and [`BUDGET_MORE`] more each minute; what goes
//!   beyond is not believed. Who speaks before its minute is over talks idly.
//! * An address that lies nearer than who names it is not believed, and not told to those farther
//!   away: nobody on the internet can make us dial our own machine, or needs our network's addresses.
//!
//! Never in private torrents (BEP 27): there it is not even offered.
//!
//! Layer: decisions. A part of the swarm.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::talk::Broken;
use super::{Peer, Swarm};
use crate::address_book::Source;
use crate::picker::ConnId;
use crate::reach::reach;
use crate::wire::extended::Extension;
use crate::wire::message::Message;
use crate::wire::pex::{ADDED_MAX, Pex, REACHABLE, UPLOAD_ONLY};

/// How often a peer is told at most (BEP 11).
const PAUSE: Duration = Duration::from_secs(60);

/// The same for what peers tell us, with some patience for clocks and queues.
const PAUSE_OF_OTHERS: Duration = Duration::from_secs(45);

/// How long a peer is connected before it is told for the first time: others come at the same time,
/// and what is not in the first message waits for a minute.
const FIRST_AFTER: Duration = Duration::from_millis(500);

/// How often it is looked who is to be told.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Addresses in one message but the first (BEP 11).
const ADDED_LATER_MAX: usize = 50;
const DROPPED_MAX: usize = 50;

/// How many addresses of one peer are believed: at first, and more for each minute.
const BUDGET_FIRST: u32 = 200;
const BUDGET_MORE: u32 = 50;

/// What a message counts that comes too soon.
const IDLE_TOO_SOON: u32 = 50;

/// What was told to a peer, and by it.
#[derive(Debug)]
pub(super) struct Exchange {
    told: BTreeSet<SocketAddr>,
    told_last: Option<Instant>,
    heard_last: Option<Instant>,
    budget: Budget,
}

/// How many addresses of one peer may still be believed, and since when they count.
#[derive(Debug)]
pub struct Budget {
    left: u32,
    since: Instant,
}

impl Exchange {
    pub fn new(now: Instant) -> Exchange {
        let (told, told_last, heard_last) = Default::default();
        Exchange { told, told_last, heard_last, budget: Budget::new(now) }
    }
}

impl Budget {
    pub fn new(now: Instant) -> Budget {
        Budget { left: BUDGET_FIRST, since: now }
    }

    /// A message has come; how many of so many addresses are believed.
    pub fn spend(&mut self, wanted: usize, now: Instant) -> usize {
        let minutes = now.saturating_duration_since(self.since).as_secs() / 60;
        if minutes != 0 {
            let more = BUDGET_MORE.saturating_mul(u32::try_from(minutes).unwrap_or(u32::MAX));
            self.left = self.left.saturating_add(more).min(BUDGET_FIRST);
            self.since = now;
        }
        let believed = (self.left as usize).min(wanted);
        self.left -= believed as u32;
        believed
    }
}

impl Peer {
    /// Where it can be dialled, as far as that is known.
    pub(super) fn listens_at(&self) -> Option<SocketAddr> {
        match (self.incoming, self.said.port) {
            (false, _) => Some(self.addr),
            (true, Some(port)) => Some(SocketAddr::new(self.addr.ip(), port)),
            (true, None) => None,
        }
    }
}

/// Whether one at `from` may speak of `ip`, or be told of it: it must not lie nearer than `from`,
/// and have a meaning there at all.
pub fn makes_sense(ip: IpAddr, from: IpAddr) -> bool {
    let only_here = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    reach(from) <= reach(ip) && !only_here
}

impl Swarm {
    /// A peer tells of others.
    pub(super) fn hears_of(
        &mut self,
        conn: ConnId,
        payload: &[u8],
        now: Instant,
    ) -> Result<(), Broken> {
        let our_port = self.config.offer.port;
        let fetches_nothing = self.fetches_nothing();
        let peer = self.peers.get_mut(&conn).expect("known");
        peer.idle_talk += 1;
        if !self.config.offer.pex {
            return Ok(());
        }
        let Pex { mut added, .. } = Pex::parse(payload).map_err(|rule| rule.0)?;
        let too_soon = peer.pex.heard_last.is_some_and(|last| now < last + PAUSE_OF_OTHERS);
        peer.idle_talk += if too_soon { IDLE_TOO_SOON } else { 0 };
        peer.pex.heard_last = Some(now);
        added.truncate(peer.pex.budget.spend(added.len(), now));
        if added.is_empty() {
            return Ok(());
        }
        let (from, us) = (peer.addr.ip(), peer.said.your_ip);
        let known: BTreeSet<SocketAddr> =
            self.peers.values().filter_map(Peer::listens_at).collect();
        // Seeds have nothing to say to each other; and we need not be told of ourselves.
        let wanted = |&(addr, flags): &(SocketAddr, u8)| {
            let ourselves = addr.port() == our_port && us == Some(addr.ip());
            let useless = fetches_nothing && flags & UPLOAD_ONLY != 0;
            makes_sense(addr.ip(), from) && !ourselves && !useless && !known.contains(&addr)
        };
        added.retain(wanted);
        added.into_iter().for_each(|(addr, _)| _ = self.book.add(addr, Source::Pex, now));
        self.dial(now);
        Ok(())
    }

    /// Tells whoever may be told by now.
    pub(super) fn tell_of_others(&mut self, now: Instant) {
        if !self.config.offer.pex || now < self.next_exchange {
            return;
        }
        self.next_exchange = now + LOOK_EVERY;
        let due = |peer: &Peer| {
            let first = peer.since + FIRST_AFTER;
            peer.pex.told_last.map_or(first, |last| last + PAUSE) <= now
        };
        let due = self.peers.iter().filter(|(_, peer)| due(peer));
        let due = due.filter_map(|(&conn, peer)| Some((conn, peer.said.id(Extension::Pex)?)));
        let due: Vec<(ConnId, u8)> = due.collect();
        if due.is_empty() {
            return;
        }
        let flags = |peer: &Peer| {
            let seed = if peer.fetches_nothing() { UPLOAD_ONLY } else { 0 };
            seed | if peer.incoming { 0 } else { REACHABLE }
        };
        // Each address once, though two peers claim it: one that we have dialled is sure of it.
        let (mut all, mut there): (Vec<(SocketAddr, u8)>, BTreeSet<SocketAddr>) =
            Default::default();
        for incoming in [false, true] {
            for peer in self.peers.values().filter(|peer| peer.incoming == incoming) {
                let addr = peer.listens_at().filter(|addr| there.insert(*addr));
                all.extend(addr.map(|addr| (addr, flags(peer))));
            }
        }
        for (conn, id) in due {
            let peer = self.peers.get_mut(&conn).expect("listed");
            let message = news(peer, &all, &there);
            if message != Pex::default() {
                peer.pex.told_last = Some(now);
                self.tell(conn, Message::Extended(id, message.to_bytes()));
            }
        }
    }
}

/// What a peer has not been told yet; from now on it has.
fn news(peer: &mut Peer, all: &[(SocketAddr, u8)], there: &BTreeSet<SocketAddr>) -> Pex {
    let (to, own) = (peer.addr.ip(), peer.listens_at());
    let exchange = &mut peer.pex;
    let max = if exchange.told_last.is_none() { ADDED_MAX } else { ADDED_LATER_MAX };
    let fit = |addr: SocketAddr| Some(addr) != own && makes_sense(addr.ip(), to);
    let added = all.iter().filter(|(addr, _)| fit(*addr) && !exchange.told.contains(addr));
    let added: Vec<(SocketAddr, u8)> = added.take(max).copied().collect();
    let dropped = exchange.told.difference(there).take(DROPPED_MAX).copied();
    let dropped: Vec<SocketAddr> = dropped.collect();
    exchange.told.extend(added.iter().map(|(addr, _)| *addr));
    dropped.iter().for_each(|addr| _ = exchange.told.remove(addr));
    Pex { added, dropped }
}
