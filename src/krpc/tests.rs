//! Packets, as BEP 5 prints them and as strangers send them.
//!
//! Layer: values.

use super::*;

fn id(byte: u8) -> NodeId {
    NodeId([byte; 20])
}

#[track_caller]
fn there_and_back(body: Body) -> Vec<u8> {
    let ip = Some("192.0.2.1:6881".parse().unwrap());
    let message = Message { transaction: b"aa".to_vec(), ip, body };
    let packet = message.encode();
    assert_eq!(Message::decode(&packet), Ok(message));
    packet
}

#[test]
fn every_message_is_read_as_it_was_written() {
    let want = Want { v4: true, v6: false };
    let token = b"aoeusnth".to_vec();
    for ask in [
        Ask::Ping,
        Ask::FindNode { target: id(1), want: Want::default() },
        Ask::GetPeers { info_hash: Sha1([2; 20]), want, scrape: true },
        Ask::AnnouncePeer {
            info_hash: Sha1([2; 20]),
            port: 6881,
            implied_port: true,
            token: token.clone(),
            seed: true,
        },
    ] {
        there_and_back(Body::Query(Query { id: id(3), read_only: true, ask }));
    }
    let v4 = Contact { id: id(4), addr: "192.0.2.4:4".parse().unwrap() };
    let v6 = Contact { id: id(6), addr: "[2001:db8::6]:6".parse().unwrap() };
    let mut answer = Answer::of(id(5));
    there_and_back(Body::Answer(answer.clone()));
    answer.nodes = vec![v4, v6];
    answer.peers = vec![v4.addr, v6.addr];
    answer.token = Some(token);
    answer.filters = Some(Box::new([[1; FILTER_LEN], [2; FILTER_LEN]]));
    there_and_back(Body::Answer(answer));
    there_and_back(Body::Error { code: 203, text: "bad token".to_owned() });
}

/// The examples of BEP 5.
#[test]
fn the_standard_s_own_packets_are_understood() {
    let read = |packet: &str| Message::decode(packet.as_bytes()).unwrap();
    let ping = read("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe");
    let asker = NodeId(*b"abcdefghij0123456789");
    let query = Query { id: asker, read_only: false, ask: Ask::Ping };
    assert_eq!(ping.body, Body::Query(query));
    let announce = read(
        "d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz123456\
         4:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
    );
    let Body::Query(Query { ask: Ask::AnnouncePeer { port, implied_port, token, .. }, .. }) =
        announce.body
    else {
        panic!("{announce:?}")
    };
    assert_eq!((port, implied_port, &token[..]), (6881, true, &b"aoeusnth"[..]));
    let peers = read(
        "d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
    );
    let Body::Answer(answer) = peers.body else { panic!("{peers:?}") };
    let found: Vec<String> = answer.peers.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["97.120.106.101:11893", "105.100.104.116:28269"]);
    let error = read("d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee");
    let text = "A Generic Error Ocurred".to_owned();
    assert_eq!(error.body, Body::Error { code: 201, text });
}

#[test]
fn what_breaks_a_rule_is_named_with_its_place() {
    let said = |packet: &str| Message::decode(packet.as_bytes()).unwrap_err().to_string();
    assert_eq!(said("hello"), "at byte 0: 'h' begins no value (BEP 3: i, l, d, 0-9)");
    assert_eq!(said("le"), "at byte 0: a message is a dictionary (BEP 5)");
    assert!(said("d1:y1:qe").contains("transaction id"));
    assert_eq!(said("d1:t0:1:y1:qe"), "at byte 4: the transaction id is 1 to 20 bytes");
    assert!(said("d1:t2:aa1:y1:xe").contains("q, r or e"));
    assert!(said("d1:t2:aa1:y1:qe").contains("arguments"));
    assert_eq!(
        said("d1:ad2:id3:abce1:q4:ping1:t2:aa1:y1:qe"),
        "at byte 9: an id is 20 bytes (BEP 5)"
    );
    let nodes = "d1:rd2:id20:abcdefghij01234567895:nodes3:abce1:t2:aa1:y1:re";
    assert!(said(nodes).contains("26 bytes"), "{}", said(nodes));
    assert_eq!(said(&"9".repeat(1501)), "1501 bytes, the limit is 1500");
    assert!(said(&"l".repeat(1400)).contains("deeper than 100"));
}

#[test]
fn who_cannot_be_reached_is_left_out_and_long_lists_are_cut() {
    let mut answer = Answer::of(id(5));
    let node = |port: u16| Contact { id: id(1), addr: ([192, 0, 2, 1], port).into() };
    answer.nodes = (0..30).map(node).collect();
    answer.peers = ["0.0.0.0:1", "224.0.0.1:1", "192.0.2.1:0", "192.0.2.1:1"]
        .map(|addr| addr.parse().unwrap())
        .to_vec();
    let message = Message { transaction: vec![1], ip: None, body: Body::Answer(answer) };
    let Body::Answer(answer) = Message::decode(&message.encode()).unwrap().body else { panic!() };
    assert_eq!(answer.nodes.len(), NODES_MAX - 1, "port 0 was the first of them");
    assert_eq!(answer.peers, ["192.0.2.1:1".parse().unwrap()]);
    assert_eq!(compact_addr(&[&[0; 10][..], &[255, 255, 1, 2, 3, 4, 0, 9]].concat()), None);
}
