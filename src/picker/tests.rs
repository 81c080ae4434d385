//! Scripts for the picker: what is chosen, of whom, and why.

mod in_order;

use super::*;
use crate::geometry::BLOCK_LEN;

/// A picker with four pieces of two blocks, and the time.
struct Script {
    picker: Picker,
    now: Instant,
}

const A: ConnId = ConnId(1);
const B: ConnId = ConnId(2);

fn script(have: &[PieceIndex]) -> Script {
    let geometry = Geometry::new(8 * u64::from(BLOCK_LEN), 2 * BLOCK_LEN).unwrap();
    let rng = fastrand::Rng::with_seed(7);
    Script { picker: Picker::new(geometry, set(have), rng), now: Instant::now() }
}

fn set(pieces: &[PieceIndex]) -> Bitfield {
    Bitfield::with(4, pieces.iter().copied())
}

impl Script {
    fn pick(&mut self, conn: ConnId, has: &Bitfield, count: usize) -> Vec<(u32, u32, Reason)> {
        let mut picked = Vec::new();
        let peer = Candidate { conn, has, only: None, slow: false, suggested: &[] };
        self.picker.pick(&peer, count, 2, self.now, &mut picked);
        picked.iter().map(|(span, why)| (span.piece, span.begin / BLOCK_LEN, *why)).collect()
    }

    fn arrives(&mut self, conn: ConnId, piece: u32, block: u32) -> Arrival {
        self.picker.arrived(conn, self.picker.geometry.block(piece, block))
    }

    fn releases(&mut self, conn: ConnId, piece: u32, block: u32) {
        self.picker.released(conn, self.picker.geometry.block(piece, block));
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
    }
}

#[test]
fn rarest_first_once_the_first_pieces_are_there() {
    let geometry = Geometry::new(16 * u64::from(BLOCK_LEN), BLOCK_LEN).unwrap();
    let have = Bitfield::with(16, 0..RANDOM_FIRST);
    let mut picker = Picker::new(geometry, have, fastrand::Rng::with_seed(1));
    let all = Bitfield::full(16);
    let mut all_but_9 = all.clone();
    all_but_9.remove(9);
    picker.peer_came(&all);
    picker.peer_came(&all_but_9);
    let mut picked = Vec::new();
    let seed = Candidate { conn: A, has: &all, only: None, slow: false, suggested: &[] };
    picker.pick(&seed, 1, 2, Instant::now(), &mut picked);
    assert_eq!(picked[0].0.piece, 9);
    assert_eq!(picked[0].1, Reason::Rarest { have: 1, peers: 2 });
    picker.peer_left(&all);
    assert_eq!(picker.unavailable(), Some(9));
}

#[test]
fn a_begun_piece_is_finished_before_another_is_begun() {
    let mut s = script(&[]);
    let all = Bitfield::full(4);
    let first = s.pick(A, &all, 1);
    let piece = first[0].0;
    assert_eq!(first, [(piece, 0, Reason::Random)]);
    assert_eq!(s.pick(B, &all, 1), [(piece, 1, Reason::Join)]);
    let next = s.pick(A, &all, 2);
    assert_ne!(next[0].0, piece);
    assert_eq!((next[0].1, next[1].1), (0, 1));
    // What is lost is asked again at once, of whoever is there.
    s.releases(B, piece, 1);
    assert_eq!(s.pick(B, &all, 1), [(piece, 1, Reason::Join)]);
}

#[test]
fn a_rarer_piece_comes_before_one_that_others_have_begun() {
    let blocks = 2 * (RANDOM_FIRST + 2);
    let geometry = Geometry::new(u64::from(blocks * BLOCK_LEN), 2 * BLOCK_LEN).unwrap();
    let pieces = geometry.pieces();
    let (common, rare) = (RANDOM_FIRST, RANDOM_FIRST + 1);
    let have = Bitfield::with(pieces, 0..RANDOM_FIRST);
    let mut s =
        Script { picker: Picker::new(geometry, have, fastrand::Rng::with_seed(1)), ..script(&[]) };
    let (all, leecher) = (Bitfield::full(pieces), Bitfield::with(pieces, [common]));
    s.picker.peer_came(&all);
    s.picker.peer_came(&leecher);
    assert_eq!(s.pick(B, &leecher, 1)[0].0, common);
    let reason = Reason::Rarest { have: 1, peers: 2 };
    assert_eq!(
        s.pick(A, &all, 3),
        [(rare, 0, reason), (rare, 1, reason), (common, 1, Reason::Join)],
        "what is common comes when nothing rarer is left"
    );
}

