//! The whole program and the DHT: two that know nothing but one node, and a private torrent that
//! must not say a word.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::support::fixture::Recipe;
use crate::support::place::Place;
use crate::support::run::{LIMIT, Run, Running};
use crate::support::{free_addr, own_ip};

/// `get` or `seed`, alone with the DHT.
fn run(command: &str, place: &Place, bootstrap: &str) -> Run {
    run_at(own_ip(), command, place, bootstrap)
}

fn run_at(ip: IpAddr, command: &str, place: &Place, bootstrap: &str) -> Run {
    let ip = ip.to_string();
    let args = ["--no-lsd", "--no-pex", "--no-port-map", "-v", "--dht-bootstrap", bootstrap];
    let run = Run::piecemeal(&[command, "--listen", &ip]).args(args);
    run.arg(&place.torrent).arg("-d").arg(&place.data)
}

/// A node of ours, which has another torrent; at this address.
fn third(addr: SocketAddr, place: &Place) -> Running {
    let port = addr.port().to_string();
    let run = run_at(addr.ip(), "get", place, "127.0.0.1:1").args(["--port", &port]);
    let mut third = run.start();
    third.wait_for("dht: at UDP port");
    third
}

fn two_find_each_other(node: SocketAddr, ip: impl Fn() -> IpAddr) {
    let fixture = Recipe::file("by-dht", 300_000).make();
    let (seed, get) = (Place::new(&fixture), Place::new(&fixture));
    let other = Place::new(&Recipe::file("another", 1000).make());
    let third = third(node, &other);
    fixture.write_to(&seed.data);
    let mut seed = run_at(ip(), "seed", &seed, &node.to_string()).start();
    seed.wait_for("1 told of us");
    let start = Instant::now();
    run_at(ip(), "get", &get, &node.to_string()).run().expect(0);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    fixture.assert_in(&get.data);
    for mut running in [seed, third] {
        running.interrupt();
        running.finish(LIMIT).expect(130);
    }
}

#[test]
fn two_find_each_other_through_one_node() {
    two_find_each_other(free_addr(), own_ip);
}

#[test]
fn the_same_over_ipv6() {
    let ip = IpAddr::from(Ipv6Addr::LOCALHOST);
    let Ok(free) = std::net::TcpListener::bind((ip, 0)) else {
        return println!("skipped: no IPv6 here");
    };
    let node = free.local_addr().expect("bound");
    drop(free);
    two_find_each_other(node, || ip);
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
    let mut third = third(addr, &other);
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
