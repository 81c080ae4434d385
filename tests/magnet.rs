//! Magnet links: the metadata comes from peers (BEP 9), whoever else is there; then the data.
//!
//! The honest seed is `piecemeal seed`; the others are scripts, and the names of what they do, `P33`
//! to `P36`, are those of the fault matrix.

mod support;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use support::fixture::{Fixture, Folder, Recipe, files_below};
use support::peer::{EXTENDED, Peer, Wire, extended, handshake, id, peer_id};
use support::run::{Ended, LIMIT, Run, Running, binary, raise_descriptor_limit};
use support::tracker::Tracker;
use support::{free_addr, own_ip};

const MIB: usize = 1 << 20;

/// What is promised of a link on loopback.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Those that find peers by themselves are left out: each test says who knows whom.
const ALONE: [&str; 3] = ["--no-dht", "--no-lsd", "--no-port-map"];

/// The id under which the scripted peers want messages of ut_metadata, and ours.
const THEIR_ID: u8 = 7;
const OUR_ID: u8 = 1;

fn fixture() -> Fixture {
    // Long names make four pieces of metadata, and little to fetch then.
    let name = |n| format!("{}/{n:03}", "a long name ".repeat(12));
    let tree = Recipe::tree("film").piece_length(16 << 10);
    (0..300).fold(tree, |tree, n| tree.with(&name(n), 400)).make()
}

fn link(fixture: &Fixture, fields: &str) -> String {
    let hash: String = fixture.info_hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("magnet:?xt=urn:btih:{hash}{fields}")
}

fn with_peers(fixture: &Fixture, peers: &[SocketAddr]) -> String {
    let fields: Vec<String> = peers.iter().map(|peer| format!("&x.pe={peer}")).collect();
    link(fixture, &fields.concat())
}

/// `piecemeal seed` of all of it, ready to be dialled.
fn seed(fixture: &Fixture, folder: &Folder, more: &[&str]) -> (Running, SocketAddr) {
    let (addr, data) = (free_addr(), folder.folder("seed"));
    fixture.write_to(&data);
    let torrent = folder.file("seed.torrent", &fixture.torrent(&[]));
    let mut running = Run::piecemeal(&["seed", "-v", "--listen"])
        .arg(addr.ip().to_string())
        .args(["--port", &addr.port().to_string()])
        .args(ALONE)
        .args(more)
        .arg("-d")
        .arg(&data)
        .arg(torrent)
        .start();
    running.wait_for("complete: all");
    (running, addr)
}

fn get(link: &str, dir: &Path) -> Run {
    Run::piecemeal(&["get", "-v", "--listen", &own_ip().to_string(), "--port", "0"])
        .args(ALONE)
        .arg("-d")
        .arg(dir)
        .arg(link)
}

fn in_time(ended: Ended) -> Ended {
    assert!(ended.wall < TIME_MAX, "{:?}: {}", ended.wall, ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended
}

#[test]
fn with_a_peer_only_and_with_a_tracker_only() {
    let (fixture, folder) = (fixture(), Folder::new("magnet"));
    let (_seed, addr) = seed(&fixture, &folder, &[]);
    let out = folder.folder("by peer");
    in_time(get(&with_peers(&fixture, &[addr]), &out).run()).expect(0);
    fixture.assert_in(&out);
    let tracker = Tracker::start(&[addr]);
    let out = folder.folder("by tracker");
    let tr = tracker.http().replace(':', "%3A").replace('/', "%2F");
    in_time(get(&link(&fixture, &format!("&tr={tr}&dn=x")), &out).run()).expect(0);
    fixture.assert_in(&out);
    assert_eq!(tracker.next().left, 16_384, "nobody knows what is left");
}

#[test]
fn the_metadata_alone_and_every_command_that_takes_a_link() {
    let (fixture, folder) = (fixture(), Folder::new("magnet-commands"));
    let (_seed, addr) = seed(&fixture, &folder, &[]);
    let link = with_peers(&fixture, &[addr]);
    let run = |args: &[&str]| Run::piecemeal(args).args(ALONE).args(["--port", "0"]).arg(&link);
    let target = folder.0.join("kept.torrent");
    let kept = target.to_str().expect("UTF-8");
    run(&["get", "--metadata-only", "-o", kept]).run().expect(0);
    let torrent = fs::read(&target).unwrap();
    assert!(torrent.ends_with(&[&fixture.info[..], b"e"].concat()), "the bytes as they were");
    let again = run(&["get", "--metadata-only", "-o", kept]).run().expect(1);
    assert!(again.stderr.contains("--force"), "{}", again.stderr);
    run(&["get", "--metadata-only", "--force", "-o", kept]).run().expect(0);
    let printed = run(&["get", "--metadata-only", "-o", "-"]).run().expect(0);
    assert!(printed.stdout == torrent);
    let shown = run(&["show", "--fetch", "--json"]).run().expect(0);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("\"total_length\":120000"), "{shown}");
    let data = folder.0.join("seed");
    let dir = data.to_str().expect("UTF-8");
    run(&["verify", "-d", dir]).run().expect(0);
    run(&["seed", "--seed-time", "0.001", "-d", dir]).run().expect(0);
    let gave_up = Run::piecemeal(&["get", "--stop-timeout", "1", "--port", "0"])
        .args(ALONE)
        .arg(link.split('&').next().unwrap())
        .run()
        .expect(3);
    assert!(gave_up.stderr.contains("metadata: no peer yet"), "{}", gave_up.stderr);
}

