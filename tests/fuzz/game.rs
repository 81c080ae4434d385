//! Target: the swarm, in virtual time, among peers that do anything.
//!
//! ```text
//! peers ── what they say ──► queue of facts ──► swarm ──► actions ──► checked by the rules
//!   └───── blocks ──► assembler ── stored, corrupt ──┘
//! ```
//!
//! The order of things is that of the real threads: a peer's word is queued before its blocks reach
//! the assembler, and every queue is handed on at a time that the input chooses. In the end one
//! honest seed comes, and the download must become complete whatever was before.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use piecemeal::address_book::Source;
use piecemeal::bitfield::Bitfield;
use piecemeal::geometry::{BLOCK_LEN, Geometry, PieceIndex, Span};
use piecemeal::picker::ConnId;
use piecemeal::swarm::{Action, Config, End, Fact, Hello, Order, Swarm, TICK};
use piecemeal::wire::extended::Offer;
use piecemeal::wire::handshake::{PeerId, Reserved};
use piecemeal::wire::message::Message;

use crate::dice::Dice;
use crate::rules::Rules;

const OUR_ID: PeerId = PeerId(*b"-PM0100-ourselves...");

/// The honest one.
const SEED: ([u8; 4], u16) = ([192, 0, 2, 1], 6_881);

/// How long the download may take once the seed's address is known: the places may be taken by
/// others, and pieces may be owed by them.
const PATIENCE: Duration = Duration::from_secs(600);

pub fn seeds() -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(5);
    (0..8).map(|n| (0..n * 100).map(|_| rng.u8(..)).collect()).collect()
}

pub fn play(input: &[u8]) -> bool {
    let mut game = Game::new(Dice::new(input));
    while !game.dice.is_over() && !game.is_over() {
        game.step();
        for _ in 0..game.dice.below(4) {
            game.assemble();
        }
        for _ in 0..game.dice.pick(&[0, 1, 3, usize::MAX]) {
            if !game.deliver() {
                break;
            }
        }
    }
    game.the_seed_comes();
    true
}

struct Game<'a> {
    dice: Dice<'a>,
    now: Instant,
    geometry: Geometry,
    swarm: Swarm,
    rules: Rules,
    /// On their way to the swarm.
    facts: VecDeque<Fact>,
    wires: BTreeMap<ConnId, Wire>,
    /// Blocks on their way to the assembler, and whether their bytes are right.
    blocks: VecDeque<(ConnId, Span, bool)>,
    /// Of each piece in progress: who sent which block, and whether it is right.
    partials: BTreeMap<PieceIndex, Vec<Option<(ConnId, bool)>>>,
    stored: Bitfield,
    /// Who sent wrong blocks of pieces that failed.
    liars: Vec<(PieceIndex, ConnId)>,
}

/// The other end of a connection, with the reader's list of what was asked for.
struct Wire {
    addr: SocketAddr,
    incoming: bool,
    shaken: bool,
    fast: bool,
    expected: Vec<Span>,
}

