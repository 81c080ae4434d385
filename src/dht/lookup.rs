//! An iterative look-up (BEP 5): from the nodes we know towards those nearest to a target.
//!
//! ```text
//! candidates, nearest first    ■ answered   ▣ asked   □ fresh   × failed
//!
//!   ■ ■ × ■ ▣ □ □ ▣ □ □ …      the nearest fresh one is asked while fewer than ALPHA are on the way;
//!   └──────────────┘           what an answer names is sorted in; done when the K nearest that
//!                              live have answered, and nobody nearer is left to be asked
//! ```
//!
//! A silent node blocks its slot for [`SLOW`] only; its answer is welcome until the question times
//! out. What strangers name is bounded, so nodes that name only each other, or ever new ones, cost a
//! limited number of questions.
//!
//! Layer: decisions.

use std::net::SocketAddr;
use std::time::Duration;

use super::bucket::{K, fits, network};
use crate::krpc::{Contact, Distance, NodeId};

/// Questions on the way at a time.
const ALPHA: usize = 4;

/// After so long without an answer, the next node is asked as well. Nine in ten answers come sooner.
pub const SLOW: Duration = Duration::from_millis(1000);

/// Candidates that are remembered: the nearest of all that were named.
const CANDIDATES_MAX: usize = 100;

/// Questions in all. A look-up in the real DHT takes 20 to 60.
const QUESTIONS_MAX: usize = 120;

/// Questions to nodes whose id does not belong to their address (BEP 42): they may have chosen it to
/// stand near the target, so they are no part of the [`K`] that end the search.
const MISFITS_MAX: usize = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Asked,
    /// Asked, and silent for [`SLOW`].
    Slow,
    Answered,
    Failed,
}

#[derive(Debug)]
struct Candidate {
    /// `None` for an address of which only that is known (a bootstrap node).
    id: Option<NodeId>,
    addr: SocketAddr,
    state: State,
    /// Answers on the way to it: 0 for a node that we knew.
    hops: u32,
    token: Option<Vec<u8>>,
}

impl Candidate {
    fn fits(&self) -> bool {
        self.id.is_none_or(|id| fits(Contact { id, addr: self.addr }))
    }

    /// Those without an id come last.
    fn distance(&self, target: NodeId) -> (bool, Distance) {
        (self.id.is_none(), self.id.map_or([0; 20], |id| id.distance(target)))
    }
}

#[derive(Debug)]
pub struct Lookup {
    pub target: NodeId,
    /// Nearest first.
    candidates: Vec<Candidate>,
    asked: usize,
    misfits: usize,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Ask(SocketAddr, Option<NodeId>),
    Wait,
    Done,
}

impl Lookup {
    /// Begins with these nodes, and with these addresses where that is not enough.
    pub fn new(target: NodeId, nodes: &[Contact], addrs: &[SocketAddr]) -> Lookup {
        let mut lookup = Lookup { target, candidates: Vec::new(), asked: 0, misfits: 0 };
        nodes.iter().for_each(|node| lookup.add(Some(node.id), node.addr, 0));
        addrs.iter().for_each(|addr| lookup.add(None, *addr, 0));
        lookup
    }

    fn add(&mut self, id: Option<NodeId>, addr: SocketAddr, hops: u32) {
        let subnet = network(addr.ip());
        let same = |other: &Candidate| {
            // Bootstrap nodes may be neighbours; who is named by others may not.
            let near = subnet.is_some() && other.id.is_some() && id.is_some();
            other.addr == addr
                || (id.is_some() && other.id == id)
                || (near && network(other.addr.ip()) == subnet)
        };
        if self.candidates.iter().any(same) {
            return;
        }
        if CANDIDATES_MAX <= self.candidates.len() {
            // The farthest goes, unless it is at work; it may be this one.
            let last = self.candidates.last().filter(|last| last.state == State::Fresh);
            let distance = (id.is_none(), id.map_or([0; 20], |id| id.distance(self.target)));
            if last.is_none_or(|last| last.distance(self.target) <= distance) {
                return;
            }
            self.candidates.pop();
        }
        self.insert(Candidate { id, addr, state: State::Fresh, hops, token: None });
    }

    fn insert(&mut self, candidate: Candidate) {
        let distance = candidate.distance(self.target);
        let at = self.candidates.partition_point(|other| other.distance(self.target) < distance);
        self.candidates.insert(at, candidate);
    }

