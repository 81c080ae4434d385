//! What peers say, and what is made of it.

use super::*;

#[test]
fn the_protocol_is_kept_or_the_peer_goes() {
    let breaks = |message: Message| {
        let mut p = play();
        let conn = p.joins([1]);
        p.says(conn, [message]);
        let violation =
            |d: &Decision| matches!(d, Decision::Drop { reason: DropReason::Violation(_), .. });
        !p.is_connected(conn) && p.decided(violation)
    };
    assert!(breaks(Message::Have(PIECES)));
    assert!(breaks(Message::Have(u32::MAX)));
    assert!(breaks(Message::HaveAll), "without the Fast extension");
    assert!(breaks(Message::Reject(Span { piece: 0, begin: 0, length: 1 })));
    assert!(breaks(Message::AllowedFast(0)));
    assert!(!breaks(Message::Unknown(77)));
    assert!(!breaks(Message::Bitfield(vec![0xff])));
    // Spare bits: seven pieces in eight bits.
    let mut p = play_with(|config| {
        let total = u64::from((PIECES - 1) * BLOCKS * BLOCK_LEN);
        config.geometry = Geometry::new(total, BLOCKS * BLOCK_LEN).unwrap();
    });
    let addr = p.address();
    p.knows(addr);
    let conn = p.dialled(addr).unwrap();
    p.shakes_hands(conn, addr, 1, false);
    p.says(conn, [Message::Bitfield(vec![0xff])]);
    assert!(!p.is_connected(conn));
}

#[test]
fn chatter_without_data_ends_the_connection() {
    let floods = |message: Message| {
        let mut p = play();
        let conn = p.joins([1]);
        p.says(conn, vec![message; 5_000]);
        !p.is_connected(conn)
    };
    assert!(floods(Message::Have(1)));
    assert!(floods(Message::Unknown(99)));
    assert!(floods(Message::Request(Span { piece: 0, begin: 0, length: BLOCK_LEN })));
    assert!(floods(Message::Bitfield(vec![0xff])));
    let mut p = play();
    let conn = p.joins([1]);
    for _ in 0..2_000 {
        p.says(conn, [Message::Choke, Message::Unchoke]);
    }
    assert!(!p.is_connected(conn));
}

#[test]
fn one_that_refuses_everything_is_not_asked_for_ever() {
    let mut p = play();
    let addr = p.address();
    p.knows(addr);
    let conn = p.dialled(addr).unwrap();
    p.shakes_hands(conn, addr, 1, true);
    p.says(conn, [Message::HaveAll, Message::Unchoke]);
    for _ in 0..2_000 {
        let refused: Vec<Message> = p.asked(conn).into_iter().map(Message::Reject).collect();
        p.says(conn, refused);
        p.wait(TICK);
    }
    assert!(!p.is_connected(conn));
    assert!(p.decided(|d| matches!(d, Decision::Drop { reason: DropReason::Refuses { .. }, .. })));
}

#[test]
fn allowed_fast_pieces_come_while_we_are_choked() {
    let mut p = play();
    let addr = p.address();
    p.knows(addr);
    let conn = p.dialled(addr).unwrap();
    p.shakes_hands(conn, addr, 1, true);
    p.says(conn, [Message::HaveAll, Message::AllowedFast(6)]);
    assert!(p.asked(conn).iter().all(|span| span.piece == 6) && p.asked(conn).len() == 2);
}

#[test]
fn nodes_of_the_dht_tell_each_other_their_ports_once() {
    let mut p = play_with(|config| config.dht_ports = [Some(6999), None]);
    let stranger = p.joins([0]);
    assert!(!p.told(stranger, &Message::Port(6999)), "without the bit nobody is told");
    let addr = p.address();
    p.knows(addr);
    let conn = p.dialled(addr).expect("it is dialled");
    let reserved = Reserved::default().with_dht(true);
    let hello = Hello { addr, incoming: false, peer_id: PeerId([77; 20]), reserved };
    p.fact(Fact::Connected { conn, hello });
    assert!(p.told(conn, &Message::Port(6999)));
    p.says(conn, [Message::Port(7000), Message::Port(7001)]);
    let nodes = |p: &Play| {
        let node = |action: &Action| match action {
            Action::DhtNode { addr } => Some(*addr),
            _ => None,
        };
        p.actions.iter().filter_map(node).collect::<Vec<_>>()
    };
    assert_eq!(nodes(&p), [SocketAddr::new(addr.ip(), 7000)]);
    let mut without = play();
    let peer = without.joins([0]);
    without.says(peer, [Message::Port(7000)]);
    assert!(nodes(&without).is_empty());
}

#[test]
fn who_changes_its_mind_for_ever_is_dropped_and_chosen_for_once_a_time() {
    let mut p = play();
    let conn = p.joins([]);
    let changes = |times| {
        let twice = || [Message::Interested, Message::NotInterested];
        std::iter::repeat_with(twice).take(times).flatten().collect::<Vec<_>>()
    };
    p.says(conn, changes(100));
    let unchokes = |p: &Play| p.told(conn, &Message::Unchoke);
    assert!(p.is_connected(conn) && !unchokes(&p), "the choker looks when all has been said");
    p.says(conn, changes(500));
    assert!(!p.is_connected(conn));
}
