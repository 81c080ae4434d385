//! `--trace` and `--trace-file` of a real swarm: a seed, one that takes and gives, one that takes.

mod support;

use support::fixture::{Fixture, Folder, Recipe};
use support::place::Place;
use support::run::{LIMIT, Run};
use support::{free_addr, own_ip};

/// `get` or `seed` at an address, without anything that finds others.
fn peer(command: &str, addr: std::net::SocketAddr, place: &Place) -> Run {
    let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
    Run::piecemeal(&[command, "--no-tracker", "--no-lsd", "--no-port-map"])
        .args(["--listen", &ip, "--port", &port, "-d"])
        .arg(&place.data)
        .arg(&place.torrent)
}

/// Every line has a topic; this one has a line with each of these parts, in this order.
#[track_caller]
fn assert_told(trace: &str, topic: &str, parts: &[&str]) {
    let tells = |line: &&str| {
        let mut rest = Some(*line);
        parts.iter().all(|part| {
            rest = rest.and_then(|rest| rest.split_once(part)).map(|(_, after)| after);
            rest.is_some()
        })
    };
    let mut lines = trace.lines().filter(|line| line.split_whitespace().nth(1) == Some(topic));
    assert!(lines.any(|line| tells(&line)), "no {topic} with {parts:?} in\n{trace}");
}

