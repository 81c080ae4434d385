//! Who is dialled, welcomed, dropped and banned.

use super::*;

#[test]
fn ourselves_and_peers_that_we_have_are_dropped() {
    let mut p = play();
    let addr = p.address();
    p.knows(addr);
    let conn = p.dialled(addr).unwrap();
    let peer_id = p.swarm.config.peer_id;
    let hello = Hello { addr, incoming: false, peer_id, reserved: Reserved::default() };
    p.fact(Fact::Connected { conn, hello });
    assert!(!p.is_connected(conn) && p.actions.contains(&Action::HangUp { conn }));
    p.actions.clear();
    p.wait(Duration::from_secs(3_600));
    assert_eq!(p.dialled(addr), None, "never again");

    let first = p.joins([1]);
    let twin = SocketAddr::from(([10, 0, 0, p.hosts], 7000));
    p.knows(twin);
    let second = p.dialled(twin).unwrap();
    p.shakes_hands(second, twin, p.hosts, false);
    assert!(p.is_connected(first) && !p.is_connected(second));
    // The same id from another host may be a copy; that alone is no reason.
    let other = p.address();
    p.knows(other);
    let third = p.dialled(other).unwrap();
    p.shakes_hands(third, other, p.hosts - 1, false);
    assert!(p.is_connected(third));
    // Not even when it has sent something: else a copy could keep the true one out for ever.
    p.sends_everything(first);
    let copied = p.address();
    p.knows(copied);
    let fourth = p.dialled(copied).unwrap();
    let id = p.swarm.peers[&first].id.0[0];
    p.shakes_hands(fourth, copied, id, false);
    assert!(p.is_connected(first) && p.is_connected(fourth));
}

#[test]
fn fifty_useless_peers_make_room_for_the_one_that_waits() {
    let mut p = play_with(|config| config.max_peers = 5);
    let useless: Vec<ConnId> = (0..5).map(|_| p.joins([])).collect();
    let addr = p.address();
    p.knows(addr);
    assert_eq!(p.dialled(addr), None, "no place");
    p.wait(Duration::from_secs(5));
    assert!(p.dialled(addr).is_some());
    assert!(useless.iter().any(|conn| !p.is_connected(*conn)));
}

#[test]
fn useless_peers_make_room_for_one_that_failed_once_and_for_one_that_dials_us() {
    let mut p = play_with(|config| config.max_peers = 5);
    let late = p.address();
    p.knows(late);
    let conn = p.dialled(late).unwrap();
    p.fact(Fact::Gone { conn, end: End::Lost("refused".into()) });
    (0..5).for_each(|_| _ = p.joins([]));
    p.actions.clear();
    p.wait(Duration::from_secs(20));
    assert!(p.dialled(late).is_some(), "it is tried again");

    let mut p = play_with(|config| config.max_peers = 5);
    (0..5).for_each(|_| _ = p.joins([]));
    let caller = p.address();
    let mut let_in = None;
    for _ in 0..20 {
        let_in = let_in.or(p.swarm.incoming(caller, p.now));
        p.wait(Duration::from_secs(1));
    }
    assert!(let_in.is_some());
}

#[test]
fn one_that_was_banned_after_it_left_is_dropped_when_it_is_back() {
    let mut p = play();
    let bad = p.joins([1]);
    let addr = p.swarm.peers[&bad].addr;
    p.fact(Fact::Gone { conn: bad, end: End::Lost("bye".into()) });
    p.actions.clear();
    p.wait(Duration::from_secs(5));
    let back = p.dialled(addr).unwrap();
    p.shakes_hands(back, addr, 1, false);
    p.fact(Fact::Guilty { conn: bad, piece: 1 });
    assert!(!p.is_connected(back));
}

#[test]
fn dials_are_limited_and_repeated_with_pauses() {
    let mut p = play_with(|config| config.max_peers = 3);
    let addrs: Vec<SocketAddr> = (0..9).map(|_| p.address()).collect();
    p.fact(Fact::Addresses { source: Source::Tracker, addrs: addrs.clone() });
    let dials = |p: &Play| p.actions.iter().filter(|a| matches!(a, Action::Dial { .. })).count();
    assert_eq!(dials(&p), 3);
    for _ in 0..9 {
        let conn = *p.swarm.dials.keys().next().unwrap();
        p.fact(Fact::Gone { conn, end: End::Lost("refused".into()) });
    }
    assert_eq!(dials(&p), 9, "each once, none twice at once");
    assert_eq!(p.swarm.status(p.now).stuck, None, "it has only begun");
    p.wait(Duration::from_secs(2));
    assert_eq!(dials(&p), 12, "three of them again");
}

