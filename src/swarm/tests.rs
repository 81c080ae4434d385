//! Scripts for the swarm, in virtual time: facts go in, actions come out.

mod extended;
mod in_order;
mod people;
mod pex;
mod rationing;
mod serving;
mod super_seed;
mod talk;
mod web_seeds;

use super::*;
use crate::geometry::BLOCK_LEN;
use crate::picker::Reason;
use crate::places::CROSSWISE;

const PIECES: u32 = 8;
const BLOCKS: u32 = 2;

struct Play {
    swarm: Swarm,
    now: Instant,
    /// What has been done since somebody looked.
    actions: Vec<Action>,
    hosts: u8,
}

fn play() -> Play {
    play_with(|_| {})
}

fn play_with(change: impl FnOnce(&mut Config)) -> Play {
    let piece_length = BLOCKS * BLOCK_LEN;
    let mut config = Config {
        geometry: Geometry::new(u64::from(PIECES * piece_length), piece_length).unwrap(),
        peer_id: PeerId(*b"-PM0100-ourselves..."),
        offer: Default::default(),
        max_peers: 50,
        stop_timeout: None,
        goal: None,
        wanted: None,
        in_order: false,
        without: Default::default(),
        super_seed: false,
        download_limit: None,
        upload_limit: None,
        private: false,
        trackers: 0,
        lan: false,
        watch: false,
        dht_ports: [None; 2],
        trace: true,
    };
    change(&mut config);
    let now = Instant::now();
    let have = Bitfield::new(config.geometry.pieces());
    let swarm = Swarm::new(config, have, fastrand::Rng::with_seed(3), now);
    Play { swarm, now, actions: Vec::new(), hosts: 0 }
}

impl Play {
    fn fact(&mut self, fact: Fact) {
        self.swarm.handle(self.now, fact);
        self.actions.append(&mut self.swarm.take_actions());
    }

    /// Lets time pass, with the ticks that belong to it.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += TICK;
            self.swarm.tick(self.now);
            self.actions.append(&mut self.swarm.take_actions());
        }
    }

    fn knows(&mut self, addr: SocketAddr) {
        self.fact(Fact::Addresses { source: Source::Tracker, addrs: vec![addr] });
    }

    /// The next address of a host that nobody has met.
    fn address(&mut self) -> SocketAddr {
        self.hosts += 1;
        SocketAddr::from(([10, 0, 0, self.hosts], 6881))
    }

    /// The number under which an address is being dialled.
    fn dialled(&self, addr: SocketAddr) -> Option<ConnId> {
        self.actions.iter().rev().find_map(|action| match action {
            Action::Dial { conn, addr: dialled } if *dialled == addr => Some(*conn),
            _ => None,
        })
    }

    fn shakes_hands(&mut self, conn: ConnId, addr: SocketAddr, id: u8, fast: bool) {
        let reserved = if fast { Reserved::default().with_fast() } else { Reserved::default() };
        let hello = Hello { addr, incoming: false, peer_id: PeerId([id; 20]), reserved };
        self.fact(Fact::Connected { conn, hello });
    }

    /// A new peer that has these pieces and does not choke us.
    fn joins(&mut self, pieces: impl IntoIterator<Item = PieceIndex>) -> ConnId {
        let addr = self.address();
        self.knows(addr);
        let conn = self.dialled(addr).expect("it is dialled");
        self.shakes_hands(conn, addr, self.hosts, false);
        let bits = Bitfield::with(self.swarm.have().len(), pieces).as_bytes().to_vec();
        self.says(conn, [Message::Bitfield(bits), Message::Unchoke]);
        conn
    }

    fn says(&mut self, conn: ConnId, messages: impl Into<Vec<Message>>) {
        self.fact(Fact::Said { conn, messages: messages.into() });
    }

    /// The blocks a peer has been asked for and has not been seen to.
    fn asked(&self, conn: ConnId) -> Vec<Span> {
        let peer = self.swarm.peers.get(&conn);
        peer.map_or(Vec::new(), |peer| peer.asked.iter().map(|(span, _)| *span).collect())
    }

    /// Sends all it was asked for, and goes on until it is asked for nothing more.
    fn sends_everything(&mut self, conn: ConnId) {
        loop {
            let spans = self.asked(conn);
            if spans.is_empty() {
                return;
            }
            self.now += Duration::from_millis(10);
            self.says(conn, spans.iter().map(|span| Message::Block(*span)).collect::<Vec<_>>());
            // A piece whose blocks are all here is good.
            for piece in
                spans.iter().map(|span| span.piece).collect::<std::collections::BTreeSet<_>>()
            {
                let partly = self
                    .swarm
                    .peers
                    .values()
                    .any(|peer| peer.asked.iter().any(|(span, _)| span.piece == piece));
                if !partly && !self.swarm.have().contains(piece) {
                    self.fact(Fact::Stored { piece });
                }
            }
        }
    }

    fn decided(&mut self, wanted: impl Fn(&Decision) -> bool) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Decided(d) if wanted(d)))
    }

    fn told(&self, conn: ConnId, wanted: &Message) -> bool {
        let said = |action: &Action| {
            matches!(action, Action::Tell { conn: to, order: Order::Say(message) }
                if *to == conn && message == wanted)
        };
        self.actions.iter().any(said)
    }

    fn is_connected(&self, conn: ConnId) -> bool {
        self.swarm.peers.contains_key(&conn)
    }
}