/// What a bad peer does with the metadata.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// P33.
    Size(&'static str),
    /// P34: other bytes, another piece's number, another total, a piece that is too long.
    Bytes,
    Number,
    Total,
    TooLong,
    /// P35.
    Rejects,
    Silent,
    /// None at all: P36 is what the metadata says.
    None,
}

const LIES: [Lie; 13] = [
    Lie::Size("0"),
    Lie::Size("-1"),
    Lie::Size("1"),
    Lie::Size("2147483648"),
    Lie::Size("9223372036854775807"),
    Lie::Size("8388608"),
    Lie::Size("8388609"),
    Lie::Bytes,
    Lie::Number,
    Lie::Total,
    Lie::TooLong,
    Lie::Rejects,
    Lie::Silent,
];

/// A peer that lies to everybody who dials it.
fn liar(fixture: &Arc<Fixture>, lie: Lie) -> Peer {
    let fixture = fixture.clone();
    let script = move |mut wire: Wire, n| {
        greet(&mut wire, n, &fixture)?;
        lies(wire, &fixture, lie)
    };
    Peer::listen(own_ip(), Arc::new(script))
}

/// Shakes hands; what the other side's said.
fn greet(wire: &mut Wire, n: usize, fixture: &Fixture) -> io::Result<Vec<u8>> {
    let unique = n * 1_000_000 + fastrand::usize(..1_000_000);
    let mut hello = handshake(&fixture.info_hash, &peer_id(b"-BA0001-", unique), false);
    hello[EXTENDED.0] |= EXTENDED.1;
    wire.send(&hello)?;
    wire.read_handshake()
}

fn lies(mut wire: Wire, fixture: &Fixture, lie: Lie) -> io::Result<()> {
    let info = &fixture.info;
    let size = match lie {
        Lie::Size(size) => size.to_owned(),
        _ => info.len().to_string(),
    };
    let said = format!("d1:md11:ut_metadatai{THEIR_ID}ee13:metadata_sizei{size}ee");
    wire.send(&extended(0, said.as_bytes()))?;
    loop {
        let payload = wire.wait_for(id::EXTENDED)?;
        let text = String::from_utf8_lossy(&payload[1..]).into_owned();
        let asked = text.split_once("5:piecei").and_then(|(_, rest)| rest.split_once('e'));
        let Some(Ok(piece)) = asked.map(|(piece, _)| piece.parse::<usize>()) else { continue };
        if payload[0] != THEIR_ID {
            continue;
        }
        let start = (piece * 16_384).min(info.len());
        let mut bytes = info[start..info.len().min(start + 16_384)].to_vec();
        let (mut number, mut total) = (piece, size.clone());
        match lie {
            Lie::Silent => continue,
            Lie::Rejects => {
                let reject = format!("d8:msg_typei2e5:piecei{piece}ee");
                wire.send(&extended(OUR_ID, reject.as_bytes()))?;
                continue;
            }
            Lie::Size("1") => bytes.truncate(1),
            Lie::Size(_) => bytes.resize(16_384, 7),
            Lie::Bytes => bytes.iter_mut().for_each(|byte| *byte ^= 1),
            Lie::Number => number += 1,
            Lie::Total => total = "99".to_owned(),
            Lie::None => {}
            Lie::TooLong => bytes.resize(40_000, 7),
        }
        let head = format!("d8:msg_typei1e5:piecei{number}e10:total_sizei{total}ee");
        wire.send(&extended(OUR_ID, &[head.as_bytes(), &bytes].concat()))?;
    }
}