impl<'a> Game<'a> {
    fn new(mut dice: Dice<'a>) -> Game<'a> {
        let piece_length = dice.pick(&[BLOCK_LEN, 2 * BLOCK_LEN, 4 * BLOCK_LEN, 20_000, 1, 16_383]);
        let pieces = 1 + dice.below(24) as u64;
        let last = 1 + u64::from(dice.word()) % u64::from(piece_length);
        let total = (pieces - 1) * u64::from(piece_length) + last;
        let geometry = Geometry::new(total, piece_length).expect("a small torrent");
        let start = dice.one_in(4);
        let had = (0..geometry.pieces()).filter(|_| start && dice.one_in(2)).collect::<Vec<_>>();
        let have = Bitfield::with(geometry.pieces(), had);
        let max_peers = dice.pick(&[1, 2, 3, 5, 12]);
        let stop_timeout = dice.one_in(8).then_some(Duration::from_secs(20));
        let trackers = dice.below(3);
        let config = Config {
            geometry,
            peer_id: OUR_ID,
            offer: Offer { port: 1, metadata_size: 20_000, pex: true },
            max_peers,
            stop_timeout,
            goal: None,
            wanted: None,
            in_order: false,
            without: Default::default(),
            super_seed: false,
            download_limit: None,
            upload_limit: None,
            private: false,
            trackers,
            lan: dice.one_in(2),
            dht_ports: [dice.one_in(2).then_some(6881), None],
            // The rules want to know every decision.
            watch: false,
            trace: true,
        };
        let now = Instant::now();
        let rng = fastrand::Rng::with_seed(u64::from(dice.byte()));
        let swarm = Swarm::new(config, have.clone(), rng, now);
        let rules = Rules::new(geometry, max_peers, stop_timeout.is_some(), have.clone());
        let mut game = Game {
            dice,
            now,
            geometry,
            swarm,
            rules,
            facts: VecDeque::new(),
            wires: BTreeMap::new(),
            blocks: VecDeque::new(),
            partials: BTreeMap::new(),
            stored: have,
            liars: Vec::new(),
        };
        game.act();
        game
    }

    /// The session ends when all is there, or when it gives up.
    fn is_over(&self) -> bool {
        self.rules.finished || self.rules.gave_up
    }

    /// Carries out what the swarm has decided, and compares what it says of itself.
    fn act(&mut self) {
        for action in self.swarm.take_actions() {
            self.rules.done(&action);
            match action {
                Action::Dial { conn, addr } => self.open(conn, addr, false),
                Action::HangUp { conn } => {
                    self.wires.remove(&conn);
                    // Its reader's last word comes when nobody wants to hear it any more.
                    let end = End::Lost("hung up on".to_owned());
                    self.facts.push_back(Fact::Gone { conn, end });
                }
                Action::Tell { conn, order: Order::Ask(spans) } => {
                    // A peer may have left without the swarm having heard of it.
                    if let Some(wire) = self.wires.get_mut(&conn) {
                        wire.expected.extend(spans);
                    }
                }
                _ => {}
            }
        }
        let status = self.swarm.status(self.now);
        self.rules.compare(&self.swarm, &status);
    }

    fn open(&mut self, conn: ConnId, addr: SocketAddr, incoming: bool) {
        let wire = Wire { addr, incoming, shaken: false, fast: false, expected: Vec::new() };
        self.wires.insert(conn, wire);
    }

    /// One fact reaches the swarm; false if there is none, or the session has ended.
    fn deliver(&mut self) -> bool {
        if self.is_over() {
            return false;
        }
        let Some(fact) = self.facts.pop_front() else { return false };
        self.rules.told(&fact);
        self.swarm.handle(self.now, fact);
        self.act();
        true
    }

    /// One block reaches the assembler.
    fn assemble(&mut self) {
        let Some((conn, span, right)) = self.blocks.pop_front() else { return };
        let piece = span.piece;
        if self.stored.contains(piece) {
            return;
        }
        let blocks = self.geometry.blocks(piece) as usize;
        let partial = self.partials.entry(piece).or_insert_with(|| vec![None; blocks]);
        let block = self.geometry.block_index(span).expect("it was asked for") as usize;
        partial[block].get_or_insert((conn, right));
        if partial.contains(&None) {
            return;
        }
        let sent: Vec<_> = self.partials.remove(&piece).into_iter().flatten().flatten().collect();
        if sent.iter().all(|(_, right)| *right) {
            self.stored.insert(piece);
            self.facts.push_back(Fact::Stored { piece });
            for (_, conn) in self.liars.extract_if(.., |(failed, _)| *failed == piece) {
                self.facts.push_back(Fact::Guilty { conn, piece });
            }
        } else {
            let wrong = sent.iter().filter(|(_, right)| !right);
            self.liars.extend(wrong.map(|(conn, _)| (piece, *conn)));
            let senders = sent.into_iter().map(|(conn, _)| conn).collect();
            self.facts.push_back(Fact::Corrupt { piece, senders });
        }
    }

    /// Something happens.
    fn step(&mut self) {
        match self.dice.below(16) {
            0 => {
                let source = self.dice.pick(&[Source::User, Source::Tracker]);
                let addrs = (0..self.dice.below(6)).map(|_| self.address()).collect();
                self.facts.push_back(Fact::Addresses { source, addrs });
            }
            1 => self.facts.push_back(Fact::TrackerFailed { error: "\x1b[2Jno".to_owned() }),
            2 => {
                let addr = self.address();
                if let Some(conn) = self.swarm.incoming(addr, self.now) {
                    self.rules.opened(conn, addr, true);
                    self.open(conn, addr, true);
                }
            }
            3..=5 => self.shake_hands(),
            6..=8 => {
                let count = self.dice.below(4);
                self.say(count, 1);
            }
            9..=11 => self.send_blocks(),
            12 => self.end(),
            13 if self.dice.one_in(8) => {
                let times = 400 * (1 + self.dice.below(4));
                self.say(1, times);
            }
            13 => self.fact_from_nowhere(),
            _ => self.wait(),
        }
    }

    /// One of few, so that they meet again; some cannot be dialled.
    fn address(&mut self) -> SocketAddr {
        match self.dice.byte() % 32 {
            0 => SocketAddr::from(([0, 0, 0, 0], 1)),
            1 => SocketAddr::from(([10, 0, 0, 1], 0)),
            2 => SocketAddr::from(([224, 0, 0, 1], 1)),
            3 => SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 1], 1)),
            n => SocketAddr::from(([10, 0, 0, n / 2], 6_881 + u16::from(n % 2))),
        }
    }

    fn wire(&mut self, wanted: impl Fn(&Wire) -> bool) -> Option<ConnId> {
        let wires: Vec<ConnId> =
            self.wires.iter().filter(|(_, wire)| wanted(wire)).map(|(&conn, _)| conn).collect();
        (!wires.is_empty()).then(|| self.dice.pick(&wires))
    }

    /// A dial succeeds; mostly it begins well.
    fn shake_hands(&mut self) {
        let Some(conn) = self.wire(|wire| !wire.shaken) else { return };
        let id = match self.dice.byte() % 32 {
            0 => OUR_ID,
            n => PeerId([n; 20]),
        };
        let fast = self.dice.one_in(2);
        self.connect(conn, id, fast);
        if self.dice.one_in(4) {
            return;
        }
        let have = if self.dice.one_in(2) { self.everything(fast) } else { self.bitfield(false) };
        self.facts.push_back(Fact::Said { conn, messages: vec![have, Message::Unchoke] });
    }

    fn connect(&mut self, conn: ConnId, peer_id: PeerId, fast: bool) {
        let wire = self.wires.get_mut(&conn).expect("open");
        (wire.shaken, wire.fast) = (true, fast);
        let reserved = if fast { Reserved::default().with_fast() } else { Reserved::default() };
        let reserved = reserved.with_extended();
        let hello = Hello { addr: wire.addr, incoming: wire.incoming, peer_id, reserved };
        self.facts.push_back(Fact::Connected { conn, hello });
    }

    fn everything(&self, fast: bool) -> Message {
        match fast {
            true => Message::HaveAll,
            false => Message::Bitfield(Bitfield::full(self.geometry.pieces()).as_bytes().to_vec()),
        }
    }

    fn bitfield(&mut self, may_be_wrong: bool) -> Message {
        let pieces = self.geometry.pieces();
        let mut bits: Vec<u8> = (0..pieces.div_ceil(8)).map(|_| self.dice.byte()).collect();
        if let Some(last) = bits.last_mut().filter(|_| !may_be_wrong && !pieces.is_multiple_of(8)) {
            *last &= 0xff << (8 - pieces % 8);
        }
        Message::Bitfield(bits)
    }

    /// What extensions say: pieces that are gone, flags, handshakes, and what nobody offered.
    fn extended(&mut self) -> Message {
        match self.dice.below(9) {
            0..=2 => Message::Extended(3, self.piece().to_be_bytes().to_vec()),
            3 => Message::Extended(4, vec![self.dice.byte() % 2]),
            4 => {
                Message::Extended(0, b"d1:md11:ut_metadatai1e11:upload_onlyi2ee4:reqqi3ee".to_vec())
            }
            5 => Message::Extended(0, b"d11:upload_onlyi1ee".to_vec()),
            6 => Message::Extended(1, b"d8:msg_typei0e5:piecei0ee".to_vec()),
            7 => {
                let ip = [10, 99, self.dice.byte(), self.dice.byte()];
                let added = [b"d5:added6:", &ip[..], b"\x1a\xe1e"].concat();
                Message::Extended(2, added)
            }
            _ => Message::Extended(self.dice.byte(), Vec::new()),
        }
    }

    /// A peer says something, each message so many times.
    fn say(&mut self, count: usize, times: usize) {
        let Some(conn) = self.wire(|wire| wire.shaken) else { return };
        let messages: Vec<Message> = (0..count)
            .map(|_| self.message(conn))
            .flat_map(|message| vec![message; times])
            .collect();
        self.facts.push_back(Fact::Said { conn, messages });
    }

    /// Any message, most of them allowed. No block: see [`send_blocks`](Self::send_blocks).
    fn message(&mut self, conn: ConnId) -> Message {
        let fast = self.wires[&conn].fast || self.dice.one_in(16);
        match self.dice.below(20) {
            0 => Message::Choke,
            1..=3 => Message::Unchoke,
            4..=7 => Message::Have(self.piece()),
            8 => {
                let may_be_wrong = self.dice.one_in(4);
                self.bitfield(may_be_wrong)
            }
            9 if fast => Message::HaveAll,
            10 if fast => Message::HaveNone,
            11 if fast => Message::AllowedFast(self.piece()),
            12 | 13 if fast => {
                let expected = self.wires[&conn].expected.clone();
                let asked = !expected.is_empty() && !self.dice.one_in(8);
                Message::Reject(if asked { self.dice.pick(&expected) } else { self.span() })
            }
            14 if fast => Message::Suggest(self.piece()),
            15 => Message::Request(self.span()),
            16 => Message::Cancel(self.span()),
            17 => Message::Interested,
            18 => self.extended(),
            _ => Message::Unknown(7),
        }
    }

    /// Mostly one that exists.
    fn piece(&mut self) -> PieceIndex {
        let pieces = self.geometry.pieces();
        match self.dice.byte() {
            255 => self.dice.pick(&[pieces, pieces + 1, u32::MAX]),
            n => u32::from(n) % pieces,
        }
    }

    fn span(&mut self) -> Span {
        let begin = self.dice.pick(&[0, BLOCK_LEN, 1, u32::MAX]);
        let length = self.dice.pick(&[BLOCK_LEN, 1, 0, u32::MAX]);
        Span { piece: self.piece(), begin, length }
    }

    /// A peer answers some requests, also such that were cancelled meanwhile. What was not asked
    /// for the reader keeps back.
    fn send_blocks(&mut self) {
        let Some(conn) = self.wire(|wire| !wire.expected.is_empty()) else { return };
        let count = self.dice.pick(&[1, 2, 4, 100]);
        let lies = self.dice.one_in(4);
        self.answer(conn, count, lies);
    }

    fn answer(&mut self, conn: ConnId, count: usize, lies: bool) {
        let mut messages = Vec::new();
        let mut sent = Vec::new();
        for n in 0..count {
            let expected = &mut self.wires.get_mut(&conn).expect("open").expected;
            if expected.is_empty() {
                break;
            }
            // In order, but for the first one.
            let at = if n == 0 { self.dice.below(expected.len()) } else { 0 };
            let span = expected.remove(at);
            messages.push(Message::Block(span));
            let right = !lies || self.dice.one_in(2);
            sent.push((conn, span, right));
        }
        // First the word, then the bytes.
        self.facts.push_back(Fact::Said { conn, messages });
        self.blocks.extend(sent);
    }

    /// A dial fails, or a peer leaves.
    fn end(&mut self) {
        let Some(conn) = self.wire(|_| true) else { return };
        let end = match self.dice.one_in(4) {
            true => End::Violation("\x1b[31mrule".to_owned()),
            false => End::Lost("reset".to_owned()),
        };
        self.wires.remove(&conn);
        self.facts.push_back(Fact::Gone { conn, end });
    }

    /// Of connections that never were, or are no more.
    fn fact_from_nowhere(&mut self) {
        let conn = ConnId(self.dice.below(40) as u32);
        if self.wires.contains_key(&conn) {
            return;
        }
        let messages = vec![Message::HaveAll, Message::Unchoke];
        self.facts.push_back(Fact::Said { conn, messages });
    }

    fn wait(&mut self) {
        let ticks = self.dice.pick(&[1, 1, 5, 20, 110]);
        let step = self.dice.pick(&[TICK, TICK, TICK, 10 * TICK]);
        for _ in 0..ticks {
            self.tick(step);
        }
    }

    fn tick(&mut self, step: Duration) {
        if !self.is_over() {
            self.now += step;
            self.swarm.tick(self.now);
            self.act();
        }
    }

    /// Everything that is on its way arrives.
    fn settle(&mut self) {
        while !self.blocks.is_empty() {
            self.assemble();
        }
        while self.deliver() {}
    }

    /// From now on the others are silent, dials to them fail, and one peer is honest.
    fn the_seed_comes(&mut self) {
        self.settle();
        let seed = SocketAddr::from(SEED);
        self.facts.push_back(Fact::Addresses { source: Source::User, addrs: vec![seed] });
        let end = self.now + PATIENCE;
        while !self.is_over() {
            assert!(self.now < end, "not complete: {:?}", self.swarm.status(self.now));
            self.settle();
            let conns: Vec<ConnId> = self.wires.keys().copied().collect();
            for conn in conns {
                let Wire { addr, shaken, .. } = self.wires[&conn];
                match (addr == seed, shaken) {
                    (true, false) => {
                        self.connect(conn, PeerId(*b"-TR4060-honestly-one"), false);
                        let messages = vec![self.everything(false), Message::Unchoke];
                        self.facts.push_back(Fact::Said { conn, messages });
                    }
                    (true, true) => self.answer(conn, usize::MAX, false),
                    (false, false) => {
                        self.wires.remove(&conn);
                        let end = End::Lost("timed out".to_owned());
                        self.facts.push_back(Fact::Gone { conn, end });
                    }
                    (false, true) => {}
                }
            }
            self.settle();
            self.tick(TICK);
        }
    }
}
