//! A few nodes in virtual time: what they say to each other, and what they make of liars.
//!
//! Layer: decisions.

use std::collections::{BTreeMap, VecDeque};

use super::*;

const HASH: Sha1 = Sha1([0x5a; 20]);
const BOTH: Config = Config { v4: true, v6: true, read_only: false };
const V4: Config = Config { v6: false, ..BOTH };

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn announce(port: u16) -> Option<Announce> {
    Some(Announce { port, implied_port: false, seed: false })
}

/// Nodes with an address each (or one of each family), and a network without loss or delay.
struct Net {
    now: Instant,
    nodes: Vec<(Vec<SocketAddr>, Dht)>,
    found: BTreeMap<usize, Vec<SocketAddr>>,
    searched: Vec<(usize, Searched, Instant)>,
}

impl Net {
    fn new() -> Net {
        let (nodes, found, searched) = Default::default();
        Net { now: Instant::now(), nodes, found, searched }
    }

    fn join(&mut self, at: &[&str], config: Config, starts: &[&str]) -> usize {
        let rng = fastrand::Rng::with_seed(self.nodes.len() as u64);
        let mut dht = Dht::new(config, &Memory::default(), rng, self.now);
        let starts: Vec<SocketAddr> = starts.iter().map(|start| addr(start)).collect();
        dht.add_starts(&starts, self.now);
        self.nodes.push((at.iter().map(|at| addr(at)).collect(), dht));
        self.settle();
        self.nodes.len() - 1
    }

    /// Delivers packets until there are none.
    fn settle(&mut self) {
        let mut packets = VecDeque::new();
        loop {
            for (at, (addrs, dht)) in self.nodes.iter_mut().enumerate() {
                for action in dht.take_actions() {
                    match action {
                        Action::Send { to, packet } => {
                            let from = addrs.iter().find(|own| own.is_ipv6() == to.is_ipv6());
                            packets.push_back((*from.unwrap(), to, packet));
                        }
                        Action::Found { peers, .. } => {
                            self.found.entry(at).or_default().extend(peers)
                        }
                        Action::Silent(..) => {}
                        Action::Searched(searched) => self.searched.push((at, searched, self.now)),
                    }
                }
            }
            let Some((from, to, packet)) = packets.pop_front() else { return };
            if let Some((_, dht)) = self.nodes.iter_mut().find(|(addrs, _)| addrs.contains(&to)) {
                dht.receive(from, &packet, self.now);
            }
        }
    }

    /// Lets time pass, each node being woken when it wants to.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next = self.nodes.iter().map(|(_, dht)| dht.deadline()).min().unwrap();
            if end < next {
                self.now = end;
                return;
            }
            assert!(self.now <= next || self.nodes.iter().any(|(_, d)| d.deadline() <= self.now));
            self.now = self.now.max(next);
            for (_, dht) in &mut self.nodes {
                if dht.deadline() <= self.now {
                    dht.tick(self.now);
                    assert!(self.now < dht.deadline(), "it would be woken without end");
                }
            }
            self.settle();
        }
    }

    fn search(&mut self, node: usize, announce: Option<Announce>) {
        self.nodes[node].1.search(HASH, announce, self.now);
        self.settle();
    }
}

/// Packets that a node sends, read.
fn sent(dht: &mut Dht) -> Vec<(SocketAddr, Message)> {
    let read = |action| match action {
        Action::Send { to, packet } => Some((to, Message::decode(&packet).unwrap())),
        _ => None,
    };
    dht.take_actions().into_iter().filter_map(read).collect()
}

/// A node that has asked its one bootstrap node; the question's transaction id.
fn asking(at: &str) -> (Dht, Vec<u8>, Instant) {
    let now = Instant::now();
    let mut dht = Dht::new(V4, &Memory::default(), fastrand::Rng::with_seed(1), now);
    dht.add_starts(&[addr(at)], now);
    let asked = sent(&mut dht);
    assert_eq!((asked.len(), asked[0].0), (1, addr(at)));
    (dht, asked[0].1.transaction.clone(), now)
}

fn reply(transaction: &[u8], answer: Answer) -> Vec<u8> {
    let transaction = transaction.to_vec();
    Message { transaction, ip: None, body: Body::Answer(answer) }.encode()
}

fn question(ask: Ask, read_only: bool) -> Vec<u8> {
    let query = Query { id: NodeId([9; 20]), read_only, ask };
    Message { transaction: b"xy".to_vec(), ip: None, body: Body::Query(query) }.encode()
}

