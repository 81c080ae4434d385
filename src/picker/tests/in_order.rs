//! Scripts for the picker that goes in order, and for the one that wants some pieces only.

use super::*;

/// Sixteen pieces of 2 MiB, in order: the window is two pieces.
fn in_order(have: &[PieceIndex]) -> Script {
    let geometry = Geometry::new(16 << 21, 2 << 20).unwrap();
    let have = Bitfield::with(16, have.iter().copied());
    let picker = Picker::new(geometry, have, fastrand::Rng::with_seed(7)).in_order();
    Script { picker, now: Instant::now() }
}

/// Blocks of a piece of 2 MiB.
const BLOCKS: usize = 128;

fn pick(s: &mut Script, conn: ConnId, slow: bool, count: usize) -> Vec<(u32, u32, Reason)> {
    let has = Bitfield::full(16);
    let mut picked = Vec::new();
    let peer = Candidate { conn, has: &has, only: None, suggested: &[], slow };
    s.picker.pick(&peer, count, 2, s.now, &mut picked);
    picked.iter().map(|(span, why)| (span.piece, span.begin / BLOCK_LEN, *why)).collect()
}

fn pieces(picked: &[(u32, u32, Reason)]) -> Vec<u32> {
    let mut pieces: Vec<u32> = picked.iter().map(|(piece, ..)| *piece).collect();
    pieces.dedup();
    pieces
}

#[test]
fn blocks_come_in_order_and_peers_share_a_piece() {
    let mut s = in_order(&[0, 2]);
    let rare = Bitfield::with(16, [15]);
    s.picker.peer_came(&rare);
    assert_eq!(pick(&mut s, A, false, 2), [(1, 0, Reason::InOrder), (1, 1, Reason::InOrder)]);
    assert_eq!(pick(&mut s, B, false, 1), [(1, 2, Reason::InOrder)]);
    assert_eq!(pieces(&pick(&mut s, A, false, 2 * BLOCKS)), [1, 3, 4]);
    // What is lost is the next again, before all else.
    s.releases(B, 1, 2);
    assert_eq!(pick(&mut s, A, false, 2)[0], (1, 2, Reason::InOrder));
    assert_eq!(s.picker.first_missing(), Some(1));
    s.picker.stored(1);
    assert_eq!(s.picker.first_missing(), Some(3));
}

#[test]
fn a_peer_that_lacks_what_is_next_is_asked_for_the_first_that_it_has() {
    let mut s = in_order(&[]);
    let has = Bitfield::with(16, [9, 12]);
    assert_eq!(s.pick(A, &has, 1), [(9, 0, Reason::InOrder)]);
    let only = [12, 7];
    let mut picked = Vec::new();
    let choking = Candidate { conn: B, has: &has, only: Some(&only), suggested: &[], slow: false };
    s.picker.pick(&choking, 1, 2, s.now, &mut picked);
    assert_eq!(picked[0].0.piece, 12);
}

#[test]
fn late_blocks_of_the_window_come_before_anything_beyond_it() {
    let mut s = in_order(&[]);
    assert_eq!(pick(&mut s, A, false, 2).len(), 2);
    assert_eq!(pieces(&pick(&mut s, B, false, 2 * BLOCKS - 2)), [0, 1]);
    // All of the window is asked for; nothing is late, so B works ahead.
    assert_eq!(pieces(&pick(&mut s, B, false, 1)), [2]);
    s.after(Duration::from_millis(600));
    let due = Duration::from_millis(600);
    let picked = pick(&mut s, B, false, 3);
    assert_eq!(picked[..2], [(0, 0, Reason::Urgent { due }), (0, 1, Reason::Urgent { due })]);
    assert_eq!(picked[2], (2, 1, Reason::InOrder), "its own are not asked of it again");
    // A is late with nothing that B was not asked for; of B's, those of piece 0 are.
    assert_eq!(pieces(&pick(&mut s, A, false, 1)), [0]);
    s.after(Duration::from_millis(500));
    let late = pick(&mut s, ConnId(3), false, 2 * BLOCKS);
    assert_eq!((pieces(&late), late.len()), (vec![0, 1], 2 * BLOCKS));
    // The first answer wins.
    let others = s.arrives(B, 0, 0);
    assert_eq!(others, Arrival::Fresh { also_asked: vec![A, ConnId(3)] });
}

#[test]
fn a_slow_peer_works_ahead_of_the_window_and_asks_nothing_twice() {
    let mut s = in_order(&[]);
    assert_eq!(pick(&mut s, A, true, 1), [(2, 0, Reason::InOrder)]);
    assert_eq!(pick(&mut s, B, false, 1), [(0, 0, Reason::InOrder)]);
    s.after(Duration::from_secs(2));
    assert_eq!(pick(&mut s, A, true, 1), [(2, 1, Reason::InOrder)]);
    // Where nothing is ahead it does what there is to do.
    let mut s = in_order(&(0..14).collect::<Vec<_>>());
    assert_eq!(pick(&mut s, A, true, 1), [(14, 0, Reason::InOrder)]);
}

#[test]
fn in_order_a_piece_that_failed_is_one_peers_alone() {
    let mut s = in_order(&[]);
    pick(&mut s, A, false, BLOCKS / 2);
    pick(&mut s, B, false, BLOCKS / 2);
    (0..BLOCKS as u32).for_each(|block| {
        s.arrives(if block < 64 { A } else { B }, 0, block);
    });
    s.picker.corrupt(0, 2);
    assert_eq!(pieces(&pick(&mut s, B, false, 10)), [0]);
    assert_eq!(pieces(&pick(&mut s, A, false, 10)), [1]);
    assert_eq!(pieces(&pick(&mut s, B, false, BLOCKS)), [0, 1]);
    s.after(Duration::from_millis(700));
    assert!(!pieces(&pick(&mut s, A, false, BLOCKS)).contains(&0));
    s.after(ALONE_AGE);
    assert_eq!(pieces(&pick(&mut s, A, false, 10)), [0]);
}

#[test]
fn only_wanted_pieces_are_picked_and_counted() {
    let geometry = Geometry::new(8 * u64::from(BLOCK_LEN) - 100, 2 * BLOCK_LEN).unwrap();
    for in_order in [false, true] {
        let rng = fastrand::Rng::with_seed(7);
        let picker = Picker::new(geometry, set(&[1, 2]), rng).wanting(set(&[1, 3]));
        let picker = if in_order { picker.in_order() } else { picker };
        let mut s = Script { picker, now: Instant::now() };
        let last = u64::from(2 * BLOCK_LEN - 100);
        assert_eq!(s.picker.wanted(), (2, 1));
        assert_eq!(s.picker.wanted_bytes(), (u64::from(2 * BLOCK_LEN) + last, last));
        assert!(s.picker.lacks(3) && !s.picker.lacks(0) && !s.picker.lacks(1));
        assert_eq!(s.picker.unavailable(), Some(3));
        let all = Bitfield::full(4);
        s.picker.peer_came(&all);
        let picked = s.pick(A, &all, 9);
        assert_eq!(picked.iter().map(|(piece, ..)| *piece).collect::<Vec<_>>(), [3, 3]);
        // It comes back, and nothing else does.
        s.releases(A, 3, 0);
        s.releases(A, 3, 1);
        assert_eq!(s.pick(B, &all, 9).len(), 2);
        s.picker.stored(3);
        assert_eq!((s.picker.wanted(), s.picker.wanted_bytes().1), ((2, 0), 0));
        assert_eq!(s.pick(A, &all, 9), []);
    }
}
