//! Inputs and the lines that explain them.

use super::*;

/// The tree of an input as lines of "at+len depth name: meaning", then the error, if there is one.
fn tree(input: &[u8], kind: Option<Kind>) -> Vec<String> {
    let mut lines = Vec::new();
    let kind = kind.unwrap_or_else(|| Kind::guess(input));
    let done = explain(input, kind, true, &mut |line: Line| {
        assert!(line.raw.is_empty() || line.raw == &input[line.at..line.at + line.raw.len()]);
        let Line { at, depth, name, meaning, rule, .. } = &line;
        lines.push(format!("{at}+{} {depth} {name}: {meaning} [{rule}]", line.raw.len()));
    });
    lines.extend(done.err().map(|err| err.to_string()));
    lines
}

/// The kind that is guessed, and lines that must be there.
#[track_caller]
fn check(input: &[u8], kind: Kind, expected: &[&str]) {
    assert_eq!(Kind::guess(input), kind);
    let tree = tree(input, None);
    for line in expected {
        assert!(tree.iter().any(|there| there.starts_with(line)), "no {line} in {tree:#?}");
    }
}

/// The text behind the offset where an input stops making sense.
#[track_caller]
fn check_error(input: &[u8], kind: Kind, expected: &str) {
    let error = tree(input, Some(kind)).pop().unwrap_or_default();
    assert!(error.starts_with("at byte ") && error.contains(expected), "{error}");
}

const HANDSHAKE: &[u8] =
    b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05hhhhhhhhhhhhhhhhhhhh-TR4060-abcdefghijkl";

const STREAM: &[u8] = b"\0\0\0\x02\x05\xa0\0\0\0\0\0\0\0\x05\x04\0\0\x01\x02\0\0\0\x01\x01\
    \0\0\0\x0b\x07\0\0\0\x01\0\0\x40\0ab\0\0\0\x03\x09\x1a\xe1\
    \0\0\0\x25\x14\0d1:md11:ut_metadatai3ee4:reqqi250ee";

#[test]
fn a_handshake_and_messages() {
    let both = [HANDSHAKE, STREAM].concat();
    let lines = [
        "0+68 0 handshake: from Transmission 4.0.6.0 [BEP 3, peer protocol]",
        "25+1 2 extension protocol: reserved[5] & 0x10 [BEP 10]",
        "27+1 2 Fast extension: reserved[7] & 0x04 [BEP 6]",
        "27+1 2 DHT: reserved[7] & 0x01 [BEP 5]",
        "28+20 1 info hash: 6868",
        "48+20 1 peer id: \"-TR4060-abcdefghijkl\"",
        "68+6 0 bitfield: message 1",
        "73+1 1 bits: 2 pieces of at most 8",
        "74+4 0 keep-alive: message 2",
        "83+4 1 index: 258,",
        "101+4 1 begin: 16384",
        "105+2 1 block: 2 bytes of data",
        "112+2 1 port: 6881",
        "119+1 1 extended id: 0, the extended handshake",
        "124+19 2 m: dictionary of 1; extensions",
        "139+3 3 ut_metadata: 3;",
        "149+5 2 reqq: 250;",
    ];
    check(&both, Kind::Handshake, &lines);
    check(STREAM, Kind::Messages, &["0+6 0 bitfield"]);
    check_error(&HANDSHAKE[..60], Kind::Handshake, "0: expected a handshake of 68 bytes, found 60");
    check_error(b"HTTP/1.1 400", Kind::Handshake, "expected \\x13BitTorrent protocol (BEP 3)");
    check_error(b"\0\0\0\x02\x01\0", Kind::Messages, "(unchoke): expected a length of 1, found 2");
    check_error(b"\0\0\0\x05\x04\0", Kind::Messages, "4: have: expected 5 bytes, found 2 (BEP 3");
    check_error(b"\xff\xff\xff\xff\x14", Kind::Messages, "4294967295 bytes, our limit is ");
    check_error(b"\0\0\0\x04\x14\0d1", Kind::Messages, "8: expected more of a value");
}

