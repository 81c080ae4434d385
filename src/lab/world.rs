//! A network that is not there, with real [`Swarm`]s in it: it carries out what they decide, and
//! brings them the facts, in virtual time.
//!
//! ```text
//! event (the earliest) ─► facts ─► Swarm::handle ─► actions ─► links, pipes ─► events
//! ```
//!
//! Each node has an uplink and a downlink of so many bytes a second, shared by its connections in
//! turn, and a distance to the others. The same seed of the random generator plays the same run.
//!
//! Layer: programs. Owns the nodes, the links between them and the clock.

mod arrival;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::link::{Item, Link, Pipe};
use super::nature::names;
pub use super::nature::{Kind, Nature, Partition, Weather};
use super::record::{Moment, Record};
use crate::address_book::Source;
use crate::bitfield::Bitfield;
use crate::geometry::{Geometry, PieceIndex, Span};
use crate::picker::ConnId;
use crate::swarm::{Action, Config, End, Fact, Goal, Hello, Order, Swarm, TICK};
use crate::trace::Trace;
use crate::wire::handshake::{PeerId, Reserved};
use crate::wire::message::Message;

/// What a tracker gives, and a client connects to.
const ADDRESSES: usize = 50;

pub struct Node {
    pub nature: Nature,
    swarm: Option<Swarm>,
    conns: BTreeMap<ConnId, (usize, usize)>,
    /// Directions with something to send, in turn.
    ring: VecDeque<(usize, usize)>,
    sending: bool,
    down_free: Duration,
    partial: BTreeMap<PieceIndex, Vec<Option<(ConnId, bool)>>>,
    /// Who sent wrong blocks of pieces that failed.
    blame: BTreeMap<PieceIndex, BTreeSet<ConnId>>,
    pub finished: Option<Duration>,
    /// When its first block came.
    pub first_block: Option<Duration>,
    /// Bytes of blocks that went out on its uplink, and that came.
    pub sent: u64,
    pub received: u64,
    pub gone: bool,
}

enum Event {
    Join(usize),
    Leave(usize),
    /// The two sides of a partition lose sight of each other.
    Cut,
    Tick(usize),
    Dialled {
        node: usize,
        conn: ConnId,
        target: Option<usize>,
    },
    Uplink {
        node: usize,
    },
    Deliver {
        link: usize,
        side: usize,
        items: Vec<Item>,
        len: usize,
    },
    Hashed {
        node: usize,
        piece: PieceIndex,
    },
    HungUp {
        link: usize,
        side: usize,
    },
}

pub struct World {
    start: Instant,
    pub now: Duration,
    pub geometry: Geometry,
    pub nodes: Vec<Node>,
    links: Vec<Link>,
    due: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, Event>,
    sequence: u64,
    facts: VecDeque<(usize, Fact)>,
    rng: fastrand::Rng,
    weather: Weather,
    pub record: Record,
    /// A short name for each node, by its kind and number.
    pub names: Vec<String>,
    /// The pieces that are at somebody who was not given them at the start.
    spread: Bitfield,
    /// When that was all of them, and what the first node had sent.
    pub out: Option<(Duration, u64)>,
}

impl World {
    /// With `record` what happens is written down.
    pub fn new(
        geometry: Geometry,
        natures: Vec<Nature>,
        weather: Weather,
        record: bool,
        seed: u64,
    ) -> World {
        let node = |nature: Nature| Node {
            nature,
            swarm: None,
            conns: BTreeMap::new(),
            ring: VecDeque::new(),
            sending: false,
            down_free: Duration::ZERO,
            partial: BTreeMap::new(),
            blame: BTreeMap::new(),
            finished: None,
            first_block: None,
            sent: 0,
            received: 0,
            gone: false,
        };
        let mut world = World {
            names: names(&natures),
            start: Instant::now(),
            now: Duration::ZERO,
            geometry,
            nodes: natures.into_iter().map(node).collect(),
            links: Vec::new(),
            due: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            facts: VecDeque::new(),
            rng: fastrand::Rng::with_seed(seed),
            weather,
            record: Record::new(record, Trace::off()),
            spread: Bitfield::new(geometry.pieces()),
            out: None,
        };
        if let Some(Partition { from, .. }) = world.weather.partition {
            world.at(from, Event::Cut);
        }
        for node in 0..world.nodes.len() {
            world.at(world.nodes[node].nature.joins, Event::Join(node));
            if let Some(leaves) = world.nodes[node].nature.leaves {
                world.at(leaves, Event::Leave(node));
            }
        }
        world
    }

