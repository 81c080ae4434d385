//! What peers say under the extension protocol, and what is made of it.

use super::*;
use crate::wire::extended::{Extended, Extension, HANDSHAKE};
use crate::wire::metadata::Metadata;

impl Play {
    /// A peer that speaks of extensions, and has said this in its extended handshake.
    pub(super) fn joins_extended(&mut self, said: &str) -> ConnId {
        let addr = self.address();
        self.knows(addr);
        let conn = self.dialled(addr).unwrap();
        let reserved = Reserved::default().with_fast().with_extended();
        let hello = Hello { addr, incoming: false, peer_id: PeerId([self.hosts; 20]), reserved };
        self.fact(Fact::Connected { conn, hello });
        self.says(conn, [Message::Extended(HANDSHAKE, said.as_bytes().to_vec())]);
        conn
    }

    /// The payloads of the extended messages that a peer was told, with their ids.
    pub(super) fn extended_to(&self, to: ConnId) -> Vec<(u8, Vec<u8>)> {
        let said = |action: &Action| match action {
            Action::Tell { conn, order: Order::Say(Message::Extended(id, payload)) }
                if *conn == to =>
            {
                Some((*id, payload.clone()))
            }
            _ => None,
        };
        self.actions.iter().filter_map(said).collect()
    }

    fn hears(&mut self, conn: ConnId, extension: Extension, payload: &[u8]) {
        self.says(conn, [Message::Extended(extension as u8, payload.to_vec())]);
    }
}

#[test]
fn the_extended_handshake_comes_first_and_only_where_it_is_understood() {
    let mut p = play_with(|config| config.offer.port = 6881);
    let conn = p.joins_extended("d1:v5:a 1.0e");
    let first = p.actions.iter().find_map(|action| match action {
        Action::Tell { order: Order::Say(message), .. } => Some(message.clone()),
        _ => None,
    });
    let Some(Message::Extended(HANDSHAKE, payload)) = first else { panic!("{first:?}") };
    let said = Extended::parse(&payload).unwrap();
    assert_eq!((said.port, said.upload_only, said.metadata_size), (Some(6881), None, None));
    assert!(said.id(Extension::DontHave).is_some() && said.id(Extension::Pex).is_none());
    assert_eq!(p.swarm.peers[&conn].client(), "a 1.0");
    let plain = p.joins([]);
    assert!(p.extended_to(plain).is_empty());
}

#[test]
fn nonsense_is_survived_or_ends_the_connection_with_its_rule() {
    let goes = |id: u8, payload: &[u8], times: usize| {
        let mut p = play();
        let conn = p.joins_extended("de");
        p.says(conn, vec![Message::Extended(id, payload.to_vec()); times]);
        !p.is_connected(conn)
    };
    assert!(goes(HANDSHAKE, b"nonsense", 1));
    assert!(goes(HANDSHAKE, &b"l".repeat(60_000), 1));
    assert!(goes(HANDSHAKE, b"de", 100), "again and again");
    assert!(!goes(HANDSHAKE, b"d1:mi3ee", 1));
    assert!(!goes(77, b"what nobody offered", 1) && goes(77, b"", 2_000));
    assert!(goes(Extension::DontHave as u8, &PIECES.to_be_bytes(), 1), "no such piece");
    assert!(goes(Extension::DontHave as u8, b"123", 1));
    assert!(goes(Extension::Metadata as u8, b"d", 1));
    assert!(!goes(Extension::Metadata as u8, b"d8:msg_typei7ee", 1));
    // Without the bit in the handshake it means nothing.
    let mut p = play();
    let conn = p.joins([]);
    p.says(conn, [Message::Extended(HANDSHAKE, b"nonsense".to_vec())]);
    assert!(p.is_connected(conn));
}

#[test]
fn a_piece_that_is_gone_is_not_asked_for() {
    let mut p = play();
    let conn = p.joins_extended("d4:reqqi1ee");
    p.says(conn, [Message::Bitfield(Bitfield::with(PIECES, [2]).as_bytes().to_vec())]);
    p.says(conn, [Message::Unchoke]);
    assert_eq!(p.asked(conn).len(), 1, "it takes one request at a time");
    let asked = p.asked(conn)[0];
    p.hears(conn, Extension::DontHave, &2u32.to_be_bytes());
    assert!(p.asked(conn).is_empty() && p.told(conn, &Message::Cancel(asked)));
    assert!(p.told(conn, &Message::NotInterested));
    p.hears(conn, Extension::DontHave, &2u32.to_be_bytes());
    p.says(conn, [Message::Have(2)]);
    assert_eq!(p.asked(conn).len(), 1, "it is back");
}