#[test]
fn p33_to_p35_liars_beside_one_honest_seed() {
    let (fixture, folder) = (Arc::new(fixture()), Folder::new("magnet-liars"));
    let (_seed, honest) = seed(&fixture, &folder, &[]);
    let liars: Vec<Peer> = LIES.into_iter().map(|lie| liar(&fixture, lie)).collect();
    for (lie, peer) in LIES.into_iter().zip(&liars) {
        let out = folder.folder(&format!("{lie:?}"));
        let ended = get(&with_peers(&fixture, &[peer.addr, honest]), &out).run();
        assert_eq!(ended.code, Some(0), "{lie:?}: {}", ended.stderr);
        in_time(ended);
        fixture.assert_in(&out);
    }
    // All of them at once, three of each.
    let more: Vec<Peer> = LIES.iter().cycle().take(26).map(|&lie| liar(&fixture, lie)).collect();
    let mut peers: Vec<SocketAddr> = liars.iter().chain(&more).map(|peer| peer.addr).collect();
    peers.push(honest);
    let out = folder.folder("all");
    let ended = in_time(get(&with_peers(&fixture, &peers), &out).run()).expect(0);
    assert!(ended.rss_anon_max < 32 * MIB as u64, "{} bytes", ended.rss_anon_max);
    fixture.assert_in(&out);
}

/// P36: the hash is right, so this is the torrent that was asked for. Its names are made safe.
#[test]
fn p36_names_that_climb_stay_below() {
    let folder = Folder::new("magnet-climbs");
    let fixture = Recipe::tree("..").with("../evil", 70_000).with("ok", 5).make();
    let fixture = Arc::new(fixture);
    let peer = liar(&fixture, Lie::None);
    let out = folder.folder("a/b/c");
    let ended = get(&with_peers(&fixture, &[peer.addr]), &out).args(["--stop-timeout", "4"]).run();
    ended.expect(3);
    let strays = files_below(&folder.0);
    assert!(strays.iter().all(|path| path.starts_with(&out)), "{strays:?}");
}

/// Whether the torrent is private is in the metadata: until then we are a node of the DHT, and then we
/// are not, and do not say so.
#[test]
fn a_private_torrent_is_not_offered_the_dht_once_that_is_known() {
    let fixture = Arc::new(Recipe::file("private.bin", 50_000).private().make());
    let (sender, handshakes) = crossbeam_channel::unbounded();
    let known = fixture.clone();
    let script = move |mut wire: Wire, n| {
        let _ = sender.send(greet(&mut wire, n, &known)?);
        lies(wire, &known, Lie::None)
    };
    let peer = Peer::listen(own_ip(), Arc::new(script));
    let folder = Folder::new("magnet-private");
    let nobody = free_addr().to_string();
    let mut running = Run::piecemeal(&["get", "--listen", &own_ip().to_string(), "--port", "0"])
        .args(["--no-lsd", "--no-port-map", "--dht-bootstrap", &nobody, "-d"])
        .arg(&folder.0)
        .arg(with_peers(&fixture, &[peer.addr]))
        .start();
    let offers_dht = || handshakes.recv_timeout(LIMIT).expect("a handshake")[27] & 1 != 0;
    assert_eq!([offers_dht(), offers_dht()], [true, false], "as a stranger, and as private");
    running.interrupt();
    running.finish(LIMIT).expect(130);
}

/// More than the client below may have descriptors.
const CALLERS: usize = 400;

/// Strangers call while what is there is being checked: they take none of the descriptors that the check
/// needs, and what is right stays as it is.
#[test]
fn a_crowd_of_callers_does_not_spoil_the_check_of_what_is_there() {
    raise_descriptor_limit();
    // Many files, so that there is always one to be opened.
    let tree = Recipe::tree("there").piece_length(64 << 10);
    let fixture = (0..300).fold(tree, |tree, n| tree.with(&n.to_string(), 200_000)).make();
    let fixture = Arc::new(fixture);
    let peer = liar(&fixture, Lie::None);
    let folder = Folder::new("magnet-crowd");
    fixture.write_to(&folder.0);
    let addr = free_addr();
    let mut running = Run::program("sh")
        .args(["-c", "ulimit -n 256; exec \"$@\"", "sh"])
        .arg(binary())
        .args(["get", "--stop-timeout", "5", "--listen", &addr.ip().to_string()])
        .args(["--port", &addr.port().to_string()])
        .args(ALONE)
        .arg("-d")
        .arg(&folder.0)
        .arg(with_peers(&fixture, &[peer.addr]))
        .start();
    running.wait_for("metadata:");
    let mut callers = Vec::new();
    while callers.len() < CALLERS {
        // Those that find no room in the listener's queue would wait; that it has ended is fine.
        match TcpStream::connect_timeout(&addr, Duration::from_millis(20)) {
            Ok(caller) => callers.push(caller),
            Err(err) if err.kind() == io::ErrorKind::TimedOut => {}
            Err(_) => break,
        }
    }
    let ended = running.finish(LIMIT).expect(0);
    assert!(!ended.stderr.contains("differ"), "{}", ended.stderr);
    println!("{} callers; {:?}", callers.len(), ended.wall);
    fixture.assert_in(&folder.0);
}