    /// What to do now. [`Next::Ask`] counts as done.
    pub fn next(&mut self) -> Next {
        let on_the_way = self.candidates.iter().filter(|c| c.state == State::Asked).count();
        let (mut live, mut awaited, mut slow) = (0, 0, 0);
        let mut fresh = None;
        for (at, candidate) in self.candidates.iter().enumerate() {
            match candidate.state {
                State::Answered => live += usize::from(candidate.fits()),
                State::Asked => awaited += 1,
                State::Slow => slow += 1,
                State::Fresh if self.misfits < MISFITS_MAX || candidate.fits() => {
                    fresh = fresh.or(Some(at));
                }
                State::Fresh | State::Failed => {}
            }
            if K <= live {
                break;
            }
        }
        match fresh {
            Some(at) if self.asked < QUESTIONS_MAX => {
                if ALPHA <= on_the_way {
                    return Next::Wait;
                }
                let candidate = &mut self.candidates[at];
                candidate.state = State::Asked;
                self.asked += 1;
                self.misfits += usize::from(!candidate.fits());
                Next::Ask(candidate.addr, candidate.id)
            }
            // Who is slow is waited for only while there are too few.
            _ if awaited != 0 || (live < K && slow != 0) => Next::Wait,
            _ => Next::Done,
        }
    }

    /// A node has answered, and named these.
    pub fn answered(&mut self, who: Contact, token: Option<Vec<u8>>, named: &[Contact]) {
        let Some(at) = self.candidates.iter().position(|c| c.addr == who.addr) else { return };
        let mut candidate = self.candidates.remove(at);
        let hops = candidate.hops + 1;
        // One id counts once, from however many addresses.
        let same = |c: &Candidate| c.id == Some(who.id) && c.state == State::Answered;
        let state = if self.candidates.iter().any(same) { State::Failed } else { State::Answered };
        (candidate.id, candidate.state, candidate.token) = (Some(who.id), state, token);
        self.insert(candidate);
        named.iter().for_each(|node| self.add(Some(node.id), node.addr, hops));
    }

    /// Nodes that somebody else has named, who looks for the same in the other family.
    pub fn named(&mut self, nodes: &[Contact]) {
        nodes.iter().for_each(|node| self.add(Some(node.id), node.addr, 1));
    }

    pub fn slow(&mut self, addr: SocketAddr) {
        self.turn(addr, State::Slow);
    }

    pub fn failed(&mut self, addr: SocketAddr) {
        self.turn(addr, State::Failed);
    }

    fn turn(&mut self, addr: SocketAddr, state: State) {
        if let Some(candidate) = self.candidates.iter_mut().find(|c| c.addr == addr) {
            candidate.state = state;
        }
    }

    /// The nearest that have answered, with their tokens.
    pub fn closest(&self) -> impl Iterator<Item = (Contact, Option<&[u8]>)> {
        let answered = |c: &&Candidate| c.state == State::Answered;
        let contact = |c: &Candidate| c.id.map(|id| Contact { id, addr: c.addr });
        let answered = self.candidates.iter().filter(answered);
        answered.filter_map(move |c| Some((contact(c)?, c.token.as_deref()))).take(K)
    }