#[test]
fn who_fetches_nothing_is_not_unchoked_and_two_such_part() {
    let mut p = play_with(|config| config.goal = Some(Goal::default()));
    let seed = p.joins(0..PIECES);
    let plain = p.joins_extended("d1:md11:upload_onlyi9eee");
    let only = p.joins_extended("d11:upload_onlyi1ee");
    let later = p.joins_extended("de");
    p.hears(later, Extension::UploadOnly, &[1]);
    for conn in [plain, only, later] {
        p.says(conn, [Message::Interested]);
    }
    p.wait(Duration::from_secs(1));
    assert!(p.told(plain, &Message::Unchoke));
    assert!(!p.told(only, &Message::Unchoke) && !p.told(later, &Message::Unchoke));
    p.sends_everything(seed);
    assert!(p.swarm.finished && p.is_connected(plain));
    assert!(!p.is_connected(only) && !p.is_connected(later) && !p.is_connected(seed));
    assert_eq!(p.extended_to(plain).last(), Some(&(9, vec![1])), "it is told");
    p.says(plain, [Message::Extended(HANDSHAKE, b"d11:upload_onlyi1ee".to_vec())]);
    assert!(!p.is_connected(plain));
    let late = p.joins_extended("de");
    let said = Extended::parse(&p.extended_to(late)[0].1).unwrap();
    assert_eq!(said.upload_only, Some(true));
}

#[test]
fn metadata_is_given_piece_by_piece_and_not_for_ever() {
    let mut p = play_with(|config| config.offer.metadata_size = 20_000);
    let conn = p.joins_extended("d1:md11:ut_metadatai5eee");
    let request = |piece| Metadata::Request { piece }.to_bytes();
    p.hears(conn, Extension::Metadata, &request(1));
    let given = |p: &Play| {
        let order = |a: &&Action| {
            matches!(a, Action::Tell { order: Order::Metadata { id: 5, piece: 1 }, .. })
        };
        p.actions.iter().filter(order).count()
    };
    assert_eq!(given(&p), 1);
    let reject = |piece| (5, Metadata::Reject { piece }.to_bytes());
    p.hears(conn, Extension::Metadata, &request(2));
    assert_eq!(p.extended_to(conn).last(), Some(&reject(2)), "there are two");
    (0..500).for_each(|_| p.hears(conn, Extension::Metadata, &request(1)));
    assert!(given(&p) < 30);
    assert_eq!(p.extended_to(conn).last(), Some(&reject(1)));
    // One that has not said under which id it wants the answer gets none.
    let mute = p.joins_extended("de");
    p.hears(mute, Extension::Metadata, &request(0));
    assert_eq!(p.extended_to(mute).len(), 1);
}

#[test]
fn a_piece_that_nobody_wants_may_go() {
    let wanted = Bitfield::with(PIECES, [2]);
    let mut p = play_with(|config| config.wanted = Some(wanted));
    let conn = p.joins_extended("d1:md11:lt_donthavei3eee");
    p.says(conn, [Message::Bitfield(Bitfield::with(PIECES, [1, 2]).as_bytes().to_vec())]);
    p.hears(conn, Extension::DontHave, &1u32.to_be_bytes());
    assert!(p.told(conn, &Message::Interested) && !p.told(conn, &Message::NotInterested));
    p.hears(conn, Extension::DontHave, &2u32.to_be_bytes());
    assert!(p.told(conn, &Message::NotInterested));
}

#[test]
fn what_costs_a_pass_over_all_pieces_is_never_forgiven() {
    let mut p = play();
    let conn = p.joins_extended("d1:md11:lt_donthavei3eee");
    p.says(conn, [Message::Bitfield(Bitfield::full(PIECES).as_bytes().to_vec())]);
    p.says(conn, [Message::Unchoke]);
    for _ in 0..40 {
        p.hears(conn, Extension::DontHave, &2u32.to_be_bytes());
        p.says(conn, [Message::Have(2)]);
        // A block in between is welcome, and pays for nothing.
        let owed = p.asked(conn);
        owed.first().into_iter().for_each(|span| p.says(conn, [Message::Block(*span)]));
    }
    assert!(!p.is_connected(conn));
}
