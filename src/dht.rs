//! The DHT (BEP 5): trackers without trackers. Every node keeps the peers of the torrents whose info
//! hashes are near its own id, and knows the way to nodes that are nearer to any other.
//!
//! ```text
//! packets, time ──► Dht ──► Action::Send (packets), Found (peers), Searched (how it went)
//!
//! search   look-up with get_peers towards the info hash ─► peers, tokens ─► announce_peer to the
//!          8 nearest; again every 15 to 25 minutes, sooner if nobody was found
//! table    ping who asks us, refresh buckets, look up our own id
//! answers  ping find_node get_peers announce_peer, within limits
//! ```
//!
//! | file        | what it holds                                                       |
//! |-------------|---------------------------------------------------------------------|
//! | `table`     | the nodes we know; `bucket`: eight of them                          |
//! | `lookup`    | whom to ask next on the way to a target, and when it is done        |
//! | `searches`  | the torrents we look for: rounds, announces, pauses                 |
//! | `answers`   | what we answer, and to whom; `store`: the peers that we were told of |
//! | `tokens`    | the right to announce; `guard`: limits; `votes`: our own address    |
//! | `memory`    | what is worth keeping until the next run                            |
//!
//! IPv4 and IPv6 are two DHTs (BEP 32): a table each, an id each that belongs to the address by
//! which we are seen (BEP 42, BEP 45). Questions carry random transaction ids, and only the address
//! that was asked can answer one. An address of this machine or of a private network is believed
//! only from somebody on such a network himself.
//!
//! Layer: decisions. Holds no socket and no clock: a test plays ten thousand of them.

mod answers;
mod bucket;
mod guard;
mod lookup;
mod memory;
mod searches;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod tokens;
mod votes;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::hash::Sha1;
use crate::krpc::{Answer, Ask, Body, Contact, Message, NodeId, Query, Want};
use crate::reach::reach;

pub use bucket::K;
use guard::Guard;
use lookup::SLOW;
pub use memory::{MEMORY_LEN_MAX, Memory};
pub use searches::{Announce, Searched};
use searches::{Running, Search};
use store::Store;
use table::Table;
use tokens::Tokens;
use votes::Votes;

/// A question that was not answered for so long is not answered any more.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Questions on the way at a time: some look-ups of [`lookup`] with their slow nodes, and pings.
const PENDING_MAX: usize = 256;

/// How often the table is looked after: one node is pinged, one bucket refreshed.
const CARE_EVERY: Duration = Duration::from_secs(5);

/// Nodes pinged at a time because they asked us something.
const PINGS_MAX: usize = 8;

/// Bootstrap addresses that are kept.
const STARTS_MAX: usize = 32;

/// Without any good node, the bootstrap nodes are asked again after so long; the pause doubles.
const REVIVE_FIRST: Duration = Duration::from_secs(10);
const REVIVE_MAX: Duration = Duration::from_secs(600);

/// What to be.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Families that there is a socket for.
    pub v4: bool,
    pub v6: bool,
    /// Ask, but answer nobody (BEP 43).
    pub read_only: bool,
}

/// What to do. Carried out in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Send {
        to: SocketAddr,
        packet: Vec<u8>,
    },
    /// Nobody there answered the question `t` in time: for a trace.
    Silent(SocketAddr, [u8; 4]),
    /// Peers of a torrent, new in this round.
    Found {
        info_hash: Sha1,
        peers: Vec<SocketAddr>,
    },
    /// A round of a search is over.
    Searched(Searched),
}

/// What came in and what became of it: for the log, and for tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub asked: u64,
    pub answers: u64,
    pub questions: u64,
    pub answered: u64,
    /// Packets that are no messages of the DHT; those that are too long included.
    pub garbage: u64,
    /// Answers to nothing that we asked, or from somebody else than whom we asked.
    pub unasked: u64,
    /// Answers from another id than was asked (they count), or from our own (they do not).
    pub wrong_id: u64,
    /// Nodes whose id does not belong to their address.
    pub misfits: u64,
    /// Packets from those who ask too much, and questions beyond what we answer.
    pub flood: u64,
    /// Announces without a good token.
    pub bad_token: u64,
    /// Questions that nobody answered.
    pub silent: u64,
    /// Nodes and peers that the teller has no business to name.
    pub unbelieved: u64,
}