#[test]
fn one_announces_and_another_finds_it() {
    let mut net = Net::new();
    net.join(&["127.0.0.1:1"], V4, &[]);
    for n in 2..=20 {
        net.join(&[&format!("127.0.0.1:{n}")], V4, &["127.0.0.1:1"]);
    }
    assert!(net.nodes.iter().all(|(_, dht)| K < dht.nodes(net.now).1));
    net.search(5, announce(7000));
    assert_eq!(net.searched[0].1.announced, K);
    assert_eq!((net.searched[0].1.peers, net.found.len()), (0, 0));
    net.search(15, Some(Announce { port: 1, implied_port: true, seed: true }));
    assert_eq!(net.found[&15], [addr("127.0.0.1:7000")]);
    // Who found nobody looks again soon, and then seldom.
    net.pass(Duration::from_secs(6));
    assert_eq!(net.found[&5], [addr("127.0.0.1:16")], "the port that the packet came from");
    let rounds = |net: &Net, node| net.searched.iter().filter(|(at, ..)| *at == node).count();
    assert_eq!((rounds(&net, 5), rounds(&net, 15)), (2, 1));
    net.pass(Duration::from_secs(14 * 60));
    assert_eq!((rounds(&net, 5), rounds(&net, 15)), (2, 1));
    net.pass(Duration::from_secs(60 * 60));
    assert!((4..=6).contains(&rounds(&net, 5)), "every 15 to 25 minutes: {}", rounds(&net, 5));
    assert!(net.nodes.iter().all(|(_, dht)| dht.counters().garbage + dht.counters().flood == 0));
}

#[test]
fn more_peers_are_looked_for_once_a_minute_at_most() {
    let mut net = Net::new();
    net.join(&["127.0.0.1:1"], V4, &[]);
    let a = net.join(&["127.0.0.1:2"], V4, &["127.0.0.1:1"]);
    let b = net.join(&["127.0.0.1:3"], V4, &["127.0.0.1:1"]);
    net.search(a, announce(7000));
    net.search(b, announce(7001));
    let before = net.searched.len();
    for _ in 0..60 {
        net.nodes[b].1.more_peers(HASH, net.now);
        net.pass(Duration::from_secs(2));
    }
    let rounds = net.searched[before..].iter().filter(|(at, ..)| *at == b).count();
    assert_eq!(rounds, 2);
}

/// A seed has no need of others: it is they who look for it.
#[test]
fn a_seed_that_is_known_announces_every_fifteen_to_twenty_five_minutes() {
    for (seed, expected) in [(true, 3..=4), (false, 50..=66)] {
        let mut net = Net::new();
        for n in 1..=20 {
            net.join(&[&format!("127.0.0.1:{n}")], V4, &["127.0.0.1:1"]);
        }
        net.search(5, Some(Announce { port: 7000, implied_port: false, seed }));
        for _ in 0..360 {
            net.nodes[5].1.more_peers(HASH, net.now);
            net.pass(Duration::from_secs(10));
        }
        assert_eq!(net.searched[0].1.announced, K);
        assert!(expected.contains(&net.searched.len()), "{} rounds in an hour", net.searched.len());
    }
}

#[test]
fn two_families_are_searched_through_one_way_in() {
    let mut net = Net::new();
    net.join(&["127.0.0.1:1", "[::1]:1"], BOTH, &[]);
    for n in 2..=6 {
        let (v4, v6) = (format!("127.0.0.1:{n}"), format!("[::1]:{n}"));
        net.join(&[&v4, &v6], BOTH, &["127.0.0.1:1", "[::1]:1"]);
    }
    let only_v6 = Config { v4: false, ..BOTH };
    let a = net.join(&["[::1]:60"], only_v6, &["[::1]:1"]);
    net.search(a, announce(7000));
    let b = net.join(&["127.0.0.1:70", "[::1]:70"], BOTH, &["127.0.0.1:1"]);
    net.search(b, announce(7001));
    net.pass(Duration::from_secs(10));
    assert_eq!(net.found.get(&b), Some(&vec![addr("[::1]:7000")]), "and not ourselves");
}

