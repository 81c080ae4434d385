//! Scripts for rationing: whose request a seed answers first when a crowd has nobody but it.

use super::super::rationing::{MUTE, PASSES_ON};
use super::*;

const MANY: u32 = 64;

/// A seed of these pieces.
fn seed() -> Play {
    let mut play = play_with(|config| {
        config.goal = Some(Goal::default());
        let piece_length = BLOCKS * BLOCK_LEN;
        config.geometry = Geometry::new(u64::from(MANY * piece_length), piece_length).unwrap();
    });
    let config = play.swarm.config.clone();
    let have = Bitfield::full(MANY);
    play.swarm = Swarm::new(config, have, fastrand::Rng::with_seed(3), play.now);
    play
}

/// So many that want something.
fn crowd(play: &mut Play, n: usize) -> Vec<ConnId> {
    let joins = |_| {
        let addr = play.address();
        play.knows(addr);
        let conn = play.dialled(addr).expect("it is dialled");
        play.shakes_hands(conn, addr, play.hosts, true);
        play.says(conn, [Message::Interested]);
        conn
    };
    (0..n).map(joins).collect()
}

fn asks(play: &mut Play, conn: ConnId, pieces: &[PieceIndex]) {
    for &piece in pieces {
        let spans = (0..BLOCKS).map(|block| play.swarm.picker.geometry().block(piece, block));
        let requests: Vec<Message> = spans.map(Message::Request).collect();
        play.says(conn, requests);
    }
}

/// The pieces of which something is on the way to a peer.
fn answered(play: &Play, to: ConnId) -> Vec<PieceIndex> {
    let mut pieces: Vec<PieceIndex> =
        play.swarm.peers[&to].queue.iter().map(|span| span.piece).collect();
    pieces.dedup();
    pieces
}

/// It is sent all that is on the way to it, and says that it has it.
fn gets(play: &mut Play, conn: ConnId) -> Vec<PieceIndex> {
    let (spans, pieces) = (play.swarm.peers[&conn].queue.clone(), answered(play, conn));
    play.fact(Fact::Sent { conn, spans });
    play.says(conn, pieces.iter().map(|&piece| Message::Have(piece)).collect::<Vec<_>>());
    pieces
}

fn suggested(play: &Play, to: ConnId) -> Vec<PieceIndex> {
    let suggested = play.actions.iter().filter_map(|action| match action {
        Action::Tell { conn, order: Order::Say(Message::Suggest(piece)) } if *conn == to => {
            Some(*piece)
        }
        _ => None,
    });
    suggested.collect()
}

#[test]
fn a_few_leechers_never_notice_it() {
    let mut play = seed();
    let few = crowd(&mut play, 3);
    few.iter().for_each(|&conn| asks(&mut play, conn, &[5, 6]));
    assert!(few.iter().all(|&conn| answered(&play, conn) == [5, 6]));
    assert!(few.iter().all(|&conn| suggested(&play, conn).is_empty()));
}

#[test]
fn a_crowd_gets_each_piece_once_before_any_twice() {
    let mut play = seed();
    let peers = crowd(&mut play, 4);
    peers.iter().for_each(|&conn| asks(&mut play, conn, &[5, 6, 7, 8]));
    let mut sent: Vec<PieceIndex> = peers.iter().flat_map(|&conn| answered(&play, conn)).collect();
    sent.sort_unstable();
    assert_eq!(sent, [5, 6, 7, 8]);
    // What is not granted waits, and nobody is refused.
    assert!(play.actions.iter().all(|action| !matches!(
        action,
        Action::Tell { order: Order::Say(Message::Reject(_)), .. }
    )));
    let mine = gets(&mut play, peers[0]);
    assert!(!mine.is_empty());
    assert_eq!(answered(&play, peers[0]), [], "the others are on their way to others");
    asks(&mut play, peers[0], &[9]);
    assert_eq!(answered(&play, peers[0]), [9]);
}

#[test]
fn everybody_is_suggested_something_else() {
    let mut play = seed();
    let peers = crowd(&mut play, 4);
    let mut all: Vec<PieceIndex> = peers.iter().flat_map(|&conn| suggested(&play, conn)).collect();
    assert!(!all.is_empty());
    all.sort_unstable();
    let total = all.len();
    all.dedup();
    assert_eq!(all.len(), total, "no piece twice");
    let mine = suggested(&play, peers[3])[0];
    asks(&mut play, peers[3], &[mine]);
    assert_eq!(answered(&play, peers[3]), [mine]);
}

#[test]
fn when_nothing_new_is_asked_for_the_line_is_not_idle() {
    let mut play = seed();
    let peers = crowd(&mut play, 4);
    peers.iter().for_each(|&conn| asks(&mut play, conn, &[5]));
    assert_eq!(answered(&play, peers[1]), []);
    gets(&mut play, peers[0]);
    play.wait(Duration::from_millis(500));
    assert_eq!(answered(&play, peers[1]), [5]);
}