/// What one family has.
#[derive(Debug)]
struct Side {
    own: NodeId,
    ip: Option<IpAddr>,
    table: Table,
    votes: Votes,
    /// When to look up our own id, and the pause after that.
    revive: Instant,
    pause: Duration,
}

/// A question on the way.
#[derive(Debug)]
struct Pending {
    to: SocketAddr,
    /// `None` for an address of which nothing else is known.
    id: Option<NodeId>,
    sent: Instant,
    slow: bool,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Ping,
    Announce,
    Lookup(u32),
}

#[derive(Debug)]
pub struct Dht {
    config: Config,
    rng: fastrand::Rng,
    /// IPv4, IPv6.
    sides: [Option<Side>; 2],
    /// Addresses of which nothing else is known: bootstrap nodes.
    starts: Vec<SocketAddr>,
    /// By transaction id.
    pending: BTreeMap<[u8; 4], Pending>,
    lookups: BTreeMap<u32, Running>,
    last_lookup: u32,
    searches: Vec<Search>,
    guard: Guard,
    tokens: Tokens,
    store: Store,
    counters: Counters,
    actions: Vec<Action>,
    care: Instant,
}

/// Whether somebody may name an address: nobody out there knows a node on this machine.
fn may_name(teller: IpAddr, named: IpAddr) -> bool {
    reach(teller) <= reach(named)
}

impl Dht {
    /// A node that remembers what an earlier run has kept, if anything.
    pub fn new(config: Config, memory: &Memory, mut rng: fastrand::Rng, now: Instant) -> Dht {
        let mut side = |v6: bool| {
            let ip = memory.ips.iter().copied().find(|ip| ip.is_ipv6() == v6);
            let own = match ip {
                Some(ip) => NodeId::for_ip(ip, &mut rng),
                None => NodeId::random(&mut rng),
            };
            let mut table = Table::new(own, now);
            let nodes = memory.nodes.iter().filter(|node| node.addr.is_ipv6() == v6);
            nodes.for_each(|node| table.remembered(*node, now));
            let (votes, pause) = (Votes::default(), REVIVE_FIRST);
            Side { own, ip, table, votes, revive: now, pause }
        };
        let sides = [config.v4.then(|| side(false)), config.v6.then(|| side(true))];
        Dht {
            config,
            sides,
            starts: Vec::new(),
            pending: BTreeMap::new(),
            lookups: BTreeMap::new(),
            last_lookup: 0,
            searches: Vec::new(),
            guard: Guard::new(now),
            tokens: Tokens::new(rng.fork(), now),
            rng,
            store: Store::default(),
            counters: Counters::default(),
            actions: Vec::new(),
            care: now,
        }
    }

    /// Addresses to begin with: bootstrap nodes, whose names have been looked up.
    pub fn add_starts(&mut self, addrs: &[SocketAddr], now: Instant) {
        for addr in addrs {
            if !self.starts.contains(addr) && self.starts.len() < STARTS_MAX {
                self.starts.push(*addr);
            }
        }
        for side in self.sides.iter_mut().flatten() {
            if side.table.len(now).1 == 0 {
                (side.revive, side.pause) = (now, REVIVE_FIRST);
            }
        }
        self.hurry(now);
        self.tick(now);
    }

    /// A node of which somebody told us (a peer's `port` message, a torrent's `nodes`). It gets in
    /// when it answers.
    pub fn add_node(&mut self, addr: SocketAddr, now: Instant) {
        let known = self.pending.values().any(|pending| pending.to == addr);
        if !known && self.side(addr).is_some() && self.pending.len() < PENDING_MAX / 2 {
            self.ask(addr, None, Ask::Ping, What::Ping, now);
        }
    }

    /// Nodes that are known to live, as if each had just answered: a simulation of thousands fills
    /// their tables with it.
    pub fn knows(&mut self, nodes: impl IntoIterator<Item = Contact>, now: Instant) {
        for node in nodes {
            if let Some(side) = self.side(node.addr) {
                side.table.answered(node, now);
                side.revive = now + bucket::GOOD_FOR;
            }
        }
    }

    /// What is to be done since the last time somebody asked.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Nodes that have a place in the tables, and how many of them are good.
    pub fn nodes(&self, now: Instant) -> (usize, usize) {
        let counts = self.sides.iter().flatten().map(|side| side.table.len(now));
        counts.fold((0, 0), |sum, (all, good)| (sum.0 + all, sum.1 + good))
    }

