//! Scripts for super-seeding: what each peer is shown, and what it may fetch.

use super::*;

const MANY: u32 = 64;

/// A super-seed of these pieces.
fn seed() -> Play {
    let mut play = play_with(|config| {
        config.goal = Some(Goal::default());
        config.super_seed = true;
        let piece_length = BLOCKS * BLOCK_LEN;
        config.geometry = Geometry::new(u64::from(MANY * piece_length), piece_length).unwrap();
    });
    let config = play.swarm.config.clone();
    let have = Bitfield::full(MANY);
    play.swarm = Swarm::new(config, have, fastrand::Rng::with_seed(3), play.now);
    play
}

/// A leecher without the Fast extension, or with it.
fn leecher(play: &mut Play, fast: bool) -> ConnId {
    let addr = play.address();
    play.knows(addr);
    let conn = play.dialled(addr).expect("it is dialled");
    play.shakes_hands(conn, addr, play.hosts, fast);
    conn
}

/// The pieces that a peer was told of.
fn shown(play: &Play, to: ConnId) -> Vec<PieceIndex> {
    let shown = play.actions.iter().flat_map(|action| match action {
        Action::Tell { conn, order: Order::Say(Message::Have(piece)) } if *conn == to => {
            vec![*piece]
        }
        Action::Tell { conn, order: Order::Haves(pieces) } if *conn == to => {
            pieces.iter().collect()
        }
        _ => Vec::new(),
    });
    shown.collect()
}

/// It asks for these pieces, gets them, and says so.
fn fetches(play: &mut Play, conn: ConnId, pieces: &[PieceIndex]) {
    for &piece in pieces {
        let spans: Vec<Span> =
            (0..BLOCKS).map(|block| play.swarm.picker.geometry().block(piece, block)).collect();
        play.says(conn, spans.iter().map(|span| Message::Request(*span)).collect::<Vec<_>>());
        play.fact(Fact::Sent { conn, spans });
        play.says(conn, [Message::Have(piece)]);
    }
}

#[test]
fn it_says_that_it_has_nothing_and_chokes_nobody() {
    let mut play = seed();
    let (plain, fast) = (leecher(&mut play, false), leecher(&mut play, true));
    play.wait(Duration::from_secs(2));
    let said = |conn, wanted: fn(&Message) -> bool| {
        play.actions.iter().any(|action| {
            matches!(action, Action::Tell { conn: to, order: Order::Say(message) }
                if *to == conn && wanted(message))
        })
    };
    let all = |message: &Message| matches!(message, Message::Bitfield(_) | Message::HaveAll);
    assert!(!said(plain, all) && !said(fast, all));
    assert!(said(fast, |message| *message == Message::HaveNone));
    assert!([plain, fast].into_iter().all(|conn| said(conn, |m| *m == Message::Unchoke)));
}

#[test]
fn each_piece_is_shown_to_one_peer_and_only_that_one_gets_it() {
    let mut play = seed();
    let peers = [leecher(&mut play, true), leecher(&mut play, true)];
    play.wait(Duration::from_secs(1));
    let [a, b] = peers.map(|conn| shown(&play, conn));
    assert_eq!(a.len() + b.len(), UNDER_WAY, "{a:?} {b:?}");
    assert!(a.iter().all(|piece| !b.contains(piece)));
    play.actions.clear();
    let span = play.swarm.picker.geometry().block(b[0], 0);
    play.says(peers[0], [Message::Request(span)]);
    play.says(peers[1], [Message::Request(span)]);
    let uploads = |conn| Action::Tell { conn, order: Order::Upload(span) };
    assert!(!play.actions.contains(&uploads(peers[0])));
    assert!(play.actions.contains(&uploads(peers[1])));
}

/// As in the module.
const UNDER_WAY: usize = 4;

#[test]
fn who_spreads_gets_more_than_who_keeps() {
    let mut play = seed();
    let keeps = leecher(&mut play, true);
    let (spreads, third) = (leecher(&mut play, true), leecher(&mut play, true));
    play.wait(Duration::from_secs(1));
    for _ in 0..4 {
        for conn in [keeps, spreads, third] {
            let held = play.swarm.peers[&conn].has.clone();
            let news: Vec<PieceIndex> =
                shown(&play, conn).into_iter().filter(|&piece| !held.contains(piece)).collect();
            fetches(&mut play, conn, &news);
            // What one of the two has, the other has soon.
            if conn != keeps {
                let other = if conn == spreads { third } else { spreads };
                play.says(other, news.into_iter().map(Message::Have).collect::<Vec<_>>());
            }
        }
    }
    let [kept, a, b] = [keeps, spreads, third].map(|conn| shown(&play, conn).len());
    assert!(kept < a && kept < b, "{kept}, {a}, {b}");
}

#[test]
fn it_ends_when_the_others_have_everything_twice() {
    let mut play = seed();
    let peers = [leecher(&mut play, true), leecher(&mut play, true), leecher(&mut play, true)];
    play.wait(Duration::from_secs(1));
    assert!(play.swarm.super_seed.is_some());
    for piece in 0..MANY {
        // No two of them lack the same piece, and none has all of them.
        for (i, &conn) in peers.iter().enumerate().filter(|(i, _)| piece != *i as u32) {
            assert!(play.swarm.super_seed.is_some(), "peer {i}, piece {piece}");
            play.says(conn, [Message::Have(piece)]);
        }
    }
    play.wait(Duration::from_secs(1));
    assert!(play.swarm.super_seed.is_none());
    assert!((0..3).all(|i| shown(&play, peers[i]).contains(&(i as u32))));
    // In one order: of many messages, those that a slow peer has not taken would pile up.
    let orders = |conn| {
        let told = |a: &&Action| matches!(a, Action::Tell { conn: to, order: Order::Haves(_) } if *to == conn);
        play.actions.iter().filter(told).count()
    };
    assert!(peers.iter().all(|&conn| orders(conn) == 1));
    let late = leecher(&mut play, true);
    let all = Action::Tell { conn: late, order: Order::Say(Message::HaveAll) };
    assert!(play.actions.contains(&all));
}

#[test]
fn what_left_with_a_peer_is_shown_again() {
    let mut play = seed();
    let first = leecher(&mut play, true);
    play.wait(Duration::from_millis(200));
    while let [news @ .., _] = &shown(&play, first)[..]
        && (news.len() as u32) < MANY - 2
    {
        let held = &play.swarm.peers[&first].has;
        let news: Vec<PieceIndex> =
            news.iter().copied().filter(|&piece| !held.contains(piece)).collect();
        fetches(&mut play, first, &news);
    }
    play.fact(Fact::Gone { conn: first, end: End::Lost("left".to_owned()) });
    let second = leecher(&mut play, true);
    play.wait(Duration::from_secs(1));
    // What the first one had, not only what was left.
    assert!(UNDER_WAY <= shown(&play, second).len());
}
