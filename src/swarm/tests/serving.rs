//! Scripts for turns: whose request is answered next.

use super::*;

/// Blocks of a piece, where more should wait than can be under way.
const LONG: u32 = 16;

/// Two that were unchoked, of which one gave us something.
fn giver_and_rider(play: &mut Play) -> (ConnId, ConnId) {
    let (giver, rider) = (play.joins([0, 1, 2]), play.joins([0]));
    play.sends_everything(giver);
    for conn in [giver, rider] {
        play.says(conn, [Message::Interested]);
    }
    assert!(play.swarm.have().contains(2));
    (giver, rider)
}

fn asks(play: &mut Play, conn: ConnId, n: u32) {
    let parts = (0..n).map(|i| Span { piece: i % 3, begin: i / 3 * 256, length: 256 });
    let parts: Vec<Message> = parts.map(Message::Request).collect();
    play.says(conn, parts);
}

/// Sends what is under way to a peer; how many blocks that was.
fn sent(play: &mut Play, conn: ConnId) -> usize {
    let spans = play.swarm.peers[&conn].queue.clone();
    let n = spans.len();
    play.fact(Fact::Sent { conn, spans });
    n
}

/// Blocks of 16 KiB, of all that is there again and again.
fn asks_blocks(play: &mut Play, conn: ConnId) {
    let blocks = play.swarm.picker.geometry().blocks(0);
    let blocks = (0..3).flat_map(|piece| {
        (0..blocks).map(move |block| Span { piece, begin: block * BLOCK_LEN, length: BLOCK_LEN })
    });
    let requests: Vec<Message> = blocks.map(Message::Request).collect();
    play.says(conn, requests);
}

#[test]
fn who_gave_gets_more_of_a_full_line_and_the_other_is_not_starved() {
    let mut play = play_with(|config| {
        let piece_length = LONG * BLOCK_LEN;
        config.geometry = Geometry::new(u64::from(PIECES * piece_length), piece_length).unwrap();
    });
    let (giver, rider) = giver_and_rider(&mut play);
    // The line: what the writers were given first goes out first, two blocks each time.
    let mut line = VecDeque::new();
    let mut got = [0, 0];
    play.actions.clear();
    asks_blocks(&mut play, giver);
    asks_blocks(&mut play, rider);
    for _ in 0..100 {
        asks_blocks(&mut play, giver);
        line.extend(play.actions.drain(..).filter_map(|action| match action {
            Action::Tell { conn, order: Order::Upload(span) } => Some((conn, span)),
            _ => None,
        }));
        for _ in 0..2 {
            let (conn, span) = line.pop_front().expect("it is full");
            got[usize::from(conn == rider)] += 1;
            play.now += Duration::from_millis(20);
            play.fact(Fact::Sent { conn, spans: vec![span] });
        }
    }
    assert!(0 < got[1] && 3 * got[1] < got[0], "{got:?}");
}

#[test]
fn what_the_giver_leaves_is_for_the_other() {
    let mut play = play();
    let (giver, rider) = giver_and_rider(&mut play);
    asks(&mut play, giver, 2);
    sent(&mut play, giver);
    asks_blocks(&mut play, rider);
    assert_eq!(sent(&mut play, rider), 6, "nobody else asks");
}

#[test]
fn one_that_does_not_take_what_it_asked_for_holds_up_nobody() {
    let mut play = play();
    let (giver, rider) = giver_and_rider(&mut play);
    asks_blocks(&mut play, giver);
    asks_blocks(&mut play, rider);
    play.wait(Duration::from_secs(1));
    let rest = |conn| play.swarm.peers[&conn].held.len();
    assert!(rest(rider) < 6 && !play.swarm.peers[&rider].queue.is_empty());
}

#[test]
fn seeds_see_our_progress_but_not_that_we_are_one_too() {
    let mut play = play();
    let (plain, seed) = (play.joins(0..PIECES), play.joins(0..PIECES));
    let other = play.joins([0, 1]);
    play.swarm.peers.get_mut(&seed).expect("here").fast = true;
    play.says(seed, [Message::Suggest(3)]);
    let last = PIECES - 1;
    (0..last).for_each(|piece| play.fact(Fact::Stored { piece }));
    play.wait(TICK);
    play.fact(Fact::Stored { piece: last });
    let told = |conn, piece| play.told(conn, &Message::Have(piece));
    assert!([plain, seed, other].into_iter().all(|conn| (0..last).all(|piece| told(conn, piece))));
    assert!(!told(plain, last) && told(seed, last), "it chooses whom to give to");
    assert!(told(other, last));
}

#[test]
fn many_new_pieces_are_told_together() {
    let mut play = play();
    let conn = play.joins([]);
    let told = |play: &Play| (0..4).map(|n| play.told(conn, &Message::Have(n))).collect::<Vec<_>>();
    (0..3).for_each(|piece| play.fact(Fact::Stored { piece }));
    assert_eq!(told(&play), [true, false, false, false], "the first at once");
    let due = play.swarm.news_due().expect("there is more");
    assert!(play.now < due);
    // Who comes now is told with what we have; to it that is no news.
    let late = play.joins([]);
    assert_eq!(told(&play), [true, true, true, false]);
    assert!(!play.told(late, &Message::Have(1)) && play.swarm.news_due().is_none());
    play.fact(Fact::Stored { piece: 3 });
    play.wait(TICK);
    assert_eq!(told(&play), [true; 4]);
}

#[test]
fn no_more_is_granted_than_the_ratio_wants() {
    let mut play = play_with(|config| {
        config.goal = Some(Goal { ratio: Some(0.25), time: None });
        let piece_length = LONG * BLOCK_LEN;
        config.geometry = Geometry::new(u64::from(PIECES * piece_length), piece_length).unwrap();
    });
    let config = play.swarm.config.clone();
    let have = Bitfield::full(PIECES);
    play.swarm = Swarm::new(config, have, fastrand::Rng::with_seed(3), play.now);
    let peer = play.joins([]);
    play.says(peer, [Message::Interested]);
    asks_blocks(&mut play, peer);
    let quarter = (PIECES * LONG / 4) as usize;
    assert!(quarter < 3 * LONG as usize, "it asks for more");
    assert_eq!(sent(&mut play, peer), quarter);
    play.wait(Duration::from_secs(1));
    assert_eq!(play.swarm.peers[&peer].queue.len(), 0);
    assert!(play.actions.iter().any(|action| matches!(action, Action::Done)));
}