    /// Questions asked, nodes that answered, and the hops to the nearest of them.
    pub fn figures(&self) -> (usize, usize, u32) {
        let answered = || self.candidates.iter().filter(|c| c.state == State::Answered);
        (self.asked, answered().count(), answered().next().map_or(0, |nearest| nearest.hops + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn local(n: u16) -> SocketAddr {
        ([127, 0, 0, 1], n).into()
    }

    fn nodes(count: u16, rng: &mut fastrand::Rng) -> Vec<Contact> {
        (1..=count).map(|n| Contact { id: NodeId::random(rng), addr: local(n) }).collect()
    }

    /// Plays a look-up in which everybody who is asked answers at once; how many were asked.
    fn play(
        lookup: &mut Lookup,
        mut ask: impl FnMut(SocketAddr) -> Option<Vec<Contact>>,
        ids: &BTreeMap<SocketAddr, NodeId>,
    ) -> usize {
        let mut asked = 0;
        loop {
            match lookup.next() {
                Next::Ask(addr, _) => {
                    asked += 1;
                    match ask(addr) {
                        Some(named) => {
                            lookup.answered(Contact { id: ids[&addr], addr }, None, &named)
                        }
                        None => lookup.failed(addr),
                    }
                }
                Next::Wait => panic!("nobody is on the way"),
                Next::Done => return asked,
            }
        }
    }

    #[test]
    fn it_ends_at_the_nearest() {
        let mut rng = fastrand::Rng::with_seed(1);
        let target = NodeId::random(&mut rng);
        let all = nodes(400, &mut rng);
        let ids: BTreeMap<_, _> = all.iter().map(|node| (node.addr, node.id)).collect();
        let mut sorted = all.clone();
        sorted.sort_by_key(|node| node.id.distance(target));
        // Each knows the eight nearest of a random half; every fifth is dead.
        let mut half =
            || -> Vec<Contact> { sorted.iter().filter(|_| rng.bool()).take(K).copied().collect() };
        let dead = |addr: SocketAddr| addr.port().is_multiple_of(5);
        let mut lookup = Lookup::new(target, &all[..3], &[]);
        let asked = play(&mut lookup, |addr| (!dead(addr)).then(&mut half), &ids);
        let found: Vec<Contact> = lookup.closest().map(|(node, _)| node).collect();
        let alive: Vec<Contact> =
            sorted.iter().filter(|n| !dead(n.addr)).take(K).copied().collect();
        assert!(found == alive && asked < 40, "{asked} questions");
    }

    #[test]
    fn nodes_that_name_only_each_other_or_ever_new_ones_do_not_keep_it() {
        let mut rng = fastrand::Rng::with_seed(2);
        let target = NodeId::random(&mut rng);
        let ring = nodes(5, &mut rng);
        let ids: BTreeMap<_, _> = ring.iter().map(|node| (node.addr, node.id)).collect();
        let mut lookup = Lookup::new(target, &ring[..1], &[]);
        assert_eq!(play(&mut lookup, |_| Some(ring.clone()), &ids), 5);
        // Each names eight that are nearer than itself, and none of them exists twice.
        let mut lookup = Lookup::new(target, &ring[..1], &[]);
        let mut asked = 0;
        while let Next::Ask(addr, id) = lookup.next() {
            asked += 1;
            let bits = (asked as u32 * 2).min(150);
            let port = asked as u16 * 16;
            let liars: Vec<Contact> = (0..8)
                .map(|n| Contact {
                    id: target.random_sharing(bits, &mut rng),
                    addr: local(port + n),
                })
                .collect();
            lookup.answered(Contact { id: id.unwrap(), addr }, None, &liars);
        }
        assert!(asked <= QUESTIONS_MAX && lookup.candidates.len() <= CANDIDATES_MAX, "{asked}");
    }

    #[test]
    fn ids_that_do_not_fit_end_no_search_and_one_network_has_one_voice() {
        let mut rng = fastrand::Rng::with_seed(3);
        let target = NodeId::random(&mut rng);
        let start = Contact { id: NodeId::random(&mut rng), addr: local(1) };
        let mut lookup = Lookup::new(target, &[start], &[]);
        lookup.next();
        let liar = |n: u32, rng: &mut fastrand::Rng| Contact {
            id: target.random_sharing(100, rng),
            addr: (std::net::Ipv4Addr::from_bits(0x0800_0000 + n), 1).into(),
        };
        let liars: Vec<Contact> = (0..256).map(|n| liar(n, &mut rng)).collect();
        lookup.answered(start, None, &liars);
        assert_eq!(lookup.candidates.len(), 2, "256 of one /24 are one");
        let liars: Vec<Contact> = (0..90).map(|n| liar(n << 8, &mut rng)).collect();
        let honest =
            |n: u16, rng: &mut fastrand::Rng| Contact { id: NodeId::random(rng), addr: local(n) };
        let honest: Vec<Contact> = (2..9).map(|n| honest(n, &mut rng)).collect();
        lookup.named(&honest);
        lookup.named(&liars);
        let mut asked = Vec::new();
        while let Next::Ask(addr, id) = lookup.next() {
            asked.push(addr);
            lookup.answered(Contact { id: id.unwrap(), addr }, None, &[]);
        }
        assert!(honest.iter().all(|node| asked.contains(&node.addr)), "{asked:?}");
        assert!(asked.len() <= MISFITS_MAX + 8, "{}", asked.len());
    }

    #[test]
    fn one_id_counts_once() {
        let mut rng = fastrand::Rng::with_seed(5);
        let all = nodes(K as u16, &mut rng);
        let mut lookup = Lookup::new(NodeId::random(&mut rng), &all, &[]);
        all.iter().for_each(|node| {
            lookup.answered(Contact { id: all[0].id, addr: node.addr }, None, &[]);
        });
        assert_eq!((lookup.figures().1, lookup.closest().count()), (1, 1));
    }

    #[test]
    fn who_is_silent_does_not_hold_up_the_others() {
        let mut rng = fastrand::Rng::with_seed(4);
        let all = nodes(6, &mut rng);
        let mut lookup = Lookup::new(NodeId::random(&mut rng), &all, &[local(7)]);
        let ask = |next| if let Next::Ask(addr, _) = next { addr } else { panic!("{next:?}") };
        let first: Vec<SocketAddr> = (0..ALPHA).map(|_| ask(lookup.next())).collect();
        assert_eq!(lookup.next(), Next::Wait);
        lookup.slow(first[0]);
        let next = ask(lookup.next());
        assert!(!first.contains(&next) && lookup.next() == Next::Wait);
        first.iter().for_each(|addr| lookup.failed(*addr));
        let rest = [ask(lookup.next()), ask(lookup.next())];
        assert!(rest.contains(&local(7)), "the address without an id comes last");
        lookup.answered(Contact { id: NodeId::random(&mut rng), addr: rest[1] }, None, &[]);
        lookup.slow(rest[0]);
        lookup.slow(next);
        assert_eq!(lookup.next(), Next::Wait, "there are too few to end without the slow ones");
        lookup.failed(rest[0]);
        lookup.failed(next);
        assert_eq!((lookup.next(), lookup.closest().count()), (Next::Done, 1));
    }
}