#[test]
fn a_peer_is_asked_only_for_what_it_has() {
    let mut s = script(&[]);
    assert_eq!(s.pick(A, &set(&[2]), 9), [(2, 0, Reason::Random), (2, 1, Reason::Random)]);
    assert_eq!(s.pick(B, &set(&[]), 9), []);
    let only = [3];
    let mut picked = Vec::new();
    let choking = Candidate {
        conn: B,
        has: &Bitfield::full(4),
        only: Some(&only),
        slow: false,
        suggested: &[],
    };
    s.picker.pick(&choking, 9, 2, s.now, &mut picked);
    assert!(picked.len() == 2 && picked.iter().all(|(span, _)| span.piece == 3));
}

#[test]
fn endgame_asks_again_and_the_first_answer_wins() {
    let mut s = script(&[0, 1, 2]);
    let all = Bitfield::full(4);
    assert_eq!(s.pick(A, &all, 9).len(), 2);
    assert_eq!(s.pick(B, &all, 9), []);
    s.after(ENDGAME_AGE);
    let due = ENDGAME_AGE;
    assert_eq!(
        s.pick(B, &all, 9),
        [(3, 0, Reason::Endgame { due }), (3, 1, Reason::Endgame { due })]
    );
    assert_eq!(s.pick(B, &all, 9), [], "never twice of the same peer");
    assert_eq!(s.arrives(B, 3, 0), Arrival::Fresh { also_asked: vec![A] });
    assert_eq!(s.arrives(A, 3, 0), Arrival::Duplicate);
    assert_eq!(
        s.picker.stored(3),
        [(A, s.picker.geometry.block(3, 1)), (B, s.picker.geometry.block(3, 1))]
    );
    assert!(s.picker.have().is_full());
}

#[test]
fn a_peer_without_anything_else_helps_with_what_is_long_due() {
    let mut s = script(&[0, 1]);
    s.pick(A, &set(&[3]), 9);
    s.after(ENDGAME_AGE);
    assert_eq!(s.pick(B, &set(&[3]), 9), [], "piece 2 is unasked, so this is no endgame");
    s.after(HELP_AGE);
    let helped = s.pick(B, &set(&[3]), 9);
    assert!(matches!(helped[..], [(3, 0, Reason::Help { .. }), (3, 1, Reason::Help { .. })]));
}

#[test]
fn a_block_that_comes_after_its_time_counts() {
    let mut s = script(&[0, 1, 2]);
    let all = Bitfield::full(4);
    s.pick(A, &all, 2);
    s.arrives(A, 3, 0);
    s.releases(A, 3, 1);
    assert_eq!(s.arrives(A, 3, 1), Arrival::Fresh { also_asked: vec![] });
    assert_eq!(s.pick(B, &all, 9), []);
}

#[test]
fn a_corrupt_piece_is_fetched_from_one_peer_alone() {
    let mut s = script(&[0, 1, 2]);
    let all = Bitfield::full(4);
    s.pick(A, &all, 1);
    s.pick(B, &all, 1);
    s.arrives(A, 3, 0);
    s.arrives(B, 3, 1);
    s.picker.corrupt(3, 2);
    assert_eq!(s.pick(A, &all, 1).len(), 1);
    assert_eq!(s.pick(B, &all, 9), [], "it is A's now");
    assert_eq!(s.pick(A, &all, 1), [(3, 1, Reason::Suspect)]);
    s.releases(A, 3, 0);
    s.releases(A, 3, 1);
    assert_eq!(s.pick(B, &all, 9).len(), 2, "A is gone, so it is B's");
    assert_eq!(s.picker.stored(3).len(), 2);
    assert!(s.picker.suspects.is_empty());
}

#[test]
fn a_corrupt_piece_is_not_left_to_one_that_sends_nothing() {
    let mut s = script(&[0, 1, 2]);
    let all = Bitfield::full(4);
    s.picker.corrupt(3, 2);
    assert_eq!(s.pick(A, &all, 1).len(), 1);
    s.after(ALONE_AGE - Duration::from_millis(1));
    assert_eq!(s.pick(B, &all, 9), []);
    s.after(Duration::from_millis(1));
    let picked = s.pick(B, &all, 9);
    let due = ALONE_AGE;
    assert_eq!(picked, [(3, 1, Reason::Join), (3, 0, Reason::Endgame { due })]);
}