#[test]
fn what_was_remembered_needs_no_bootstrap_node() {
    let mut net = Net::new();
    net.join(&["127.0.0.1:1"], V4, &[]);
    let a = net.join(&["127.0.0.1:2"], V4, &["127.0.0.1:1"]);
    net.search(a, announce(7000));
    let memory = net.nodes[a].1.memory();
    assert_eq!(memory.nodes.len(), 1);
    let rng = fastrand::Rng::with_seed(77);
    let dht = Dht::new(V4, &memory, rng, net.now);
    net.nodes.push((vec![addr("127.0.0.1:3")], dht));
    net.search(2, None);
    assert_eq!(net.found[&2], [addr("127.0.0.1:7000")]);
}

#[test]
fn only_who_was_asked_can_answer_and_nobody_as_ourselves() {
    let (mut dht, t, now) = asking("127.0.0.1:1");
    let good = reply(&t, Answer::of(NodeId([1; 20])));
    dht.receive(addr("127.0.0.1:2"), &good, now);
    dht.receive(addr("127.0.0.1:1"), &reply(b"aaaa", Answer::of(NodeId([1; 20]))), now);
    dht.receive(addr("127.0.0.1:1"), &reply(b"aa", Answer::of(NodeId([1; 20]))), now);
    dht.receive(addr("127.0.0.1:1"), b"hello", now);
    dht.receive(addr("127.0.0.1:1"), &[b'x'; 60_000], now);
    assert_eq!((dht.nodes(now), dht.counters().unasked, dht.counters().garbage), ((0, 0), 3, 2));
    dht.receive(addr("127.0.0.1:1"), &good, now);
    assert_eq!(dht.nodes(now), (1, 1));
    dht.receive(addr("127.0.0.1:1"), &good, now);
    assert_eq!(dht.counters().unasked, 4, "one question, one answer");
    // Nobody is ourselves.
    let (mut dht, t, now) = asking("127.0.0.1:1");
    let own = dht.id(false).unwrap();
    dht.receive(addr("127.0.0.1:1"), &reply(&t, Answer::of(own)), now);
    assert_eq!((dht.counters().wrong_id, dht.nodes(now)), (1, (0, 0)));
}

#[test]
fn a_node_that_was_started_again_is_the_same_way_in_under_another_id() {
    let mut net = Net::new();
    let a = net.join(&["127.0.0.1:1"], V4, &[]);
    let b = net.join(&["127.0.0.1:2"], V4, &["127.0.0.1:1"]);
    let memory = net.nodes[b].1.memory();
    let old = net.nodes[a].1.id(false);
    net.nodes[a].1 = Dht::new(V4, &Memory::default(), fastrand::Rng::with_seed(55), net.now);
    assert_ne!(net.nodes[a].1.id(false), old);
    let c = net.join(&["127.0.0.1:3"], V4, &["127.0.0.1:1"]);
    net.search(c, announce(7000));
    net.nodes[b].1 = Dht::new(V4, &memory, fastrand::Rng::with_seed(56), net.now);
    net.search(b, None);
    assert_eq!(net.found[&b], [addr("127.0.0.1:7000")], "at once");
    let known = net.nodes[b].1.memory().nodes;
    let now = Contact { id: net.nodes[a].1.id(false).unwrap(), addr: addr("127.0.0.1:1") };
    assert!(known.contains(&now) && !known.iter().any(|node| Some(node.id) == old), "{known:?}");
}

#[test]
fn a_node_that_a_peer_names_is_a_way_in_at_once() {
    let mut net = Net::new();
    net.join(&["127.0.0.1:1"], V4, &[]);
    let a = net.join(&["127.0.0.1:2"], V4, &["127.0.0.1:1"]);
    net.search(a, announce(7000));
    let b = net.join(&["127.0.0.1:3"], V4, &[]);
    net.search(b, None);
    // The bootstrap nodes are all dead, and the pause is long by now.
    net.pass(Duration::from_secs(300));
    assert!(!net.found.contains_key(&b));
    net.nodes[b].1.add_node(addr("127.0.0.1:1"), net.now);
    net.settle();
    assert_eq!(net.found[&b], [addr("127.0.0.1:7000")], "at once");
}