    /// Torrents and peers that others have announced to us.
    pub fn stored(&self) -> (usize, usize) {
        self.store.len()
    }

    /// Our id in the DHT of a family.
    pub fn id(&self, v6: bool) -> Option<NodeId> {
        self.sides[usize::from(v6)].as_ref().map(|side| side.own)
    }

    pub fn memory(&self) -> Memory {
        let sides = || self.sides.iter().flatten();
        Memory {
            nodes: sides().flat_map(|side| side.table.nodes()).collect(),
            ips: sides().filter_map(|side| side.ip).collect(),
        }
    }

    fn side(&mut self, addr: SocketAddr) -> Option<&mut Side> {
        self.sides[usize::from(addr.is_ipv6())].as_mut()
    }

    /// Takes one packet.
    pub fn receive(&mut self, from: SocketAddr, packet: &[u8], now: Instant) {
        // Without the scope of an IPv6 address, which no packet carries.
        let from = SocketAddr::new(from.ip(), from.port());
        if from.port() == 0 || self.side(from).is_none() {
            return;
        }
        // One that floods us, or whose address others forge to make us deaf to it, is not heard: save
        // for the answers that we wait for.
        let is_heard = self.guard.hears(from, now);
        if !is_heard && !self.pending.values().any(|pending| pending.to == from) {
            self.counters.flood += 1;
            return;
        }
        let message = Message::decode(packet);
        if let Some(pending) = message.as_ref().ok().and_then(|m| self.take_pending(from, m)) {
            match message {
                Ok(Message { ip, body: Body::Answer(answer), .. }) => {
                    self.answer(pending, ip, answer, now)
                }
                // It lives, but has nothing for us.
                refusal => {
                    self.seen_at(refusal.ok().and_then(|message| message.ip), from, now);
                    self.lookup_failed(&pending, now);
                }
            }
            return;
        }
        let counter = match message {
            _ if !is_heard => &mut self.counters.flood,
            Ok(Message { transaction, body: Body::Query(query), .. }) => {
                return self.question(from, transaction, query, now);
            }
            Ok(_) => &mut self.counters.unasked,
            Err(_) => &mut self.counters.garbage,
        };
        *counter += 1;
        if is_heard && self.guard.admits(from, now) {
            self.refuse_broken(from, packet, now);
        }
    }

    /// The question that a message answers.
    fn take_pending(&mut self, from: SocketAddr, message: &Message) -> Option<Pending> {
        let t = <[u8; 4]>::try_from(&message.transaction[..]).ok()?;
        let is_question = matches!(message.body, Body::Query(_));
        self.pending.get(&t).filter(|asked| !is_question && asked.to == from)?;
        self.pending.remove(&t)
    }

    /// An answer from whom we asked.
    fn answer(&mut self, pending: Pending, ip: Option<SocketAddr>, answer: Answer, now: Instant) {
        let from = pending.to;
        let Some(side) = self.side(from) else { return };
        if side.own == answer.id {
            self.counters.wrong_id += 1;
            self.node_failed(&pending);
            self.lookup_failed(&pending, now);
            return;
        }
        // A node that was started again: whoever answers at an address is who lives there.
        let renamed = pending.id.is_some_and(|id| id != answer.id);
        let is_first = side.table.len(now).1 == 0;
        self.counters.wrong_id += u64::from(renamed);
        self.counters.answers += 1;
        let contact = Contact { id: answer.id, addr: from };
        self.counters.misfits += u64::from(!bucket::fits(contact));
        self.side(from).into_iter().for_each(|side| side.table.answered(contact, now));
        self.seen_at(ip, from, now);
        match pending.what {
            What::Lookup(number) => self.lookup_answered(number, contact, answer, ip, now),
            _ if is_first => self.found_a_way_in(now),
            _ => {}
        }
    }

    /// Somebody says how he sees us (BEP 42).
    fn seen_at(&mut self, ip: Option<SocketAddr>, by: SocketAddr, now: Instant) {
        let votes = self.side(by).map(|side| &mut side.votes);
        let elected = ip.zip(votes).and_then(|(ip, votes)| votes.vote(ip.ip(), by.ip()));
        elected.into_iter().for_each(|ip| self.moved(ip, now));
    }

    /// Others see us at an address to which our id does not belong: we take another (BEP 42).
    fn moved(&mut self, ip: IpAddr, now: Instant) {
        let Some(side) = self.sides[usize::from(ip.is_ipv6())].as_mut() else { return };
        side.ip = Some(ip);
        if !side.own.fits(ip) {
            side.own = NodeId::for_ip(ip, &mut self.rng);
            side.table = side.table.moved(side.own, now);
            side.revive = now;
        }
    }

