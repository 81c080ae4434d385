//! The look-ups that run, and the torrents that they are for.
//!
//! ```text
//! round   a look-up in each family ─► peers as they are found ─► announces ─► Searched
//! pause   nobody answered, or nobody has it: 5 s, doubling, 10 min at most
//!         somebody found: 15 to 25 min (BEP 5: announces are kept for 30 or so)
//!         more peers are wanted: as soon as a minute has passed
//!         a seed that enough nodes know: 15 to 25 min in any case, since the others look for it
//! ```
//!
//! Layer: decisions. A part of [`Dht`].

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::lookup::{Lookup, Next};
use super::{Action, Dht, K, PENDING_MAX, Pending, REVIVE_FIRST, What, may_name};
use crate::hash::Sha1;
use crate::krpc::{Answer, Ask, Contact, NodeId};

/// Torrents that are looked for at a time.
const SEARCHES_MAX: usize = 16;

/// Peers that a round may find. The swarm remembers 3,000 in all.
const FOUND_MAX: usize = 1000;

const PAUSE_FIRST: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// After a round that found somebody; up to [`AGAIN_SPREAD`] more, so that not all of a swarm come
/// at once.
const AGAIN: Duration = Duration::from_secs(15 * 60);
const AGAIN_SPREAD: u64 = 10 * 60;

/// However much peers are wanted.
const AGAIN_SOONEST: Duration = Duration::from_secs(60);

/// What others are told of us: where peers can dial us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announce {
    pub port: u16,
    /// Our UDP port is the same, so the port that packets come from will do: behind a NAT it is the
    /// only one that others can see.
    pub implied_port: bool,
    /// We have everything (BEP 33).
    pub seed: bool,
}

/// How a round went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Searched {
    pub info_hash: Sha1,
    /// Nodes that were asked, and that answered.
    pub asked: usize,
    pub answered: usize,
    /// Answers on the way to the node nearest to the torrent.
    pub hops: u32,
    /// Different peers that were found.
    pub peers: usize,
    /// Nodes that were told of us.
    pub announced: usize,
    pub again_in: Duration,
}

#[derive(Debug)]
pub(super) struct Search {
    info_hash: Sha1,
    announce: Option<Announce>,
    /// When the next round begins.
    pub(super) due: Instant,
    /// Look-ups of this round that are on the way.
    running: usize,
    ended: Option<Instant>,
    pause: Duration,
    found: HashSet<SocketAddr>,
    result: Searched,
}

impl Search {
    pub(super) fn is_idle(&self) -> bool {
        self.running == 0
    }

    /// We have everything, and in the last round as many nodes were told so as there are to be.
    fn is_known_seed(&self) -> bool {
        self.announce.is_some_and(|announce| announce.seed) && K <= self.result.announced
    }
}

/// A look-up at work.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) lookup: Lookup,
    v6: bool,
    /// The torrent; `None` for one that is for the table only.
    info_hash: Option<Sha1>,
}

impl Running {
    pub(super) fn is_for_table(&self, v6: bool) -> bool {
        self.info_hash.is_none() && self.v6 == v6
    }
}

impl Dht {
    /// Looks for a torrent's peers, and announces us to the nodes near it; again and again.
    pub fn search(&mut self, info_hash: Sha1, announce: Option<Announce>, now: Instant) {
        if let Some(search) = self.searches.iter_mut().find(|s| s.info_hash == info_hash) {
            if search.announce != announce {
                // Who is told where to find us should not be told something else for long.
                let soonest = search.ended.map_or(now, |ended| ended + AGAIN_SOONEST);
                search.due = search.due.min(soonest.max(now));
            }
            search.announce = announce;
        } else if self.searches.len() < SEARCHES_MAX {
            let (found, ended) = Default::default();
            let result = nothing(info_hash);
            let pause = PAUSE_FIRST;
            let (due, running) = (now, 0);
            self.searches.push(Search {
                info_hash,
                announce,
                due,
                running,
                ended,
                pause,
                found,
                result,
            });
        }
        self.search_what_is_due(now);
    }

    /// More peers are wanted.
    pub fn more_peers(&mut self, info_hash: Sha1, now: Instant) {
        let same = |s: &&mut Search| s.info_hash == info_hash && !s.is_known_seed();
        if let Some(search) = self.searches.iter_mut().find(same) {
            let soonest = search.ended.map_or(now, |ended| ended + AGAIN_SOONEST);
            search.due = search.due.min(soonest.max(now));
        }
        self.search_what_is_due(now);
    }

