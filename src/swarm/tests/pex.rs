//! Peers that tell of peers: who is told what, and what is believed.

use super::*;
use crate::wire::extended::{Extension, HANDSHAKE};
use crate::wire::pex::{Pex, REACHABLE, UPLOAD_ONLY};

const PEX: &str = "d1:md6:ut_pexi7eee";

fn with_pex() -> Play {
    play_with(|config| config.offer.pex = true)
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Play {
    /// What a peer was told since somebody looked.
    fn pex_to(&mut self, conn: ConnId) -> Vec<Pex> {
        let told = self.extended_to(conn).into_iter().filter(|(id, _)| *id == 7);
        let told = told.map(|(_, payload)| Pex::parse(&payload).unwrap()).collect();
        self.actions.clear();
        told
    }

    fn hears_of(&mut self, conn: ConnId, added: &[&str], flags: u8) {
        let added = added.iter().map(|text| (addr(text), flags)).collect();
        let payload = Pex { added, dropped: Vec::new() }.to_bytes();
        self.says(conn, [Message::Extended(Extension::Pex as u8, payload)]);
    }

    /// One that dials us, and says where it listens.
    fn comes(&mut self, from: &str, said: &str) -> ConnId {
        let conn = self.swarm.incoming(addr(from), self.now).unwrap();
        self.hosts += 1;
        let reserved = Reserved::default().with_extended();
        let peer_id = PeerId([self.hosts; 20]);
        let hello = Hello { addr: addr(from), incoming: true, peer_id, reserved };
        self.fact(Fact::Connected { conn, hello });
        self.says(conn, [Message::Extended(HANDSHAKE, said.as_bytes().to_vec())]);
        conn
    }
}

#[test]
fn a_peer_is_told_soon_of_those_that_can_be_dialled_and_then_what_has_changed() {
    let mut p = with_pex();
    let first = p.joins_extended(PEX);
    p.wait(seconds(5));
    assert!(p.pex_to(first).is_empty(), "there is nobody else");
    let second = p.joins_extended("d11:upload_onlyi1ee");
    p.comes("10.0.1.1:50000", "d1:pi7000ee");
    p.comes("10.0.1.2:50000", "de");
    let told_second = addr("10.0.0.2:6881");
    p.wait(seconds(1));
    // The second does not speak of peers, and is told nothing; the last cannot be dialled.
    let all = vec![(told_second, UPLOAD_ONLY | REACHABLE), (addr("10.0.1.1:7000"), 0)];
    assert!(p.extended_to(second).iter().all(|(id, _)| *id == HANDSHAKE));
    assert_eq!(p.pex_to(first), [Pex { added: all, dropped: Vec::new() }]);
    // Not again within the minute, whatever happens.
    p.fact(Fact::Gone { conn: second, end: End::Lost("it left".to_owned()) });
    p.comes("10.0.1.3:50000", "d1:pi7000ee");
    p.wait(seconds(58));
    assert!(p.pex_to(first).is_empty());
    p.wait(seconds(3));
    let dropped = vec![told_second];
    assert_eq!(p.pex_to(first), [Pex { added: vec![(addr("10.0.1.3:7000"), 0)], dropped }]);
    p.wait(seconds(120));
    assert!(p.pex_to(first).iter().all(|pex| pex.added.len() + pex.dropped.len() <= 1));
}

/// Two that say they listen at the same place, and one that changes its mind.
#[test]
fn an_address_is_told_once() {
    let mut p = with_pex();
    let to = p.joins_extended(PEX);
    let one = p.comes("10.0.1.1:50000", "d1:pi7000ee");
    p.comes("10.0.1.1:50001", "d1:pi7000ee");
    p.wait(seconds(1));
    let at = (addr("10.0.1.1:7000"), 0);
    assert_eq!(p.pex_to(to), [Pex { added: vec![at], dropped: Vec::new() }]);
    p.fact(Fact::Gone { conn: one, end: End::Lost("it left".to_owned()) });
    p.wait(seconds(130));
    assert!(p.pex_to(to).is_empty(), "the other is still there");
}

#[test]
fn what_a_peer_names_is_dialled() {
    let mut p = with_pex();
    let conn = p.joins_extended(PEX);
    p.hears_of(conn, &["10.0.9.1:7000", "[fd00::9]:7000", "192.0.2.9:7000"], 0);
    for text in ["10.0.9.1:7000", "[fd00::9]:7000", "192.0.2.9:7000"] {
        assert!(p.dialled(addr(text)).is_some(), "{text}");
    }
    assert!(p.decided(|d| matches!(d, Decision::Dial { source: Source::Pex, .. })));
}

#[test]
fn what_makes_no_sense_is_not_dialled() {
    let mut p = with_pex();
    let known = p.comes("10.0.1.1:50000", "d1:pi7000ee");
    let conn = p.comes("10.0.1.2:50000", "d1:md6:ut_pexi7ee6:yourip4:\x0a\0\0\x63e");
    p.swarm.config.offer.port = 6881;
    let bad = ["127.0.0.1:22", "[::1]:22", "[fe80::1]:7000", "10.0.0.99:6881", "10.0.1.1:7000"];
    p.hears_of(conn, &bad, 0);
    for text in bad {
        assert!(p.dialled(addr(text)).is_none(), "{text}");
    }
    // From the internet nobody speaks of our own network.
    let far = p.comes("192.0.2.1:50000", PEX);
    p.hears_of(far, &["10.0.9.9:7000"], 0);
    assert!(p.dialled(addr("10.0.9.9:7000")).is_none() && p.is_connected(known));
    // Nor is anybody there told of it.
    p.wait(seconds(1));
    assert!(p.pex_to(far).is_empty());
}

#[test]
fn a_flood_is_not_believed_and_ends_the_connection() {
    let mut p = with_pex();
    let conn = p.joins_extended(PEX);
    for n in 0..100u8 {
        let names: Vec<String> = (0..100).map(|i| format!("10.1.{n}.{i}:7000")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        p.hears_of(conn, &names, 0);
    }
    assert!(!p.is_connected(conn));
    assert!(p.swarm.book.known() <= 1 + 200, "{}", p.swarm.book.known());
    // One that keeps to its minute stays.
    let mut p = with_pex();
    let conn = p.joins_extended(PEX);
    for n in 0..30u8 {
        p.hears_of(conn, &[&format!("10.2.0.{n}:7000")], 0);
        p.wait(seconds(60));
    }
    assert!(p.is_connected(conn));
}

#[test]
fn where_it_is_not_offered_nothing_is_said_and_nothing_believed() {
    let mut p = play();
    let conn = p.joins_extended(PEX);
    p.joins([]);
    p.hears_of(conn, &["10.0.9.1:7000"], 0);
    p.wait(seconds(61));
    assert!(p.dialled(addr("10.0.9.1:7000")).is_none() && p.pex_to(conn).is_empty());
}