#[test]
fn one_seed_gives_everything() {
    let mut p = play();
    let seed = p.joins(0..PIECES);
    assert!(p.told(seed, &Message::Interested));
    assert!(!p.told(seed, &Message::HaveNone), "it does not speak Fast");
    p.sends_everything(seed);
    assert_eq!(p.actions.last(), Some(&Action::Finished));
    assert_eq!((p.swarm.left(), p.swarm.status(p.now).wasted), (0, 0));
    assert!(p.told(seed, &Message::NotInterested));
}

#[test]
fn nothing_need_come_first_and_nothing_need_come_at_all() {
    let mut p = play();
    let addr = p.address();
    p.knows(addr);
    let conn = p.dialled(addr).unwrap();
    p.shakes_hands(conn, addr, 1, true);
    assert!(p.told(conn, &Message::HaveNone));
    p.says(conn, [Message::Unchoke]);
    assert_eq!(p.asked(conn), []);
    p.says(conn, [Message::Have(5)]);
    assert_eq!(p.asked(conn).len(), 2);
    p.says(conn, [Message::HaveAll]);
    assert!(p.is_connected(conn));
}

#[test]
fn what_a_lost_peer_owed_is_asked_of_another_at_once() {
    let mut p = play();
    let (a, b) = (p.joins([3]), p.joins([3]));
    assert_eq!((p.asked(a).len(), p.asked(b).len()), (2, 0));
    p.fact(Fact::Gone { conn: a, end: End::Lost("reset".into()) });
    assert_eq!(p.asked(b).len(), 2);
    let c = p.joins([3]);
    p.says(b, [Message::Choke]);
    assert_eq!((p.asked(b).len(), p.asked(c).len()), (0, 0), "C is asked with the next tick");
    p.wait(TICK);
    assert_eq!(p.asked(c).len(), 2);
}

#[test]
fn the_only_source_of_a_piece_is_spared_what_another_has_meanwhile() {
    let mut p = play_with(|config| {
        let pieces = 64;
        config.geometry = Geometry::new(u64::from(pieces * BLOCK_LEN), BLOCK_LEN).unwrap();
    });
    let (seed, other) = (p.joins(0..64), p.joins([]));
    let owed = p.asked(seed);
    p.says(other, [Message::Have(owed[3].piece)]);
    assert!(p.told(seed, &Message::Cancel(owed[3])));
    let now_owed = p.asked(seed);
    assert!(!now_owed.contains(&owed[3]), "{now_owed:?}");
    // Its blocks are asked of the one that has it now.
    p.wait(TICK);
    assert_eq!(p.asked(other), [owed[3]]);
}