    /// Nodes have been found: what could not be looked for without them is due.
    pub(super) fn hurry(&mut self, now: Instant) {
        for search in &mut self.searches {
            if search.result.answered < K {
                search.due = search.due.min(now);
            }
        }
    }

    /// The first node that lives, outside of any look-up: one that a peer has named.
    pub(super) fn found_a_way_in(&mut self, now: Instant) {
        for side in self.sides.iter_mut().flatten() {
            (side.revive, side.pause) = (side.revive.min(now), REVIVE_FIRST);
        }
        self.hurry(now);
        self.tick(now);
    }

    pub(super) fn search_what_is_due(&mut self, now: Instant) {
        let is_due = |search: &&mut Search| search.is_idle() && search.due <= now;
        let due: Vec<Sha1> = self
            .searches
            .iter_mut()
            .filter(is_due)
            .map(|search| {
                search.running = 1;
                search.found.clear();
                search.result = nothing(search.info_hash);
                search.info_hash
            })
            .collect();
        for info_hash in due {
            self.start_lookup(info_hash.into(), false, Some(info_hash), now);
            self.start_lookup(info_hash.into(), true, Some(info_hash), now);
            // The one that held the round open until both had begun.
            self.round_part_over(info_hash, now);
        }
    }

    /// Starts a look-up in one family, if there is anybody to ask.
    pub(super) fn start_lookup(
        &mut self,
        target: NodeId,
        v6: bool,
        info_hash: Option<Sha1>,
        now: Instant,
    ) {
        let Some(side) = self.sides[usize::from(v6)].as_ref() else { return };
        let nodes = side.table.closest(target, 2 * K, false);
        let few = side.table.len(now).1 < K;
        let starts = self.starts.iter().filter(|addr| few && addr.is_ipv6() == v6);
        let starts: Vec<SocketAddr> = starts.copied().collect();
        if nodes.is_empty() && starts.is_empty() {
            return;
        }
        self.last_lookup = self.last_lookup.wrapping_add(1);
        let number = self.last_lookup;
        let lookup = Lookup::new(target, &nodes, &starts);
        self.lookups.insert(number, Running { lookup, v6, info_hash });
        if let Some(search) = self.searches.iter_mut().find(|s| Some(s.info_hash) == info_hash) {
            search.running += 1;
        }
        self.drive(number, now);
    }

