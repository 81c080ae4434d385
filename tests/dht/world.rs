//! A DHT in virtual time: packets take their time or get lost, nodes come and go, some lie.
//!
//! Nodes are real [`Dht`]s, each made when its first packet comes: with the table that it would have
//! after a while, eight nodes for each bucket, some of which have died since.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use piecemeal::dht::{Action, Announce, Config, Dht, K, Memory, Searched};
use piecemeal::hash::Sha1;
use piecemeal::krpc::{Answer, Ask, Body, Contact, Message, NodeId};

/// What the world is like.
#[derive(Debug, Clone, Copy)]
pub struct Nature {
    pub nodes: usize,
    /// Packets in a hundred that get lost.
    pub lost: u32,
    /// Nodes in a hundred that are dead from the start, and known to others.
    pub dead: u32,
    /// Nodes in a hundred that die in an hour.
    pub dying: u32,
    /// Nodes in a hundred that lie.
    pub liars: u32,
}

/// The first address; each node has a /24 of its own.
const FIRST: u32 = 0x0800_0001;

struct Node {
    id: NodeId,
    dies: Instant,
    lies: bool,
    dht: Option<Box<Dht>>,
    /// When it wants to be woken, as far as the queue knows.
    wakes: Instant,
}

enum Event {
    Packet { from: usize, to: usize, packet: Vec<u8> },
    Wake(usize),
}

pub struct World {
    pub now: Instant,
    nature: Nature,
    rng: fastrand::Rng,
    nodes: Vec<Node>,
    /// All nodes by id.
    sorted: Vec<(NodeId, usize)>,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    events: std::collections::HashMap<u64, Event>,
    sequence: u64,
    pub packets: u64,
    /// Who has found which peers, and how each round went.
    pub found: BTreeSet<(usize, Sha1, SocketAddr)>,
    pub searched: Vec<(usize, Searched)>,
}

pub fn addr(node: usize) -> SocketAddr {
    (Ipv4Addr::from_bits(FIRST + ((node as u32) << 8)), 6881).into()
}

fn node_at(addr: SocketAddr) -> Option<usize> {
    let IpAddr::V4(ip) = addr.ip() else { return None };
    let offset = ip.to_bits().checked_sub(FIRST)?;
    offset.is_multiple_of(256).then_some((offset >> 8) as usize)
}

