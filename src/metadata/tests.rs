//! Scripts for the search, in virtual time: facts go in, actions come out.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::*;
use crate::address_book::Source;
use crate::hash::sha1;
use crate::picker::ConnId;
use crate::swarm::{Action, Decision, End, Fact, Heard, Hello, Order, TICK};
use crate::wire::extended::{Extended, Extension, HANDSHAKE, Offer};
use crate::wire::handshake::{PeerId, Reserved};
use crate::wire::message::Message;
use crate::wire::metadata::{Metadata, range};
use crate::wire::pex::Pex;

/// The id under which our made-up peers want messages of ut_metadata.
const THEIR_ID: u8 = 7;
const OURS: u8 = Extension::Metadata as u8;

/// How a peer behaves once it is asked.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Honest,
    /// Claims to have the metadata, and answers nothing.
    Silent,
    /// Sends other bytes of the right length; only of the first piece with `Subtle`.
    Liar,
    Subtle,
    Rejects,
    /// Another size than the true one, and bytes of it.
    Claims(u32),
    /// Pieces that are too long, or say another total.
    TooLong,
    OtherTotal,
    /// Claims this size, and answers nothing.
    SilentAt(u32),
    /// One piece every three seconds.
    Slow,
    /// Has no metadata.
    Poor,
}

struct Play {
    search: Search,
    info: Vec<u8>,
    now: Instant,
    kinds: BTreeMap<ConnId, Kind>,
    hosts: u8,
    banned: usize,
    hung_up: Vec<ConnId>,
    gave_up: bool,
    asked: usize,
    /// What a slow one was asked for.
    queue: VecDeque<(ConnId, u32)>,
    next_slow: Instant,
}

fn play(len: usize) -> Play {
    let info: Vec<u8> = (0..len).map(|at| (at * 7 + at / 251) as u8).collect();
    let wish = Wish {
        info_hash: sha1(&info),
        peer_id: PeerId(*b"-PM0100-ourselves..."),
        offer: Offer::default(),
        fast: true,
        max_peers: 50,
        stop_timeout: Some(Duration::from_secs(600)),
        trackers: 0,
        dht: false,
        lan: false,
        trace: true,
    };
    let now = Instant::now();
    Play {
        search: Search::new(wish, now),
        info,
        now,
        kinds: BTreeMap::new(),
        hosts: 0,
        banned: 0,
        hung_up: Vec::new(),
        gave_up: false,
        asked: 0,
        queue: VecDeque::new(),
        next_slow: now,
    }
}

impl Play {
    fn fact(&mut self, fact: Fact) {
        self.search.handle(self.now, fact);
        self.act();
    }