    /// Plays until `over` says so or the time is up.
    pub fn run(&mut self, limit: Duration, over: impl Fn(&World) -> bool) {
        while let Some(Reverse((at, id))) = self.due.pop() {
            if limit < at {
                return;
            }
            self.now = at;
            let event = self.events.remove(&id).expect("scheduled");
            let look = matches!(event, Event::Tick(_));
            self.happen(event);
            while let Some((node, fact)) = self.facts.pop_front() {
                let now = self.instant();
                let Some(swarm) = &mut self.nodes[node].swarm else { continue };
                swarm.handle(now, fact);
                self.act(node);
            }
            if look && over(self) {
                return;
            }
        }
    }

    pub fn have(&self, node: usize) -> Option<&Bitfield> {
        self.nodes[node].swarm.as_ref().map(Swarm::have)
    }

    fn instant(&self) -> Instant {
        self.start + self.now
    }

    fn at(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert(self.sequence, event);
        self.due.push(Reverse((at, self.sequence)));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Join(node) => self.join(node),
            Event::Leave(node) => self.leave(node),
            Event::Cut => self.cut(),
            Event::Tick(node) => {
                let now = self.instant();
                let Some(swarm) = &mut self.nodes[node].swarm else { return };
                swarm.tick(now);
                self.act(node);
                self.at(self.now + TICK, Event::Tick(node));
            }
            Event::Dialled { node, conn, target } => self.dialled(node, conn, target),
            Event::Uplink { node } => {
                self.nodes[node].sending = false;
                self.send(node);
            }
            Event::Deliver { link, side, items, len } => self.deliver(link, side, items, len),
            Event::Hashed { node, piece } => self.hashed(node, piece),
            Event::HungUp { link, side } => {
                let node = self.links[link].nodes[side];
                let conn = self.links[link].conns[side];
                if self.nodes[node].conns.remove(&conn).is_some() {
                    let end = End::Lost("hung up".to_owned());
                    self.facts.push_back((node, Fact::Gone { conn, end }));
                }
            }
        }
    }

    fn join(&mut self, node: usize) {
        let pieces = self.geometry.pieces();
        let nature = &self.nodes[node].nature;
        let have = nature.start(pieces);
        let config = Config {
            geometry: self.geometry,
            peer_id: peer_id(node),
            offer: Default::default(),
            max_peers: ADDRESSES,
            stop_timeout: None,
            goal: Some(Goal::default()),
            wanted: None,
            in_order: nature.in_order,
            without: nature.without,
            super_seed: nature.super_seed,
            download_limit: None,
            upload_limit: None,
            private: false,
            trackers: 1,
            lan: false,
            watch: false,
            dht_ports: [None; 2],
            trace: self.record.kept,
        };
        let swarm = Swarm::new(config, have, self.rng.fork(), self.instant());
        self.nodes[node].swarm = Some(swarm);
        self.note(Moment::Joined { node });
        // The tracker knows those who came before, as the real one does.
        let known = |other: &usize| *other != node && self.nodes[*other].swarm.is_some();
        let mut others: Vec<usize> = (0..self.nodes.len()).filter(known).collect();
        self.rng.shuffle(&mut others);
        others.truncate(ADDRESSES);
        if self.weather.tracker_dies.is_some_and(|at| at <= self.now) {
            others.clear();
        }
        let addrs = others.into_iter().map(address).collect();
        self.facts.push_back((node, Fact::Addresses { source: Source::Tracker, addrs }));
        let phase = Duration::from_millis(self.rng.u64(0..100));
        self.at(self.now + phase, Event::Tick(node));
    }

    fn leave(&mut self, node: usize) {
        let conns: Vec<ConnId> = self.nodes[node].conns.keys().copied().collect();
        conns.into_iter().for_each(|conn| self.hang_up(node, conn));
        self.nodes[node].swarm = None;
        self.nodes[node].gone = true;
        self.note(Moment::Left { node });
    }

    /// Whether a partition stands between two nodes now.
    fn apart(&self, a: usize, b: usize) -> bool {
        let cut =
            |p: &Partition| (p.from..p.until).contains(&self.now) && (a < p.first) != (b < p.first);
        self.weather.partition.as_ref().is_some_and(cut)
    }

    /// The connections between the two sides of the partition break.
    fn cut(&mut self) {
        let broken: Vec<(usize, ConnId)> = self
            .links
            .iter()
            .filter(|link| link.open && self.apart(link.nodes[0], link.nodes[1]))
            .flat_map(|link| [(link.nodes[0], link.conns[0]), (link.nodes[1], link.conns[1])])
            .collect();
        for (node, conn) in broken {
            if let Some((link, _)) = self.nodes[node].conns.remove(&conn) {
                self.links[link].open = false;
                let end = End::Lost("the network is unreachable".to_owned());
                self.facts.push_back((node, Fact::Gone { conn, end }));
            }
        }
    }

    fn note(&mut self, moment: Moment) {
        self.record.note(self.now, moment);
    }

    fn dialled(&mut self, node: usize, conn: ConnId, target: Option<usize>) {
        let now = self.instant();
        let mut from = address(node);
        from.set_port(40_000);
        let answer = target
            .filter(|&target| !self.apart(node, target))
            .and_then(|target| self.nodes[target].swarm.as_mut())
            .and_then(|swarm| swarm.incoming(from, now));
        let (Some(target), Some(there)) = (target, answer) else {
            let end = End::Lost("refused".to_owned());
            return self.facts.push_back((node, Fact::Gone { conn, end }));
        };
        let latency = self.latency(node, target);
        let link = self.links.len();
        let (nodes, conns) = ([node, target], [conn, there]);
        let pipes = [Pipe::default(), Pipe::default()];
        self.links.push(Link { nodes, conns, latency, open: true, pipes });
        for (side, (me, conn, other)) in
            [(node, conn, target), (target, there, node)].into_iter().enumerate()
        {
            self.nodes[me].conns.insert(conn, (link, side));
            let incoming = side == 1;
            let addr = if incoming { from } else { address(other) };
            let (peer_id, reserved) = (peer_id(other), Reserved::default().with_fast());
            let hello = Hello { addr, incoming, peer_id, reserved };
            self.facts.push_back((me, Fact::Connected { conn, hello }));
        }
    }

    fn latency(&self, a: usize, b: usize) -> Duration {
        (self.nodes[a].nature.latency + self.nodes[b].nature.latency) / 2
    }

    fn act(&mut self, node: usize) {
        let Some(swarm) = &mut self.nodes[node].swarm else { return };
        for action in swarm.take_actions() {
            match action {
                Action::Dial { conn, addr } => {
                    let target = (0..self.nodes.len()).find(|&other| address(other) == addr);
                    let latency = target.map_or(Duration::ZERO, |other| self.latency(node, other));
                    self.at(self.now + 3 * latency, Event::Dialled { node, conn, target });
                }
                Action::Tell { conn, order } => self.tell(node, conn, order),
                Action::HangUp { conn } => self.hang_up(node, conn),
                Action::Finished => {
                    self.nodes[node].finished = Some(self.now);
                    self.note(Moment::Finished { node });
                }
                Action::Done => self.at(self.now, Event::Leave(node)),
                Action::Fetch { .. } | Action::CutFetch { .. } => panic!("there is no web seed"),
                Action::Decided(decision) => {
                    let node_of = |conn| {
                        let &(link, side) = self.nodes[node].conns.get(&conn)?;
                        let other = self.links[link].nodes[1 - side];
                        Some((other, self.names[other].as_str()))
                    };
                    let name = self.names[node].as_str();
                    self.record.decided(self.now, (node, name), &decision, node_of);
                }
                Action::DhtNode { .. } | Action::MorePeers | Action::GiveUp => {}
            }
        }
    }

    fn hang_up(&mut self, node: usize, conn: ConnId) {
        let Some((link, side)) = self.nodes[node].conns.remove(&conn) else { return };
        self.links[link].open = false;
        // What is on its way comes all the same, and before the end of the connection.
        let on_its_way = self.links[link].pipes[side].in_flight as f64;
        let rate = self.nodes[self.links[link].nodes[1 - side]].nature.down;
        let rest = Duration::from_secs_f64(2.0 * on_its_way / rate);
        let latency = self.links[link].latency + rest;
        self.at(self.now + latency, Event::HungUp { link, side: 1 - side });
    }

    fn tell(&mut self, node: usize, conn: ConnId, order: Order) {
        let Some(&(link, side)) = self.nodes[node].conns.get(&conn) else { return };
        let kind = self.nodes[node].nature.kind;
        let pipe = &mut self.links[link].pipes[side];
        match order {
            Order::Say(Message::Unchoke)
                if matches!(kind, Kind::FreeRider | Kind::Client | Kind::Miser) => {}
            Order::Say(Message::Reject(_)) if kind == Kind::Boaster => {}
            Order::Say(Message::HaveNone | Message::Bitfield(_)) if kind == Kind::Boaster => {
                pipe.write(Item::Message(Message::HaveAll));
            }
            Order::Say(message) => pipe.write(Item::Message(message)),
            Order::Haves(pieces) => {
                pieces.iter().for_each(|piece| pipe.write(Item::Message(Message::Have(piece))));
            }
            Order::Ask(spans) => {
                for span in spans {
                    pipe.asked.push(span);
                    pipe.write(Item::Message(Message::Request(span)));
                }
            }
            Order::Upload(span) => pipe.queue.push_back(span),
            Order::Withdraw(span) => pipe.queue.retain(|queued| *queued != span),
            Order::WithdrawAll => pipe.queue.clear(),
            Order::Metadata { .. } => unreachable!("nobody here needs it"),
        }
        self.fill(link, side);
    }

    /// Blocks that wait go into the socket, and the direction gets in line for the uplink.
    fn fill(&mut self, link: usize, side: usize) {
        let (node, conn) = (self.links[link].nodes[side], self.links[link].conns[side]);
        let liar = self.nodes[node].nature.kind == Kind::Liar;
        let lies = |span: Span| liar && span.begin.is_multiple_of(32 * 1024);
        let pipe = &mut self.links[link].pipes[side];
        let spans = pipe.fill(lies);
        if !spans.is_empty() {
            self.facts.push_back((node, Fact::Sent { conn, spans }));
        }
        if pipe.can_send() && !pipe.in_ring {
            pipe.in_ring = true;
            self.nodes[node].ring.push_back((link, side));
        }
        self.send(node);
    }

    /// The uplink takes from each direction in turn.
    fn send(&mut self, node: usize) {
        while !self.nodes[node].sending
            && let Some((link, side)) = self.nodes[node].ring.pop_front()
        {
            let Link { open, latency, ref nodes, ref mut pipes, .. } = self.links[link];
            let pipe = &mut pipes[side];
            pipe.in_ring = false;
            if !open || !pipe.can_send() {
                continue;
            }
            let (items, len) = pipe.send();
            let to = nodes[1 - side];
            let blocks = items.iter().filter(|item| matches!(item, Item::Block(..)));
            let bytes: usize = blocks.map(Item::size).sum();
            self.nodes[node].sent += bytes as u64;
            self.nodes[node].sending = true;
            let sent = self.now + Duration::from_secs_f64(len as f64 / self.nodes[node].nature.up);
            self.at(sent, Event::Uplink { node });
            let receiver = &mut self.nodes[to];
            let begins = receiver.down_free.max(sent + latency);
            let time = Duration::from_secs_f64(len as f64 / receiver.nature.down);
            // Two that send at once share the link: the last byte comes no sooner than both would.
            receiver.down_free = begins.max(receiver.down_free) + time;
            let comes = receiver.down_free;
            self.at(comes, Event::Deliver { link, side: 1 - side, items, len });
            self.fill(link, side);
            self.leaves_when_done(node);
        }
    }

    fn leaves_when_done(&mut self, node: usize) {
        let Some(copies) = self.nodes[node].nature.leaves_after else { return };
        if copies * self.geometry.total_length() as f64 <= self.nodes[node].sent as f64
            && !self.nodes[node].gone
        {
            self.nodes[node].gone = true;
            self.at(self.now, Event::Leave(node));
        }
    }
}

fn peer_id(node: usize) -> PeerId {
    let text = format!("-PM0100-{node:012}");
    PeerId(text.into_bytes().try_into().expect("twenty bytes"))
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (node / 250) as u8, (node % 250 + 1) as u8], 6881))
}