#[test]
fn a_peer_that_lets_us_wait_is_snubbed_probed_and_dropped() {
    let mut p = play();
    let (a, b) = (p.joins([3]), p.joins([4]));
    p.sends_everything(b);
    p.wait(Duration::from_secs(11));
    assert!(p.decided(|d| matches!(d, Decision::Snub { conn, blocks: 2, .. } if *conn == a)));
    p.wait(Duration::from_secs(7));
    assert_eq!(p.asked(a).len(), 1, "one at a time from now on");
    // It comes after all: as good as new.
    p.sends_everything(a);
    assert!(p.swarm.have().contains(3) && p.is_connected(a));
    p.says(a, [Message::Have(6)]);
    assert_eq!(p.asked(a).len(), 2);
    p.wait(Duration::from_secs(100));
    assert!(!p.is_connected(a));
    assert!(p.decided(|d| matches!(d, Decision::Drop { reason: DropReason::Stalled { .. }, .. })));
}

#[test]
fn endgame_asks_a_second_peer_and_cancels_at_the_slower_one() {
    let mut p = play();
    let slow = p.joins(0..PIECES);
    let fast = p.joins(0..PIECES);
    let owed = p.asked(slow);
    assert!(!owed.is_empty());
    p.sends_everything(fast);
    assert!(!p.swarm.have().is_full());
    p.wait(Duration::from_millis(400));
    assert!(p.decided(|d| matches!(d, Decision::Request { reason: Reason::Endgame { .. }, .. })));
    p.sends_everything(fast);
    assert!(p.swarm.have().is_full());
    assert!(owed.iter().all(|span| p.told(slow, &Message::Cancel(*span))));
    assert_eq!(p.asked(slow), []);
}

#[test]
fn what_silent_peers_owe_goes_to_the_one_that_sends() {
    let mut p = play();
    let silent: Vec<ConnId> = (0..20).map(|_| p.joins([])).collect();
    let honest = p.joins([0]);
    p.sends_everything(honest);
    silent.iter().for_each(|&conn| p.says(conn, [Message::Bitfield(vec![0xff])]));
    p.wait(Duration::from_secs(1));
    p.says(honest, (1..PIECES).map(Message::Have).collect::<Vec<_>>());
    for _ in 0..40 {
        p.sends_everything(honest);
        p.wait(TICK);
    }
    let blocks = p.swarm.status(p.now).downloaded / u64::from(BLOCK_LEN);
    assert_eq!(blocks, u64::from(PIECES * BLOCKS));
}

#[test]
fn who_alone_sent_a_bad_piece_is_banned() {
    let mut p = play();
    let bad = p.joins([3]);
    let addr = p.swarm.peers[&bad].addr;
    let spans = p.asked(bad);
    p.says(bad, spans.iter().map(|span| Message::Block(*span)).collect::<Vec<_>>());
    p.fact(Fact::Corrupt { piece: 3, senders: vec![bad, bad] });
    assert!(!p.is_connected(bad));
    assert!(p.decided(|d| *d == Decision::Ban { addr, reason: BanReason::SentCorruptPiece(3) }));
    p.actions.clear();
    p.knows(addr);
    p.wait(Duration::from_secs(3_600));
    assert_eq!(p.dialled(addr), None);
    let good = p.joins([3]);
    assert_eq!(p.asked(good).len(), 2, "the piece is fetched again");
}