impl World {
    pub fn new(nature: Nature, seed: u64) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let now = Instant::now();
        let hour = 3_600_000;
        let node = |n: usize| {
            // The same that `Dht::new` will draw from this seed.
            let id = NodeId::for_ip(addr(n).ip(), &mut fastrand::Rng::with_seed(n as u64));
            let dead = rng.u32(..100) < nature.dead;
            let dying = rng.u32(..100) < nature.dying;
            let life = if dying { rng.u64(..hour) } else { 10 * hour };
            let dies = now + Duration::from_millis(if dead { 0 } else { life });
            let lies = rng.u32(..100) < nature.liars;
            Node { id, dies, lies, dht: None, wakes: now }
        };
        let nodes: Vec<Node> = (0..nature.nodes).map(node).collect();
        let mut sorted: Vec<_> = nodes.iter().enumerate().map(|(n, node)| (node.id, n)).collect();
        sorted.sort_unstable();
        let (queue, events, found, searched) = Default::default();
        let (sequence, packets) = (0, 0);
        World { now, nature, rng, nodes, sorted, queue, events, sequence, packets, found, searched }
    }

    /// An honest node that lives for a while yet.
    pub fn somebody(&mut self) -> usize {
        loop {
            let n = self.rng.usize(..self.nodes.len());
            let node = &self.nodes[n];
            if !node.lies && self.now + Duration::from_secs(600) < node.dies {
                return n;
            }
        }
    }

    pub fn search(&mut self, node: usize, info_hash: Sha1, announce: Option<Announce>) {
        let now = self.now;
        self.dht(node).search(info_hash, announce, now);
        self.act(node);
    }

    /// A node that nobody knows comes, and is told of one that is there.
    pub fn newcomer(&mut self) -> usize {
        let n = self.nodes.len();
        let id = NodeId::for_ip(addr(n).ip(), &mut fastrand::Rng::with_seed(n as u64));
        let (dies, wakes) = (self.now + Duration::from_secs(36_000), self.now);
        let start = addr(self.somebody());
        let mut dht = empty(n, self.now);
        dht.add_starts(&[start], self.now);
        self.nodes.push(Node { id, dies, lies: false, dht: Some(Box::new(dht)), wakes });
        self.act(n);
        n
    }

    fn dht(&mut self, n: usize) -> &mut Dht {
        if self.nodes[n].dht.is_none() {
            let mut dht = empty(n, self.now);
            assert_eq!(dht.id(false), Some(self.nodes[n].id));
            let table = self.table(self.nodes[n].id);
            dht.knows(table, self.now);
            self.nodes[n].dht = Some(Box::new(dht));
        }
        self.nodes[n].dht.as_mut().expect("just made")
    }

    /// Eight nodes at random of each bucket of an id.
    fn table(&mut self, own: NodeId) -> Vec<Contact> {
        let mut table = Vec::new();
        let mut near = 0..self.sorted.len();
        for bit in 0..160 {
            // All in `near` share so many bits with us; those that do not share the next one too are
            // either the first or the last of them.
            let set = |id: NodeId| id.0[bit / 8] & (0x80 >> (bit % 8)) != 0;
            let split = near.start + self.sorted[near.clone()].partition_point(|(id, _)| !set(*id));
            let (zeros, ones) = (near.start..split, split..near.end);
            let (same, other) = if set(own) { (ones, zeros) } else { (zeros, ones) };
            let all: Vec<usize> = if same.len() <= K { near.collect() } else { other.collect() };
            for at in self.rng.choose_multiple(all.iter(), K * if same.len() <= K { 2 } else { 1 })
            {
                let (id, n) = self.sorted[*at];
                table.push(Contact { id, addr: addr(n) });
            }
            if same.len() <= K {
                break;
            }
            near = same;
        }
        table.retain(|contact| contact.id != own);
        table
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(Reverse((at, number))) = self.queue.pop_if_before(end) {
            self.now = at;
            match self.events.remove(&number) {
                Some(Event::Packet { from, to, packet }) => self.deliver(from, to, &packet),
                Some(Event::Wake(n)) if self.nodes[n].wakes == at && at < self.nodes[n].dies => {
                    self.dht(n).tick(at);
                    self.act(n);
                }
                _ => {}
            }
        }
        self.now = end;
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    fn deliver(&mut self, from: usize, to: usize, packet: &[u8]) {
        let now = self.now;
        if self.nodes[to].dies <= now {
            return;
        }
        if self.nodes[to].lies {
            return self.lie(to, from, packet);
        }
        self.dht(to).receive(addr(from), packet, now);
        self.act(to);
    }

    /// Carries out what a node has decided.
    fn act(&mut self, n: usize) {
        let Some(dht) = self.nodes[n].dht.as_mut() else { return };
        let actions = dht.take_actions();
        let wakes = dht.deadline();
        for action in actions {
            match action {
                Action::Send { to, packet } => self.send(n, to, packet),
                Action::Found { info_hash, peers } => {
                    self.found.extend(peers.into_iter().map(|peer| (n, info_hash, peer)));
                }
                Action::Silent(..) => {}
                Action::Searched(searched) => self.searched.push((n, searched)),
            }
        }
        if self.nodes[n].wakes != wakes {
            self.nodes[n].wakes = wakes;
            self.schedule(wakes, Event::Wake(n));
        }
    }

    fn send(&mut self, from: usize, to: SocketAddr, packet: Vec<u8>) {
        self.packets += 1;
        let Some(to) = node_at(to).filter(|to| *to < self.nodes.len()) else { return };
        if self.rng.u32(..100) < self.nature.lost {
            return;
        }
        let delay = Duration::from_millis(self.rng.u64(10..250));
        self.schedule(self.now + delay, Event::Packet { from, to, packet });
    }

    /// A liar answers: with itself under another id, or with nodes that do not exist and stand
    /// nearer to what is looked for than anybody, with peers that do not exist, or it keeps silent.
    fn lie(&mut self, liar: usize, asker: usize, packet: &[u8]) {
        let Ok(Message { transaction, body: Body::Query(query), .. }) = Message::decode(packet)
        else {
            return;
        };
        let target = match query.ask {
            Ask::FindNode { target, .. } => target,
            Ask::GetPeers { info_hash, .. } => info_hash.into(),
            _ => NodeId([0; 20]),
        };
        let mut answer = Answer::of(self.nodes[liar].id);
        match self.rng.u8(..4) {
            0 => return,
            1 => answer.id = target.random_sharing(60, &mut self.rng),
            _ => {}
        }
        let nobody = |rng: &mut fastrand::Rng| -> SocketAddr {
            (Ipv4Addr::from_bits(0x3000_0000 + rng.u32(..0x1000_0000)), 6881).into()
        };
        for bits in 30..38 {
            let id = target.random_sharing(bits, &mut self.rng);
            answer.nodes.push(Contact { id, addr: nobody(&mut self.rng) });
            answer.peers.push(nobody(&mut self.rng));
        }
        answer.token = Some(b"thanks".to_vec());
        let answer = Message { transaction, ip: None, body: Body::Answer(answer) };
        self.send(liar, addr(asker), answer.encode());
    }
}

fn empty(n: usize, now: Instant) -> Dht {
    let memory = Memory { nodes: Vec::new(), ips: vec![addr(n).ip()] };
    let config = Config { v4: true, v6: false, read_only: false };
    Dht::new(config, &memory, fastrand::Rng::with_seed(n as u64), now)
}

trait PopIfBefore {
    fn pop_if_before(&mut self, end: Instant) -> Option<Reverse<(Instant, u64)>>;
}

impl PopIfBefore for BinaryHeap<Reverse<(Instant, u64)>> {
    fn pop_if_before(&mut self, end: Instant) -> Option<Reverse<(Instant, u64)>> {
        let Reverse((at, _)) = *self.peek()?;
        if at < end { self.pop() } else { None }
    }
}