/// Anybody can write a bootstrap node's address on packets to us.
#[test]
fn who_forges_a_sender_does_not_keep_its_answers_from_us() {
    for forged in [b"rubbish".to_vec(), question(Ask::Ping, true), reply(b"aaaa", nobody())] {
        let (mut dht, t, now) = asking("8.8.8.8:1");
        (0..200).for_each(|_| dht.receive(addr("8.8.8.8:1"), &forged, now));
        let flood = dht.counters().flood;
        assert!(flood != 0, "{}", forged.escape_ascii());
        dht.receive(addr("8.8.8.8:1"), &reply(&t, nobody()), now);
        assert_eq!((dht.nodes(now), dht.counters().answers), ((1, 1), 1));
        // Nothing else is heard from there, whether anything is expected or not.
        dht.search(HASH, None, now);
        for packet in [question(Ask::Ping, false), reply(&t, nobody()), forged] {
            let before = (dht.counters().flood, dht.counters().unasked);
            dht.receive(addr("8.8.8.8:1"), &packet, now);
            assert_eq!((dht.counters().flood, dht.counters().unasked), (before.0 + 1, before.1));
        }
    }
}

fn nobody() -> Answer {
    Answer::of(NodeId([1; 20]))
}

#[test]
fn nobody_out_there_can_name_an_address_in_here() {
    let (mut dht, _, now) = asking("8.8.8.8:1");
    dht.search(HASH, None, now);
    let t = sent(&mut dht).pop().unwrap().1.transaction;
    let mut answer = Answer::of(NodeId([1; 20]));
    answer.peers = ["127.0.0.1:22", "192.168.1.1:80", "9.9.9.9:6881"].map(addr).to_vec();
    answer.nodes = ["127.0.0.1:53", "10.0.0.1:53"]
        .map(|text| Contact { id: NodeId([3; 20]), addr: addr(text) })
        .to_vec();
    dht.receive(addr("8.8.8.8:1"), &reply(&t, answer), now);
    let actions = dht.take_actions();
    let peers = vec![addr("9.9.9.9:6881")];
    assert!(actions.contains(&Action::Found { info_hash: HASH, peers }), "{actions:?}");
    let local = |action: &Action| matches!(action, Action::Send { to, .. } if may_name(to.ip(), addr("10.0.0.1:1").ip()) && to.ip() != addr("8.8.8.8:1").ip());
    assert!(!actions.iter().any(local));
    assert_eq!((dht.counters().unbelieved, dht.counters().misfits), (4, 1));
}

#[test]
fn an_announce_needs_the_token_that_its_address_was_given() {
    let now = Instant::now();
    let mut dht = Dht::new(V4, &Memory::default(), fastrand::Rng::with_seed(1), now);
    let mut ask = |ask: Ask, from: &str| {
        dht.receive(addr(from), &question(ask, true), now);
        sent(&mut dht).pop().unwrap().1.body
    };
    let want = Want::default();
    let get = Ask::GetPeers { info_hash: HASH, want, scrape: false };
    let Body::Answer(Answer { token: Some(token), .. }) = ask(get, "8.8.8.8:1") else { panic!() };
    let with = |token: &[u8], port| Ask::AnnouncePeer {
        info_hash: HASH,
        port,
        implied_port: false,
        token: token.to_vec(),
        seed: true,
    };
    for (token, port, from) in
        [(&b"guess"[..], 1, "8.8.8.8:1"), (&token, 1, "8.8.4.4:1"), (&token, 0, "8.8.8.8:1")]
    {
        let refused = ask(with(token, port), from);
        assert!(matches!(refused, Body::Error { code: 203, .. }), "{refused:?}");
    }
    assert!(matches!(ask(with(&token, 7000), "8.8.8.8:9"), Body::Answer(_)));
    let scrape = Ask::GetPeers { info_hash: HASH, want, scrape: true };
    let Body::Answer(answer) = ask(scrape, "9.9.9.9:1") else { panic!() };
    let bits = answer.filters.unwrap().map(|f| f.iter().map(|b| b.count_ones()).sum::<u32>());
    assert_eq!(bits, [2, 0], "one seed");
    let get = Ask::GetPeers { info_hash: HASH, want, scrape: false };
    let Body::Answer(answer) = ask(get, "9.9.9.9:1") else { panic!() };
    assert_eq!(answer.peers, [addr("8.8.8.8:7000")]);
    assert!(matches!(
        ask(Ask::Unknown { target: None }, "9.9.9.9:1"),
        Body::Error { code: 204, .. }
    ));
    assert_eq!((dht.stored(), dht.counters().bad_token), ((1, 1), 2));
}