#[test]
fn of_several_senders_only_the_guilty_one_is_banned() {
    let mut p = play();
    let (a, b) = (p.joins(0..PIECES), p.joins(0..PIECES));
    p.fact(Fact::Corrupt { piece: 3, senders: vec![a, b] });
    assert!(p.is_connected(a) && p.is_connected(b));
    p.fact(Fact::Guilty { conn: b, piece: 3 });
    assert!(p.is_connected(a) && !p.is_connected(b));
    // Even one that has left is remembered.
    let c = p.joins([1]);
    let addr = p.swarm.peers[&c].addr;
    p.fact(Fact::Gone { conn: c, end: End::Lost("bye".into()) });
    p.fact(Fact::Guilty { conn: c, piece: 3 });
    assert!(p.decided(|d| *d == Decision::Ban { addr, reason: BanReason::SentCorruptBlock(3) }));
}

#[test]
fn a_piece_that_fails_while_it_is_owed_is_asked_for_once() {
    let mut p = play();
    let a = p.joins([3]);
    let owed = p.asked(a);
    assert_eq!(owed.len(), 2);
    // Its blocks came from peers that were dropped before their word was heard.
    p.fact(Fact::Corrupt { piece: 3, senders: vec![ConnId(98), ConnId(99)] });
    assert!(owed.iter().all(|span| p.told(a, &Message::Cancel(*span))));
    assert_eq!(p.asked(a), owed, "and once more");
}

#[test]
fn one_that_dialled_us_and_failed_leaves_our_dial_to_it_alone() {
    let mut p = play();
    let addr = p.address();
    p.knows(addr);
    assert!(p.dialled(addr).is_some());
    let incoming = p.swarm.incoming(addr, p.now).unwrap();
    p.fact(Fact::Gone { conn: incoming, end: End::Lost("no handshake".into()) });
    p.actions.clear();
    p.wait(Duration::from_secs(5));
    assert_eq!(p.dialled(addr), None, "the first dial is still on its way");
}

#[test]
fn one_of_two_crosswise_connections_gives_its_place_to_nobody_twice() {
    let mut p = play_with(|config| config.max_peers = 2);
    let addrs: Vec<SocketAddr> = (0..3).map(|_| p.address()).collect();
    p.fact(Fact::Addresses { source: Source::Tracker, addrs: addrs.clone() });
    let dialled = p.dialled(addrs[0]).unwrap();
    p.shakes_hands(dialled, addrs[0], b'z', false);
    let other = p.dialled(addrs[1]).unwrap();
    p.fact(Fact::Gone { conn: other, end: End::Lost("refused".into()) });
    let third = p.dialled(addrs[2]).unwrap();
    p.fact(Fact::Gone { conn: third, end: End::Lost("refused".into()) });
    // Its own dial is the one to keep, since its id is the greater one.
    let incoming = p.swarm.incoming(addrs[0], p.now).unwrap();
    p.knows(SocketAddr::from(([10, 0, 0, 200], 1)));
    p.knows(SocketAddr::from(([10, 0, 0, 201], 1)));
    let peer_id = PeerId([b'z'; 20]);
    let reserved = Reserved::default();
    let hello = Hello { addr: addrs[0], incoming: true, peer_id, reserved };
    p.fact(Fact::Connected { conn: incoming, hello });
    assert!(p.is_connected(incoming) && !p.is_connected(dialled));
    assert_eq!(p.swarm.peers.len() + p.swarm.dials.len(), 2);
}

#[test]
fn a_second_connection_does_not_replace_one_that_works() {
    let mut p = play();
    let first = p.joins([3]);
    let (addr, id) = (p.swarm.peers[&first].addr, p.hosts);
    p.wait(CROSSWISE);
    let second = p.swarm.incoming(addr, p.now).unwrap();
    let (peer_id, reserved) = (PeerId([id; 20]), Reserved::default());
    let hello = Hello { addr, incoming: true, peer_id, reserved };
    p.fact(Fact::Connected { conn: second, hello });
    assert!(p.is_connected(first) && !p.is_connected(second));
}