    pub(super) fn drive_all(&mut self, now: Instant) {
        let numbers: Vec<u32> = self.lookups.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.drive(number, now));
    }

    /// Asks whom a look-up wants to ask, or ends it.
    fn drive(&mut self, number: u32, now: Instant) {
        let want = self.want(now);
        while let Some(Running { lookup, info_hash, .. }) = self.lookups.get_mut(&number) {
            if PENDING_MAX <= self.pending.len() {
                return;
            }
            let (target, info_hash) = (lookup.target, *info_hash);
            match lookup.next() {
                Next::Wait => return,
                Next::Done => return self.lookup_done(number, now),
                Next::Ask(to, id) => {
                    let ask = match info_hash {
                        Some(info_hash) => Ask::GetPeers { info_hash, want, scrape: false },
                        None => Ask::FindNode { target, want },
                    };
                    self.ask(to, id, ask, What::Lookup(number), now);
                }
            }
        }
    }

    pub(super) fn node_failed(&mut self, pending: &Pending) {
        if let (Some(id), Some(side)) = (pending.id, self.side(pending.to)) {
            side.table.failed(Contact { id, addr: pending.to });
        }
    }

    pub(super) fn lookup_failed(&mut self, pending: &Pending, now: Instant) {
        if let What::Lookup(number) = pending.what {
            if let Some(running) = self.lookups.get_mut(&number) {
                running.lookup.failed(pending.to);
            }
            self.drive(number, now);
        }
    }

    pub(super) fn lookup_answered(
        &mut self,
        number: u32,
        who: Contact,
        answer: Answer,
        seen: Option<SocketAddr>,
        now: Instant,
    ) {
        let teller = who.addr.ip();
        let named = answer.nodes.len() + answer.peers.len();
        let mut nodes = answer.nodes;
        nodes.retain(|node| may_name(teller, node.addr.ip()));
        let mut peers = answer.peers;
        peers.retain(|peer| may_name(teller, peer.ip()));
        self.counters.unbelieved += (named - nodes.len() - peers.len()) as u64;
        let own: Vec<NodeId> = self.sides.iter().flatten().map(|side| side.own).collect();
        nodes.retain(|node| !own.contains(&node.id));
        let Some(running) = self.lookups.get_mut(&number) else { return };
        let (v6, info_hash, target) = (running.v6, running.info_hash, running.lookup.target);
        let (ours, others): (Vec<Contact>, Vec<Contact>) =
            nodes.into_iter().partition(|node| node.addr.is_ipv6() == v6);
        running.lookup.answered(who, answer.token, &ours);
        if let Some(info_hash) = info_hash {
            self.found(info_hash, peers, seen);
        }
        self.other_family(target, info_hash, !v6, &others, now);
        self.drive(number, now);
    }

    /// Nodes of the other family: for the look-up there that has the same target.
    fn other_family(
        &mut self,
        target: NodeId,
        info_hash: Option<Sha1>,
        v6: bool,
        nodes: &[Contact],
        now: Instant,
    ) {
        let same = |running: &&mut Running| running.v6 == v6 && running.lookup.target == target;
        if let Some(running) = self.lookups.values_mut().find(same) {
            running.lookup.named(nodes);
            return;
        }
        let Some(side) = self.sides[usize::from(v6)].as_mut() else { return };
        if side.table.len(now).1 < K {
            for node in nodes {
                if side.table.heard_of(*node, false, now) {
                    side.table.remembered(*node, now);
                }
            }
            // A search that found no way into this family has one now.
            if let Some(info_hash) = info_hash.filter(|_| !nodes.is_empty()) {
                self.start_lookup(info_hash.into(), v6, Some(info_hash), now);
            }
        }
    }

    /// Peers that were named by somebody who sees us at this address.
    fn found(&mut self, info_hash: Sha1, mut peers: Vec<SocketAddr>, seen: Option<SocketAddr>) {
        let Some(search) = self.searches.iter_mut().find(|s| s.info_hash == info_hash) else {
            return;
        };
        // What we have announced comes back to us.
        if let (Some(seen), Some(announce)) = (seen, search.announce) {
            let port = if announce.implied_port { seen.port() } else { announce.port };
            peers.retain(|peer| *peer != SocketAddr::new(seen.ip(), port));
        }
        let found = &mut search.found;
        peers.retain(|peer| found.len() < FOUND_MAX && found.insert(*peer));
        if !peers.is_empty() {
            self.actions.push(Action::Found { info_hash, peers });
        }
    }

    fn lookup_done(&mut self, number: u32, now: Instant) {
        let Some(Running { lookup, v6, info_hash }) = self.lookups.remove(&number) else { return };
        let Some(info_hash) = info_hash else {
            let own = self.id(v6) == Some(lookup.target);
            if own {
                self.revived(v6, now);
                self.hurry(now);
            }
            return;
        };
        let announce = self.searches.iter().find(|s| s.info_hash == info_hash);
        let mut announced = 0;
        if let Some(Announce { port, implied_port, seed }) = announce.and_then(|s| s.announce) {
            for (node, token) in lookup.closest() {
                let Some(token) = token.map(<[u8]>::to_vec) else { continue };
                let ask = Ask::AnnouncePeer { info_hash, port, implied_port, token, seed };
                self.ask(node.addr, Some(node.id), ask, What::Announce, now);
                announced += 1;
            }
        }
        if let Some(search) = self.searches.iter_mut().find(|s| s.info_hash == info_hash) {
            let (asked, answered, hops) = lookup.figures();
            let result = &mut search.result;
            result.asked += asked;
            result.answered += answered;
            result.announced += announced;
            result.hops = result.hops.max(hops);
        }
        self.round_part_over(info_hash, now);
    }

    /// One of the look-ups of a round is over; with the last, the round is.
    fn round_part_over(&mut self, info_hash: Sha1, now: Instant) {
        let spread = Duration::from_secs(self.rng.u64(..AGAIN_SPREAD));
        let Some(search) = self.searches.iter_mut().find(|s| s.info_hash == info_hash) else {
            return;
        };
        search.running -= 1;
        if search.running != 0 {
            return;
        }
        search.result.peers = search.found.len();
        let mut result = search.result.clone();
        let pause = if result.peers == 0 && !search.is_known_seed() {
            let pause = search.pause;
            if result.asked != 0 {
                search.pause = (pause * 2).min(PAUSE_MAX);
            }
            pause
        } else {
            search.pause = PAUSE_FIRST;
            AGAIN + spread
        };
        result.again_in = pause;
        search.due = now + pause;
        // Nobody was there to be asked: that was no round.
        if result.asked != 0 {
            search.ended = Some(now);
            search.result = result.clone();
            self.actions.push(Action::Searched(result));
        }
    }
}

fn nothing(info_hash: Sha1) -> Searched {
    let (asked, answered, hops, peers, announced) = (0, 0, 0, 0, 0);
    let again_in = PAUSE_FIRST;
    Searched { info_hash, asked, answered, hops, peers, announced, again_in }
}