    /// Sends a question. The transaction id is random, so who does not see it cannot answer it.
    fn ask(&mut self, to: SocketAddr, id: Option<NodeId>, ask: Ask, what: What, now: Instant) {
        let read_only = self.config.read_only;
        let Some(side) = self.side(to) else { return };
        let query = Query { id: side.own, read_only, ask };
        let mut t = [0; 4];
        self.rng.fill(&mut t);
        self.pending.insert(t, Pending { to, id, sent: now, slow: false, what });
        self.counters.asked += 1;
        let message = Message { transaction: t.to_vec(), ip: None, body: Body::Query(query) };
        self.actions.push(Action::Send { to, packet: message.encode() });
    }

    /// Which families a question asks for: the other one too, while little is known of it.
    fn want(&self, now: Instant) -> Want {
        let few = |side: &Option<Side>| side.as_ref().is_some_and(|s| s.table.len(now).1 < K);
        match &self.sides {
            [Some(_), Some(_)] if self.sides.iter().any(few) => Want { v4: true, v6: true },
            _ => Want::default(),
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        self.expire(now);
        if self.care <= now {
            self.care = now + CARE_EVERY;
            self.tokens.tick(now);
            self.store.expire(now);
            self.look_after(false, now);
            self.look_after(true, now);
        }
        self.revive(false, now);
        self.revive(true, now);
        self.search_what_is_due(now);
    }

    /// When [`tick`](Self::tick) has something to do next, if no packet comes before.
    pub fn deadline(&self) -> Instant {
        let pending = self.pending.values();
        let next = pending.map(|p| p.sent + if p.slow { TIMEOUT } else { SLOW });
        let searches = self.searches.iter().filter(|search| search.is_idle());
        let revives = self.sides.iter().flatten().map(|side| side.revive);
        let rest = searches.map(|search| search.due).chain(revives).chain([self.care]);
        next.chain(rest).min().unwrap_or(self.care)
    }

    fn expire(&mut self, now: Instant) {
        let mut late = Vec::new();
        for (t, pending) in &mut self.pending {
            if pending.sent + TIMEOUT <= now {
                late.push(*t);
            } else if !pending.slow && pending.sent + SLOW <= now {
                pending.slow = true;
                if let What::Lookup(number) = pending.what
                    && let Some(running) = self.lookups.get_mut(&number)
                {
                    running.lookup.slow(pending.to);
                }
            }
        }
        for t in late {
            let Some(pending) = self.pending.remove(&t) else { continue };
            self.counters.silent += 1;
            self.actions.push(Action::Silent(pending.to, t));
            self.node_failed(&pending);
            self.lookup_failed(&pending, now);
        }
        self.drive_all(now);
    }

    /// Pings one node that was not heard of for long, and refreshes one quiet bucket.
    fn look_after(&mut self, v6: bool, now: Instant) {
        let Some(side) = self.sides[usize::from(v6)].as_mut() else { return };
        let questionable = side.table.questionable(now);
        let busy = self.lookups.values().any(|running| running.is_for_table(v6));
        let refresh = if busy { None } else { side.table.refresh(&mut self.rng, now) };
        if let Some(node) = questionable
            && self.pending.values().all(|pending| pending.to != node.addr)
        {
            self.ask(node.addr, Some(node.id), Ask::Ping, What::Ping, now);
        }
        if let Some(target) = refresh {
            self.start_lookup(target, v6, None, now);
        }
    }

    /// Looks up our own id: at the start, and while nobody good is known.
    fn revive(&mut self, v6: bool, now: Instant) {
        let Some(side) = self.sides[usize::from(v6)].as_mut() else { return };
        if now < side.revive {
            return;
        }
        side.revive = now + side.pause;
        side.pause = (side.pause * 2).min(REVIVE_MAX);
        let own = side.own;
        self.start_lookup(own, v6, None, now);
    }

    /// A look-up of our own id is over.
    fn revived(&mut self, v6: bool, now: Instant) {
        let Some(side) = self.sides[usize::from(v6)].as_mut() else { return };
        if side.table.len(now).1 != 0 {
            side.pause = REVIVE_FIRST;
            side.revive = now + bucket::GOOD_FOR;
        }
    }
}