#[test]
fn who_was_giving_keeps_its_place_while_nothing_comes_at_all() {
    let many = Geometry::new(200 * u64::from(BLOCK_LEN), BLOCK_LEN).unwrap();
    let mut p = play_with(|config| (config.max_peers, config.geometry) = (5, many));
    let seeds: Vec<ConnId> = (0..5).map(|_| p.joins(0..200)).collect();
    for &seed in &seeds {
        let owed = p.asked(seed);
        owed.first().into_iter().for_each(|span| p.says(seed, [Message::Block(*span)]));
    }
    let addr = p.address();
    p.knows(addr);
    p.wait(Duration::from_secs(10));
    assert!(seeds.iter().all(|conn| p.is_connected(*conn)), "a pause of ours");
    p.wait(Duration::from_secs(60));
    assert!(p.dialled(addr).is_some(), "but not for ever");
}

#[test]
fn idle_connections_do_not_close_a_seed_to_others() {
    let mut p = play_with(|config| (config.max_peers, config.goal) = (5, Some(Goal::default())));
    let first = p.joins(0..PIECES);
    p.sends_everything(first);
    assert!(p.swarm.finished && !p.is_connected(first));
    let idle: Vec<ConnId> = (0..5).map(|_| p.joins([])).collect();
    p.says(idle[0], [Message::Interested]);
    let caller = p.address();
    assert_eq!(p.swarm.incoming(caller, p.now), None, "no place");
    p.wait(Duration::from_secs(100));
    assert!(idle.iter().all(|conn| p.is_connected(*conn)), "they have some minutes");
    p.wait(Duration::from_secs(60));
    assert!(idle.iter().all(|conn| p.is_connected(*conn)), "and longer where nobody waits");
    assert_eq!(p.swarm.incoming(caller, p.now), None);
    p.wait(Duration::from_secs(2));
    assert!(p.swarm.incoming(caller, p.now).is_some());
}

#[test]
fn our_own_limit_is_nobodys_fault() {
    // A block in four seconds, of ten seeds.
    let rate = u64::from(BLOCK_LEN) / 4;
    let mut p = play_with(|config| (config.max_peers, config.download_limit) = (10, Some(rate)));
    let seeds: Vec<ConnId> = (0..10).map(|_| p.joins(0..PIECES)).collect();
    p.knows(SocketAddr::from(([10, 9, 9, 9], 6881)));
    let mut requests = 0;
    for turn in 0..(PIECES * BLOCKS) as usize {
        p.wait(Duration::from_secs(4));
        let asked: Vec<(ConnId, Span)> = seeds
            .iter()
            .flat_map(|&conn| p.asked(conn).into_iter().map(move |s| (conn, s)))
            .collect();
        assert!(asked.len() <= 2, "{} blocks are asked for", asked.len());
        let (conn, span) = asked[turn % asked.len()];
        p.says(conn, [Message::Block(span)]);
        let ask = |action: &&Action| matches!(action, Action::Tell { order: Order::Ask(_), .. });
        requests += p.actions.iter().filter(ask).count();
        p.actions.clear();
        let whole = !seeds.iter().any(|&conn| p.asked(conn).iter().any(|s| s.piece == span.piece));
        if whole && span.begin != 0 {
            p.fact(Fact::Stored { piece: span.piece });
        }
    }
    assert!(seeds.iter().all(|conn| p.is_connected(*conn)), "nobody is dropped or pushed out");
    assert!(requests <= 20, "{requests} requests for {} blocks", PIECES * BLOCKS);
}

#[test]
fn one_address_does_not_take_all_places_of_a_swarm() {
    let mut p = play();
    let mut knock = |text: &str| p.swarm.incoming(text.parse().unwrap(), p.now).is_some();
    let from_one = (1..=60).filter(|port| knock(&format!("198.51.100.1:{port}"))).count();
    assert_eq!(from_one, crate::places::EACH_MAX);
    assert!(knock("198.51.100.2:1"));
    // Behind the address of a gateway at home there may be a whole cluster.
    let from_home = (1..=20).filter(|port| knock(&format!("192.168.0.1:{port}"))).count();
    assert_eq!(from_home, 20);
}

#[test]
fn two_places_of_five_are_for_those_who_dial_us_unless_nobody_gives() {
    let mut p = play_with(|config| config.max_peers = 50);
    // Each at an address of its own: one address does not get all places.
    for _ in 0..40 {
        let addr = p.address();
        p.knows(addr);
        if let Some(conn) = p.dialled(addr) {
            p.shakes_hands(conn, addr, p.swarm.peers.len() as u8 + 1, false);
        }
    }
    assert_eq!(p.swarm.peers.len(), 30);
    let caller = p.address();
    assert!(p.swarm.incoming(caller, p.now).is_some());
    p.wait(Duration::from_secs(16));
    assert!(30 < p.swarm.peers.len() + p.swarm.dials.len(), "no block came for a while");
}
