//! The whole program and the DHT: two that know nothing but one node, and a private torrent that
//! must not say a word.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::support::fixture::Recipe;
use crate::support::place::Place;
use crate::support::run::{LIMIT, Run};
use crate::support::{free_addr, own_ip};

/// `get` or `seed`, alone with the DHT.
fn run(command: &str, place: &Place, bootstrap: &str) -> Run {
    let ip = own_ip().to_string();
    let args = ["--no-lsd", "--no-pex", "--no-port-map", "-v", "--dht-bootstrap", bootstrap];
    let run = Run::piecemeal(&[command, "--listen", &ip]).args(args);
    run.arg(&place.torrent).arg("-d").arg(&place.data)
}

#[test]
fn two_find_each_other_through_one_node() {
    let fixture = Recipe::file("by-dht", 300_000).make();
    let (seed, get) = (Place::new(&fixture), Place::new(&fixture));
    // The node is a third one of ours, which has another torrent.
    let other = Place::new(&Recipe::file("another", 1000).make());
    let addr = free_addr();
    let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
    let mut third = Run::get(&other.torrent, &other.data)
        .args(["-v", "--no-port-map", "--listen", &ip, "--port", &port])
        .args(["--dht-bootstrap", "127.0.0.1:1"])
        .start();
    third.wait_for("dht: at UDP port");
    fixture.write_to(&seed.data);
    let mut seed = run("seed", &seed, &addr.to_string()).start();
    seed.wait_for("1 told of us");
    let start = Instant::now();
    run("get", &get, &addr.to_string()).run().expect(0);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    fixture.assert_in(&get.data);
    for mut running in [seed, third] {
        running.interrupt();
        running.finish(LIMIT).expect(130);
    }
}

#[test]
fn a_private_torrent_sends_not_one_packet() {
    let fixture = Recipe::file("private", 100_000).private().make();
    let place = Place::new(&fixture);
    let node = UdpSocket::bind((own_ip(), 0)).expect("a socket");
    let bootstrap = node.local_addr().expect("bound").to_string();
    run("get", &place, &bootstrap).args(["--stop-timeout", "2"]).run().expect(3);
    node.set_nonblocking(true).expect("a socket");
    assert!(node.recv(&mut [0; 2048]).is_err(), "a packet of a private torrent");
    // The same without the mark: so the test can fail.
    let fixture = Recipe::file("public", 100_000).make();
    let place = Place::new(&fixture);
    let ended = run("get", &place, &bootstrap).args(["--stop-timeout", "3"]).run().expect(3);
    assert!(node.recv(&mut [0; 2048]).is_ok(), "it said: {}", ended.stderr);
    assert!(ended.stderr.contains("no DHT node has answered"), "it said: {}", ended.stderr);
}

#[test]
fn what_one_run_has_learnt_the_next_one_knows() {
    let fixture = Recipe::file("remembered", 100_000).make();
    let (first, second) = (Place::new(&fixture), Place::new(&fixture));
    let other = Place::new(&Recipe::file("another", 1000).make());
    let addr = free_addr();
    let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
    let mut third = Run::get(&other.torrent, &other.data)
        .args(["-v", "--no-port-map", "--listen", &ip, "--port", &port])
        .args(["--dht-bootstrap", "127.0.0.1:1"])
        .start();
    third.wait_for("dht: at UDP port");
    let cache = first.data.join("cache");
    let mut seed = run("get", &first, &addr.to_string()).env("XDG_CACHE_HOME", &cache).start();
    seed.wait_for("1 told of us");
    seed.interrupt();
    seed.finish(LIMIT).expect(130);
    assert!(cache.join("piecemeal").join("dht").is_file());
    let mut again = run("get", &second, "127.0.0.1:1").env("XDG_CACHE_HOME", &cache).start();
    again.wait_for("1 node remembered");
    again.wait_for("1 told of us");
    again.interrupt();
    again.finish(LIMIT).expect(130);
    third.interrupt();
    third.finish(LIMIT).expect(130);
}