#[test]
fn three_slow_peers_cannot_keep_a_block_among_themselves() {
    let mut s = script(&[0, 1, 2]);
    let all = Bitfield::full(4);
    for conn in 1..=3 {
        assert_eq!(s.pick(ConnId(conn), &all, 9).len(), 2);
        s.after(ENDGAME_AGE);
    }
    assert_eq!(s.pick(ConnId(4), &all, 9), []);
    s.after(Duration::from_secs(2));
    assert_eq!(s.pick(ConnId(4), &all, 9).len(), 2);
    // The first of them is not counted on any more, but what it sends counts.
    s.releases(ConnId(1), 3, 0);
    let also_asked = vec![ConnId(2), ConnId(3), ConnId(4)];
    assert_eq!(s.arrives(ConnId(1), 3, 0), Arrival::Fresh { also_asked });
}

#[test]
fn the_count_of_unasked_blocks_is_right_whatever_happens() {
    for seed in 0..100 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut s = script(&[]);
        let all = Bitfield::full(4);
        let mut asked: Vec<(ConnId, Span)> = Vec::new();
        for _ in 0..200 {
            let conn = ConnId(rng.u32(1..4));
            match rng.u8(..6) {
                5 => {
                    let from = run::From::Anywhere;
                    let server = ConnId(9);
                    let (spans, _) = s.picker.pick_run(server, &all, from, 1 << 16, s.now);
                    asked.extend(spans.into_iter().map(|span| (server, span)));
                }
                0 | 1 => {
                    let mut picked = Vec::new();
                    let peer =
                        Candidate { conn, has: &all, only: None, slow: false, suggested: &[] };
                    s.picker.pick(&peer, rng.usize(1..4), 3, s.now, &mut picked);
                    asked.extend(picked.iter().map(|(span, _)| (conn, *span)));
                }
                2 if !asked.is_empty() => {
                    let (conn, span) = asked.swap_remove(rng.usize(..asked.len()));
                    s.picker.arrived(conn, span);
                }
                3 if !asked.is_empty() => {
                    let (conn, span) = asked.swap_remove(rng.usize(..asked.len()));
                    s.picker.released(conn, span);
                }
                _ => s.after(Duration::from_millis(200)),
            }
            let begun = s.picker.begun.iter();
            let whole =
                |(&piece, begun): (&u32, &Begun)| (0..2).all(|b| begun.arrived(b)).then_some(piece);
            let full: Vec<u32> = begun.filter_map(whole).collect();
            for piece in full {
                asked.retain(|(_, span)| span.piece != piece);
                let owed = match rng.u8(..3) {
                    0 => s.picker.corrupt(piece, 2),
                    _ => s.picker.stored(piece),
                };
                assert_eq!(owed, [], "all of it is here");
            }
            let unasked = s.picker.begun.values().map(Begun::unasked).sum::<u32>();
            assert_eq!(unasked, s.picker.unasked, "seed {seed}");
        }
    }
}

#[test]
fn who_made_room_owes_the_block_still() {
    let now = Instant::now();
    let conns: Vec<ConnId> = (1..=5).map(ConnId).collect();
    let mut begun = Begun::new(1);
    begun.ask_next(conns[0], now);
    conns[1..].iter().for_each(|&conn| begun.ask_again(0, conn, now));
    let later = now + Duration::from_secs(9);
    assert_eq!(begun.owed(conns[0], later, HELP_AGE).count(), 0, "it is not asked twice");
    assert_eq!(begun.owed(ConnId(6), later, HELP_AGE).count(), 1);
    // Nobody may be asked as if it were new before all of them have been released.
    let unasked: Vec<bool> = [4, 0, 2, 3, 1].map(|i| begun.release(0, conns[i])).to_vec();
    assert_eq!(unasked, [false, false, false, false, true]);
    conns.iter().for_each(|&conn| begun.ask_again(0, conn, now));
    let others = begun.arrive(0, conns[0]).unwrap();
    assert_eq!(others.len(), 4, "all the others can be told to cancel");
}