fn swarm(fixture: &Fixture, capture: &std::path::Path) -> (String, String) {
    let (seed_at, middle_at) = (free_addr(), free_addr());
    let (seed_place, middle_place) = (Place::new(fixture), Place::new(fixture));
    fixture.write_to(&seed_place.data);
    let mut seed = peer("seed", seed_at, &seed_place).arg("--json").start();
    seed.wait_for(r#""event":"complete""#);
    // It stays until the third has all of it, which comes from nobody else.
    let mut middle = peer("get", middle_at, &middle_place)
        .peers([seed_at])
        .args(["--seed-ratio", "1", "-v", "--trace", "--trace-file"])
        .arg(capture)
        .start();
    middle.wait_for("listening at port");
    let last_place = Place::new(fixture);
    let last = last_place.get().peers([middle_at]).args(["--no-tracker", "--no-port-map"]);
    let only_middle = format!("--trace=wire,bytes,peer={}", middle_at.ip());
    let last = last.arg(only_middle).run().expect(0);
    let middle = middle.finish(LIMIT).expect(0);
    fixture.assert_in(&last_place.data);
    seed.interrupt();
    seed.finish(LIMIT).expect(130);
    (middle.stderr, last.stderr)
}

#[test]
fn a_trace_says_what_and_why() {
    let fixture = Recipe::file("traced.bin", 600_000).piece_length(65_536).make();
    let folder = Folder::new("trace");
    let capture = folder.folder("captures").join("run.trace");
    let (middle, last) = swarm(&fixture, &capture);
    for parts in [
        &["#1 127.", "→ handshake for", "speaks extension protocol, Fast extension"][..],
        &["← handshake for"],
        &["← extended 0", "handshake, piecemeal ", "requests at a time", "bytes of metadata"],
        &["→ extended 0", "listens at port", "what I speak beyond BEP 3", "ut_metadata = 1"],
        &["→ interested: you have pieces that I lack"],
        &["← interested"],
        &["← unchoke: requests will be answered"],
        &["→ unchoke"],
        &["→ request piece ", "bytes): send me this block"],
        &["← request piece "],
        &["← piece piece "],
        &["→ piece piece ", "the bytes of a block"],
        &["→ have "],
    ] {
        assert_told(&middle, "wire", parts);
    }
    assert_told(&middle, "picker", &["#1 127.", "request piece ", " of #1: "]);
    assert_told(&middle, "picker", &["came ", " ms after its request"]);
    assert_told(&middle, "choker", &["127.", "unchoke #", ": "]);
    assert_told(
        &middle,
        "assembler",
        &["piece 0 stored, its hash is", "blocks of #1 in", "writing and hashing"],
    );
    // One peer alone, with the bytes: a request begins with its length, 13, and its id, 6.
    assert_told(&last, "wire", &["→ request", " | 0000000d06"]);
    assert!(!last.contains("picker"), "{last}");
    // It ends with where the time went.
    for part in ["where the time went: #1 127.", "where the time went: the whole run, "] {
        assert!(last.contains(part), "no {part} in {last}");
    }

    let decode = |args: &[&str]| {
        let text = Run::piecemeal(&["decode"]).args(args).arg(&capture).run().expect(0).stdout;
        String::from_utf8(text).unwrap()
    };
    let told = decode(&[]);
    for part in [
        "→ handshake for",
        "← piece piece",
        "picker ",
        "stored, its hash is",
        "where the time went: #",
    ] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    assert!(decode(&["-v"]).contains("index: 3, the piece, counted from 0"));
    assert!(decode(&["--json"]).ends_with("]}\n"));
}

/// A magnet link's way, with all that finds others: a tracker twice, a node of the DHT, and a seed
/// that knows a third peer.
#[test]
fn a_trace_tells_how_peers_are_found() {
    let fixture = Recipe::file("found.bin", 4 << 20).make();
    let tracker_at = free_addr();
    let mut tracker =
        Run::piecemeal(&["tracker", "-v", "--listen", &tracker_at.to_string()]).start();
    tracker.wait_for(&tracker_at.port().to_string());
    let (seed_at, other_at, place) = (free_addr(), free_addr(), Place::new(&fixture));
    fixture.write_to(&place.data);
    let mut seed = peer("seed", seed_at, &place)
        .args(["-v", "--dht-bootstrap", &other_at.to_string()])
        .start();
    seed.wait_for("listening at port");
    let other_place = Place::new(&fixture);
    let slow = ["-v", "--max-download-limit", "1K"];
    let mut other = peer("get", other_at, &other_place).args(slow).peers([seed_at]).start();
    other.wait_for("it is #");

    let hash = piecemeal::hash::Sha1(fixture.info_hash);
    let urls = format!("tr=http://{tracker_at}/announce&tr=udp://{tracker_at}");
    let link = format!("magnet:?xt=urn:btih:{hash}&{urls}&x.pe={seed_at}");
    let folder = Folder::new("found");
    let get = Run::piecemeal(&["get", "--trace", "--no-lsd", "--no-port-map", "--listen"])
        .args([&own_ip().to_string(), "--port", "0", "--dht-bootstrap", &seed_at.to_string()])
        .args(["--max-download-limit", "2M", "-d"])
        .arg(&folder.0)
        .arg(link);
    let trace = get.run().expect(0).stderr;
    for parts in [
        &["→ extended", "ut_metadata request of metadata piece 0"][..],
        &["← extended", "ut_metadata data, metadata piece 0 of 1"],
        &["← extended", "ut_pex, 1 added (", &other_at.to_string(), "0 dropped"],
    ] {
        assert_told(&trace, "wire", parts);
    }
    let seed_at = seed_at.to_string();
    let dialled = ["dial ", &seed_at, "the command line, try 1; ", "places free, ", "to dial"];
    assert_told(&trace, "swarm", &dialled);
    assert_told(&trace, "picker", &["request piece ", "/s, and owes "]);
    let saying = ["saying started; ", " bytes left, up to 200 peers wanted; ", "announce"];
    assert_told(&trace, "tracker", &[&["http://"][..], &saying].concat());
    assert_told(&trace, "tracker", &[&["udp://"][..], &saying[..2], &["UDP connect"]].concat());
    assert_told(&trace, "tracker", &["peer", " of ", " seeder", " leecher", "again in "]);
    assert_told(&trace, "dht", &[&seed_at, " → t ", "query find_node ", "nearest"]);
    //X    assert_told(&trace, "dht", &[&seed_at, " ← t ", "answer of node ", " peers"]);
    assert_told(&trace, "dht", &[&seed_at, " → t ", &format!("query get_peers {hash}: who has")]);
    drop((seed, other, tracker));
}

#[test]
fn a_trace_that_cannot_be_is_refused() {
    let place = Place::new(&Recipe::file("refused.bin", 10_000).make());
    let refused = place.get().arg("--trace=wires").run();
    assert!(refused.stderr.contains("topics are wire, picker"), "{}", refused.stderr);
    assert_eq!(refused.code, Some(2));
    let refused = place.get().args(["--trace-file", "/nowhere/at/all"]).run();
    assert!(refused.stderr.contains("--trace-file /nowhere/at/all"), "{}", refused.stderr);
    assert_eq!(refused.code, Some(1));
}