    /// Carries out what was decided; the peers answer at once.
    fn act(&mut self) {
        loop {
            let actions = self.search.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Tell { conn, order: Order::Say(Message::Extended(id, payload)) }
                        if id == THEIR_ID =>
                    {
                        self.answer(conn, &payload);
                    }
                    Action::HangUp { conn } => self.hung_up.push(conn),
                    Action::GiveUp => self.gave_up = true,
                    Action::Decided(Decision::Ban { .. }) => self.banned += 1,
                    _ => {}
                }
            }
        }
    }

    fn answer(&mut self, conn: ConnId, payload: &[u8]) {
        let Ok(Metadata::Request { piece }) = Metadata::parse(payload) else { return };
        self.asked += 1;
        if self.kinds[&conn] == Kind::Slow {
            return self.queue.push_back((conn, piece));
        }
        self.deliver(conn, piece);
    }

    fn deliver(&mut self, conn: ConnId, piece: u32) {
        let kind = self.kinds[&conn];
        let size = match kind {
            Kind::Claims(size) => size as usize,
            _ => self.info.len(),
        };
        let range = range(piece, size).expect("only pieces that exist are asked for");
        let mut bytes = self.info.get(range.clone()).unwrap_or(&vec![9; range.len()]).to_vec();
        let mut total_size = size as u32;
        match kind {
            Kind::Silent | Kind::SilentAt(_) | Kind::Poor => return,
            Kind::Rejects => {
                let reject = Metadata::Reject { piece }.to_bytes();
                return self.says(conn, [Message::Extended(OURS, reject)]);
            }
            Kind::Liar | Kind::Claims(_) => bytes[0] ^= 1,
            Kind::Subtle if piece == 0 => bytes[0] ^= 1,
            Kind::TooLong => bytes.push(0),
            Kind::OtherTotal => total_size += 1,
            Kind::Subtle | Kind::Honest | Kind::Slow => {}
        }
        let data = Metadata::Data { piece, total_size, bytes: &bytes }.to_bytes();
        self.says(conn, [Message::Extended(OURS, data)]);
    }

    fn says(&mut self, conn: ConnId, messages: impl Into<Vec<Message>>) {
        self.search.handle(self.now, Fact::Said { conn, messages: messages.into() });
    }

    fn dialled(&mut self) -> (ConnId, SocketAddr) {
        self.hosts += 1;
        let addr = SocketAddr::from(([10, 0, 0, self.hosts], 6881));
        let addrs = vec![addr];
        self.search.handle(self.now, Fact::Addresses { source: Source::Tracker, addrs });
        let dial = |action: &Action| match action {
            Action::Dial { conn, addr: dialled } if *dialled == addr => Some(*conn),
            _ => None,
        };
        let actions = self.search.take_actions();
        (actions.iter().find_map(dial).expect("it is dialled"), addr)
    }

    fn joins(&mut self, kind: Kind) -> ConnId {
        let (conn, addr) = self.dialled();
        self.kinds.insert(conn, kind);
        let reserved = Reserved::default().with_extended().with_fast();
        let hello = Hello { addr, incoming: false, peer_id: PeerId([self.hosts; 20]), reserved };
        self.fact(Fact::Connected { conn, hello });
        let size = match kind {
            Kind::Claims(size) | Kind::SilentAt(size) => size as usize,
            _ => self.info.len(),
        };
        let said = match kind {
            Kind::Poor => "d1:mdee".to_owned(),
            _ => format!("d1:md11:ut_metadatai{THEIR_ID}ee13:metadata_sizei{size}ee"),
        };
        self.fact(Fact::Said { conn, messages: vec![Message::Extended(HANDSHAKE, said.into())] });
        conn
    }

    /// Lets time pass until the metadata is here; how long that took.
    fn finds(&mut self, limit: Duration) -> Option<Duration> {
        let start = self.now;
        loop {
            if let Some(found) = self.search.found() {
                assert!(found == self.info, "the hash was compared");
                return Some(self.now - start);
            }
            if start + limit < self.now {
                return None;
            }
            self.now += TICK;
            if self.next_slow <= self.now && !self.queue.is_empty() {
                self.next_slow = self.now + 3 * SECOND;
                let (conn, piece) = self.queue.pop_front().expect("not empty");
                self.deliver(conn, piece);
            }
            self.search.tick(self.now);
            self.act();
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn it_comes_from_several_at_once() {
    let mut p = play(100_000);
    let slow = [p.joins(Kind::Silent), p.joins(Kind::Silent)];
    assert_eq!(p.search.progress().to_string(), "metadata: 0 of 7 pieces from 2 peers");
    p.joins(Kind::Honest);
    assert!(p.finds(2 * SECOND).is_some());
    assert!(slow.iter().all(|conn| !p.hung_up.contains(conn)) && p.asked < 25, "{}", p.asked);
}

#[test]
fn whoever_is_there_beside_one_honest_peer_it_is_found() {
    for (kind, bad, banned) in [
        (Kind::Silent, 45, 0),
        (Kind::Liar, 45, 1),
        (Kind::Subtle, 20, 1),
        (Kind::Rejects, 45, 0),
        (Kind::TooLong, 45, 0),
        (Kind::OtherTotal, 45, 0),
        (Kind::Claims(1), 45, 1),
        (Kind::Claims(16_385), 10, 1),
        (Kind::Claims(8 << 20), 2, 0),
        (Kind::Poor, 49, 0),
    ] {
        for len in [1_000, 40_000] {
            let mut p = play(len);
            (0..bad).for_each(|_| _ = p.joins(kind));
            let honest = p.joins(Kind::Honest);
            let time = p.finds(12 * SECOND).expect("it is found");
            assert!(time < 10 * SECOND, "{time:?}");
            assert!(!p.hung_up.contains(&honest));
            assert!(banned <= p.banned, "{} banned", p.banned);
        }
    }
}

/// Each piece of one that answers must not give the silent ones another chance.
#[test]
fn silent_peers_do_not_slow_an_honest_one_down() {
    for silent in [25, 49] {
        for len in [1_000, 40_000, 300_000, 2_000_000] {
            let mut p = play(len);
            (0..silent).for_each(|_| _ = p.joins(Kind::Silent));
            let honest = p.joins(Kind::Honest);
            let time = p.finds(60 * SECOND).expect("it is found");
            assert!(time < 3 * SECOND, "{len} bytes, {silent} silent: {time:?}");
            assert!(!p.hung_up.contains(&honest));
            // A request that is repeated for each piece would be no loss, but for each peer.
            assert!(p.asked <= 2 * len / 16_384 + 2 * silent + 10, "{len}: {} asked", p.asked);
        }
    }
}

/// Their sizes fill the budget, and they are the smaller ones.
#[test]
fn silent_peers_that_claim_other_sizes_do_not_slow_an_honest_one_down() {
    let mut p = play(2_000_000);
    (0..45).for_each(|n| _ = p.joins(Kind::SilentAt(1_900_000 + n)));
    p.joins(Kind::Honest);
    assert!(p.finds(60 * SECOND).is_some_and(|time| time < 5 * SECOND));
}

#[test]
fn one_that_is_slow_is_not_given_up_on() {
    let mut p = play(200_000);
    let slow = p.joins(Kind::Slow);
    assert!(p.finds(60 * SECOND).is_some());
    assert!(!p.hung_up.contains(&slow) && p.asked == 13, "{} asked", p.asked);
}

#[test]
fn liars_that_claim_fifty_sizes_cost_little() {
    let mut p = play(30_000);
    (0..45).for_each(|n| _ = p.joins(Kind::Claims(100_000 + n)));
    p.joins(Kind::Honest);
    assert!(p.finds(10 * SECOND).is_some());
}

#[test]
fn one_that_rejects_for_ever_or_sends_nothing_is_dropped() {
    for kind in [Kind::Rejects, Kind::Silent] {
        let mut p = play(1_000);
        let conn = p.joins(kind);
        assert_eq!(p.finds(40 * SECOND), None);
        assert!(p.hung_up.contains(&conn));
    }
    let mut p = play(1_000);
    let conn = p.joins(Kind::Liar);
    assert_eq!(p.finds(SECOND), None);
    assert!(p.hung_up.contains(&conn) && p.banned == 1);
}

#[test]
fn what_peers_say_meanwhile_is_kept_for_the_swarm_within_limits() {
    let mut p = play(1_000);
    let poor = p.joins(Kind::Poor);
    let said = [Message::Bitfield(vec![0x80]), Message::Unchoke, Message::Have(3)];
    p.says(poor, said.clone());
    let flood = p.joins(Kind::Poor);
    (0..30).for_each(|_| p.says(flood, [Message::Bitfield(vec![0; 250_000])]));
    p.act();
    assert!(p.hung_up.contains(&flood) && !p.hung_up.contains(&poor));
    let again = p.joins(Kind::Poor);
    let first = [Message::Bitfield(vec![0x40]), Message::Have(2), Message::Interested];
    p.says(again, first);
    p.says(again, said.clone());
    let (pending, addr) = p.dialled();
    let heritage = p.search.bequeath();
    assert_eq!(heritage.dials, [(pending, addr, false)]);
    let [heir, other] = &heritage.peers[..] else { panic!("{} peers", heritage.peers.len()) };
    assert_eq!((heir.conn, &heir.messages[1..]), (poor, &said[..]), "after the handshake");
    // A bitfield says anew what it has said of pieces before.
    assert_eq!(other.messages[1], Message::Interested);
    assert_eq!((other.conn, &other.messages[2..]), (again, &said[..]));
    assert_eq!(heritage.last_conn, 4);
}

#[test]
fn a_peers_node_is_given_to_the_dht_once() {
    for (dht, expected) in [(true, 1), (false, 0)] {
        let mut p = play(1_000);
        p.search.wish.dht = dht;
        let poor = p.joins(Kind::Poor);
        p.says(poor, [Message::Port(7000), Message::Port(7001), Message::Port(7000)]);
        let node = |action| match action {
            Action::DhtNode { addr } => Some(addr.to_string()),
            _ => None,
        };
        let nodes: Vec<String> = p.search.take_actions().into_iter().filter_map(node).collect();
        assert_eq!(nodes, vec!["10.0.0.1:7000"; expected]);
    }
}

/// The first message is of those who are there at that moment; the seed comes later.
#[test]
fn a_peer_may_tell_of_others_again_and_not_of_everybody() {
    let mut p = play(1_000);
    p.search.wish.offer.pex = true;
    p.search.wish.max_peers = 1_000;
    let teller = p.joins(Kind::Poor);
    let pex = |from: u32, count: u32| {
        let added = (from..from + count).map(|n| (SocketAddr::from((n.to_be_bytes(), 1)), 0));
        let message = Pex { added: added.collect(), dropped: Vec::new() };
        Message::Extended(Extension::Pex as u8, message.to_bytes())
    };
    p.says(teller, [pex(0x0b00_0000, 1)]);
    assert_eq!(p.search.progress().known, 2);
    p.says(teller, [pex(0x0b00_0100, 1)]);
    assert_eq!(p.search.progress().known, 3);
    (0..20).for_each(|n| p.says(teller, [pex(0x0b10_0000 + n * 50, 50)]));
    assert_eq!(p.search.progress().known, 201, "200 of each peer, and itself");
    (0..2_000).for_each(|_| p.says(teller, [pex(0x0b20_0000, 1)]));
    p.act();
    assert!(p.hung_up.contains(&teller));
}

/// The last word that fits must not be a stranger's.
#[test]
fn those_that_say_much_keep_nobody_out() {
    // One that fills what there is for all, but for the room of one more word.
    let mut p = play(1_000);
    let loud = p.joins(Kind::Silent);
    let bitfield = Message::Bitfield(vec![0; 256 << 10]);
    (0..15).for_each(|_| p.says(loud, [bitfield.clone()]));
    let haves = (1 << 18) / size_of::<Message>() - 18;
    p.says(loud, vec![Message::Have(1); haves]);
    let honest = p.joins(Kind::Honest);
    assert!(p.finds(SECOND).is_some() && !p.hung_up.contains(&honest));
    // Several that fill it together: the loudest of them makes room.
    let mut p = play(1_000);
    let loud: Vec<ConnId> = (0..48).map(|_| p.joins(Kind::Poor)).collect();
    let haves = (4 << 20) / 48 / size_of::<Message>() - 10;
    loud.iter().for_each(|&conn| p.says(conn, vec![Message::Have(1); haves]));
    let honest = p.joins(Kind::Honest);
    p.says(honest, vec![Message::Have(1); haves / 2]);
    p.act();
    assert!(p.finds(SECOND).is_some());
    assert!(!p.hung_up.contains(&honest) && p.hung_up.len() == 1, "{:?}", p.hung_up);
}

#[test]
fn it_says_what_it_waits_for_and_gives_up_in_time() {
    let mut p = play(1_000);
    let why = |p: &Play| p.search.progress().to_string();
    assert!(why(&p).contains("no tracker and no peer"));
    p.search.heard = Heard::new(0, true, false);
    assert!(why(&p).contains("no DHT node has answered yet"), "{}", why(&p));
    p.fact(Fact::DhtSearched { answered: 8 });
    assert!(why(&p).contains("the DHT knows no other peer"), "{}", why(&p));
    let (conn, _) = p.dialled();
    assert!(why(&p).contains("dialling 1 peer"), "{}", why(&p));
    p.fact(Fact::Gone { conn, end: End::Lost("connection refused".into()) });
    assert!(why(&p).contains("1 peer known but none reachable (connection refused)"));
    p.joins(Kind::Poor);
    assert!(why(&p).contains("none offers it"), "{}", why(&p));
    assert_eq!(p.finds(600 * SECOND), None);
    assert!(p.gave_up);
}

/// Peers of the local network are met at several addresses, and of two that were dialled crosswise
/// both ends must close the same one.
#[test]
fn one_client_has_one_place() {
    let meet = |p: &mut Play, text: &str| {
        let (addr, addrs) = (text.parse().unwrap(), vec![text.parse().unwrap()]);
        p.search.handle(p.now, Fact::Addresses { source: Source::Lsd, addrs });
        let dial = p.search.take_actions().into_iter().find_map(|action| match action {
            Action::Dial { conn, .. } => Some(conn),
            _ => None,
        });
        let (conn, reserved) = (dial.expect("it is dialled"), Reserved::default());
        let hello = Hello { addr, incoming: false, peer_id: PeerId([9; 20]), reserved };
        p.fact(Fact::Connected { conn, hello });
        conn
    };
    for (first, second, stays) in [
        ("192.168.0.7:1", "[fd00::7]:1", [true, false]),
        ("[fd00::7]:1", "192.168.0.7:1", [false, true]),
        ("127.0.0.1:1", "[::1]:1", [true, false]),
        ("192.168.0.7:1", "127.0.0.1:1", [false, true]),
        ("192.168.0.7:1", "192.168.0.8:1", [true, true]),
        ("198.51.100.7:1", "[2001:db8::7]:1", [true, true]),
    ] {
        let mut p = play(1_000);
        let conns = [meet(&mut p, first), meet(&mut p, second)];
        assert_eq!(conns.map(|conn| !p.hung_up.contains(&conn)), stays, "{first} {second}");
    }
}

#[test]
fn one_address_does_not_take_all_places() {
    let mut p = play(1_000);
    let mut knock = |text: &str| p.search.incoming(text.parse().unwrap(), p.now).is_some();
    let from_one = (1..=60).filter(|port| knock(&format!("198.51.100.1:{port}"))).count();
    assert_eq!(from_one, crate::places::EACH_MAX);
    let from_network = (1..=60).filter(|n| knock(&format!("[2001:db8::{n}]:1"))).count();
    assert_eq!(from_network, crate::places::EACH_MAX);
    assert!(knock("198.51.100.2:1") && knock("[2001:db8:0:1::1]:1"));
    // On this machine many may live, and it would gain nothing.
    let from_here = (1..=60).filter(|port| knock(&format!("127.0.0.1:{port}"))).count();
    assert_eq!(from_here, 50 - 2 * crate::places::EACH_MAX - 2);
}

/// Else it could have everybody else dropped, one after another.
#[test]
fn one_that_has_its_share_of_places_does_not_wait_for_another() {
    let mut p = play(1_000);
    let caller: SocketAddr = "198.51.100.1:1000".parse().unwrap();
    while p.search.incoming(caller, p.now).is_some() {}
    (0..50 - crate::places::EACH_MAX).for_each(|_| _ = p.joins(Kind::Poor));
    for _ in 0..30 {
        assert_eq!(p.search.incoming(caller, p.now), None);
        assert_eq!(p.finds(SECOND), None);
    }
    assert!(p.hung_up.is_empty(), "{:?}", p.hung_up);
}

#[test]
fn who_is_of_no_use_makes_room_for_one_that_dials_us() {
    let mut p = play(1_000);
    (0..50).for_each(|_| _ = p.joins(Kind::Poor));
    let caller = "198.51.100.1:1000".parse().unwrap();
    let mut waited = Duration::ZERO;
    while p.search.incoming(caller, p.now).is_none() {
        assert!(waited < 20 * SECOND, "it finds no place");
        assert_eq!(p.finds(SECOND), None);
        waited += SECOND;
    }
    assert!(p.hung_up.len() == 1 && 10 * SECOND < waited, "{waited:?}, {} left", p.hung_up.len());
}

#[test]
fn the_first_words_are_the_extended_handshake_and_what_fast_demands() {
    let mut p = play(1_000);
    let (conn, addr) = p.dialled();
    let reserved = Reserved::default().with_extended().with_fast();
    let hello = Hello { addr, incoming: false, peer_id: PeerId([9; 20]), reserved };
    p.search.handle(p.now, Fact::Connected { conn, hello });
    let told: Vec<Message> = p
        .search
        .take_actions()
        .into_iter()
        .filter_map(|action| match action {
            Action::Tell { order: Order::Say(message), .. } => Some(message),
            _ => None,
        })
        .collect();
    let [Message::Extended(HANDSHAKE, payload), Message::HaveNone] = &told[..] else {
        panic!("{told:?}")
    };
    let said = Extended::parse(payload).unwrap();
    assert!(said.id(Extension::Metadata).is_some() && said.metadata_size.is_none());
}