/// A run that a server is asked for: its pieces and how many blocks.
fn run(s: &mut Script, conn: ConnId, from: run::From, bytes: u32) -> (Vec<u32>, usize, Reason) {
    let pieces = s.picker.geometry.pieces();
    let all = Bitfield::full(pieces);
    let (spans, reason) = s.picker.pick_run(conn, &all, from, u64::from(bytes), s.now);
    let sides = spans.windows(2).map(|pair| {
        let g = &s.picker.geometry;
        (g.bytes(pair[0]).end, g.bytes(pair[1]).start)
    });
    assert!(sides.into_iter().all(|(end, start)| end == start), "not side by side: {spans:?}");
    let mut found: Vec<u32> = spans.iter().map(|span| span.piece).collect();
    found.dedup();
    (found, spans.len(), reason)
}

/// Sixteen pieces of two blocks.
fn long_script(have: &[PieceIndex]) -> Script {
    let geometry = Geometry::new(32 * u64::from(BLOCK_LEN), 2 * BLOCK_LEN).unwrap();
    let have = Bitfield::with(16, have.iter().copied());
    Script { picker: Picker::new(geometry, have, fastrand::Rng::with_seed(7)), ..script(&[]) }
}

#[test]
fn a_server_gets_whole_pieces_side_by_side_that_nobody_is_at() {
    let mut s = long_script(&[0, 3]);
    assert_eq!(s.pick(A, &Bitfield::with(16, [10]), 1)[0].0, 10);
    let piece = 2 * BLOCK_LEN;
    // Gaps: 1–2, 4–9, 11–15.
    assert_eq!(run(&mut s, B, run::From::Anywhere, 3 * piece), (vec![4, 5, 6], 6, Reason::Gap));
    assert_eq!(run(&mut s, B, run::From::Anywhere, 99 * piece).0, [11, 12, 13, 14, 15]);
    assert_eq!(run(&mut s, B, run::From::Anywhere, 1), (vec![7], 2, Reason::Gap));
    // One that sends from the start only goes on where it is, and then begins again.
    assert_eq!(run(&mut s, B, run::From::Piece(8), 9 * piece).0, [8, 9]);
    assert_eq!(run(&mut s, B, run::From::Piece(10), 9 * piece).0, [1, 2]);
    assert!(!s.picker.is_all_asked());
    assert_eq!(run(&mut s, B, run::From::Anywhere, piece), (vec![10], 1, Reason::Join));
    assert!(s.picker.is_all_asked());
    assert_eq!(run(&mut s, B, run::From::Anywhere, piece).1, 0);
}

#[test]
fn what_a_server_owes_is_not_asked_of_peers_until_it_is_released() {
    let mut s = script(&[0, 1, 2]);
    let all = Bitfield::full(4);
    assert_eq!(run(&mut s, A, run::From::Anywhere, 1).0, [3]);
    s.after(HELP_AGE);
    assert_eq!(s.pick(B, &all, 9), []);
    s.releases(A, 3, 1);
    assert_eq!(s.pick(B, &all, 9), [(3, 1, Reason::Join)]);
    // It may come all the same; what comes second is wasted.
    assert_eq!(s.arrives(A, 3, 1), Arrival::Fresh { also_asked: vec![B] });
    assert_eq!(s.arrives(A, 3, 0), Arrival::Fresh { also_asked: vec![] });
    assert_eq!(s.picker.stored(3), []);
}

#[test]
fn a_server_helps_with_what_is_late() {
    let mut s = script(&[0, 1, 2]);
    assert_eq!(s.pick(A, &Bitfield::full(4), 9).len(), 2);
    assert_eq!(run(&mut s, B, run::From::Anywhere, 1).1, 0);
    s.after(Duration::from_secs(1));
    let help = Reason::Help { due: Duration::from_secs(1) };
    assert_eq!(run(&mut s, B, run::From::Anywhere, 1), (vec![3], 2, help));
    assert_eq!(s.arrives(B, 3, 0), Arrival::Fresh { also_asked: vec![A] });
}

#[test]
fn a_piece_that_failed_is_not_joined_by_a_server() {
    let mut s = script(&[0, 1, 2]);
    s.picker.corrupt(3, 2);
    assert_eq!(s.pick(A, &Bitfield::full(4), 1).len(), 1);
    assert_eq!(run(&mut s, B, run::From::Anywhere, 1).1, 0, "it is A's alone");
    s.releases(A, 3, 0);
    assert_eq!(run(&mut s, B, run::From::Anywhere, 1), (vec![3], 2, Reason::Gap));
    assert_eq!(s.pick(A, &Bitfield::full(4), 9), [], "it is B's alone");
}
