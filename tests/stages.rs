//! What codecrafters' tester does with a `your_program.sh`, done with ours (`tests/codecrafters.sh`):
//! the same commands, the same peers that say no more than the stage needs, the same lines expected.

mod support;

use std::path::Path;

use piecemeal::bencode::Dictionary;
use piecemeal::hash::Sha1;
use support::fixture::{Fixture, Folder, Recipe};
use support::own_ip;
use support::peer::{EXTENDED, Peer, extended, handshake, id, message};
use support::place::Place;
use support::run::{Run, binary};
use support::seeder::Seed;
use support::tracker::Tracker;

/// Runs one stage; what it prints.
#[track_caller]
fn stage(args: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/codecrafters.sh");
    let program = format!("PIECEMEAL={}", binary().display());
    let listen = format!("FLAGS=--listen {}", own_ip());
    let ended = Run::program("env").args([&program, &listen]).arg(script).args(args).run();
    String::from_utf8(ended.expect(0).stdout).expect("text")
}

/// Whether this build has a command or a flag, as its help says.
fn has(word: &str) -> bool {
    let help = |args: &[&str]| Run::piecemeal(args).run().expect(0).stdout;
    let text = [help(&["--help"]), help(&["get", "--help"])].concat();
    let there = String::from_utf8(text).expect("text").contains(word);
    if !there {
        eprintln!("skipped: there is no {word} in this build");
    }
    there
}