#[test]
fn a_question_that_breaks_a_rule_is_told_so_and_lists_that_were_asked_for_are_there() {
    let now = Instant::now();
    let mut dht = Dht::new(BOTH, &Memory::default(), fastrand::Rng::with_seed(1), now);
    let mut ask = |packet: &[u8]| {
        dht.receive(addr("8.8.8.8:1"), packet, now);
        dht.take_actions().into_iter().find_map(|action| match action {
            Action::Send { packet, .. } => Some(packet),
            _ => None,
        })
    };
    let id = "2:id20:abcdefghij0123456789";
    for broken in [
        format!("d1:ad{id}e1:q9:get_peers1:t2:aa1:y1:qe"),
        format!("d1:ad{id}6:target3:abce1:q9:find_node1:t2:aa1:y1:qe"),
        format!(
            "d1:ad{id}9:info_hash20:abcdefghij01234567894:porti1ee1:q13:announce_peer1:t2:aa1:y1:qe"
        ),
        "d1:ade1:q4:ping1:t2:aa1:y1:qe".to_owned(),
        "d1:q4:ping1:t2:aa1:y1:qe".to_owned(),
        format!("d1:ad{id}e1:t2:aa1:y1:qe"),
    ] {
        let said = ask(broken.as_bytes()).unwrap_or_else(|| panic!("no answer to {broken}"));
        let Message { transaction, body, ip } = Message::decode(&said).unwrap();
        assert!(matches!(body, Body::Error { code: 203, .. }), "{broken}");
        assert_eq!((&transaction[..], ip), (&b"aa"[..], Some(addr("8.8.8.8:1"))));
        assert!(said.len() <= 120, "{} bytes for {}", said.len(), broken.len());
    }
    for nothing in ["hello", "d1:rde1:t2:aa1:y1:re", "d1:q4:ping1:y1:qe", "d1:t2:aa1:y1:ee"] {
        assert_eq!(ask(nothing.as_bytes()), None, "{nothing}");
    }
    let has = |packet: Option<Vec<u8>>, key: &[u8]| {
        packet.is_some_and(|packet| packet.windows(key.len()).any(|part| part == key))
    };
    for (want, v4, v6) in
        [("", true, false), ("4:wantl2:n42:n6e", true, true), ("4:wantl2:n6e", false, true)]
    {
        let find =
            format!("d1:ad{id}6:target20:abcdefghij0123456789{want}e1:q9:find_node1:t2:aa1:y1:qe");
        let get = format!(
            "d1:ad{id}9:info_hash20:abcdefghij0123456789{want}e1:q9:get_peers1:t2:aa1:y1:qe"
        );
        for question in [find, get] {
            assert_eq!(has(ask(question.as_bytes()), b"5:nodes0:"), v4, "{question}");
            assert_eq!(has(ask(question.as_bytes()), b"6:nodes60:"), v6, "{question}");
        }
    }
}

/// Who refuses sees us as well as who answers.
#[test]
fn an_error_tells_our_address_too() {
    let now = Instant::now();
    let mut dht = Dht::new(V4, &Memory::default(), fastrand::Rng::with_seed(1), now);
    let before = dht.id(false).unwrap();
    let starts: Vec<SocketAddr> = (1..=4).map(|n| addr(&format!("9.9.{n}.1:1"))).collect();
    dht.add_starts(&starts, now);
    let ours = addr("7.7.7.7:6881");
    for (to, message) in sent(&mut dht) {
        let body = Body::Error { code: 201, text: "no".to_owned() };
        let said = Message { transaction: message.transaction, ip: Some(ours), body };
        dht.receive(to, &said.encode(), now);
    }
    let after = dht.id(false).unwrap();
    assert!(after != before && after.fits(ours.ip()));
}

#[test]
fn answers_are_short_and_a_flood_gets_few() {
    let now = Instant::now();
    let mut dht = Dht::new(V4, &Memory::default(), fastrand::Rng::with_seed(1), now);
    for n in 0..500u32 {
        let peer = std::net::Ipv4Addr::from_bits(0x0800_0000 + n);
        dht.store.announce(HASH, (peer, 1).into(), false, now);
        let contact = Contact {
            id: NodeId([n as u8; 20]),
            addr: (std::net::Ipv4Addr::from_bits(0x0900_0000 + (n << 8)), 1).into(),
        };
        dht.sides[0].as_mut().unwrap().table.answered(contact, now);
    }
    let want = Want { v4: true, v6: true };
    let packet = question(Ask::GetPeers { info_hash: HASH, want, scrape: false }, true);
    let mut longest = 0;
    for n in 0..10_000u32 {
        dht.receive(addr("8.8.8.8:1"), &packet, now);
        for action in dht.take_actions() {
            let Action::Send { packet, .. } = action else { continue };
            longest = longest.max(packet.len());
            assert!(n < 50);
        }
    }
    assert!(longest <= 6 * packet.len(), "{longest} bytes for {}", packet.len());
    assert!((400..=650).contains(&longest), "{longest}");
    assert!(9_900 <= dht.counters().flood);
    // From everywhere: what goes out is bounded in bytes.
    let mut bytes = 0;
    for n in 0..10_000u32 {
        let from = (std::net::Ipv4Addr::from_bits(0x0b00_0000 + n * 7), 1).into();
        dht.receive(from, &packet, now);
        bytes += dht
            .take_actions()
            .iter()
            .map(|a| if let Action::Send { packet, .. } = a { packet.len() } else { 0 })
            .sum::<usize>();
    }
    assert!(bytes <= 65_536, "{bytes}");
}