#[test]
fn a_run_without_a_byte_is_given_up_when_asked_to() {
    let mut p = play_with(|config| config.stop_timeout = Some(Duration::from_secs(5)));
    let a = p.joins([3]);
    p.wait(Duration::from_secs(4));
    p.sends_everything(a);
    p.wait(Duration::from_secs(4));
    assert!(!p.actions.contains(&Action::GiveUp));
    p.wait(Duration::from_secs(1));
    assert!(p.actions.contains(&Action::GiveUp));
}

#[test]
fn it_says_why_nothing_moves() {
    let stuck = |p: &mut Play| {
        p.wait(Duration::from_secs(3));
        p.swarm.status(p.now).stuck.map(|stuck| stuck.to_string()).unwrap_or_default()
    };
    let mut p = play();
    assert_eq!(stuck(&mut p), "no tracker and no peer to ask; try --peer IP:PORT");
    let mut p = play_with(|config| config.trackers = 2);
    assert_eq!(stuck(&mut p), "no tracker has answered yet");
    p.fact(Fact::TrackerFailed { error: "tracker x: refused".into() });
    assert_eq!(stuck(&mut p), "no tracker answered (tracker x: refused)");
    p.fact(Fact::Addresses { source: Source::Tracker, addrs: vec![] });
    assert_eq!(stuck(&mut p), "the tracker knows no other peer");
    let mut d = play_with(|config| config.dht_ports = [Some(6881), None]);
    assert_eq!(stuck(&mut d), "no DHT node has answered yet");
    d.fact(Fact::DhtSearched { answered: 8 });
    assert_eq!(stuck(&mut d), "the DHT knows no other peer");
    let mut all = play_with(|config| {
        (config.trackers, config.dht_ports, config.lan) = (1, [Some(6881), None], true);
    });
    let lan = "nobody on the local network has answered yet";
    let others = format!("no DHT node has answered yet; {lan}");
    assert_eq!(stuck(&mut all), format!("no tracker has answered yet; {others}"));
    all.fact(Fact::Addresses { source: Source::Tracker, addrs: vec![] });
    assert_eq!(stuck(&mut all), format!("the tracker knows no other peer; {others}"));
    let addr = p.address();
    p.knows(addr);
    assert_eq!(stuck(&mut p), "dialling 1 peer");
    let conn = p.dialled(addr).unwrap();
    p.fact(Fact::Gone { conn, end: End::Lost("connection refused".into()) });
    p.now += TICK;
    let said = p.swarm.status(p.now).stuck.unwrap().to_string();
    assert_eq!(said, "1 peer known but none reachable (connection refused)");
    let addr = all.address();
    all.knows(addr);
    let conn = all.dialled(addr).unwrap();
    all.fact(Fact::Gone { conn, end: End::Lost("timed out".into()) });
    all.now += TICK;
    let said = all.swarm.status(all.now).stuck.unwrap().to_string();
    let expected = "1 peer known but none reachable (timed out); no DHT node has answered yet";
    assert_eq!(said, expected);
    let mut p = play();
    let a = p.joins([3]);
    p.says(a, [Message::Choke]);
    assert_eq!(stuck(&mut p), "the only peer chokes us; waiting for a turn");
    let mut p = play();
    let a = p.joins([0]);
    p.sends_everything(a);
    assert_eq!(stuck(&mut p), "the only peer lacks piece 1");
}

#[test]
fn what_is_left_counts_the_short_last_piece() {
    let geometry = Geometry::new(100_000, 40_000).unwrap();
    let config = Config { geometry, ..play().swarm.config };
    let left = |pieces: &[u32]| {
        let have = Bitfield::with(3, pieces.iter().copied());
        Swarm::new(config.clone(), have, fastrand::Rng::with_seed(1), Instant::now()).left()
    };
    assert_eq!((left(&[]), left(&[0]), left(&[2]), left(&[0, 1, 2])), (100_000, 60_000, 80_000, 0));
}