fn small() -> Fixture {
    Recipe::file("sample.txt", 92_063).piece_length(32_768).make()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn link(fixture: &Fixture, tracker: &Tracker) -> String {
    let url = tracker.http().replace(':', "%3A").replace('/', "%2F");
    format!("magnet:?xt=urn:btih:{}&dn=sample.txt&tr={url}", Sha1(fixture.info_hash))
}

const PEER_ID: [u8; 20] =
    [0, 1, 0x7f, 0x80, 0xff, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19];

#[test]
fn stages_1_to_4_bencode() {
    let check = |input: &str, output: &str| assert_eq!(stage(&["decode", input]), output);
    check(
        "55:http://bittorrent-test-tracker.codecrafters.io/announce",
        "\"http://bittorrent-test-tracker.codecrafters.io/announce\"\n",
    );
    check("i4294967300e", "4294967300\n");
    check("i-52e", "-52\n");
    check("le", "[]\n");
    check("lli4eei5ee", "[[4],5]\n");
    check("l5:grapei731ee", "[\"grape\",731]\n");
    check("de", "{}\n");
    check(
        "d10:inner_dictd4:key16:value14:key2i42e8:list_keyl5:item15:item2i3eeee",
        "{\"inner_dict\":{\"key1\":\"value1\",\"key2\":42,\"list_key\":[\"item1\",\"item2\",3]}}\n",
    );
}

#[test]
fn stages_5_to_8_torrents_and_peers() {
    let fixture = small();
    let tracker = Tracker::start(&[
        "188.119.61.177:6881".parse().unwrap(),
        "71.224.0.29:51414".parse().unwrap(),
    ]);
    let place = Place::with_trackers(&fixture, &[&[&tracker.http()]]);
    let torrent = place.torrent.to_str().unwrap();
    let info = stage(&["info", torrent]);
    let hash = Sha1(fixture.info_hash);
    for line in [
        format!("Tracker URL: {}", tracker.http()),
        "Length: 92063".to_owned(),
        format!("Info Hash: {hash}"),
        "Piece Length: 32768".to_owned(),
    ] {
        assert!(info.contains(&line), "no {line} in {info}");
    }
    for piece in 0..fixture.pieces() {
        let hash = piecemeal::hash::sha1(&fixture.data[fixture.piece_range(piece)]).to_string();
        assert!(info.contains(&hash), "no {hash} in {info}");
    }
    if has("peers TORRENT") {
        let peers = stage(&["peers", torrent]);
        assert!(peers.contains("188.119.61.177:6881\n") && peers.contains("71.224.0.29:51414\n"));
    }
}

#[test]
fn stage_9_a_handshake_and_nothing_more() {
    let fixture = small();
    let info_hash = fixture.info_hash;
    let script = move |mut wire: support::peer::Wire, _| {
        let theirs = wire.read_handshake()?;
        // Only the bit of BEP 10 may be set, and the peer hangs up at once.
        let reserved = &theirs[20..28];
        assert!(reserved == [0; 8] || reserved == [0, 0, 0, 0, 0, 0x10, 0, 0], "{reserved:?}");
        wire.send(&handshake(&info_hash, &PEER_ID, false))
    };
    let peer = Peer::listen(own_ip(), std::sync::Arc::new(script));
    let place = Place::new(&fixture);
    let said = stage(&["handshake", place.torrent.to_str().unwrap(), &peer.addr.to_string()]);
    assert!(said.starts_with(&format!("Peer ID: {}\n", hex(&PEER_ID))), "{said}");
}

#[test]
fn stages_10_and_11_a_piece_and_the_file() {
    let fixture = small();
    let seeder = Seed::default().at(own_ip()).start(&fixture);
    let tracker = Tracker::start(&[seeder.addr]);
    let place = Place::with_trackers(&fixture, &[&[&tracker.http()]]);
    let folder = Folder::new("stages");
    fetch(&fixture, ["download_piece", "download"], place.torrent.to_str().unwrap(), &folder);
}

/// A middle piece, the short last one, and all of it.
fn fetch(fixture: &Fixture, stages: [&str; 2], source: &str, folder: &Folder) {
    let out = folder.folder("out").join("sample");
    let path = out.to_str().unwrap();
    for piece in [1, fixture.pieces() - 1] {
        stage(&[stages[0], "-o", path, source, &piece.to_string()]);
        let expected = &fixture.data[fixture.piece_range(piece)];
        assert!(std::fs::read(&out).unwrap() == expected, "piece {piece}");
        std::fs::remove_file(&out).unwrap();
    }
    stage(&[stages[1], "-o", path, source]);
    assert!(std::fs::read(&out).unwrap() == *fixture.data);
}

/// The peer of the magnet stages: bitfield and extended handshake at once, then nothing but what the
/// stage is about is taken.
fn magnet_peer(fixture: &Fixture) -> Peer {
    let info_hash = fixture.info_hash;
    let pieces = fixture.pieces();
    let script = move |mut wire: support::peer::Wire, _| {
        let theirs = wire.read_handshake()?;
        assert_eq!(theirs[20..28], [0, 0, 0, 0, 0, 0x10, 0, 0]);
        let mut ours = handshake(&info_hash, &PEER_ID, false);
        ours[EXTENDED.0] |= EXTENDED.1;
        wire.send(&ours)?;
        wire.send(&message(id::BITFIELD, &support::peer::full_bitfield(pieces)))?;
        let m = Dictionary::new().int("ut_metadata", 123);
        let said = Dictionary::new().dict("m", m).int("metadata_size", 132).done();
        wire.send(&extended(0, &said))?;
        let (kind, payload) = wire.message()?;
        assert_eq!((kind, payload[0]), (id::EXTENDED, 0), "first of all the extended handshake");
        let text = String::from_utf8_lossy(&payload);
        assert!(text.contains("11:ut_metadatai") && !text.contains("11:ut_metadatai0e"), "{text}");
        Ok(())
    };
    Peer::listen(own_ip(), std::sync::Arc::new(script))
}

#[test]
fn stages_12_to_15_links_and_extended_handshakes() {
    let fixture = small();
    let peer = magnet_peer(&fixture);
    let tracker = Tracker::start(&[peer.addr]);
    let link = link(&fixture, &tracker);
    let parsed = stage(&["magnet_parse", &link]);
    assert!(parsed.contains(&format!("Info Hash: {}\n", Sha1(fixture.info_hash))), "{parsed}");
    assert!(parsed.contains(&format!("Tracker URL: {}\n", tracker.http())), "{parsed}");
    let expected = format!("Peer ID: {}\nPeer Metadata Extension ID: 123\n", hex(&PEER_ID));
    let direct = stage(&["handshake", &link, &peer.addr.to_string()]);
    assert!(direct.starts_with(&expected), "{direct}");
    if has("peers TORRENT") {
        let found = stage(&["magnet_handshake", &link]);
        assert!(found.starts_with(&expected), "{found}");
    }
}

#[test]
fn stages_16_to_19_metadata_and_downloads() {
    if !has("--metadata-only") {
        return;
    }
    let fixture = small();
    let torrent = fixture.torrent(&[]);
    let place = Place::new(&fixture);
    fixture.write_to(&place.data);
    let addr = support::free_addr();
    let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
    let mut seed = Run::piecemeal(&["seed", "--json", "--no-tracker", "--no-lsd", "--no-port-map"])
        .args(["--listen", &ip, "--port", &port, "-d"])
        .arg(&place.data)
        .arg(&place.torrent)
        .start();
    seed.wait_for(r#""event":"complete""#);
    let tracker = Tracker::start(&[addr]);
    let link = link(&fixture, &tracker);
    let info = stage(&["magnet_info", &link]);
    for line in [
        format!("Tracker URL: {}", tracker.http()),
        "Length: 92063".to_owned(),
        format!("Info Hash: {}", Sha1(fixture.info_hash)),
        "Piece Length: 32768".to_owned(),
    ] {
        assert!(info.contains(&line), "no {line} in {info}");
    }
    let hashes = piecemeal::metainfo::Metainfo::from_bytes(&torrent).unwrap().piece_hashes;
    hashes.as_slice().iter().for_each(|hash| assert!(info.contains(&hash.to_string())));
    let folder = Folder::new("stages");
    fetch(&fixture, ["magnet_download_piece", "magnet_download"], &link, &folder);
    seed.interrupt();
}