#[test]
fn a_read_only_node_says_so_and_answers_nobody_and_is_in_nobody_s_table() {
    let now = Instant::now();
    let config = Config { read_only: true, ..V4 };
    let mut dht = Dht::new(config, &Memory::default(), fastrand::Rng::with_seed(1), now);
    dht.add_starts(&[addr("127.0.0.1:1")], now);
    let Body::Query(query) = sent(&mut dht).pop().unwrap().1.body else { panic!() };
    assert!(query.read_only);
    dht.receive(addr("127.0.0.1:2"), &question(Ask::Ping, false), now);
    assert!(sent(&mut dht).is_empty());
    let mut full = Dht::new(V4, &Memory::default(), fastrand::Rng::with_seed(2), now);
    full.receive(addr("127.0.0.1:2"), &question(Ask::Ping, true), now);
    assert_eq!(sent(&mut full).len(), 1, "the answer");
    full.receive(addr("127.0.0.1:3"), &question(Ask::Ping, false), now);
    let asked = sent(&mut full);
    assert!(matches!(asked[1].1.body, Body::Query(Query { ask: Ask::Ping, .. })), "asked back");
    assert_eq!(full.nodes(now), (0, 0), "until it answers");
    full.receive(
        addr("127.0.0.1:3"),
        &reply(&asked[1].1.transaction, Answer::of(NodeId([9; 20]))),
        now,
    );
    assert_eq!(full.nodes(now), (1, 1));
}

#[test]
fn our_id_follows_the_address_that_others_see() {
    let now = Instant::now();
    let mut dht = Dht::new(V4, &Memory::default(), fastrand::Rng::with_seed(1), now);
    let seen = "93.184.216.34:5".parse::<SocketAddr>().unwrap();
    let before = dht.id(false).unwrap();
    assert!(!before.fits(seen.ip()));
    for n in 1..=4u8 {
        let node = SocketAddr::from(([9, n, 1, 1], 1));
        dht.add_node(node, now);
        let t = sent(&mut dht).into_iter().find(|(to, _)| *to == node).unwrap().1.transaction;
        let answer = Body::Answer(Answer::of(NodeId::for_ip(
            node.ip(),
            &mut fastrand::Rng::with_seed(n.into()),
        )));
        dht.receive(node, &Message { transaction: t, ip: Some(seen), body: answer }.encode(), now);
    }
    let after = dht.id(false).unwrap();
    assert!(after.fits(seen.ip()) && dht.nodes(now) == (4, 4));
    let memory = dht.memory();
    assert_eq!((memory.ips.clone(), memory.nodes.len()), (vec![seen.ip()], 4));
    let next = Dht::new(V4, &memory, fastrand::Rng::with_seed(2), now);
    assert!(next.id(false).unwrap().fits(seen.ip()) && next.id(false) != Some(after));
}

#[test]
fn the_dead_are_given_up_and_the_bootstrap_nodes_are_asked_again() {
    let mut net = Net::new();
    let a = net.join(&["127.0.0.1:2"], V4, &["127.0.0.1:1"]);
    net.search(a, announce(7000));
    net.pass(Duration::from_secs(60));
    assert!(net.searched.iter().all(|(_, s, _)| s.answered == 0 && s.asked == 1));
    assert!((3..=6).contains(&net.searched.len()), "{}", net.searched.len());
    // Somebody is home at last.
    net.join(&["127.0.0.1:1"], V4, &[]);
    net.pass(Duration::from_secs(120));
    assert_eq!(
        (net.nodes[a].1.nodes(net.now), net.searched.last().unwrap().1.announced),
        ((1, 1), 1)
    );
}