#[test]
fn who_does_not_pass_on_is_served_after_those_who_do() {
    let mut play = seed();
    let peers = crowd(&mut play, 4);
    let (rider, giver) = (peers[0], peers[1]);
    asks(&mut play, rider, &[5]);
    gets(&mut play, rider);
    asks(&mut play, giver, &[6]);
    gets(&mut play, giver);
    play.says(peers[2], [Message::Have(6)]);
    // While the line is full both ask; then it is free for one.
    asks(&mut play, peers[2], &(20..36).collect::<Vec<_>>());
    asks(&mut play, peers[3], &(36..52).collect::<Vec<_>>());
    asks(&mut play, rider, &[7]);
    asks(&mut play, giver, &[8]);
    for _ in 0..8 {
        if !answered(&play, giver).is_empty() {
            break;
        }
        assert_eq!(answered(&play, rider), []);
        gets(&mut play, peers[2]);
        gets(&mut play, peers[3]);
    }
    assert_eq!(answered(&play, giver), [8]);
}

#[test]
fn what_is_taken_back_or_choked_goes_to_another() {
    let mut play = seed();
    let peers = crowd(&mut play, 4);
    asks(&mut play, peers[0], &[5]);
    asks(&mut play, peers[1], &[5]);
    for span in play.swarm.peers[&peers[0]].queue.clone() {
        play.says(peers[0], [Message::Cancel(span)]);
    }
    play.wait(TICK);
    assert_eq!((answered(&play, peers[0]), answered(&play, peers[1])), (vec![], vec![5]));
    play.fact(Fact::Gone { conn: peers[1], end: End::Lost("bye".into()) });
    asks(&mut play, peers[2], &[5]);
    assert_eq!(answered(&play, peers[2]), [5]);
}

#[test]
fn it_ends_when_the_crowd_has_everything_or_another_seed() {
    for second_seed in [false, true] {
        let mut play = seed();
        let peers = crowd(&mut play, 5);
        peers.iter().for_each(|&conn| asks(&mut play, conn, &[5]));
        assert_eq!(answered(&play, peers[1]), []);
        if second_seed {
            play.says(peers[4], [Message::HaveAll]);
        } else {
            let all: Vec<Message> = (0..MANY - 1).map(Message::Have).collect();
            play.says(peers[3], all.clone());
            play.says(peers[4], all);
            play.says(peers[2], [Message::Have(MANY - 1)]);
            play.says(peers[3], [Message::NotInterested]);
            play.wait(Duration::from_secs(2));
            assert!(play.swarm.rationing.is_some(), "a piece has one holder");
            play.says(peers[1], [Message::Have(MANY - 1)]);
        }
        play.wait(Duration::from_secs(2));
        assert!(play.swarm.rationing.is_none());
        assert_eq!(answered(&play, peers[1]), [5]);
    }
}

#[test]
fn it_ends_for_a_crowd_in_which_nobody_passes_anything_on() {
    let mut play = seed();
    let peers = crowd(&mut play, 4);
    peers.iter().for_each(|&conn| asks(&mut play, conn, &(0..32).collect::<Vec<_>>()));
    let waits = |play: &Play| peers.iter().any(|conn| !play.swarm.peers[conn].held.is_empty());
    assert!(waits(&play));
    // They fetch what they are granted, but see nothing of each other.
    let begun = play.now;
    while waits(&play) && play.now < begun + 2 * (MUTE + PASSES_ON) {
        peers.iter().for_each(|&conn| drop(gets(&mut play, conn)));
        play.wait(Duration::from_millis(100));
    }
    assert!(!waits(&play), "all that was asked for is on its way");
    let later = crowd(&mut play, 1)[0];
    asks(&mut play, later, &[40, 41]);
    assert_eq!(answered(&play, later), [40, 41], "it does not begin again");
}

#[test]
fn who_does_not_speak_fast_is_answered_in_order() {
    let mut play = seed();
    let peers = crowd(&mut play, 3);
    let addr = play.address();
    play.knows(addr);
    let old = play.dialled(addr).unwrap();
    play.shakes_hands(old, addr, play.hosts, false);
    play.says(old, [Message::Interested]);
    assert!(play.swarm.rationing.is_some());
    asks(&mut play, peers[0], &[5]);
    asks(&mut play, old, &[5, 6]);
    assert_eq!(answered(&play, old), []);
    for _ in 0..4 {
        gets(&mut play, peers[0]);
        play.wait(Duration::from_millis(300));
    }
    assert_eq!(answered(&play, old), [5, 6]);
}

#[test]
fn who_keeps_what_it_gets_is_given_no_more_of_it_and_others_get_what_it_keeps() {
    let mut play = seed();
    let peers = crowd(&mut play, 4);
    let keeper = peers[3];
    for (piece, conn) in (0..MANY).zip(peers.iter().copied().cycle()) {
        asks(&mut play, conn, &[piece]);
    }
    let mut kept = Vec::new();
    // As long as the others ask for what nobody has.
    for _ in 0..10 {
        for &conn in &peers {
            let pieces = gets(&mut play, conn);
            if conn == keeper {
                kept.extend(pieces);
            } else {
                // Somebody else has it from there at once.
                let to = peers[usize::from(conn == peers[0])];
                play.says(to, pieces.into_iter().map(Message::Have).collect::<Vec<_>>());
            }
        }
        play.wait(Duration::from_millis(500));
    }
    let honest = play.swarm.peers[&peers[2]].has.count() as usize;
    assert!(kept.len() <= 3 && 12 <= honest, "{} and {honest}", kept.len());
    asks(&mut play, peers[2], &kept);
    for _ in 0..10 {
        gets(&mut play, peers[2]);
        play.wait(Duration::from_millis(500));
    }
    assert!(kept.iter().any(|&piece| play.swarm.peers[&peers[2]].has.contains(piece)));
}