#[test]
fn what_trackers_and_nodes_say() {
    let answer =
        b"d8:completei5e8:intervali1800e5:peers12:\x7f\0\0\x01\x1a\xe1\x01\x02\x03\x04\0\x05e";
    let lines = ["24+6 1 interval: 1800; seconds", "40+6 2 address: 127.0.0.1:6881 [BEP 23"];
    check(answer, Kind::Tracker, &lines);
    let http = [b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n", &answer[..]].concat();
    check(&http, Kind::Tracker, &["0+17 0 status: \"HTTP/1.1 200 OK\"", "54+6 1 interval: 1800"]);
    // The examples of BEP 5, the peers written as they are.
    let query = b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe";
    let lines = ["4+47 1 a: dictionary of 2; the arguments", "62+11 1 q: \"get_peers\""];
    check(query, Kind::Krpc, &[lines[0].split_at(1).0, "91+3 1 y: \"q\"; q a query"]);
    let response =
        b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re";
    check(response, Kind::Krpc, &["60+6 4 address: 97.120.106.101:11893", "68+6 4 address"]);
    check(b"d1:eli201e5:oopsse1:t2:aa1:y1:ee", Kind::Krpc, &["4+14 1 e: list of 2; error: 201"]);
    let nodes = [b"d1:rd2:id1:a5:nodes26:", &[7; 26][..], b"e1:t1:a1:y1:re"].concat();
    check(&nodes, Kind::Krpc, &["22+26 3 node: 7.7.7.7:1799 0707"]);
    // What a key means depends on where it is: v is the client, and in r what is stored (BEP 44).
    let stored = b"d1:rd2:id1:a4:BFsd2:xx1:v3:abce1:t2:aa1:v4:LT011:y1:re";
    let lines =
        ["18+4 2 BFsd: \"xx\"; Bloom filter", "25+5 2 v: \"abc\"; the value that is stored"];
    check(stored, Kind::Krpc, &lines);
    check(stored, Kind::Krpc, &["41+6 1 v: \"LT01\"; the client"]);
    check_error(b"d1:ad2:id9:abe", Kind::Krpc, "9: a string longer than the 3 bytes");
    check_error(b"i5e\nx", Kind::Bencode, "3: the value ends here, and 2 more bytes follow");
}

#[test]
fn packets_of_udp_trackers() {
    let connect = b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0\x01\x02\x03\x04";
    check(connect, Kind::Udp, &["0+8 1 protocol id: 0000041727101980, the magic", "12+4 1 trans"]);
    let connected = b"\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x09";
    check(connected, Kind::Udp, &["8+8 1 connection id: 0000000000000009"]);
    let mut announce = vec![0; 98];
    (announce[11], announce[83], announce[97]) = (1, 2, 80);
    announce[92..96].fill(0xff);
    announce.extend_from_slice(b"\x02\x05/a?b=\0");
    let lines = ["80+4 1 event: 2, 0 none", "92+4 1 num_want: -1", "98+7 1 URL data: \"/a?b=\""];
    check(&announce, Kind::Udp, &lines);
    let announced = [&[0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 7, 8, 0, 0, 0, 3, 0, 0, 0, 1][..], &[9; 6]];
    let lines = ["8+4 1 interval: 1800", "16+4 1 seeders: 1", "20+6 2 address: 9.9.9.9:2313"];
    check(&announced.concat(), Kind::Udp, &lines);
    check(b"\0\0\0\x03\0\0\0\x08no \xc3\xa9", Kind::Udp, &["8+5 1 message: \"no é\""]);
    check_error(b"\0\0\0\x09\0\0\0\x08", Kind::Udp, "found 8 bytes that are none (BEP 15");
}

#[test]
fn magnet_links() {
    let link =
        b"magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a&dn=a%20b&tr=udp://t:1\n";
    check(
        link,
        Kind::Magnet,
        &["8+52 1 xt: \"urn:btih", "61+8 1 dn: \"a b\", display name", "70+"],
    );
    check_error(b"magnet:?dn=x&xt=urn:btih:12", Kind::Magnet, "byte 13: the info hash 12");
}

#[test]
fn captures() {
    use crate::capture::{Record, What, header};
    let record = |what, payload: &[&[u8]]| Record::to_bytes(what, 4, 1_500_000, payload);
    let capture = [
        header(7, &[1; 20]),
        record(What::Peer, &[b"\0", b"10.0.0.3:6881"]),
        record(What::FromPeer, &[HANDSHAKE]),
        record(What::ToPeer, &[b"\0\0\0\x01\x01"]),
        record(What::FromPeer, &[b"\0\0\x40\x09\x07\0\0\0\x01\0\0\x40\0"]),
        record(What::Line, &[b"choker unchoke #4: its turn"]),
        record(What::Lost, &[&9u64.to_be_bytes()]),
    ]
    .concat();
    let lines = [
        "36+31 0     1.500 s: #4 is 10.0.0.3:6881: we dialled it",
        "67+85 0     1.500 s: #4 10.0.0.3:6881 ← handshake",
        "152+22 0     1.500 s: #4 10.0.0.3:6881 → unchoke: requests will be answered",
        "174+30 0     1.500 s: #4 10.0.0.3:6881 ← piece piece 1 block 1 (16384 bytes)",
        "196+4 2 index: 1,",
        "204+44 0     1.500 s: choker    #4 10.0.0.3:6881 unchoke #4: its turn",
        "248+25 0     1.500 s: 9 records were dropped",
    ];
    check(&capture, Kind::Capture, &lines);
}

#[test]
fn nothing_that_is_cut_or_wrong_is_a_panic() {
    let announce = [&[0; 8][..], &[0, 0, 0, 1], &[1; 90]].concat();
    let inputs =
        [HANDSHAKE, STREAM, &announce, b"d1:ad2:id2:abe1:q4:ping1:t1:a1:y1:qe", b"magnet:?xt"];
    for input in inputs {
        for (_, kind) in KINDS {
            for len in 0..=input.len() {
                tree(&input[..len], Some(kind));
                tree(&input[len..], Some(kind));
            }
        }
    }
    let deep = [b"l".repeat(100), b"e".repeat(100)].concat();
    assert_eq!(tree(&deep, Some(Kind::Bencode)).len(), 100);
    let long = [b"l".to_vec(), b"0:".repeat(LINES_MAX), b"e".to_vec()].concat();
    let tree = tree(&long, Some(Kind::Bencode));
    assert!(tree.len() == LINES_MAX && tree[LINES_MAX - 1].contains("only the first 100000"));
}
